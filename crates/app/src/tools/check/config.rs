//! What a configuration names has to be there, and targets that are written down have to make
//! sense.

use std::path::Path;

use discovery::config::{Discovery, File, Static};
use model::Labels;
use scrape::config::ScrapeConfig;
use wire::client::{HttpSettings, TlsSettings};

use crate::config::{Loaded, glob};

/// Looks at the files and targets that a configuration names; only at what it says itself if
/// `syntax_only`. What is missing and may come later is said as a warning.
pub fn check(
    loaded: &Loaded,
    syntax_only: bool,
    warn: &mut dyn FnMut(String),
) -> Result<(), String> {
    if !syntax_only {
        for pattern in &loaded.config.rule_files {
            rule_file(pattern)?;
        }
    }
    for job in &loaded.jobs {
        client(&job.http, syntax_only)?;
        for cluster in &job.discovery.kubernetes_sd_configs {
            tls(&cluster.http.tls_config, syntax_only)?;
        }
        written(job, &job.discovery.static_configs)?;
        if syntax_only {
            continue;
        }
        let name = format!("scrape job {}", job.job_name);
        for (_, groups) in target_files(&job.discovery, &name, warn)? {
            written(job, &groups)?;
        }
    }
    let scheme = loaded.config.scheme();
    for section in &loaded.config.alerting.alertmanagers {
        let mut groups = section.discovery.static_configs.clone();
        if !syntax_only {
            let files = target_files(&section.discovery, "alertmanager config", warn)?;
            groups.extend(files.into_iter().flat_map(|(_, groups)| groups));
        }
        for group in groups {
            let labels: Labels = group.labels.into_iter().collect();
            for target in &group.targets {
                section.check_target(&labels, target, scheme)?;
            }
        }
    }
    Ok(())
}

/// A file that is named and not only meant must be there.
fn rule_file(pattern: &str) -> Result<(), String> {
    let found = glob(pattern).map_err(|e| format!("{pattern}: {e}"))?;
    match found.is_empty() && !pattern.contains('*') {
        true => Err(format!("{pattern:?} does not point to an existing file")),
        false => Ok(()),
    }
}

fn client(http: &HttpSettings, syntax_only: bool) -> Result<(), String> {
    if !syntax_only && let Some(authorization) = &http.authorization {
        let file = &authorization.credentials_file;
        there(file).map_err(|e| {
            format!("error checking authorization credentials or bearer token file {file:?}: {e}")
        })?;
    }
    tls(&http.tls_config, syntax_only)
}

fn tls(settings: &TlsSettings, syntax_only: bool) -> Result<(), String> {
    let (cert, key) = (&settings.cert_file, &settings.key_file);
    if !cert.is_empty() && key.is_empty() && settings.key.is_empty() {
        return Err(format!(
            "client cert file {cert:?} specified without client key file"
        ));
    }
    if !key.is_empty() && cert.is_empty() && settings.cert.is_empty() {
        return Err(format!(
            "client key file {key:?} specified without client cert file"
        ));
    }
    if syntax_only {
        return Ok(());
    }
    there(cert).map_err(|e| format!("error checking client cert file {cert:?}: {e}"))?;
    there(key).map_err(|e| format!("error checking client key file {key:?}: {e}"))
}

fn there(path: &str) -> Result<(), std::io::Error> {
    match path {
        "" => Ok(()),
        path => std::fs::metadata(path).map(|_| ()),
    }
}

/// Targets as they are written have to survive the job's own relabelling.
fn written(job: &ScrapeConfig, groups: &[Static]) -> Result<(), String> {
    for group in groups {
        let labels: Labels = group.labels.clone().into_iter().collect();
        for (i, target) in group.targets.iter().enumerate() {
            let own = Labels::from_pairs([("__address__", target.as_str())]);
            let (_, made) = scrape::explain(job, &own, &labels);
            made.map_err(|e| format!("instance {i} in group: {e}"))?;
        }
    }
    Ok(())
}

fn target_files(
    discovery: &Discovery,
    place: &str,
    warn: &mut dyn FnMut(String),
) -> Result<Vec<(String, Vec<Static>)>, String> {
    let mut all = Vec::new();
    let named = discovery.file_sd_configs.iter();
    for pattern in named.flat_map(|section: &File| &section.files) {
        let found = glob(pattern).map_err(|e| format!("{pattern}: {e}"))?;
        if found.is_empty() {
            warn(format!(
                "file {pattern:?} for file_sd in {place} does not exist"
            ));
        }
        for path in found {
            let groups = discovery::read_file(Path::new(&path));
            let groups = groups.map_err(|e| format!("checking SD file {pattern:?}: {e}"))?;
            all.push((path.display().to_string(), groups));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Mode};

    #[test]
    fn alertmanagers_are_checked_as_relabelling_leaves_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prometheus.yml");
        let checked = |rules: &str| {
            let text = format!(
                "alerting: {{alertmanagers: [{{static_configs: [{{targets: ['http://bad']}}], relabel_configs: [{rules}]}}]}}\n"
            );
            std::fs::write(&path, text).unwrap();
            check(
                &Config::load(&path, Mode::Server).unwrap(),
                true,
                &mut |_| {},
            )
        };
        assert_eq!(
            checked("{target_label: __address__, replacement: good}"),
            Ok(())
        );
        assert_eq!(
            checked("{action: drop, source_labels: [__address__]}"),
            Ok(())
        );
        assert_eq!(
            checked("{target_label: a, replacement: b}"),
            Err("\"http://bad\" is not a valid hostname".to_owned())
        );
    }
}

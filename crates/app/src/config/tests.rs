use std::path::PathBuf;

use super::*;

fn parse(yaml: &str) -> Result<Config, String> {
    Config::parse(Path::new("prometheus.yml"), yaml).map_err(|e| e.to_string())
}

#[test]
fn an_empty_file_means_the_defaults() {
    for yaml in [
        "",
        "# nothing\n",
        "{}",
        "global:\nscrape_configs:\nstorage:\n",
    ] {
        let config = parse(yaml).unwrap();
        assert_eq!(config.global.scrape_interval.0, 60_000, "{yaml:?}");
        assert_eq!(config.global.scrape_timeout.0, 10_000);
        assert_eq!(config.global.evaluation_interval.0, 60_000);
        assert_eq!(config.runtime.gogc, 75);
    }
}

#[test]
fn globals_flow_into_jobs() {
    let config = parse(
        "global: {scrape_interval: 5s, sample_limit: 7, external_labels: {a: b, n: 1}}\n\
         scrape_configs:\n- job_name: one\n- job_name: two\n  scrape_interval: 1m\n  sample_limit: 3\n",
    )
    .unwrap();
    let [one, two] = config.scrape_configs.as_slice() else {
        panic!("two jobs")
    };
    assert_eq!(
        (
            one.scrape_interval.0,
            one.scrape_timeout.0,
            one.sample_limit
        ),
        (5_000, 5_000, 7)
    );
    assert_eq!(
        (
            two.scrape_interval.0,
            two.scrape_timeout.0,
            two.sample_limit
        ),
        (60_000, 5_000, 3)
    );
    assert_eq!(two.protocols(), scrape::parse::ScrapeProtocol::DEFAULT);
    assert_eq!(config.global.external_labels.0.get("n"), Some("1"));
    assert_eq!(unsupported(&config, &config.scrape_configs), []);
}

#[test]
fn errors_name_file_line_and_key() {
    for (yaml, wanted) in [
        (
            "global:\n  scrape_interval: 10parsecs\n",
            "parsing YAML file prometheus.yml: line 2: scrape_interval: ",
        ),
        (
            "global:\n  scrape_intervall: 10s\n",
            "line 2: scrape_intervall: field scrape_intervall not found in type config.plain",
        ),
        (
            "scrape_configs:\n- job_name: a\n  body_size_limit: 100\n",
            "line 3: body_size_limit: units: unknown unit  in 100",
        ),
        (
            "scrape_configs:\n- job_name: a\n- job_name: a\n",
            "job name \"a\"",
        ),
        ("rule_files: ['a*/b']", "invalid rule file path \"a*/b\""),
        ("global: [", "prometheus.yml"),
    ] {
        let error = parse(yaml).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn secrets_stay_out_of_errors_and_output() {
    let job = "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password: S3CRET}\n";
    let config = parse(job).unwrap();
    let yaml = config.to_yaml_redacted();
    assert!(
        !yaml.contains("S3CRET") && yaml.contains("password: <secret>"),
        "{yaml}"
    );
    assert!(!format!("{config:?}").contains("S3CRET"));
    // What is printed can be read again, and prints the same.
    let again = parse(&yaml).unwrap();
    assert_eq!(again.to_yaml_redacted(), yaml);
    let error = parse(&format!("{job}  bearer_token: S3CRET\n")).unwrap_err();
    assert!(
        !error.contains("S3CRET") && error.contains("at most one of"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_run_yet_is_named() {
    let config = parse(
        "rule_files: [a.yml]\n\
         remote_write: [{url: 'http://u:p@host/', azuread: {sdk: {tenant_id: a}}}]\n\
         scrape_configs:\n- job_name: a\n  tls_config: {ca_ref: a}\n  scrape_native_histograms: true\n",
    )
    .unwrap();
    let found: Vec<String> = unsupported(&config, &config.scrape_configs)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        [
            "job \"a\": tls_config.ca_ref is not supported in this version",
            "remote_write \"http://u:xxxxx@host/\": azuread is not supported in this version",
        ]
    );
}

#[test]
fn files_lie_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "main.yml",
        "scrape_config_files: ['jobs-*.yml']\nrule_files: [rules.yml]\n\
         scrape_configs: [{job_name: a, bearer_token_file: token}]\n",
    );
    write(
        "jobs-1.yml",
        "scrape_configs: [{job_name: b, scrape_interval: 7s}]\n",
    );
    let main = folder.path().join("main.yml");
    let loaded = Config::load(&main, Mode::Server).unwrap();
    let names: Vec<&str> = loaded.jobs.iter().map(|j| j.job_name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let token = loaded.jobs[0]
        .http
        .authorization
        .as_ref()
        .map(|a| a.credentials_file.clone());
    assert_eq!(token.map(PathBuf::from), Some(folder.path().join("token")));
    assert_eq!(
        PathBuf::from(&loaded.config.rule_files[0]),
        folder.path().join("rules.yml")
    );
    let agent = Config::load(&main, Mode::Agent).unwrap_err().to_string();
    assert!(
        agent.contains("field rule_files is not allowed in agent mode"),
        "{agent}"
    );
    write("jobs-2.yml", "scrape_configs: [{job_name: a}]\n");
    let error = Config::load(&main, Mode::Server).unwrap_err().to_string();
    assert!(
        error.contains("jobs-2.yml") && error.contains("first found in"),
        "{error}"
    );
}

/// The whole corpus of configuration files: what Prometheus takes and what it does not.
#[test]
fn corpus() {
    let root = std::env::var_os("EPIMETHEUS_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let folder = root.join("config");
    let Ok(index) = std::fs::read(folder.join("INDEX.json")) else {
        println!("SKIPPED: no conformance data at {}", folder.display());
        return;
    };
    let index: Vec<serde_json::Value> = serde_json::from_slice(&index).unwrap();
    // Rejected by promtool's checks of what is named in the file, not by reading it.
    let by_promtool = [
        "promtool/config_with_rule_files.yml",
        "promtool/config_with_tls_files.yml",
        "promtool/authorization_credentials_file.bad.yml",
        "promtool/url_in_scrape_targetgroup_with_relabel_config.bad.yml",
        "promtool/url_in_alert_targetgroup_with_relabel_config.bad.yml",
    ];
    let (mut right, mut worded, mut rejects, mut wrong) = (0, 0, 0, Vec::new());
    for row in &index {
        let file = row["file"].as_str().unwrap();
        if row.get("kind").is_some() || !(file.ends_with(".yml") || file.ends_with(".yaml")) {
            continue;
        }
        let accept = row["accept"] == true || by_promtool.contains(&file);
        let result = Config::load(&folder.join(file), Mode::Server);
        match (&result, accept) {
            (Ok(loaded), true) => {
                right += 1;
                // What was printed can be read again, but for rules that forbid their defaults to
                // be written out, and secrets that were in a URL.
                let yaml = loaded.config.to_yaml_redacted();
                if let Err(e) = parse(&yaml)
                    && !e.contains("and no other fields")
                    && !e.contains("<secret>")
                {
                    wrong.push(format!("{file}: printed, but not read again: {e}\n{yaml}"));
                }
            }
            (Err(error), false) => {
                right += 1;
                rejects += 1;
                let error = error.to_string();
                let gist = row["error_contains"].as_str().unwrap_or("");
                // Its own path.
                let gist = gist.rsplit_once(".yml: ").map_or(gist, |(_, gist)| gist);
                let alike = |s: &str| s.to_lowercase().replace(['\'', '"', '`'], "");
                if alike(&error).contains(&alike(gist)) {
                    worded += 1;
                } else {
                    println!("{file}: wanted {gist:?}, got {error:?}");
                }
            }
            (Ok(_), false) => {
                wrong.push(format!("{file}: accepted, want {}", row["error_contains"]))
            }
            (Err(e), true) => wrong.push(format!("{file}: {e}")),
        }
    }
    println!(
        "{right} configurations judged rightly, {worded} of {rejects} rejections in the same words"
    );
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_page_of_comments_is_no_attack() {
    let comments = "      # said at length\n".repeat(500);
    let text =
        format!("scrape_configs:\n  - job_name: a\n{comments}    static_configs: []\n{comments}");
    let config = Config::parse(Path::new("p.yml"), &text).unwrap();
    assert_eq!(config.scrape_configs[0].job_name, "a");
}

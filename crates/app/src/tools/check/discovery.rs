//! Discovers the targets of one job, and says what becomes of them.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::ArgMatches;
use discovery::ManagerOptions;
use model::Labels;
use model::time::{parse_duration, span};
use scrape::config::ScrapeConfig;
use serde_json::{Map, Value};

use crate::config::{Config, Mode};

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode> {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let timeout = match parse_duration(text("timeout")) {
        Ok(timeout) => span(timeout),
        Err(error) => anyhow::bail!("--timeout: {error}"),
    };
    let loaded = match Config::load(Path::new(text("config-file")), Mode::Server) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("Cannot load config {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let wanted = text("job");
    let Some(job) = loaded.jobs.iter().find(|job| job.job_name == wanted) else {
        eprintln!("Job {wanted} not found. Select one of:");
        for job in &loaded.jobs {
            eprintln!("\t{}", job.job_name);
        }
        return Ok(ExitCode::FAILURE);
    };
    for key in job.discovery.unsupported() {
        eprintln!("  WARNING: {key} is not supported in this version");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let results = runtime.block_on(discover(job, timeout))?;
    print!("{}", serde_json::to_string_pretty(&results)?);
    Ok(ExitCode::SUCCESS)
}

async fn discover(job: &ScrapeConfig, timeout: std::time::Duration) -> Result<Vec<Value>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let registry = metrics::Registry::new();
    let manager = discovery::Manager::new("check", &registry, ManagerOptions::default())?;
    manager.apply([(job.job_name.as_str(), &job.discovery)]);
    // What is written down is there at once; anything else may say more until the time is over.
    let written = discovery::config::Discovery {
        static_configs: job.discovery.static_configs.clone(),
        ..Default::default()
    };
    if job.discovery != written {
        tokio::time::sleep(timeout).await;
        // The last changes may not be published yet.
        manager.apply([(job.job_name.as_str(), &job.discovery)]);
    }
    let found = manager.subscribe().borrow().clone();
    let groups = found
        .get(job.job_name.as_str())
        .cloned()
        .unwrap_or_default();
    let mut results = Vec::new();
    for group in groups.iter() {
        for own in &group.targets {
            let result = explained(job, own, &group.labels);
            if !results.contains(&result) {
                results.push(result);
            }
        }
    }
    Ok(results)
}

/// The labels of a target before and after relabelling.
fn explained(job: &ScrapeConfig, own: &Labels, group: &Labels) -> Value {
    let (discovered, made) = scrape::explain(job, own, group);
    let object = |labels: &Labels| -> Value {
        let pairs = labels.iter().map(|(n, v)| (n.to_owned(), v.into()));
        Value::Object(pairs.collect())
    };
    let mut result = Map::new();
    result.insert("discoveredLabels".to_owned(), object(&discovered));
    let labels = made
        .as_ref()
        .map_or_else(|_| Labels::default(), Labels::clone);
    result.insert("labels".to_owned(), object(&labels));
    if let Err(error) = made {
        result.insert("error".to_owned(), error.into());
    }
    result.into()
}

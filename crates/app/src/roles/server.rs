//! `epimetheus server`: the Prometheus part, with Prometheus' flags.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::house::{self, config::Place, settings};
use crate::kingpin::{Flag, Typed, value};
use crate::{limits, logging};

const OWN: &[Flag] = &[
    value(
        "config.file",
        "prometheus.yml",
        "Prometheus configuration file path.",
    ),
    value(
        "storage.tsdb.path",
        "data/",
        "Base path for metrics storage.",
    ),
];

/// The flags of this role.
pub const FLAGS: &[&[Flag]] = &super::of_a_house(OWN, [&[], &[]]);

/// Runs the role.
pub fn run(typed: &Typed<'_>) -> Result<ExitCode> {
    logging::init(typed)?;
    let agent = typed.switch("agent") || settings::asked(typed, "agent");
    if let Some(code) = misplaced(typed, agent) {
        return Ok(code);
    }
    let dir = PathBuf::from(typed.required("storage.tsdb.path")?);
    let settings = house::Settings {
        role: "server",
        config: match (agent, PathBuf::from(typed.required("config.file")?)) {
            (true, path) => Place::Agent(path),
            (false, path) => Place::File(path),
        },
        allow_unsupported: typed.switch("config.allow-unsupported"),
        auto_reload: super::auto_reload(typed)?,
        default_labels: model::Labels::default(),
        web: settings::Web::from_flags(typed)?,
        bucket: settings::Bucket::from_flags(typed, None, dir.join("thanos").join("store"))?,
        storage: settings::Storage::from_flags(typed, dir, None)?,
        agent: agent
            .then(|| settings::AgentStorage::from_flags(typed))
            .transpose()?,
        queries: settings::Queries::from_flags(typed)?,
        rules: house::rules::Settings::from_flags(typed)?,
        push: house::push::Settings::from_flags(typed)?,
        flush_deadline: model::time::span(typed.duration("storage.remote.flush-deadline")?),
        memory: limits::Memory::from_flags(typed)?,
        timestamp_tolerance: super::tolerance(typed)?,
        discovery_throttle: super::throttle(typed)?,
        grpc: typed
            .text("grpc-address")
            .filter(|a| !a.is_empty())
            .map(String::from),
        flags: typed.all().into_iter().collect(),
        banner: Vec::new(),
    };
    super::warn_without_effect(typed);
    house::run(settings)
}

/// Flags that have no meaning in this mode end it, with Prometheus' status.
fn misplaced(typed: &Typed<'_>, agent: bool) -> Option<ExitCode> {
    const OF_SERVERS: [&str; 8] = [
        "storage.tsdb.",
        "storage.remote.read-",
        "query.",
        "rules.",
        "alertmanager.",
        "objstore.",
        "shipper.",
        "grpc-",
    ];
    let wrong: Vec<String> = typed
        .given()
        .filter(|flag| match agent {
            true => OF_SERVERS.iter().any(|prefix| flag.starts_with(prefix)),
            false => flag.starts_with("storage.agent."),
        })
        .map(|flag| format!("\"--{flag}\""))
        .collect();
    if wrong.is_empty() {
        return None;
    }
    let mode = if agent { "agent" } else { "server" };
    eprintln!(
        "The following flag(s) can not be used in {mode} mode: [{}]",
        wrong.join(" ")
    );
    Some(ExitCode::from(3))
}

//! What the process says about itself: `status/{config,flags,runtimeinfo,buildinfo}`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use model::Millis;
use serde::Serialize;

use super::Api;
use super::time::Time;
use crate::error::{ApiError, success};

/// Which program this is. `version` is what clients such as Grafana decide by.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildInfo {
    /// The version of Prometheus that this program equals in behaviour.
    pub version: String,
    /// The commit it was built from.
    pub revision: String,
    /// Its branch.
    pub branch: String,
    /// Who built it.
    pub build_user: String,
    /// When it was built.
    pub build_date: String,
    /// The compiler, in the field that clients know.
    pub go_version: String,
    /// The program's own name.
    pub application: String,
    /// The program's own version.
    pub application_version: String,
}

/// How the process is doing.
#[derive(Clone, Debug, Default)]
pub struct RuntimeInfo {
    /// When it started, ms.
    pub start_time: Millis,
    /// Its working directory.
    pub cwd: String,
    /// The computer's name.
    pub hostname: String,
    /// Whether the last reading of the configuration worked.
    pub reload_success: bool,
    /// When the configuration in force was read, ms.
    pub last_config_time: Millis,
    /// Damaged pieces of the log that were set aside.
    pub corruption_count: u64,
    /// Tasks that are alive (`goroutineCount`).
    pub tasks: usize,
    /// Threads that may run at once (`GOMAXPROCS`).
    pub threads: usize,
    /// `--memory.limit`, bytes (`GOMEMLIMIT`).
    pub memory_limit: u64,
    /// How long and how much is kept, for people.
    pub retention: String,
    /// The role, such as `all-in-one`.
    pub role: String,
}

pub(super) async fn config(State(api): State<Api>) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Config {
        yaml: String,
    }
    let config = api
        .config
        .as_ref()
        .ok_or_else(|| ApiError::not_served("configuration files"))?;
    success(&Config { yaml: config() })
}

pub(super) async fn flags(State(api): State<Api>) -> Result<Response, ApiError> {
    let flags: &BTreeMap<String, String> = &api.flags;
    success(flags)
}

pub(super) async fn build(State(api): State<Api>) -> Result<Response, ApiError> {
    success(&api.build)
}

pub(super) async fn runtime(State(api): State<Api>) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Runtime {
        start_time: Time,
        #[serde(rename = "CWD")]
        cwd: String,
        hostname: String,
        server_time: Time,
        reload_config_success: bool,
        last_config_time: Time,
        corruption_count: u64,
        goroutine_count: usize,
        #[serde(rename = "GOMAXPROCS")]
        threads: usize,
        #[serde(rename = "GOMEMLIMIT")]
        memory_limit: u64,
        #[serde(rename = "GOGC")]
        gogc: &'static str,
        #[serde(rename = "GODEBUG")]
        godebug: &'static str,
        storage_retention: String,
        role: String,
        ready: &'static str,
        pages: Vec<&'static str>,
    }
    let runtime = api
        .runtime
        .as_ref()
        .ok_or_else(|| ApiError::not_served("facts about the process"))?;
    let info = runtime();
    success(&Runtime {
        start_time: Time(info.start_time),
        cwd: info.cwd,
        hostname: info.hostname,
        server_time: Time(api.clock.now()),
        reload_config_success: info.reload_success,
        last_config_time: Time(info.last_config_time),
        corruption_count: info.corruption_count,
        goroutine_count: info.tasks,
        threads: info.threads,
        memory_limit: info.memory_limit,
        gogc: "",
        godebug: "",
        storage_retention: info.retention,
        role: info.role,
        ready: api.ready.get().as_str(),
        pages: crate::ui::pages(&api),
    })
}

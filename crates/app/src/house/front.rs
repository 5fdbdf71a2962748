//! The front of a house: one HTTP server that answers from the first moment on - health and what is
//! known already, then everything - and what it tells of the process' life.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::ready::State;
use axum::Router;
use metrics::Registry;
use model::Millis;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::config::Current;
use super::life::{self, Life};
use super::{Settings, build_info, discovery, told};
use crate::limits::Memory;

/// What a house says of its storage.
pub struct Kept {
    /// Damaged pieces of the log that were set aside.
    pub corruptions: metrics::Counter,
    /// How long and how much is kept, for people.
    pub retention: Box<dyn Fn() -> String + Send + Sync>,
}

/// The opened front.
pub struct Front {
    /// Signals and readiness.
    pub life: Life,
    /// What people are told.
    pub notices: api::Notices,
    /// How far the replay is.
    pub replay: told::Replay,
    /// What will be answered; parts are added as they open.
    pub options: api::Options,
    /// Where it listens.
    pub addresses: Vec<String>,
    role: &'static str,
    lifecycle: bool,
    auto_reload: Option<Duration>,
    current: Arc<Current>,
    prefix: String,
    site: watch::Sender<Router>,
    serving: JoinHandle<Result<(), wire::server::ServerError>>,
}

/// All routes for `options`.
fn mount(options: api::Options, prefix: &str) -> Router {
    let all = api::router(options).merge(crate::profile::router());
    wire::server::prefix::mount(all, prefix)
}

impl Front {
    /// Binds the addresses and answers what can be answered while the rest opens.
    pub async fn open(
        settings: &Settings,
        started: Millis,
        registry: &Registry,
        current: &Arc<Current>,
        kept: Kept,
    ) -> Result<Self> {
        let Settings { web, queries, .. } = settings;
        let server = wire::server::Server::bind(web.server.clone(), registry).await?;
        let addresses: Vec<String> = server.addresses().iter().map(|a| a.to_string()).collect();
        let life = Life::start()?;
        life.count(registry)?;
        let clock = Arc::new(model::time::WallClock);
        let notices = api::Notices::new(web.listeners, clock, registry)?;
        notices.show(api::notices::STARTING);
        let replay = told::Replay::default();
        let options = api::Options {
            flags: settings.flags.clone(),
            build: build_info(),
            // These routes never become ready: those that take their place are.
            ready: api::Ready::default(),
            registry: registry.clone(),
            counters: api::Counters::of_server(registry)?,
            features: queries.features,
            per_step_stats: queries.per_step_stats,
            search: queries.search,
            cors: web.cors.clone(),
            timeout: queries.timeout,
            external_path: web.external_url.path().trim_end_matches('/').to_owned(),
            title: web.title.clone(),
            notices: Some(notices.clone()),
            replay: Some(replay.report()),
            feature_table: told::features(settings),
            runtime: Some(runtime_info(
                (settings.role, started),
                &settings.memory,
                current,
                kept,
            )),
            agent: settings.agent.is_some(),
            ..api::Options::default()
        };
        let prefix = web.route_prefix.clone();
        let (site, routes) = watch::channel(mount(options.clone(), &prefix));
        let serving = tokio::spawn(server.serve_changing(routes, life.draining()));
        for address in &addresses {
            tracing::info!(address, tls = web.server.web_config.is_some(), "listening");
        }
        Ok(Self {
            life,
            notices,
            replay,
            options,
            addresses,
            role: settings.role,
            lifecycle: web.lifecycle,
            auto_reload: settings.auto_reload,
            current: Arc::clone(current),
            prefix,
            site,
            serving,
        })
    }

    /// Answers everything from now on. The answer is what reloads the configuration meanwhile.
    pub fn ready(
        &mut self,
        reload: life::Reload,
        targets: &discovery::Targets,
    ) -> Vec<JoinHandle<()>> {
        let options = &mut self.options;
        options.targets = Some(targets.manager());
        options.metadata = Some(targets.manager());
        let current = Arc::clone(&self.current);
        options.external_labels = Arc::new(move || current.external_labels());
        let current = Arc::clone(&self.current);
        options.config = Some(Arc::new(move || current.loaded().config.to_yaml_redacted()));
        options.scrape_pool = Some(told::scrape_pools(Arc::clone(&self.current)));
        if self.lifecycle {
            let over_http = life::OverHttp::new(reload.clone(), self.life.clone());
            options.lifecycle = Some(Arc::new(over_http));
        }
        options.ready = self.life.ready.clone();
        self.life.ready.set(State::Ready);
        self.notices.clear(api::notices::STARTING);
        // Nobody listens to the routes any more only when the server has ended.
        let _ = self.site.send(mount(options.clone(), &self.prefix));
        tracing::info!(
            role = self.role,
            mode = options.agent.then_some("agent"),
            addresses = self.addresses.join(" "),
            "ready to answer"
        );
        let mut background = vec![tokio::spawn(life::reload_on_hangup(reload.clone()))];
        if let Some(every) = self.auto_reload {
            background.push(tokio::spawn(life::reload_on_change(reload, every)));
        }
        background
    }

    /// Tells everyone that the end has begun.
    pub fn stopping(&self) {
        self.life.ready.set(State::Stopping);
        self.notices.show(api::notices::STOPPING);
    }

    /// Gives the last answers.
    pub async fn close(self) -> Result<()> {
        self.notices.close();
        self.life.drain();
        self.serving.await.context("the HTTP server")??;
        Ok(())
    }
}

fn runtime_info(
    (role, started): (&'static str, Millis),
    memory: &Memory,
    current: &Arc<Current>,
    kept: Kept,
) -> Arc<dyn Fn() -> api::RuntimeInfo + Send + Sync> {
    let memory_limit = memory.total.limit();
    let current = Arc::clone(current);
    let cwd = std::env::current_dir().unwrap_or_else(|_| ".".into());
    let handle = tokio::runtime::Handle::current();
    Arc::new(move || {
        let (last_config_time, reload_success) = current.last_reload();
        api::RuntimeInfo {
            start_time: started,
            cwd: cwd.display().to_string(),
            hostname: super::settings::hostname(),
            reload_success,
            last_config_time,
            corruption_count: kept.corruptions.get(),
            tasks: handle.metrics().num_alive_tasks(),
            threads: handle.metrics().num_workers(),
            memory_limit,
            retention: (kept.retention)(),
            role: role.to_owned(),
        }
    })
}

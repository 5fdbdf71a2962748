//! The house of roles without a database of their own: one HTTP server, one gRPC server, and the
//! life between the first signal and the last answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use api::ready::State;
use metrics::Registry;
use model::time::{Clock as _, WallClock, span};
use model::{Cancel, Millis};
use wire::grpc::{Routes, TlsFiles};
use wire::request_log::RequestLog;

use crate::house::life::Life;
use crate::house::settings::hostname;
use crate::kingpin::{FlagError, Typed};
use crate::limits::Memory;

/// What the flags of every such role mean.
pub struct Settings {
    /// `query`, `store`, `sidecar`.
    pub role: &'static str,
    /// HTTP.
    pub http: wire::server::Settings,
    /// gRPC; none for a role that serves HTTP alone.
    pub grpc: Option<wire::grpc::Settings>,
    /// Memory budgets.
    pub memory: Memory,
    /// Where routes stand.
    pub route_prefix: String,
    /// Where browsers see them.
    pub external_prefix: String,
    /// The header in which a proxy says where browsers see them.
    pub prefix_header: String,
    /// Whose pages may read our answers.
    pub cors: wire::server::Cors,
    /// Where traces are sent, if anywhere.
    pub traces: Option<crate::traces::Settings>,
    /// All flags, for the API.
    pub flags: BTreeMap<String, String>,
}

fn path(typed: &Typed<'_>, flag: &str) -> Option<PathBuf> {
    typed
        .text(flag)
        .filter(|t| !t.is_empty())
        .map(PathBuf::from)
}

/// A list whose items may be separated by commas, too.
pub fn listed(typed: &Typed<'_>, flag: &str) -> Vec<String> {
    let items = typed.list(flag).into_iter().flat_map(|l| l.split(','));
    items
        .map(str::trim)
        .filter(|i| !i.is_empty())
        .map(String::from)
        .collect()
}

/// The text of a pair of flags, `x` and `x-file`, of which one may be given.
pub fn content(typed: &Typed<'_>, flag: &str) -> Result<Option<String>, FlagError> {
    let file_flag = format!("{flag}-file");
    let given = |flag: &str| typed.text(flag).filter(|t| !t.is_empty());
    match (given(flag), given(&file_flag)) {
        (Some(_), Some(_)) => {
            Err(typed.error(flag, format!("cannot be given together with --{file_flag}")))
        }
        (Some(text), None) => Ok(Some(text.to_owned())),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map(Some)
            .map_err(|e| typed.error(&file_flag, format!("{file}: {e}"))),
        (None, None) => Ok(None),
    }
}

/// A moment: RFC 3339, or a duration before now.
pub fn moment(typed: &Typed<'_>, flag: &str) -> Result<bucket::catalog::Bound, FlagError> {
    use bucket::catalog::Bound;
    let text = typed.required(flag)?;
    // The first moment that Go knows, and the last one that people write.
    match text {
        "0000-01-01T00:00:00Z" => return Ok(Bound::At(Millis::MIN)),
        "9999-12-31T23:59:59Z" => return Ok(Bound::At(Millis::MAX)),
        _ => {}
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(Bound::At(at.as_millisecond()));
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (1, rest),
        None => (-1, text),
    };
    let ms = model::time::parse_duration(digits)
        .map_err(|_| typed.error(flag, format!("{text:?} is neither a time nor a duration")))?;
    Ok(Bound::Ago(sign * ms))
}

impl Settings {
    /// As the flags say.
    pub fn from_flags(typed: &Typed<'_>, role: &'static str) -> Result<Self> {
        Ok(Self {
            grpc: Some(grpc(typed)?),
            ..Self::without_grpc(typed, role)?
        })
    }

    /// As the flags of a role say that serves HTTP alone.
    pub fn without_grpc(typed: &Typed<'_>, role: &'static str) -> Result<Self> {
        let slashed = |text: Option<&str>| {
            let text = text.unwrap_or_default().trim_matches('/');
            if text.is_empty() {
                String::new()
            } else {
                format!("/{text}")
            }
        };
        let cors = match typed.switch("web.disable-cors") {
            true => wire::server::Cors::new("$^"),
            false => wire::server::Cors::new(".*"),
        };
        let route_prefix = slashed(typed.text("web.route-prefix"));
        let external_prefix = match slashed(typed.text("web.external-prefix")) {
            none if none.is_empty() => route_prefix.clone(),
            prefix => prefix,
        };
        Ok(Self {
            role,
            http: wire::server::Settings {
                listen: vec![typed.required("http-address")?.to_owned()],
                web_config: path(typed, "http.config"),
                grace: span(typed.duration("http-grace-period")?),
                log: request_log(typed)?.http,
                names: wire::server::Names::Thanos {
                    proxy: (role == "query-frontend").then_some("query-frontend"),
                },
                ..wire::server::Settings::default()
            },
            grpc: None,
            memory: Memory::from_flags(typed)?,
            route_prefix,
            external_prefix,
            prefix_header: typed
                .text("web.prefix-header")
                .unwrap_or_default()
                .to_owned(),
            cors: cors.map_err(|e| typed.error("web.disable-cors", e))?,
            traces: crate::traces::from_flags(typed, role)?,
            flags: typed.all().into_iter().collect(),
        })
    }
}

/// What is logged of requests, by a role that has flags for it.
fn request_log(typed: &Typed<'_>) -> Result<RequestLog, FlagError> {
    const FLAG: &str = "request.logging-config";
    match content(typed, FLAG)? {
        None => Ok(RequestLog::default()),
        Some(text) => RequestLog::parse(&text).map_err(|e| typed.error(FLAG, e)),
    }
}

/// gRPC, as the flags say.
fn grpc(typed: &Typed<'_>) -> Result<wire::grpc::Settings> {
    let tls = match (
        path(typed, "grpc-server-tls-cert"),
        path(typed, "grpc-server-tls-key"),
    ) {
        (Some(cert), Some(key)) => Some(TlsFiles {
            cert,
            key,
            client_ca: path(typed, "grpc-server-tls-client-ca"),
            min_version: typed.required("grpc-server-tls-min-version")?.to_owned(),
            ciphers: listed(typed, "grpc-server-tls-ciphers"),
            curves: listed(typed, "grpc-server-tls-curves"),
        }),
        (None, None) => {
            if typed
                .text("grpc-server-tls-client-ca")
                .is_some_and(|t| !t.is_empty())
            {
                let message =
                    "when a client CA is used a server key and certificate must also be provided";
                return Err(typed.error("grpc-server-tls-client-ca", message).into());
            }
            None
        }
        _ => {
            let message = "both server key and certificate must be provided";
            return Err(typed.error("grpc-server-tls-cert", message).into());
        }
    };
    Ok(wire::grpc::Settings {
        listen: typed.required("grpc-address")?.to_owned(),
        tls,
        max_connection_age: span(typed.duration("grpc-server-max-connection-age")?),
        grace: span(typed.duration("grpc-grace-period")?),
        log: request_log(typed)?.grpc,
        ..wire::grpc::Settings::default()
    })
}

/// Tells whether the process is ready and healthy, as Thanos does.
fn tell_status(life: &Life, registry: &Registry) -> Result<()> {
    let ready = life.ready.clone();
    registry.callbacks(
        metrics::Kind::Gauge,
        "thanos_status",
        "Represents status (0 indicates failure, 1 indicates success) of the component.",
        &["check"],
        move |push| {
            let state = ready.get();
            let is = |yes: bool| if yes { 1.0 } else { 0.0 };
            push(&["ready"], is(state == State::Ready));
            // Who answers at all is healthy until it ends.
            push(&["healthy"], is(state != State::Stopping));
        },
    )?;
    Ok(())
}

/// The opened house: addresses are bound, nothing is answered yet.
pub struct Outpost {
    settings: Settings,
    /// Our own metrics.
    pub registry: Registry,
    counters: api::Counters,
    /// Signals and readiness.
    pub life: Life,
    /// Ends what runs in the background.
    pub stop: Cancel,
    http: wire::server::Server,
    grpc: Option<wire::grpc::Server>,
    started: Millis,
}

impl Outpost {
    /// Binds the addresses.
    pub async fn open(mut settings: Settings) -> Result<Self> {
        if let Some(change) = crate::traces::prepare(settings.traces.take())? {
            change.put();
        }
        let registry = Registry::new();
        metrics::process(&registry)?;
        metrics::build_info(
            &registry,
            "thanos",
            env!("CARGO_PKG_VERSION"),
            crate::house::REVISION,
            "",
            "",
        )?;
        let life = Life::start()?;
        tell_status(&life, &registry)?;
        let counters = api::Counters::new(&registry)?;
        let http = wire::server::Server::bind(settings.http.clone(), &registry).await?;
        let grpc = match settings.grpc.clone() {
            Some(grpc) => Some(wire::grpc::Server::bind(grpc, &registry).await?),
            None => None,
        };
        tracing::info!(
            http = %http.addresses().first().map(|a| a.to_string()).unwrap_or_default(),
            grpc = %grpc.as_ref().map(|g| g.address().to_string()).unwrap_or_default(),
            "listening"
        );
        Ok(Self {
            life,
            stop: Cancel::default(),
            started: WallClock.now(),
            registry,
            counters,
            http,
            grpc,
            settings,
        })
    }

    /// Memory budgets.
    pub fn memory(&self) -> &Memory {
        &self.settings.memory
    }

    /// What every such role's API has.
    pub fn options(&self) -> api::Options {
        let (role, started) = (self.settings.role, self.started);
        let memory_limit = self.settings.memory.total.limit();
        let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        let handle = tokio::runtime::Handle::current();
        api::Options {
            flags: self.settings.flags.clone(),
            build: crate::house::build_info(),
            ready: self.life.ready.clone(),
            registry: self.registry.clone(),
            counters: self.counters.clone(),
            cors: self.settings.cors.clone(),
            external_path: self.settings.external_prefix.clone(),
            prefix_header: self.settings.prefix_header.clone(),
            budget: self
                .settings
                .memory
                .queries
                .child("labels and series", self.settings.memory.per_query),
            runtime: Some(std::sync::Arc::new(move || api::RuntimeInfo {
                start_time: started,
                cwd: cwd.display().to_string(),
                hostname: hostname(),
                reload_success: true,
                last_config_time: started,
                corruption_count: 0,
                tasks: handle.metrics().num_alive_tasks(),
                threads: handle.metrics().num_workers(),
                memory_limit,
                retention: String::new(),
                role: role.to_owned(),
            })),
            ..api::Options::default()
        }
    }

    /// Serves the API until it is told to stop. `opened` finishes when there is something to
    /// answer.
    pub async fn serve(
        self,
        options: api::Options,
        routes: Routes,
        opened: impl Future<Output = Result<()>>,
    ) -> Result<ExitCode> {
        let app = wire::server::prefix::mount(api::router(options), &self.settings.route_prefix);
        self.serve_app(app, routes, opened).await
    }

    /// Serves what `app` answers, likewise.
    pub async fn serve_app(
        self,
        app: axum::Router,
        routes: Routes,
        opened: impl Future<Output = Result<()>>,
    ) -> Result<ExitCode> {
        let life = self.life.clone();
        let http = tokio::spawn(self.http.serve(app, life.draining()));
        let health = self.grpc.as_ref().map(wire::grpc::Server::health);
        let tell = async |serves: bool| {
            if let Some(health) = &health {
                health.set(serves).await;
            }
        };
        tell(false).await;
        let grpc = self
            .grpc
            .map(|grpc| tokio::spawn(grpc.serve(routes, life.draining())));
        let opened = tokio::select! {
            opened = opened => opened,
            () = life.told_to_stop() => Ok(()),
        };
        if opened.is_ok() {
            life.ready.set(State::Ready);
            tell(true).await;
            tracing::info!(role = self.settings.role, "ready to answer");
            life.told_to_stop().await;
        }
        life.ready.set(State::Stopping);
        tell(false).await;
        self.stop.cancel();
        life.drain();
        if let Some(grpc) = grpc {
            grpc.await.context("the gRPC server")??;
        }
        http.await.context("the HTTP server")??;
        opened?;
        tracing::info!("See you next time!");
        Ok(ExitCode::SUCCESS)
    }
}

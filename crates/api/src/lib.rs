//! PromQL over the network: Prometheus' HTTP API, version 1, and the page for people.
//!
//! [`router`] makes one [`axum::Router`] out of [`Options`]: the API below `/api/v1`, `/-/healthy`
//! and its kin, `/metrics`, and the UI. Everything the API knows comes in through the options;
//! what is absent there is answered with `not_found`. `wire::server` puts the router on the
//! network.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use tower::ServiceExt as _;
//!
//! let app = api::router(api::Options::default());
//! let request = http::Request::get("/-/ready").body(axum::body::Body::empty()).unwrap();
//! let response = app.oneshot(request).await.unwrap();
//! assert_eq!(response.status(), 503); // nobody has said yet that we are ready
//! # });
//! ```
//!
//! Useful for: asking over HTTP what `promql`, a `model::Source` and the rooms' reports know. Not
//! useful for: evaluating (`promql`), gRPC between our own kind (`store`), listening (`wire`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use model::report::{
    Admin, AlertmanagersReport, BucketReport, ExemplarReport, HeadReport, MetadataReport,
    RulesReport, Targets,
};
use model::time::{Clock, WallClock};
use model::{BoxFuture, Budget, Labels, Millis, Source};
use promql::Evaluator;

pub mod client;
mod counters;
mod encode;
mod error;
mod federate;
pub mod frontend;
mod grpc;
mod json;
pub mod notices;
mod params;
pub mod ready;
mod rows;
mod ui;
mod v1;
mod web;

pub use counters::Counters;
pub use error::{ApiError, ErrorType};
pub use grpc::QueryApi;
pub use notices::Notices;
pub use ready::Ready;
pub use v1::{
    BuildInfo, FeatureTable, Gathering, PartialReports, ReadLimits, Replay, RuntimeInfo,
    ScrapePool, ScrapePools, StoreStatus, selectors, statistics,
};

/// What the API answers from. An absent part is not served.
#[derive(Clone)]
pub struct Options {
    /// Answers expressions.
    pub evaluator: Option<Arc<dyn Evaluator>>,
    /// Answers for series and labels.
    pub source: Option<Arc<dyn Source>>,
    /// What of it is here and no other server's: for remote read and federation. None: all of it.
    pub local: Option<Arc<dyn Source>>,
    /// Knows the scrape targets.
    pub targets: Option<Arc<dyn Targets>>,
    /// Knows types and help texts.
    pub metadata: Option<Arc<dyn MetadataReport>>,
    /// Knows exemplars.
    pub exemplars: Option<Arc<dyn ExemplarReport>>,
    /// Knows the local database.
    pub head: Option<Arc<dyn HeadReport>>,
    /// Changes what is stored (`--web.enable-admin-api`).
    pub admin: Option<Arc<dyn Admin>>,
    /// Knows the rules.
    pub rules: Option<Arc<dyn RulesReport>>,
    /// Whether rules and alerts tell Thanos' strategy for partial data.
    pub strategies: bool,
    /// Knows who is told of alerts.
    pub alertmanagers: Option<Arc<dyn AlertmanagersReport>>,
    /// Knows the bucket.
    pub bucket: Option<Arc<dyn BucketReport>>,
    /// The configuration in force, as YAML without secrets.
    pub config: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// How the process is doing.
    pub runtime: Option<Arc<dyn Fn() -> RuntimeInfo + Send + Sync>>,
    /// Reloading and ending the process over HTTP (`--web.enable-lifecycle`).
    pub lifecycle: Option<Arc<dyn Lifecycle>>,
    /// All flags with their values; secrets already hidden.
    pub flags: BTreeMap<String, String>,
    /// Which program this is.
    pub build: BuildInfo,
    /// Whether the process can answer.
    pub ready: Ready,
    /// Our own metrics, for `/metrics`.
    pub registry: metrics::Registry,
    /// What is counted of the answers.
    pub counters: Counters,
    /// Which parts of the language are on, for `format_query` and `parse_query`.
    pub features: promql::features::Features,
    /// Whether `stats=all` says the samples of each step (`promql-per-step-stats`).
    pub per_step_stats: bool,
    /// Whose pages may read our answers.
    pub cors: wire::server::Cors,
    /// The memory that `series` and the label endpoints share.
    pub budget: Arc<Budget>,
    /// How long `series` and the label endpoints may take.
    pub timeout: Duration,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The path of the external URL, without a slash at its end: what the browser sees before our
    /// own paths. `""` for the root.
    pub external_path: String,
    /// The header in which a proxy says that path, if `external_path` does not; `""` for none.
    pub prefix_header: String,
    /// The title of the page.
    pub title: String,
    /// Takes remote write, if that is switched on: `/write`.
    pub remote_write: Option<Router>,
    /// Takes OTLP, if that is switched on: `/otlp/v1/metrics`.
    pub otlp: Option<Router>,
    /// Limits of remote read.
    pub read: ReadLimits,
    /// The largest `limit` of a search, 0 for any; none: there is no search.
    pub search: Option<usize>,
    /// The labels of everything that leaves this process, for remote read and federation.
    pub external_labels: Arc<dyn Fn() -> Labels + Send + Sync>,
    /// How far back `/federate` looks for a sample, ms.
    pub lookback: Millis,
    /// How far the replay of the WAL is.
    pub replay: Option<Arc<dyn Fn() -> Replay + Send + Sync>>,
    /// What people should know about the state of the process.
    pub notices: Option<Notices>,
    /// Features by category, of the parts that only the process knows.
    pub feature_table: FeatureTable,
    /// The configuration in force of the scrape pool of this name.
    pub scrape_pool: Option<ScrapePools>,
    /// Nothing can be asked: this is an agent.
    pub agent: bool,
    /// Pages (`blocks`, `loaded`) whose endpoints are merged into the router from elsewhere.
    pub more_pages: Vec<&'static str>,
    /// Set where the source is many stores: Thanos' parameters are understood, `stores` is served.
    pub gathering: Option<Gathering>,
}

/// Changes the life of the process.
pub trait Lifecycle: Send + Sync {
    /// Reads the configuration again; the error says what is wrong with it.
    fn reload(&self) -> BoxFuture<'static, Result<(), String>>;

    /// Whether the process may be ended over HTTP, too.
    fn may_quit(&self) -> bool {
        true
    }

    /// Begins the shutdown.
    fn quit(&self);
}

impl Default for Options {
    /// Nothing is served but health and metrics, all of memory may be used.
    fn default() -> Self {
        Self {
            evaluator: None,
            source: None,
            local: None,
            targets: None,
            metadata: None,
            exemplars: None,
            head: None,
            admin: None,
            rules: None,
            strategies: false,
            alertmanagers: None,
            bucket: None,
            config: None,
            runtime: None,
            lifecycle: None,
            flags: BTreeMap::new(),
            build: BuildInfo::default(),
            ready: Ready::default(),
            registry: metrics::Registry::default(),
            counters: Counters::default(),
            features: promql::features::Features::default(),
            per_step_stats: false,
            cors: wire::server::Cors::default(),
            budget: Budget::unlimited(),
            timeout: Duration::from_secs(120),
            clock: Arc::new(WallClock),
            external_path: String::new(),
            prefix_header: String::new(),
            title: "Epimetheus".to_owned(),
            remote_write: None,
            otlp: None,
            read: ReadLimits::default(),
            search: None,
            external_labels: Arc::new(Labels::default),
            lookback: 300_000,
            replay: None,
            notices: None,
            feature_table: FeatureTable::new(),
            scrape_pool: None,
            agent: false,
            more_pages: Vec::new(),
            gathering: None,
        }
    }
}

/// Health and metrics, for a process whose other answers are not its own.
pub fn health(options: Options) -> Router {
    web::health(Arc::new(options))
}

/// Everything a process answers over HTTP, from the root; see `wire::server::prefix::mount` for
/// other places.
pub fn router(options: Options) -> Router {
    let options = Arc::new(options);
    Router::new()
        .nest("/api/v1", v1::router(Arc::clone(&options)))
        .merge(web::router(Arc::clone(&options)))
        .merge(ui::router(&options))
}

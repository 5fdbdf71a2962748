//! `epimetheus rule`: rules over many stores, asked through queriers, with Thanos' flags.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::client::Queriers;
use api::ready::State;
use bucket::{Shipper, ShipperOptions};
use metrics::Registry;
use model::report::{HeadReport, Own, RuleGroupStatus, RulesReport, label_rules};
use model::time::{WallClock, span};
use model::{Cancel, Labels, Millis, Sink, Source};
use promql::features::Features;
use promql::{Engine, EngineOptions, Evaluator};
use rules::file::ReadOptions;
use rules::notify::{Names, Notifier, NotifierOptions};
use rules::{History, Link, Manager, Options, Update};
use store::{Labelled, Serve, ServeOptions};
use tokio::runtime::Handle;

use crate::house::bucket::Hold;
use crate::kingpin::{Flag, Typed};
use crate::limits::Memory;
use crate::outpost::{Outpost, Settings, content, listed};
use crate::{flags::thanos, limits, logging};

mod alertmanagers;
mod files;
mod peers;
mod queriers;
mod remote;

/// The flags of this role.
pub const FLAGS: &[&[Flag]] = &[
    thanos::RULE,
    thanos::HTTP,
    thanos::GRPC,
    thanos::REQUESTS,
    thanos::GLOBAL,
    thanos::LIMITS,
    thanos::OBJSTORE,
    thanos::SHIPPER,
    thanos::WEB,
    limits::FLAGS,
    logging::FLAGS,
];

/// How long the first evaluation waits for a querier.
const PATIENCE: Duration = Duration::from_secs(30);

struct Rule {
    queriers: queriers::Settings,
    alertmanagers: alertmanagers::Settings,
    labels: Labels,
    patterns: Vec<String>,
    features: Features,
    interval: Millis,
    offset: Millis,
    outage_tolerance: Millis,
    grace_period: Millis,
    resend_delay: Millis,
    beside: Option<usize>,
    query_url: String,
    link: Link,
    data_dir: PathBuf,
    block: Millis,
    retention: Millis,
    lock: bool,
    compress: bool,
    bucket: Option<bucket::Config>,
    shipper: ShipperOptions,
    /// Given, the ruler is stateless: what it records is sent on, and others answer for it.
    remotes: Option<remote::Remotes>,
    ignored_labels: Vec<String>,
    serve: ServeOptions,
}

/// Runs the role.
pub fn run(typed: &Typed<'_>) -> Result<ExitCode> {
    logging::init(typed)?;
    let settings = Settings::from_flags(typed, "rule")?;
    let labels = labels(&typed.list("label")).map_err(|e| typed.error("label", e))?;
    let data_dir = PathBuf::from(typed.required("data-dir")?);
    let mut features = Features {
        x_functions: typed.switch("query.enable-x-functions"),
        ..Features::default()
    };
    for name in listed(typed, "enable-feature") {
        if !features.enable(&name) {
            tracing::warn!(feature = %name, "Unknown option for --enable-feature");
        }
    }
    let remotes = remote::Remotes::from_flags(typed)?;
    let bucket = match content(typed, "objstore.config")? {
        None => None,
        Some(text) => {
            Some(bucket::Config::parse(&text).map_err(|e| typed.error("objstore.config", e))?)
        }
    };
    if bucket.is_some() && remotes.is_some() {
        tracing::warn!(
            "--objstore.config has no effect: a ruler that sends on what it records (--remote-write.config) ships no blocks"
        );
    }
    if bucket.is_some() && labels.is_empty() {
        let message = "no external labels configured for ruler, uniquely identifying external labels must be configured to ship blocks";
        return Err(typed.error("label", message).into());
    }
    let concurrent: usize = typed.number("rule-concurrent-evaluation")?;
    let link = Link::parse(typed.required("alert.query-template")?)
        .map_err(|e| typed.error("alert.query-template", e))?;
    let rule = Rule {
        queriers: queriers::Settings::from_flags(typed)?,
        alertmanagers: alertmanagers::Settings::from_flags(typed)?,
        patterns: typed
            .list("rule-file")
            .into_iter()
            .map(String::from)
            .collect(),
        features,
        interval: typed.duration("eval-interval")?,
        offset: typed.duration("rule-query-offset")?,
        outage_tolerance: typed.duration("for-outage-tolerance")?,
        grace_period: typed.duration("for-grace-period")?,
        resend_delay: typed.duration("resend-delay")?,
        beside: (concurrent > 1).then_some(concurrent),
        query_url: typed
            .text("alert.query-url")
            .unwrap_or_default()
            .trim_end_matches('/')
            .to_owned(),
        link,
        block: typed.duration("tsdb.block-duration")?.max(1),
        retention: typed.duration("tsdb.retention")?,
        lock: !typed.switch("tsdb.no-lockfile"),
        compress: typed.switch("tsdb.wal-compression"),
        bucket,
        shipper: ShipperOptions {
            source: "ruler".to_owned(),
            state_file: typed.required("shipper.meta-file-name")?.to_owned(),
            upload_compacted: typed.switch("shipper.upload-compacted"),
            interval: span(typed.duration("shipper.sync-interval")?),
            ..ShipperOptions::new(&data_dir, labels.clone())
        },
        ignored_labels: listed(typed, "restore-ignored-label"),
        serve: ServeOptions {
            component: "rule".to_owned(),
            store: remotes.is_none(),
            series_limit: typed.number("store.limits.request-series")?,
            sample_limit: typed.number("store.limits.request-samples")?,
            ..ServeOptions::default()
        },
        data_dir,
        labels,
        remotes,
    };
    super::warn_without_effect(typed);
    crate::runtime::run(live(settings, rule))
}

/// Labels as `--label` has them: `name="value"`, the value as Go code writes it.
fn labels(written: &[&str]) -> Result<Labels, String> {
    let mut pairs = Vec::new();
    for label in written {
        let (name, value) = label
            .split_once('=')
            .ok_or_else(|| format!("unrecognized label {label:?}"))?;
        if name.is_empty() {
            return Err(format!("unsupported format for label {label:?}"));
        }
        let value = rules::template::unquote(value).ok_or_else(|| {
            format!("{label:?}: the value must be quoted, as in {name}=\"value\"")
        })?;
        pairs.push((name.to_owned(), value));
    }
    Ok(Labels::from_pairs(pairs))
}

async fn live(settings: Settings, rule: Rule) -> Result<ExitCode> {
    let outpost = Outpost::open(settings).await?;
    let (registry, ready) = (outpost.registry.clone(), outpost.life.ready.clone());
    let (stop, memory) = (outpost.stop.clone(), outpost.memory().clone());
    let runtime = Handle::current();

    let hold = Hold::default();
    let shipper = match &rule.bucket {
        _ if rule.remotes.is_some() => None,
        None => {
            tracing::info!("no supported bucket was configured, uploads will be disabled");
            None
        }
        Some(config) => {
            let opened = bucket::open(config, &registry)?;
            let shipper = Arc::new(Shipper::new(opened, rule.shipper.clone(), &registry)?);
            hold.ask(&shipper);
            Some(shipper)
        }
    };
    let db = open_db(&rule, shipper.is_some().then_some(hold), &registry).await?;
    let local: Arc<dyn Source> = Arc::clone(&db) as Arc<dyn Source>;

    let remotes = match &rule.remotes {
        None => None,
        Some(remotes) => Some(
            remotes
                .open(&rule.data_dir, &rule.labels, &registry)
                .await?,
        ),
    };

    let queriers = rule.queriers.open(&registry, &stop).await?;
    let history: Arc<dyn Evaluator> = match remotes {
        // What was recorded before lies in the own database, or where it was sent.
        None => engine(Arc::clone(&local), &memory)?,
        Some(_) => Arc::new(queriers.clone()),
    };
    let evaluator = queriers::Warned::new(Arc::new(queriers.clone()), &registry)?;
    let notifier = Arc::new(Notifier::new(
        &registry,
        NotifierOptions {
            batch: 100,
            names: Names::Thanos,
            ..NotifierOptions::default()
        },
    )?);
    rule.alertmanagers
        .open(&notifier, &rule.labels, &registry, &stop)
        .await?;
    let manager = Arc::new(Manager::new(
        &registry,
        Options {
            evaluator: Arc::new(evaluator),
            sink: Arc::clone(&db) as Arc<dyn Sink>,
            notify: Arc::clone(&notifier) as Arc<dyn rules::Notify>,
            owner: Arc::new(model::owner::Everything),
            clock: Arc::new(WallClock),
            external_url: rule.query_url,
            link: rule.link,
            history: History {
                evaluator: history,
                outage_tolerance: rule.outage_tolerance,
                grace_period: rule.grace_period,
                ignored_labels: rule.ignored_labels,
            },
            resend_delay: rule.resend_delay,
            beside: rule.beside,
            by_strategy: true,
            read: ReadOptions {
                features: rule.features,
                ..ReadOptions::default()
            },
        },
    )?);
    let update = Update {
        files: Vec::new(),
        interval: rule.interval,
        offset: rule.offset,
        external_labels: rule.labels.clone(),
    };
    let files = files::Files::new(Arc::clone(&manager), rule.patterns, update, &registry)?;
    let files = Arc::new(files);

    let report: Arc<dyn RulesReport> = Arc::new(LabelledRules {
        inner: Arc::clone(&manager) as Arc<dyn RulesReport>,
        labels: rule.labels.clone(),
    });
    let external = rule.labels.clone();
    let external: Arc<dyn Fn() -> Labels + Send + Sync> = Arc::new(move || external.clone());
    let reports = Own {
        rules: Some(Arc::clone(&manager) as Arc<dyn RulesReport>),
        targets: None,
        metadata: None,
        exemplars: None,
        head: remotes
            .is_none()
            .then(|| Arc::clone(&db) as Arc<dyn HeadReport>),
        labels: Arc::clone(&external),
    };
    let source = Labelled::new(local, external, runtime.clone());
    let serve = ServeOptions {
        memory: Arc::clone(&memory.queries),
        request_memory: memory.per_query,
        ready: Arc::new(move || ready.get() == State::Ready),
        reports: Some(Arc::new(reports)),
        ..rule.serve
    };
    let serve = Serve::new(Arc::new(source), serve, runtime, &registry)?;
    let routes = serve.routes();
    let mut options = outpost.options();
    options.rules = Some(report);
    options.strategies = true;
    options.alertmanagers =
        Some(Arc::clone(&notifier) as Arc<dyn model::report::AlertmanagersReport>);
    options.head = Some(Arc::clone(&db) as Arc<dyn HeadReport>);
    options.lifecycle = Some(Arc::new(files::OverHttp(Arc::clone(&files))));
    let counting = tokio::spawn(crate::house::count_head(Arc::clone(&db), memory));
    let opened = {
        let (files, stop) = (Arc::clone(&files), stop.clone());
        async move {
            // A file that is wrong is said at once, whoever else is there or not.
            files.judge().await?;
            let hangup = Arc::clone(&files);
            tokio::spawn(async move { hangup.on_hangup().await });
            tokio::spawn(begin(queriers, files, stop.clone()));
            if let Some(shipper) = shipper {
                tokio::spawn(async move { shipper.run(stop).await });
            }
            Ok(())
        }
    };
    let ended = outpost.serve(options, routes, opened).await;

    // No new samples, then what waits for Alertmanagers and remotes, then the database.
    manager.stop().await;
    notifier.stop(Duration::from_secs(10)).await;
    if let Some(remotes) = remotes {
        remotes.stop().await;
    }
    counting.abort();
    tokio::task::spawn_blocking(move || db.close()).await??;
    ended
}

/// Rules with the external labels of the process, as others are told them.
struct LabelledRules {
    inner: Arc<dyn RulesReport>,
    labels: Labels,
}

impl RulesReport for LabelledRules {
    fn rule_groups(&self) -> Vec<RuleGroupStatus> {
        let mut groups = self.inner.rule_groups();
        label_rules(&mut groups, &self.labels);
        groups
    }
}

/// Begins to evaluate once a querier is there: before, every expression would only fail. One that
/// stays away is not waited for for ever, for then it is the failures that must be seen.
async fn begin(queriers: Queriers, files: Arc<files::Files>, stop: Cancel) {
    let waited = async {
        while !queriers.any_is_ready().await {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => return,
        waited = tokio::time::timeout(PATIENCE, waited) => {
            if waited.is_err() {
                tracing::warn!("no querier is ready; rules are evaluated all the same");
            }
        }
    }
    // Success and failure are logged.
    let _ = files.reload().await;
}

/// The database of what is recorded.
async fn open_db(rule: &Rule, hold: Option<Hold>, registry: &Registry) -> Result<Arc<tsdb::Db>> {
    use tsdb::wal::{Compression, WalOptions};

    let options = tsdb::Options {
        wal: WalOptions {
            compression: match rule.compress {
                true => Compression::Snappy,
                false => Compression::None,
            },
            ..WalOptions::default()
        },
        min_block: rule.block,
        // Merging is the compactor's affair.
        max_block: Some(rule.block),
        retention: tsdb::Retention::time(rule.retention),
        lock: rule.lock,
        maintain_every: Some(span((rule.block / 10).clamp(500, 60_000))),
        hold: hold.map(Hold::question),
        stats: Arc::new(tsdb::Stats::new(registry)?),
        ..tsdb::Options::default()
    };
    let dir = rule.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || {
        tsdb::Db::open(&dir, options)
            .with_context(|| format!("opening the database in {}", dir.display()))
    });
    Ok(Arc::new(opened.await??))
}

/// Answers from the own database.
fn engine(source: Arc<dyn Source>, memory: &Memory) -> Result<Arc<dyn Evaluator>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|n| format!("restore-{n}"))
        .build()
        .context("starting the pool that restores alerts")?;
    let options = EngineOptions {
        memory: Arc::clone(&memory.queries),
        query_memory: memory.per_query,
        ..EngineOptions::default()
    };
    Ok(Arc::new(Engine::new(source, options, Arc::new(pool))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_quoted() {
        let read = labels(&["replica=\"a\"", "region=`eu`", "x=\"\\\"=\""]).unwrap();
        assert_eq!(read.to_string(), r#"{region="eu", replica="a", x="\"="}"#);
        for wrong in ["replica", "replica=a", "=\"a\""] {
            assert!(labels(&[wrong]).is_err(), "{wrong}");
        }
    }
}

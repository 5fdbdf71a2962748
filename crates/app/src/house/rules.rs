//! Rules and whom they alert, over the house's own engine and database.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use metrics::Registry;
use model::{Labels, Millis, Sink};
use promql::Evaluator;
use promql::features::Features;
use rules::file::ReadOptions;
use rules::notify::{Notifier, NotifierOptions};
use rules::{History, Link, Manager, Options, Update};

use crate::config::{Config, glob};
use crate::kingpin::{FlagError, Typed};

/// How rules are evaluated and alerts sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an outage may be for the state of alerts to be restored, ms.
    pub outage_tolerance: Millis,
    /// The least time between a restored alert and its firing, ms.
    pub grace_period: Millis,
    /// How often a firing alert is told again, ms.
    pub resend_delay: Millis,
    /// Rules that may be evaluated beside the first of each group (`concurrent-rule-eval`).
    pub beside: Option<usize>,
    /// Alerts that may wait for one Alertmanager.
    pub queue_capacity: usize,
    /// Most alerts in one request.
    pub batch: usize,
    /// Whether what waits at the end is still sent.
    pub drain: bool,
}

impl Settings {
    /// As the flags say.
    pub fn from_flags(typed: &Typed<'_>) -> Result<Self, FlagError> {
        let concurrent = super::settings::asked(typed, "concurrent-rule-eval");
        let most: usize = typed.number("rules.max-concurrent-evals")?;
        Ok(Self {
            beside: concurrent.then_some(most),
            batch: typed.number("alertmanager.notification-batch-size")?,
            outage_tolerance: typed.duration("rules.alert.for-outage-tolerance")?,
            grace_period: typed.duration("rules.alert.for-grace-period")?,
            resend_delay: typed.duration("rules.alert.resend-delay")?,
            queue_capacity: typed.number("alertmanager.notification-queue-capacity")?,
            drain: typed.switch("alertmanager.drain-notification-queue-on-shutdown"),
        })
    }
}

/// The files that the patterns of a configuration name.
pub fn files(config: &Config) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for pattern in &config.rule_files {
        let found = glob(pattern)
            .map_err(|e| anyhow!("error retrieving rule files for {pattern:?}: {e}"))?;
        files.extend(found);
    }
    files.dedup();
    Ok(files)
}

/// Reads and judges the rule files of a configuration; all that is wrong is said.
pub fn judge(config: &Config, features: Features) -> Result<()> {
    let options = ReadOptions {
        scheme: config.scheme(),
        features,
        ignore_unknown: false,
    };
    match rules::load(&files(config)?, options) {
        Ok(_) => Ok(()),
        Err(errors) => {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Err(anyhow!("error loading rules: {}", all.join("; ")))
        }
    }
}

/// What the room works with.
pub struct Means {
    /// Answers the expressions.
    pub evaluator: Arc<dyn Evaluator>,
    /// Takes what is recorded.
    pub sink: Arc<dyn Sink>,
    /// The URL under which the process is reached.
    pub external_url: String,
    /// Which parts of the language are on.
    pub features: Features,
    /// Changes of Alertmanagers are taken over at most this often.
    pub discovery_throttle: Duration,
}

/// The rules and the Alertmanagers of the configuration in force.
pub struct Rules {
    manager: Arc<Manager>,
    notifier: Arc<Notifier>,
}

impl Rules {
    /// Opens both, without a rule.
    pub fn open(settings: &Settings, means: Means, registry: &Registry) -> Result<Self> {
        let notifier = Arc::new(Notifier::new(
            registry,
            NotifierOptions {
                capacity: settings.queue_capacity,
                batch: settings.batch,
                drain: settings.drain,
                discovery_throttle: means.discovery_throttle,
                signer: Some(|section| {
                    super::signing::signer(section).map_err(|e| format!("sigv4: {e:#}"))
                }),
                ..NotifierOptions::default()
            },
        )?);
        let manager = Manager::new(
            registry,
            Options {
                history: History {
                    evaluator: Arc::clone(&means.evaluator),
                    outage_tolerance: settings.outage_tolerance,
                    grace_period: settings.grace_period,
                    ignored_labels: Vec::new(),
                },
                evaluator: means.evaluator,
                sink: means.sink,
                notify: Arc::clone(&notifier) as Arc<dyn rules::Notify>,
                owner: Arc::new(model::owner::Everything),
                clock: Arc::new(model::time::WallClock),
                external_url: means.external_url.trim_end_matches('/').to_owned(),
                link: Link::default(),
                resend_delay: settings.resend_delay,
                beside: settings.beside,
                by_strategy: false,
                read: ReadOptions {
                    features: means.features,
                    ..ReadOptions::default()
                },
            },
        )?;
        Ok(Self {
            manager: Arc::new(manager),
            notifier,
        })
    }

    /// Takes over a configuration.
    pub async fn apply(&self, config: &Config, external_labels: &Labels) -> Result<()> {
        self.notifier.apply(&config.alerting, external_labels)?;
        let update = Update {
            files: files(config)?,
            interval: config.global.evaluation_interval.0,
            offset: config.global.rule_query_offset.0,
            external_labels: external_labels.clone(),
        };
        self.manager.update(&update).await.map_err(|errors| {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow!("error loading rules: {}", all.join("; "))
        })
    }

    /// The rules, for the API.
    pub fn manager(&self) -> Arc<Manager> {
        Arc::clone(&self.manager)
    }

    /// The Alertmanagers, for the API.
    pub fn notifier(&self) -> Arc<Notifier> {
        Arc::clone(&self.notifier)
    }

    /// Ends the evaluations, and then the queues.
    pub async fn stop(&self) {
        self.manager.stop().await;
        self.notifier.stop(Duration::from_secs(10)).await;
    }
}

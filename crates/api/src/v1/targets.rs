//! What is scraped: `targets`, `targets/{metadata,relabel_steps}`, `scrape_pools`,
//! `scrape_pools/config`, `metadata`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::report::{ActiveTarget, Metadata, MetadataReport, Targets};
use model::{Answer, Labels, Str, relabel};
use serde::Serialize;
use serde::ser::SerializeMap as _;

use super::time::Time;
use super::{Api, reports};
use crate::error::{ApiError, success, success_with};
use crate::json::Number;
use crate::params::{Params, atoi};

/// A label set as an object.
pub(super) struct Object<'a>(pub(super) &'a Labels);

impl Serialize for Object<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (name, value) in self.0.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Active<'a> {
    discovered_labels: Object<'a>,
    labels: Object<'a>,
    scrape_pool: &'a str,
    scrape_url: &'a str,
    global_url: &'a str,
    last_error: &'a str,
    last_scrape: Time,
    last_scrape_duration: Number,
    health: &'static str,
    /// Who heard of a target through a peer does not know these two, and does not say them.
    #[serde(skip_serializing_if = "Option::is_none")]
    scrape_interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scrape_timeout: Option<String>,
}

impl<'a> From<&'a ActiveTarget> for Active<'a> {
    fn from(t: &'a ActiveTarget) -> Self {
        Self {
            discovered_labels: Object(&t.discovered_labels),
            labels: Object(&t.labels),
            scrape_pool: &t.scrape_pool,
            scrape_url: &t.scrape_url,
            global_url: &t.global_url,
            last_error: &t.last_error,
            last_scrape: Time(t.last_scrape),
            last_scrape_duration: Number(t.last_duration),
            health: t.health.as_str(),
            scrape_interval: known(t.interval),
            scrape_timeout: known(t.timeout),
        }
    }
}

fn known(span: model::Millis) -> Option<String> {
    (span > 0).then(|| model::time::format_duration(span))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dropped<'a> {
    discovered_labels: Object<'a>,
    scrape_pool: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Discovery<'a> {
    active_targets: Vec<Active<'a>>,
    dropped_targets: Vec<Dropped<'a>>,
    dropped_target_counts: Option<BTreeMap<&'a str, usize>>,
}

pub(super) fn report(api: &Api) -> Result<&Arc<dyn Targets>, ApiError> {
    api.targets
        .as_ref()
        .ok_or_else(|| ApiError::not_served("targets"))
}

pub(super) fn metadata_report(api: &Api) -> Result<&Arc<dyn MetadataReport>, ApiError> {
    api.metadata
        .as_ref()
        .ok_or_else(|| ApiError::not_served("metadata"))
}

pub(super) async fn targets(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let Answer {
        value: report,
        warnings,
    } = reports::targets(&api, &params).await?;
    let pool = params.url("scrapePool");
    let state = params.url("state").to_lowercase();
    let shows = |wanted: &str| matches!(state.as_str(), "" | "any") || state == wanted;
    let of_pool = |name: &str| pool.is_empty() || pool == name;
    let mut discovery = Discovery {
        active_targets: Vec::new(),
        dropped_targets: Vec::new(),
        dropped_target_counts: None,
    };
    if shows("active") {
        let mut active: Vec<_> = report
            .active
            .iter()
            .filter(|t| of_pool(&t.scrape_pool))
            .collect();
        active.sort_by(|a, b| a.scrape_pool.cmp(&b.scrape_pool));
        discovery.active_targets = active.into_iter().map(Active::from).collect();
    }
    if shows("dropped") {
        let mut dropped: Vec<_> = report
            .dropped
            .iter()
            .filter(|t| of_pool(&t.scrape_pool))
            .collect();
        dropped.sort_by(|a, b| a.scrape_pool.cmp(&b.scrape_pool));
        discovery.dropped_targets = dropped
            .into_iter()
            .map(|t| Dropped {
                discovered_labels: Object(&t.discovered_labels),
                scrape_pool: &t.scrape_pool,
            })
            .collect();
        let counts = report.dropped_counts.iter();
        discovery.dropped_target_counts = Some(counts.map(|(pool, n)| (&**pool, *n)).collect());
    }
    success_with(&discovery, &warnings)
}

pub(super) async fn scrape_pools(State(api): State<Api>) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Pools {
        scrape_pools: Vec<Str>,
    }
    let report = report(&api)?.targets();
    let active = report.active.iter().map(|t| &t.scrape_pool);
    let counted = report.dropped_counts.iter().map(|(pool, _)| pool);
    let mut scrape_pools: Vec<Str> = active.chain(counted).cloned().collect();
    scrape_pools.sort_unstable();
    scrape_pools.dedup();
    success(&Pools { scrape_pools })
}

/// The configuration of a scrape pool.
#[derive(Clone, Debug)]
pub struct ScrapePool {
    /// As YAML, with all defaults and without secrets.
    pub yaml: String,
    /// Its rules for targets.
    pub relabel: Vec<relabel::Config>,
    /// Which names are valid in it.
    pub scheme: relabel::NameScheme,
}

/// Finds a scrape pool by its name.
pub type ScrapePools = Arc<dyn Fn(&str) -> Option<ScrapePool> + Send + Sync>;

fn scrape_pool(api: &Api, params: &Params) -> Result<ScrapePool, ApiError> {
    let pools = api.scrape_pool.as_ref();
    let pools = pools.ok_or_else(|| ApiError::not_served("scrape pools"))?;
    let name = params.get("scrapePool");
    pools(name).ok_or_else(|| {
        let name = crate::params::quoted(name);
        ApiError::bad(format!(
            "error retrieving scrape config: scrape pool {name} not found"
        ))
    })
}

/// The parameter, which must be there.
fn given<'a>(params: &'a Params, name: &str) -> Result<&'a str, ApiError> {
    match params.get(name) {
        "" => Err(ApiError::bad(format!("no {name} parameter provided"))),
        text => Ok(text),
    }
}

pub(super) async fn scrape_pool_config(
    State(api): State<Api>,
    params: Params,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Config {
        yaml: String,
    }
    given(&params, "scrapePool")?;
    let ScrapePool { yaml, .. } = scrape_pool(&api, &params)?;
    success(&Config { yaml })
}

/// What each rule of a pool makes of a label set.
pub(super) async fn relabel_steps(
    State(api): State<Api>,
    params: Params,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Step<'a> {
        rule: &'a relabel::Config,
        output: Object<'a>,
        keep: bool,
    }
    #[derive(Serialize)]
    struct Steps<'a> {
        steps: Vec<Step<'a>>,
    }
    given(&params, "scrapePool")?;
    let labels: BTreeMap<String, String> = serde_json::from_str(given(&params, "labels")?)
        .map_err(|e| ApiError::bad(format!("error parsing labels: {e}")))?;
    let pool = scrape_pool(&api, &params)?;
    let mut now = Some(Labels::from_pairs(labels));
    let mut after = Vec::with_capacity(pool.relabel.len());
    for rule in &pool.relabel {
        // Only rules that compile come into force.
        let compiled = rule.compile(pool.scheme);
        let compiled = compiled.map_err(|e| ApiError::bad(e.to_string()))?;
        let rules = std::slice::from_ref(&compiled);
        now = now.and_then(|labels| relabel::process(&labels, rules));
        after.push(now.clone());
    }
    let nothing = Labels::default();
    let steps = pool.relabel.iter().zip(&after);
    let steps = steps.map(|(rule, after)| Step {
        rule,
        output: Object(after.as_ref().unwrap_or(&nothing)),
        keep: after.is_some(),
    });
    let steps = steps.collect();
    success(&Steps { steps })
}

#[derive(Serialize)]
struct Described<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    help: &'a str,
    unit: &'a str,
}

impl<'a> From<&'a Metadata> for Described<'a> {
    fn from(m: &'a Metadata) -> Self {
        Self {
            kind: m.kind.as_str(),
            help: &m.help,
            unit: &m.unit,
        }
    }
}

/// A count, none if the parameter is absent or negative.
fn count(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    match params.get(name) {
        "" => Ok(None),
        text => match atoi(text) {
            Ok(n) => Ok(usize::try_from(n).ok()),
            Err(_) => Err(ApiError::bad(format!("{name} must be a number"))),
        },
    }
}

/// An optional metric name.
fn metric(params: &Params) -> Option<&str> {
    Some(params.get("metric")).filter(|m| !m.is_empty())
}

pub(super) async fn metadata(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let limit = count(&params, "limit")?.unwrap_or(usize::MAX);
    let each = match count(&params, "limit_per_metric")? {
        None | Some(0) => usize::MAX,
        Some(n) => n,
    };
    let metric = metric(&params).map(Str::from);
    let Answer {
        value: known,
        warnings,
    } = reports::metadata(&api, &params, metric, limit).await?;
    let shown: BTreeMap<&str, Vec<Described<'_>>> = known
        .iter()
        .take(limit)
        .map(|(name, all)| {
            (
                &**name,
                all.iter().take(each).map(Described::from).collect(),
            )
        })
        .collect();
    success_with(&shown, &warnings)
}

pub(super) async fn target_metadata(
    State(api): State<Api>,
    params: Params,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct OfTarget<'a> {
        target: Object<'a>,
        #[serde(rename = "metric", skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        #[serde(flatten)]
        described: Described<'a>,
    }
    let limit = count(&params, "limit")?.unwrap_or(usize::MAX);
    let matchers = match params.get("match_target") {
        "" => Vec::new(),
        text => promql::parse::parse_selector(text)
            .map_err(|why| ApiError::param("match_target", why))?,
    };
    let metric = metric(&params);
    let known = metadata_report(&api)?.target_metadata(&matchers, metric);
    let shown: Vec<OfTarget<'_>> = known
        .iter()
        .take(limit)
        .map(|(target, name, described)| OfTarget {
            target: Object(target),
            name: metric.is_none().then_some(&**name),
            described: described.into(),
        })
        .collect();
    success(&shown)
}

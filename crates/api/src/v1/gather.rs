//! What only a process over many stores is asked: Thanos' parameters, and `stores`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::report::Reports;
use model::scope::{Gather, PartialResponse};
use model::source::Shard;
use model::{Labels, Millis, Scope, Str, TimeRange};
use promql::value::QueryOptions;
use serde::{Deserialize, Serialize};
use wire::server::SubjectField;

use super::Api;
use super::targets::Object;
use super::time::Time;
use crate::error::{ApiError, success};
use crate::params::{Params, parse_duration};

/// A process that brings the answers of many stores together.
#[derive(Clone)]
pub struct Gathering {
    /// What to do by default when a part of the data cannot be had.
    pub partial_response: PartialResponse,
    /// Take coarser data for wide steps where a query does not say (`--query.auto-downsampling`).
    pub auto_downsampling: bool,
    /// The resolution of instant queries that do not say, ms.
    pub instant_resolution: Millis,
    /// The least step of a range query that has none, ms (`--query.default-step`).
    pub default_step: Millis,
    /// How far back questions about labels look that name no time, ms; 0: over all times
    /// (`--query.metadata.default-time-range`).
    pub label_range: Millis,
    /// The lookback, ms, if it is wider over coarse samples (`--query.dynamic-lookback-delta`).
    pub dynamic_lookback: Option<Millis>,
    /// The header that names the tenant.
    pub tenant_header: String,
    /// The tenant of requests without it.
    pub default_tenant: String,
    /// The part of the client's certificate that names the tenant, whatever the header says
    /// (`--query.tenant-certificate-field`).
    pub tenant_field: Option<SubjectField>,
    /// The stores as they are known now.
    pub stores: Arc<dyn Fn() -> Vec<StoreStatus> + Send + Sync>,
    /// Rules, targets, metadata, exemplars and cardinality of all of them.
    pub reports: Arc<dyn Reports>,
    /// What to do by default when a part of those cannot be had.
    pub partial_reports: PartialReports,
}

/// What to do by default when a part of a report cannot be had (`--rule.partial-response` and its
/// kin).
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the reports' own names")]
pub struct PartialReports {
    pub rules: PartialResponse,
    pub targets: PartialResponse,
    pub metadata: PartialResponse,
    pub exemplars: PartialResponse,
    pub statistics: PartialResponse,
}

impl Gathering {
    /// How far back an instant selector looks over samples of a resolution: at least as far as the
    /// distance of two of them, ms.
    pub fn lookback_at(&self, resolution: Millis) -> Option<Millis> {
        lookback_at(self.dynamic_lookback, resolution)
    }
}

pub(crate) fn lookback_at(lookback: Option<Millis>, resolution: Millis) -> Option<Millis> {
    let least = [3_600_000, 300_000]
        .into_iter()
        .find(|r| *r <= resolution)?;
    lookback.filter(|lookback| *lookback < least).map(|_| least)
}

/// What is known of a store.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    /// `sidecar`, `store`, ...; empty if it never answered.
    pub component: String,
    /// Its address.
    pub name: String,
    /// When it was asked last, ms.
    pub last_check: Millis,
    /// Why it did not answer.
    pub last_error: Option<String>,
    /// Label sets of its series.
    pub label_sets: Vec<Labels>,
    /// Its oldest sample, ms.
    pub min_time: Millis,
    /// Its newest sample, ms.
    pub max_time: Millis,
}

/// Takes Thanos' parameters over into the options of a query; `step` is that of a range query.
pub(super) fn apply(
    api: &Api,
    params: &Params,
    step: Option<Millis>,
    options: &mut QueryOptions,
) -> Result<(), ApiError> {
    let Some(gathering) = &api.gathering else {
        return Ok(());
    };
    (options.gather, options.partial_response) = gather(gathering, params, step)?;
    options.tenant = Some(tenant(gathering, params)?);
    if options.lookback.is_none() {
        options.lookback = gathering.lookback_at(options.gather.max_resolution);
    }
    Ok(())
}

/// The range of a question about labels: where neither end is given, a process over many stores may
/// look at the newest data alone.
pub(super) fn range(api: &Api, params: &Params) -> Result<TimeRange, ApiError> {
    match &api.gathering {
        Some(g)
            if g.label_range > 0
                && params.get("start").is_empty()
                && params.get("end").is_empty() =>
        {
            let now = api.clock.now();
            Ok(TimeRange::new(now.saturating_sub(g.label_range), now))
        }
        _ => params.range(),
    }
}

/// The same for requests that are no expressions.
pub(super) fn scope(api: &Api, params: &Params, scope: &mut model::Scope) -> Result<(), ApiError> {
    let Some(gathering) = &api.gathering else {
        return Ok(());
    };
    (scope.gather, scope.partial_response) = gather(gathering, params, None)?;
    scope.tenant = Some(tenant(gathering, params)?);
    Ok(())
}

/// The scope of a report. Thanos takes none of these parameters here; leaving them out gives what
/// it gives.
pub(super) fn report_scope(
    api: &Api,
    gathering: &Gathering,
    params: &Params,
    range: TimeRange,
    default: PartialResponse,
) -> Result<Arc<Scope>, ApiError> {
    let mut scope = Scope::new(range, Arc::clone(&api.budget)).with_timeout(api.timeout);
    (scope.gather, _) = gather(gathering, params, None)?;
    scope.partial_response = partial_response(params, default)?;
    scope.tenant = Some(tenant(gathering, params)?);
    Ok(Arc::new(scope))
}

fn partial_response(
    params: &Params,
    default: PartialResponse,
) -> Result<PartialResponse, ApiError> {
    let default = default == PartialResponse::Warn;
    Ok(match switch(params, "partial_response", default)? {
        true => PartialResponse::Warn,
        false => PartialResponse::Abort,
    })
}

fn gather(
    gathering: &Gathering,
    params: &Params,
    step: Option<Millis>,
) -> Result<(Gather, PartialResponse), ApiError> {
    let replica_labels = if !switch(params, "dedup", true)? {
        Some(Arc::from([]))
    } else {
        let named: Vec<Str> = params.all("replicaLabels[]").map(Str::from).collect();
        (!named.is_empty()).then(|| Arc::from(named))
    };
    let stores = params
        .all("storeMatch[]")
        .map(|text| {
            promql::parse::parse_selector(text)
                .map_err(|e| ApiError::param("storeMatch[]", e.to_string()))
        })
        .collect::<Result<_, _>>()?;
    let auto = step.map_or(gathering.instant_resolution, |step| step / 5);
    let max_resolution = match params.get("max_source_resolution") {
        "" if gathering.auto_downsampling => auto,
        "" => 0,
        "auto" => auto,
        text => {
            parse_duration(text).map_err(|why| ApiError::param("max_source_resolution", why))?
                / 1_000_000
        }
    };
    if max_resolution < 0 {
        let why = "negative 'max_source_resolution' is not accepted. Try a positive integer";
        return Err(ApiError::bad(why));
    }
    let partial_response = partial_response(params, gathering.partial_response)?;
    let gather = Gather {
        replica_labels,
        stores,
        max_resolution,
        shard: shard(params)?,
    };
    Ok((gather, partial_response))
}

/// `shard_info`: one part of the series, as a frontend deals queries out.
fn shard(params: &Params) -> Result<Option<Shard>, ApiError> {
    match params.get("shard_info") {
        "" => Ok(None),
        text => read_shard(text).map_err(|e| ApiError::param("shard_info", e)),
    }
}

fn read_shard(text: &str) -> Result<Option<Shard>, serde_json::Error> {
    // Go leaves out what is zero: the first part has no index.
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Info {
        shard_index: u64,
        total_shards: u64,
        by: bool,
        labels: Option<Vec<String>>,
    }
    let info: Info = serde_json::from_str(text)?;
    let labels = info.labels.unwrap_or_default();
    Ok((info.total_shards > 0).then(|| Shard {
        index: info.shard_index,
        total: info.total_shards,
        by: info.by,
        labels: labels.iter().map(|l| Str::from(l.as_str())).collect(),
    }))
}

fn tenant(gathering: &Gathering, params: &Params) -> Result<Str, ApiError> {
    if let Some(field) = gathering.tenant_field {
        let shown = params.certificate().and_then(|c| c.subject(field));
        return match shown.filter(|t| !t.is_empty()) {
            Some(tenant) => Ok(tenant.into()),
            None => Err(ApiError::bad(
                "could not get required certificate field from client cert",
            )),
        };
    }
    let sent = |name: &'static str| params.header(name).filter(|t| !t.is_empty());
    // The name that Thanos' components use among each other counts, too.
    let tenant = params
        .header(&gathering.tenant_header)
        .filter(|t| !t.is_empty())
        .or_else(|| sent("thanos-tenant"));
    Ok(tenant.unwrap_or(&gathering.default_tenant).into())
}

/// A text as Go's `strconv.ParseBool` reads it; none where that fails.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn switch(params: &Params, name: &str, default: bool) -> Result<bool, ApiError> {
    match params.get(name) {
        "" => Ok(default),
        other => boolean(other).ok_or_else(|| {
            let text = crate::params::quoted(other);
            ApiError::param(
                name,
                format!("strconv.ParseBool: parsing {text}: invalid syntax"),
            )
        }),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Store<'a> {
    name: &'a str,
    last_check: Time,
    last_error: Option<&'a str>,
    label_sets: Vec<Object<'a>>,
    min_time: Millis,
    max_time: Millis,
}

pub(super) async fn stores(State(api): State<Api>) -> Result<Response, ApiError> {
    let gathering = api
        .gathering
        .as_ref()
        .ok_or_else(|| ApiError::not_served("stores"))?;
    let all = (gathering.stores)();
    let mut by_component: BTreeMap<&str, Vec<Store<'_>>> = BTreeMap::new();
    for store in &all {
        let component = if store.component.is_empty() {
            "unknown"
        } else {
            &store.component
        };
        by_component.entry(component).or_default().push(Store {
            name: &store.name,
            last_check: Time(store.last_check),
            last_error: store.last_error.as_deref(),
            label_sets: store.label_sets.iter().map(Object).collect(),
            min_time: store.min_time,
            max_time: store.max_time,
        });
    }
    success(&by_component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_go_writes_them() {
        let first = read_shard(r#"{"total_shards":2,"labels":["pod"]}"#);
        let first = first.unwrap().unwrap();
        assert_eq!((first.index, first.total, first.by), (0, 2, false));
        let second = read_shard(r#"{"shard_index":1,"total_shards":2,"by":true,"labels":null}"#);
        let second = second.unwrap().unwrap();
        assert_eq!((second.index, second.by, second.labels.len()), (1, true, 0));
        assert!(read_shard("{}").unwrap().is_none());
        assert!(read_shard(r#"{"total_shards":-1}"#).is_err());
    }
}

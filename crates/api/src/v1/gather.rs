//! What only a process over many stores is asked: Thanos' parameters, and `stores`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::scope::{Gather, PartialResponse};
use model::{Labels, Millis, Str};
use promql::value::QueryOptions;
use serde::Serialize;

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
    /// The header that names the tenant.
    pub tenant_header: String,
    /// The tenant of requests without it.
    pub default_tenant: String,
    /// The stores as they are known now.
    pub stores: Arc<dyn Fn() -> Vec<StoreStatus> + Send + Sync>,
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
    options.tenant = Some(tenant(gathering, params));
    Ok(())
}

/// The same for requests that are no expressions.
pub(super) fn scope(api: &Api, params: &Params, scope: &mut model::Scope) -> Result<(), ApiError> {
    let Some(gathering) = &api.gathering else {
        return Ok(());
    };
    (scope.gather, scope.partial_response) = gather(gathering, params, None)?;
    scope.tenant = Some(tenant(gathering, params));
    Ok(())
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
    let auto = match step {
        Some(step) => step / 5,
        None => 0,
    };
    let max_resolution = match params.get("max_source_resolution") {
        "" if gathering.auto_downsampling && step.is_some() => auto,
        "" if step.is_none() => gathering.instant_resolution,
        "" => 0,
        "auto" => auto,
        text => {
            parse_duration(text).map_err(|why| ApiError::param("max_source_resolution", why))?
                / 1_000_000
        }
    };
    let default = gathering.partial_response == PartialResponse::Warn;
    let partial_response = match switch(params, "partial_response", default)? {
        true => PartialResponse::Warn,
        false => PartialResponse::Abort,
    };
    let gather = Gather {
        replica_labels,
        stores,
        max_resolution,
    };
    Ok((gather, partial_response))
}

fn tenant(gathering: &Gathering, params: &Params) -> Str {
    let sent = params
        .header(&gathering.tenant_header)
        .filter(|t| !t.is_empty());
    sent.unwrap_or(&gathering.default_tenant).into()
}

/// A parameter as Go's `strconv.ParseBool` reads it.
fn switch(params: &Params, name: &str, default: bool) -> Result<bool, ApiError> {
    match params.get(name) {
        "" => Ok(default),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(ApiError::param(
            name,
            format!(
                "strconv.ParseBool: parsing {}: invalid syntax",
                crate::params::quoted(other)
            ),
        )),
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

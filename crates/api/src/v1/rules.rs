//! `rules`, `alerts`, `alertmanagers`.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;
use model::owner;
use model::report::{AlertStatus, RuleGroupStatus, RuleKind, RuleStatus};
use model::scope::PartialResponse;
use model::text::format_e;
use model::{Answer, Labels, Matcher};
use serde::Serialize;

use super::targets::Object;
use super::time::Time;
use super::{Api, reports};
use crate::error::{ApiError, success, success_with};
use crate::json::Number;
use crate::params::{Params, atoi, quoted};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rules<'a> {
    groups: Vec<Group<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group<'a> {
    name: &'a str,
    file: &'a str,
    rules: Vec<Rule<'a>>,
    interval: Number,
    limit: usize,
    evaluation_time: Number,
    last_evaluation: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial_response_strategy: Option<&'static str>,
}

/// Thanos' word for what a group does with partial data, where it is told.
fn strategy(api: &Api, group: &RuleGroupStatus) -> Option<&'static str> {
    let told = api.strategies || api.gathering.is_some();
    told.then_some(match group.partial_response {
        PartialResponse::Warn => "WARN",
        PartialResponse::Abort => "ABORT",
    })
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rule<'a> {
    #[serde(rename_all = "camelCase")]
    Alerting {
        state: &'static str,
        name: &'a str,
        query: &'a str,
        duration: Number,
        keep_firing_for: Number,
        labels: Object<'a>,
        annotations: Object<'a>,
        alerts: Option<Vec<Alert<'a>>>,
        health: &'static str,
        #[serde(skip_serializing_if = "str::is_empty")]
        last_error: &'a str,
        evaluation_time: Number,
        last_evaluation: Time,
        r#type: &'static str,
    },
    #[serde(rename_all = "camelCase")]
    Recording {
        name: &'a str,
        query: &'a str,
        #[serde(skip_serializing_if = "is_empty")]
        labels: Object<'a>,
        health: &'static str,
        #[serde(skip_serializing_if = "str::is_empty")]
        last_error: &'a str,
        evaluation_time: Number,
        last_evaluation: Time,
        r#type: &'static str,
    },
}

fn is_empty(labels: &Object<'_>) -> bool {
    labels.0.is_empty()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert<'a> {
    labels: Object<'a>,
    annotations: Object<'a>,
    state: &'static str,
    active_at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_since: Option<Time>,
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial_response_strategy: Option<&'static str>,
}

impl<'a> Alert<'a> {
    fn new(alert: &'a AlertStatus, strategy: Option<&'static str>) -> Self {
        Self {
            partial_response_strategy: strategy,
            labels: Object(&alert.labels),
            annotations: Object(&alert.annotations),
            state: alert.state.as_str(),
            active_at: Time(alert.active_at),
            keep_firing_since: alert.keep_firing_since.map(Time),
            value: format_e(alert.value, None),
        }
    }
}

fn seconds(ms: model::Millis) -> Number {
    Number(ms as f64 / 1000.0)
}

fn rule<'a>(status: &'a RuleStatus, with_alerts: bool, strategy: Option<&'static str>) -> Rule<'a> {
    match &status.kind {
        RuleKind::Alerting {
            state,
            hold,
            keep_firing_for,
            annotations,
            alerts,
        } => Rule::Alerting {
            state: state.as_str(),
            name: &status.name,
            query: &status.query,
            duration: seconds(*hold),
            keep_firing_for: seconds(*keep_firing_for),
            labels: Object(&status.labels),
            annotations: Object(annotations),
            alerts: with_alerts.then(|| alerts.iter().map(|a| Alert::new(a, strategy)).collect()),
            health: status.health.as_str(),
            last_error: &status.last_error,
            evaluation_time: Number(status.evaluation_time),
            last_evaluation: Time(status.last_evaluation),
            r#type: "alerting",
        },
        RuleKind::Recording => Rule::Recording {
            name: &status.name,
            query: &status.query,
            labels: Object(&status.labels),
            health: status.health.as_str(),
            last_error: &status.last_error,
            evaluation_time: Number(status.evaluation_time),
            last_evaluation: Time(status.last_evaluation),
            r#type: "recording",
        },
    }
}

/// Whether any of the lists selects a rule by its labels. A label that is a template has no value
/// to be selected by.
fn selected(labels: &Labels, lists: &[Vec<Matcher>]) -> bool {
    let matches = |matcher: &Matcher| {
        let value = labels.get(&matcher.name).unwrap_or("");
        !value.contains("{{") && matcher.matches(value)
    };
    lists.is_empty() || lists.iter().any(|list| list.iter().all(matches))
}

/// Where a page of groups begins.
fn token(group: &RuleGroupStatus) -> String {
    let key = format!("{};{}", group.file, group.name);
    format!("{:016x}", owner::key(&key))
}

fn pages(params: &Params) -> Result<(usize, &str), ApiError> {
    let token = params.url("group_next_token");
    let limit = match params.url("group_limit") {
        "" if token.is_empty() => 0,
        "" => {
            let why = "group_limit needs to be present in order to paginate over the groups";
            return Err(ApiError::param("group_next_token", why));
        }
        text => match atoi(text) {
            Ok(n) if n > 0 => usize::try_from(n).unwrap_or(usize::MAX),
            Ok(_) => {
                let why = "group_limit needs to be greater than 0";
                return Err(ApiError::param("group_limit", why));
            }
            Err(why) => {
                let why = format!("group_limit needs to be a valid number: {why}");
                return Err(ApiError::param("group_limit", why));
            }
        },
    };
    Ok((limit, token))
}

pub(super) async fn rules(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    params.whole()?;
    let names: BTreeSet<&str> = params.all("rule_name[]").collect();
    let groups: BTreeSet<&str> = params.all("rule_group[]").collect();
    let files: BTreeSet<&str> = params.all("file[]").collect();
    let matchers = params.selectors().map_err(ApiError::bad)?;
    let kind = params.url("type").to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        let why = format!("not supported value {}", quoted(&kind));
        return Err(ApiError::param("type", why));
    }
    let with_alerts = match params.url("exclude_alerts") {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => true,
        "1" | "t" | "T" | "true" | "TRUE" | "True" => false,
        other => {
            let why = format!(
                "error converting exclude_alerts: strconv.ParseBool: parsing {}: invalid syntax",
                quoted(other)
            );
            return Err(ApiError::param("exclude_alerts", why));
        }
    };
    let (limit, next) = pages(&params)?;
    let Answer {
        value: all,
        warnings,
    } = reports::rules(&api, &params).await?;
    let start = match next {
        "" => Some(0),
        next => all.iter().position(|group| token(group) == next),
    };
    let Some(start) = start else {
        let why = format!("invalid group_next_token '{next}'. were rule groups changed?");
        return Err(ApiError::param("group_next_token", why));
    };
    let takes = |set: &BTreeSet<&str>, name: &str| set.is_empty() || set.contains(name);
    let wanted = |status: &&RuleStatus| {
        let of_kind = match &status.kind {
            RuleKind::Alerting { .. } => kind != "record",
            RuleKind::Recording => kind != "alert",
        };
        of_kind && takes(&names, &status.name) && selected(&status.labels, &matchers)
    };
    let mut answer = Rules {
        groups: Vec::new(),
        group_next_token: None,
    };
    for group in all.get(start..).unwrap_or_default() {
        if !takes(&groups, &group.name) || !takes(&files, &group.file) {
            continue;
        }
        let strategy = strategy(&api, group);
        let rules: Vec<_> = group
            .rules
            .iter()
            .filter(wanted)
            .map(|status| rule(status, with_alerts, strategy))
            .collect();
        if rules.is_empty() {
            continue;
        }
        if limit > 0 && answer.groups.len() == limit {
            answer.group_next_token = Some(token(group));
            break;
        }
        answer.groups.push(Group {
            name: &group.name,
            file: &group.file,
            rules,
            interval: seconds(group.interval),
            limit: group.limit,
            evaluation_time: Number(group.evaluation_time),
            last_evaluation: Time(group.last_evaluation),
            partial_response_strategy: strategy,
        });
    }
    success_with(&answer, &warnings)
}

pub(super) async fn alerts(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Alerts<'a> {
        alerts: Vec<Alert<'a>>,
    }
    let Answer {
        value: groups,
        warnings,
    } = reports::rules(&api, &params).await?;
    let mut alerts = Vec::new();
    for group in &groups {
        let strategy = strategy(&api, group);
        for status in &group.rules {
            if let RuleKind::Alerting { alerts: active, .. } = &status.kind {
                alerts.extend(active.iter().map(|a| Alert::new(a, strategy)));
            }
        }
    }
    success_with(&Alerts { alerts }, &warnings)
}

pub(super) async fn alertmanagers(State(api): State<Api>) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Address {
        url: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Alertmanagers {
        active_alertmanagers: Vec<Address>,
        dropped_alertmanagers: Vec<Address>,
    }
    let known = api.alertmanagers.as_ref().map(|a| a.alertmanagers());
    let (active, dropped) = known.unwrap_or_default();
    let addresses = |urls: Vec<String>| urls.into_iter().map(|url| Address { url }).collect();
    success(&Alertmanagers {
        active_alertmanagers: addresses(active),
        dropped_alertmanagers: addresses(dropped),
    })
}

//! `search/metric_names`, `search/label_names` and `search/label_values`: names and values that look like
//! what is typed, in lines of JSON (`web/api/v1/search.go` of Prometheus; feature `search-api`).

mod score;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;
use model::report::Metadata;
use model::{Matcher, Str, TimeRange};

use self::score::{Algorithm, Filter};
use super::series::{Asked, open, united};
use super::{Api, gather};
use crate::error::{ApiError, ErrorType, mark_partial};
use crate::json;
use crate::params::{Params, atoi, quoted};

/// Most terms of a request: each costs something for every value.
const MOST_TERMS: usize = 32;
/// Answers, and answers a line, if nothing else is said.
const DEFAULT: usize = 100;

pub(super) async fn metric_names(
    State(api): State<Api>,
    params: Params,
) -> Result<Response, ApiError> {
    let search = Search::read(&api, &params, "metric_names")?;
    let described = boolean(&params, "include_metadata", false)?;
    let found = search.values(&api, &params, model::METRIC_NAME).await?;
    let mut known: BTreeMap<Str, Metadata> = BTreeMap::new();
    if described && let Some(report) = &api.metadata {
        for (name, list) in report.metadata(None) {
            if let Some(first) = list.into_iter().next() {
                known.entry(name).or_insert(first);
            }
        }
    }
    Ok(search.answer(found, |out, hit| {
        search.hit(out, "name", hit);
        let Some(metadata) = known.get(&hit.value) else {
            return;
        };
        let kind = metadata.kind.as_str();
        for (key, text) in [
            ("type", kind),
            ("help", &metadata.help),
            ("unit", &metadata.unit),
        ] {
            if !text.is_empty() {
                out.push(b',');
                json::string(out, key);
                out.push(b':');
                json::string(out, text);
            }
        }
    }))
}

pub(super) async fn label_names(
    State(api): State<Api>,
    params: Params,
) -> Result<Response, ApiError> {
    let search = Search::read(&api, &params, "label_names")?;
    let (view, scope) = open(&api, &params, search.range)?;
    let found = united(search.asked(), &scope, |select| view.label_names(select)).await?;
    Ok(search.answer(found, |out, hit| search.hit(out, "name", hit)))
}

pub(super) async fn label_values(
    State(api): State<Api>,
    params: Params,
) -> Result<Response, ApiError> {
    let search = Search::read(&api, &params, "label_values")?;
    let label = params.get("label");
    if label.is_empty() {
        return Err(ApiError::bad("missing required parameter \"label\""));
    }
    let found = search.values(&api, &params, label).await?;
    Ok(search.answer(found, |out, hit| search.hit(out, "value", hit)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
    Score,
}

/// What is searched for, and how the answer shall be.
struct Search {
    sets: Vec<Vec<Matcher>>,
    range: TimeRange,
    filter: Filter,
    order: Order,
    scores: bool,
    limit: usize,
    batch: usize,
}

/// Something that was found.
struct Hit {
    value: Str,
    score: f64,
}

impl Search {
    fn read(api: &Api, params: &Params, endpoint: &str) -> Result<Self, ApiError> {
        const HOUR: i64 = 3_600_000;
        let Some(most) = api.search else {
            return Err(ApiError::new(ErrorType::Unavailable, "search API disabled"));
        };
        params.whole()?;
        let now = api.clock.now();
        let start = params.time_or("start", now - HOUR)?;
        let end = params.time_or("end", now)?;
        if end < start {
            let why = "end timestamp must not be before start timestamp";
            return Err(ApiError::bad(why));
        }
        let sets = params.selectors().map_err(ApiError::bad)?;
        let terms: Vec<&str> = params.all("search[]").collect();
        if terms.len() > MOST_TERMS {
            let count = terms.len();
            return Err(ApiError::bad(format!(
                "too many search[] terms: got {count}, maximum is {MOST_TERMS}"
            )));
        }
        let threshold = match params.get("fuzz_threshold") {
            "" => 0,
            text => atoi(text)
                .ok()
                .filter(|n| (0..=100).contains(n))
                .ok_or_else(|| wrong("fuzz_threshold", text, "must be 0-100"))?,
        };
        let algorithm = match params.get("fuzz_alg") {
            "" | "subsequence" => Algorithm::Subsequence,
            "jarowinkler" => Algorithm::JaroWinkler,
            other => {
                return Err(ApiError::bad(format!(
                    "unsupported fuzz_alg {}: must be one of [subsequence jarowinkler]",
                    quoted(other)
                )));
            }
        };
        let sensitive = boolean(params, "case_sensitive", true)?;
        let scores = boolean(params, "include_score", false)?;
        let order = order(params, endpoint, !terms.is_empty())?;
        let count = |name: &str, default: usize| match params.get(name) {
            "" => Ok(default),
            text => atoi(text)
                .ok()
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| *n > 0)
                .ok_or_else(|| wrong(name, text, "must be a positive integer")),
        };
        let within = |n: usize| most == 0 || n <= most;
        let default = if within(DEFAULT) { DEFAULT } else { most };
        let limit = count("limit", default)?;
        if !within(limit) {
            return Err(ApiError::bad(format!(
                "limit {limit} exceeds the configured maximum ({most}, see --web.search.max-limit)"
            )));
        }
        Ok(Self {
            sets,
            range: TimeRange::new(start, end),
            filter: Filter::new(&terms, threshold as f64 / 100.0, algorithm, sensitive),
            order,
            scores,
            limit,
            batch: count("batch_size", DEFAULT)?,
        })
    }

    fn asked(&self) -> Asked {
        Asked {
            sets: self.sets.clone(),
            range: self.range,
            limit: 0,
        }
    }

    /// The values of a label.
    async fn values(
        &self,
        api: &Api,
        params: &Params,
        label: &str,
    ) -> Result<model::Answer<Vec<Str>>, ApiError> {
        let (view, scope) = open(api, params, self.range)?;
        let label: Str = label.into();
        let found = united(self.asked(), &scope, |select| {
            view.label_values(Arc::clone(&label), select)
        });
        Ok(found.await?)
    }

    /// What fits best, in lines: the first tells warnings, too, the last whether there is more.
    fn answer(
        &self,
        found: model::Answer<Vec<Str>>,
        mut write: impl FnMut(&mut Vec<u8>, &Hit),
    ) -> Response {
        let mut hits: Vec<Hit> = found
            .value
            .into_iter()
            .filter_map(|value| {
                let score = self.filter.score(&value)?;
                Some(Hit { value, score })
            })
            .collect();
        hits.sort_by(|a, b| match self.order {
            Order::Ascending => a.value.cmp(&b.value),
            Order::Descending => b.value.cmp(&a.value),
            Order::Score => b
                .score
                .total_cmp(&a.score)
                .then_with(|| a.value.cmp(&b.value)),
        });
        let more = hits.len() > self.limit;
        hits.truncate(self.limit);
        let mut warnings = found.warnings;
        warnings.sort();
        let mut out = Vec::new();
        // There is a first line even if nothing is found.
        let batches = hits.chunks(self.batch);
        let empty: &[Hit] = &[];
        let none = hits.is_empty().then_some(empty);
        for (i, batch) in batches.chain(none).enumerate() {
            out.extend_from_slice(b"{\"results\":[");
            for (i, hit) in batch.iter().enumerate() {
                out.extend_from_slice(if i > 0 { b",{" } else { b"{" });
                write(&mut out, hit);
                out.push(b'}');
            }
            out.push(b']');
            if i == 0 && !warnings.is_empty() {
                out.extend_from_slice(b",\"warnings\":");
                json::strings(&mut out, &warnings);
            }
            out.extend_from_slice(b"}\n");
        }
        let last = format!("{{\"status\":\"success\",\"has_more\":{more}}}\n");
        out.extend_from_slice(last.as_bytes());
        let kind = "application/x-ndjson; charset=utf-8";
        mark_partial(
            ([(header::CONTENT_TYPE, kind)], out).into_response(),
            &warnings,
        )
    }

    /// Writes the fields that every hit has.
    fn hit(&self, out: &mut Vec<u8>, key: &str, hit: &Hit) {
        json::string(out, key);
        out.push(b':');
        json::string(out, &hit.value);
        if self.scores {
            out.extend_from_slice(b",\"score\":");
            json::float(out, hit.score);
        }
    }
}

fn wrong(name: &str, text: &str, why: &str) -> ApiError {
    ApiError::bad(format!("invalid {name} {}: {why}", quoted(text)))
}

fn boolean(params: &Params, name: &str, default: bool) -> Result<bool, ApiError> {
    match params.get(name) {
        "" => Ok(default),
        text => gather::boolean(text).ok_or_else(|| wrong(name, text, "must be boolean")),
    }
}

fn order(params: &Params, endpoint: &str, searched: bool) -> Result<Order, ApiError> {
    let (by, direction) = (params.get("sort_by"), params.get("sort_dir"));
    match (by, direction) {
        ("", text) if !text.is_empty() => {
            Err(ApiError::bad("sort_dir is only valid when sort_by is set"))
        }
        ("score", text) if !text.is_empty() => {
            Err(ApiError::bad("sort_dir is not supported for sort_by=score"))
        }
        (_, text) if !matches!(text, "" | "asc" | "dsc") => {
            Err(wrong("sort_dir", text, "must be \"asc\" or \"dsc\""))
        }
        ("score", _) if !searched => {
            Err(ApiError::bad("sort_by=score requires search[] to be set"))
        }
        ("score", _) => Ok(Order::Score),
        ("alpha", "dsc") => Ok(Order::Descending),
        ("" | "alpha", _) => Ok(Order::Ascending),
        (other, _) => Err(ApiError::bad(format!(
            "invalid sort_by {} for {endpoint}: must be \"alpha\" or \"score\"",
            quoted(other)
        ))),
    }
}

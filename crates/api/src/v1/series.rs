//! `series`, `labels` and `label/{name}/values`: asked of the source itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::StreamExt as _;
use model::{
    Answer, Hints, LabelSelect, Labels, Matcher, Reservation, Rows, Scope, Select, SeriesBatch,
    SourceError, Str, TimeRange, View,
};

use super::{Api, gather};
use crate::encode::{self, Encode};
use crate::error::{ApiError, ErrorType, mark_partial, tail};
use crate::json;
use crate::params::{Params, quoted};

const TRUNCATED: &str = "results truncated due to limit";

pub(super) async fn label_names(
    State(api): State<Api>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let range = gather::range(&api, &params)?;
    let sets = params.selectors().map_err(ApiError::bad)?;
    let (view, scope) = open(&api, &params, range)?;
    let asked = Asked { sets, range, limit };
    names(asked, &scope, |select| view.label_names(select)).await
}

pub(super) async fn label_values(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let name = unescape_name(name);
    if name.is_empty() {
        let why = format!("invalid label name: {}", quoted(&name));
        return Err(ApiError::bad(why));
    }
    let limit = params.limit()?;
    let range = gather::range(&api, &params)?;
    let sets = params.selectors().map_err(ApiError::bad)?;
    let (view, scope) = open(&api, &params, range)?;
    let name: Str = name.into();
    let asked = Asked { sets, range, limit };
    names(asked, &scope, |select| {
        view.label_values(Arc::clone(&name), select)
    })
    .await
}

pub(super) async fn series(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    params.whole()?;
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad("no match[] parameter provided"));
    }
    let limit = params.limit()?;
    let range = gather::range(&api, &params)?;
    let sets = params
        .selectors()
        .map_err(|why| ApiError::param("match[]", why))?;
    let (view, scope) = open(&api, &params, range)?;
    let _guard = scope.cancel.on_drop();
    let mut found = Found::new(Arc::clone(&scope))?;
    // With several selectors a series may come more than once, so that no limit can be passed on.
    let at_most = if sets.len() == 1 { hint(limit) } else { 0 };
    for matchers in sets {
        let rows = view.select(Select {
            skip_chunks: true,
            hints: Hints {
                func: Some("series".into()),
                limit: at_most,
                ..Hints::default()
            },
            ..Select::new(matchers, range)
        });
        found = found.gather(rows, at_most).await?;
    }
    let (sets, warnings, held) = found.finish(limit).await?;
    let partial = warnings.clone();
    let encoder = SeriesEncoder {
        sets,
        warnings,
        at: 0,
        _held: held,
    };
    Ok(mark_partial(encode::respond(encoder), &partial))
}

/// Opens the source for one request.
fn open(
    api: &Api,
    params: &Params,
    range: TimeRange,
) -> Result<(Box<dyn View>, Arc<Scope>), ApiError> {
    let source = api
        .source
        .as_ref()
        .ok_or_else(|| ApiError::not_served("series"))?;
    let budget = api.budget.child("one request", api.budget.limit());
    let mut scope = Scope::new(range, budget).with_timeout(api.timeout);
    gather::scope(api, params, &mut scope)?;
    let scope = Arc::new(scope);
    Ok((source.open(Arc::clone(&scope))?, scope))
}

/// One more than wanted, to see whether there are more.
fn hint(limit: usize) -> usize {
    if limit == 0 {
        0
    } else {
        limit.saturating_add(1)
    }
}

struct Asked {
    sets: Vec<Vec<Matcher>>,
    range: TimeRange,
    limit: usize,
}

/// Asks once for each matcher list (once without any if there is none) and unites the answers.
async fn names<F>(
    asked: Asked,
    scope: &Arc<Scope>,
    ask: impl Fn(LabelSelect) -> F,
) -> Result<Response, ApiError>
where
    F: Future<Output = Result<Answer<Vec<Str>>, SourceError>>,
{
    let _guard = scope.cancel.on_drop();
    let Asked { sets, range, limit } = asked;
    let select = |matchers| LabelSelect {
        matchers,
        range,
        limit: hint(limit),
    };
    let mut sets = sets.into_iter();
    let first = sets.next().unwrap_or_default();
    let mut answer = ask(select(first)).await?;
    if sets.len() > 0 {
        let mut all: BTreeSet<Str> = answer.value.into_iter().collect();
        for matchers in sets {
            let more = ask(select(matchers)).await?;
            all.extend(more.value);
            for warning in more.warnings {
                if !answer.warnings.contains(&warning) {
                    answer.warnings.push(warning);
                }
            }
        }
        answer.value = all.into_iter().collect();
    }
    let (mut names, mut warnings) = (answer.value, answer.warnings);
    if limit > 0 && names.len() > limit {
        names.truncate(limit);
        warnings.push(TRUNCATED.into());
    }
    let partial = warnings.clone();
    let encoder = NamesEncoder {
        names,
        warnings,
        at: 0,
    };
    Ok(mark_partial(encode::respond(encoder), &partial))
}

/// `U__` and escapes (`_2f_` for `/`, `__` for `_`) stand for a name that does not fit into a
/// path; anything else is the name itself.
fn unescape_name(name: String) -> String {
    let Some(mut rest) = name.strip_prefix("U__") else {
        return name;
    };
    let mut out = String::with_capacity(rest.len());
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('_') {
            out.push('_');
            rest = tail;
            continue;
        }
        let decoded = rest.split_once('_').and_then(|(hex, tail)| {
            let valid = (1..=6).contains(&hex.len())
                && hex
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            let code = u32::from_str_radix(hex, 16).ok().filter(|_| valid)?;
            Some((char::from_u32(code)?, tail))
        });
        // What is no escape after all is the name as it was written.
        let Some((c, tail)) = decoded else {
            return name;
        };
        out.push(c);
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// Label sets found so far, with the memory they hold.
struct Found {
    scope: Arc<Scope>,
    held: Reservation,
    sets: Vec<Labels>,
    warnings: Vec<Str>,
}

impl Found {
    fn new(scope: Arc<Scope>) -> Result<Self, ApiError> {
        let held = scope.budget.reserve("label sets", 0);
        Ok(Self {
            held: held.map_err(SourceError::from)?,
            scope,
            sets: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// Adds all label sets of `rows`, or so many that `at_most` (unless 0) is reached.
    async fn gather(mut self, rows: Rows, at_most: usize) -> Result<Self, ApiError> {
        match rows {
            Rows::Stream(mut batches) => {
                while let Some(batch) = batches.next().await {
                    self.add(&batch?)?;
                    if self.is_enough(at_most) {
                        break;
                    }
                }
                Ok(self)
            }
            Rows::Cursors(cursors) => {
                on_pool(move || {
                    for mut cursor in cursors {
                        while let Some(batch) = cursor.next()? {
                            self.add(&batch)?;
                            if self.is_enough(at_most) {
                                return Ok(self);
                            }
                        }
                    }
                    Ok(self)
                })
                .await
            }
        }
    }

    fn is_enough(&self, at_most: usize) -> bool {
        at_most > 0 && self.sets.len() >= at_most
    }

    fn add(&mut self, batch: &SeriesBatch) -> Result<(), SourceError> {
        self.scope.check()?;
        let before = self.sets.len();
        for i in 0..batch.len() {
            self.sets.push(batch.label_set(i, &self.scope.symbols));
        }
        let bytes: usize = self.sets[before..]
            .iter()
            .map(|labels| labels.as_bytes().len() + 2 * size_of::<usize>() + size_of::<Labels>())
            .sum();
        self.held.grow("label sets", bytes as u64)?;
        for warning in &batch.warnings {
            if !self.warnings.contains(warning) {
                self.warnings.push(Arc::clone(warning));
            }
        }
        Ok(())
    }

    /// Sorted, each once, at most `limit` unless 0.
    async fn finish(
        mut self,
        limit: usize,
    ) -> Result<(Vec<Labels>, Vec<Str>, Reservation), ApiError> {
        on_pool(move || {
            self.sets.sort_unstable();
            self.sets.dedup();
            if limit > 0 && self.sets.len() > limit {
                self.sets.truncate(limit);
                self.warnings.push(TRUNCATED.into());
            }
            Ok((self.sets, self.warnings, self.held))
        })
        .await
    }
}

async fn on_pool<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(panic) => Err(ApiError::new(ErrorType::Internal, panic.to_string())),
    }
}

const BEGIN: &[u8] = b"{\"status\":\"success\",\"data\":[";

struct NamesEncoder {
    names: Vec<Str>,
    warnings: Vec<Str>,
    at: usize,
}

impl Encode for NamesEncoder {
    fn fill(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        while let Some(name) = self.names.get(self.at) {
            if out.len() >= until {
                return false;
            }
            out.extend_from_slice(if self.at == 0 { BEGIN } else { b"," });
            json::string(out, name);
            self.at += 1;
        }
        if self.names.is_empty() {
            out.extend_from_slice(BEGIN);
        }
        out.push(b']');
        tail(out, &self.warnings, &[]);
        true
    }

    fn is_below(&self, bytes: usize) -> bool {
        self.names.len() * 16 < bytes
            && self.names.iter().map(|n| n.len() + 3).sum::<usize>() < bytes
    }
}

struct SeriesEncoder {
    sets: Vec<Labels>,
    warnings: Vec<Str>,
    at: usize,
    _held: Reservation,
}

impl Encode for SeriesEncoder {
    fn fill(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        while let Some(set) = self.sets.get(self.at) {
            if out.len() >= until {
                return false;
            }
            out.extend_from_slice(if self.at == 0 { BEGIN } else { b"," });
            json::labels(out, set);
            self.at += 1;
        }
        if self.sets.is_empty() {
            out.extend_from_slice(BEGIN);
        }
        out.push(b']');
        tail(out, &self.warnings, &[]);
        true
    }

    fn is_below(&self, bytes: usize) -> bool {
        self.sets.len() * 64 < bytes
            && self
                .sets
                .iter()
                .map(|s| s.as_bytes().len() + 8)
                .sum::<usize>()
                < bytes
    }
}

#[cfg(test)]
mod tests {
    use super::unescape_name;

    #[test]
    fn escaped_names() {
        for (escaped, name) in [
            ("job", "job"),
            ("U__http_2e_status:sum", "http.status:sum"),
            ("U__a__b", "a_b"),
            ("U___20ac_", "€"),
            ("U__x_zz_", "U__x_zz_"),
            ("U__x_2e", "U__x_2e"),
            ("U__x_d800_", "U__x_d800_"),
        ] {
            assert_eq!(unescape_name(escaped.to_owned()), name);
        }
    }
}

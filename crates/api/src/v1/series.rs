//! `series`, `labels` and `label/{name}/values`: asked of the source itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::StreamExt as _;
use model::{
    Answer, Cursor, Hints, LabelSelect, Matcher, Reservation, Rows, Scope, Select, SeriesBatch,
    SourceError, Str, Symbol, Symbols, TimeRange, View,
};

use super::{Api, gather};
use crate::encode::{self, Encode};
use crate::error::{ApiError, ErrorType, mark_partial, tail};
use crate::json;
use crate::params::{Params, quoted};

const TRUNCATED: &str = "results truncated due to limit";
/// So many bytes are read where the request is served: a fraction of a millisecond.
const AT_ONCE: usize = 192 << 10;

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
    let encoder = found.finish(limit).await?;
    let partial = encoder.found.warnings.clone();
    Ok(mark_partial(encode::respond(encoder), &partial))
}

/// Opens the source for one request.
pub(super) fn open(
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

/// What names or values are asked for.
pub(super) struct Asked {
    pub(super) sets: Vec<Vec<Matcher>>,
    pub(super) range: TimeRange,
    /// 0 for all.
    pub(super) limit: usize,
}

/// Asks once for each matcher list (once without any if there is none) and unites the answers.
pub(super) async fn united<F>(
    asked: Asked,
    scope: &Arc<Scope>,
    ask: impl Fn(LabelSelect) -> F,
) -> Result<Answer<Vec<Str>>, SourceError>
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
    Ok(answer)
}

/// The answer with all of [`united`], or as many as are asked for.
async fn names<F>(
    asked: Asked,
    scope: &Arc<Scope>,
    ask: impl Fn(LabelSelect) -> F,
) -> Result<Response, ApiError>
where
    F: Future<Output = Result<Answer<Vec<Str>>, SourceError>>,
{
    let limit = asked.limit;
    let answer = united(asked, scope, ask).await?;
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

/// Label sets as symbols of the request: no set is copied.
#[derive(Default)]
struct Sets {
    pairs: Vec<(Symbol, Symbol)>,
    /// Where each set ends.
    ends: Vec<u32>,
}

impl Sets {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn push(&mut self, labels: &[(Symbol, Symbol)]) {
        let there = labels.iter().filter(|(_, value)| *value != Symbol::EMPTY);
        self.pairs.extend(there);
        self.ends.push(self.pairs.len() as u32);
    }

    fn range(&self, i: u32) -> std::ops::Range<usize> {
        let i = i as usize;
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        start as usize..self.ends[i] as usize
    }

    fn bytes(&self) -> u64 {
        // What orders them is held beside them for a while.
        (self.pairs.len() * 16 + self.ends.len() * 8) as u64
    }

    /// The numbers of all sets in their order, each set once.
    fn ordered(&self, symbols: &Symbols) -> Vec<u32> {
        // Strings are compared once each: then their ranks stand for them.
        let mut distinct: Vec<Symbol> = self.pairs.iter().flat_map(|p| [p.0, p.1]).collect();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.sort_unstable_by(|a, b| symbols.get(*a).cmp(symbols.get(*b)));
        let mut ranks = vec![0u64; symbols.len()];
        for (symbol, rank) in distinct.iter().zip(0..) {
            ranks[symbol.0 as usize] = rank;
        }
        let rank = |symbol: Symbol| ranks[symbol.0 as usize];
        let ranked: Vec<u64> = self
            .pairs
            .iter()
            .map(|p| rank(p.0) << 32 | rank(p.1))
            .collect();
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_unstable_by(|a, b| ranked[self.range(*a)].cmp(&ranked[self.range(*b)]));
        order.dedup_by(|a, b| self.pairs[self.range(*a)] == self.pairs[self.range(*b)]);
        order
    }
}

/// Label sets found so far, with the memory they hold.
struct Found {
    scope: Arc<Scope>,
    held: Reservation,
    sets: Sets,
    warnings: Vec<Str>,
}

impl Found {
    fn new(scope: Arc<Scope>) -> Result<Self, ApiError> {
        let held = scope.budget.reserve("label sets", 0);
        Ok(Self {
            held: held.map_err(SourceError::from)?,
            scope,
            sets: Sets::default(),
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
            Rows::Cursors(mut cursors) => {
                let ahead = cursors.iter_mut().map(|c| c.ahead());
                let bytes = ahead.map(|a| a.map_or(usize::MAX, |a| a.bytes));
                if bytes.fold(0, usize::saturating_add) <= AT_ONCE {
                    for cursor in cursors {
                        self.all_of(cursor, at_most)?;
                    }
                    return Ok(self);
                }
                let parts = cursors.into_iter().map(|cursor| {
                    let part = Self::new(Arc::clone(&self.scope));
                    async move {
                        let mut part = part?;
                        on_pool(move || part.all_of(cursor, at_most).map(|()| part)).await
                    }
                });
                for part in futures_util::future::try_join_all(parts).await? {
                    self.append(part)?;
                }
                Ok(self)
            }
        }
    }

    /// Adds all label sets of a cursor, or so many that `at_most` (unless 0) is reached.
    fn all_of(&mut self, mut cursor: Box<dyn Cursor>, at_most: usize) -> Result<(), SourceError> {
        while !self.is_enough(at_most)
            && let Some(batch) = cursor.next()?
        {
            self.add(&batch)?;
        }
        Ok(())
    }

    /// Adds what was found beside it.
    fn append(&mut self, part: Found) -> Result<(), SourceError> {
        for i in 0..part.sets.len() as u32 {
            self.sets.push(&part.sets.pairs[part.sets.range(i)]);
        }
        self.hold()?;
        for warning in part.warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        Ok(())
    }

    fn hold(&mut self) -> Result<(), SourceError> {
        if u32::try_from(self.sets.pairs.len()).is_err() {
            let why = "the selectors match too many series";
            return Err(SourceError::new(model::Kind::Limit, why));
        }
        Ok(self.held.resize("label sets", self.sets.bytes())?)
    }

    fn is_enough(&self, at_most: usize) -> bool {
        at_most > 0 && self.sets.len() >= at_most
    }

    fn add(&mut self, batch: &SeriesBatch) -> Result<(), SourceError> {
        self.scope.check()?;
        for i in 0..batch.len() {
            self.sets.push(batch.labels_of(i));
        }
        self.hold()?;
        for warning in &batch.warnings {
            if !self.warnings.contains(warning) {
                self.warnings.push(Arc::clone(warning));
            }
        }
        Ok(())
    }

    /// Sorted, each once, at most `limit` unless 0.
    async fn finish(mut self, limit: usize) -> Result<SeriesEncoder, ApiError> {
        on_pool(move || {
            let mut order = self.sets.ordered(&self.scope.symbols);
            if limit > 0 && order.len() > limit {
                order.truncate(limit);
                self.warnings.push(TRUNCATED.into());
            }
            Ok(SeriesEncoder {
                found: self,
                order,
                at: 0,
            })
        })
        .await
    }
}

async fn on_pool<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, ApiError> {
    match wire::aside(work).await {
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
    fn size(&self) -> usize {
        self.names.iter().map(|name| name.len() + 3).sum()
    }

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
}

struct SeriesEncoder {
    found: Found,
    order: Vec<u32>,
    at: usize,
}

impl Encode for SeriesEncoder {
    fn size(&self) -> usize {
        self.found.sets.pairs.len() * 40
    }

    fn fill(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        let (sets, symbols) = (&self.found.sets, &self.found.scope.symbols);
        while let Some(&set) = self.order.get(self.at) {
            if out.len() >= until {
                return false;
            }
            out.extend_from_slice(if self.at == 0 { BEGIN } else { b"," });
            let pairs = sets.pairs[sets.range(set)].iter();
            json::labels(out, pairs.map(|&(n, v)| (symbols.get(n), symbols.get(v))));
            self.at += 1;
        }
        if self.order.is_empty() {
            out.extend_from_slice(BEGIN);
        }
        out.push(b']');
        tail(out, &self.found.warnings, &[]);
        true
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

//! Label names and values: from the index-headers alone where no matcher is asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use model::{Answer, LabelSelect, Millis, SourceError, Str, TimeRange};
use tracing::Instrument as _;

use super::GatewayView;
use super::blocks::{Ask, Part};
use super::entries::SymbolMap;
use super::fetch::Query;
use crate::failure;

/// Blocks that are asked at once.
const AT_ONCE: usize = 16;
/// Series that are read at once.
const WINDOW: usize = 4096;

/// What is asked about labels.
#[derive(Clone)]
pub(super) enum Question {
    Names,
    Values(Str),
}

impl GatewayView {
    pub(super) fn names(
        &self,
        question: Question,
        select: LabelSelect,
    ) -> model::BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        let (parts, warnings) = match self.parts(select.range, &select.matchers, Millis::MAX) {
            Ok(parts) => parts,
            Err(e) => return Box::pin(std::future::ready(Err(e))),
        };
        let query = self.query();
        // Without matchers every series of a block counts, and the header tells what they have.
        let header_tells = select.matchers.is_empty();
        let task = async move {
            let mut found: BTreeSet<Str> = BTreeSet::new();
            let mut warnings = warnings;
            let asked = parts.into_iter().map(|part| {
                let (query, question) = (&query, &question);
                async move {
                    let answer = query.of_block(&part, question, header_tells).await;
                    (part.block.ulid(), answer)
                }
            });
            let mut asked = stream::iter(asked).buffer_unordered(AT_ONCE);
            while let Some((ulid, answer)) = asked.next().await {
                match answer {
                    Ok(strings) => found.extend(strings),
                    Err(e) => {
                        let what = format!("block {ulid}");
                        warnings.push(failure::tolerate(&query.scope, &what, e)?);
                    }
                }
            }
            let limit = match select.limit {
                0 => usize::MAX,
                n => n,
            };
            Ok(Answer {
                value: found.into_iter().take(limit).collect(),
                warnings,
            })
        };
        let span = tracing::info_span!("bucket_store_label_names");
        let task = AbortOnDrop(self.inner.runtime.spawn(task.instrument(span)));
        Box::pin(async move {
            let mut task = task;
            match (&mut task.0).await {
                Ok(answer) => answer,
                Err(e) => Err(SourceError::new(model::Kind::Internal, e.to_string())),
            }
        })
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Query {
    async fn of_block(
        &self,
        part: &Part,
        question: &Question,
        header_tells: bool,
    ) -> Result<BTreeSet<Str>, SourceError> {
        self.scope.check()?;
        if let Question::Values(name) = question
            && let Some(value) = part.external.get(name)
        {
            // Every series of the block has it, if any satisfies the matchers.
            let any = header_tells || !self.ids(part).await?.is_empty();
            return Ok(any.then(|| value.into()).into_iter().collect());
        }
        let external = part.external.iter().map(|(name, _)| Str::from(name));
        let mut found: BTreeSet<Str> = BTreeSet::new();
        if header_tells {
            let header = self.header(&part.block).await?;
            match question {
                Question::Names => {
                    found.extend(header.table.names().map(Str::from));
                    found.extend(external);
                }
                Question::Values(name) => {
                    let values = header.table.values(name, "");
                    found.extend(values.map(|(value, _)| Str::from(value)));
                }
            }
            return Ok(found);
        }
        self.of_series(part, question, &mut found).await?;
        Ok(found)
    }

    async fn ids(&self, part: &Part) -> Result<Vec<u32>, SourceError> {
        let header = self.header(&part.block).await?;
        let matchers = Arc::clone(&part.matchers);
        let resolved = self.resolve(part.block.ulid(), &header, matchers).await?;
        if resolved.rest.is_empty() {
            return Ok(resolved.ids);
        }
        let ask = Ask::labels_only();
        let reader = self.series_reader(part, &header, &ask, resolved.rest);
        let mut map = SymbolMap::default();
        for ids in resolved.ids.chunks(WINDOW) {
            let (entries, back) = reader.read(self, ids.to_vec(), map).await?;
            if entries.len() > 0 {
                return Ok(ids.to_vec());
            }
            map = back;
        }
        Ok(Vec::new())
    }

    async fn of_series(
        &self,
        part: &Part,
        question: &Question,
        found: &mut BTreeSet<Str>,
    ) -> Result<(), SourceError> {
        let header = self.header(&part.block).await?;
        let matchers = Arc::clone(&part.matchers);
        let resolved = self.resolve(part.block.ulid(), &header, matchers).await?;
        let ask = Ask::labels_only();
        let reader = self.series_reader(part, &header, &ask, resolved.rest);
        let symbols = &self.scope.symbols;
        let mut map = SymbolMap::default();
        let mut seen = BTreeSet::new();
        for ids in resolved.ids.chunks(WINDOW) {
            let (entries, back) = reader.read(self, ids.to_vec(), map).await?;
            map = back;
            for i in 0..entries.len() {
                for &(name, value) in entries.labels(i) {
                    match question {
                        Question::Names => drop(seen.insert(name)),
                        Question::Values(wanted) if symbols.get(name) == &**wanted => {
                            seen.insert(value);
                        }
                        Question::Values(_) => {}
                    }
                }
            }
        }
        found.extend(seen.into_iter().map(|s| symbols.get_shared(s)));
        Ok(())
    }
}

impl Ask {
    /// Labels of all series, whatever time they cover.
    fn labels_only() -> Self {
        Self {
            range: TimeRange::ALL,
            without: Vec::new(),
            shard: None,
            skip_chunks: true,
            aggregates: 0,
            limit: 0,
            window: 1 << 20,
        }
    }
}

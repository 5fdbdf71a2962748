//! Replicas become lanes of one series.
//!
//! The source below is asked for series in the order that they have without their replica labels.
//! Those with equal labels follow each other then; their chunks are dealt out to as few lanes as
//! possible: chunks that two replicas of the same store have in common are taken once, and what
//! covers different times shares a lane. Whoever opens the chunks deduplicates across lanes.

use std::sync::Arc;

use model::source::Projection;
use model::{
    Answer, BoxFuture, ChunkRef, Cursor, Extent, Kind, LabelSelect, Matcher, Order, Rows, Scope,
    Select, SeriesBatch, Source, SourceError, Str, View,
};
use tokio::runtime::Handle;

use crate::merge::{Input as _, Keyed};
use crate::pack::{Packer, keyed};
use crate::proxy::{Chain, RowsInput};
use crate::stream_of;

/// How replicas are found and united.
#[derive(Clone, Debug, Default)]
pub struct DedupOptions {
    /// Replica labels, unless a query names its own.
    pub replica_labels: Vec<Str>,
    /// Unite all samples (`chain`) instead of following one replica (`penalty`).
    pub chain: bool,
    /// Only series whose label of this name is the query's tenant are shown (`--query.enforce-tenancy`).
    pub tenant_label: Option<Str>,
}

/// A source whose replicas are deduplicated, unless a query asks for them as they are.
pub struct Deduplicated {
    inner: Arc<dyn Source>,
    options: Arc<DedupOptions>,
    runtime: Handle,
}

impl Deduplicated {
    /// `inner` without replicas.
    pub fn new(inner: Arc<dyn Source>, options: DedupOptions, runtime: Handle) -> Self {
        Self {
            inner,
            options: Arc::new(options),
            runtime,
        }
    }
}

impl Source for Deduplicated {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        let tenant = match &self.options.tenant_label {
            None => None,
            Some(label) => {
                let tenant = scope.tenant.clone().ok_or_else(|| {
                    SourceError::new(
                        Kind::Invalid,
                        "no tenant was given, and tenancy is enforced",
                    )
                })?;
                Some(Matcher::equal(Arc::clone(label), tenant))
            }
        };
        let replicas = match &scope.gather.replica_labels {
            Some(labels) => labels.to_vec(),
            None => self.options.replica_labels.clone(),
        };
        Ok(Box::new(DedupView {
            inner: self.inner.open(Arc::clone(&scope))?,
            replicas,
            chain: self.options.chain,
            tenant,
            scope,
            runtime: self.runtime.clone(),
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        self.inner.extent()
    }
}

struct DedupView {
    inner: Box<dyn View>,
    replicas: Vec<Str>,
    chain: bool,
    tenant: Option<Matcher>,
    scope: Arc<Scope>,
    runtime: Handle,
}

type Names = BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>>;

impl View for DedupView {
    fn select(&self, mut select: Select) -> Rows {
        select.matchers.extend(self.tenant.clone());
        if select.hints.shard.is_none() {
            select.hints.shard.clone_from(&self.scope.gather.shard);
        }
        if self.replicas.is_empty() {
            return self.inner.select(select);
        }
        let mut without = self.replicas.clone();
        if let Order::ByLabels { without: more } = &select.order {
            without.extend(more.iter().filter(|l| !self.replicas.contains(l)).cloned());
        }
        select.order = Order::ByLabels { without };
        let projection = std::mem::replace(&mut select.hints.projection, Projection::All);
        let limit = std::mem::take(&mut select.hints.limit);
        let mut fold = Fold {
            scope: Arc::clone(&self.scope),
            projection,
            left: if limit == 0 { usize::MAX } else { limit },
            chain: self.chain,
            group: Vec::new(),
            warnings: Vec::new(),
        };
        match self.inner.select(select) {
            Rows::Cursors(cursors) if cursors.is_empty() => Rows::empty(),
            Rows::Cursors(cursors) => Rows::Cursors(vec![Box::new(FoldedCursor {
                chain: Chain::new(cursors),
                fold: Some(fold),
            })]),
            rows => {
                let mut input = RowsInput::new("".into(), rows, self.runtime.clone());
                stream_of(&self.runtime, move |send| async move {
                    while fold.left > 0 {
                        let Some(batch) = input.next().await? else {
                            break;
                        };
                        let batch = fold.take(batch)?;
                        if let Some(batch) = batch
                            && send.send(Ok(batch)).await.is_err()
                        {
                            return Ok(());
                        }
                    }
                    input.close().await;
                    if let Some(batch) = fold.finish()? {
                        let _ = send.send(Ok(batch)).await;
                    }
                    Ok(())
                })
            }
        }
    }

    // Names and values are those of the stores, replica labels among them: as in Thanos.
    fn label_names(&self, mut select: LabelSelect) -> Names {
        select.matchers.extend(self.tenant.clone());
        self.inner.label_names(select)
    }

    fn label_values(&self, name: Str, mut select: LabelSelect) -> Names {
        select.matchers.extend(self.tenant.clone());
        self.inner.label_values(name, select)
    }
}

struct FoldedCursor {
    chain: Chain,
    fold: Option<Fold>,
}

impl Cursor for FoldedCursor {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        while let Some(fold) = &mut self.fold {
            let next = match fold.left {
                0 => None,
                _ => self.chain.next()?,
            };
            let batch = match next {
                Some(batch) => fold.take(keyed(batch))?,
                None => match self.fold.take() {
                    Some(fold) => return fold.finish(),
                    None => None,
                },
            };
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }
}

/// A series as it came: where its chunks are.
type Member = (Arc<Keyed>, usize);

struct Fold {
    scope: Arc<Scope>,
    projection: Projection,
    /// How many series may still be given.
    left: usize,
    chain: bool,
    /// Series with equal labels; more may come.
    group: Vec<Member>,
    warnings: Vec<Str>,
}

impl Fold {
    /// Takes a batch and gives what is complete with it: the last group waits.
    fn take(&mut self, mut batch: Keyed) -> Result<Option<SeriesBatch>, SourceError> {
        self.scope.check()?;
        self.warnings.append(&mut batch.batch.warnings);
        let batch = Arc::new(batch);
        let mut out = Packer::new(&self.scope)?;
        for row in 0..batch.batch.len() {
            if let Some((first, at)) = self.group.first() {
                let labels = first.batch.labels_of(*at);
                let order = self
                    .scope
                    .symbols
                    .compare(labels, batch.batch.labels_of(row));
                match order {
                    std::cmp::Ordering::Equal => {}
                    std::cmp::Ordering::Less => self.put(&mut out),
                    std::cmp::Ordering::Greater => {
                        let message = "series came out of order; an endpoint does not sort them";
                        return Err(SourceError::new(Kind::Corrupt, message));
                    }
                }
            }
            self.group.push((Arc::clone(&batch), row));
        }
        self.packed(out)
    }

    fn finish(mut self) -> Result<Option<SeriesBatch>, SourceError> {
        let mut out = Packer::new(&self.scope)?;
        self.put(&mut out);
        self.packed(out)
    }

    fn packed(&mut self, mut out: Packer) -> Result<Option<SeriesBatch>, SourceError> {
        out.batch.warnings.append(&mut self.warnings);
        if out.batch.is_empty() && out.batch.warnings.is_empty() {
            return Ok(None);
        }
        out.finish().map(Some)
    }

    /// Puts the group out as one series.
    fn put(&mut self, out: &mut Packer) {
        let group = std::mem::take(&mut self.group);
        let Some((first, row)) = group.first() else {
            return;
        };
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let labels = first.batch.labels_of(*row);
        match self.projection {
            Projection::All => out.batch.labels.extend_from_slice(labels),
            _ => {
                let keeps = |p: &&(_, _)| self.projection.keeps(self.scope.symbols.get(p.0));
                out.batch.labels.extend(labels.iter().filter(keeps));
            }
        }
        let start = out.batch.chunks.len();
        if group.len() == 1 && !self.chain {
            for chunk in first.batch.chunks_of(*row) {
                out.chunk(first, *chunk);
            }
        } else {
            for (lane, chunks) in lanes(&group).into_iter().enumerate() {
                // More lanes than that share the last.
                let lane = if self.chain {
                    0
                } else {
                    lane.min(u16::MAX as usize) as u16
                };
                for (from, chunk) in chunks {
                    out.chunk(from, ChunkRef { lane, ..chunk });
                }
            }
        }
        out.finish_series(start);
    }
}

type Lane<'a> = Vec<(&'a Arc<Keyed>, ChunkRef)>;

/// The chunks of a group as lanes that overlap, each as full as can be: a lane goes on where
/// another ends, and two that agree wherever they overlap are one (a replica in two stores).
fn lanes(group: &[Member]) -> Vec<Lane<'_>> {
    let mut apart: Vec<Lane<'_>> = Vec::new();
    for (from, row) in group {
        let of_lanes = from.batch.chunks_of(*row).chunk_by(|a, b| a.lane == b.lane);
        apart.extend(of_lanes.map(|of_lane| {
            of_lane
                .iter()
                .map(|chunk| (from, *chunk))
                .collect::<Lane<'_>>()
        }));
    }
    apart.sort_by_key(|lane| lane.first().map_or(i64::MAX, |(_, c)| c.min));
    let mut packed: Vec<(i64, Lane<'_>)> = Vec::new();
    for lane in apart {
        let new = |packed: &Lane<'_>, (from, chunk): &(&Arc<Keyed>, ChunkRef)| {
            !holds(packed, from, chunk)
        };
        let fits = |(end, chunks): &&mut (i64, Lane<'_>)| {
            let inside = lane.iter().take_while(|(_, c)| c.min <= *end);
            inside.into_iter().all(|c| !new(chunks, c))
        };
        let max = lane.iter().map(|(_, c)| c.max).max().unwrap_or(i64::MIN);
        match packed.iter_mut().filter(fits).max_by_key(|(end, _)| *end) {
            Some((end, chunks)) => {
                let more: Lane<'_> = lane.iter().filter(|c| new(chunks, c)).copied().collect();
                chunks.extend(more);
                *end = max.max(*end);
            }
            None => packed.push((max, lane)),
        }
    }
    // Every change from one lane to another costs a sample or two: the fullest comes first.
    let samples = |(from, chunk): &(&Arc<Keyed>, ChunkRef)| {
        chunk::sample_count(chunk.encoding, from.batch.bytes_of(chunk)).unwrap_or(0)
    };
    let cover = |lane: &Lane<'_>| lane.iter().map(samples).sum::<usize>();
    packed.sort_by_key(|(_, lane)| std::cmp::Reverse(cover(lane)));
    packed.into_iter().map(|(_, lane)| lane).collect()
}

/// Whether a lane has the very same chunk. Its chunks ascend by (min, max).
fn holds(lane: &Lane<'_>, from: &Arc<Keyed>, chunk: &ChunkRef) -> bool {
    let at = lane.partition_point(|(_, c)| (c.min, c.max) < (chunk.min, chunk.max));
    lane[at..]
        .iter()
        .take_while(|(_, c)| (c.min, c.max) == (chunk.min, chunk.max))
        .any(|(other, c)| {
            (c.encoding, c.aggregate, c.len) == (chunk.encoding, chunk.aggregate, chunk.len)
                && other.batch.bytes_of(c) == from.batch.bytes_of(chunk)
        })
}

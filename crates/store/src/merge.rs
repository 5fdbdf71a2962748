//! One stream of sorted series out of several.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use model::source::Projection;
use model::{ChunkRef, Scope, SeriesBatch, SourceError, Str, Symbol, Symbols};

use crate::failure;
use crate::pack::Packer;

type Pair = (Symbol, Symbol);

/// A batch of series, with the labels that were removed from each: these tell apart (and keep in
/// order) series whose other labels are equal.
#[derive(Debug, Default)]
pub(crate) struct Keyed {
    pub batch: SeriesBatch,
    /// Removed labels of all series, one after the other.
    pub removed: Vec<Pair>,
    /// Where each series' removed labels end; empty if nothing was removed from any.
    pub removed_ends: Vec<u32>,
}

impl Keyed {
    fn removed_of(&self, i: usize) -> &[Pair] {
        let end = |i: usize| self.removed_ends.get(i).map_or(0, |e| *e as usize);
        let start = i.checked_sub(1).map_or(0, end);
        self.removed.get(start..end(i)).unwrap_or_default()
    }
}

impl From<SeriesBatch> for Keyed {
    fn from(batch: SeriesBatch) -> Self {
        Self {
            batch,
            ..Self::default()
        }
    }
}

/// Where batches come from: ascending by (labels, removed labels).
pub(crate) trait Input: Send {
    /// The next batch; none at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Keyed>, SourceError>> + Send;

    /// Its name, for warnings.
    fn name(&self) -> &str;

    /// Lets go of everything it holds.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// How series of different inputs meet that have equal labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unite {
    /// They are the same series: one entry.
    Same,
    /// Labels were removed, nobody knows which: what covers different times may be the same
    /// series, what overlaps is a replica and stays apart.
    Disjoint,
}

/// What comes out.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub unite: Unite,
    pub projection: Projection,
    /// At most so many series; 0 means all.
    pub limit: usize,
    /// A batch ends with this many series,
    pub series: usize,
    /// or with this many bytes of chunks.
    pub bytes: u64,
}

struct Head {
    keyed: Arc<Keyed>,
    row: usize,
    input: usize,
    symbols: Arc<Symbols>,
}

impl Head {
    fn labels(&self) -> &[Pair] {
        self.keyed.batch.labels_of(self.row)
    }

    fn by_key(&self, other: &Head) -> Ordering {
        let labels = self.symbols.compare(self.labels(), other.labels());
        labels.then_with(|| {
            let (a, b) = (
                self.keyed.removed_of(self.row),
                other.keyed.removed_of(other.row),
            );
            self.symbols.compare(a, b)
        })
    }
}

/// A binary heap gives the greatest first; here that is the smallest key.
impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .by_key(self)
            .then_with(|| other.input.cmp(&self.input))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

/// A k-way merge.
pub(crate) struct Merge<I> {
    inputs: Vec<I>,
    heads: BinaryHeap<Head>,
    /// Inputs that have to be asked before the merge can go on.
    due: Vec<usize>,
    scope: Arc<Scope>,
    shape: Shape,
    given: usize,
    warnings: Vec<Str>,
}

impl<I: Input> Merge<I> {
    pub(crate) fn new(inputs: Vec<I>, scope: Arc<Scope>, shape: Shape, warnings: Vec<Str>) -> Self {
        Self {
            due: (0..inputs.len()).collect(),
            inputs,
            heads: BinaryHeap::new(),
            scope,
            shape,
            given: 0,
            warnings,
        }
    }

    /// The next batch; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        let mut out = Out::new(&self.scope)?;
        while !self.is_full() && !out.is_full(&self.shape) {
            self.refill().await?;
            let Some(first) = self.heads.pop() else {
                break;
            };
            let mut group = vec![first];
            // Everything that has the same key, or with removed labels the same labels.
            while let Some(next) = self.heads.peek()
                && self.belongs(&group[0], next)
            {
                group.extend(self.heads.pop());
            }
            if self.shape.unite == Unite::Disjoint {
                // The inputs may have more of the same labels right behind.
                self.collect_equal(&mut group).await?;
            }
            for member in &group {
                if self.shape.unite == Unite::Same {
                    self.due_after(member);
                }
            }
            self.given += out.add(&group, &self.shape, &self.scope);
        }
        out.0.batch.warnings.append(&mut self.warnings);
        if out.0.batch.is_empty() && out.0.batch.warnings.is_empty() {
            return Ok(None);
        }
        out.0.finish().map(Some)
    }

    /// Ends all inputs and lets go of what they gave.
    pub(crate) async fn close(&mut self) {
        self.heads.clear();
        for input in &mut self.inputs {
            input.close().await;
        }
    }

    fn is_full(&self) -> bool {
        self.shape.limit > 0 && self.given >= self.shape.limit
    }

    fn belongs(&self, first: &Head, next: &Head) -> bool {
        match self.shape.unite {
            Unite::Same => first.by_key(next) == Ordering::Equal,
            Unite::Disjoint => self.equal_labels(first, next),
        }
    }

    fn equal_labels(&self, a: &Head, b: &Head) -> bool {
        self.scope.symbols.compare(a.labels(), b.labels()) == Ordering::Equal
    }

    /// Puts the row behind `member` into the heap, or notes that its input is to be asked.
    fn due_after(&mut self, member: &Head) {
        let row = member.row + 1;
        if row < member.keyed.batch.len() {
            self.heads.push(Head {
                keyed: Arc::clone(&member.keyed),
                row,
                input: member.input,
                symbols: Arc::clone(&member.symbols),
            });
        } else {
            self.due.push(member.input);
        }
    }

    /// Adds to the group what follows its members in their inputs with the same labels.
    async fn collect_equal(&mut self, group: &mut Vec<Head>) -> Result<(), SourceError> {
        let mut from = 0;
        while from < group.len() {
            let until = group.len();
            for member in group.iter().skip(from) {
                self.due_after(member);
            }
            self.refill().await?;
            while let Some(next) = self.heads.peek()
                && self.equal_labels(&group[0], next)
            {
                group.extend(self.heads.pop());
            }
            from = until;
        }
        // By input, each input's in its own order: the sort is stable and pops came in order.
        group.sort_by_key(|head| head.input);
        Ok(())
    }

    /// Asks all inputs that are due, at once.
    async fn refill(&mut self) -> Result<(), SourceError> {
        while !self.due.is_empty() {
            self.scope.check()?;
            self.due.sort_unstable();
            let due = std::mem::take(&mut self.due);
            let asked = self.inputs.iter_mut().enumerate();
            let asked = asked.filter(|(i, _)| due.binary_search(i).is_ok());
            let answers = futures_util::future::join_all(
                asked.map(|(i, input)| async move { (i, input.next().await) }),
            )
            .await;
            for (input, answer) in answers {
                match answer {
                    Ok(Some(mut keyed)) => {
                        self.warnings.append(&mut keyed.batch.warnings);
                        if keyed.batch.is_empty() {
                            self.due.push(input);
                            continue;
                        }
                        self.heads.push(Head {
                            keyed: Arc::new(keyed),
                            row: 0,
                            input,
                            symbols: Arc::clone(&self.scope.symbols),
                        });
                    }
                    Ok(None) => {}
                    Err(e) => {
                        let name = self.inputs.get(input).map_or("", |i| i.name());
                        self.warnings.push(failure::tolerate(&self.scope, name, e)?);
                    }
                }
            }
        }
        self.warnings.dedup();
        Ok(())
    }
}

/// What comes out.
struct Out(Packer);

impl Out {
    fn new(scope: &Arc<Scope>) -> Result<Self, SourceError> {
        Packer::new(scope).map(Self)
    }

    fn is_full(&self, shape: &Shape) -> bool {
        self.0.batch.len() >= shape.series || self.0.bytes >= shape.bytes
    }

    /// Adds the members of a group, united as the shape says; returns how many series came of it.
    fn add(&mut self, group: &[Head], shape: &Shape, scope: &Scope) -> usize {
        if shape.unite == Unite::Same || group.len() == 1 {
            self.add_entry(group.iter(), shape, scope);
            return 1;
        }
        let mut lanes: Vec<Vec<&Head>> = Vec::new();
        for head in group {
            let fits = |lane: &&mut Vec<&Head>| {
                lane.iter().all(|other| {
                    other.input != head.input
                        && !span(other)
                            .is_some_and(|o| span(head).is_some_and(|h| h.0 <= o.1 && o.0 <= h.1))
                })
            };
            match lanes.iter_mut().find(fits) {
                Some(lane) => lane.push(head),
                None => lanes.push(vec![head]),
            }
        }
        for lane in &lanes {
            self.add_entry(lane.iter().copied(), shape, scope);
        }
        lanes.len()
    }

    fn add_entry<'a>(
        &mut self,
        members: impl Iterator<Item = &'a Head> + Clone,
        shape: &Shape,
        scope: &Scope,
    ) {
        let Some(first) = members.clone().next() else {
            return;
        };
        let out = &mut self.0;
        let keeps = |(name, _): &&Pair| shape.projection.keeps(scope.symbols.get(*name));
        match shape.projection {
            Projection::All => out.batch.labels.extend_from_slice(first.labels()),
            _ => out.batch.labels.extend(first.labels().iter().filter(keeps)),
        }
        let start = out.batch.chunks.len();
        let mut lanes = 0;
        for head in members {
            let base = match shape.unite {
                Unite::Same => 0,
                // Whether they are parts of one replica is found out by whoever knows all of them.
                Unite::Disjoint => lanes,
            };
            for chunk in head.keyed.batch.chunks_of(head.row) {
                let lane = chunk.lane.saturating_add(base);
                lanes = lanes.max(lane.saturating_add(1));
                out.chunk(&head.keyed, ChunkRef { lane, ..*chunk });
            }
        }
        out.finish_series(start);
    }
}

/// The time that the chunks of a series cover.
fn span(head: &Head) -> Option<(i64, i64)> {
    let chunks = head.keyed.batch.chunks_of(head.row);
    let min = chunks.iter().map(|c| c.min).min()?;
    let max = chunks.iter().map(|c| c.max).max()?;
    Some((min, max))
}

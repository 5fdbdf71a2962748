use std::sync::Arc;

use model::{Cursor, Reservation, SeriesBatch, SourceError};

use super::fetch::Fetcher;
use super::found::Found;
use super::list::{Lister, Shared};

/// A batch has so many series at most, and stops growing at so many chunks: a query over little
/// time gets thousands of series at once, one over much time a few dozen.
const BATCH_SERIES: usize = 2048;
const BATCH_CHUNKS: usize = 4096;

/// Nothing to find, but whoever asks may have been too late.
pub(super) struct Checked(Arc<Shared>);

impl Checked {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl Cursor for Checked {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        self.0.pinned.scope.check()?;
        Ok(None)
    }
}

/// Series as the blocks have them: in the order of their labels.
pub(super) struct Plain {
    lister: Lister,
    fetcher: Fetcher,
    found: Found,
    more: bool,
}

impl Plain {
    pub(super) fn new(lister: Lister) -> Self {
        Self {
            fetcher: Fetcher::new(Arc::clone(&lister.shared)),
            lister,
            found: Found::default(),
            more: true,
        }
    }
}

impl Cursor for Plain {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        while self.more {
            self.lister.shared.pinned.scope.check()?;
            self.found.clear();
            self.more = self
                .lister
                .fill(&mut self.found, BATCH_SERIES, BATCH_CHUNKS, true)?;
            let batch = self
                .fetcher
                .batch(&self.found, 0..self.found.len() as u32)?;
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }
}

/// Series sorted again after labels were removed. All of them are listed before the first chunk is
/// read; the list counts in the budget.
pub(super) struct Sorting {
    lister: Lister,
    fetcher: Fetcher,
    sorted: Option<Sorted>,
}

struct Sorted {
    found: Found,
    order: Vec<u32>,
    next: usize,
    _reservation: Reservation,
}

impl Sorting {
    pub(super) fn new(lister: Lister) -> Self {
        Self {
            fetcher: Fetcher::new(Arc::clone(&lister.shared)),
            lister,
            sorted: None,
        }
    }

    fn sort(&mut self) -> Result<Sorted, SourceError> {
        let shared = Arc::clone(&self.lister.shared);
        let scope = &shared.pinned.scope;
        let mut reservation = scope.budget.reserve("sorting series", 0)?;
        let mut all = Found::default();
        let mut more = true;
        while more {
            scope.check()?;
            let target = all.len() + BATCH_SERIES;
            more = self.lister.fill(&mut all, target, usize::MAX, false)?;
            reservation.resize("sorting series", all.bytes() + all.len() as u64 * 4)?;
        }
        // Remove what is not to be compared, then sort; what is only not shown goes after that.
        let symbols = &scope.symbols;
        let mut compared = shared.compared();
        strip(&mut all, |name| compared.keeps(name, symbols));
        let mut order: Vec<u32> = (0..all.len() as u32).collect();
        order.sort_by(|&a, &b| {
            symbols.compare(all.labels_of(a as usize), all.labels_of(b as usize))
        });
        let mut shown = shared.shown();
        if !shown.everything() {
            strip(&mut all, |name| shown.keeps(name, symbols));
        }
        Ok(Sorted {
            found: all,
            order,
            next: 0,
            _reservation: reservation,
        })
    }
}

/// Removes labels from every series.
fn strip(found: &mut Found, mut keeps: impl FnMut(model::Symbol) -> bool) {
    let mut kept = 0;
    let mut from = 0;
    for i in 0..found.series.len() {
        let end = found.series[i].labels_end as usize;
        for at in from..end {
            let pair = found.labels[at];
            if keeps(pair.0) {
                found.labels[kept] = pair;
                kept += 1;
            }
        }
        from = end;
        found.series[i].labels_end = kept as u32;
    }
    found.labels.truncate(kept);
}

impl Cursor for Sorting {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        self.lister.shared.pinned.scope.check()?;
        let mut sorted = match self.sorted.take() {
            Some(sorted) => sorted,
            None => self.sort()?,
        };
        let mut result = None;
        while result.is_none() && sorted.next < sorted.order.len() {
            let rest = &sorted.order[sorted.next..];
            let mut chunks = 0;
            let count = rest
                .iter()
                .take(BATCH_SERIES)
                .take_while(|&&i| {
                    let fits = chunks < BATCH_CHUNKS;
                    chunks += sorted.found.chunks_of(i as usize).len();
                    fits
                })
                .count()
                .max(1);
            let part = &rest[..count.min(rest.len())];
            result = self.fetcher.batch(&sorted.found, part.iter().copied())?;
            sorted.next += part.len();
        }
        self.sorted = Some(sorted);
        Ok(result)
    }
}

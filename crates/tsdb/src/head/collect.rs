//! Dropping what lies in blocks by now, and the series that have nothing left.

use std::sync::atomic::Ordering;

use model::Millis;

use super::Head;
use super::page::PAGE;

/// What a garbage collection dropped.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// The numbers of the series that went, ascending.
    pub(crate) series: Vec<u32>,
    /// How many chunks went.
    pub(crate) chunks: usize,
}

impl Head {
    /// Drops the chunks that end before `before` and the series that then have none (but not those
    /// that were made since the last time). Nothing before `before` is taken any more.
    pub(crate) fn collect(&self, before: Millis) -> Collected {
        let timer = self.stats.head_gc.clone();
        let started = std::time::Instant::now();
        self.raise_min_valid(before);
        let mut collected = Collected::default();
        let mut candidates: Vec<u32> = Vec::new();
        let low = self.isolation.low();
        for (number, page) in self.walk() {
            let page = &mut *page.0.lock();
            page.forget_seen(low);
            for slot in 0..page.series.len() {
                collected.chunks += page.truncate(slot, before);
                let Some(Some(series)) = page.series.get_mut(slot) else {
                    continue;
                };
                let young = std::mem::take(&mut series.young);
                if !young && page.is_vacant(slot) {
                    candidates.push(number as u32 * PAGE + slot as u32);
                }
            }
        }
        if !candidates.is_empty() {
            self.remove(&candidates, &mut collected);
        }
        self.raise_min(before);
        self.skip_gap(before);
        self.stats.chunks.add(-(collected.chunks as i64));
        self.stats.chunks_removed.add(collected.chunks as u64);
        timer.observe_duration(started.elapsed());
        collected
    }

    fn remove(&self, candidates: &[u32], collected: &mut Collected) {
        let _closed = self.gate.write();
        let mut index = self.index.write();
        let mut pages = self.pages.write();
        let mut gone = Vec::with_capacity(candidates.len());
        let mut touched = Vec::new();
        let mut metadata = Vec::new();
        for &id in candidates {
            let (number, slot) = super::place(id);
            let Some(page) = pages.get(number) else {
                continue;
            };
            let mut page = page.0.lock();
            let Some(series) = page.get(slot).filter(|_| page.is_vacant(slot)) else {
                continue;
            };
            let pairs = page.labels(series);
            gone.push((id, index.hash_of(pairs)));
            touched.extend_from_slice(pairs);
            metadata.push(series.metadata);
            page.remove(slot);
        }
        index.remove(&gone, touched);
        metadata.into_iter().for_each(|n| self.metadata.release(n));
        pages.retain(|page| !page.0.lock().is_empty());
        self.stats.series.add(-(gone.len() as i64));
        self.stats.series_removed.add(gone.len() as u64);
        collected.series = gone.into_iter().map(|g| g.0).collect();
    }

    /// After a long silence (or a clock that jumped) the oldest sample is far from `before`.
    fn skip_gap(&self, before: Millis) {
        let far = |min: Millis| min.saturating_sub(before) > self.options.chunk_range;
        if self.oldest().is_some_and(far) {
            let _closed = self.gate.write();
            if let Some(min) = self.oldest() {
                self.min.store(min, Ordering::Release);
                self.tell_range();
            }
        } else if self.oldest().is_none() {
            let _closed = self.gate.write();
            if self.oldest().is_none() {
                self.min.store(Millis::MAX, Ordering::Release);
                self.max.store(Millis::MIN, Ordering::Release);
            }
        }
    }

    fn oldest(&self) -> Option<Millis> {
        self.walk()
            .filter_map(|(_, page)| {
                let page = page.0.lock();
                page.series
                    .iter()
                    .flatten()
                    .filter_map(|s| s.first_ts())
                    .min()
            })
            .min()
    }
}

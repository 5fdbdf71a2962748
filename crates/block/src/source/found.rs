use model::source::Projection;
use model::{SeriesEntry, Str, Symbol, Symbols};

use crate::index::ChunkMeta;

/// Series that were listed: labels and where their chunks are, not yet the chunks.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) series: Vec<SeriesEntry>,
    pub(super) labels: Vec<(Symbol, Symbol)>,
    pub(super) chunks: Vec<Place>,
}

/// Where a chunk is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) meta: ChunkMeta,
    /// The series' id in its block: tombstones are kept by it.
    pub(super) id: u32,
    /// Which block of the select.
    pub(super) block: u16,
    /// Whether some of its samples may be deleted.
    pub(super) touched: bool,
}

impl Found {
    pub(super) fn clear(&mut self) {
        self.series.clear();
        self.labels.clear();
        self.chunks.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Bytes of memory it uses.
    pub(super) fn bytes(&self) -> u64 {
        (size_of_val(self.series.as_slice())
            + size_of_val(self.labels.as_slice())
            + size_of_val(self.chunks.as_slice())) as u64
    }

    /// Ends a series, if it is wanted; else forgets what was pushed since the last one.
    pub(super) fn finish(&mut self, wanted: bool) {
        if wanted {
            self.series.push(SeriesEntry {
                labels_end: self.labels.len() as u32,
                chunks_end: self.chunks.len() as u32,
            });
        } else {
            let (labels, chunks) = self.ends(self.series.len());
            self.labels.truncate(labels);
            self.chunks.truncate(chunks);
        }
    }

    /// Where the labels and chunks of series `i` begin.
    fn ends(&self, i: usize) -> (usize, usize) {
        match i.checked_sub(1).and_then(|i| self.series.get(i)) {
            Some(e) => (e.labels_end as usize, e.chunks_end as usize),
            None => (0, 0),
        }
    }

    pub(super) fn labels_of(&self, i: usize) -> &[(Symbol, Symbol)] {
        &self.labels[self.ends(i).0..self.ends(i + 1).0]
    }

    pub(super) fn chunks_of(&self, i: usize) -> &[Place] {
        &self.chunks[self.ends(i).1..self.ends(i + 1).1]
    }
}

/// Which label names are shown, by symbol: a name is judged once.
#[derive(Debug)]
pub(super) struct Shown {
    without: Vec<Str>,
    projection: Projection,
    /// 0 not judged, 1 shown, 2 not shown; by symbol.
    judged: Vec<u8>,
}

impl Shown {
    pub(super) fn new(without: &[Str], projection: &Projection) -> Self {
        Self {
            without: without.to_vec(),
            projection: projection.clone(),
            judged: Vec::new(),
        }
    }

    /// Whether every label is shown.
    pub(super) fn everything(&self) -> bool {
        self.without.is_empty() && self.projection == Projection::All
    }

    pub(super) fn keeps_name(&self, name: &str) -> bool {
        self.without.iter().all(|w| **w != *name) && self.projection.keeps(name)
    }

    pub(super) fn keeps(&mut self, name: Symbol, symbols: &Symbols) -> bool {
        let i = name.0 as usize;
        // Names are interned early, so their numbers are small; one that is not is judged again.
        const MOST: usize = 1 << 16;
        if let Some(&known) = self.judged.get(i)
            && known != 0
        {
            return known == 1;
        }
        let keeps = self.keeps_name(symbols.get(name));
        if i < MOST {
            if self.judged.len() <= i {
                self.judged.resize(i + 1, 0);
            }
            self.judged[i] = if keeps { 1 } else { 2 };
        }
        keeps
    }
}

//! Samples of the log on their way into the head.
//!
//! The log has them scrape by scrape; a series is best given several at once, while it is in the
//! cache. So a worker keeps what it is given until there is much of it, and then goes through it by
//! page. A scrape has the series of a page in one run: runs are put in order, samples stay where they
//! are.

use std::sync::mpsc::SyncSender;

use model::Millis;

use crate::head::{Head, PAGE, ReplayRow, ReplayScratch};

pub(super) type OtherRows = Vec<ReplayRow>;

/// So many samples are kept before they are appended.
const KEPT: usize = 768 << 10;
/// So many lists are kept to be filled again.
pub(super) const LISTS: usize = KEPT / super::HANDED + super::WAITING;

/// Which series have rows that are no plain floats: their floats must not overtake those, nor the
/// other way round.
#[derive(Default)]
pub(super) struct Marked(Vec<u64>);

impl Marked {
    pub(super) fn has(&self, id: u32) -> bool {
        let word = self.0.get(id as usize / 64).copied().unwrap_or(0);
        word >> (id % 64) & 1 != 0
    }

    /// False if it was marked before.
    pub(super) fn mark(&mut self, id: u32) -> bool {
        let new = !self.has(id);
        let at = id as usize / 64;
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at) {
            *word |= 1 << (id % 64);
        }
        new
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Floats in the order of the log.
pub(super) struct Floats {
    slots: Vec<u8>,
    rows: Vec<(Millis, f64)>,
    runs: Vec<Run>,
}

/// Neighbours in [`Floats`] whose series share a page.
#[derive(Clone, Copy)]
struct Run {
    page: u32,
    start: u32,
}

impl Floats {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self {
            slots: Vec::with_capacity(rows),
            rows: Vec::with_capacity(rows),
            runs: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.rows.clear();
        self.runs.clear();
    }

    #[inline]
    pub(super) fn push(&mut self, id: u32, ts: Millis, value: f64) {
        let page = id / PAGE;
        if self.runs.last().is_none_or(|run| run.page != page) {
            let start = self.rows.len() as u32;
            self.runs.push(Run { page, start });
        }
        self.slots.push((id % PAGE) as u8);
        self.rows.push((ts, value));
    }

    /// The numbers of the series.
    fn ids(&self) -> impl Iterator<Item = u32> {
        let ends = self.runs.iter().skip(1).map(|run| run.start as usize);
        let ends = ends.chain([self.rows.len()]);
        self.runs.iter().zip(ends).flat_map(|(run, end)| {
            let slots = self.slots.get(run.start as usize..end);
            let slots = slots.unwrap_or_default().iter();
            slots.map(|&slot| run.page * PAGE + u32::from(slot))
        })
    }
}

/// A run of one of the lists that are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    page: u32,
    list: u32,
    start: u32,
    end: u32,
}

pub(super) struct Gathered {
    /// Series of which other rows came by.
    marked: Marked,
    lists: Vec<Floats>,
    samples: usize,
    pieces: Vec<Piece>,
    scratch: ReplayScratch,
    give_back: SyncSender<Floats>,
}

impl Gathered {
    /// Lists that are done with go to `give_back`.
    pub(super) fn new(give_back: SyncSender<Floats>) -> Self {
        Self {
            marked: Marked::default(),
            lists: Vec::new(),
            samples: 0,
            pieces: Vec::new(),
            scratch: ReplayScratch::default(),
            give_back,
        }
    }

    /// Takes a list of floats; how many of those that were appended had no series.
    pub(super) fn take(&mut self, list: Floats, head: &Head) -> u64 {
        let mixed = !self.marked.is_empty() && list.ids().any(|id| self.marked.has(id));
        self.samples += list.len();
        self.lists.push(list);
        match mixed || self.samples >= KEPT {
            true => self.empty_into(head),
            false => 0,
        }
    }

    /// Appends other rows, after the floats that came before them; how many of each had no series.
    pub(super) fn take_others(&mut self, rows: &OtherRows, head: &Head, min: Millis) -> (u64, u64) {
        let mut new = false;
        for row in rows {
            new |= self.marked.mark(row.0);
        }
        let floats = match new {
            true => self.empty_into(head),
            false => 0,
        };
        (floats, head.replay_rows(rows, min))
    }

    /// Appends everything; how many samples had no series.
    pub(super) fn empty_into(&mut self, head: &Head) -> u64 {
        let pieces = &mut self.pieces;
        pieces.clear();
        for (number, list) in self.lists.iter().enumerate() {
            let ends = list.runs.iter().skip(1).map(|run| run.start);
            let ends = ends.chain([list.rows.len() as u32]);
            pieces.extend(list.runs.iter().zip(ends).map(|(run, end)| Piece {
                page: run.page,
                list: number as u32,
                start: run.start,
                end,
            }));
        }
        // Within a page in the order of the log.
        pieces.sort_unstable();
        let lists = &self.lists;
        let by_page = pieces.chunk_by(|a, b| a.page == b.page).map(|same| {
            let page = same.first().map_or(0, |piece| piece.page);
            let runs = same.iter().map(|piece| {
                let (list, range) = (
                    &lists[piece.list as usize],
                    piece.start as usize..piece.end as usize,
                );
                (&list.slots[range.clone()], &list.rows[range])
            });
            (page, runs)
        });
        let unknown = head.replay(by_page, &mut self.scratch);
        self.samples = 0;
        for list in self.lists.drain(..) {
            let _ = self.give_back.try_send(list);
        }
        unknown
    }
}

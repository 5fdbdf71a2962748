use std::sync::Arc;

use model::TimeRange;

use crate::index::ChunkMeta;
use crate::{Block, BlockError};

/// So many series are read ahead.
pub(super) const AHEAD: usize = 256;

/// Where the merge stands in one block.
pub(super) struct Head {
    block: Arc<Block>,
    /// Ids of the series that are taken from it, ascending.
    ids: Vec<u32>,
    /// From its symbols to those of the merge.
    map: Vec<u32>,
    /// The first of `ids` that was not read yet.
    pos: usize,
    labels: Vec<(u32, u32)>,
    chunks: Vec<ChunkMeta>,
    /// Ends of the labels and chunks of the series read ahead, and their ids.
    ends: Vec<(usize, usize, u32)>,
    /// The first of them that was not taken yet.
    next: usize,
}

impl Head {
    pub(super) fn new(block: Arc<Block>, ids: Vec<u32>, map: Vec<u32>) -> Self {
        Self {
            block,
            ids,
            map,
            pos: 0,
            labels: Vec::new(),
            chunks: Vec::new(),
            ends: Vec::new(),
            next: 0,
        }
    }

    /// The labels of the next series, read if need be.
    pub(super) fn peek(&mut self) -> Result<Option<&[(u32, u32)]>, BlockError> {
        if self.next == self.ends.len() && self.pos < self.ids.len() {
            self.read()?;
        }
        Ok(self.peeked())
    }

    fn read(&mut self) -> Result<(), BlockError> {
        self.labels.clear();
        self.chunks.clear();
        self.ends.clear();
        self.next = 0;
        let piece = &self.ids[self.pos..self.ids.len().min(self.pos + AHEAD)];
        self.pos += piece.len();
        let mut reader = self.block.index().series();
        for (i, &id) in piece.iter().enumerate() {
            let start = self.labels.len();
            reader.decode(
                id,
                &piece[i + 1..],
                TimeRange::ALL,
                &mut self.labels,
                &mut self.chunks,
            )?;
            for pair in &mut self.labels[start..] {
                let to = |o: u32| self.map.get(o as usize).copied();
                match (to(pair.0), to(pair.1)) {
                    (Some(name), Some(value)) => *pair = (name, value),
                    _ => return Err(BlockError::corrupt("index: a series has an unknown symbol")),
                }
            }
            self.ends.push((self.labels.len(), self.chunks.len(), id));
        }
        Ok(())
    }

    fn starts(&self) -> (usize, usize) {
        match self.next.checked_sub(1).and_then(|i| self.ends.get(i)) {
            Some(&(labels, chunks, _)) => (labels, chunks),
            None => (0, 0),
        }
    }

    /// The labels of the next series, if it was read.
    pub(super) fn peeked(&self) -> Option<&[(u32, u32)]> {
        let end = self.ends.get(self.next)?;
        self.labels.get(self.starts().0..end.0)
    }

    pub(super) fn chunks(&self) -> &[ChunkMeta] {
        match self.ends.get(self.next) {
            Some(end) => &self.chunks[self.starts().1..end.1],
            None => &[],
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.ends.get(self.next).map_or(0, |e| e.2)
    }

    pub(super) fn advance(&mut self) {
        self.next += 1;
    }
}

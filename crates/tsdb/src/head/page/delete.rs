//! Deleting samples of a page: the chunks that have some are written anew.

use std::collections::HashMap;

use bytes::Bytes;
use chunk::{ChunkError, EncodedChunk};
use model::Millis;

use super::{IN_FILE, Inner, WAS_IN_FILE};
use crate::head::files::Place;
use crate::rewrite::without;

/// Bytes of chunks that lie in files, read before a page is locked.
pub(in crate::head) type FromFiles = HashMap<(u16, u32), Bytes>;

impl Inner {
    /// The chunks of a series that a deletion of `min..=max` touches and that lie in files.
    pub(in crate::head) fn touched_in_files(
        &self,
        slot: usize,
        (min, max): (Millis, Millis),
    ) -> Vec<(Place, u32)> {
        let chunks = self.get(slot).map_or(&[][..], |s| &s.finished);
        chunks
            .iter()
            .filter(|c| c.min <= max && c.max() >= min)
            .filter_map(|c| Some((c.in_file()?, c.len())))
            .collect()
    }

    /// Removes the samples of a series in `min..=max`, by writing the chunks that have some anew.
    /// False if there were none. What is newest remains so: nothing older is taken afterwards.
    pub(in crate::head) fn delete(
        &mut self,
        slot: usize,
        (min, max): (Millis, Millis),
        from_files: &FromFiles,
    ) -> Result<bool, ChunkError> {
        let Some(series) = self.get(slot) else {
            return Ok(false);
        };
        let touched = |from: Millis, to: Millis| from <= max && to >= min;
        let any = series.finished.iter().any(|c| touched(c.min, c.max()))
            || series
                .open
                .last_ts()
                .is_some_and(|last| touched(series.open_min, last));
        if !any {
            return Ok(false);
        }
        if series
            .open
            .last_ts()
            .is_some_and(|last| touched(series.open_min, last))
        {
            self.finish(slot);
        }
        let Some(series) = self.get(slot) else {
            return Ok(false);
        };
        // All that can fail comes first.
        let mut new: Vec<Option<Vec<EncodedChunk>>> = Vec::with_capacity(series.finished.len());
        let later = std::cell::Cell::new(0);
        for c in &series.finished {
            new.push(match touched(c.min, c.max()) {
                false => {
                    if c.min > max {
                        later.set(later.get() + usize::from(c.samples));
                    }
                    None
                }
                true => {
                    let bytes = match c.in_file() {
                        Some(place) => from_files
                            .get(&(place.file, place.offset))
                            .map_or(&[][..], |b| b),
                        None => self.bytes_of(c),
                    };
                    let stays = |ts| {
                        later.set(later.get() + usize::from(ts > max));
                        ts < min || ts > max
                    };
                    Some(without(c.encoding(), bytes, stays)?)
                }
            });
        }
        // The newest samples are counted by their batches, for those who must not see them yet. That
        // stays right as long as none of them was deleted.
        let older = self.older.iter().filter(|o| usize::from(o.slot) == slot);
        let counted = older.map(|o| o.samples as usize).sum::<usize>() + series.pending as usize;
        let forget = counted > later.get();
        let Some(Some(series)) = self.series.get_mut(slot) else {
            return Ok(false);
        };
        if forget {
            series.pending = 0;
            series.last_batch = 0;
        }
        let newest = series.newest().ts().unwrap_or(Millis::MIN);
        if series.open.is_none() {
            series.open_min = newest;
        }
        let old = std::mem::take(&mut series.finished);
        if forget {
            self.older.retain(|o| usize::from(o.slot) != slot);
        }
        for (chunk, new) in old.into_iter().zip(new) {
            let Some(new) = new else {
                if let Some(Some(series)) = self.series.get_mut(slot) {
                    series.finished.push(chunk);
                }
                continue;
            };
            let mark = match chunk.place & (IN_FILE | WAS_IN_FILE) {
                0 => 0,
                _ => WAS_IN_FILE,
            };
            for n in new {
                let (range, kind) = ((n.range.min, n.range.max), (n.encoding, n.samples));
                self.keep(slot, range, kind, &n.data, mark);
            }
            self.let_go(chunk);
        }
        Ok(true)
    }
}

//! Start timestamps behind the samples of a chunk (`tsdb/chunkenc/st.go`).
//!
//! The header's byte says whether the first sample has one, and at which sample it first changes:
//! there the distance between the sample before and the start is written, and from there on, for
//! every sample, by how much that distance has changed.

use model::Millis;

use crate::ChunkError;
use crate::bits::{Reader, Writer};

/// The header can name a sample up to this; from it on starts are written, changed or not.
const LAST_CHANGE: usize = 0x7f;

/// What the next start timestamp is told by, whether they are written or read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Starts {
    start: Millis,
    distance: i64,
    first_known: bool,
    /// 0: none yet.
    changed_on: u8,
}

impl Starts {
    pub(crate) fn of_header(byte: u8) -> Self {
        Self {
            first_known: byte & 0x80 != 0,
            changed_on: byte & 0x7f,
            ..Self::default()
        }
    }

    pub(crate) fn header(&self) -> u8 {
        (self.first_known as u8) << 7 | self.changed_on
    }

    /// Whether more samples can be added to a chunk of `count`: from one sample on every writer tells
    /// starts, and the header cannot name a later one.
    pub(crate) fn resume(&self, count: usize) -> Result<(), ChunkError> {
        match self.changed_on == 0 && count > LAST_CHANGE {
            true => Err(ChunkError::Corrupt("start timestamps are missing")),
            false => Ok(()),
        }
    }

    /// The last sample's start timestamp.
    pub(crate) fn start(&self) -> Millis {
        self.start
    }

    /// Writes the start of sample `n`, which is in the chunk already; gives whether the header has changed.
    #[inline]
    pub(crate) fn write(
        &mut self,
        w: &mut Writer,
        n: usize,
        ts: Millis,
        before: Millis,
        start: Millis,
    ) -> bool {
        // Nothing to say: nearly always.
        let nothing = start == self.start && self.changed_on == 0 && n != LAST_CHANGE;
        if !nothing {
            self.tell(w, n, ts, before, start);
        }
        !nothing
    }

    fn tell(&mut self, w: &mut Writer, n: usize, ts: Millis, before: Millis, start: Millis) {
        let distance = before.wrapping_sub(start);
        match n {
            0 if start != 0 => {
                let mut bytes = Vec::with_capacity(10);
                crate::bits::put_varint(&mut bytes, ts.wrapping_sub(start));
                bytes.iter().for_each(|b| w.bits(*b as u64, 8));
                self.first_known = true;
            }
            0 => {}
            _ if self.changed_on != 0 => {
                w.varbit(distance.wrapping_sub(self.distance));
                self.distance = distance;
            }
            _ if start != self.start || n == LAST_CHANGE => {
                // At most 127, where it is written in any case.
                self.changed_on = n as u8;
                w.varbit(distance);
                self.distance = distance;
            }
            _ => {}
        }
        self.start = start;
    }

    /// Reads the start of sample `n`.
    pub(crate) fn read(
        &mut self,
        r: &mut Reader<'_>,
        n: usize,
        ts: Millis,
        before: Millis,
    ) -> Result<(), ChunkError> {
        let changed_on = self.changed_on as usize;
        if n == 0 {
            if self.first_known {
                let Some(distance) = r.varint() else {
                    return Err(ChunkError::Truncated);
                };
                self.start = ts.wrapping_sub(distance);
            }
        } else if changed_on != 0 && n >= changed_on {
            let change = r.varbit();
            self.distance = match n == changed_on {
                true => change,
                false => self.distance.wrapping_add(change),
            };
            self.start = before.wrapping_sub(self.distance);
        }
        Ok(())
    }
}

//! What a query sees of a page: chunks, without the samples of batches that it must not see.

use chunk::Columns;
use model::{Encoding, Millis};

use super::{Inner, Series};
use crate::head::files::Place;
use crate::head::isolation::Snapshot;

/// A chunk as a query gets it.
pub(crate) struct Seen<'a> {
    pub(crate) min: Millis,
    pub(crate) max: Millis,
    pub(crate) encoding: Encoding,
    pub(crate) bytes: SeenBytes<'a>,
}

pub(crate) enum SeenBytes<'a> {
    /// Part of a shared blob: its number, the place in it.
    Shared(u16, u32, u32),
    /// Part of a file, and how long it is.
    InFile(Place, u32),
    /// To be copied.
    Copy(&'a [u8]),
    /// To be copied, with other first two bytes: the number of samples.
    Cut(&'a [u8], [u8; 2]),
}

impl Inner {
    /// How many of a series' newest samples a snapshot may not see.
    #[inline]
    fn hidden(&self, slot: usize, series: &Series, snapshot: &Snapshot) -> usize {
        let mut hidden = 0;
        for older in self.older.iter().filter(|o| usize::from(o.slot) == slot) {
            if hidden > 0 || !snapshot.sees(older.batch) {
                hidden += older.samples as usize;
            }
        }
        if hidden > 0 || !snapshot.sees(series.last_batch) {
            hidden += series.pending as usize;
        }
        hidden
    }

    /// Calls `each` for the chunks of a series that a snapshot may see and that overlap `min..=max`,
    /// in order of time. Says whether there was one.
    pub(crate) fn see<'a>(
        &'a self,
        slot: usize,
        (min, max): (Millis, Millis),
        snapshot: Option<&Snapshot>,
        mut each: impl FnMut(Seen<'a>),
    ) -> bool {
        let Some(series) = self.get(slot) else {
            return false;
        };
        let mut hidden = snapshot.map_or(0, |s| self.hidden(slot, series, s));
        let mut found = false;
        let open = &series.open;
        // What of the open chunk, then of the finished ones, is left once the hidden are gone.
        let mut open_left = open.len();
        let cut = hidden.min(open_left);
        open_left -= cut;
        hidden -= cut;
        let mut visible = series.finished.len();
        let mut last_left = 0;
        while hidden > 0 && visible > 0 {
            let n = usize::from(series.finished[visible - 1].samples);
            if n > hidden {
                last_left = n - hidden;
                break;
            }
            hidden -= n;
            visible -= 1;
        }
        for (i, c) in series.finished[..visible].iter().enumerate() {
            if c.min > max || c.max() < min {
                continue;
            }
            if last_left > 0 && i + 1 == visible {
                let chunk = (c.encoding(), self.bytes_of(c));
                found |= cut_short(chunk, last_left, None, (c.min, min), &mut each);
                continue;
            }
            found = true;
            let bytes = match (c.in_file(), c.blob()) {
                (Some(place), _) => SeenBytes::InFile(place, c.len()),
                (None, Some(blob))
                    if self.filling.is_empty() || blob != usize::from(self.filling_blob) =>
                {
                    SeenBytes::Shared(blob as u16, c.offset, c.len())
                }
                _ => SeenBytes::Copy(self.bytes_of(c)),
            };
            each(Seen {
                min: c.min,
                max: c.max(),
                encoding: c.encoding(),
                bytes,
            });
        }
        if open_left > 0 && series.open_min <= max {
            let last = open.last_ts().unwrap_or(series.open_min);
            if open_left < open.len() {
                let chunk = (open.encoding(), open.bytes());
                // A scrape under way is one sample, and the encoder knows where the one before it is.
                let max = (open_left + 1 == open.len())
                    .then(|| open.previous_ts())
                    .flatten();
                let from = (series.open_min, min);
                found |= cut_short(chunk, open_left, max, from, &mut each);
            } else if last >= min {
                found = true;
                each(Seen {
                    min: series.open_min,
                    max: last,
                    encoding: open.encoding(),
                    bytes: SeenBytes::Copy(open.bytes()),
                });
            }
        }
        found
    }
}

/// A chunk of which only the first `left` samples may be seen: until `max`, or where decoding it tells.
#[cold]
fn cut_short<'a>(
    (encoding, bytes): (Encoding, &'a [u8]),
    left: usize,
    max: Option<Millis>,
    (first, min): (Millis, Millis),
    each: &mut impl FnMut(Seen<'a>),
) -> bool {
    let max = max.or_else(|| {
        let mut columns = Columns::default();
        chunk::decode(encoding, bytes, &mut columns).ok()?;
        let ts = match columns.is_empty() {
            true => &columns.histograms.ts,
            false => &columns.ts,
        };
        ts.get(left.checked_sub(1)?).copied()
    });
    let (Some(max), Some(&[a, _])) = (max, bytes.first_chunk::<2>()) else {
        return false;
    };
    if max < min {
        return false;
    }
    let [high, low] = (left as u16).to_be_bytes();
    let high = match encoding {
        // Two bits of these are another matter.
        Encoding::HISTOGRAM_ST | Encoding::FLOAT_HISTOGRAM_ST => (a & 0xc0) | (high & 0x3f),
        _ => high,
    };
    each(Seen {
        min: first,
        max,
        encoding,
        bytes: SeenBytes::Cut(bytes, [high, low]),
    });
    true
}

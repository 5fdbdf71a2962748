//! Aggregate chunks: what downsampling leaves of a series, as five chunks in one
//! (`pkg/compact/downsample/aggr.go` of Thanos).
//!
//! ```text
//! of count, sum, min, max, counter, in this order:
//!     uvarint length (0: there is none) | u8 encoding | so many bytes of data
//! ```
//!
//! A counter's chunk holds reset-free values and ends with a second sample at its last time: the last
//! value as it was scraped, by which the chunk after it knows of a reset between them. [`Counter`]
//! reads such chunks one after the other.

use std::ops::Range;

use model::source::Aggregate;
use model::{Encoding, Millis};

use crate::{ChunkError, Columns, bits};

/// The columns, in the order in which they lie.
pub const ORDER: [Aggregate; 5] = [
    Aggregate::Count,
    Aggregate::Sum,
    Aggregate::Min,
    Aggregate::Max,
    Aggregate::Counter,
];

/// One column of an aggregate chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub aggregate: Aggregate,
    /// How its bytes are encoded.
    pub encoding: Encoding,
    /// Where they are in the aggregate chunk.
    pub range: Range<usize>,
}

/// Where the columns of an aggregate chunk are, those that it has.
///
/// ```
/// use chunk::aggregate;
/// use model::{Encoding, source::Aggregate};
///
/// let chunk = aggregate::encode([None, Some((Encoding::XOR, b"sum")), None, None, None]);
/// let parts: Vec<_> = aggregate::parts(&chunk).collect::<Result<_, _>>()?;
/// assert_eq!(parts.len(), 1);
/// assert_eq!((parts[0].aggregate, &chunk[parts[0].range.clone()]), (Aggregate::Sum, &b"sum"[..]));
/// # Ok::<(), chunk::ChunkError>(())
/// ```
pub fn parts(chunk: &[u8]) -> impl Iterator<Item = Result<Part, ChunkError>> + '_ {
    let mut rest = chunk;
    let mut failed = false;
    ORDER.into_iter().filter_map(move |aggregate| {
        if failed {
            return None;
        }
        let next = (|| {
            let (len, behind) = bits::uvarint(rest)?;
            if len == 0 {
                rest = behind;
                return Some(None);
            }
            let (&encoding, data) = behind.split_first()?;
            let (data, behind) = data.split_at_checked(usize::try_from(len).ok()?)?;
            rest = behind;
            let end = chunk.len() - behind.len();
            Some(Some(Part {
                aggregate,
                encoding: Encoding(encoding),
                range: end - data.len()..end,
            }))
        })();
        failed = next.is_none();
        match next {
            Some(part) => part.map(Ok),
            None => Some(Err(ChunkError::Truncated)),
        }
    })
}

/// An aggregate chunk of columns in the order of [`ORDER`], each with its encoding.
pub fn encode(columns: [Option<(Encoding, &[u8])>; 5]) -> Vec<u8> {
    let bytes = columns
        .iter()
        .flatten()
        .map(|c| c.1.len() + 4)
        .sum::<usize>();
    let mut chunk = Vec::with_capacity(bytes + columns.len());
    for column in columns {
        let Some((encoding, data)) = column else {
            chunk.push(0);
            continue;
        };
        bits::put_uvarint(&mut chunk, data.len() as u64);
        chunk.push(encoding.0);
        chunk.extend_from_slice(data);
    }
    chunk
}

/// Adds up counter columns, chunk by chunk, so that the whole has no resets
/// (`ApplyCounterResetsSeriesIterator` of Thanos).
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter {
    /// Time and value of the sample before, and what all add up to.
    last: Option<(Millis, f64, f64)>,
}

impl Counter {
    /// The last value as it was scraped; none before the first.
    pub fn last_value(&self) -> Option<f64> {
        self.last.map(|(_, value, _)| value)
    }

    /// Adds the samples of the next chunk, in the order in which it has them, to `out`. What goes back in
    /// time is left out, and so is NaN. Histograms carry their own knowledge of resets.
    pub fn add(&mut self, chunk: &Columns, out: &mut Columns) {
        for (i, (ts, value)) in chunk.iter().enumerate() {
            if value.is_nan() {
                continue;
            }
            let total = match &mut self.last {
                // The last value as it was: a reset after it is told by that.
                Some((last_ts, last, _)) if ts == *last_ts => {
                    *last = value;
                    continue;
                }
                Some((last_ts, ..)) if ts < *last_ts => continue,
                Some((_, last, total)) if value >= *last => *total + (value - *last),
                Some((_, _, total)) => *total + value,
                None => value,
            };
            self.last = Some((ts, value, total));
            out.push(ts, total);
            out.started(chunk.start(i));
        }
        for i in 0..chunk.histograms.len() {
            let last = out.histograms.ts.last();
            if last.is_none_or(|last| chunk.histograms.ts[i] > *last) {
                out.histograms.push_from(&chunk.histograms, i);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_end_without_its_column_is_an_error() {
        let data = [1u8; 200];
        let some = Some((Encoding::XOR, &data[..]));
        let chunk = encode([some, None, some, None, some]);
        let all: Vec<Part> = parts(&chunk).map(Result::unwrap).collect();
        let found: Vec<Aggregate> = all.iter().map(|p| p.aggregate).collect();
        assert_eq!(
            found,
            [Aggregate::Count, Aggregate::Min, Aggregate::Counter]
        );
        assert_eq!(all[2].range.end, chunk.len());
        for len in 0..chunk.len() {
            let last = parts(&chunk[..len]).last();
            assert_eq!(last, Some(Err(ChunkError::Truncated)), "{len}");
        }
    }

    #[test]
    fn counters_go_on_across_chunks() {
        // The example of Thanos' documentation of the format, in two chunks and with a chunk that
        // begins before the one before it ends.
        let mut counter = Counter::default();
        let mut out = Columns::default();
        for chunk in [
            vec![(20, 1.0), (99, 4.0), (199, 13.0), (199, 3.0)],
            vec![
                (150, 7.0),
                (250, 4.0),
                (300, f64::NAN),
                (350, 6.0),
                (350, 1.0),
            ],
            vec![(400, 0.5)],
        ] {
            counter.add(&chunk.into_iter().collect(), &mut out);
        }
        let want: Columns = [
            (20, 1.0),
            (99, 4.0),
            (199, 13.0),
            (250, 14.0),
            (350, 16.0),
            (400, 16.5),
        ]
        .into_iter()
        .collect();
        assert_eq!(out, want);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parts_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for part in parts(&bytes).flatten() {
                prop_assert!(bytes.get(part.range).is_some());
            }
        }

        #[test]
        fn what_is_put_together_is_taken_apart(
            columns in prop::collection::vec(
                prop::option::of((any::<u8>(), prop::collection::vec(any::<u8>(), 1..300))), 5..=5),
        ) {
            let mut list = [None; 5];
            for (to, from) in list.iter_mut().zip(&columns) {
                *to = from.as_ref().map(|(e, d)| (Encoding(*e), d.as_slice()));
            }
            let chunk = encode(list);
            let parts: Vec<Part> = parts(&chunk).map(Result::unwrap).collect();
            let given = ORDER.iter().zip(list).filter_map(|(a, c)| Some((*a, c?)));
            prop_assert!(parts.iter().map(|p| (p.aggregate, (p.encoding, &chunk[p.range.clone()]))).eq(given));
        }
    }
}

//! `tombstones`: what was deleted of a block and is still in its chunks (`tsdb/tombstones`).
//!
//! ```text
//! u32 0x0130BA30 | u8 version 1
//! records: uvarint series id | varint min | varint max      both ends are deleted
//! u32 CRC of the records
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use chunk::samples::Samples;
use chunk::{Chunker, EncodedChunk, aggregate, xor};
use model::{Encoding, Millis, TimeRange};

use crate::BlockError;
use crate::fs::{Fs, FsExt as _, OsFs};
use crate::input::{Input, crc, put_uvarint, put_varint};

/// The name of the file in a block's directory.
pub const FILE: &str = "tombstones";

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;

/// Deleted time of series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    /// Ascending, apart by one millisecond at least.
    series: BTreeMap<u64, Vec<TimeRange>>,
}

impl Tombstones {
    /// Nothing deleted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// How many intervals there are.
    pub fn len(&self) -> usize {
        self.series.values().map(Vec::len).sum()
    }

    /// Deletes `range` (both ends) of series `id` too.
    pub fn add(&mut self, id: u64, range: TimeRange) {
        if range.is_empty() {
            return;
        }
        let list = self.series.entry(id).or_default();
        // Those that overlap or touch become one with it.
        let start = list.partition_point(|r| r.max.saturating_add(1) < range.min);
        let end = list.partition_point(|r| r.min <= range.max.saturating_add(1));
        let joined = list[start..end.max(start)]
            .iter()
            .fold(range, |all, r| all.union(*r));
        list.splice(start..end.max(start), [joined]);
    }

    /// What is deleted of series `id`: ascending, not touching.
    pub fn of(&self, id: u64) -> &[TimeRange] {
        self.series.get(&id).map_or(&[], Vec::as_slice)
    }

    /// All series with what is deleted of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[TimeRange])> {
        self.series.iter().map(|(id, list)| (*id, list.as_slice()))
    }

    /// Reads the file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let corrupt = |what| BlockError::corrupt(format!("tombstones: {what}"));
        let mut input = Input(bytes);
        if input.u32() != Some(MAGIC) {
            return Err(corrupt("wrong magic number"));
        }
        match input.u8() {
            Some(VERSION) => {}
            Some(version) => {
                return Err(BlockError::Version {
                    what: FILE,
                    version: version as u64,
                });
            }
            None => return Err(corrupt("truncated")),
        }
        let Some((records, sum)) = input.0.split_last_chunk::<4>() else {
            return Err(corrupt("truncated"));
        };
        if crc(records) != u32::from_be_bytes(*sum) {
            return Err(corrupt("wrong checksum"));
        }
        let mut input = Input(records);
        let mut all = Self::new();
        while !input.is_empty() {
            let mut record = || Some((input.uvarint()?, input.varint()?, input.varint()?));
            let (id, min, max) = record().ok_or_else(|| corrupt("truncated record"))?;
            all.add(id, TimeRange::new(min, max));
        }
        Ok(all)
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.push(VERSION);
        let start = out.len();
        for (id, list) in self.iter() {
            for r in list {
                put_uvarint(&mut out, id);
                put_varint(&mut out, r.min);
                put_varint(&mut out, r.max);
            }
        }
        let sum = crc(&out[start..]);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }

    /// Reads the file in the block directory `dir`; a missing file deletes nothing.
    pub fn read(fs: &dyn Fs, dir: &Path) -> Result<Self, BlockError> {
        let path = dir.join(FILE);
        match fs.read(&path) {
            Ok(bytes) => Self::decode(&bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::new()),
            Err(e) => Err(BlockError::io("reading", &path)(e)),
        }
    }

    /// Writes the file into the block directory `dir`: complete or not at all.
    pub fn write(&self, dir: &Path) -> Result<(), BlockError> {
        self.write_on(&OsFs, dir)
    }

    /// Like [`Tombstones::write`], on any files.
    pub fn write_on(&self, fs: &dyn Fs, dir: &Path) -> Result<(), BlockError> {
        let path = dir.join(FILE);
        fs.replace(&path, &self.encode())
            .map_err(BlockError::io("writing", &path))
    }
}

/// How a chunk and what is deleted lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Nothing of it is deleted.
    Nothing,
    /// Some of it may be.
    Part,
    /// All of it is.
    All,
}

/// What of `range` is deleted by `deleted` (ascending, not touching).
pub fn touch(deleted: &[TimeRange], range: TimeRange) -> Touch {
    let first = deleted.partition_point(|d| d.max < range.min);
    match deleted.get(first) {
        Some(d) if d.min <= range.min && d.max >= range.max => Touch::All,
        Some(d) if d.min <= range.max => Touch::Part,
        _ => Touch::Nothing,
    }
}

/// Whether a time is deleted; asked for ascending times.
fn judge(deleted: &[TimeRange]) -> impl FnMut(Millis) -> bool + '_ {
    let mut deleted = deleted.iter().peekable();
    move |ts| {
        while deleted.next_if(|d| d.max < ts).is_some() {}
        deleted.peek().is_some_and(|d| d.contains(ts))
    }
}

/// Removes what is deleted from floats and from histograms, each ascending. `deleted` is ascending, as
/// [`Tombstones::of`] gives it.
pub fn subtract(columns: &mut chunk::Columns, deleted: &[TimeRange]) {
    let mut gone = judge(deleted);
    let mut kept = 0;
    for i in 0..columns.len() {
        let ts = columns.ts[i];
        if gone(ts) {
            continue;
        }
        columns.ts[kept] = ts;
        columns.values[kept] = columns.values[i];
        if let Some(&start) = columns.starts.get(i) {
            columns.starts[kept] = start;
        }
        kept += 1;
    }
    columns.truncate(kept);
    let mut gone = judge(deleted);
    columns.histograms.retain(|_, ts| !gone(ts));
}

/// A chunk without what is deleted of it, encoded again; nothing if nothing is left. Floats stay one chunk;
/// so do histograms, except where a stale marker does not know that it stands among gauges. An
/// aggregate chunk loses samples of each of its columns.
pub fn cut_out(
    encoding: Encoding,
    data: &[u8],
    deleted: &[TimeRange],
) -> Result<Vec<EncodedChunk>, BlockError> {
    if encoding == Encoding::AGGREGATE {
        return Ok(cut_aggregate(data, deleted)?.into_iter().collect());
    }
    let mut samples = Samples::default();
    samples.add(encoding, data)?;
    let mut gone = judge(deleted);
    samples.retain(|ts| !gone(ts));
    let mut chunker = Chunker::default();
    chunker.set_limit(usize::MAX);
    chunker.set_xor2(encoding == Encoding::XOR2);
    samples.encode(&mut chunker)?;
    Ok(chunker.finish())
}

fn cut_aggregate(data: &[u8], deleted: &[TimeRange]) -> Result<Option<EncodedChunk>, BlockError> {
    let mut columns: [Option<(Encoding, Vec<u8>)>; 5] = Default::default();
    let mut range = TimeRange::EMPTY;
    for part in aggregate::parts(data) {
        let part = part?;
        let bytes = data.get(part.range).unwrap_or_default();
        let column = aggregate::ORDER.iter().position(|a| *a == part.aggregate);
        let Some(column) = column.and_then(|i| columns.get_mut(i)) else {
            continue;
        };
        if part.encoding == Encoding::AGGREGATE {
            return Err(BlockError::corrupt(
                "chunks: an aggregate chunk inside another",
            ));
        }
        if !matches!(part.encoding, Encoding::XOR | Encoding::XOR2) {
            // Histograms of a counter are a chunk of their own, with one time for each.
            let mut left = cut_out(part.encoding, bytes, deleted)?;
            let all = left
                .iter()
                .fold(TimeRange::EMPTY, |all, c| all.union(c.range));
            range = range.union(all);
            *column = match (left.pop(), left.is_empty()) {
                (Some(one), true) => Some((one.encoding, one.data)),
                (None, _) => None,
                _ => {
                    return Err(BlockError::Invalid(
                        "a column of downsampled histograms falls apart by what is deleted of it"
                            .into(),
                    ));
                }
            };
            continue;
        }
        // A counter's last time occurs twice.
        let mut samples = chunk::Columns::default();
        chunk::decode(part.encoding, bytes, &mut samples)?;
        subtract(&mut samples, deleted);
        if let (Some(&min), Some(&max)) = (samples.ts.first(), samples.ts.last()) {
            range = range.union(TimeRange::new(min, max));
            let mut encoder = xor::Encoder::with_capacity(bytes.len());
            samples
                .iter()
                .for_each(|(ts, value)| encoder.append(ts, value));
            *column = Some((Encoding::XOR, encoder.into_bytes()));
        }
    }
    if range.is_empty() {
        return Ok(None);
    }
    let borrowed = columns
        .each_ref()
        .map(|c| c.as_ref().map(|(e, data)| (*e, data.as_slice())));
    let data = aggregate::encode(borrowed);
    Ok(Some(EncodedChunk {
        range,
        encoding: Encoding::AGGREGATE,
        samples: chunk::sample_count(Encoding::AGGREGATE, &data)?,
        data,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_become_one() {
        let mut t = Tombstones::new();
        for (min, max) in [
            (10, 20),
            (30, 40),
            (50, 60),
            (21, 25),
            (38, 52),
            (0, 5),
            (9, 1),
        ] {
            t.add(7, TimeRange::new(min, max));
        }
        let want = [(0, 5), (10, 25), (30, 60)].map(|(a, b)| TimeRange::new(a, b));
        assert_eq!(t.of(7), want);
        t.add(7, TimeRange::ALL);
        assert_eq!(t.of(7), [TimeRange::ALL]);
        assert_eq!(t.of(8), []);
    }

    #[test]
    fn touching() {
        let d = [(10, 20), (30, 40)].map(|(a, b)| TimeRange::new(a, b));
        for (a, b, want) in [
            (0, 9, Touch::Nothing),
            (0, 10, Touch::Part),
            (10, 20, Touch::All),
            (12, 13, Touch::All),
            (15, 35, Touch::Part),
            (21, 29, Touch::Nothing),
            (41, 50, Touch::Nothing),
        ] {
            assert_eq!(touch(&d, TimeRange::new(a, b)), want, "{a}..{b}");
        }
    }

    proptest! {
        #[test]
        fn like_a_set(
            adds in prop::collection::vec((0u64..3, 0i64..100, 0i64..30), 0..20),
        ) {
            let mut t = Tombstones::new();
            let mut set = std::collections::BTreeSet::new();
            for (id, min, len) in adds {
                t.add(id, TimeRange::new(min, min + len));
                set.extend((min..=min + len).map(|ts| (id, ts)));
            }
            prop_assert_eq!(&Tombstones::decode(&t.encode()).unwrap(), &t);
            for id in 0..3 {
                let list = t.of(id);
                prop_assert!(list.windows(2).all(|w| w[0].max + 1 < w[1].min));
                let mut columns: chunk::Columns = (0..150).map(|ts| (ts, ts as f64)).collect();
                subtract(&mut columns, list);
                let want: Vec<i64> = (0..150).filter(|ts| !set.contains(&(id, *ts))).collect();
                prop_assert_eq!(&columns.ts, &want);
                prop_assert!(columns.values.iter().map(|v| *v as i64).eq(want));
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Tombstones::decode(&bytes);
            let mut framed = MAGIC.to_be_bytes().to_vec();
            framed.push(1);
            framed.extend_from_slice(&bytes);
            framed.extend_from_slice(&crc(&bytes).to_be_bytes());
            let _ = Tombstones::decode(&framed);
        }
    }
}

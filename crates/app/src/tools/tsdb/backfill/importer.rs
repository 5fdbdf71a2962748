//! Samples in any order of series, encoded at once, written as blocks.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Result, bail};
use block::index::SymbolSet;
use block::{Chunk, Meta, Writer};
use chunk::{Columns, xor};
use model::{Labels, Millis, TimeRange};
use ulid::Ulid;

/// Encoded samples may take so many bytes of memory before some are left to another pass.
pub const MEMORY: usize = 1 << 30;
/// Samples in a chunk.
const CHUNK_SAMPLES: usize = 120;
const TWO_HOURS: Millis = 7_200_000;

/// The length of blocks: two hours, or the longest of its multiples by three that is allowed.
pub fn block_duration(longest: Millis) -> Millis {
    let lengths = (0..10).map(|n| TWO_HOURS * 3i64.pow(n));
    lengths
        .take_while(|l| *l <= longest)
        .last()
        .unwrap_or(TWO_HOURS)
}

/// Takes samples and writes blocks.
pub struct Importer {
    duration: Millis,
    memory: usize,
    series: Vec<Labels>,
    by_labels: HashMap<Labels, u32>,
    /// By start of their time.
    windows: BTreeMap<Millis, Window>,
    /// The one that was used last.
    current: Option<(Millis, Window)>,
    /// Samples before it have been written.
    from: Millis,
    /// Samples from here on are left to the next pass.
    until: Millis,
    used: usize,
}

/// The samples of one block.
struct Window {
    /// By series: its place in `open`, plus one.
    places: Vec<u32>,
    open: Vec<Open>,
    range: TimeRange,
    used: usize,
}

/// The samples of one series in one block.
struct Open {
    series: u32,
    encoder: xor::Encoder,
    min: Millis,
    last: (Millis, f64),
    done: Vec<Encoded>,
    /// What came out of order.
    late: Vec<(Millis, f64)>,
}

struct Encoded {
    min: Millis,
    max: Millis,
    data: Vec<u8>,
}

const DUPLICATE: &str = "add sample: duplicate sample for timestamp";

impl Importer {
    /// Blocks will be `duration` ms long; encoded samples take about `memory` bytes at most.
    pub fn new(duration: Millis, memory: usize) -> Self {
        Self {
            duration,
            memory,
            series: Vec::new(),
            by_labels: HashMap::new(),
            windows: BTreeMap::new(),
            current: None,
            from: Millis::MIN,
            until: Millis::MAX,
            used: 0,
        }
    }

    /// The number of a series.
    pub fn series(&mut self, labels: &Labels) -> Result<u32> {
        if let Some(&id) = self.by_labels.get(labels) {
            return Ok(id);
        }
        let Ok(id) = u32::try_from(self.series.len()) else {
            bail!("too many series");
        };
        self.series.push(labels.clone());
        self.by_labels.insert(labels.clone(), id);
        Ok(id)
    }

    /// Adds a sample.
    #[inline]
    pub fn add(&mut self, series: u32, ts: Millis, value: f64) -> Result<()> {
        if ts < self.from || ts >= self.until {
            return Ok(());
        }
        let inside = |start: Millis| {
            ts.wrapping_sub(start) as u64 % (1 << 63) < self.duration as u64 && ts >= start
        };
        if !self
            .current
            .as_ref()
            .is_some_and(|(start, _)| inside(*start))
        {
            self.turn_to(ts);
        }
        let Some((_, window)) = &mut self.current else {
            return Ok(());
        };
        let grown = window.add(series, ts, value)?;
        if grown > 0 {
            self.used += grown;
            if self.used > self.memory {
                self.make_room();
            }
        }
        Ok(())
    }

    fn turn_to(&mut self, ts: Millis) {
        let start = ts.div_euclid(self.duration).saturating_mul(self.duration);
        if let Some((start, window)) = self.current.take() {
            self.windows.insert(start, window);
        }
        let window = self.windows.remove(&start).unwrap_or_else(|| Window {
            places: Vec::new(),
            open: Vec::new(),
            range: TimeRange::EMPTY,
            used: 0,
        });
        self.current = Some((start, window));
    }

    /// Leaves the newest blocks to the next pass; the oldest one stays whatever it takes.
    fn make_room(&mut self) {
        if let Some((start, window)) = self.current.take() {
            self.windows.insert(start, window);
        }
        while self.used > self.memory && self.windows.len() > 1 {
            if let Some((start, window)) = self.windows.pop_last() {
                self.until = start;
                self.used = self.used.saturating_sub(window.used);
            }
        }
    }

    /// Writes what there is as blocks into `dir`. True if samples were left out, and everything is
    /// to be added once more.
    pub fn write(&mut self, dir: &Path, made: &mut dyn FnMut(&Meta) -> Result<()>) -> Result<bool> {
        if let Some((start, window)) = self.current.take() {
            self.windows.insert(start, window);
        }
        let mut order: Vec<u32> = (0..self.series.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.series[*a as usize].cmp(&self.series[*b as usize]));
        // Ascending by time; each is dropped once it is written.
        while let Some((_, window)) = self.windows.pop_first() {
            if let Some(meta) = window.write(dir, &self.series, &order)? {
                made(&meta)?;
            }
        }
        self.used = 0;
        self.from = self.until;
        self.until = Millis::MAX;
        Ok(self.from != Millis::MAX)
    }
}

impl Window {
    /// Adds a sample; how many bytes of memory that took, roughly, where it took any.
    #[inline]
    fn add(&mut self, series: u32, ts: Millis, value: f64) -> Result<usize> {
        self.range = self.range.union(TimeRange::new(ts, ts));
        let place = self.places.get(series as usize).copied().unwrap_or(0);
        let Some(open) = (place as usize)
            .checked_sub(1)
            .and_then(|i| self.open.get_mut(i))
        else {
            let grown = self.begin(series, ts, value);
            self.used += grown;
            return Ok(grown);
        };
        let mut grown = 0;
        if ts > open.last.0 {
            if open.encoder.len() >= CHUNK_SAMPLES {
                grown = open.cut();
                open.min = ts;
            }
            open.encoder.append(ts, value);
            open.last = (ts, value);
        } else if ts < open.last.0 {
            open.late.push((ts, value));
            grown = size_of::<(Millis, f64)>();
        } else if value.to_bits() != open.last.1.to_bits() {
            bail!("{DUPLICATE}");
        }
        self.used += grown;
        Ok(grown)
    }

    fn begin(&mut self, series: u32, ts: Millis, value: f64) -> usize {
        let mut grown = size_of::<Open>() + 64;
        if self.places.len() <= series as usize {
            let len = (series as usize + 1).next_power_of_two();
            grown += (len - self.places.len()) * size_of::<u32>();
            self.places.resize(len, 0);
        }
        let mut encoder = xor::Encoder::new();
        encoder.append(ts, value);
        self.open.push(Open {
            series,
            encoder,
            min: ts,
            last: (ts, value),
            done: Vec::new(),
            late: Vec::new(),
        });
        if let Some(place) = self.places.get_mut(series as usize) {
            *place = self.open.len() as u32;
        }
        grown
    }

    fn write(mut self, dir: &Path, series: &[Labels], order: &[u32]) -> Result<Option<Meta>> {
        let mut present = Vec::new();
        for &id in order {
            let place = self.places.get(id as usize).copied().unwrap_or(0) as usize;
            if let (Some(i), Some(labels)) = (place.checked_sub(1), series.get(id as usize)) {
                present.push((i, labels));
            }
        }
        let strings = present
            .iter()
            .flat_map(|(_, l)| l.iter())
            .flat_map(|(n, v)| [n, v]);
        let symbols = SymbolSet::collect(strings);
        let mut ordinals: HashMap<&str, u32> = HashMap::new();
        for (name, value) in present.iter().flat_map(|(_, l)| l.iter()) {
            for s in [name, value] {
                if !ordinals.contains_key(s) {
                    ordinals.insert(s, symbols.find(s).unwrap_or(0));
                }
            }
        }
        let meta = Meta::new(Ulid::generate(), self.range);
        let mut writer = Writer::create(dir, meta, symbols)?;
        let mut pairs = Vec::new();
        for (i, labels) in present {
            let Some(open) = self.open.get_mut(i) else {
                continue;
            };
            debug_assert_eq!(series.get(open.series as usize), Some(labels));
            let chunks = open.finish()?;
            let chunks: Vec<Chunk<'_>> = chunks
                .iter()
                .map(|c| Chunk::xor(c.min, c.max, &c.data))
                .collect();
            pairs.clear();
            let ordinal = |s: &str| ordinals.get(s).copied().unwrap_or(0);
            pairs.extend(labels.iter().map(|(n, v)| (ordinal(n), ordinal(v))));
            writer.add(&pairs, &chunks)?;
        }
        Ok(writer.finish()?)
    }
}

impl Open {
    /// Ends the open chunk; how many bytes it takes.
    fn cut(&mut self) -> usize {
        let encoder = std::mem::replace(&mut self.encoder, xor::Encoder::new());
        if encoder.is_empty() {
            return 0;
        }
        let mut data = encoder.into_bytes();
        data.shrink_to_fit();
        let grown = data.len() + size_of::<Encoded>();
        self.done.push(Encoded {
            min: self.min,
            max: self.last.0,
            data,
        });
        grown
    }

    /// All chunks, in order.
    fn finish(&mut self) -> Result<Vec<Encoded>> {
        self.cut();
        let done = std::mem::take(&mut self.done);
        if self.late.is_empty() {
            return Ok(done);
        }
        let mut columns = Columns::default();
        for c in done {
            xor::decode(&c.data, &mut columns)?;
        }
        let mut all: Vec<(Millis, f64)> = columns.iter().collect();
        all.append(&mut self.late);
        all.sort_by_key(|s| s.0);
        let mut kept: Vec<(Millis, f64)> = Vec::with_capacity(all.len());
        for (ts, value) in all {
            match kept.last() {
                Some(last) if last.0 == ts && last.1.to_bits() == value.to_bits() => {}
                Some(last) if last.0 == ts => bail!("block creation: process blocks: {DUPLICATE}"),
                _ => kept.push((ts, value)),
            }
        }
        let chunks = kept.chunks(CHUNK_SAMPLES).filter_map(|part| {
            let mut encoder = xor::Encoder::new();
            part.iter().for_each(|s| encoder.append(s.0, s.1));
            Some(Encoded {
                min: part.first()?.0,
                max: part.last()?.0,
                data: encoder.into_bytes(),
            })
        });
        Ok(chunks.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_blocks() {
        const HOUR: Millis = 3_600_000;
        for (longest, want) in [
            (0, 2),
            (2, 2),
            (5, 2),
            (6, 6),
            (24, 18),
            (1_000_000, 2 * 3i64.pow(9)),
        ] {
            assert_eq!(block_duration(longest * HOUR), want * HOUR);
        }
    }
}

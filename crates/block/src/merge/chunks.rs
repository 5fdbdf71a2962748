use std::sync::Arc;

use bytes::Bytes;
use chunk::chunker::CHUNK_SAMPLES;
use chunk::samples::Samples;
use chunk::{Chunker, Columns, dedup};
use model::{Encoding, TimeRange};

use super::{MergedChunk, Overlap};
use crate::chunks::{parse, read_up_to, split};
use crate::index::ChunkMeta;
use crate::tombstones::{Touch, cut_out, subtract, touch};
use crate::{Block, BlockError};

/// So many bytes of a segment are read ahead.
const WINDOW: u64 = 1 << 20;

/// Puts the chunks of one series together.
pub(super) struct Combiner {
    overlap: Overlap,
    lanes: Vec<Columns>,
    inputs: Vec<Input>,
    places: Vec<Place>,
    live: Vec<Live>,
    lane: Columns,
    united: Columns,
    decoded: Columns,
    scratch: Columns,
}

struct Input {
    block: Arc<Block>,
    segment: usize,
    start: u64,
    window: Bytes,
}

#[derive(Clone, Copy)]
struct Place {
    meta: ChunkMeta,
    input: usize,
    id: u32,
}

/// A chunk of which something is left.
struct Live {
    place: Place,
    encoding: Encoding,
    data: Bytes,
    touched: bool,
}

impl Combiner {
    pub(super) fn new(blocks: &[Arc<Block>], overlap: Overlap) -> Self {
        Self {
            overlap,
            inputs: blocks
                .iter()
                .map(|block| Input {
                    block: Arc::clone(block),
                    segment: usize::MAX,
                    start: 0,
                    window: Bytes::new(),
                })
                .collect(),
            places: Vec::new(),
            live: Vec::new(),
            lanes: Vec::new(),
            lane: Columns::default(),
            united: Columns::default(),
            decoded: Columns::default(),
            scratch: Columns::default(),
        }
    }

    /// Adds the chunks that input `input` has of the series, which is its series `id`.
    pub(super) fn add(&mut self, input: usize, chunks: &[ChunkMeta], id: u32) {
        self.places
            .extend(chunks.iter().map(|&meta| Place { meta, input, id }));
    }

    /// Puts what was added together, in order and without overlaps, into `out`.
    pub(super) fn combine(&mut self, out: &mut Vec<MergedChunk>) -> Result<(), BlockError> {
        let mut places = std::mem::take(&mut self.places);
        // Stable: of equals the block given first comes first.
        places.sort_by_key(|p| (p.meta.min, p.meta.max));
        let mut rest = places.as_slice();
        while let Some(first) = rest.first() {
            let mut max = first.meta.max;
            let overlapping = rest
                .iter()
                .skip(1)
                .take_while(|p| {
                    let overlaps = p.meta.min <= max;
                    max = max.max(p.meta.max);
                    overlaps
                })
                .count();
            let (group, behind) = rest.split_at(1 + overlapping);
            rest = behind;
            self.group(group, out)?;
        }
        places.clear();
        self.places = places;
        Ok(())
    }

    /// Chunks that overlap, or a single one.
    fn group(&mut self, group: &[Place], out: &mut Vec<MergedChunk>) -> Result<(), BlockError> {
        let mut live = std::mem::take(&mut self.live);
        live.clear();
        for &place in group {
            let input = &mut self.inputs[place.input];
            let deleted = input.block.tombstones().of(place.id as u64);
            let touched = touch(deleted, place.meta.range());
            if touched == Touch::All {
                continue;
            }
            let (encoding, data) = input.chunk(place.meta.reference)?;
            live.push(Live {
                place,
                encoding,
                data,
                touched: touched == Touch::Part,
            });
        }
        let Some(first) = live.first() else {
            self.live = live;
            return Ok(());
        };
        // One chunk, or the same one in several blocks: its bytes are copied.
        let same = |l: &Live| !l.touched && l.encoding == first.encoding && l.data == first.data;
        if live.iter().all(same) {
            out.push(MergedChunk {
                min: first.place.meta.min,
                max: first.place.meta.max,
                encoding: first.encoding,
                data: first.data.clone(),
            });
        } else if let [one] = live.as_slice() {
            let deleted = self.inputs[one.place.input].deleted(one);
            let left = cut_out(one.encoding, &one.data, deleted)?;
            out.extend(left.into_iter().map(MergedChunk::from));
        } else if live.iter().any(|l| l.encoding == Encoding::AGGREGATE) {
            let TimeRange { min, max } = first.place.meta.range();
            return Err(BlockError::Invalid(format!(
                "downsampled chunks overlap at {min} to {max}: their columns cannot be united"
            )));
        } else if live.iter().any(|l| !is_float(l.encoding)) {
            live.sort_by_key(|l| l.place.input);
            self.unite_exactly(&live, out)?;
        } else {
            // Stable: those of one block stay in their order.
            live.sort_by_key(|l| l.place.input);
            self.united.clear();
            self.lanes.clear();
            for of_input in live.chunk_by(|a, b| a.place.input == b.place.input) {
                self.lane.clear();
                for l in of_input {
                    self.decode(l)?;
                    dedup::union(&mut self.lane, &self.decoded, &mut self.scratch);
                }
                match self.overlap {
                    Overlap::Unite => {
                        dedup::union(&mut self.united, &self.lane, &mut self.scratch);
                    }
                    Overlap::Penalty => self.lanes.push(std::mem::take(&mut self.lane)),
                }
            }
            if self.overlap == Overlap::Penalty {
                dedup::penalty(&self.lanes, false, &mut self.united);
            }
            self.encode(out);
        }
        self.live = live;
        Ok(())
    }

    /// Decodes a chunk without what is deleted of it.
    fn decode(&mut self, live: &Live) -> Result<(), BlockError> {
        self.decoded.clear();
        chunk::decode(live.encoding, &live.data, &mut self.decoded)?;
        if !self.decoded.ascends() {
            let TimeRange { min, max } = live.place.meta.range();
            return Err(BlockError::corrupt(format!(
                "chunks: the samples of a chunk from {min} to {max} are out of order"
            )));
        }
        if live.touched {
            subtract(
                &mut self.decoded,
                self.inputs[live.place.input].deleted(live),
            );
        }
        Ok(())
    }

    /// Unites chunks among which are histograms, whose integers stay exact.
    fn unite_exactly(&self, live: &[Live], out: &mut Vec<MergedChunk>) -> Result<(), BlockError> {
        let mut united = Samples::default();
        let mut lanes = Vec::new();
        for of_input in live.chunk_by(|a, b| a.place.input == b.place.input) {
            let mut lane = Samples::default();
            for l in of_input {
                let mut samples = Samples::default();
                samples.add(l.encoding, &l.data)?;
                if l.touched {
                    let deleted = self.inputs[l.place.input].deleted(l);
                    samples.retain(|ts| !deleted.iter().any(|d| d.contains(ts)));
                }
                lane.unite(samples);
            }
            match self.overlap {
                Overlap::Unite => united.unite(lane),
                Overlap::Penalty => lanes.push(lane),
            }
        }
        if self.overlap == Overlap::Penalty {
            united = Samples::penalty(lanes);
        }
        let mut chunker = Chunker::default();
        united.encode(&mut chunker)?;
        out.extend(chunker.finish().into_iter().map(MergedChunk::from));
        Ok(())
    }

    fn encode(&self, out: &mut Vec<MergedChunk>) {
        let columns = &self.united;
        let mut chunker = Chunker::default();
        let mut from = 0;
        while from < columns.len() {
            // As even as possible: two halves rather than a full chunk and a crumb.
            let left = columns.len() - from;
            let count = left.div_ceil(left.div_ceil(CHUNK_SAMPLES));
            for i in from..from + count {
                chunker.float(columns.ts[i], columns.start(i), columns.values[i]);
            }
            chunker.cut();
            from += count;
        }
        out.extend(chunker.finish().into_iter().map(MergedChunk::from));
    }
}

fn is_float(encoding: Encoding) -> bool {
    encoding == Encoding::XOR || encoding == Encoding::XOR2
}

impl Input {
    /// What is deleted of the series of a chunk.
    fn deleted(&self, live: &Live) -> &[TimeRange] {
        self.block.tombstones().of(live.place.id as u64)
    }

    /// One chunk; they are asked for in nearly the order in which they lie.
    fn chunk(&mut self, reference: u64) -> Result<(Encoding, Bytes), BlockError> {
        let (number, offset) = split(reference);
        let offset = offset as u64;
        let segment = self.block.segments().get(number)?;
        if let Some(whole) = segment.whole() {
            (self.segment, self.start, self.window) = (number, 0, whole);
        }
        let mut len = WINDOW;
        loop {
            let inside = (self.segment == number)
                .then(|| offset.checked_sub(self.start))
                .flatten()
                .and_then(|skip| usize::try_from(skip).ok())
                .filter(|skip| *skip < self.window.len());
            let mut need = 1;
            if let Some(skip) = inside {
                match parse(&self.window[skip..])? {
                    Ok(frame) => {
                        let at = skip + frame.start;
                        return Ok((frame.encoding, self.window.slice(at..at + frame.len)));
                    }
                    Err(n) => need = n as u64,
                }
                // It began with this chunk and still does not hold it.
                let at_end = self.start + self.window.len() as u64 >= segment.len();
                if at_end || (skip == 0 && need <= self.window.len() as u64) {
                    return Err(BlockError::corrupt("chunks: a chunk is truncated"));
                }
            }
            len = len.max(need);
            self.window = read_up_to(segment, offset, len)?;
            (self.segment, self.start) = (number, offset);
        }
    }
}

//! Going through a chunk of one kind of histograms.

use model::Millis;
use model::histogram::CounterReset;

use super::field::{Field, Xor};
use super::{Header, layout};
use crate::ChunkError;
use crate::bits::Reader;
use crate::histograms::{Layout, Scalars};
use crate::starts::Starts;

pub(super) struct Decoder<'a, F> {
    reader: Reader<'a>,
    /// Where the chunk ends, in bits.
    end: usize,
    pub(super) header: Header,
    pub(super) read: usize,
    pub(super) layout: Layout,
    pub(super) ts: Millis,
    pub(super) delta: i64,
    pub(super) count: F,
    pub(super) zero: F,
    pub(super) sum: Xor,
    /// Positive, then negative.
    pub(super) buckets: Vec<F>,
    /// How many of them are positive.
    pub(super) positive: usize,
    pub(super) starts: Starts,
}

impl<'a, F: Field> Decoder<'a, F> {
    /// `header` says the encoding; the rest of it is read. `buckets` is memory to work in.
    pub(super) fn new(
        header: Header,
        chunk: &'a [u8],
        mut buckets: Vec<F>,
    ) -> Result<Self, ChunkError> {
        let Some(&[a, b, c]) = chunk.first_chunk::<{ Header::BYTES }>() else {
            return Err(ChunkError::Truncated);
        };
        buckets.clear();
        let starts = match header.starts {
            true => Starts::of_header(c),
            false => Starts::default(),
        };
        Ok(Self {
            reader: Reader::new(chunk, Header::BYTES * 8),
            end: chunk.len() * 8,
            header: header.read([a, b, c]),
            read: 0,
            layout: Layout::default(),
            ts: 0,
            delta: 0,
            count: F::default(),
            zero: F::default(),
            sum: Xor::default(),
            buckets,
            positive: 0,
            starts,
        })
    }

    /// The position in bits.
    pub(super) fn pos(&self) -> usize {
        self.reader.pos()
    }

    /// Reads the next histogram and gives its absolute bucket counts, positive and then negative,
    /// to `count`. False: there is none any more.
    #[inline]
    pub(super) fn next(&mut self, count: impl FnMut(f64)) -> Result<bool, ChunkError> {
        if self.read == self.header.count {
            return Ok(false);
        }
        let before = self.ts;
        match self.read {
            0 => self.first(count)?,
            _ => self.another(count)?,
        }
        if self.header.starts {
            let n = self.read;
            self.starts.read(&mut self.reader, n, self.ts, before)?;
        }
        if self.reader.pos() > self.end {
            return Err(ChunkError::Truncated);
        }
        self.read += 1;
        Ok(true)
    }

    #[cold]
    fn first(&mut self, mut count: impl FnMut(f64)) -> Result<(), ChunkError> {
        let r = &mut self.reader;
        self.layout = layout::read(r, self.end)?;
        self.ts = r.varbit();
        self.count = F::read_first_count(r);
        self.zero = F::read_first_count(r);
        self.sum = Xor::read_first(r);
        // Before memory is taken for them: every bucket has some bits.
        let room = self.end.saturating_sub(r.pos()) / F::FIRST_BITS;
        let lengths = self.layout.positive.iter().chain(&self.layout.negative);
        if lengths.map(|span| span.length as u64).sum::<u64>() > room as u64 {
            return Err(ChunkError::Truncated);
        }
        self.positive = self.layout.positive_len();
        let all = self.layout.len();
        self.buckets.reserve(all);
        let mut left = F::Value::default();
        for i in 0..all {
            let field = F::read_first(r);
            if i == self.positive {
                left = F::Value::default();
            }
            left = F::absolute(left, field.value());
            count(F::to_float(left));
            self.buckets.push(field);
        }
        Ok(())
    }

    #[inline]
    fn another(&mut self, mut count: impl FnMut(f64)) -> Result<(), ChunkError> {
        let r = &mut self.reader;
        self.delta = self.delta.wrapping_add(r.varbit());
        self.ts = self.ts.wrapping_add(self.delta);
        self.count.read_next(r)?;
        self.zero.read_next(r)?;
        self.sum.read_next(r)?;
        if self.sum.is_stale() {
            return Ok(());
        }
        // So many buckets have a bit each: a chunk that ends before them is found out before the
        // row is given.
        if self.end.saturating_sub(r.pos()) < self.buckets.len() {
            return Err(ChunkError::Truncated);
        }
        let (positive, negative) = self.buckets.split_at_mut(self.positive);
        F::read_row(positive, r, &mut count)?;
        F::read_row(negative, r, count)
    }

    /// What a row says about a reset before it. Whether the chunk before this one is the one that
    /// the header was made for is not known, so that the first row says nothing.
    pub(super) fn counter_reset(&self) -> CounterReset {
        if self.sum.is_stale() {
            return CounterReset::Unknown;
        }
        match self.header.reset {
            CounterReset::Gauge => CounterReset::Gauge,
            _ if self.read > 1 => CounterReset::NotReset,
            _ => CounterReset::Unknown,
        }
    }

    pub(super) fn scalars(&self) -> Scalars {
        let stale = self.sum.is_stale();
        let or_zero = |count: f64| if stale { 0.0 } else { count };
        Scalars {
            counter_reset: self.counter_reset(),
            zero_count: or_zero(self.zero.count_as_float()),
            count: or_zero(self.count.count_as_float()),
            sum: self.sum.value(),
        }
    }
}

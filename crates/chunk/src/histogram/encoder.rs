//! One open chunk of one kind of histograms.

use std::sync::Arc;

use model::histogram::{
    Buckets, CUSTOM_SCHEMA, CounterReset, FloatHistogram, IntBuckets, IntHistogram, Span,
};
use model::{Millis, STALE_NAN, is_stale};

use super::decoder::Decoder;
use super::field::{Field, Int, Xor};
use super::spans::{self, Difference};
use super::{Header, layout};
use crate::ChunkError;
use crate::bits::Writer;
use crate::histograms::Layout;
use crate::starts::Starts;

/// A histogram of either kind, borrowed.
pub(super) struct Row<'a, F: Field> {
    pub(super) counter_reset: CounterReset,
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) zero_count: F::Value,
    pub(super) count: F::Value,
    pub(super) sum: f64,
    pub(super) positive: (&'a [Span], &'a [F::Value]),
    pub(super) negative: (&'a [Span], &'a [F::Value]),
    pub(super) custom_values: &'a Arc<[f64]>,
}

impl<F: Field> Row<'_, F> {
    fn check(&self) -> Result<(), ChunkError> {
        for (spans, values) in [self.positive, self.negative] {
            let ascends = spans.iter().skip(1).all(|span| span.offset >= 0);
            if !ascends || spans::count(spans) != values.len() {
                return Err(ChunkError::Corrupt("buckets do not fit their spans"));
            }
        }
        Ok(())
    }

    fn layout(&self) -> Layout {
        let custom = self.schema == CUSTOM_SCHEMA;
        Layout {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive: self.positive.0.to_vec(),
            negative: self.negative.0.to_vec(),
            custom_values: if custom {
                Arc::clone(self.custom_values)
            } else {
                Arc::default()
            },
        }
    }
}

impl<'a> From<&'a IntHistogram> for Row<'a, Int> {
    fn from(h: &'a IntHistogram) -> Self {
        fn buckets(b: &IntBuckets) -> (&[Span], &[i64]) {
            (&b.spans, &b.deltas)
        }
        Self {
            counter_reset: h.counter_reset,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero_count: h.zero_count as i64,
            count: h.count as i64,
            sum: h.sum,
            positive: buckets(&h.positive),
            negative: buckets(&h.negative),
            custom_values: &h.custom_values,
        }
    }
}

impl<'a> From<&'a FloatHistogram> for Row<'a, Xor> {
    fn from(h: &'a FloatHistogram) -> Self {
        fn buckets(b: &Buckets) -> (&[Span], &[f64]) {
            (&b.spans, &b.counts)
        }
        Self {
            counter_reset: h.counter_reset,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero_count: h.zero_count,
            count: h.count,
            sum: h.sum,
            positive: buckets(&h.positive),
            negative: buckets(&h.negative),
            custom_values: &h.custom_values,
        }
    }
}

/// What has to be done with a histogram.
enum Verdict {
    /// It goes into this chunk, after buckets were made equal: those of the positive and of the
    /// negative side differ so.
    Fits(Difference, Difference),
    /// It goes into a new chunk with this header.
    Cut(CounterReset),
}

/// What became of a histogram.
pub(super) enum Taken {
    Appended,
    Recoded,
    /// Nothing: it belongs into a new chunk with this header.
    Cut(CounterReset),
}

/// An open chunk. Counts of integer histograms are exact.
#[derive(Clone, Debug)]
pub(super) struct Typed<F> {
    w: Writer,
    header: Header,
    layout: Layout,
    ts: Millis,
    delta: i64,
    count: F,
    zero: F,
    sum: Xor,
    /// Positive, then negative.
    buckets: Vec<F>,
    starts: Starts,
}

impl<F: Field> Typed<F> {
    pub(super) fn new(header: Header) -> Self {
        Self {
            w: Writer::resume(vec![0; Header::BYTES], Header::BYTES * 8),
            header,
            layout: Layout::default(),
            ts: 0,
            delta: 0,
            count: F::default(),
            zero: F::default(),
            sum: Xor::default(),
            buckets: Vec::new(),
            starts: Starts::default(),
        }
    }

    /// Goes on with a chunk.
    pub(super) fn resume(header: Header, bytes: &[u8]) -> Result<Self, ChunkError> {
        let mut decoder = Decoder::<F>::new(header, bytes, Vec::new())?;
        while decoder.next(|_| ())? {}
        if header.starts {
            decoder.starts.resume(decoder.header.count)?;
        }
        let mut typed = Self::new(decoder.header);
        if decoder.header.count > 0 {
            typed.w = Writer::resume(bytes.to_vec(), decoder.pos());
        }
        typed.layout = decoder.layout;
        typed.ts = decoder.ts;
        typed.delta = decoder.delta;
        typed.count = decoder.count;
        typed.zero = decoder.zero;
        typed.sum = decoder.sum;
        typed.buckets = decoder.buckets;
        typed.starts = decoder.starts;
        Ok(typed)
    }

    pub(super) fn header(&self) -> Header {
        self.header
    }

    pub(super) fn set_reset(&mut self, reset: CounterReset) {
        self.header.reset = reset;
        self.header.write(self.starts, self.w.bytes_mut());
    }

    pub(super) fn last_ts(&self) -> Option<Millis> {
        (self.header.count > 0).then_some(self.ts)
    }

    pub(super) fn previous_ts(&self) -> Option<Millis> {
        (self.header.count > 1).then(|| self.ts.wrapping_sub(self.delta))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.w.bytes()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.w.into_bytes()
    }

    pub(super) fn capacity(&self) -> usize {
        self.w.capacity()
            + self.buckets.capacity() * size_of::<F>()
            + (self.layout.positive.capacity() + self.layout.negative.capacity())
                * size_of::<Span>()
            + self.layout.custom_values.len() * 8
    }

    /// Whether the histogram added last, if it was this one, would say the same (but for its time).
    pub(super) fn last_is(&self, row: &Row<'_, F>) -> bool {
        if self.header.count == 0 || self.sum.value().to_bits() != row.sum.to_bits() {
            return false;
        }
        let mut buckets = self.buckets.iter().map(F::value);
        let mut values = row.positive.1.iter().chain(row.negative.1).copied();
        is_stale(row.sum)
            || self.count.value() == row.count
                && self.zero.value() == row.zero_count
                && self.layout == row.layout()
                && buckets.by_ref().eq(values.by_ref())
    }

    /// The header of the chunk that `row` begins after this one.
    pub(super) fn next_header(&self, row: &Row<'_, F>) -> CounterReset {
        if row.counter_reset == CounterReset::Gauge {
            return CounterReset::Gauge;
        }
        if row.counter_reset == CounterReset::Reset {
            return CounterReset::Reset;
        }
        match self.judge_counter(row) {
            Verdict::Fits(..) => CounterReset::NotReset,
            // Only integer histograms tell a layout that has changed from no reset.
            Verdict::Cut(CounterReset::Unknown) if F::FIRST_BITS == 64 => CounterReset::NotReset,
            Verdict::Cut(reset) => reset,
        }
    }

    fn judge(&self, row: &Row<'_, F>) -> Verdict {
        match row.counter_reset {
            CounterReset::Gauge => self.judge_gauge(row),
            _ => self.judge_counter(row),
        }
    }

    fn same_meaning(&self, row: &Row<'_, F>) -> bool {
        row.schema == self.layout.schema && row.zero_threshold == self.layout.zero_threshold
    }

    fn same_bounds(&self, row: &Row<'_, F>) -> bool {
        row.schema != CUSTOM_SCHEMA || row.custom_values[..] == self.layout.custom_values[..]
    }

    fn sides(&self) -> (&[F], &[F]) {
        let middle = self.layout.positive_len().min(self.buckets.len());
        self.buckets.split_at(middle)
    }

    fn judge_counter(&self, row: &Row<'_, F>) -> Verdict {
        let none = Difference::default();
        if self.header.count > 0 && self.header.reset == CounterReset::Gauge {
            return Verdict::Cut(match F::FIRST_BITS {
                64 => CounterReset::Unknown,
                _ => CounterReset::NotReset,
            });
        }
        if row.counter_reset == CounterReset::Reset {
            return Verdict::Cut(CounterReset::Reset);
        }
        if is_stale(row.sum) {
            return Verdict::Fits(none, none);
        }
        if self.sum.is_stale() {
            // Only other stale markers may follow one.
            return Verdict::Cut(CounterReset::Unknown);
        }
        if F::less(row.count, self.count.value()) {
            return Verdict::Cut(CounterReset::Reset);
        }
        if !self.same_meaning(row) {
            return Verdict::Cut(CounterReset::Unknown);
        }
        if !self.same_bounds(row) || F::less(row.zero_count, self.zero.value()) {
            return Verdict::Cut(CounterReset::Reset);
        }
        let (positive, negative) = self.sides();
        let positive = spans::compare((&self.layout.positive, positive), row.positive);
        let negative = spans::compare((&self.layout.negative, negative), row.negative);
        match (positive, negative) {
            (Some(positive), Some(negative)) => Verdict::Fits(positive, negative),
            _ => Verdict::Cut(CounterReset::Reset),
        }
    }

    fn judge_gauge(&self, row: &Row<'_, F>) -> Verdict {
        let none = Difference::default();
        let gauge = self.header.count == 0 || self.header.reset == CounterReset::Gauge;
        if gauge && is_stale(row.sum) {
            return Verdict::Fits(none, none);
        }
        if !gauge || self.sum.is_stale() || !self.same_meaning(row) || !self.same_bounds(row) {
            return Verdict::Cut(CounterReset::Gauge);
        }
        Verdict::Fits(
            spans::compare_layouts(&self.layout.positive, row.positive.0),
            spans::compare_layouts(&self.layout.negative, row.negative.0),
        )
    }

    /// Appends a histogram, unless it belongs into a new chunk. The chunk is not full.
    pub(super) fn append(
        &mut self,
        ts: Millis,
        start: Millis,
        row: &Row<'_, F>,
    ) -> Result<Taken, ChunkError> {
        row.check()?;
        if self.header.count == 0 {
            if let CounterReset::Gauge | CounterReset::Reset = row.counter_reset {
                self.header.reset = row.counter_reset;
            }
            self.write_first(ts, start, row);
            return Ok(Taken::Appended);
        }
        let (positive, negative) = match self.judge(row) {
            Verdict::Cut(reset) => return Ok(Taken::Cut(reset)),
            Verdict::Fits(positive, negative) => (positive, negative),
        };
        if is_stale(row.sum) {
            let none: Option<(_, _, std::iter::Empty<F::Value>)> = None;
            self.write_next(ts, start, row.sum, none);
            return Ok(Taken::Appended);
        }
        let forward = positive.forward || negative.forward;
        let backward = positive.backward || negative.backward;
        if !forward && !backward {
            let values = row.positive.1.iter().chain(row.negative.1).copied();
            self.write_next(
                ts,
                start,
                row.sum,
                Some((row.count, row.zero_count, values)),
            );
            return Ok(Taken::Appended);
        }
        if forward {
            let gauge = row.counter_reset == CounterReset::Gauge;
            let wider = |old: &[Span], new: &[Span], difference: Difference| match difference
                .backward
                || gauge && backward
            {
                true => spans::united(old, new),
                false => new.to_vec(),
            };
            self.recode(Layout {
                positive: wider(&self.layout.positive, row.positive.0, positive),
                negative: wider(&self.layout.negative, row.negative.0, negative),
                ..self.layout.clone()
            })?;
        }
        let mut values = Vec::with_capacity(self.buckets.len());
        for ((from, of_row), to) in [row.positive, row.negative]
            .into_iter()
            .zip([&self.layout.positive, &self.layout.negative])
        {
            spans::moved::<F>(from, of_row.iter().copied(), to, &mut values);
        }
        let counts = (row.count, row.zero_count, values.into_iter());
        self.write_next(ts, start, row.sum, Some(counts));
        Ok(match forward {
            true => Taken::Recoded,
            false => Taken::Appended,
        })
    }

    /// Writes all samples again with more buckets.
    fn recode(&mut self, to: Layout) -> Result<(), ChunkError> {
        let mut wider = Self::new(Header {
            count: 0,
            ..self.header
        });
        let no_bounds = Arc::default();
        let (mut positive, mut negative) = (Vec::new(), Vec::new());
        let mut decoder = Decoder::<F>::new(self.header, self.w.bytes(), Vec::new())?;
        while decoder.next(|_| ())? {
            positive.clear();
            negative.clear();
            let from = &decoder.layout;
            let (p, n) = decoder
                .buckets
                .split_at(from.positive_len().min(decoder.buckets.len()));
            let values = |fields: &[F]| fields.iter().map(F::value).collect::<Vec<_>>();
            spans::moved::<F>(
                &from.positive,
                values(p).into_iter(),
                &to.positive,
                &mut positive,
            );
            spans::moved::<F>(
                &from.negative,
                values(n).into_iter(),
                &to.negative,
                &mut negative,
            );
            let row = Row::<F> {
                counter_reset: self.header.reset,
                schema: to.schema,
                zero_threshold: to.zero_threshold,
                zero_count: decoder.zero.value(),
                count: decoder.count.value(),
                sum: decoder.sum.value(),
                positive: (&to.positive, &positive),
                negative: (&to.negative, &negative),
                custom_values: if to.schema == CUSTOM_SCHEMA {
                    &to.custom_values
                } else {
                    &no_bounds
                },
            };
            let (ts, start) = (decoder.ts, decoder.starts.start());
            if wider.header.count == 0 {
                wider.write_first(ts, start, &row);
            } else {
                let values = positive.iter().chain(&negative).copied();
                let counts = (row.count, row.zero_count, values);
                wider.write_next(ts, start, row.sum, Some(counts));
            }
        }
        *self = wider;
        Ok(())
    }

    fn write_first(&mut self, ts: Millis, start: Millis, row: &Row<'_, F>) {
        let stale = is_stale(row.sum);
        let zero = F::Value::default();
        let (count, zero_count) = match stale {
            true => (zero, zero),
            false => (row.count, row.zero_count),
        };
        self.layout = if stale {
            Layout::default()
        } else {
            row.layout()
        };
        let w = &mut self.w;
        layout::write(w, &self.layout);
        w.varbit(ts);
        self.count = F::write_first_count(w, count);
        self.zero = F::write_first_count(w, zero_count);
        self.sum = Xor::write_first(w, if stale { STALE_NAN } else { row.sum });
        self.buckets.clear();
        if !stale {
            let values = row.positive.1.iter().chain(row.negative.1);
            self.buckets
                .extend(values.map(|value| F::write_first(w, *value)));
        }
        self.ts = ts;
        self.delta = 0;
        self.wrote(ts, start);
    }

    /// Without counts: a stale marker.
    fn write_next(
        &mut self,
        ts: Millis,
        start: Millis,
        sum: f64,
        counts: Option<(F::Value, F::Value, impl Iterator<Item = F::Value>)>,
    ) {
        let w = &mut self.w;
        let before = self.ts;
        let delta = ts.wrapping_sub(before);
        w.varbit(delta.wrapping_sub(self.delta));
        (self.ts, self.delta) = (ts, delta);
        match counts {
            Some((count, zero_count, values)) => {
                self.count.write_next(w, count);
                self.zero.write_next(w, zero_count);
                self.sum.write_next(w, sum);
                for (field, value) in self.buckets.iter_mut().zip(values) {
                    field.write_next(w, value);
                }
            }
            None => {
                self.count.write_stale(w);
                self.zero.write_stale(w);
                self.sum.write_next(w, sum);
            }
        }
        self.wrote(before, start);
    }

    fn wrote(&mut self, before: Millis, start: Millis) {
        if self.header.starts {
            let n = self.header.count;
            self.starts.write(&mut self.w, n, self.ts, before, start);
        }
        self.header.count += 1;
        self.header.write(self.starts, self.w.bytes_mut());
    }
}

//! The part of a histogram chunk that says which buckets there are.

use std::sync::Arc;

use model::histogram::{CUSTOM_SCHEMA, Span};

use crate::ChunkError;
use crate::bits::{Reader, Writer};
use crate::histograms::Layout;

/// The highest and lowest exponential schema that a chunk may have; those above
/// [`SCHEMA_MAX`] are of newer writers and read at that one.
const SCHEMA_RESERVED: std::ops::RangeInclusive<i32> = -9..=52;
/// The highest schema that rows are given in.
pub(super) const SCHEMA_MAX: i32 = 8;

pub(super) fn write(w: &mut Writer, layout: &Layout) {
    write_threshold(w, layout.zero_threshold);
    w.varbit(layout.schema.into());
    for spans in [&layout.positive, &layout.negative] {
        w.uvarbit(spans.len() as u64);
        for span in spans {
            w.uvarbit(span.length.into());
            w.varbit(span.offset.into());
        }
    }
    if layout.schema == CUSTOM_SCHEMA {
        w.uvarbit(layout.custom_values.len() as u64);
        for &bound in layout.custom_values.iter() {
            write_bound(w, bound);
        }
    }
}

/// Reads a layout; `end` is where the chunk ends, in bits.
pub(super) fn read(r: &mut Reader<'_>, end: usize) -> Result<Layout, ChunkError> {
    let zero_threshold = read_threshold(r);
    let schema = r.varbit() as i32;
    if schema != CUSTOM_SCHEMA && !SCHEMA_RESERVED.contains(&schema) {
        return Err(ChunkError::Corrupt("unknown histogram schema"));
    }
    let positive = read_spans(r, end)?;
    let negative = read_spans(r, end)?;
    let mut custom_values = Vec::new();
    if schema == CUSTOM_SCHEMA {
        for _ in 0..r.uvarbit() {
            custom_values.push(read_bound(r));
            if r.pos() > end {
                return Err(ChunkError::Truncated);
            }
        }
    }
    if r.pos() > end {
        return Err(ChunkError::Truncated);
    }
    Ok(Layout {
        schema,
        zero_threshold,
        positive,
        negative,
        custom_values: Arc::from(custom_values),
    })
}

/// Spans without buckets are left out: then a row has at least as many buckets as spans, and reading
/// it costs no more than its bytes.
fn read_spans(r: &mut Reader<'_>, end: usize) -> Result<Vec<Span>, ChunkError> {
    let mut spans = Vec::new();
    let mut skipped = 0i32;
    for _ in 0..r.uvarbit() {
        let length = r.uvarbit() as u32;
        let offset = skipped.saturating_add(r.varbit() as i32);
        // A list that is too long ends with the chunk, not with the memory.
        if r.pos() > end {
            return Err(ChunkError::Truncated);
        }
        if length == 0 {
            skipped = offset;
        } else {
            spans.push(Span { offset, length });
            skipped = 0;
        }
    }
    Ok(spans)
}

/// One byte for 0 and for the powers of two from 2^-243 to 2^10, nine for anything else.
fn write_threshold(w: &mut Writer, threshold: f64) {
    let bits = threshold.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    if threshold == 0.0 {
        w.bits(0, 8);
    } else if bits << 12 == 0 && (-243..=10).contains(&exponent) {
        w.bits((exponent + 244) as u64, 8);
    } else {
        w.pair((0xff, 8), (bits, 64));
    }
}

fn read_threshold(r: &mut Reader<'_>) -> f64 {
    match r.read(8) {
        0 => 0.0,
        255 => f64::from_bits(r.read(64)),
        byte => f64::from_bits((byte + 1023 - 244) << 52),
    }
}

/// Multiples of 0.001 up to 33554.43 as a number from 1, anything else as a zero bit and a float.
fn write_bound(w: &mut Writer, bound: f64) {
    let scaled = (bound * 1000.0).round();
    if (0.0..=33_554_430.0).contains(&(bound * 1000.0)) && scaled / 1000.0 == bound {
        w.uvarbit(scaled as u64 + 1);
    } else {
        w.pair((0, 1), (bound.to_bits(), 64));
    }
}

fn read_bound(r: &mut Reader<'_>) -> f64 {
    match r.uvarbit() {
        0 => f64::from_bits(r.read(64)),
        scaled => (scaled - 1) as f64 / 1000.0,
    }
}

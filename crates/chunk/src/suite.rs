//! What every `model::Source` and every `model::Sink` must do.
//!
//! An implementation runs [`source`] and [`histogram_source`] (or [`sink`] and [`histogram_sink`]) over
//! itself in a test; each check panics with its name if the promise is broken. [`collect`] and its kin run the rows of any source.

mod histograms;
mod sinks;
mod sources;

pub use histograms::{histogram_sink, histogram_source};
pub use sinks::sink;
pub use sources::source;

use std::collections::BTreeMap;

use futures::StreamExt;
use model::{Labels, Rows, Sample, Scope, SeriesBatch, SourceError, Symbols, TimeRange};

use crate::{Columns, Dedup, SeriesDecoder, Want};

/// All batches of `rows`, cursor after cursor.
pub fn batches(rows: Rows) -> Result<Vec<SeriesBatch>, SourceError> {
    let mut all = Vec::new();
    match rows {
        Rows::Cursors(cursors) => {
            for mut cursor in cursors {
                while let Some(batch) = cursor.next()? {
                    all.push(batch);
                }
            }
        }
        Rows::Stream(mut stream) => futures::executor::block_on(async {
            while let Some(batch) = stream.next().await {
                all.push(batch?);
            }
            Ok::<(), SourceError>(())
        })?,
    }
    Ok(all)
}

/// The series of some batches in their order, with their samples in `range`; replicas chained.
pub fn open(
    batches: &[SeriesBatch],
    symbols: &Symbols,
    range: TimeRange,
) -> Result<Vec<(Labels, Vec<Sample>)>, SourceError> {
    let mut decoder = SeriesDecoder::new();
    let mut columns = Columns::default();
    let want = Want {
        dedup: Dedup::Chain,
        ..Want::raw(range)
    };
    let mut all = Vec::new();
    for batch in batches {
        for i in 0..batch.len() {
            decoder.decode(batch, i, &want, &mut columns)?;
            all.push((batch.label_set(i, symbols), columns.samples()));
        }
    }
    Ok(all)
}

/// The series of `rows` in the order in which they come, with their samples in `range`.
pub fn collect_in_order(
    rows: Rows,
    scope: &Scope,
    range: TimeRange,
) -> Result<Vec<(Labels, Vec<Sample>)>, SourceError> {
    open(&batches(rows)?, &scope.symbols, range)
}

/// The series of `rows` with their samples in `range`, those without any left out. Series with
/// equal labels become one: every timestamp once, the first wins.
pub fn collect(
    rows: Rows,
    scope: &Scope,
    range: TimeRange,
) -> Result<BTreeMap<Labels, Vec<Sample>>, SourceError> {
    let mut map: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
    for (labels, samples) in collect_in_order(rows, scope, range)? {
        if samples.is_empty() {
            continue;
        }
        let all = map.entry(labels).or_default();
        all.extend(samples);
        all.sort_by_key(|s| s.ts);
        all.dedup_by_key(|s| s.ts);
    }
    Ok(map)
}

/// The series of `rows` with floats and histograms in `range`, those without any left out. Each series
/// comes once.
pub fn collect_columns(
    rows: Rows,
    scope: &Scope,
    range: TimeRange,
) -> Result<BTreeMap<Labels, Columns>, SourceError> {
    let mut decoder = SeriesDecoder::new();
    let want = Want {
        dedup: Dedup::Chain,
        ..Want::raw(range)
    };
    let mut map = BTreeMap::new();
    for batch in batches(rows)? {
        for i in 0..batch.len() {
            let mut columns = Columns::default();
            decoder.decode(&batch, i, &want, &mut columns)?;
            if !columns.holds_nothing() {
                map.insert(batch.label_set(i, &scope.symbols), columns);
            }
        }
    }
    Ok(map)
}

/// Whether two lists hold the same timestamps and bit-equal values.
pub fn same_samples(a: &[Sample], b: &[Sample]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.ts == b.ts && a.value.to_bits() == b.value.to_bits())
}

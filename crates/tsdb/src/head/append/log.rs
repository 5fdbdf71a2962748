//! The records of a batch, in the order of Prometheus: metadata, floats, histograms, exemplars.

use model::histogram::{CUSTOM_SCHEMA, FloatHistogram, Histogram, IntHistogram};
use model::{Batch, STALE_NAN};

use super::super::Head;
use super::super::exemplars::Judged;
use super::{Scratch, Verdict};
use crate::wal::{Rows, record};

/// Writes a row as it was judged.
fn put(rows: &mut Rows<'_>, batch: &Batch, row: usize, verdict: Verdict) {
    let Some(at) = row.checked_sub(batch.refs.len()) else {
        let (id, ts) = (batch.refs[row].id, batch.ts[row]);
        let start = batch.starts.get(row).copied().unwrap_or(0);
        match verdict {
            // What is out of order stands here too: whoever sends the log on wants every sample,
            // and replay passes over it as what it is.
            Verdict::Take | Verdict::Ooo => rows.sample((id, ts, start), batch.values[row]),
            Verdict::TakeIntMarker => {
                let marker = IntHistogram {
                    sum: STALE_NAN,
                    ..IntHistogram::default()
                };
                rows.histogram((id, ts, start), &Histogram::Int(marker));
            }
            Verdict::TakeFloatMarker => {
                let marker = FloatHistogram {
                    sum: STALE_NAN,
                    ..FloatHistogram::default()
                };
                rows.histogram((id, ts, start), &Histogram::Float(marker));
            }
            Verdict::Same | Verdict::Reject(_) => {}
        }
        return;
    };
    if verdict.takes() || verdict == Verdict::Ooo {
        let h = &batch.histograms[at];
        rows.histogram((h.series.id, h.ts, h.start), &h.value);
    }
}

/// In which record histograms of this sort stand.
fn sort(h: &Histogram) -> (bool, bool) {
    (
        matches!(h, Histogram::Float(_)),
        h.schema() == CUSTOM_SCHEMA,
    )
}

impl Head {
    /// The records of the rows that are out of order.
    pub(super) fn write_ooo_records(&self, batch: &Batch, scratch: &mut Scratch) {
        scratch.records.clear();
        let mut rows = Rows::new(&mut scratch.records, self.stores_starts());
        for (row, v) in scratch.verdicts.iter().enumerate() {
            if *v == Verdict::Ooo {
                put(&mut rows, batch, row, *v);
            }
        }
        rows.end();
    }

    pub(super) fn write_records(&self, batch: &Batch, scratch: &mut Scratch) {
        let Scratch {
            records,
            verdicts,
            order,
            exemplars,
        } = scratch;
        records.clear();
        for m in batch.metadata.iter().filter(|m| self.has_other_metadata(m)) {
            if records.open_len() == 0 {
                record::begin_metadata(records.out());
            }
            let d = &m.metadata;
            record::put_metadata(records.out(), m.series.id, d.kind, &d.unit, &d.help);
        }
        records.end();
        let mut rows = Rows::new(records, self.stores_starts());
        let floats = batch.refs.len();
        if !order.is_empty() {
            for &row in order.iter() {
                put(&mut rows, batch, row as usize, verdicts[row as usize]);
            }
        } else {
            for (row, v) in verdicts.iter().take(floats).enumerate() {
                put(&mut rows, batch, row, *v);
            }
            // Each sort together, so that there are few records.
            if !batch.histograms.is_empty() {
                for wanted in [(false, false), (false, true), (true, false), (true, true)] {
                    for (at, h) in batch.histograms.iter().enumerate() {
                        if sort(&h.value) == wanted {
                            put(&mut rows, batch, floats + at, verdicts[floats + at]);
                        }
                    }
                }
            }
        }
        let taken = batch.exemplars.iter().zip(exemplars.iter());
        for (e, _) in taken.filter(|(_, judged)| **judged == Judged::Take) {
            rows.exemplar(e);
        }
        rows.end();
    }
}

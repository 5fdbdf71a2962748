//! How records with start timestamps (types 11 to 13) give series, time and start of a row: the
//! first row in full, then the series as a difference to the row before, the time as one to the
//! first row, the start as a marker.

use super::BadRecord;
use crate::codec::{Reader, put_varint};

/// No start is known.
const NONE: u8 = 0;
/// The same as that of the row before.
const SAME: u8 = 1;
/// As a difference to the first row's.
const EXPLICIT: u8 = 2;

#[derive(Clone, Copy, Debug)]
struct Before {
    first_ts: i64,
    first_start: i64,
    series: u64,
    start: i64,
}

/// Writes series, time and start of rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StartsWriter(Option<Before>);

impl StartsWriter {
    pub(super) fn put(&mut self, out: &mut Vec<u8>, series: u64, ts: i64, start: i64) {
        let Some(before) = &mut self.0 else {
            for v in [series as i64, ts, start] {
                put_varint(out, v);
            }
            self.0 = Some(Before {
                first_ts: ts,
                first_start: start,
                series,
                start,
            });
            return;
        };
        put_varint(out, series.wrapping_sub(before.series) as i64);
        put_varint(out, ts.wrapping_sub(before.first_ts));
        if start == 0 {
            out.push(NONE);
        } else if start == before.start {
            out.push(SAME);
        } else {
            out.push(EXPLICIT);
            put_varint(out, start.wrapping_sub(before.first_start));
        }
        before.series = series;
        before.start = start;
    }
}

/// Reads what [`StartsWriter`] wrote.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StartsReader(Option<Before>);

impl StartsReader {
    pub(super) fn read(&mut self, r: &mut Reader<'_>) -> Result<(u64, i64, i64), BadRecord> {
        let Some(before) = &mut self.0 else {
            let (series, ts, start) = (r.varint()? as u64, r.varint()?, r.varint()?);
            self.0 = Some(Before {
                first_ts: ts,
                first_start: start,
                series,
                start,
            });
            return Ok((series, ts, start));
        };
        before.series = before.series.wrapping_add(r.varint()? as u64);
        let ts = before.first_ts.wrapping_add(r.varint()?);
        before.start = match r.u8()? {
            NONE => 0,
            SAME => before.start,
            EXPLICIT => before.first_start.wrapping_add(r.varint()?),
            _ => return Err(BadRecord),
        };
        Ok((before.series, ts, before.start))
    }
}

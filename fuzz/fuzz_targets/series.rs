//! Series of chunks of any bytes in any order and number of lanes: what comes out ascends, lies in the range,
//! and has each time once.

#![no_main]

use chunk::{Columns, Dedup, SeriesDecoder, Want};
use libfuzzer_sys::fuzz_target;
use model::source::Aggregate;
use model::{ChunkRef, Encoding, SeriesBatch, TimeRange};

fuzz_target!(|bytes: &[u8]| {
    let mut batch = SeriesBatch::default();
    let mut rest = bytes;
    // Of each chunk: encoding, lane, length, bytes.
    while let [encoding, lane, len, behind @ ..] = rest {
        let len = (*len as usize).min(behind.len());
        let offset = bytes.len() - behind.len();
        batch.chunks.push(ChunkRef {
            min: i64::MIN,
            max: i64::MAX,
            encoding: Encoding(encoding % 8),
            aggregate: if encoding & 0x80 != 0 { Aggregate::Counter } else { Aggregate::Raw },
            lane: (lane % 4) as u16,
            buffer: 0,
            offset: offset as u32,
            len: len as u32,
        });
        rest = &behind[len..];
    }
    batch.chunks.sort_by_key(|c| c.lane);
    batch.buffers.push(bytes.to_vec().into());
    batch.finish_series();
    let mut decoder = SeriesDecoder::new();
    let mut out = Columns::default();
    for dedup in [Dedup::Chain, Dedup::Penalty { counter: true }] {
        for aggregate in [Aggregate::Raw, Aggregate::Counter] {
            let range = TimeRange::new(-(1 << 50), 1 << 50);
            let want = Want { range, aggregate, dedup };
            if decoder.decode(&batch, 0, &want, &mut out).is_err() {
                continue;
            }
            assert!(out.ascends());
            let mut all: Vec<i64> = out.ts.iter().chain(&out.histograms.ts).copied().collect();
            assert!(all.iter().all(|t| range.contains(*t)));
            all.sort_unstable();
            assert!(aggregate == Aggregate::Counter || all.windows(2).all(|w| w[0] < w[1]));
        }
    }
});

//! Chunks of any bytes, of the encoding that the first byte names: decoding never panics and takes no more
//! memory than the bytes can hold, and what was decoded encodes to chunks that decode to the same.

#![no_main]

use chunk::samples::Samples;
use chunk::{Chunker, Columns, aggregate, histogram, xor, xor2};
use libfuzzer_sys::fuzz_target;
use model::Encoding;

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, chunk)) = bytes.split_first() else {
        return;
    };
    let encoding = match first % 7 {
        0 => Encoding::AGGREGATE,
        n => Encoding(n),
    };
    let _ = chunk::sample_count(encoding, chunk);
    let _ = block::chunks::parse(chunk);
    match encoding {
        Encoding::AGGREGATE => return columns(chunk),
        Encoding::XOR => {
            if let Ok(mut encoder) = xor::Encoder::resume(chunk) {
                encoder.append(i64::MAX, f64::NAN);
                assert!(xor::decode(encoder.bytes(), &mut Columns::default()).is_ok());
            }
        }
        Encoding::XOR2 => {
            if let Ok(mut encoder) = xor2::Encoder::resume(chunk) {
                encoder.append(i64::MAX, 5, f64::NAN);
                assert!(xor2::decode(encoder.bytes(), &mut Columns::default()).is_ok());
            }
        }
        _ => {
            if let Ok(mut encoder) = histogram::Encoder::resume(encoding, chunk) {
                let rows = histogram::rows(encoding, chunk).unwrap();
                if let Some(row) = rows.first() {
                    let _ = encoder.append(i64::MAX, 5, &row.value);
                    assert!(histogram::rows(encoder.encoding(), encoder.bytes()).is_ok());
                }
            }
        }
    }
    let mut columns = Columns::default();
    if chunk::decode(encoding, chunk, &mut columns).is_err() {
        assert!(columns.holds_nothing());
        return;
    }
    let counts: usize = columns.histograms.iter().map(|(_, h)| h.counts.len()).sum();
    assert!(columns.len() + counts <= 16 + chunk.len() * 8);
    let mut samples = Samples::default();
    if samples.add(encoding, chunk).is_err() {
        return;
    }
    let mut chunker = Chunker::default();
    if samples.encode(&mut chunker).is_err() {
        // Histograms whose buckets fit no spans.
        return;
    }
    let mut again = Columns::default();
    for c in chunker.finish() {
        chunk::decode(c.encoding, &c.data, &mut again).unwrap();
    }
    assert_eq!(again.ts, columns.ts);
    let bits = |c: &Columns| c.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&again), bits(&columns));
    assert_eq!(again.histograms.ts, columns.histograms.ts);
});

fn columns(chunk: &[u8]) {
    let mut counter = aggregate::Counter::default();
    let mut out = Columns::default();
    for part in aggregate::parts(chunk).flatten() {
        let bytes = &chunk[part.range];
        let mut column = Columns::default();
        if chunk::decode(part.encoding, bytes, &mut column).is_ok() {
            counter.add(&column, &mut out);
        }
    }
    assert!(out.ascends());
    let deleted = [model::TimeRange::new(0, 1 << 40)];
    let _ = block::tombstones::cut_out(Encoding::AGGREGATE, chunk, &deleted);
}

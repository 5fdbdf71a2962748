//! Segments of the log of any bytes, with checksums that are right, and records of any bytes: reading never
//! panics and takes no more memory than the bytes can hold, and what was read can be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tsdb::wal::record::{self, SamplesWriter};
use tsdb::wal::{PAGE, SegmentReader};

fuzz_target!(|bytes: &[u8]| {
    segment(bytes);
    segment(&framed(bytes));
    read(bytes);
});

/// Fragments as the bytes tell them (flags, length, data), each with its checksum, page by page.
fn framed(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [flags, high, low, data @ ..] = rest {
        let room = PAGE - out.len() % PAGE;
        if room < 7 {
            out.resize(out.len() + room, 0);
            continue;
        }
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (data, behind) = data.split_at(len.min(data.len()).min(room - 7));
        out.push(*flags);
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(&crc32c::crc32c(data).to_be_bytes());
        out.extend_from_slice(data);
        rest = behind;
    }
    out
}

fn segment(bytes: &[u8]) {
    let mut reader = SegmentReader::new(bytes);
    while let Ok(Some(record)) = reader.read() {
        read(record);
    }
    assert!(reader.good_offset() <= bytes.len() as u64);
}

fn read(bytes: &[u8]) {
    let _ = (record::kind(bytes), record::has_starts(bytes));
    let _ = record::read_series(bytes, |_, labels| drop(labels.to_vec()));
    let _ = record::read_label_sets(bytes, |_, _| {});
    let _ = record::read_tombstones(bytes, |_, _, _| {});
    let _ = record::read_exemplars(bytes, |_, _, _, _| {});
    let _ = record::read_metadata(bytes, |_, _, _, _| {});
    let _ = record::read_histograms(bytes, |_, _, _, value| {
        let _ = value.validate();
    });
    let _ = record::read_started_samples(bytes, |_, _, _, _| {});
    let mut rows = Vec::new();
    if record::read_samples(bytes, |series, ts, value| {
        rows.push((series, ts, value.to_bits()))
    })
    .is_ok()
        && let Some(&(series, ts, _)) = rows.first()
    {
        let mut again = Vec::new();
        let writer = SamplesWriter::begin(&mut again, series, ts);
        for &(series, ts, bits) in &rows {
            writer.push(&mut again, series, ts, f64::from_bits(bits));
        }
        let mut found = Vec::new();
        let read = |series, ts, value: f64| found.push((series, ts, value.to_bits()));
        assert!(record::read_samples(&again, read).is_ok());
        assert_eq!(found, rows);
    }
}

//! An index of any bytes, checksums mended so that the decoders behind them are reached.

#![no_main]

use std::sync::Arc;

use block::index::{self, PostingsTable, Reader, SymbolTable, Version, series};
use block::postings::Index as _;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use model::TimeRange;

/// `u32 len | content | u32 CRC`
fn section(content: &[u8]) -> Bytes {
    let mut out = (content.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(content);
    out.extend_from_slice(&crc32c::crc32c(content).to_be_bytes());
    out.into()
}

fuzz_target!(|bytes: &[u8]| {
    let (mut labels, mut chunks) = (Vec::new(), Vec::new());
    let _ = series::decode(bytes, TimeRange::ALL, &mut labels, &mut chunks);
    let _ = series::entry(bytes);
    let framed = section(bytes);
    let _ = index::decode_postings(&framed, &mut labels.iter().map(|l| l.0).collect());
    for version in [Version::V1, Version::V2] {
        if let Ok(symbols) = SymbolTable::decode(&framed, version, 5) {
            for (i, symbol) in symbols.iter().enumerate() {
                assert_eq!(symbols.get(i as u32), Some(symbol));
            }
            let _ = symbols.find("a");
        }
    }
    if let Ok(table) = PostingsTable::decode(&framed, u64::MAX) {
        for name in table.names() {
            for (value, at) in table.values(name, "") {
                assert_eq!(table.find(name, value), Some(at));
            }
        }
    }
    if let Ok(reader) = Reader::open(Arc::new(Bytes::copy_from_slice(bytes))) {
        let ids = reader.all_series().unwrap_or_default();
        let mut entries = reader.series();
        for &id in &ids {
            let _ = entries.labels(id, &[], &mut labels);
        }
        let keys: Vec<_> = reader.table().values("a", "").map(|v| v.1).collect();
        let _ = reader.postings(&keys, &mut |_| {});
    }
});

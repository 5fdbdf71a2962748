//! Chunks of any bytes: decoding never panics, and what was decoded in order encodes to a chunk that
//! decodes to the same.

#![no_main]

use chunk::{Columns, xor};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut columns = Columns::default();
    if xor::decode(bytes, &mut columns).is_ok() {
        let mut encoder = xor::Encoder::new();
        for (ts, value) in columns.iter() {
            encoder.append(ts, value);
        }
        let mut again = Columns::default();
        assert!(xor::decode(encoder.bytes(), &mut again).is_ok());
        assert!(again == columns);
    }
    if let Ok(mut encoder) = xor::Encoder::resume(bytes) {
        encoder.append(i64::MAX, f64::NAN);
        assert!(xor::decode(encoder.bytes(), &mut columns).is_ok());
    }
    let _ = block::chunks::parse(bytes);
});

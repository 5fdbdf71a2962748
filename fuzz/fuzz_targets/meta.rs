//! A meta.json of any bytes: what is read is written so that it can be read.

#![no_main]

use block::Meta;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(meta) = Meta::parse(bytes) {
        assert!(Meta::parse(&meta.to_json()).is_ok());
    }
});

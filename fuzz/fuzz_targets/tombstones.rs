//! Tombstones of any records: what is read is written so that it reads the same.

#![no_main]

use block::Tombstones;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|records: &[u8]| {
    let _ = Tombstones::decode(records);
    let mut file = vec![0x01, 0x30, 0xBA, 0x30, 1];
    file.extend_from_slice(records);
    file.extend_from_slice(&crc32c::crc32c(records).to_be_bytes());
    if let Ok(tombstones) = Tombstones::decode(&file) {
        assert!(Tombstones::decode(&tombstones.encode()).is_ok_and(|t| t == tombstones));
    }
});

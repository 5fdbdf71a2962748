//! A data folder whose log, out-of-order log and head chunk file hold any bytes under right checksums: it
//! opens, answers, takes samples, cuts blocks, and opens again without finding the same damage once more.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use model::{Labels, Scope, Select, Source as _, TimeRange};
use tsdb::{Db, Options};

fuzz_target!(|bytes: &[u8]| {
    // What stands in memory costs no disk.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let dir = dir.expect("a folder");
    let (mut wal, mut wbl, mut chunks) = (
        Vec::new(),
        Vec::new(),
        b"\x01\x30\xbc\x91\x01\0\0\0".to_vec(),
    );
    let mut rest = bytes;
    // Of each piece: what it is for, its length, its bytes.
    while let [what, high, low, data @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (data, behind) = data.split_at(len.min(data.len()));
        rest = behind;
        match what % 4 {
            0 | 1 => record(&mut wal, data),
            2 => record(&mut wbl, data),
            _ => chunk(&mut chunks, data),
        }
    }
    for (folder, file, bytes) in [
        ("wal", "00000000", wal),
        ("wbl", "00000000", wbl),
        ("chunks_head", "000001", chunks),
    ] {
        std::fs::create_dir(dir.path().join(folder)).expect("a folder");
        std::fs::write(dir.path().join(folder).join(file), bytes).expect("a file");
    }
    let options = || Options {
        out_of_order_window: 1 << 40,
        lock: false,
        ..Options::quiet()
    };
    let db = match Db::open(dir.path(), options()) {
        Ok(db) => db,
        Err(e) => panic!("not opened: {e}"),
    };
    ask(&db);
    let row = (Labels::from_pairs([("__name__", "new")]), 1_000, 1.0);
    let _ = db.append_samples(&[row]);
    let _ = db.maintain();
    ask(&db);
    drop(db);
    let db = Db::open(dir.path(), options()).expect("opened again");
    // What was set aside stays there; a malformed record under a right checksum is passed over each time.
    let mut damaged = db.replayed().damaged.iter();
    let again = damaged.find(|what| !what.contains("malformed record"));
    assert_eq!(again, None);
    ask(&db);
});

/// A whole record in one fragment; one that does not fit into the page is left out.
fn record(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() || out.len() % (32 << 10) + 7 + data.len() > 32 << 10 {
        return;
    }
    out.push(1);
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(&crc32c::crc32c(data).to_be_bytes());
    out.extend_from_slice(data);
}

/// Series, first and last time, encoding; then a chunk's own bytes.
fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    let Some((&[series, min, span, encoding], own)) = data.split_first_chunk() else {
        return;
    };
    let start = out.len();
    out.extend_from_slice(&u64::from(series).to_be_bytes());
    out.extend_from_slice(&i64::from(min).to_be_bytes());
    out.extend_from_slice(&(i64::from(min) + i64::from(span)).to_be_bytes());
    out.push(encoding);
    let mut len = own.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(own);
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// Everything; an error is an answer, a panic is none.
fn ask(db: &Db) {
    let scope = Scope::unbounded(TimeRange::ALL);
    if let Ok(view) = db.open(Arc::clone(&scope)) {
        let rows = view.select(Select::new(vec![], TimeRange::ALL));
        let _ = chunk::suite::collect_columns(rows, &scope, TimeRange::ALL);
    }
    assert!(Path::new(db.dir()).is_dir());
}

use proptest::prelude::*;

use super::*;
use crate::fs::OsFs;
use crate::fs::sim::{Deed, Failure, Loss, SimFs};

fn open(dir: &Path, options: WalOptions) -> Wal {
    Wal::open(dir, options, Arc::new(OsFs), Arc::default()).unwrap()
}

fn put(wal: &Wal, list: &[Vec<u8>]) -> Result<(), Error> {
    let mut records = Records::new(wal.options().compression);
    for r in list {
        records.out().extend_from_slice(r);
        records.end();
    }
    wal.append(&mut records).and_then(|t| wal.settle(t))
}

/// All records of a folder; stops a segment at its first error.
fn read(dir: &Path) -> (Vec<Vec<u8>>, Vec<(u64, bool)>) {
    let (mut list, mut errors) = (Vec::new(), Vec::new());
    for (n, path) in segments(dir).unwrap() {
        let mut r = SegmentReader::open(&path).unwrap();
        loop {
            match r.read() {
                Ok(Some(rec)) => list.push(rec.to_vec()),
                Ok(None) => break,
                Err(ReadError::Corrupt { torn, .. }) => {
                    errors.push((n, torn));
                    break;
                }
                Err(e) => panic!("{e:?}"),
            }
        }
    }
    (list, errors)
}

fn noise(len: usize, seed: usize) -> Vec<u8> {
    let mut x = seed as u64 | 1;
    (0..len)
        .map(|_| {
            x = x
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (x >> 56) as u8 | 1
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn records_return(
        lens in prop::collection::vec((1usize..100_000, any::<bool>()), 1..12),
        mode in prop::sample::select(vec![Compression::None, Compression::Snappy, Compression::Zstd]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions { compression: mode, segment_size: 4 * PAGE as u64, ..WalOptions::default() };
        let wal = open(dir.path(), options);
        let list: Vec<Vec<u8>> = lens
            .iter()
            .enumerate()
            .map(|(i, &(n, dull))| if dull { vec![1; n] } else { noise(n, i) })
            .collect();
        for part in list.chunks(3) {
            put(&wal, part).unwrap();
        }
        let (back, errors) = read(dir.path());
        prop_assert!(errors.is_empty());
        prop_assert_eq!(back, list);
    }

    #[test]
    fn a_cut_segment_gives_a_prefix_and_says_torn(cut in 1usize..60_000) {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(dir.path(), WalOptions { compression: Compression::None, ..WalOptions::default() });
        let list: Vec<Vec<u8>> = (0..40).map(|i| noise(200 * i + 1, i)).collect();
        put(&wal, &list).unwrap();
        let path = dir.path().join("00000000");
        let bytes = std::fs::read(&path).unwrap();
        prop_assume!(cut < bytes.len());
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let (back, errors) = read(dir.path());
        prop_assert!(list.starts_with(&back));
        prop_assert!(errors.iter().all(|&(_, torn)| torn));
        // Zeros at the end, as delayed allocation leaves them, are torn too.
        let mut zeros = bytes[..cut].to_vec();
        zeros.resize(cut + 1000, 0);
        std::fs::write(&path, &zeros).unwrap();
        prop_assert_eq!(read(dir.path()).0.len(), back.len());
    }

    #[test]
    fn a_flipped_bit_is_noticed(at in 0usize..50_000, bit in 0u8..8) {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(dir.path(), WalOptions::default());
        let list: Vec<Vec<u8>> = (0..40).map(|i| noise(100 * i + 1, i)).collect();
        put(&wal, &list).unwrap();
        let path = dir.path().join("00000000");
        let mut bytes = std::fs::read(&path).unwrap();
        prop_assume!(at < bytes.len());
        bytes[at] ^= 1 << bit;
        std::fs::write(&path, &bytes).unwrap();
        let (back, _) = read(dir.path());
        // A flipped compression or padding bit may hide the record, never change it.
        prop_assert!(back.iter().all(|r| list.contains(r)));
    }

    #[test]
    fn rubbish_is_read_without_panic(bytes: Vec<u8>) {
        let mut r = SegmentReader::new(bytes.as_slice());
        while let Ok(Some(_)) = r.read() {}
    }
}

#[test]
fn damage_is_set_aside_and_the_rest_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path(), WalOptions::default());
    let list: Vec<Vec<u8>> = (0..30).map(|i| noise(3000, i)).collect();
    put(&wal, &list).unwrap();
    let path = dir.path().join("00000000");
    let mut bytes = std::fs::read(&path).unwrap();
    let n = bytes.len();
    bytes[n / 2] ^= 0xff;
    std::fs::write(&path, &bytes).unwrap();
    let mut r = SegmentReader::open(&path).unwrap();
    while let Ok(Some(_)) = r.read() {}
    let good = r.good_offset();
    set_aside(&OsFs, &path, good, true).unwrap();
    assert_eq!(
        std::fs::read(dir.path().join("00000000.bad")).unwrap(),
        bytes[good as usize..]
    );
    let (back, errors) = read(dir.path());
    assert!(errors.is_empty() && list.starts_with(&back) && !back.is_empty());
    set_aside(&OsFs, &path, 0, true).unwrap();
    assert!(dir.path().join("00000000.bad.1").exists());
}

#[test]
fn a_new_segment_follows_the_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path(), WalOptions::default()), &[vec![9; 10]]).unwrap();
    let wal = open(dir.path(), WalOptions::default());
    assert_eq!(wal.segment(), 1);
    put(&wal, &[vec![8; 10]]).unwrap();
    assert_eq!(wal.rotate().unwrap(), 1);
    assert_eq!(read(dir.path()).0, [vec![9; 10], vec![8; 10]]);
    wal.delete_segments(0).unwrap();
    assert_eq!(segments(dir.path()).unwrap()[0].0, 1);
}

#[test]
fn a_full_disk_loses_only_what_was_refused() {
    for cuts_fail in [0, 1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let fs = SimFs::new(dir.path()).unwrap();
        let wal = Wal::open(
            dir.path(),
            WalOptions::default(),
            Arc::new(fs.clone()),
            Arc::default(),
        )
        .unwrap();
        let (mut appends, mut cuts) = (0, 0);
        fs.fail(Some(Box::new(move |_, deed, _| match deed {
            // After writing half, every third time.
            Deed::Append(len) => {
                appends += 1;
                (appends % 3 == 0).then(|| Failure::full(len / 2))
            }
            Deed::Truncate if cuts < cuts_fail => {
                cuts += 1;
                Some(Failure::broken(0))
            }
            _ => None,
        })));
        let mut taken = Vec::new();
        for i in 0..30 {
            let record = noise(1000 + i, i);
            match put(&wal, std::slice::from_ref(&record)) {
                Ok(()) => taken.push(record),
                Err(e) => assert_eq!(e.kind(), model::source::Kind::Unavailable),
            }
        }
        // As long as the half cannot be cut off, nothing is taken.
        assert!((19..=20).contains(&taken.len()), "{}", taken.len());
        assert_eq!(read(dir.path()), (taken, Vec::new()));
    }
}

#[test]
fn what_an_fsync_failed_on_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let fs = SimFs::new(dir.path()).unwrap();
    let options = WalOptions {
        segment_size: 2 * PAGE as u64,
        ..WalOptions::default()
    };
    let wal = Wal::open(dir.path(), options, Arc::new(fs.clone()), Arc::default()).unwrap();
    let list: Vec<Vec<u8>> = (0..200).map(|i| noise(1000, i)).collect();
    put(&wal, &list[..20]).unwrap();
    wal.sync().unwrap();
    for one in list[20..190].chunks(10) {
        put(&wal, one).unwrap();
    }
    fs.fail(Some(Box::new(|_, deed, _| {
        (deed == Deed::Sync).then(|| Failure::broken(0))
    })));
    wal.sync().unwrap_err();
    put(&wal, &list[190..]).unwrap();
    let segments = segments(dir.path()).unwrap();
    for _ in 0..3 {
        wal.sync().unwrap_err();
    }
    assert_eq!(super::segments(dir.path()).unwrap(), segments);
    fs.fail(None);
    wal.sync().unwrap();
    assert_eq!(read(dir.path()), (list.clone(), Vec::new()));
    for seed in 0..20 {
        let left = tempfile::tempdir().unwrap();
        fs.lay_out(fs.steps(), Loss::Power, seed, left.path())
            .unwrap();
        assert_eq!(read(left.path()), (list.clone(), Vec::new()));
    }
}

#[test]
fn everybody_who_waits_for_the_disk_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(
        dir.path(),
        WalOptions {
            sync: SyncMode::Always,
            segment_size: 2 * PAGE as u64,
            ..WalOptions::default()
        },
    );
    std::thread::scope(|s| {
        for t in 0..4 {
            let wal = &wal;
            s.spawn(move || {
                for i in 0..20 {
                    put(wal, &[noise(2000, t * 100 + i)]).unwrap();
                }
            });
        }
    });
    assert_eq!(read(dir.path()).0.len(), 80);
}

#[test]
fn a_checkpoint_keeps_what_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path(), WalOptions::default());
    let mut records = Records::new(Compression::Snappy);
    record::begin_series(records.out());
    for i in 0..10u64 {
        record::put_series(records.out(), i, [("n", "v")].into_iter());
    }
    records.end();
    for t in 0..10 {
        let w = record::SamplesWriter::begin(records.out(), 0, t);
        for i in 0..10u64 {
            w.push(records.out(), i, t, 1.0);
        }
        records.end();
    }
    record::put_tombstones(records.out(), &[(1, 0, 3), (2, 0, 9)]);
    records.end();
    let _ = wal.append(&mut records).unwrap();
    let ended = wal.rotate().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    let keep = |s: u64| s.is_multiple_of(2);
    let kept = checkpoint::write(dir.path(), ended, 5, &keep, wal.options(), &fs).unwrap();
    assert_eq!((kept.series, kept.samples), (5, 25));
    assert_eq!((kept.dropped_series, kept.dropped_samples), (5, 75));
    wal.delete_segments(ended).unwrap();

    // The next one takes the first for its input.
    records.clear();
    record::begin_series(records.out());
    record::put_series(records.out(), 12, [("n", "w")].into_iter());
    records.end();
    let _ = wal.append(&mut records).unwrap();
    let ended = wal.rotate().unwrap();
    let kept = checkpoint::write(dir.path(), ended, 8, &keep, wal.options(), &fs).unwrap();
    assert_eq!((kept.series, kept.samples), (6, 10));
    assert_eq!(checkpoint::delete_older(&*fs, dir.path()).unwrap(), 1);
    let (n, path) = checkpoint::latest(dir.path()).unwrap().unwrap();
    assert_eq!(n, ended);
    let (list, errors) = read(&path);
    assert!(errors.is_empty());
    let mut stones = Vec::new();
    for r in &list {
        if record::kind(r) == RecordKind::Tombstones {
            record::read_tombstones(r, |s, a, b| stones.push((s, a, b))).unwrap();
        }
    }
    assert_eq!(stones, [(2, 0, 9)]);
}

use record::RecordKind;

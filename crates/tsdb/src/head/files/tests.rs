use super::*;

fn open(dir: &Path) -> (ChunkFiles, Loaded, Vec<String>) {
    let mut damaged = Vec::new();
    let (files, loaded) = ChunkFiles::open(
        dir,
        block::fs::os(),
        Millis::MIN,
        Arc::default(),
        &mut damaged,
    )
    .unwrap();
    (files, loaded, damaged)
}

/// A chunk whose bytes are `n` times the first time.
fn chunk(series: u64, min: Millis, n: usize) -> (u64, Millis, Vec<u8>) {
    let mut bytes = vec![min as u8; n + 2];
    bytes[..2].copy_from_slice(&(n as u16).to_be_bytes());
    (series, min, bytes)
}

fn write(files: &ChunkFiles, chunks: &[(u64, Millis, Vec<u8>)]) -> Vec<Place> {
    try_write(files, chunks).unwrap()
}

fn try_write(files: &ChunkFiles, chunks: &[(u64, Millis, Vec<u8>)]) -> Result<Vec<Place>, Error> {
    let chunks: Vec<Unsaved<'_>> = chunks
        .iter()
        .map(|(series, min, bytes)| Unsaved {
            series: *series,
            min: *min,
            max: min + 9,
            encoding: Encoding::XOR,
            bytes,
        })
        .collect();
    files.write(&chunks)
}

#[test]
fn chunks_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (files, ..) = open(dir.path());
    let chunks = [chunk(1, 10, 40), chunk(1, 20, 3000), chunk(7, 15, 1)];
    let places = write(&files, &chunks);
    for (c, at) in chunks.iter().zip(&places) {
        let file = files.file(at.file).unwrap();
        assert_eq!(file.chunk(at.offset, c.2.len() as u32).unwrap(), c.2);
        assert!(file.shared().unwrap().len() >= at.offset as usize + c.2.len());
    }
    assert_eq!(places[0].offset, 8 + 8 + 8 + 8 + 1 + 1);
    drop(files);

    let (files, loaded, damaged) = open(dir.path());
    assert!(damaged.is_empty());
    assert_eq!(loaded.highest, 7);
    let found = &loaded.chunks[&1];
    let times: Vec<_> = found.iter().map(|f| (f.min, f.max, f.samples)).collect();
    assert_eq!(times, [(10, 19, 40), (20, 29, 3000)]);
    let file = files.file(found[1].place.file).unwrap();
    assert!(file.shared().is_none(), "what was found is not mapped");
    let bytes = file.chunk(found[1].place.offset, found[1].len).unwrap();
    assert_eq!(bytes, chunks[1].2);
    // A new file is begun behind it.
    write(&files, &[chunk(9, 100, 5)]);
    let names = numbers(&block::fs::OsFs, dir.path()).unwrap();
    assert_eq!(names.into_keys().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn old_files_go_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (files, ..) = open(dir.path());
    for (i, min) in [10, 50, 30].into_iter().enumerate() {
        write(&files, &[chunk(i as u64 + 1, min, 5)]);
        files.truncate(Millis::MIN).unwrap();
    }
    let left = || {
        numbers(&block::fs::OsFs, dir.path())
            .unwrap()
            .into_keys()
            .collect::<Vec<_>>()
    };
    assert_eq!(left(), [1, 2, 3]);
    files.truncate(45).unwrap();
    assert_eq!(left(), [2, 3], "the third waits for the second");
    let place = write(&files, &[chunk(8, 70, 5)])[0];
    assert_eq!(place.file, 0, "a place is used again");
    files.truncate(60).unwrap();
    assert_eq!(left(), [4]);
}

#[test]
fn damage_is_set_aside_with_what_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (files, ..) = open(dir.path());
    let mut places = Vec::new();
    for i in 1..=4 {
        places.extend(write(&files, &[chunk(i, 10, 50), chunk(i, 20, 50)]));
        files.truncate(Millis::MIN).unwrap();
    }
    drop(files);
    let second = dir.path().join("000002");
    let mut bytes = std::fs::read(&second).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    std::fs::write(&second, bytes).unwrap();
    let (files, loaded, damaged) = open(dir.path());
    assert_eq!(damaged.len(), 1);
    assert!(damaged[0].contains("checksum"), "{damaged:?}");
    assert_eq!(loaded.chunks.keys().copied().collect::<Vec<_>>(), [1]);
    assert!(dir.path().join("000004.bad").exists());
    // No gap between the numbers.
    write(&files, &[chunk(9, 100, 5)]);
    let left = numbers(&block::fs::OsFs, dir.path()).unwrap();
    assert_eq!(left.into_keys().collect::<Vec<_>>(), [1, 2]);
}

/// What an fsync failed on is written anew before another file follows it.
#[test]
fn no_file_follows_one_that_may_not_be_on_the_disk() {
    use block::fs::sim::{Deed, Failure, Loss, SimFs};
    let dir = tempfile::tempdir().unwrap();
    let sim = SimFs::new(dir.path()).unwrap();
    let open = |dir: &Path, fs: Arc<dyn Fs>| {
        let mut damaged = Vec::new();
        ChunkFiles::open(dir, fs, Millis::MIN, Arc::default(), &mut damaged).unwrap()
    };
    let (files, _) = open(dir.path(), Arc::new(sim.clone()));
    write(&files, &[chunk(1, 10, 50)]);
    // Neither the fsync works, nor writing it anew.
    sim.fail(Some(Box::new(|_, deed, _| {
        (deed == Deed::Sync).then(|| Failure::broken(0))
    })));
    assert!(files.truncate(Millis::MIN).is_err());
    let more = [chunk(1, 20, 50)];
    assert!(try_write(&files, &more).is_err());
    sim.fail(None);
    assert_eq!(write(&files, &more)[0].file, 1);
    assert_eq!(files.file(0).unwrap().chunk(0, 8).unwrap().len(), 8);
    for seed in 0..20 {
        let left = tempfile::tempdir().unwrap();
        sim.lay_out(sim.steps(), Loss::Power, seed, left.path())
            .unwrap();
        let (_, loaded) = open(left.path(), block::fs::os());
        let first: Vec<_> = loaded.chunks[&1].iter().map(|c| c.min).collect();
        assert_eq!(first[0], 10, "{first:?}");
    }
}

#[test]
fn a_torn_end_is_cut_and_room_made_in_advance_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (files, ..) = open(dir.path());
    write(&files, &[chunk(1, 10, 50), chunk(1, 20, 50)]);
    drop(files);
    let path = dir.path().join("000001");
    let bytes = std::fs::read(&path).unwrap();
    for cut in 1..60 {
        std::fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
        let (_, loaded, damaged) = open(dir.path());
        assert!(damaged.is_empty());
        assert_eq!(loaded.chunks[&1].len(), 1, "{cut}");
    }
    let padded = [bytes.as_slice(), &[0; 500]].concat();
    std::fs::write(&path, padded).unwrap();
    let (_, loaded, damaged) = open(dir.path());
    assert!(damaged.is_empty());
    assert_eq!(loaded.chunks[&1].len(), 2);
    // Prometheus makes no sync between creating a file and writing to it.
    std::fs::write(dir.path().join("000002"), b"").unwrap();
    let (files, ..) = open(dir.path());
    write(&files, &[chunk(9, 100, 5)]);
    assert_eq!(open(dir.path()).1.chunks.len(), 2);
}

#[test]
fn rubbish_is_never_believed() {
    use proptest::prelude::*;
    let dir = tempfile::tempdir().unwrap();
    let (files, ..) = open(dir.path());
    write(&files, &[chunk(1, 10, 50), chunk(2, 20, 50)]);
    drop(files);
    let path = dir.path().join("000001");
    let good = std::fs::read(&path).unwrap();
    proptest!(ProptestConfig::with_cases(64), |(at in 0..good.len(), to: u8, cut in 0..good.len())| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes.truncate(good.len() - cut);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("000001"), bytes).unwrap();
        let (_, loaded, _) = open(dir.path());
        for (series, found) in &loaded.chunks {
            prop_assert!(*series == 1 || *series == 2);
            prop_assert!(found.iter().all(|f| f.samples == 50));
        }
    });
}

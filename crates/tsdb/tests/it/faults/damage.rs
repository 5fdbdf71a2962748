//! Flipped bits and cut files, of every kind of file: what is damaged is set aside and named, no
//! answer is ever another one, and the rest serves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use block::Meta;
use block::fs::sim::{Dice, SimFs};
use model::{Kind, TimeRange};
use tsdb::Db;

use super::content::{Content, ask, difference};
use super::effort;
use super::script::{BLOCK, Deed, Run, options, random};
use crate::copy;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kin {
    Segment,
    LastSegment,
    Checkpoint,
    OutOfOrder,
    HeadChunks,
    Index,
    Chunks,
    Tombstones,
    Meta,
}

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        match path.is_dir() {
            true => files(&path, into),
            false => into.push(path),
        }
    }
}

fn kin(path: &Path, last: &Path) -> Option<Kin> {
    let text = path.to_str().unwrap();
    Some(match path.file_name().unwrap().to_str().unwrap() {
        "index" => Kin::Index,
        "tombstones" => Kin::Tombstones,
        "meta.json" => Kin::Meta,
        "lock" => return None,
        _ if text.contains("/chunks/") => Kin::Chunks,
        _ if text.contains("checkpoint.") => Kin::Checkpoint,
        _ if text.contains("/wbl/") => Kin::OutOfOrder,
        _ if text.contains("/chunks_head/") => Kin::HeadChunks,
        _ if path == last => Kin::LastSegment,
        _ if text.contains("/wal/") => Kin::Segment,
        _ => return None,
    })
}

fn spoil(path: &Path, dice: &mut Dice) -> String {
    let mut bytes = std::fs::read(path).unwrap();
    let what = match dice.below(4) {
        0 => {
            bytes.truncate(dice.below(bytes.len()));
            format!("cut to {} bytes", bytes.len())
        }
        1 => {
            let from = dice.below(bytes.len());
            let to = bytes.len().min(from + 1 + dice.below(64));
            bytes[from..to].fill(0);
            format!("zeros from {from} to {to}")
        }
        _ => {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
            format!("a bit of byte {at}")
        }
    };
    std::fs::write(path, bytes).unwrap();
    what
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    tried: usize,
    set_aside: usize,
    refused: usize,
    harmless: usize,
}

/// A folder with every kind of file.
fn folder() -> (Run, Content) {
    let mut run = Run::new(|o| o.max_block = Some(BLOCK));
    let series = || Deed::Append(vec![0, 1, 2, 3]);
    let mut script = vec![series(); 30];
    script.push(Deed::Maintain);
    script.extend(vec![series(); 10]);
    script.push(Deed::Delete(1, TimeRange::new(500, 3_000)));
    script.extend([Deed::Maintain, Deed::Reopen, series(), series()]);
    script.extend((1..20).map(|i| Deed::Late(i as usize % 4, 97 * i)));
    script.extend([Deed::Reopen, series()]);
    run.all(&script);
    run.all(&random(1, 0));
    run.db = None;
    let model = (*run.model).clone();
    (run, model)
}

#[test]
fn damage_is_contained_in_every_kind_of_file() {
    let (run, model) = folder();
    let (tries, many) = effort(6);
    let tries = if many { tries * 100 } else { tries };
    let mut list = Vec::new();
    files(run.dir.path(), &mut list);
    let last = list
        .iter()
        .filter(|p| p.parent().unwrap().ends_with("wal"))
        .max()
        .unwrap()
        .clone();
    let last_full = std::fs::metadata(&last).unwrap().len() > 0;
    assert!(last_full);
    // What lies in blocks does not need the log.
    let floor = std::fs::read_dir(run.dir.path())
        .unwrap()
        .filter_map(|e| Meta::read(&e.unwrap().path()).ok())
        .map(|m| m.max_time)
        .max()
        .unwrap();
    let mut tallies: BTreeMap<Kin, Tally> = BTreeMap::new();
    for path in &list {
        let Some(kin) = kin(path, &last) else {
            continue;
        };
        if std::fs::metadata(path).unwrap().len() == 0 {
            continue;
        }
        let relative = path.strip_prefix(run.dir.path()).unwrap();
        let tally = tallies.entry(kin).or_default();
        for seed in 0..tries {
            let mut dice = Dice::new(seed.wrapping_mul(31) + tally.tried as u64);
            let dir = tempfile::tempdir().unwrap();
            copy(run.dir.path(), dir.path());
            let how = spoil(&dir.path().join(relative), &mut dice);
            let place = format!("{} ({kin:?}), {how}", relative.display());
            // Where the block of the file is, if it is one's.
            let of_block = Meta::read(&run.dir.path().join(relative.iter().next().unwrap()));
            let block = of_block.ok().map(|m| (m.min_time, m.max_time));
            tally.tried += 1;
            judge(&dir, &model, &run.ever, kin, block, floor, &place, tally);
        }
    }
    assert_eq!(tallies.len(), 9, "{tallies:?}");
    for (kin, tally) in tallies {
        println!("{kin:?}: {tally:?}");
    }
}

fn judge(
    dir: &tempfile::TempDir,
    model: &Content,
    ever: &Content,
    kin: Kin,
    block: Option<(i64, i64)>,
    floor: i64,
    place: &str,
    tally: &mut Tally,
) {
    let fs = SimFs::new(dir.path()).unwrap();
    let db = Db::open(dir.path(), options(&fs)).unwrap_or_else(|e| panic!("{place}: {e}"));
    let named = !db.replayed().damaged.is_empty();
    let same = |found: &Content| difference(found, model).is_empty();
    let wrong = |found: &Content| {
        let mut all = found.iter();
        let wrong = all.find(|(key, seen)| ever.get(key) != Some(seen));
        wrong.map(|(key, _)| format!("{} at {}", key.0, key.1))
    };
    match ask(&db, TimeRange::ALL) {
        Ok(found) => {
            assert_eq!(wrong(&found), None, "{place}: another answer");
            // A cut end of the last segment looks like any crash, a cut between two records like
            // nothing at all; a meta can lie within its format.
            let cut = matches!(kin, Kin::Segment | Kin::Checkpoint) && place.contains("cut to");
            let silent = same(&found)
                || cut
                || matches!(kin, Kin::LastSegment | Kin::OutOfOrder | Kin::Meta);
            assert!(named || silent, "{place}: lost without a word");
            tally.set_aside += usize::from(named);
            tally.harmless += usize::from(!named);
        }
        Err(e) => {
            assert_eq!(e.kind, Kind::Corrupt, "{place}: {e}");
            tally.refused += 1;
        }
    }
    // The rest serves.
    let rest: Vec<TimeRange> = match block {
        Some((min, max)) => vec![
            TimeRange::new(i64::MIN, min - 1),
            TimeRange::new(max, i64::MAX),
        ],
        None => vec![TimeRange::new(i64::MIN, floor - 1)],
    };
    let lies = kin == Kin::Meta && !named;
    for range in rest.into_iter().filter(|_| !lies) {
        let found = ask(&db, range).unwrap_or_else(|e| panic!("{place}: the rest: {e}"));
        let mut want = model.clone();
        want.retain(|key, _| range.contains(key.1));
        // What was deleted of the head is known from the log alone.
        let lost: Vec<String> = difference(&found, &want)
            .into_iter()
            .filter(|line| line.starts_with("missing"))
            .collect();
        assert!(lost.is_empty(), "{place}: {lost:?}");
    }
    // It goes on, and what was set aside stays there.
    let late = 1_000_000;
    db.append_samples(&[(super::script::labels(0), late, 1.0)])
        .unwrap_or_else(|e| panic!("{place}: {e}"));
    let found = ask(&db, TimeRange::new(late, late)).unwrap();
    assert_eq!(found.len(), 1, "{place}");
    drop(db);
    let db = Db::open(dir.path(), options(&fs)).unwrap();
    assert!(
        db.replayed().damaged.is_empty(),
        "{place}: damaged again: {:?}",
        db.replayed().damaged
    );
}

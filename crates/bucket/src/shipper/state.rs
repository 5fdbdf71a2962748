//! `thanos.shipper.json`: what was shipped (`pkg/shipper/shipper.go`).

use std::collections::BTreeSet;
use std::path::Path;

use block::fs::{Fs, FsExt as _};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::Error;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    #[serde(default)]
    uploaded: Option<Vec<String>>,
}

/// Reads the file; nothing was shipped if there is none.
pub(super) fn load(path: &Path) -> Result<BTreeSet<Ulid>, Error> {
    let json = match std::fs::read(path) {
        Ok(json) => json,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(e) => return Err(Error::local(path, e)),
    };
    let name = || path.display().to_string();
    let state: State = serde_json::from_slice(&json).map_err(|e| Error::corrupt(name(), e))?;
    if state.version != VERSION {
        let reason = format!("unknown version {}", state.version);
        return Err(Error::corrupt(name(), reason));
    }
    let uploaded = state.uploaded.unwrap_or_default();
    let ulids = uploaded.iter().map(|text| Ulid::from_string(text));
    ulids
        .collect::<Result<_, _>>()
        .map_err(|e| Error::corrupt(name(), e))
}

/// Writes the file, whole or not at all.
pub(super) fn save(fs: &dyn Fs, path: &Path, shipped: &BTreeSet<Ulid>) -> Result<(), Error> {
    let state = State {
        version: VERSION,
        uploaded: Some(shipped.iter().map(Ulid::to_string).collect()),
    };
    let name = path.display().to_string();
    let mut json = serde_json::to_vec_pretty(&state).map_err(|e| Error::corrupt(name, e))?;
    json.push(b'\n');
    fs.replace(path, &json).map_err(|e| Error::local(path, e))
}

#[cfg(test)]
mod tests {
    use block::fs::sim::{Dice, Failure, Loss, SimFs};

    use super::*;

    fn ulids(n: u128) -> BTreeSet<Ulid> {
        // Far from each other, as those of real blocks are.
        let spread = 0x1E37_79B9_7F4A_7C15_F39C_C060_5CED_C835_u128;
        (1..=n)
            .map(|i| Ulid::from(i.wrapping_mul(spread)))
            .collect()
    }

    #[test]
    fn a_crash_leaves_the_old_state_or_the_new() {
        let dir = tempfile::tempdir().unwrap();
        let fs = SimFs::new(dir.path()).unwrap();
        let path = dir.path().join("thanos.shipper.json");
        save(&fs, &path, &ulids(3)).unwrap();
        let first = fs.steps();
        save(&fs, &path, &ulids(5)).unwrap();
        for loss in [Loss::Kill, Loss::Power] {
            for steps in first..=fs.steps() {
                for seed in 0..20 {
                    let left = tempfile::tempdir().unwrap();
                    fs.lay_out(steps, loss, seed, left.path()).unwrap();
                    let there = load(&left.path().join("thanos.shipper.json")).unwrap();
                    assert!(
                        there == ulids(3) || there == ulids(5),
                        "{loss:?} at {steps}"
                    );
                    assert!(steps < fs.steps() || there == ulids(5));
                }
            }
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        let fs = SimFs::new(dir.path()).unwrap();
        let path = dir.path().join("thanos.shipper.json");
        save(&fs, &path, &ulids(3)).unwrap();
        for offset in 0..3 {
            let bad = fs.steps() + offset;
            fs.fail(Some(Box::new(move |step, _, _| {
                (step == bad).then(|| Failure::full(5))
            })));
            save(&fs, &path, &ulids(5)).unwrap_err();
            assert_eq!(load(&path).unwrap(), ulids(3));
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        fs.fail(None);
        save(&fs, &path, &ulids(5)).unwrap();
        assert_eq!(load(&path).unwrap(), ulids(5));
    }

    /// A block that was shipped may be asked for in the bucket again; one that was not is never
    /// taken for one that was.
    #[test]
    fn damage_never_ships_a_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thanos.shipper.json");
        save(&block::fs::OsFs, &path, &ulids(4)).unwrap();
        let good = std::fs::read(&path).unwrap();
        let here = ulids(9);
        let mut dice = Dice::new(1);
        let mut refused = 0;
        for i in 0..4_000 {
            let mut bytes = good.clone();
            match i % 4 {
                0 => bytes.truncate(dice.below(good.len())),
                _ => bytes[dice.below(good.len())] ^= 1 << dice.below(8),
            }
            std::fs::write(&path, bytes).unwrap();
            match load(&path) {
                Ok(there) => {
                    let wrong: Vec<_> = there.intersection(&here).collect();
                    // Another number of a block that is here needs more than one wrong bit.
                    assert!(wrong.iter().all(|u| ulids(4).contains(u)), "{wrong:?}");
                }
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 1_000, "{refused}");
    }
}

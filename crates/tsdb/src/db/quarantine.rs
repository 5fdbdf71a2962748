//! Blocks that cannot be read: out of the way under another name, with the reason beside them.
//!
//! A block `<ulid>` becomes `<ulid>.corrupt`, and a file `quarantine.json` in it says why and
//! since when. Nothing reads it any more; whoever mends it gives it its name back.

use std::path::Path;

use model::Millis;
use model::report::QuarantinedBlock;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::Inner;
use crate::Error;
use crate::fs::{Fs, FsExt as _};

/// What a folder's name ends with that was set aside.
const SUFFIX: &str = "corrupt";
/// Why it was.
const FILE: &str = "quarantine.json";

#[derive(Default, Serialize, Deserialize)]
struct Note {
    reason: String,
    #[serde(rename = "sinceMillis", default)]
    since: Millis,
}

/// Sets the block in the folder `dir` aside.
pub(super) fn set_aside(fs: &dyn Fs, dir: &Path, ulid: Ulid, reason: &Error) -> Result<(), Error> {
    let mut aside = dir.with_extension(SUFFIX);
    let mut n = 0;
    while aside.exists() {
        n += 1;
        aside = dir.with_file_name(format!("{ulid}.{n}.{SUFFIX}"));
    }
    tracing::error!(block = %ulid, %reason, aside = %aside.display(), "a block that cannot be read is set aside; the others serve");
    let note = Note {
        reason: reason.to_string(),
        since: model::time::Clock::now(&model::time::WallClock),
    };
    // Without the note it is out of the way all the same.
    if let Err(error) = write(fs, dir, &note) {
        tracing::warn!(block = %ulid, error, "why it is set aside could not be written into its folder");
    }
    fs.rename(dir, &aside).map_err(Error::io("renaming", dir))
}

fn write(fs: &dyn Fs, dir: &Path, note: &Note) -> Result<(), String> {
    let json = serde_json::to_vec_pretty(note).map_err(|e| e.to_string())?;
    fs.replace(&dir.join(FILE), &json)
        .map_err(|e| e.to_string())
}

/// What lies aside in the data folder `dir`.
pub(super) fn list(dir: &Path) -> Result<Vec<QuarantinedBlock>, Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("listing", dir))? {
        let path = entry.map_err(Error::io("listing", dir))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if path.extension().is_none_or(|e| e != SUFFIX) || !path.is_dir() {
            continue;
        }
        let note = std::fs::read(path.join(FILE)).unwrap_or_default();
        let note: Note = serde_json::from_slice(&note).unwrap_or_default();
        found.push(QuarantinedBlock {
            folder: name.to_owned(),
            reason: note.reason,
            since: note.since,
        });
    }
    found.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(found)
}

/// Counts what lies aside.
pub(super) fn count(inner: &Inner) -> Result<(), Error> {
    let count = list(&inner.dir)?.len();
    inner.stats.storage.quarantined.set(count as i64);
    Ok(())
}

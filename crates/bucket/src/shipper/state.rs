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

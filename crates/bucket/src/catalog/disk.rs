//! Metas on the local disk: `<dir>/<ulid>/meta.json`, as Thanos keeps them.

use std::collections::BTreeSet;
use std::path::Path;

use block::Meta;
use ulid::Ulid;

/// The meta of a block, if it was remembered and can be read.
pub(super) fn load(dir: &Path, ulid: Ulid) -> Option<Meta> {
    let meta = Meta::read(&dir.join(ulid.to_string())).ok()?;
    (meta.ulid == ulid).then_some(meta)
}

/// All metas that were remembered and can be read.
pub(super) fn load_all(dir: &Path) -> Vec<Meta> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let ulids = names.filter_map(|name| Ulid::from_string(name.to_str()?).ok());
    ulids.filter_map(|ulid| load(dir, ulid)).collect()
}

/// Remembers a meta. That it cannot be is a pity, no error. Nothing is synced: what a power failure takes
/// or tears is read from the bucket again, and thousands of syncs would be what a first start waits for.
pub(super) fn save(dir: &Path, meta: &Meta) {
    let folder = dir.join(meta.ulid.to_string());
    let (file, new) = (folder.join(block::meta::FILE), folder.join("meta.json.tmp"));
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&new, meta.to_json()))
        .and_then(|()| std::fs::rename(&new, &file));
    if let Err(e) = written {
        tracing::warn!(dir = %folder.display(), "meta.json is not remembered: {e}");
    }
}

/// Forgets the metas of blocks that are not in the bucket any more.
pub(super) fn sweep(dir: &Path, there: &BTreeSet<Ulid>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ulid = name.to_str().and_then(|n| Ulid::from_string(n).ok());
        if ulid.is_some_and(|u| !there.contains(&u)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

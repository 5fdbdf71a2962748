//! The place of a compactor: its folder on this host, which one process at a time has.

use std::any::Any;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use block::fs::{Fs as _, OsFs};

use crate::house::settings::hostname;

/// A compactor's folder, this process' own for as long as this lives.
pub struct Place {
    /// What tells it from all other places; the same after a restart.
    pub name: String,
    _lock: Box<dyn Any + Send + Sync>,
}

impl Place {
    /// Takes the folder `dir`, which need not exist; fails if another process has it. Its name stands in a file
    /// beside it, `<dir>.place`, which is also what is locked. None where the file system knows no locks.
    pub fn take(dir: &Path) -> Result<Option<Self>> {
        let file = dir.with_extension("place");
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("creating {}", parent.display()))?;
        }
        let lock = match OsFs.lock(&file) {
            Ok(lock) => lock,
            Err(e) if e.kind() == ErrorKind::WouldBlock => bail!(
                "another compactor works in {}: give each one a data folder of its own",
                dir.display()
            ),
            Err(error) => {
                tracing::warn!(
                    %error, file = %file.display(),
                    "cannot be locked: if this compactor is killed, the next one waits until its claims run out"
                );
                return Ok(None);
            }
        };
        let known = std::fs::read_to_string(&file).unwrap_or_default();
        let known = ulid::Ulid::from_string(known.trim());
        let id = match known {
            Ok(id) => id,
            Err(_) => {
                let id = ulid::Ulid::generate();
                // Not renamed into its place: the lock is on this very file.
                std::fs::write(&file, format!("{id}\n"))
                    .with_context(|| format!("writing {}", file.display()))?;
                id
            }
        };
        Ok(Some(Self {
            // A copy of the folder on another host is another place.
            name: format!("{}.{id}", hostname()),
            _lock: lock,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_it_and_its_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("new/compact");
        let take = |at: &Path| Place::take(at).unwrap().unwrap();
        let place = take(&at);
        let name = place.name.clone();
        let refused = Place::take(&at).err().unwrap().to_string();
        assert!(refused.contains("a data folder of its own"), "{refused}");
        let other = take(&dir.path().join("other"));
        assert_ne!(other.name, name);
        drop(place);
        assert_eq!(take(&at).name, name);
    }
}

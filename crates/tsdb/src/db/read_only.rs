//! Looking into a data folder without changing it, even while a server has it open.
//!
//! The files are linked (or copied, where they cannot be linked) into a folder beside them, and
//! the database is opened there: whatever replaying mends, cuts or removes, it does to the other
//! names. A file that is to be cut is copied first.

use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ulid::Ulid;

use super::Db;
use crate::fs::{Fs, LogFile, OsFs};
use crate::{Error, Options};

/// What the name of such a folder begins with, as Prometheus' tools name it.
const SANDBOX: &str = "tmp_dbro_sandbox";

/// A database opened beside its data folder. The folder that it was opened in goes with it.
pub struct ReadOnly {
    // Closed before the folder goes.
    db: Option<Db>,
    sandbox: Sandbox,
}

struct Sandbox(PathBuf);

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "the sandbox could not be removed");
        }
    }
}

impl ReadOnly {
    /// Opens what is in `dir`. The folder for the links is made in `root`, or in `dir` if none is
    /// given.
    pub fn open(dir: &Path, root: Option<&Path>) -> Result<Self, Error> {
        std::fs::metadata(dir).map_err(Error::io("opening", dir))?;
        let root = root.unwrap_or(dir);
        let sandbox = Sandbox(root.join(format!("{SANDBOX}{}", Ulid::generate())));
        std::fs::create_dir(&sandbox.0).map_err(Error::io("creating", &sandbox.0))?;
        for entry in std::fs::read_dir(dir).map_err(Error::io("listing", dir))? {
            let path = entry.map_err(Error::io("listing", dir))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            let wanted = matches!(name, "wal" | "wbl" | "chunks_head")
                || name.starts_with("chunk_snapshot.")
                || Ulid::from_string(name).is_ok();
            if wanted && path.is_dir() {
                link(&path, &sandbox.0.join(name))?;
            }
        }
        let options = Options {
            lock: false,
            fs: Arc::new(Beside),
            ..Options::quiet()
        };
        let db = Db::open(&sandbox.0, options)?;
        Ok(Self {
            db: Some(db),
            sandbox,
        })
    }

    /// The folder that it was opened in.
    pub fn sandbox(&self) -> &Path {
        &self.sandbox.0
    }
}

impl Deref for ReadOnly {
    type Target = Db;

    fn deref(&self) -> &Db {
        match &self.db {
            Some(db) => db,
            None => unreachable!("it is taken when this is dropped, and not before"),
        }
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        self.db = None;
    }
}

fn link(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::create_dir(to).map_err(Error::io("creating", to))?;
    for entry in std::fs::read_dir(from).map_err(Error::io("listing", from))? {
        let path = entry.map_err(Error::io("listing", from))?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        let to = to.join(name);
        let linked = match path.is_dir() {
            true => {
                link(&path, &to)?;
                continue;
            }
            false => std::fs::hard_link(&path, &to),
        };
        match linked.or_else(|_| std::fs::copy(&path, &to).map(|_| ())) {
            // A server that is running may have removed it meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(Error::io("linking", &path))?,
        }
    }
    Ok(())
}

/// The operating system's files, but for one that is to be changed where it stands: other names
/// keep what it was.
struct Beside;

impl Fs for Beside {
    fn open_end(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let own = path.with_extension("own");
        std::fs::copy(path, &own)?;
        std::fs::rename(&own, path)?;
        OsFs.open_end(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lasts(&self) -> bool {
        false
    }
}

//! What can go wrong in this room.

use std::io;
use std::path::{Path, PathBuf};

use model::source::Kind;
use model::{SinkError, SourceError};

/// An error of the local database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes on disk are not what they should be.
    #[error("{} is damaged at byte {offset}: {reason}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// Another process has the folder open.
    #[error("{} is in use by another process (lock file held); stop it first", .0.display())]
    Locked(PathBuf),
    /// A block could not be read or written.
    #[error("block {}: {source}", path.display())]
    Block {
        /// The block's folder, or where it should be.
        path: PathBuf,
        /// What is wrong.
        source: block::BlockError,
    },
    /// An option makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A limit of the head is reached.
    #[error("{0}")]
    Limit(String),
    /// The database is closed.
    #[error("the database is closed")]
    Closed,
}

impl Error {
    /// Adds the deed and the path to an I/O error.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { what, path, source }
    }

    /// Adds the folder to a block's error.
    pub(crate) fn block(path: &Path, source: block::BlockError) -> Error {
        let path = path.to_owned();
        Error::Block { path, source }
    }

    /// What can be done about it.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Io { .. } | Error::Locked(_) | Error::Closed => Kind::Unavailable,
            Error::Block { source, .. } => source.kind(),
            Error::Corrupt { .. } => Kind::Corrupt,
            Error::Invalid(_) => Kind::Invalid,
            Error::Limit(_) => Kind::Limit,
        }
    }
}

impl From<Error> for SinkError {
    fn from(e: Error) -> Self {
        SinkError::failed(e.kind(), e.to_string())
    }
}

impl From<Error> for SourceError {
    fn from(e: Error) -> Self {
        SourceError::new(e.kind(), e.to_string())
    }
}

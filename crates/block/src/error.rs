use std::io;
use std::path::Path;

use chunk::ChunkError;
use model::{Kind, OverBudget, SourceError, Stopped};

/// Why a block could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The disk (or whatever the bytes come from) failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, to which file.
        what: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The bytes are not what a writer leaves behind.
    #[error("corrupt block: {0}")]
    Corrupt(String),
    /// A format version that is not known.
    #[error("{what} has version {version}, which cannot be read")]
    Version {
        /// Which file.
        what: &'static str,
        /// The version it names.
        version: u64,
    },
    /// A chunk could not be decoded.
    #[error("chunk: {0}")]
    Chunk(#[from] ChunkError),
    /// Whoever writes broke the rules of the format (order, sizes, unknown symbols).
    #[error("{0}")]
    Invalid(String),
    /// The memory that was set aside does not suffice.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// Cancelled, or too late.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl BlockError {
    /// What whoever asked can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            BlockError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Kind::NotFound
            }
            // The file is shorter than what refers to it says.
            BlockError::Io { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {
                Kind::Corrupt
            }
            BlockError::Io { .. } => Kind::Unavailable,
            BlockError::Corrupt(_) | BlockError::Version { .. } | BlockError::Chunk(_) => {
                Kind::Corrupt
            }
            BlockError::Invalid(_) => Kind::Invalid,
            BlockError::OverBudget(_) => Kind::Limit,
            BlockError::Stopped(Stopped::Cancelled) => Kind::Cancelled,
            BlockError::Stopped(Stopped::Deadline) => Kind::Timeout,
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        BlockError::Corrupt(what.into())
    }

    /// For `map_err` on file operations.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| BlockError::Io {
            what: format!("{doing} {path}"),
            source,
        }
    }

    pub(crate) fn reading(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| BlockError::Io {
            what: format!("reading {what}"),
            source,
        }
    }
}

impl From<BlockError> for SourceError {
    fn from(e: BlockError) -> Self {
        SourceError::new(e.kind(), e.to_string())
    }
}

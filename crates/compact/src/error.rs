//! Why compacting did not work, and what that means for the group.

use bucket::Error as BucketError;

use crate::downsample::DownsampleError;

/// Why compacting did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bucket did not do what it was asked.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A block is not what it should be, or cannot be written.
    #[error(transparent)]
    Block(#[from] block::BlockError),
    /// A series cannot be downsampled.
    #[error("series {series}: {source}")]
    Downsample {
        /// Its labels.
        series: String,
        /// Why.
        source: DownsampleError,
    },
    /// The group must not be touched any more until somebody has looked at it.
    #[error("{0}")]
    Halt(String),
    /// It was ended.
    #[error("stopped")]
    Stopped,
    /// A file in the data folder cannot be read or written.
    #[error("{path}: {source}")]
    Local {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// What was asked for cannot be.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// Whether trying again later cannot help: the data itself is in the way.
    pub fn halts(&self) -> bool {
        match self {
            Self::Halt(_) | Self::Downsample { .. } => true,
            Self::Block(e) => matches!(e.kind(), model::Kind::Corrupt | model::Kind::Invalid),
            Self::Bucket(_) | Self::Stopped | Self::Local { .. } | Self::Refused(_) => false,
        }
    }
}

//! Why something with a bucket did not work.

use std::path::PathBuf;
use std::sync::Arc;

use model::{Kind, SourceError};

/// Why something with a bucket did not work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("objstore configuration: {0}")]
    Config(String),
    /// There is no such object.
    #[error("{bucket}: object {key} not found")]
    NotFound {
        /// The bucket's name.
        bucket: Arc<str>,
        /// The object's key.
        key: String,
    },
    /// A conditional write lost: the object is there already, or is another one than expected.
    #[error("{bucket}: {key} was written by somebody else")]
    Conflict {
        /// The bucket's name.
        bucket: Arc<str>,
        /// The object's key.
        key: String,
    },
    /// The credentials do not allow it.
    #[error("{bucket}: access to {key} denied: {reason}; check access_key, secret_key and policy")]
    Denied {
        /// The bucket's name.
        bucket: Arc<str>,
        /// The object's key.
        key: String,
        /// The provider's words.
        reason: String,
    },
    /// The provider failed, and went on failing.
    #[error("{bucket}: {operation} {key} failed after {attempts} attempts: {reason}")]
    Unavailable {
        /// The bucket's name.
        bucket: Arc<str>,
        /// What was tried.
        operation: &'static str,
        /// On which key.
        key: String,
        /// How often.
        attempts: u32,
        /// What the last attempt said.
        reason: String,
    },
    /// The provider did not answer in time.
    #[error("{bucket}: {operation} {key} timed out after {attempts} attempts")]
    Timeout {
        /// The bucket's name.
        bucket: Arc<str>,
        /// What was tried.
        operation: &'static str,
        /// On which key.
        key: String,
        /// How often.
        attempts: u32,
    },
    /// An object is larger than its kind may be.
    #[error("{bucket}: {key} has {size} bytes, more than the {limit} that are read at once")]
    TooLarge {
        /// The bucket's name.
        bucket: Arc<str>,
        /// The object's key.
        key: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An object or a local file is not what it should be.
    #[error("{key}: {reason}")]
    Corrupt {
        /// The object's key or the file's path.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The provider cannot do what was asked.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A local file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Local {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// Metrics of another meaning have our names.
    #[error("metrics: {0}")]
    Metrics(Arc<metrics::Error>),
    /// Shipping was asked for without what shipping needs.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// What whoever asked can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NotFound { .. } => Kind::NotFound,
            Error::Config(_) | Error::Unsupported(_) | Error::Refused(_) => Kind::Invalid,
            Error::Conflict { .. } => Kind::Invalid,
            Error::Denied { .. } | Error::Unavailable { .. } => Kind::Unavailable,
            Error::Timeout { .. } => Kind::Timeout,
            Error::TooLarge { .. } => Kind::Limit,
            Error::Corrupt { .. } => Kind::Corrupt,
            Error::Local { .. } | Error::Metrics(_) => Kind::Internal,
        }
    }

    /// Whether it says that an object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }

    pub(crate) fn local(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Local {
            path: path.into(),
            source: Arc::new(source),
        }
    }

    pub(crate) fn corrupt(key: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Error::Corrupt {
            key: key.into(),
            reason: reason.to_string(),
        }
    }
}

impl From<metrics::Error> for Error {
    fn from(e: metrics::Error) -> Self {
        Error::Metrics(Arc::new(e))
    }
}

impl From<Error> for SourceError {
    fn from(e: Error) -> Self {
        SourceError::new(e.kind(), e.to_string())
    }
}

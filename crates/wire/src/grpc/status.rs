//! Kinds of errors and gRPC codes.

use model::{Kind, SourceError};
use tonic::{Code, Status};

/// A source's error as a peer sees it.
pub fn to_status(e: &SourceError) -> Status {
    let code = match e.kind {
        Kind::NotFound => Code::NotFound,
        Kind::Invalid => Code::InvalidArgument,
        Kind::Unavailable => Code::Unavailable,
        Kind::Limit => Code::ResourceExhausted,
        Kind::Corrupt => Code::DataLoss,
        Kind::Cancelled => Code::Cancelled,
        Kind::Timeout => Code::DeadlineExceeded,
        Kind::Internal => Code::Internal,
    };
    Status::new(code, e.message.clone())
}

/// A peer's error as a source's. That the peer was cancelled or late does not mean that we are:
/// both come back as [`Kind::Unavailable`].
pub fn from_status(status: &Status) -> SourceError {
    let kind = match status.code() {
        Code::NotFound => Kind::NotFound,
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => Kind::Invalid,
        Code::ResourceExhausted => Kind::Limit,
        Code::DataLoss => Kind::Corrupt,
        Code::Aborted
        | Code::Unavailable
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::Unimplemented => Kind::Unavailable,
        _ => Kind::Internal,
    };
    let message = match status.message() {
        "" => status.code().description(),
        text => text,
    };
    // tonic says "transport error"; what happened stands in its causes.
    let mut cause = std::error::Error::source(status);
    let mut last = None;
    while let Some(e) = cause {
        last = Some(e.to_string());
        cause = e.source();
    }
    match last.filter(|l| !l.is_empty() && !message.contains(l.as_str())) {
        Some(last) => SourceError::new(kind, format!("{message}: {last}")),
        None => SourceError::new(kind, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_the_way_but_not_ends() {
        for kind in [
            Kind::NotFound,
            Kind::Invalid,
            Kind::Unavailable,
            Kind::Limit,
            Kind::Corrupt,
            Kind::Internal,
        ] {
            let e = from_status(&to_status(&SourceError::new(kind, "why")));
            assert_eq!((e.kind, e.message.as_str()), (kind, "why"));
        }
        for kind in [Kind::Cancelled, Kind::Timeout] {
            let e = from_status(&to_status(&SourceError::new(kind, "why")));
            assert_eq!(e.kind, Kind::Unavailable);
        }
    }
}

//! What becomes of an error in a part of the data.

use model::scope::PartialResponse;
use model::{Kind, Scope, SourceError, Str};

/// Whether an error only means that a part of the data is missing. The others end the query:
/// limits, cancellation, a deadline, a wrong question.
fn is_partial(e: &SourceError) -> bool {
    matches!(
        e.kind,
        Kind::NotFound | Kind::Unavailable | Kind::Corrupt | Kind::Internal
    )
}

/// The warning that stands for an error, or the error itself if the query cannot go on with it.
pub(crate) fn tolerate(scope: &Scope, what: &str, e: SourceError) -> Result<Str, SourceError> {
    let named = format!("{what}: {}", e.message);
    match scope.partial_response {
        PartialResponse::Warn if is_partial(&e) => Ok(named.into()),
        _ if is_partial(&e) => Err(SourceError::new(e.kind, named)),
        _ => Err(e),
    }
}

//! Answers that are written piece by piece: the first at once, which is all of most answers, the
//! others aside, one ahead of the network. A client that stops reading holds two
//! pieces and no thread.

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use tokio::task::{JoinError, JoinHandle};

/// Something that is written piece by piece.
pub(crate) trait Encode: Send + 'static {
    /// About how many bytes all of it takes: room for them is made at first.
    fn size(&self) -> usize;

    /// Appends to `out` until it holds at least `until` bytes or nothing is left; says whether
    /// nothing is left.
    fn fill(&mut self, out: &mut Vec<u8>, until: usize) -> bool;
}

/// Written where the request is served: less than half a millisecond of work.
const AT_ONCE: usize = 384 << 10;
/// Each piece behind it: so much that handing it over costs little beside making it.
const PIECE: usize = 256 << 10;
/// Room behind a piece for what was begun when it was full.
const OVER: usize = 4 << 10;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON answer with status 200.
pub(crate) fn respond(mut encoder: impl Encode) -> Response {
    let mut first = Vec::with_capacity(encoder.size().min(AT_ONCE) + OVER);
    let body = if encoder.fill(&mut first, AT_ONCE) {
        Body::from(first)
    } else {
        let rest = piece(Box::new(encoder));
        let pieces = futures_util::stream::once(async { Ok(first.into()) })
            .chain(futures_util::stream::unfold(Some(rest), next));
        // Compression asks once more after the end.
        Body::from_stream(pieces.fuse())
    };
    (StatusCode::OK, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

type Made = (Option<Box<dyn Encode>>, Vec<u8>);
type Making = JoinHandle<Result<Made, JoinError>>;

fn piece(mut encoder: Box<dyn Encode>) -> Making {
    tokio::spawn(wire::aside(move || {
        let mut bytes = Vec::with_capacity(PIECE + (PIECE >> 3));
        // A finished encoder is dropped here: freeing a large result takes its time.
        let rest = (!encoder.fill(&mut bytes, PIECE)).then_some(encoder);
        (rest, bytes)
    }))
}

async fn next(making: Option<Making>) -> Option<(Result<Bytes, std::io::Error>, Option<Making>)> {
    match making?.await.and_then(|made| made) {
        Ok((rest, bytes)) => Some((Ok(bytes.into()), rest.map(piece))),
        // The connection is cut: half an answer must not look whole.
        Err(panic) => Some((Err(std::io::Error::other(panic)), None)),
    }
}

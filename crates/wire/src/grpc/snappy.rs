//! Thanos' `snappy` message encoding: each message is a snappy stream of its own.
//!
//! tonic knows nothing of it, so bodies are re-framed around it: what comes in compressed goes on
//! plain, and the other way round. A message is five bytes (flag, length) and the payload.

use std::io::{Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use tonic::Status;

use super::{BoxError, MAX_MESSAGE};

const ENCODING: &str = "grpc-encoding";
const ACCEPT: &str = "grpc-accept-encoding";
const SNAPPY: HeaderValue = HeaderValue::from_static("snappy");

/// Whether these headers announce snappy messages; the announcement is taken out.
pub(super) fn take(headers: &mut HeaderMap) -> bool {
    let is = headers
        .get(ENCODING)
        .is_some_and(|v| v.as_bytes() == b"snappy");
    if is {
        headers.remove(ENCODING);
    }
    is
}

/// Announces snappy messages.
pub(super) fn announce(headers: &mut HeaderMap) {
    headers.insert(ENCODING, SNAPPY);
    headers.insert(ACCEPT, SNAPPY);
}

/// Says that snappy may be used.
pub(super) fn accept(headers: &mut HeaderMap) {
    headers.entry(ACCEPT).or_insert(SNAPPY);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Same,
    Compress,
    Decompress,
}

/// A body whose messages are compressed or decompressed on their way, or left alone.
pub struct Reframed<B> {
    inner: B,
    way: Way,
    held: BytesMut,
    trailers: Option<HeaderMap>,
    over: bool,
}

impl<B> Reframed<B> {
    pub(super) fn same(inner: B) -> Self {
        Self::new(inner, Way::Same)
    }

    pub(super) fn compress(inner: B, yes: bool) -> Self {
        Self::new(inner, if yes { Way::Compress } else { Way::Same })
    }

    pub(super) fn decompress(inner: B, yes: bool) -> Self {
        Self::new(inner, if yes { Way::Decompress } else { Way::Same })
    }

    fn new(inner: B, way: Way) -> Self {
        Self {
            inner,
            way,
            held: BytesMut::new(),
            trailers: None,
            over: false,
        }
    }

    /// The next whole message of what is held, turned.
    fn message(&mut self) -> Result<Option<Bytes>, BoxError> {
        let [flag, length @ ..] = match self.held.first_chunk::<5>() {
            Some(head) => *head,
            None => return Ok(None),
        };
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_MESSAGE {
            return Err(Status::out_of_range("a message is too large").into());
        }
        if self.held.len() < 5 + length {
            return Ok(None);
        }
        let message = self.held.split_to(5 + length).freeze();
        let payload = message.slice(5..);
        let (flag, payload) = match (self.way, flag) {
            (Way::Compress, 0) => (1, compress(&payload)?),
            (Way::Decompress, 1) => (0, decompress(&payload)?),
            _ => return Ok(Some(message)),
        };
        let mut out = BytesMut::with_capacity(5 + payload.len());
        out.put_u8(flag);
        // Bounded by `MAX_MESSAGE` or by what tonic framed.
        out.put_u32(payload.len() as u32);
        out.put_slice(&payload);
        Ok(Some(out.freeze()))
    }
}

fn compress(payload: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut writer = snap::write::FrameEncoder::new(Vec::with_capacity(payload.len() / 2 + 32));
    writer.write_all(payload)?;
    writer
        .into_inner()
        .map_err(|e| std::io::Error::other(e.to_string()))
}

fn decompress(payload: &[u8]) -> Result<Vec<u8>, BoxError> {
    let mut out = Vec::new();
    let reader = snap::read::FrameDecoder::new(payload);
    let mut reader = reader.take(MAX_MESSAGE as u64 + 1);
    reader
        .read_to_end(&mut out)
        .map_err(|e| Status::internal(format!("a snappy message cannot be read: {e}")))?;
    if out.len() > MAX_MESSAGE {
        return Err(Status::out_of_range("a message is too large").into());
    }
    Ok(out)
}

impl<B> Body for Reframed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.way == Way::Same {
            let polled = Pin::new(&mut this.inner).poll_frame(cx);
            return polled.map(|frame| frame.map(|f| f.map_err(Into::into)));
        }
        loop {
            match this.message() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Ok(None) => {}
                Err(e) => return Poll::Ready(Some(Err(e))),
            }
            if this.over {
                let trailers = this.trailers.take();
                return Poll::Ready(trailers.map(|t| Ok(Frame::trailers(t))));
            }
            match std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                None => this.over = true,
                Some(Err(e)) => return Poll::Ready(Some(Err(e.into()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) => {
                        while data.has_remaining() {
                            let part = data.chunk();
                            this.held.extend_from_slice(part);
                            let n = part.len();
                            data.advance(n);
                        }
                    }
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok();
                        this.over = true;
                    }
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.way {
            Way::Same => self.inner.is_end_stream(),
            _ => {
                self.held.is_empty()
                    && self.trailers.is_none()
                    && (self.over || self.inner.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.way {
            Way::Same => self.inner.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

/// A body in the one type that tonic takes.
pub(super) fn boxed<B>(body: Reframed<B>) -> tonic::body::Body
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    tonic::body::Body::new(body.map_err(Status::from_error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, combinators::BoxBody};

    fn message(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0];
        out.extend((payload.len() as u32).to_be_bytes());
        out.extend(payload);
        out
    }

    async fn all(body: Reframed<BoxBody<Bytes, BoxError>>) -> Result<Bytes, BoxError> {
        Ok(body.collect().await?.to_bytes())
    }

    fn body(bytes: Vec<u8>) -> BoxBody<Bytes, BoxError> {
        Full::from(bytes).map_err(|e| match e {}).boxed()
    }

    #[tokio::test]
    async fn messages_come_back_as_they_went() {
        let long: Vec<u8> = (0..200_000u32)
            .flat_map(|i| (i / 7).to_le_bytes())
            .collect();
        let plain = [message(b"hello"), message(b""), message(&long)].concat();
        let packed = all(Reframed::compress(body(plain.clone()), true))
            .await
            .unwrap();
        assert!(packed.len() < plain.len() / 2);
        assert_eq!(packed[0], 1);
        let back = all(Reframed::decompress(body(packed.to_vec()), true))
            .await
            .unwrap();
        assert_eq!(back, plain);
    }

    #[tokio::test]
    async fn garbage_is_an_error() {
        let mut bad = message(b"this is no snappy");
        bad[0] = 1;
        assert!(all(Reframed::decompress(body(bad), true)).await.is_err());
        let huge = vec![1, 0xff, 0xff, 0xff, 0xff, 0];
        assert!(all(Reframed::decompress(body(huge), true)).await.is_err());
    }
}

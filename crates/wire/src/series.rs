//! Series on the wire, without messages in between.
//!
//! A [`Frame`] is one `SeriesResponse` as bytes. [`Decoder`] reads its labels straight into
//! symbols and its chunks into references to the frame, so that a frame of any size costs one
//! buffer; [`Encoder`] writes series of a batch without building messages.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType};

pub use decode::{Decoder, Note};
pub use encode::{Encoder, hints, warning};

/// One message of a `Series` answer, not looked into yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame(pub Bytes);

impl prost::Message for Frame {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: WireType,
        _: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), DecodeError> {
        // `decode` takes all bytes at once; nobody merges a frame into another.
        #[expect(deprecated, reason = "the one way to make such an error")]
        Err(DecodeError::new("a frame is taken whole"))
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }

    /// Takes the message as it is: no copy if it lies in one piece.
    fn decode(mut buf: impl Buf) -> Result<Self, DecodeError> {
        Ok(Frame(buf.copy_to_bytes(buf.remaining())))
    }
}

/// Why a frame could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It ends in the middle of a field.
    #[error("a message ends in the middle of a field")]
    Truncated,
    /// It has a field of a type that it cannot have.
    #[error("field {0} of a message has a wrong type")]
    WireType(u64),
    /// A label is no text.
    #[error("a label is not UTF-8")]
    Text,
    /// It is too large for one buffer.
    #[error("a message has more than 4 GiB")]
    TooLarge,
}

impl From<FrameError> for model::SourceError {
    fn from(e: FrameError) -> Self {
        model::SourceError::new(model::Kind::Corrupt, e.to_string())
    }
}

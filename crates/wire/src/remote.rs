//! Remote read over HTTP: snappy around messages, and streamed frames.

use bytes::Bytes;
use prost::Message;
use reqwest::Request;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};

use crate::client::{ClientError, HttpClient};
use crate::proto::prometheus::{ChunkedReadResponse, ReadRequest};

/// A request's body: the message in a snappy block.
pub fn encode(message: &ReadRequest) -> Result<Vec<u8>, String> {
    let plain = message.encode_to_vec();
    snap::raw::Encoder::new()
        .compress_vec(&plain)
        .map_err(|e| e.to_string())
}

/// A message out of a snappy block of at most `limit` bytes.
pub fn decode<M: Message + Default>(body: &[u8], limit: usize) -> Result<M, String> {
    let len = snap::raw::decompress_len(body).map_err(|e| e.to_string())?;
    if len > limit {
        return Err(format!("a message of {len} bytes is too large"));
    }
    let plain = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(|e| e.to_string())?;
    M::decode(Bytes::from(plain)).map_err(|e| e.to_string())
}

/// A remote read request.
pub fn read_request(client: &HttpClient, url: &str, body: Vec<u8>) -> Result<Request, ClientError> {
    let mut request = client.request(reqwest::Method::POST, url)?;
    let headers = request.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-protobuf"),
    );
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    headers.insert(
        "x-prometheus-remote-read-version",
        HeaderValue::from_static("0.1.0"),
    );
    *request.body_mut() = Some(body.into());
    Ok(request)
}

/// The message of one frame of a streamed answer; chunks are not copied.
pub fn chunked(frame: Bytes) -> Result<ChunkedReadResponse, String> {
    ChunkedReadResponse::decode(frame).map_err(|e| e.to_string())
}

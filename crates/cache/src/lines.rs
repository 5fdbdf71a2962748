//! Reading lines and counted bytes, which is what the protocols of caches consist of.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;

use crate::remote::{Io, broken};

/// A line that is longer is none of the protocols', bytes.
const MOST_LINE: usize = 64 << 10;
/// No entry may be larger: what Redis itself allows, bytes.
const MOST_BYTES: usize = 512 << 20;

/// What came over a connection and was not read yet.
pub(crate) struct Lines<'a> {
    io: &'a mut dyn Io,
    held: BytesMut,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(io: &'a mut dyn Io) -> Self {
        Self {
            io,
            held: BytesMut::new(),
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        self.held.reserve(16 << 10);
        match self.io.read_buf(&mut self.held).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self) -> io::Result<Bytes> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.held[seen..].windows(2).position(|w| w == b"\r\n") {
                let line = self.held.split_to(seen + at + 2).freeze();
                return Ok(line.slice(..seen + at));
            }
            seen = self.held.len().saturating_sub(1);
            if self.held.len() > MOST_LINE {
                return Err(broken("a line of a cache's answer does not end"));
            }
            self.more().await?;
        }
    }

    /// So many bytes, and the end of a line behind them. Memory grows with what comes, not with what
    /// was promised.
    pub(crate) async fn counted(&mut self, len: usize) -> io::Result<Bytes> {
        if len > MOST_BYTES {
            return Err(broken("an entry of impossible size"));
        }
        while self.held.len() < len + 2 {
            self.more().await?;
        }
        let bytes = self.held.split_to(len).freeze();
        match &*self.held.split_to(2) {
            b"\r\n" => Ok(bytes),
            _ => Err(broken("an entry does not end where it should")),
        }
    }
}

//! Request targets as people type them: `curl -g 'http://host/api/v1/query?query=up{job="x"}>0'` sends quotes and comparisons as they
//! are, and Go's servers take them; the HTTP library here would answer 400. So a connection's bytes pass through here first, and
//! what a target must not contain is written as its escape (RFC 3986, section 2.1).
//!
//! Only bytes between the first and the last space of a request line are touched. Where a request ends is found as RFC 9112, section 6
//! has it for bodies of a stated length; behind anything else (chunked bodies, upgrades, HTTP/2) the connection is passed on as it is,
//! so that what a body contains is never taken for a request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A head of more bytes than this is passed on as it is; the HTTP library has limits of its own.
const LONGEST_HEAD: usize = 64 << 10;

/// A connection whose request targets are escaped.
pub(super) struct Targets<S> {
    stream: S,
    rewriter: Rewriter,
    /// What was rewritten, and how much of it was read.
    ready: (Vec<u8>, usize),
}

impl<S> Targets<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            rewriter: Rewriter::default(),
            ready: (Vec::new(), 0),
        }
    }
}

/// What comes next on a connection.
#[derive(Debug, PartialEq)]
enum Next {
    Head,
    /// So many bytes of a body, at least one.
    Body(u64),
    /// Whatever it is, it is passed on.
    Anything,
}

/// Follows requests, without input or output of its own.
#[derive(Debug)]
struct Rewriter {
    next: Next,
    /// The beginning of a head.
    held: Vec<u8>,
}

impl Default for Rewriter {
    fn default() -> Self {
        Self {
            next: Next::Head,
            held: Vec::new(),
        }
    }
}

impl Rewriter {
    /// Whether `input` is a whole request without a body, and has nothing to escape: it can be passed on, as most can.
    fn is_plain(&self, input: &[u8]) -> bool {
        let whole = self.next == Next::Head && self.held.is_empty();
        whole
            && length_of_head(input) == Some(input.len())
            && after(input) == Next::Head
            && !target(input).is_some_and(|target| target.iter().any(is_escaped))
    }

    /// Appends to `out` what `input` is to be read as.
    fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            match &mut self.next {
                Next::Anything => {
                    out.extend_from_slice(input);
                    return;
                }
                Next::Body(left) => {
                    let many = usize::try_from(*left).unwrap_or(usize::MAX);
                    let (body, rest) = input.split_at(many.min(input.len()));
                    out.extend_from_slice(body);
                    self.passed(body.len());
                    input = rest;
                }
                Next::Head => {
                    let before = self.held.len();
                    self.held.extend_from_slice(input);
                    let Some(length) = length_of_head(&self.held) else {
                        if self.held.len() > LONGEST_HEAD {
                            self.give_up(out);
                        }
                        return;
                    };
                    self.held.truncate(length);
                    input = &input[length - before..];
                    self.next = after(&self.held);
                    escape(&self.held, out);
                    self.held.clear();
                }
            }
        }
    }

    /// So many bytes of a body went by.
    fn passed(&mut self, bytes: usize) {
        if let Next::Body(left) = &mut self.next {
            *left = left.saturating_sub(bytes as u64);
            if *left == 0 {
                self.next = Next::Head;
            }
        }
    }

    /// Passes on what was held back, and all that follows.
    fn give_up(&mut self, out: &mut Vec<u8>) {
        self.next = Next::Anything;
        out.append(&mut self.held);
    }
}

/// How long the head at the beginning of `bytes` is, with the empty line behind it.
fn length_of_head(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The target in the request line that `head` begins with; none if that is no line of HTTP/1.
fn target(head: &[u8]) -> Option<&[u8]> {
    let line = &head[..memchr::memchr(b'\r', head)?];
    let first = memchr::memchr(b' ', line)?;
    let last = memchr::memrchr(b' ', line)?;
    let version = &line[last + 1..];
    (first < last && version.starts_with(b"HTTP/1.")).then(|| &line[first + 1..last])
}

/// Whether a byte is escaped: those that the HTTP library takes in no target, or not everywhere.
fn is_escaped(byte: &u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`') || *byte >= 0x80
}

/// What follows a head: as many bytes of a body as it says, or what is not followed.
fn after(head: &[u8]) -> Next {
    if target(head).is_none() {
        return Next::Anything;
    }
    let mut length = None;
    for line in head.split(|&b| b == b'\n').skip(1) {
        let Some((name, value)) = split_header(line) else {
            continue;
        };
        if name.eq_ignore_ascii_case(b"transfer-encoding") || name.eq_ignore_ascii_case(b"upgrade")
        {
            return Next::Anything;
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let text = str::from_utf8(value).unwrap_or("");
            match text.parse::<u64>() {
                Ok(number) if digits && length.is_none() => length = Some(number),
                // Two of them, or none that can be read: the HTTP library judges.
                _ => return Next::Anything,
            }
        }
    }
    match length {
        None | Some(0) => Next::Head,
        Some(length) => Next::Body(length),
    }
}

/// Name and value of a header's line.
fn split_header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b':', line)?;
    Some((&line[..at], line[at + 1..].trim_ascii()))
}

/// Appends `head`, its target escaped.
fn escape(head: &[u8], out: &mut Vec<u8>) {
    let Some(target) = target(head) else {
        out.extend_from_slice(head);
        return;
    };
    // A target lies within its head, behind a space.
    let begin = memchr::memchr(b' ', head).map_or(0, |at| at + 1);
    out.extend_from_slice(&head[..begin]);
    for byte in target {
        match is_escaped(byte) {
            true => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                let digit = |nibble: u8| HEX[usize::from(nibble & 15)];
                out.extend_from_slice(&[b'%', digit(byte >> 4), digit(*byte)]);
            }
            false => out.push(*byte),
        }
    }
    out.extend_from_slice(&head[begin + target.len()..]);
}

impl<S: AsyncRead + Unpin> AsyncRead for Targets<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let (ready, read) = &mut this.ready;
            if *read < ready.len() {
                let rest = &ready[*read..];
                let piece = &rest[..rest.len().min(buf.remaining())];
                buf.put_slice(piece);
                *read += piece.len();
                return Poll::Ready(Ok(()));
            }
            ready.clear();
            *read = 0;
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let new = &buf.filled()[before..];
            if new.is_empty() {
                // The end: what is held is no request, which the HTTP library says.
                this.rewriter.give_up(ready);
                if ready.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let as_it_is = match this.rewriter.next {
                Next::Anything => true,
                Next::Body(left) => new.len() as u64 <= left,
                Next::Head => this.rewriter.is_plain(new),
            };
            if as_it_is {
                this.rewriter.passed(new.len());
                return Poll::Ready(Ok(()));
            }
            this.rewriter.feed(new, ready);
            buf.set_filled(before);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Targets<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Bytes that arrive piece by piece.
    struct Pieces(VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let Some(mut piece) = self.0.pop_front() else {
                return Poll::Ready(Ok(()));
            };
            if piece.is_empty() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
            Poll::Ready(Ok(()))
        }
    }

    /// What is read of `pieces`, which arrive one after the other; an empty one is a wait.
    fn read(pieces: &[&[u8]]) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
        let mut targets = Targets::new(Pieces(pieces));
        let mut out = Vec::new();
        let all = runtime.unwrap().block_on(targets.read_to_end(&mut out));
        all.unwrap();
        out
    }

    const POST: &str = "POST /a HTTP/1.1\r\nContent-Length: 22\r\n\r\nGET /\"x\" HTTP/1.1\r\n\r\n";

    #[test]
    fn targets_are_escaped_and_nothing_else() {
        for (given, expected) in [
            (
                "GET /q?query=up{job=\"a\"}>0 HTTP/1.1\r\nX: \"<>\r\n\r\n",
                "GET /q?query=up{job=%22a%22}%3E0 HTTP/1.1\r\nX: \"<>\r\n\r\n",
            ),
            (
                "GET /`é< HTTP/1.0\r\n\r\n",
                "GET /%60%C3%A9%3C HTTP/1.0\r\n\r\n",
            ),
            (
                "GET /a b\" HTTP/1.1\r\n\r\n",
                "GET /a b%22 HTTP/1.1\r\n\r\n",
            ),
            (
                "GET /plain?a=%22 HTTP/1.1\r\n\r\n",
                "GET /plain?a=%22 HTTP/1.1\r\n\r\n",
            ),
            // What is no request of HTTP/1, and all behind it.
            ("PRI * HTTP/2.0\r\n\r\nGET /\" HTTP/1.1\r\n\r\n", ""),
            ("\"<>\r\n\r\nGET /\" HTTP/1.1\r\n\r\n", ""),
            ("GET /\"", ""),
            (POST, ""),
            (
                "POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nGET /\" HTTP/1.1\r\n\r\n",
                "",
            ),
            (
                "POST /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nGET /\" HTTP/1.1\r\n\r\n",
                "",
            ),
            (
                "POST /a HTTP/1.1\r\nContent-Length: +1\r\n\r\nGET /\" HTTP/1.1\r\n\r\n",
                "",
            ),
            (
                "GET /a HTTP/1.1\r\nUpgrade: h2c\r\n\r\nGET /\" HTTP/1.1\r\n\r\n",
                "",
            ),
        ] {
            let expected = if expected.is_empty() { given } else { expected };
            assert_eq!(
                String::from_utf8(read(&[given.as_bytes()])).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn a_request_behind_a_body_is_found() {
        let both = format!("{POST}GET /<> HTTP/1.1\r\n\r\n");
        let expected = format!("{POST}GET /%3C%3E HTTP/1.1\r\n\r\n");
        for at in 0..both.len() {
            let (a, b) = both.as_bytes().split_at(at);
            assert_eq!(String::from_utf8(read(&[a, b])).unwrap(), expected, "{at}");
        }
    }

    #[test]
    fn a_head_without_end_is_passed_on() {
        let endless = "GET /\"".to_owned() + &"x".repeat(2 * LONGEST_HEAD);
        assert_eq!(read(&[endless.as_bytes()]), endless.as_bytes());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            requests in prop::collection::vec(("[a-z\"<>{}é ]{0,12}", 0usize..40), 1..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let (mut given, mut expected) = (Vec::new(), Vec::new());
            for (target, body) in requests {
                let escaped: String = target.bytes().map(|b| match b {
                    b'"' | b'<' | b'>' | 0x80.. => format!("%{b:02X}"),
                    _ => char::from(b).to_string(),
                }).collect();
                for (to, target) in [(&mut given, target), (&mut expected, escaped)] {
                    let head = format!("POST /{target} HTTP/1.1\r\ncontent-length: {body}\r\n\r\n");
                    to.extend(head.into_bytes());
                    to.extend("\" HTTP/1.1\r\n\r\n".bytes().cycle().take(body));
                }
            }
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(given.len())).collect();
            at.extend([0, given.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|w| &given[w[0]..w[1]]).collect();
            prop_assert_eq!(read(&pieces), expected);
        }
    }
}

use bytes::{BufMut, BytesMut};
use model::source::Aggregate;
use model::{ChunkRef, Encoding, SeriesBatch, Symbol, Symbols};
use xxhash_rust::xxh64::xxh64;

use super::Frame;

/// A message has about so many bytes at most; longer series are cut between chunks.
const FRAME_BYTES: usize = 1 << 20;

/// Writes series as frames.
///
/// Series must come in the order of their labels. Series with equal labels are replicas: each
/// gets lanes of its own, which is said in a field that only we know.
pub struct Encoder {
    /// Above 1: so many series in a message.
    per_frame: usize,
    /// The labels written last, and the lanes used with them.
    last: Vec<(Symbol, Symbol)>,
    first: bool,
    lanes: u32,
    body: BytesMut,
    /// Series in `body`.
    count: usize,
    scratch: Vec<Piece>,
    ready: Vec<Frame>,
}

/// A chunk as it is written: one column of an aggregate chunk, or the whole.
#[derive(Clone, Copy)]
struct Piece {
    min: i64,
    max: i64,
    lane: u32,
    /// Columns by field number less 3.
    columns: [Option<Column>; 6],
    buffer: u32,
}

impl Encoder {
    /// An encoder that puts up to `per_frame` series into a message; 0 and 1 mean one each, in the
    /// form that every peer knows.
    pub fn new(per_frame: usize) -> Self {
        Self {
            per_frame: per_frame.min(10_000),
            last: Vec::new(),
            first: true,
            lanes: 0,
            body: BytesMut::new(),
            count: 0,
            scratch: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// Writes series `i` of `batch`; whole messages can be taken from [`Encoder::ready`].
    pub fn series(&mut self, batch: &SeriesBatch, i: usize, symbols: &Symbols) {
        let labels = batch.labels_of(i);
        if self.first || symbols.compare(&self.last, labels) != std::cmp::Ordering::Equal {
            self.last.clear();
            self.last.extend_from_slice(labels);
            self.lanes = 0;
            self.first = false;
        }
        self.pieces(batch, i);
        let labels_len: usize = labels
            .iter()
            .map(|(n, v)| {
                let len = text_len(symbols.get(*n)) + text_len(symbols.get(*v));
                1 + varint_len(len as u64) + len
            })
            .sum();
        let mut pieces = std::mem::take(&mut self.scratch);
        let mut rest = &pieces[..];
        loop {
            let (mut len, mut taken) = (0, 0);
            for piece in rest {
                let piece_len = piece_len(piece);
                len += 1 + varint_len(piece_len as u64) + piece_len;
                taken += 1;
                if len >= FRAME_BYTES {
                    break;
                }
            }
            let len = labels_len + len;
            self.body.reserve(len + 16);
            put_key(&mut self.body, 1, 2);
            put_varint(&mut self.body, len as u64);
            for (n, v) in labels {
                let (n, v) = (symbols.get(*n), symbols.get(*v));
                put_key(&mut self.body, 1, 2);
                put_varint(&mut self.body, (text_len(n) + text_len(v)) as u64);
                put_text(&mut self.body, 1, n);
                put_text(&mut self.body, 2, v);
            }
            let (now, later) = rest.split_at(taken);
            for piece in now {
                put_piece(&mut self.body, piece, batch);
            }
            self.count += 1;
            if self.count >= self.per_frame.max(1) || self.body.len() >= FRAME_BYTES {
                self.flush();
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        pieces.clear();
        self.scratch = pieces;
    }

    /// Ends the message that is being written.
    pub fn flush(&mut self) {
        if self.count == 0 {
            return;
        }
        let body = self.body.split().freeze();
        let frame = if self.per_frame <= 1 {
            body // `series = 1` of the response is what was written
        } else {
            // `batch = 4` around `series = 1`s.
            let mut out = BytesMut::with_capacity(body.len() + 6);
            put_key(&mut out, 4, 2);
            put_varint(&mut out, body.len() as u64);
            out.put_slice(&body);
            out.freeze()
        };
        self.ready.push(Frame(frame));
        self.count = 0;
    }

    /// Takes the messages that are whole.
    pub fn ready(&mut self) -> std::vec::Drain<'_, Frame> {
        self.ready.drain(..)
    }

    /// The chunks of series `i` as they are written.
    fn pieces(&mut self, batch: &SeriesBatch, i: usize) {
        self.scratch.clear();
        let base = self.lanes;
        for chunk in batch.chunks_of(i) {
            let lane = base + u32::from(chunk.lane) + 1;
            self.lanes = self.lanes.max(lane);
            if chunk.encoding == Encoding::AGGREGATE {
                if let Some(columns) = split(batch.bytes_of(chunk), chunk.offset) {
                    self.scratch.push(Piece::of(chunk, lane, columns));
                }
                continue;
            }
            let field = field_of(chunk.aggregate);
            let data = Column::new(chunk.encoding.0, chunk.offset, batch.bytes_of(chunk));
            // Columns of one downsampled chunk lie next to each other.
            if let Some(last) = self.scratch.last_mut()
                && field > 0
                && (last.min, last.max, last.lane, last.buffer)
                    == (chunk.min, chunk.max, lane, chunk.buffer)
                && last.columns[0].is_none()
                && last.columns[field].is_none()
            {
                last.columns[field] = Some(data);
                continue;
            }
            let mut columns = [None; 6];
            columns[field] = Some(data);
            self.scratch.push(Piece::of(chunk, lane, columns));
        }
        if batch.chunks_of(i).is_empty() {
            self.lanes += 1;
        }
    }
}

/// The data of one column: where it lies in the buffer.
#[derive(Clone, Copy)]
struct Column {
    encoding: u8,
    at: u32,
    len: u32,
    hash: u64,
}

impl Column {
    /// A column of a buffer, its bytes being `data`.
    fn new(encoding: u8, at: u32, data: &[u8]) -> Self {
        // The data lies within a reference's length, which is a `u32`.
        Self {
            encoding,
            at,
            len: data.len() as u32,
            hash: xxh64(data, 0),
        }
    }

    /// The length of the `Chunk`: type, data, hash.
    fn encoded_len(&self) -> usize {
        let kind = u64::from(self.encoding.wrapping_sub(1));
        let kind = if kind == 0 { 0 } else { 1 + varint_len(kind) };
        kind + 2 + varint_len(u64::from(self.len)) + self.len as usize + varint_len(self.hash)
    }
}

impl Piece {
    fn of(chunk: &ChunkRef, lane: u32, columns: [Option<Column>; 6]) -> Self {
        Self {
            min: chunk.min,
            max: chunk.max,
            lane,
            columns,
            buffer: chunk.buffer,
        }
    }
}

/// Index of a column in a [`Piece`].
fn field_of(aggregate: Aggregate) -> usize {
    match aggregate {
        Aggregate::Raw => 0,
        Aggregate::Count => 1,
        Aggregate::Sum => 2,
        Aggregate::Min => 3,
        Aggregate::Max => 4,
        Aggregate::Counter => 5,
    }
}

/// The columns of Thanos' aggregate chunk, whose bytes begin at `offset` of their buffer: for each
/// of count, sum, min, max and counter a length, and unless that is 0 an encoding byte and so
/// many bytes. None if it is damaged.
fn split(bytes: &[u8], offset: u32) -> Option<[Option<Column>; 6]> {
    let mut columns = [None; 6];
    let mut at = 0usize;
    for column in &mut columns[1..] {
        let (mut len, mut shift) = (0u64, 0u32);
        loop {
            let Some(byte) = bytes.get(at) else {
                // The last columns may be left out.
                return (at > 0 && shift == 0).then_some(columns);
            };
            at += 1;
            len |= u64::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if *byte < 0x80 {
                break;
            }
        }
        if len == 0 {
            continue;
        }
        let encoding = *bytes.get(at)?;
        let start = at + 1;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        let data = bytes.get(start..end)?;
        let place = offset.checked_add(u32::try_from(start).ok()?)?;
        *column = Some(Column::new(encoding, place, data));
        at = end;
    }
    Some(columns)
}

fn bytes_at(batch: &SeriesBatch, buffer: u32, at: u32, len: u32) -> &[u8] {
    let (at, len) = (at as usize, len as usize);
    batch
        .buffers
        .get(buffer as usize)
        .and_then(|b| b.get(at..at.checked_add(len)?))
        .unwrap_or_default()
}

fn piece_len(piece: &Piece) -> usize {
    let times = 2 + varint_len(piece.min as u64) + varint_len(piece.max as u64);
    let columns = piece.columns.iter().flatten().map(|column| {
        let len = column.encoded_len();
        1 + varint_len(len as u64) + len
    });
    times + columns.sum::<usize>() + 2 + varint_len(u64::from(piece.lane))
}

fn put_piece(out: &mut BytesMut, piece: &Piece, batch: &SeriesBatch) {
    put_key(out, 2, 2);
    put_varint(out, piece_len(piece) as u64);
    put_key(out, 1, 0);
    put_varint(out, piece.min as u64);
    put_key(out, 2, 0);
    put_varint(out, piece.max as u64);
    for (field, column) in piece.columns.iter().enumerate() {
        let Some(column) = column else {
            continue;
        };
        put_key(out, field as u32 + 3, 2);
        put_varint(out, column.encoded_len() as u64);
        let kind = u64::from(column.encoding.wrapping_sub(1));
        if kind != 0 {
            put_key(out, 1, 0);
            put_varint(out, kind);
        }
        put_key(out, 2, 2);
        put_varint(out, u64::from(column.len));
        out.put_slice(bytes_at(batch, piece.buffer, column.at, column.len));
        put_key(out, 3, 0);
        put_varint(out, column.hash);
    }
    put_key(out, 1000, 0);
    put_varint(out, u64::from(piece.lane));
}

fn text_len(text: &str) -> usize {
    1 + varint_len(text.len() as u64) + text.len()
}

fn put_text(out: &mut BytesMut, field: u32, text: &str) {
    put_key(out, field, 2);
    put_varint(out, text.len() as u64);
    out.put_slice(text.as_bytes());
}

fn put_key(out: &mut BytesMut, field: u32, wire_type: u32) {
    put_varint(out, u64::from(field << 3 | wire_type));
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// A message that is a warning.
pub fn warning(text: &str) -> Frame {
    let mut out = BytesMut::with_capacity(text_len(text));
    put_text(&mut out, 2, text);
    Frame(out.freeze())
}

/// A message that carries hints.
pub fn hints(any: &[u8]) -> Frame {
    let mut out = BytesMut::with_capacity(any.len() + 6);
    put_key(&mut out, 3, 2);
    put_varint(&mut out, any.len() as u64);
    out.put_slice(any);
    Frame(out.freeze())
}

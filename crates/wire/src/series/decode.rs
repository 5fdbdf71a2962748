use model::source::Aggregate;
use model::{ChunkRef, Encoding, SeriesBatch, Str, Symbol, Symbols};

use super::{Frame, FrameError};

/// What a frame says besides series.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// Something has to be said about the data.
    Warning(Str),
    /// An `Any` with statistics: its bytes are not looked into.
    Hints,
}

/// Reads frames into batches.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The labels of the series before: neighbours share most of theirs.
    last: Vec<(Symbol, Symbol)>,
    scratch: Vec<(Symbol, Symbol)>,
    /// Whether any chunk so far named its lane.
    pub lanes: bool,
}

/// A position in a message. Every step is checked.
#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

/// A field of a message.
enum Field<'a> {
    Number(u64),
    Bytes(Reader<'a>),
    Fixed,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            end: bytes.len(),
        }
    }

    fn varint(&mut self) -> Result<u64, FrameError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            if self.at >= self.end {
                return Err(FrameError::Truncated);
            }
            let byte = *self.bytes.get(self.at).ok_or(FrameError::Truncated)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(FrameError::Truncated)
    }

    fn skip(&mut self, n: usize) -> Result<usize, FrameError> {
        let start = self.at;
        let end = start.checked_add(n).filter(|end| *end <= self.end);
        self.at = end.ok_or(FrameError::Truncated)?;
        Ok(start)
    }

    /// The next field's number and value; none at the end.
    fn field(&mut self) -> Result<Option<(u64, Field<'a>)>, FrameError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => {
                self.skip(8)?;
                Field::Fixed
            }
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| FrameError::Truncated)?;
                let at = self.skip(len)?;
                Field::Bytes(Reader {
                    bytes: self.bytes,
                    at,
                    end: at + len,
                })
            }
            5 => {
                self.skip(4)?;
                Field::Fixed
            }
            _ => return Err(FrameError::WireType(key >> 3)),
        };
        Ok(Some((key >> 3, value)))
    }

    fn text(&self) -> Result<&'a str, FrameError> {
        let bytes = self
            .bytes
            .get(self.at..self.end)
            .ok_or(FrameError::Truncated)?;
        std::str::from_utf8(bytes).map_err(|_| FrameError::Text)
    }
}

impl Decoder {
    /// Adds the series of `frame` to `batch`, which keeps the frame as one of its buffers; its
    /// strings go into `symbols`. What else the frame says is returned.
    ///
    /// Every series becomes an entry of its own, even if its labels equal those of the one before.
    /// After an error the batch holds whole series only.
    pub fn read(
        &mut self,
        frame: &Frame,
        symbols: &Symbols,
        batch: &mut SeriesBatch,
    ) -> Result<Option<Note>, FrameError> {
        if u32::try_from(frame.0.len()).is_err() {
            return Err(FrameError::TooLarge);
        }
        let buffer = batch.buffers.len() as u32;
        let chunks = batch.chunks.len();
        let mut note = None;
        let mut reader = Reader::new(&frame.0);
        while let Some((number, field)) = reader.field()? {
            match (number, field) {
                (1, Field::Bytes(series)) => self.series(series, symbols, buffer, batch)?,
                (2, Field::Bytes(text)) => note = Some(Note::Warning(text.text()?.into())),
                (3, Field::Bytes(_)) => note = Some(Note::Hints),
                (4, Field::Bytes(mut many)) => {
                    while let Some((number, field)) = many.field()? {
                        match (number, field) {
                            (1, Field::Bytes(series)) => {
                                self.series(series, symbols, buffer, batch)?;
                            }
                            (1, _) => return Err(FrameError::WireType(1)),
                            _ => {}
                        }
                    }
                }
                (1..=4, _) => return Err(FrameError::WireType(number)),
                _ => {}
            }
        }
        if batch.chunks.len() > chunks {
            batch.buffers.push(frame.0.clone());
        }
        Ok(note)
    }

    fn series(
        &mut self,
        mut reader: Reader<'_>,
        symbols: &Symbols,
        buffer: u32,
        batch: &mut SeriesBatch,
    ) -> Result<(), FrameError> {
        let (labels, chunks) = (batch.labels.len(), batch.chunks.len());
        let read = (|| {
            self.scratch.clear();
            while let Some((number, field)) = reader.field()? {
                match (number, field) {
                    (1, Field::Bytes(label)) => self.label(label, symbols)?,
                    (2, Field::Bytes(chunk)) => self.chunk(chunk, buffer, &mut batch.chunks)?,
                    (1 | 2, _) => return Err(FrameError::WireType(number)),
                    _ => {}
                }
            }
            Ok(())
        })();
        if let Err(e) = read {
            batch.chunks.truncate(chunks);
            batch.labels.truncate(labels);
            return Err(e);
        }
        let name = |pair: &(Symbol, Symbol)| symbols.get(pair.0);
        if !self.scratch.is_sorted_by(|a, b| name(a) < name(b)) {
            // A peer in disorder: what it says last of a name counts.
            self.scratch.sort_by(|a, b| name(a).cmp(name(b)));
            self.scratch.reverse();
            self.scratch.dedup_by_key(|pair| pair.0);
            self.scratch.reverse();
        }
        batch.labels.extend_from_slice(&self.scratch);
        std::mem::swap(&mut self.last, &mut self.scratch);
        let mine = &mut batch.chunks[chunks..];
        if !mine.is_sorted_by_key(|c| (c.lane, c.min, c.max)) {
            mine.sort_by_key(|c| (c.lane, c.min, c.max));
        }
        batch.finish_series();
        Ok(())
    }

    fn label(&mut self, mut reader: Reader<'_>, symbols: &Symbols) -> Result<(), FrameError> {
        let (mut name, mut value) = ("", "");
        while let Some((number, field)) = reader.field()? {
            match (number, field) {
                (1, Field::Bytes(text)) => name = text.text()?,
                (2, Field::Bytes(text)) => value = text.text()?,
                (1 | 2, _) => return Err(FrameError::WireType(number)),
                _ => {}
            }
        }
        if value.is_empty() {
            return Ok(());
        }
        let before = self.last.get(self.scratch.len());
        let number = |text: &str, before: Option<Symbol>| match before {
            Some(symbol) if symbols.get(symbol) == text => symbol,
            _ => symbols.intern(text),
        };
        let pair = (
            number(name, before.map(|p| p.0)),
            number(value, before.map(|p| p.1)),
        );
        self.scratch.push(pair);
        Ok(())
    }

    fn chunk(
        &mut self,
        mut reader: Reader<'_>,
        buffer: u32,
        out: &mut Vec<ChunkRef>,
    ) -> Result<(), FrameError> {
        const COLUMNS: [Aggregate; 6] = [
            Aggregate::Raw,
            Aggregate::Count,
            Aggregate::Sum,
            Aggregate::Min,
            Aggregate::Max,
            Aggregate::Counter,
        ];
        let start = out.len();
        let (mut min, mut max, mut lane) = (0i64, 0i64, 0u16);
        while let Some((number, field)) = reader.field()? {
            match (number, field) {
                // A negative int64 is a varint of ten bytes.
                (1, Field::Number(n)) => min = n as i64,
                (2, Field::Number(n)) => max = n as i64,
                (1000, Field::Number(n)) => {
                    self.lanes = true;
                    lane = u16::try_from(n.saturating_sub(1)).unwrap_or(u16::MAX);
                }
                (3..=8, Field::Bytes(chunk)) => {
                    let (encoding, at, len) = data(chunk)?;
                    if len == 0 {
                        continue;
                    }
                    out.push(ChunkRef {
                        min: 0,
                        max: 0,
                        encoding,
                        // The number is 3 to 8.
                        aggregate: COLUMNS[(number - 3) as usize],
                        lane: 0,
                        buffer,
                        offset: at,
                        len,
                    });
                }
                (1..=8 | 1000, _) => return Err(FrameError::WireType(number)),
                _ => {}
            }
        }
        for chunk in &mut out[start..] {
            (chunk.min, chunk.max, chunk.lane) = (min, max, lane);
        }
        Ok(())
    }
}

/// Encoding, place and length of a `Chunk`'s data.
fn data(mut reader: Reader<'_>) -> Result<(Encoding, u32, u32), FrameError> {
    let (mut encoding, mut at, mut len) = (Encoding::XOR, 0, 0);
    while let Some((number, field)) = reader.field()? {
        match (number, field) {
            // An encoding that cannot be is found out when the chunk is opened.
            (1, Field::Number(n)) => {
                encoding = Encoding(u8::try_from(n).map_or(0, |n| n.wrapping_add(1)))
            }
            // The frame has less than 4 GiB.
            (2, Field::Bytes(bytes)) => {
                (at, len) = (bytes.at as u32, (bytes.end - bytes.at) as u32)
            }
            (1 | 2, _) => return Err(FrameError::WireType(number)),
            _ => {}
        }
    }
    Ok((encoding, at, len))
}

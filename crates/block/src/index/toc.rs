use crate::BlockError;
use crate::input::{Input, crc};

/// The table of contents: where in the index each section begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toc {
    /// Symbols.
    pub symbols: u64,
    /// Series.
    pub series: u64,
    /// Label indices; nobody reads them any more.
    pub label_indices: u64,
    /// Their offset table.
    pub label_offset_table: u64,
    /// Postings.
    pub postings: u64,
    /// Postings offset table.
    pub postings_table: u64,
}

impl Toc {
    /// How many bytes it takes, at the end of the index.
    pub const LEN: u64 = 6 * 8 + 4;

    /// Reads the last [`Toc::LEN`] bytes of an index of `index_len` bytes; every section lies inside
    /// it and after the header.
    pub fn decode(bytes: &[u8], index_len: u64) -> Result<Self, BlockError> {
        let corrupt = |what| BlockError::corrupt(format!("index: table of contents {what}"));
        if bytes.len() as u64 != Self::LEN {
            return Err(corrupt("is truncated"));
        }
        let mut input = Input(bytes);
        let mut fields = [0u64; 6];
        for field in &mut fields {
            *field = input.u64().ok_or_else(|| corrupt("is truncated"))?;
        }
        let sum = input.u32().ok_or_else(|| corrupt("is truncated"))?;
        if crc(&bytes[..48]) != sum {
            return Err(corrupt("has a wrong checksum"));
        }
        let [
            symbols,
            series,
            label_indices,
            label_offset_table,
            postings,
            postings_table,
        ] = fields;
        let toc = Self {
            symbols,
            series,
            label_indices,
            label_offset_table,
            postings,
            postings_table,
        };
        let end = index_len.saturating_sub(Self::LEN);
        let inside = |at: u64| (super::HEADER_LEN..=end).contains(&at);
        if !(inside(symbols) && inside(series) && inside(postings) && inside(postings_table)) {
            return Err(corrupt("points outside the index"));
        }
        Ok(toc)
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN as usize);
        for field in [
            self.symbols,
            self.series,
            self.label_indices,
            self.label_offset_table,
            self.postings,
            self.postings_table,
        ] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        let sum = crc(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }
}

//! The label block: `{a="b",c="d"}`, in the formats' two dialects.

use std::ops::Range;

const NAME_START: u8 = 1;
const NAME: u8 = 2;

const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        if byte.is_ascii_alphabetic() || byte == b'_' || byte == b':' {
            class[b] = NAME_START | NAME;
        } else if byte.is_ascii_digit() {
            class[b] = NAME;
        }
        b += 1;
    }
    class
};

/// Whether a metric name may begin with `byte`.
#[inline(always)]
pub(super) fn is_name_start(byte: u8) -> bool {
    CLASS[byte as usize] & NAME_START != 0
}

/// Where the metric name that goes on at `at` ends.
#[inline(always)]
pub(super) fn name_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&b) = bytes.get(at)
        && CLASS[b as usize] & NAME != 0
    {
        at += 1;
    }
    at
}

/// The same for a label name, which has no colon.
#[inline(always)]
fn label_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&b) = bytes.get(at)
        && CLASS[b as usize] & NAME != 0
        && b != b':'
    {
        at += 1;
    }
    at
}

/// Where the quote closes that was opened before `at`. A backslash takes the next character with
/// it, which must not be a line feed; `LINE` forbids line feeds anywhere.
#[inline(always)]
pub(super) fn closing_quote<const LINE: bool>(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        // Eight bytes at a time up to the first that means something.
        while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*word);
            let mut found = equal(word, b'"') | equal(word, b'\\');
            if LINE {
                found |= equal(word, b'\n');
            }
            if found != 0 {
                at += found.trailing_zeros() as usize / 8;
                break;
            }
            at += 8;
        }
        match *bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => {
                at += 1;
                if *bytes.get(at)? == b'\n' {
                    return None;
                }
            }
            b'\n' if LINE => return None,
            _ => {}
        }
        at += 1;
    }
}

/// The high bit of every byte of `word` that equals `byte`; bytes above the lowest such one may be
/// marked wrongly.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let differs = word ^ (ONES * byte as u64);
    differs.wrapping_sub(ONES) & !differs & (ONES << 7)
}

/// The dialect of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Prometheus text: blanks anywhere, commas optional.
    Text,
    /// OpenMetrics: no blanks, commas required.
    OpenMetrics,
    /// The labels of an OpenMetrics exemplar: no metric name in there.
    Exemplar,
}

/// What stands in a block, as ranges inside the quotes.
pub(super) enum Part {
    /// A quoted metric name.
    Name(Range<usize>),
    /// A label: name and value.
    Label(Range<usize>, Range<usize>),
}

/// What is wrong, and where.
pub(super) struct Fault {
    pub what: &'static str,
    pub at: usize,
}

/// Reads the block whose `{` stands before `at` and returns the place after its `}`. `named`: the
/// metric's name stood before the brace.
#[inline(always)]
pub(super) fn scan(
    bytes: &[u8],
    mut at: usize,
    dialect: Dialect,
    mut named: bool,
    mut visit: impl FnMut(Part),
) -> Result<usize, Fault> {
    let fault = |what, at| Err(Fault { what, at });
    let text = dialect == Dialect::Text;
    let blanks = |mut at: usize| {
        if text {
            while let Some(b' ' | b'\t') = bytes.get(at) {
                at += 1;
            }
        }
        at
    };
    loop {
        at = blanks(at);
        let name;
        match bytes.get(at) {
            Some(b'}') => return Ok(at + 1),
            Some(b'"') => {
                let close = match dialect {
                    Dialect::Exemplar => closing_quote::<true>(bytes, at + 1),
                    _ => closing_quote::<false>(bytes, at + 1),
                };
                let Some(close) = close else {
                    return fault("expected label name", at);
                };
                name = at + 1..close;
                at = blanks(close + 1);
                if let Some(&after @ (b',' | b'}')) = bytes.get(at) {
                    // A quoted string alone is the metric's name.
                    if dialect == Dialect::Exemplar {
                        return fault("expected label name", at);
                    }
                    if named {
                        return fault("metric name already set", at);
                    }
                    named = true;
                    visit(Part::Name(name));
                    at += 1;
                    if after == b'}' {
                        return Ok(at);
                    }
                    continue;
                }
            }
            Some(&b) if is_name_start(b) && b != b':' => {
                let end = label_end(bytes, at);
                name = at..end;
                at = blanks(end);
            }
            _ => return fault("expected label name", at),
        }
        if bytes.get(at) != Some(&b'=') {
            return fault("expected equal", at);
        }
        at = blanks(at + 1);
        if bytes.get(at) != Some(&b'"') {
            return fault("expected label value", at);
        }
        let close = if text {
            closing_quote::<false>(bytes, at + 1)
        } else {
            closing_quote::<true>(bytes, at + 1)
        };
        let Some(close) = close else {
            return fault("expected label value", at);
        };
        visit(Part::Label(name, at + 1..close));
        at = blanks(close + 1);
        match bytes.get(at) {
            Some(b',') => at += 1,
            Some(b'}') => return Ok(at + 1),
            _ if text => {}
            _ => return fault("expected comma or brace close", at),
        }
    }
}

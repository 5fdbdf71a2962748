//! Literals: numbers, durations, strings.

use super::parser::{Parser, span};
use super::token::{Item, Tok};
use crate::ast::{NumberLiteral, StringLiteral};
use model::text::quote;

impl Parser<'_> {
    /// The value of a number or duration token that was just taken.
    pub(super) fn literal(&mut self, item: Item<'_>) -> NumberLiteral {
        if item.tok == Tok::Duration {
            let value = match model::time::parse_duration(item.text) {
                Ok(ms) => (ms / 1000) as f64 + ((ms % 1000) * 1_000_000) as f64 / 1e9,
                Err(error) => {
                    self.report(span(&item), error.to_string());
                    0.0
                }
            };
            return NumberLiteral {
                value,
                duration: true,
            };
        }
        let value = match parse_number(item.text) {
            Ok(value) => value,
            Err(what) => {
                let text = quote(item.text);
                self.report(
                    span(&item),
                    format!("error parsing number: strconv.ParseFloat: parsing {text}: {what}"),
                );
                0.0
            }
        };
        NumberLiteral {
            value,
            duration: false,
        }
    }
}

/// A number as Go's `ParseInt(text, 0, 64)` or else `ParseFloat(text, 64)` reads it.
pub(crate) fn parse_number(text: &str) -> Result<f64, &'static str> {
    const SYNTAX: &str = "invalid syntax";
    if let Some(n) = parse_int(text) {
        return Ok(n as f64);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => {
            return Ok(if text.starts_with('-') {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            });
        }
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    if !unsigned
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-' | b'_'))
        || !underscores_separate_digits(unsigned)
    {
        return Err(SYNTAX);
    }
    let plain = text.replace('_', "");
    let value: f64 = plain.parse().map_err(|_| SYNTAX)?;
    if value.is_infinite() {
        return Err("value out of range");
    }
    Ok(value)
}

/// Go's `ParseInt(text, 0, 64)`: a sign, `0x`, `0o`, `0b` or a leading `0` for octal, underscores
/// between digits; `None` if it would fail.
pub(crate) fn parse_int(text: &str) -> Option<i64> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (base, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    // An underscore may stand between digits and after the base's prefix.
    let prefixed = base != 10;
    if digits.contains("__") || digits.ends_with('_') || (digits.starts_with('_') && !prefixed) {
        return None;
    }
    let magnitude = u64::from_str_radix(&digits.replace('_', ""), base).ok()?;
    if negative {
        0i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

fn underscores_separate_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(i, b)| {
        let digit = |at: Option<usize>| {
            at.and_then(|at| bytes.get(at))
                .is_some_and(u8::is_ascii_digit)
        };
        *b != b'_' || (digit(i.checked_sub(1)) && digit(Some(i + 1)))
    })
}

/// The text of a string token, without quotes and escapes. The lexer has found every escape right.
pub(super) fn unquote(literal: &str) -> StringLiteral {
    let mut chars = literal.chars();
    let open = chars.next();
    chars.next_back();
    let inner = chars.as_str();
    if open == Some('`') {
        // Carriage returns stay, unlike in Go's own raw strings.
        return inner.into();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            push(&mut out, c);
            continue;
        }
        let code = |rest: &mut std::str::Chars<'_>, first: u32, digits: usize, base: u32| {
            (0..digits).fold(first, |value, _| {
                let digit = rest.next().and_then(|c| c.to_digit(base)).unwrap_or(0);
                value.wrapping_mul(base).wrapping_add(digit)
            })
        };
        match rest.next() {
            Some('a') => out.push(0x07),
            Some('b') => out.push(0x08),
            Some('f') => out.push(0x0c),
            Some('n') => out.push(b'\n'),
            Some('r') => out.push(b'\r'),
            Some('t') => out.push(b'\t'),
            Some('v') => out.push(0x0b),
            Some('x') => out.push(code(&mut rest, 0, 2, 16) as u8),
            Some(c @ '0'..='7') => {
                let first = c.to_digit(8).unwrap_or(0);
                out.push(code(&mut rest, first, 2, 8) as u8);
            }
            Some(kind @ ('u' | 'U')) => {
                let digits = if kind == 'u' { 4 } else { 8 };
                let value = code(&mut rest, 0, digits, 16);
                push(
                    &mut out,
                    char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER),
                );
            }
            Some(c) => push(&mut out, c),
            None => {}
        }
    }
    StringLiteral::from_bytes(out)
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_form() {
        for (text, value) in [
            ("0755", 493.0),
            ("0799", 799.0),
            ("0xFf", 255.0),
            ("0X_1", 1.0),
            ("1_000", 1000.0),
            ("1_0.5_0e1_0", 10.5e10),
            ("5.", 5.0),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("inF", f64::INFINITY),
            ("99999999999999999999", 1e20),
        ] {
            assert_eq!(parse_number(text), Ok(value), "{text}");
        }
        assert_eq!(parse_int("-0x8000000000000000"), Some(i64::MIN));
        assert_eq!(parse_number("1e999"), Err("value out of range"));
        for bad in ["0x", "0xffffffffffffffffff", "1__0", "_1", "1_", "1e", "."] {
            assert_eq!(parse_number(bad), Err("invalid syntax"), "{bad}");
        }
    }

    #[test]
    fn escapes_write_bytes() {
        assert_eq!(unquote(r#""a\xc5z""#).as_bytes(), b"a\xc5z");
        assert_eq!(unquote(r"'\'\377\u1234\U00010111☺'").as_bytes(), {
            let mut want = b"'\xff".to_vec();
            want.extend("\u{1234}\u{10111}☺".bytes());
            want
        });
        assert_eq!(unquote(r"`\x`").as_str(), r"\x");
    }
}

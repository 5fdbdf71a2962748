//! Strings and numbers as Go's `fmt` and `strconv` print and read them: what Prometheus says in its
//! errors, templates and answers.

use std::fmt::Write as _;

/// `text` as Go's `%q` prints it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        push_escaped(&mut out, c, '"');
    }
    out.push('"');
    out
}

/// The first `n` characters of `text`, quoted (`%.10q`).
pub fn quote_prefix(text: &str, n: usize) -> String {
    let end = text.char_indices().nth(n).map_or(text.len(), |(i, _)| i);
    quote(&text[..end])
}

/// Bytes as Go's `%q` prints a string that may be no UTF-8.
pub fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c, '"');
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// A character as Go's `%q` prints it; the end of input shows as a replacement character.
pub fn quote_char(c: Option<char>) -> String {
    let mut out = String::from("'");
    push_escaped(&mut out, c.unwrap_or(char::REPLACEMENT_CHARACTER), '\'');
    out.push('\'');
    out
}

/// A character as Go's `%#U` prints it: `U+0063 'c'`.
pub fn unicode(c: char) -> String {
    if is_print(c) {
        format!("U+{:04X} '{c}'", c as u32)
    } else {
        format!("U+{:04X}", c as u32)
    }
}

fn push_escaped(out: &mut String, c: char, delimiter: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{b}' => out.push_str("\\v"),
        '\u{c}' => out.push_str("\\f"),
        c if c == delimiter => {
            out.push('\\');
            out.push(c);
        }
        c if is_print(c) => out.push(c),
        c if c.is_ascii() => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        c if (c as u32) < 0x1_0000 => {
            let _ = write!(out, "\\u{:04x}", c as u32);
        }
        c => {
            let _ = write!(out, "\\U{:08x}", c as u32);
        }
    }
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // The standard library escapes the same categories, but marks only in front of a string.
    let mut buffer = [b'a'; 5];
    let len = 1 + c.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..len]).is_ok_and(|s| s.escape_debug().nth(1) == Some(c))
}

/// A number as Go's `%v` and `%g` print it: the shortest digits that read back, with an exponent
/// below 1e-4 and from 1e6 on.
pub fn format_g(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if magnitude != 0.0 && !(1e-4..1e6).contains(&magnitude) {
        format_e(value, None)
    } else {
        format!("{value}")
    }
}

/// A number as Go's `FormatFloat(value, 'e', precision, 64)` prints it: always with an exponent, of
/// two digits at least. Without a precision it has the shortest digits that read back.
pub fn format_e(value: f64, precision: Option<usize>) -> String {
    if !value.is_finite() {
        return format_f(value);
    }
    let text = match precision {
        Some(precision) => format!("{value:.precision$e}"),
        None => format!("{value:e}"),
    };
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

/// A number as Go's `%.{precision}g` prints it: so many digits, without zeros at the end.
pub fn format_general(value: f64, precision: usize) -> String {
    if !value.is_finite() || value == 0.0 {
        return format_g(value);
    }
    let precision = precision.max(1);
    let text = format_e(value, Some(precision - 1));
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "+00"));
    let power: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let digits = trim(digits);
    // The precision that decides is no larger than the digits there are.
    let shown = digits.chars().filter(char::is_ascii_digit).count() as i32;
    let limit = if precision as i32 > shown && shown > power {
        shown
    } else {
        precision as i32
    };
    if power < -4 || power >= limit {
        return format!("{digits}e{exponent}");
    }
    let decimals = (precision as i32 - 1 - power).max(0) as usize;
    trim(&format!("{value:.decimals$}"))
}

/// A number as Go's `FormatFloat(value, 'f', -1, 64)` prints it: never with an exponent.
pub fn format_f(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        format!("{value}")
    }
}

/// Go's `strconv.ParseFloat(s, 64)`: decimal and hexadecimal
/// numbers, `inf`, `infinity` and `nan` in any case. Underscores are refused.
pub fn parse_float(s: &str) -> Option<f64> {
    let unsigned = s.strip_prefix(['+', '-']).unwrap_or(s);
    let sign = if s.starts_with('-') { -1.0 } else { 1.0 };
    if unsigned.starts_with(['+', '-']) {
        return None;
    }
    if let Some(hex) = unsigned
        .strip_prefix("0x")
        .or_else(|| unsigned.strip_prefix("0X"))
    {
        return parse_hex(hex).map(|v| sign * v);
    }
    unsigned.parse::<f64>().ok().map(|v| sign * v)
}

/// `1f.8p3`: Go wants the exponent in hexadecimal floats.
fn parse_hex(s: &str) -> Option<f64> {
    let (mantissa, exponent) = s.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for c in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(c.to_digit(16)?);
    }
    let power: i32 = exponent.parse().ok()?;
    Some(value * 2f64.powi(power.saturating_sub(4 * fraction.len() as i32)))
}

/// Reads a size: a number and `B`, `KB`, `MB`, `GB`, `TB`, `PB`, `EB` (or `KiB` ...), base 1024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let invalid = || format!("{text:?} is no size; write a number and B, KB, MB, GB, TB, PB or EB");
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let shift = match unit.trim().to_ascii_uppercase().replace("IB", "B").as_str() {
        "" if number == 0 => 0,
        "B" => 0,
        "K" | "KB" => 10,
        "M" | "MB" => 20,
        "G" | "GB" => 30,
        "T" | "TB" => 40,
        "P" | "PB" => 50,
        "E" | "EB" => 60,
        _ => return Err(invalid()),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quote("a\"b\\\n\u{1}é\u{ad}"), r#""a\"b\\\n\x01é\u00ad""#);
        assert_eq!(quote("e\u{301}\u{e0001}"), "\"e\u{301}\\U000e0001\"");
        assert_eq!(quote_bytes(b"a\xc5z"), r#""a\xc5z""#);
        assert_eq!(quote_char(Some('\'')), r"'\''");
        assert_eq!(quote_char(None), "'\u{fffd}'");
        assert_eq!(quote_prefix("abcdefghijkl", 10), "\"abcdefghij\"");
        assert_eq!(unicode('c'), "U+0063 'c'");
        assert_eq!(unicode('\u{1}'), "U+0001");
    }

    #[test]
    fn numbers_are_read_as_go_does() {
        for (text, value) in [
            ("+Inf", Some(f64::INFINITY)),
            ("0x1p-2", Some(0.25)),
            ("1e3", Some(1000.0)),
            ("", None),
            ("1_0", None),
        ] {
            assert_eq!(parse_float(text), value, "{text}");
        }
    }

    #[test]
    fn exponents_have_two_digits() {
        for (value, want) in [(1.0, "1e+00"), (1234.5, "1.2345e+03"), (0.00025, "2.5e-04")] {
            assert_eq!(format_e(value, None), want);
        }
        assert_eq!(format_e(f64::INFINITY, None), "+Inf");
        assert_eq!(format_e(1234.5, Some(2)), "1.23e+03");
    }

    #[test]
    fn numbers_as_go_does() {
        for (value, g, f) in [
            (1.0, "1", "1"),
            (-23.0, "-23", "-23"),
            (1e21, "1e+21", "1000000000000000000000"),
            (999999.5, "999999.5", "999999.5"),
            (1e6, "1e+06", "1000000"),
            (7.95e11, "7.95e+11", "795000000000"),
            (0.00001, "1e-05", "0.00001"),
            (0.0001, "0.0001", "0.0001"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NAN, "NaN", "NaN"),
            (-0.0, "-0", "-0"),
            (1.5e-300, "1.5e-300", &format!("0.{}15", "0".repeat(299))),
        ] {
            assert_eq!(format_g(value), g);
            assert_eq!(format_f(value), f);
        }
    }
}

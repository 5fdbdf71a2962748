//! Numbers as Go reads and prints them.

/// Why a token is no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// `_` and the `p` of hexadecimal floats are not part of any exposition format.
    #[error("unsupported character in float")]
    Unsupported,
    /// Not a float.
    #[error("parsing {0:?}: invalid syntax")]
    Syntax(String),
    /// Too big for a float.
    #[error("parsing {0:?}: value out of range")]
    Range(String),
}

/// Reads a float as the exposition formats define it: what Go's `ParseFloat` takes, without
/// hexadecimal floats and underscores. Every NaN becomes [`model::sample::NORMAL_NAN`].
pub fn parse_float(token: &[u8]) -> Result<f64, NumberError> {
    if token.iter().any(|b| matches!(b, b'p' | b'P' | b'_')) {
        return Err(NumberError::Unsupported);
    }
    let syntax = || NumberError::Syntax(String::from_utf8_lossy(token).into_owned());
    let text = std::str::from_utf8(token).map_err(|_| syntax())?;
    let value: f64 = text.parse().map_err(|_| syntax())?;
    if value.is_nan() {
        // Go knows no signed NaN.
        return match token.first() {
            Some(b'+' | b'-') => Err(syntax()),
            _ => Ok(model::sample::NORMAL_NAN),
        };
    }
    if value.is_infinite() && token.iter().any(u8::is_ascii_digit) {
        return Err(NumberError::Range(text.to_owned()));
    }
    Ok(value)
}

/// Powers of ten that a float holds exactly.
const POW10: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Reads a plain decimal that starts at `at` and is followed by a blank, a tab, a line feed or the
/// end, if it can be done exactly in one multiplication or division: a significand below 2^53 and
/// a power of ten up to 22 are both exact, and IEEE rounds the one operation correctly.
/// Anything else is left to [`parse_float`].
#[inline]
pub(crate) fn quick_float(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    let mut i = at;
    let negative = bytes.get(i) == Some(&b'-');
    if negative {
        i += 1;
    }
    let mut significand: u64 = 0;
    let first = i;
    while let Some(digit) = digit(bytes, i) {
        significand = significand.wrapping_mul(10).wrapping_add(digit);
        i += 1;
    }
    let mut digits = i - first;
    let mut exponent: i32 = 0;
    if bytes.get(i) == Some(&b'.') {
        let point = i;
        i += 1;
        while let Some(digit) = digit(bytes, i) {
            significand = significand.wrapping_mul(10).wrapping_add(digit);
            i += 1;
        }
        digits += i - point - 1;
        exponent = -((i - point - 1) as i32);
    }
    // 19 digits cannot have overflowed 64 bits.
    if digits == 0 || digits > 19 || significand > 1 << 53 {
        return None;
    }
    if matches!(bytes.get(i), Some(b'e' | b'E')) {
        i += 1;
        let minus = bytes.get(i) == Some(&b'-');
        if matches!(bytes.get(i), Some(b'+' | b'-')) {
            i += 1;
        }
        let from = i;
        let mut e: i32 = 0;
        while let Some(digit) = digit(bytes, i) {
            if i - from >= 4 {
                return None;
            }
            e = e * 10 + digit as i32;
            i += 1;
        }
        if i == from {
            return None;
        }
        exponent += if minus { -e } else { e };
    }
    if !matches!(bytes.get(i), None | Some(b' ' | b'\t' | b'\n')) {
        return None;
    }
    let power = POW10.get(exponent.unsigned_abs() as usize)?;
    let magnitude = if exponent < 0 {
        significand as f64 / power
    } else {
        significand as f64 * power
    };
    Some((if negative { -magnitude } else { magnitude }, i))
}

#[inline(always)]
fn digit(bytes: &[u8], at: usize) -> Option<u64> {
    let d = bytes.get(at)?.wrapping_sub(b'0');
    (d < 10).then_some(u64::from(d))
}

/// Prints a float as OpenMetrics wants `le` and `quantile`: Go's shortest `%g`, with `.0` behind
/// whole numbers.
pub fn format_openmetrics_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return "0.0".to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Go's %g in its shortest form prints exponents below -4 and from 6 on.
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}

//! `@st` lines: start timestamps of the series line below, as offsets from each sample's time.

use model::Millis;
use model::time::parse_duration;

/// The most positions a line may have.
const MAX: u64 = crate::parse::MAX_VALUES as u64;

/// Metric and items of a line whose first word ends in `@st`.
pub(super) fn split(line: &str) -> Option<(&str, &str)> {
    let (first, items) = line.split_once([' ', '\t'])?;
    Some((first.strip_suffix("@st")?, items))
}

/// The offsets, ms; `None` where there is no start timestamp.
pub(super) fn read(items: &str) -> Result<Vec<Option<Millis>>, String> {
    let mut out = Vec::new();
    for item in items.split_whitespace() {
        read_item(item, &mut out).map_err(|e| format!("invalid ST item {item:?}: {e}"))?;
    }
    Ok(out)
}

fn read_item(item: &str, out: &mut Vec<Option<Millis>>) -> Result<(), String> {
    if item == "_" {
        out.push(None);
        return Ok(());
    }
    if let Some(count) = item.strip_prefix("_x") {
        let count = repetitions(count, out.len())?;
        if count == 0 {
            return Err("invalid repeat count".to_owned());
        }
        out.extend(std::iter::repeat_n(None, count as usize));
        return Ok(());
    }
    let (base, rest) = offset(item)?;
    let (delta, rest) = match rest.strip_prefix(['+', '-']) {
        Some(tail) => {
            let (delta, tail) = offset(tail)?;
            if tail.is_empty() {
                return Err("expected 'x<count>' after step duration".to_owned());
            }
            (if rest.starts_with('-') { -delta } else { delta }, tail)
        }
        None => (0, rest),
    };
    let count = match rest.strip_prefix('x') {
        Some(count) => repetitions(count, out.len())? + 1,
        None if rest.is_empty() => 1,
        None => return Err(format!("unexpected {rest:?} after duration")),
    };
    out.extend((0..count as Millis).map(|i| Some(base.saturating_add(delta.saturating_mul(i)))));
    Ok(())
}

fn repetitions(text: &str, so_far: usize) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|n| *n < MAX - (so_far as u64).min(MAX))
        .ok_or_else(|| "invalid repeat count".to_owned())
}

/// A duration with or without a sign at the beginning of `text`, and what follows it.
fn offset(text: &str) -> Result<(Millis, &str), String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let letters = unsigned[digits..]
        .bytes()
        .take_while(|b| b.is_ascii_alphabetic() && *b != b'x')
        .count();
    let (duration, rest) = unsigned.split_at(digits + letters);
    let ms = parse_duration(duration).map_err(|e| e.to_string())?;
    Ok((if text.starts_with('-') { -ms } else { ms }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items() {
        assert_eq!(split("m{a=\"b\"}@st -1m _"), Some(("m{a=\"b\"}", "-1m _")));
        assert_eq!(split("m 1 2"), None);
        let read = |text| read(text).unwrap();
        assert_eq!(read("_ _x2 0"), [None, None, None, Some(0)]);
        assert_eq!(read("-1mx2"), [Some(-60_000); 3]);
        assert_eq!(
            read("-30s-1mx2"),
            [Some(-30_000), Some(-90_000), Some(-150_000)]
        );
        assert_eq!(read("1s+5msx1"), [Some(1000), Some(1005)]);
        for bad in ["_x0", "1", "5m+1m", "1mx", "1mx99999999999", "x", "é"] {
            assert!(super::read(bad).is_err(), "{bad}");
        }
    }
}

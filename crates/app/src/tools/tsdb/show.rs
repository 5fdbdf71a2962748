//! How Go's tools print tables, times, durations and sizes.

use std::fmt::Write as _;

use block::Meta;
use model::Millis;

/// The narrowest column, and the least space between two.
const NARROWEST: usize = 13;
const PADDING: usize = 2;

/// Lines of cells as a table: columns as wide as their widest cell, the last one as it is.
pub fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![NARROWEST; columns];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count() + PADDING);
        }
    }
    let mut out = String::new();
    for line in lines {
        for (i, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if i + 1 < line.len() {
                let width = widths.get(i).copied().unwrap_or(0);
                out.extend(std::iter::repeat_n(
                    ' ',
                    width.saturating_sub(cell.chars().count()),
                ));
            }
        }
        out.push('\n');
    }
    out
}

/// The table of blocks, with or without its head.
pub fn blocks(blocks: &[(Meta, u64)], head: bool, human: bool) -> String {
    const HEAD: [&str; 8] = [
        "BLOCK ULID",
        "MIN TIME",
        "MAX TIME",
        "DURATION",
        "NUM SAMPLES",
        "NUM CHUNKS",
        "NUM SERIES",
        "SIZE",
    ];
    let mut lines = Vec::new();
    if head {
        lines.push(HEAD.map(String::from).to_vec());
    }
    for (meta, bytes) in blocks {
        lines.push(vec![
            meta.ulid.to_string(),
            time(meta.min_time, human),
            time(meta.max_time, human),
            duration_of(meta),
            meta.stats.num_samples.to_string(),
            meta.stats.num_chunks.to_string(),
            meta.stats.num_series.to_string(),
            size(*bytes, human),
        ]);
    }
    table(&lines)
}

fn time(ms: Millis, human: bool) -> String {
    if !human {
        return ms.to_string();
    }
    // Go divides towards zero.
    match jiff::Timestamp::from_second(ms / 1000) {
        Ok(t) => t.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => ms.to_string(),
    }
}

/// How long a block is.
pub fn duration_of(meta: &Meta) -> String {
    duration(meta.max_time.saturating_sub(meta.min_time))
}

/// As Go prints a duration: `2h0m0s`, `1m59.99s`, `250ms`, `0s`.
pub fn duration(ms: Millis) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    if ms == 0 {
        return "0s".to_owned();
    }
    if ms < 1000 {
        return format!("{sign}{ms}ms");
    }
    let (seconds, rest) = (ms / 1000, ms % 1000);
    let mut out = sign.to_owned();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 {
        let _ = write!(out, "{h}h");
    }
    if h > 0 || m > 0 {
        let _ = write!(out, "{m}m");
    }
    let _ = write!(out, "{s}");
    if rest > 0 {
        let digits = format!("{rest:03}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    out.push('s');
    out
}

/// Bytes; for people in all the units that are needed: `1GiB512MiB3B`.
fn size(bytes: u64, human: bool) -> String {
    if !human || bytes == 0 {
        return if human {
            "0B".to_owned()
        } else {
            bytes.to_string()
        };
    }
    let mut out = String::new();
    for (shift, unit) in [
        (60, "EiB"),
        (50, "PiB"),
        (40, "TiB"),
        (30, "GiB"),
        (20, "MiB"),
        (10, "KiB"),
        (0, "B"),
    ] {
        let n = match shift {
            60 => bytes >> 60,
            _ => (bytes >> shift) & 1023,
        };
        if n > 0 {
            let _ = write!(out, "{n}{unit}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_prints() {
        for (ms, want) in [
            (0, "0s"),
            (250, "250ms"),
            (1500, "1.5s"),
            (60_000, "1m0s"),
            (119_990, "1m59.99s"),
            (7_200_000, "2h0m0s"),
            (65_000_001, "18h3m20.001s"),
            (-7_200_000, "-2h0m0s"),
        ] {
            assert_eq!(duration(ms), want);
        }
        for (n, want) in [
            (0, "0B"),
            (5, "5B"),
            (1024, "1KiB"),
            (1_610_612_739, "1GiB512MiB3B"),
            (3 << 60, "3EiB"),
        ] {
            assert_eq!(size(n, true), want);
        }
        assert_eq!(size(1024, false), "1024");
        assert_eq!(time(-1500, true), "1969-12-31 23:59:59 +0000 UTC");
        assert_eq!(time(-1500, false), "-1500");
    }

    #[test]
    fn columns_are_as_wide_as_they_must() {
        let lines = [
            vec!["a".into(), "b".into()],
            vec!["x".repeat(14), "y".into()],
        ];
        assert_eq!(
            table(&lines),
            format!("a{}b\n{}  y\n", " ".repeat(15), "x".repeat(14))
        );
        assert_eq!(table(&lines[..1]), format!("a{}b\n", " ".repeat(12)));
    }
}

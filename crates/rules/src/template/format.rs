//! Text as Go's `fmt`, `strconv` and `time` read and write it.

use std::sync::Arc;

use super::value::Value;

pub(super) use model::text::{format_general as general, quote};

/// How `time.Time` prints itself.
pub(super) const DEFAULT_LAYOUT: &str = "2006-01-02 15:04:05.999999999 -0700 MST";

/// The content of a quoted string, raw string or character.
pub(super) fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    if quote == '`' {
        return Some(inner.replace('\r', ""));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let byte = match chars.clone().next()? {
            'x' => {
                chars.next();
                let high = chars.next()?.to_digit(16)?;
                let low = chars.next()?.to_digit(16)?;
                (high * 16 + low) as u8
            }
            letter @ ('u' | 'U') => {
                chars.next();
                let mut code = 0u32;
                for _ in 0..if letter == 'u' { 4 } else { 8 } {
                    code = code.checked_mul(16)? + chars.next()?.to_digit(16)?;
                }
                let c = char::from_u32(code)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            '0'..='7' => {
                let mut code = 0;
                for _ in 0..3 {
                    code = code * 8 + chars.next()?.to_digit(8)?;
                }
                u8::try_from(code).ok()?
            }
            letter => {
                chars.next();
                match letter {
                    'a' => 7,
                    'b' => 8,
                    'f' => 12,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 11,
                    '\\' => b'\\',
                    c if c == quote => c as u8,
                    _ => return None,
                }
            }
        };
        out.push(byte);
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// An integer literal; `None` for one with a point or an exponent.
pub(super) fn parse_int(text: &str) -> Option<i64> {
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    let digits = digits.replace('_', "");
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from_str_radix(&digits, radix).ok()?;
    i64::try_from(if negative { -value } else { value }).ok()
}

/// A floating point literal.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    model::text::parse_float(&text.replace('_', "")).filter(|f| f.is_finite())
}

/// Nanoseconds as `time.Duration` prints them.
pub(super) fn duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let (whole, rest) = (value / unit, value % unit);
        let digits = unit.ilog10() as usize;
        let text = format!("{whole}.{rest:0digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(ns, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(ns, 1_000_000)),
        _ => {
            let minute = 60_000_000_000;
            let seconds = fraction(ns % minute, 1_000_000_000);
            let (hours, minutes) = (ns / minute / 60, ns / minute % 60);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, m) => format!("{m}m{seconds}s"),
                (h, m) => format!("{h}h{m}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

fn civil(ns: i64) -> Option<jiff::Zoned> {
    let at = jiff::Timestamp::from_nanosecond(i128::from(ns)).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC))
}

/// Nanoseconds since the epoch in one of Go's layouts, UTC.
pub(super) fn time(ns: i64, layout: &str) -> String {
    // The pieces of a layout, longer ones first where one starts like another.
    const PIECES: [(&str, &str); 25] = [
        ("2006", "%Y"),
        ("January", "%B"),
        ("Jan", "%b"),
        ("Monday", "%A"),
        ("Mon", "%a"),
        ("MST", "UTC"),
        ("Z07:00", "Z"),
        ("Z0700", "Z"),
        ("-07:00", "+00:00"),
        ("-0700", "+0000"),
        ("-07", "+00"),
        ("002", "%j"),
        ("01", "%m"),
        ("02", "%d"),
        ("03", "%I"),
        ("04", "%M"),
        ("05", "%S"),
        ("06", "%y"),
        ("15", "%H"),
        ("_2", "%e"),
        ("PM", "%p"),
        ("1", "%-m"),
        ("2", "%-d"),
        ("3", "%-I"),
        ("4", "%-M"),
    ];
    let Some(at) = civil(ns) else {
        return String::new();
    };
    let mut out = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        if let Some((piece, pattern)) = PIECES.iter().find(|(piece, _)| rest.starts_with(piece)) {
            out.push_str(&at.strftime(pattern).to_string());
            rest = &rest[piece.len()..];
            continue;
        }
        if rest.starts_with('5') {
            out.push_str(&at.second().to_string());
            rest = &rest[1..];
            continue;
        }
        let after = &rest[c.len_utf8()..];
        let nines = after.len() - after.trim_start_matches('9').len();
        let zeros = after.len() - after.trim_start_matches('0').len();
        if matches!(c, '.' | ',') && (nines > 0 || zeros > 0) {
            let count = nines.max(zeros);
            let digits = format!("{:09}", at.subsec_nanosecond());
            let digits = digits.get(..count.min(9)).unwrap_or(&digits);
            let digits = match nines {
                0 => digits,
                _ => digits.trim_end_matches('0'),
            };
            if !digits.is_empty() {
                out.push(c);
                out.push_str(digits);
            }
            rest = &after[count..];
            continue;
        }
        out.push(c);
        rest = after;
    }
    out
}

/// The methods of `time.Time` that take no argument.
pub(super) fn time_method(ns: i64, name: &str) -> Option<Value> {
    let at = civil(ns)?;
    Some(match name {
        "Unix" => Value::Int(ns.div_euclid(1_000_000_000)),
        "UnixMilli" => Value::Int(ns.div_euclid(1_000_000)),
        "UnixMicro" => Value::Int(ns.div_euclid(1_000)),
        "UnixNano" => Value::Int(ns),
        "UTC" => Value::Time(ns),
        "Year" => Value::Int(at.year().into()),
        "Day" => Value::Int(at.day().into()),
        "Hour" => Value::Int(at.hour().into()),
        "Minute" => Value::Int(at.minute().into()),
        "Second" => Value::Int(at.second().into()),
        "Nanosecond" => Value::Int(at.subsec_nanosecond().into()),
        "YearDay" => Value::Int(at.day_of_year().into()),
        "Month" => Value::text(&at.strftime("%B").to_string()),
        "Weekday" => Value::text(&at.strftime("%A").to_string()),
        "String" => Value::text(&time(ns, DEFAULT_LAYOUT)),
        _ => return None,
    })
}

/// Widths and precisions that are believed; Go has the same limit.
const MAX_WIDTH: usize = 1_000_000;
/// Widths that are carried out: nobody aligns to more, and a template must not fill the memory.
const WIDE: usize = 4096;

#[derive(Clone, Copy, Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// A width or precision.
enum Amount {
    None,
    Is(isize),
    Bad,
}

fn amount(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    args: &[Value],
    next: &mut usize,
) -> Amount {
    if chars.next_if_eq(&'*').is_some() {
        let arg = args.get(*next);
        *next += 1;
        return match arg {
            Some(Value::Int(n)) if n.unsigned_abs() <= MAX_WIDTH as u64 => Amount::Is(*n as isize),
            _ => Amount::Bad,
        };
    }
    let mut n: Option<usize> = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        n = Some((n.unwrap_or(0) * 10 + digit as usize).min(MAX_WIDTH));
    }
    n.map_or(Amount::None, |n| Amount::Is(n as isize))
}

/// Go's `fmt.Sprintf`.
pub(super) fn sprintf(pattern: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                _ => break,
            }
            chars.next();
        }
        flags.width = match amount(&mut chars, args, &mut next) {
            Amount::Bad => {
                out.push_str("%!(BADWIDTH)");
                None
            }
            Amount::None => None,
            // A negative width means flush left.
            Amount::Is(n) => {
                flags.minus |= n < 0;
                Some(n.unsigned_abs())
            }
        };
        if chars.peek() == Some(&'.') {
            chars.next();
            flags.precision = match amount(&mut chars, args, &mut next) {
                Amount::Bad => {
                    out.push_str("%!(BADPREC)");
                    None
                }
                Amount::None => Some(0),
                Amount::Is(n) => usize::try_from(n).ok().map(|n| n.min(WIDE)),
            };
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(arg) = args.get(next) else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        next += 1;
        out.push_str(&verbalise(verb, arg, flags));
    }
    if next < args.len() {
        let extra: Vec<_> = args[next..]
            .iter()
            .map(|v| match v {
                Value::None => "<nil>".to_owned(),
                v => format!("{}={}", v.kind(), v.print()),
            })
            .collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn pad(text: String, flags: Flags, zeros: bool) -> String {
    let width = flags.width.unwrap_or(0).min(WIDE);
    let len = text.chars().count();
    if len >= width {
        return text;
    }
    let fill = width - len;
    if flags.minus {
        return text + &" ".repeat(fill);
    }
    if !(flags.zero && zeros) {
        return " ".repeat(fill) + &text;
    }
    let (sign, digits) = match text.strip_prefix(['+', '-', ' ']) {
        Some(digits) => text.split_at(text.len() - digits.len()),
        None => ("", text.as_str()),
    };
    format!("{sign}{}{digits}", "0".repeat(fill))
}

fn signed(text: String, flags: Flags) -> String {
    match (text.starts_with(['-', '+']), flags.plus, flags.space) {
        (false, true, _) => format!("+{text}"),
        (false, false, true) => format!(" {text}"),
        (true, false, _) if text.starts_with("+Inf") && !flags.space => text,
        _ => text,
    }
}

/// One verb of a pattern.
fn verbalise(verb: char, arg: &Value, flags: Flags) -> String {
    if verb == 'T' {
        return pad(arg.kind().to_owned(), flags, false);
    }
    let bad = || match arg {
        Value::None => format!("%!{verb}(<nil>)"),
        arg => format!("%!{verb}({}={})", arg.kind(), verbalise('v', arg, flags)),
    };
    let text = |s: &str| -> Option<String> {
        let cut: String = match flags.precision {
            Some(n) => s.chars().take(n).collect(),
            None => s.to_owned(),
        };
        Some(match verb {
            'v' | 's' => pad(cut, flags, true),
            'q' if flags.sharp && !cut.contains('`') => pad(format!("`{cut}`"), flags, true),
            'q' => pad(quote(&cut), flags, true),
            'x' | 'X' => {
                let between = if flags.space { " " } else { "" };
                let bytes: Vec<_> = cut.bytes().map(|b| format!("{b:02x}")).collect();
                let before = if flags.sharp && !bytes.is_empty() {
                    "0x"
                } else {
                    ""
                };
                let text = format!("{before}{}", bytes.join(between));
                pad(
                    if verb == 'X' {
                        text.to_uppercase()
                    } else {
                        text
                    },
                    flags,
                    true,
                )
            }
            _ => return None,
        })
    };
    let done = match arg {
        Value::None if verb == 'v' => Some(pad("<nil>".to_owned(), flags, false)),
        Value::None => None,
        Value::Bool(b) => match verb {
            'v' | 't' => Some(pad(b.to_string(), flags, false)),
            _ => None,
        },
        Value::Int(i) => integer(verb, *i, flags),
        Value::Float(f) => float(verb, *f, flags),
        Value::Str(s) => text(s),
        Value::Duration(ns) if verb == 'd' => integer(verb, *ns, flags),
        Value::Args(map) if !matches!(verb, 'v' | 's') => {
            let pairs: Vec<_> = map
                .iter()
                .map(|(k, v)| {
                    let key = verbalise(verb, &Value::text(k), flags);
                    format!("{key}:{}", verbalise(verb, v, flags))
                })
                .collect();
            Some(format!("map[{}]", pairs.join(" ")))
        }
        Value::Labels(labels) => {
            let one = |s: &str| verbalise(verb, &Value::text(s), flags);
            let pairs: Vec<_> = labels
                .iter()
                .map(|(k, v)| format!("{}:{}", one(k), one(v)))
                .collect();
            Some(format!("map[{}]", pairs.join(" ")))
        }
        Value::Root(root) => {
            let of = |value: Value| verbalise(verb, &value, flags);
            let labels = |labels: &model::Labels| of(Value::Labels(Arc::new(labels.clone())));
            Some(format!(
                "{{{} {} {} {}}}",
                labels(&root.labels),
                labels(&root.external_labels),
                of(Value::text(&root.external_url)),
                of(root.value.value())
            ))
        }
        arg => text(&arg.print()),
    };
    done.unwrap_or_else(bad)
}

fn integer(verb: char, i: i64, flags: Flags) -> Option<String> {
    let sign = if i < 0 { "-" } else { "" };
    let n = i.unsigned_abs();
    let digits = match verb {
        'v' | 'd' => n.to_string(),
        'b' => format!("{n:b}"),
        'o' => format!("{}{n:o}", if flags.sharp { "0" } else { "" }),
        'O' => format!("0o{n:o}"),
        'x' => format!("{}{n:x}", if flags.sharp { "0x" } else { "" }),
        'X' => format!("{}{n:X}", if flags.sharp { "0X" } else { "" }),
        'c' => {
            let c = u32::try_from(i).ok().and_then(char::from_u32);
            return Some(pad(c.unwrap_or('\u{fffd}').to_string(), flags, false));
        }
        'q' => {
            let c = u32::try_from(i).ok().and_then(char::from_u32);
            return Some(pad(model::text::quote_char(c), flags, false));
        }
        'U' => return Some(pad(format!("U+{n:04X}"), flags, false)),
        _ => return None,
    };
    let digits = match flags.precision {
        Some(0) if i == 0 => String::new(),
        Some(precision) if digits.len() < precision => {
            "0".repeat(precision - digits.len()) + &digits
        }
        _ => digits,
    };
    let zeros = flags.precision.is_none();
    Some(pad(signed(format!("{sign}{digits}"), flags), flags, zeros))
}

fn float(verb: char, f: f64, flags: Flags) -> Option<String> {
    let text = match (verb, flags.precision) {
        ('v' | 'g' | 'G', None) => model::text::format_g(f),
        ('v' | 'g' | 'G', Some(p)) => general(f, p),
        ('f' | 'F', p) if f.is_finite() => format!("{f:.*}", p.unwrap_or(6)),
        ('f' | 'F', _) => model::text::format_g(f),
        ('e' | 'E', p) => model::text::format_e(f, Some(p.unwrap_or(6))),
        _ => return None,
    };
    let text = match verb {
        'G' | 'E' => text.replace('e', "E"),
        _ => text,
    };
    // Go shows the sign of infinity only where it was asked for.
    let text = match text.strip_prefix('+') {
        Some(rest) if !flags.plus => format!("+{rest}"),
        _ => text,
    };
    Some(pad(signed(text, flags), flags, f.is_finite()))
}

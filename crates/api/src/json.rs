//! JSON written straight into bytes: what a query result is made of, without a tree in between.
//!
//! Numbers are spelled as Prometheus spells them (`util/jsonutil/marshal.go`): times in seconds
//! with three decimals or none, values as strings in Go's shortest form.

use model::Millis;
use model::histogram::FloatHistogram;

/// A number in an answer that serde writes: a whole one as Go spells it, `4` and not `4.0`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(pub(crate) f64);

impl serde::Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // Beyond this, not every whole number is a float's.
        const WHOLE: f64 = 9e15;
        let whole = self.0 as i64;
        match self.0.abs() < WHOLE && whole as f64 == self.0 {
            true => to.serialize_i64(whole),
            false => to.serialize_f64(self.0),
        }
    }
}

/// `"text"` with escapes.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    // Nearly no label has a byte to escape; without a way out of the loop many are looked at together.
    let escapes = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    if !bytes.iter().fold(false, |any, &byte| any | escapes(byte)) {
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    let mut start = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        if !escapes(byte) {
            continue;
        }
        out.extend_from_slice(&bytes[start..i]);
        start = i + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

/// `["a","b"]`
pub(crate) fn strings<S: AsRef<str>>(out: &mut Vec<u8>, texts: &[S]) {
    out.push(b'[');
    for (i, text) in texts.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        string(out, text.as_ref());
    }
    out.push(b']');
}

/// `{"name":"value",...}`
pub(crate) fn labels<'a>(out: &mut Vec<u8>, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
    out.push(b'{');
    for (i, (name, value)) in labels.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        string(out, name);
        out.push(b':');
        string(out, value);
    }
    out.push(b'}');
}

/// Milliseconds as seconds: `12`, `12.340`.
pub(crate) fn timestamp(out: &mut Vec<u8>, ms: Millis) {
    if ms < 0 {
        out.push(b'-');
    }
    let ms = ms.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(ms / 1000).as_bytes());
    let rest = (ms % 1000) as u16;
    if rest != 0 {
        let digit = |n: u16| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
    }
}

/// `[12.340,"value"]`
pub(crate) fn sample(out: &mut Vec<u8>, ts: Millis, value: f64) {
    out.push(b'[');
    timestamp(out, ts);
    out.extend_from_slice(b",\"");
    float(out, value);
    out.extend_from_slice(b"\"]");
}

/// `[12.340,{"count":"3","sum":"4.5","buckets":[[0,"0.5","1","3"]]}]`: buckets with observations,
/// each with which of its bounds belong to it (0: the upper, 1: the lower, 2: none, 3: both).
pub(crate) fn histogram(out: &mut Vec<u8>, ts: Millis, histogram: &FloatHistogram) {
    let text = |out: &mut Vec<u8>, value: f64| {
        out.push(b'"');
        float(out, value);
        out.push(b'"');
    };
    out.push(b'[');
    timestamp(out, ts);
    out.extend_from_slice(b",{\"count\":");
    text(out, histogram.count);
    out.extend_from_slice(b",\"sum\":");
    text(out, histogram.sum);
    let populated = histogram.view().ascending().filter(|b| b.count != 0.0);
    let mut any = false;
    for bucket in populated {
        out.extend_from_slice(if any { b"," } else { b",\"buckets\":[" });
        any = true;
        out.extend_from_slice(match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => b"[0,",
            (true, false) => b"[1,",
            (false, false) => b"[2,",
            (true, true) => b"[3,",
        });
        text(out, bucket.lower);
        out.push(b',');
        text(out, bucket.upper);
        out.push(b',');
        text(out, bucket.count);
        out.push(b']');
    }
    if any {
        out.push(b']');
    }
    out.extend_from_slice(b"}]");
}

/// A number as Go's `strconv.FormatFloat(v, 'f', -1, 64)` writes it, or with `'e'` below 1e-6 and
/// from 1e21 on; without quotes.
pub(crate) fn float(out: &mut Vec<u8>, value: f64) {
    // Whole numbers of up to 15 digits, by far the commonest.
    const WHOLE: f64 = 1e15;
    if value.abs() < WHOLE {
        let whole = value as i64;
        if whole as f64 == value {
            if whole == 0 && value.is_sign_negative() {
                out.push(b'-');
            }
            out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
            return;
        }
    } else if !value.is_finite() {
        out.extend_from_slice(if value.is_nan() {
            b"NaN"
        } else if value > 0.0 {
            b"+Inf"
        } else {
            b"-Inf"
        });
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    // Between these, text has neither an exponent nor a fraction of nothing, and need not be searched.
    if (1e-4..WHOLE).contains(&value.abs()) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    match text.split_once('e') {
        None => out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes()),
        Some((mantissa, exponent)) => respell(out, mantissa, exponent.parse().unwrap_or(0)),
    }
}

/// Writes `mantissa` times ten to the `exponent` in Go's way; the mantissa has one digit before
/// its point.
fn respell(out: &mut Vec<u8>, mantissa: &str, exponent: i32) {
    let mantissa = match mantissa.strip_prefix('-') {
        Some(rest) => {
            out.push(b'-');
            rest
        }
        None => mantissa,
    };
    let mut digits = [0u8; 24];
    let mut count = 0;
    for byte in mantissa.bytes().filter(u8::is_ascii_digit).take(24) {
        digits[count] = byte;
        count += 1;
    }
    let mut digits = &digits[..count];
    while let [head @ .., b'0'] = digits
        && !head.is_empty()
    {
        digits = head;
    }
    let Some((first, rest)) = digits.split_first() else {
        out.push(b'0');
        return;
    };
    if !(-6..21).contains(&exponent) {
        out.push(*first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.abs() < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(itoa::Buffer::new().format(exponent.abs()).as_bytes());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(digits);
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            out.extend_from_slice(digits);
            out.extend(std::iter::repeat_n(b'0', whole - digits.len()));
        } else {
            out.extend_from_slice(&digits[..whole]);
            out.push(b'.');
            out.extend_from_slice(&digits[whole..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;

    fn written(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn whole_numbers_have_no_fraction_in_serdes_answers() {
        let text = |value| serde_json::to_string(&Number(value)).unwrap();
        assert_eq!(text(4.0), "4");
        assert_eq!(text(0.0), "0");
        assert_eq!(text(-60.0), "-60");
        assert_eq!(text(0.25), "0.25");
    }

    #[test]
    fn numbers_are_spelled_as_in_go() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-3.5, "-3.5"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (1.5e-6, "0.0000015"),
            (9.99e-7, "9.99e-07"),
            (1e-7, "1e-07"),
            (-1.25e-300, "-1.25e-300"),
            (123456.789, "123456.789"),
            (1e15, "1000000000000000"),
            (1e20, "100000000000000000000"),
            (1.2345678901234567e20, "123456789012345670000"),
            (1e21, "1e+21"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (9007199254740993.0, "9007199254740992"),
            (123456789012345680.0, "123456789012345680"),
            (1795426074.5180001, "1795426074.5180001"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(written(|o| float(o, value)), text);
        }
    }

    #[test]
    fn every_number_reads_back() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..100_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = f64::from_bits(state);
            if value.is_finite() {
                assert_eq!(written(|o| float(o, value)).parse(), Ok(value));
            }
        }
    }

    #[test]
    fn histograms_list_their_populated_buckets() {
        use model::histogram::{Buckets, CUSTOM_SCHEMA};
        let h = FloatHistogram {
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 7.5,
            sum: f64::NAN,
            positive: Buckets::from_pairs([(0, 1.0), (1, 0.0), (4, 3.0)]),
            negative: Buckets::from_pairs([(2, 1.5)]),
            ..FloatHistogram::default()
        };
        assert_eq!(
            written(|o| histogram(o, 1500, &h)),
            r#"[1.500,{"count":"7.5","sum":"NaN","buckets":[[1,"-4","-2","1.5"],[3,"-0.001","0.001","2"],[0,"0.5","1","1"],[0,"8","16","3"]]}]"#
        );
        let custom = FloatHistogram {
            schema: CUSTOM_SCHEMA,
            count: 4.0,
            positive: Buckets::from_pairs([(0, 1.0), (1, 3.0)]),
            custom_values: [0.1].into(),
            ..FloatHistogram::default()
        };
        assert_eq!(
            written(|o| histogram(o, 0, &custom)),
            r#"[0,{"count":"4","sum":"0","buckets":[[3,"-Inf","0.1","1"],[0,"0.1","+Inf","3"]]}]"#
        );
        assert_eq!(
            written(|o| histogram(o, 0, &FloatHistogram::default())),
            r#"[0,{"count":"0","sum":"0"}]"#
        );
    }

    #[test]
    fn times() {
        for (ms, text) in [
            (0, "0"),
            (1000, "1"),
            (1500, "1.500"),
            (1005, "1.005"),
            (-1, "-0.001"),
            (-61_050, "-61.050"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            assert_eq!(written(|o| timestamp(o, ms)), text);
        }
    }

    #[test]
    fn texts() {
        let wild = "a\"b\\c\n\t\r\u{0}\u{1f}é\u{2028}<>&";
        let text = written(|o| string(o, wild));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), wild);
        assert_eq!(written(|o| strings::<&str>(o, &[])), "[]");
        let set = Labels::from_pairs([("b", "2"), ("a", "\"")]);
        assert_eq!(written(|o| labels(o, set.iter())), r#"{"a":"\"","b":"2"}"#);
    }
}

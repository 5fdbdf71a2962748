//! What a query took, as JSON: `stats` in Prometheus' shape, `analysis` in Thanos'.

use std::fmt::Write as _;
use std::time::Duration;

use promql::Description;
use promql::profile::{Profile, Timings};

use crate::json;

/// The `stats` object: seconds and samples; with `per_step` the samples of each step, too.
pub fn statistics(profile: &Profile, per_step: bool) -> Vec<u8> {
    let mut out = b"{\"timings\":{".to_vec();
    let Timings {
        queue,
        prepare,
        inner,
        sort,
        eval,
        total,
    } = profile.timings;
    let timings = [
        ("evalTotalTime", eval),
        ("resultSortTime", sort),
        ("queryPreparationTime", prepare),
        ("innerEvalTime", inner),
        ("execQueueTime", queue),
        ("execTotalTime", total),
    ];
    for (i, (name, time)) in timings.into_iter().enumerate() {
        field(&mut out, i, name);
        json::float(&mut out, time.as_secs_f64());
    }
    out.extend_from_slice(b"},\"samples\":{");
    let samples = &profile.samples;
    let numbers = [
        ("totalQueryableSamples", &samples.queryable),
        ("samplesRead", &samples.read),
    ];
    for (i, (name, counts)) in numbers.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if per_step {
            field(&mut out, 0, &format!("{name}PerStep"));
            out.push(b'[');
            for (i, (ts, n)) in samples.ts.iter().zip(counts).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.push(b'[');
                json::float(&mut out, *ts as f64 / 1000.0);
                out.push(b',');
                number(&mut out, *n);
                out.push(b']');
            }
            out.extend_from_slice(b"],");
        }
        field(&mut out, 0, name);
        number(&mut out, counts.iter().sum());
    }
    field(&mut out, 1, "peakSamples");
    number(&mut out, profile.peak_samples);
    out.extend_from_slice(b"}}");
    out
}

/// `"name":`, after a comma unless it is the first.
fn field(out: &mut Vec<u8>, i: usize, name: &str) {
    if i > 0 {
        out.push(b',');
    }
    json::string(out, name);
    out.push(b':');
}

fn number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// A plan as JSON: Thanos' `name` and `children`, whether it streams and what it holds; with what
/// each part has done if `analyzed`.
pub(super) fn plan(out: &mut Vec<u8>, part: &Description, analyzed: bool) {
    out.push(b'{');
    field(out, 0, "name");
    json::string(out, &part.name);
    if analyzed {
        let measured = part.measured();
        field(out, 1, "executionTime");
        json::string(out, &go_duration(measured.time));
        field(out, 1, "peakSamples");
        number(out, part.peak_samples());
        field(out, 1, "totalSamples");
        number(out, measured.samples);
        field(out, 1, "series");
        number(out, measured.series);
        field(out, 1, "bytes");
        number(out, measured.bytes);
    }
    field(out, 1, "streams");
    out.extend_from_slice(if part.streams { b"true" } else { b"false" });
    field(out, 1, "memory");
    json::string(out, part.memory);
    let children = part.children();
    if !children.is_empty() {
        field(out, 1, "children");
        out.push(b'[');
        for (i, child) in children.into_iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            plan(out, child, analyzed);
        }
        out.push(b']');
    }
    out.push(b'}');
}

/// A span as Go prints it: `1h2m3.5s`, `1.5ms`, `0s`.
fn go_duration(time: Duration) -> String {
    let nanos = time.as_nanos();
    let mut out = String::new();
    let mut decimal = |whole: u128, unit: u128, name: &str| {
        let rest = whole % unit;
        let digits = unit.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        let fraction = fraction.trim_end_matches('0');
        let point = if rest == 0 { "" } else { "." };
        let fraction = if rest == 0 { "" } else { fraction };
        // Writing to a string cannot fail.
        let _ = write!(out, "{}{point}{fraction}{name}", whole / unit);
    };
    match nanos {
        0 => decimal(0, 1, "s"),
        1..1_000 => decimal(nanos, 1, "ns"),
        1_000..1_000_000 => decimal(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(nanos, 1_000_000, "ms"),
        _ => {
            let minutes = nanos / 60_000_000_000;
            if minutes >= 60 {
                decimal(minutes / 60, 1, "h");
            }
            if minutes > 0 {
                decimal(minutes % 60, 1, "m");
            }
            decimal(nanos % 60_000_000_000, 1_000_000_000, "s");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_spelled_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_234_567, "1.234567ms"),
            (1_500_000_000, "1.5s"),
            (61_000_000_000, "1m1s"),
            (3_723_040_000_000, "1h2m3.04s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn statistics_have_prometheus_shape() {
        let mut profile = Profile::default();
        profile.samples.ts = vec![0, 1500];
        profile.samples.queryable = vec![3, 4];
        profile.samples.read = vec![3, 1];
        profile.peak_samples = 9;
        let parsed = |per_step| {
            let text = statistics(&profile, per_step);
            serde_json::from_slice::<serde_json::Value>(&text).unwrap()["samples"].clone()
        };
        assert_eq!(
            parsed(true),
            serde_json::json!({
                "totalQueryableSamplesPerStep": [[0, 3], [1.5, 4]],
                "totalQueryableSamples": 7,
                "samplesReadPerStep": [[0, 3], [1.5, 1]],
                "samplesRead": 4,
                "peakSamples": 9,
            })
        );
        assert_eq!(parsed(false).as_object().unwrap().len(), 3);
    }
}

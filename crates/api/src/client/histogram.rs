//! Native histograms out of the HTTP API. It shows the buckets with something in them by their
//! bounds; the layout follows from those, since the ratio of the bounds tells the schema. What it
//! does not show is lost: whether it was reset, and the threshold of an empty zero bucket. Custom
//! bounds cannot be had, for those of empty buckets are missing.

use std::collections::BTreeMap;

use model::histogram::{Buckets, CounterReset, FloatHistogram, Span, upper_bound};
use serde::Deserialize;

/// The schemas of exponential buckets.
const SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// What client libraries take for the zero bucket where nothing else is said.
const ZERO_THRESHOLD: f64 = 2.938735877055719e-39;

#[derive(Deserialize)]
pub(super) struct Native {
    count: String,
    sum: String,
    /// How bounds count, the bounds, and the count.
    #[serde(default)]
    buckets: Vec<(u8, String, String, String)>,
}

/// Bounds and count of a bucket on the side of the positive.
struct Bucket {
    low: f64,
    high: f64,
    count: f64,
}

impl Bucket {
    /// The schema that has such a bucket, and its place there.
    fn place(&self) -> Option<(i32, i32)> {
        let exact = -(self.high / self.low).log2().log2();
        let schema = exact.round() as i32;
        let index = (self.high.log2() * f64::from(schema).exp2()).round() as i32;
        let close = |a: f64, b: f64| (a - b).abs() <= b * 1e-12;
        let is_there = SCHEMAS.contains(&schema)
            && close(upper_bound(schema, index), self.high)
            && close(upper_bound(schema, index.checked_sub(1)?), self.low);
        is_there.then_some((schema, index))
    }
}

impl Native {
    /// The histogram; none if its layout does not follow from what is shown.
    pub(super) fn whole(&self) -> Option<FloatHistogram> {
        let mut schema = None;
        let (mut positive, mut negative) = (BTreeMap::new(), BTreeMap::new());
        let (mut zero_threshold, mut zero_count) = (ZERO_THRESHOLD, 0.0);
        for (_, low, high, count) in &self.buckets {
            let (low, high): (f64, f64) = (low.parse().ok()?, high.parse().ok()?);
            let count: f64 = count.parse().ok()?;
            let (side, bucket) = if low > 0.0 {
                (&mut positive, Bucket { low, high, count })
            } else if high < 0.0 {
                let (low, high) = (-high, -low);
                (&mut negative, Bucket { low, high, count })
            } else if low == -high {
                (zero_threshold, zero_count) = (high, count);
                continue;
            } else {
                return None;
            };
            let (of_bucket, index) = bucket.place()?;
            if *schema.get_or_insert(of_bucket) != of_bucket {
                return None;
            }
            side.insert(index, bucket.count);
        }
        let found = FloatHistogram {
            counter_reset: CounterReset::Unknown,
            // One without buckets has room for those of any other.
            schema: schema.unwrap_or(*SCHEMAS.end()),
            zero_threshold,
            zero_count,
            count: self.count.parse().ok()?,
            sum: self.sum.parse().ok()?,
            positive: spans(positive),
            negative: spans(negative),
            custom_values: [].into(),
        };
        found.validate().is_ok().then_some(found)
    }
}

fn spans(counts: BTreeMap<i32, f64>) -> Buckets {
    let mut all = Buckets::default();
    let mut next = 0;
    for (index, count) in counts {
        match all.spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => all.spans.push(Span {
                offset: index - next,
                length: 1,
            }),
        }
        next = index + 1;
        all.counts.push(count);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<FloatHistogram> {
        serde_json::from_str::<Native>(text).unwrap().whole()
    }

    #[test]
    fn the_layout_follows_from_the_bounds() {
        let found = read(
            r#"{"count":"10","sum":"-2.5","buckets":[[1,"-2","-1.414213562373095","1"],
                [3,"-0.001","0.001","2"],[0,"0.5","0.7071067811865475","3"],
                [0,"0.7071067811865475","1","1.5"],[0,"4","5.656854249492381","2.5"]]}"#,
        )
        .unwrap();
        assert_eq!((found.schema, found.count, found.sum), (1, 10.0, -2.5));
        assert_eq!((found.zero_threshold, found.zero_count), (0.001, 2.0));
        let span = |offset, length| Span { offset, length };
        // The bucket at 1 ends at the power 0.
        assert_eq!(found.positive.spans, [span(-1, 2), span(4, 1)]);
        assert_eq!(found.positive.counts, [3.0, 1.5, 2.5]);
        assert_eq!(found.negative.spans, [span(2, 1)]);
        for schema in SCHEMAS {
            for index in [-3, 0, 1, 7] {
                let (low, high) = (upper_bound(schema, index - 1), upper_bound(schema, index));
                let text = format!(
                    r#"{{"count":"1","sum":"1","buckets":[[0,"{low:?}","{high:?}","1"]]}}"#
                );
                let found = read(&text).unwrap_or_else(|| panic!("{schema} {index}"));
                assert_eq!(found.schema, schema);
                assert_eq!(found.positive.spans, [span(index, 1)]);
            }
        }
        assert_eq!(read(r#"{"count":"0","sum":"0"}"#).unwrap().schema, 8);
    }

    #[test]
    fn what_cannot_be_had_whole_is_none() {
        for buckets in [
            // Custom bounds, an end that is open, two layouts, no number.
            r#"[[0,"1","3","1"]]"#,
            r#"[[0,"1","+Inf","1"]]"#,
            r#"[[0,"1","2","1"],[0,"4","5.656854249492381","1"]]"#,
            r#"[[0,"-1","2","1"]]"#,
            r#"[[0,"a","2","1"]]"#,
        ] {
            let text = format!(r#"{{"count":"1","sum":"1","buckets":{buckets}}}"#);
            assert_eq!(read(&text), None, "{buckets}");
        }
    }
}

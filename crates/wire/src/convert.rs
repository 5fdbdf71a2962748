//! Protobuf words and our own, both ways.

use model::source::{Aggregate, Shard};
use model::{Labels, MatchOp, Matcher, Str};

use crate::proto::thanos as pb;
use crate::proto::thanos::label_matcher::Type;

/// A matcher that a peer sent and that cannot be one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConvertError {
    /// The operator has no meaning.
    #[error("unknown type of label matcher: {0}")]
    Operator(i32),
    /// The pattern is no regular expression.
    #[error("label matcher {name}: {error}")]
    Pattern {
        /// The matcher's label.
        name: String,
        /// What is wrong.
        error: String,
    },
}

fn matcher(kind: i32, name: &str, value: &str) -> Result<Matcher, ConvertError> {
    let op = match kind {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        other => return Err(ConvertError::Operator(other)),
    };
    Matcher::new(op, name, value).map_err(|error| ConvertError::Pattern {
        name: name.to_owned(),
        error: error.to_string(),
    })
}

fn kind(op: MatchOp) -> Type {
    match op {
        MatchOp::Equal => Type::Eq,
        MatchOp::NotEqual => Type::Neq,
        MatchOp::Regex => Type::Re,
        MatchOp::NotRegex => Type::Nre,
    }
}

/// The matchers of a request.
pub fn matchers(list: &[pb::LabelMatcher]) -> Result<Vec<Matcher>, ConvertError> {
    let of = |m: &pb::LabelMatcher| matcher(m.r#type, &m.name, &m.value);
    list.iter().map(of).collect()
}

/// Matchers as a request carries them.
pub fn to_matchers(list: &[Matcher]) -> Vec<pb::LabelMatcher> {
    list.iter()
        .map(|m| pb::LabelMatcher {
            r#type: kind(m.op) as i32,
            name: m.name.to_string(),
            value: m.value.to_string(),
        })
        .collect()
}

/// Matchers as remote read carries them; the numbers of the operators are the same.
pub fn to_remote_matchers(list: &[Matcher]) -> Vec<crate::proto::prometheus::LabelMatcher> {
    list.iter()
        .map(|m| crate::proto::prometheus::LabelMatcher {
            r#type: kind(m.op) as i32,
            name: m.name.to_string(),
            value: m.value.to_string(),
        })
        .collect()
}

/// The matchers of a remote read.
pub fn from_remote_matchers(
    list: &[crate::proto::prometheus::LabelMatcher],
) -> Result<Vec<Matcher>, ConvertError> {
    list.iter()
        .map(|m| matcher(m.r#type, &m.name, &m.value))
        .collect()
}

/// A label set, whatever its order on the wire.
pub fn labels(list: &[pb::Label]) -> Labels {
    Labels::from_pairs(list.iter().map(|l| (l.name.as_str(), l.value.as_str())))
}

/// A label set that may be absent.
pub fn label_set(set: &Option<pb::ZLabelSet>) -> Labels {
    set.as_ref()
        .map_or_else(Labels::default, |s| labels(&s.labels))
}

/// A label set as messages carry it.
pub fn to_labels(labels: &Labels) -> Vec<pb::Label> {
    labels
        .iter()
        .map(|(name, value)| pb::Label {
            name: name.to_owned(),
            value: value.to_owned(),
        })
        .collect()
}

/// A label set as messages carry it in a message of its own.
pub fn to_label_set(labels: &Labels) -> pb::ZLabelSet {
    pb::ZLabelSet {
        labels: to_labels(labels),
    }
}

/// A label set as remote write and query results carry it.
pub fn to_remote_labels(labels: &Labels) -> Vec<crate::proto::prometheus::Label> {
    labels
        .iter()
        .map(|(name, value)| crate::proto::prometheus::Label {
            name: name.to_owned(),
            value: value.to_owned(),
        })
        .collect()
}

/// A label set of remote write, remote read or a query result.
pub fn remote_labels(list: &[crate::proto::prometheus::Label]) -> Labels {
    Labels::from_pairs(list.iter().map(|l| (l.name.as_str(), l.value.as_str())))
}

/// Which part of the series is wanted; none for all.
pub fn shard(info: &Option<pb::ShardInfo>) -> Option<Shard> {
    let info = info.as_ref().filter(|i| i.total_shards > 0)?;
    Some(Shard {
        index: u64::try_from(info.shard_index).unwrap_or(u64::MAX),
        total: u64::try_from(info.total_shards).unwrap_or(0),
        by: info.by,
        labels: strs(&info.labels),
    })
}

/// A part of the series as requests carry it.
pub fn to_shard(shard: &Shard) -> pb::ShardInfo {
    pb::ShardInfo {
        shard_index: i64::try_from(shard.index).unwrap_or(i64::MAX),
        total_shards: i64::try_from(shard.total).unwrap_or(i64::MAX),
        by: shard.by,
        labels: shard.labels.iter().map(|l| l.to_string()).collect(),
    }
}

const AGGREGATES: [(pb::Aggr, Aggregate); 6] = [
    (pb::Aggr::Raw, Aggregate::Raw),
    (pb::Aggr::Count, Aggregate::Count),
    (pb::Aggr::Sum, Aggregate::Sum),
    (pb::Aggr::Min, Aggregate::Min),
    (pb::Aggr::Max, Aggregate::Max),
    (pb::Aggr::Counter, Aggregate::Counter),
];

/// The aggregates of a request as bits; unknown ones are left out.
pub fn aggregates(list: &[i32]) -> u8 {
    list.iter()
        .filter_map(|n| AGGREGATES.get(usize::try_from(*n).ok()?))
        .fold(0, |bits, (_, aggregate)| bits | *aggregate as u8)
}

/// Bits of aggregates as a request carries them.
pub fn to_aggregates(bits: u8) -> Vec<i32> {
    let asked = AGGREGATES.iter().filter(|(_, a)| bits & *a as u8 != 0);
    asked.map(|(aggr, _)| *aggr as i32).collect()
}

/// Shared strings of a list.
pub fn strs(list: &[String]) -> Vec<Str> {
    list.iter().map(|s| Str::from(s.as_str())).collect()
}

/// A time as messages carry it.
pub fn to_timestamp(ms: model::Millis) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: ms.div_euclid(1000),
        // Below 10^9, so it fits.
        nanos: (ms.rem_euclid(1000) * 1_000_000) as i32,
    }
}

/// A time in ms; 0 if there is none.
pub fn timestamp(at: &Option<prost_types::Timestamp>) -> model::Millis {
    at.as_ref().map_or(0, |t| {
        let whole = t.seconds.saturating_mul(1000);
        whole.saturating_add(i64::from(t.nanos) / 1_000_000)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_survive_the_way() {
        let list = [
            (MatchOp::Equal, "a", "1"),
            (MatchOp::NotEqual, "b", ""),
            (MatchOp::Regex, "c", "x|y.*"),
            (MatchOp::NotRegex, "d", "z+"),
        ];
        let list: Vec<Matcher> = list
            .into_iter()
            .map(|(op, n, v)| Matcher::new(op, n, v).unwrap())
            .collect();
        assert_eq!(matchers(&to_matchers(&list)).unwrap(), list);
        let bad = pb::LabelMatcher {
            r#type: 9,
            ..Default::default()
        };
        assert!(matches!(matchers(&[bad]), Err(ConvertError::Operator(9))));
        let bad = pb::LabelMatcher {
            r#type: 2,
            name: "a".into(),
            value: "(".into(),
        };
        assert!(matches!(
            matchers(&[bad]),
            Err(ConvertError::Pattern { .. })
        ));
    }

    #[test]
    fn aggregates_and_times_survive_the_way() {
        for bits in 0..64 {
            assert_eq!(aggregates(&to_aggregates(bits)), bits);
        }
        assert_eq!(aggregates(&[77, -1]), 0);
        for ms in [0, 1, -1, 1_700_000_000_123, -62_135_596_800_000] {
            assert_eq!(timestamp(&Some(to_timestamp(ms))), ms);
        }
    }
}

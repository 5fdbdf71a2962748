//! The statistics of several databases as those of one.

use std::collections::BTreeMap;

use super::HeadStatistics;
use crate::{Str, TimeRange};

type List = Vec<(Str, u64)>;

impl HeadStatistics {
    /// The statistics of several databases together, the `limit` biggest of each. Series and bytes
    /// add up; of the values of a label the most are taken, for the same values stand in several
    /// databases (as Thanos does it).
    pub fn united(all: impl IntoIterator<Item = HeadStatistics>, limit: usize) -> Self {
        let all: Vec<Self> = all.into_iter().collect();
        let add = u64::saturating_add;
        let sum = |of: fn(&Self) -> u64| all.iter().map(of).fold(0, add);
        let range = all.iter().filter_map(|h| h.range);
        let range = range.fold(TimeRange::EMPTY, |sum, range| sum.union(range));
        let merge = |of: fn(&Self) -> &List, unite: fn(u64, u64) -> u64| {
            let mut sums: BTreeMap<Str, u64> = BTreeMap::new();
            for (name, value) in all.iter().flat_map(of) {
                sums.entry(Str::clone(name))
                    .and_modify(|sum| *sum = unite(*sum, *value))
                    .or_insert(*value);
            }
            let mut merged: List = sums.into_iter().collect();
            merged.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            merged.truncate(limit);
            merged
        };
        Self {
            series: sum(|h| h.series),
            label_pairs: sum(|h| h.label_pairs),
            chunks: sum(|h| h.chunks),
            range: (!range.is_empty()).then_some(range),
            series_by_metric: merge(|h| &h.series_by_metric, add),
            values_by_label: merge(|h| &h.values_by_label, u64::max),
            bytes_by_label: merge(|h| &h.bytes_by_label, add),
            series_by_pair: merge(|h| &h.series_by_pair, add),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_but_values_of_labels_do_not() {
        let head = |series, range| HeadStatistics {
            series,
            range: Some(range),
            series_by_metric: vec![("up".into(), series)],
            values_by_label: vec![("job".into(), series)],
            ..HeadStatistics::default()
        };
        let all = vec![
            head(3, TimeRange::new(5, 9)),
            head(4, TimeRange::new(1, 7)),
            HeadStatistics::default(),
        ];
        let sum = HeadStatistics::united(all, 10);
        assert_eq!(sum.series, 7);
        assert_eq!(sum.range, Some(TimeRange::new(1, 9)));
        assert_eq!(sum.series_by_metric, [("up".into(), 7)]);
        assert_eq!(sum.values_by_label, [("job".into(), 4)]);
    }
}

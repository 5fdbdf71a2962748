//! Counting the head's series, values and pairs.

use model::METRIC_NAME;
use model::report::HeadStatistics;

use super::Head;

impl Head {
    /// Fills in what the index knows; the lists hold everything, in no order.
    pub(crate) fn cardinality(&self, report: &mut HeadStatistics) {
        let index = self.index.read();
        report.series = index.all().len() as u64;
        report.label_pairs = index.pairs() as u64;
        for name in index.names() {
            let (mut values, mut bytes) = (0, 0);
            for (value, _, series) in index.values(name) {
                values += 1;
                bytes += (value.len() * series.len()) as u64;
                let count = series.len() as u64;
                report
                    .series_by_pair
                    .push((format!("{name}={value}").into(), count));
                if name == METRIC_NAME {
                    report.series_by_metric.push((value.into(), count));
                }
            }
            report.values_by_label.push((name.into(), values));
            report.bytes_by_label.push((name.into(), bytes));
        }
    }
}

//! What the database reports about itself.

use std::cmp::Reverse;

use std::future::ready;

use model::report::{
    AbsentBlocks, ExemplarReport, HeadReport, HeadStatistics, LocalBlock, Metadata, MetadataReport,
};
use model::sink::Exemplar;
use model::{BoxFuture, Labels, Matcher, Str, TimeRange};

use super::{Db, quarantine};

impl HeadReport for Db {
    fn head(&self, limit: usize) -> HeadStatistics {
        let head = &self.inner.head;
        let mut report = HeadStatistics {
            chunks: self.inner.stats.chunks.get().max(0) as u64,
            range: head.range(),
            ..HeadStatistics::default()
        };
        head.cardinality(&mut report);
        for list in [
            &mut report.series_by_metric,
            &mut report.values_by_label,
            &mut report.bytes_by_label,
            &mut report.series_by_pair,
        ] {
            top(list, limit);
        }
        report
    }

    fn local_blocks(&self) -> Vec<LocalBlock> {
        let hold = self.inner.hold.read().clone();
        let layout = self.inner.layout();
        layout
            .blocks
            .iter()
            .map(|b| {
                let meta = b.meta();
                LocalBlock {
                    ulid: meta.ulid.to_string().into(),
                    min: meta.min_time,
                    max: meta.max_time,
                    counts: (
                        meta.stats.num_series,
                        meta.stats.num_samples,
                        meta.stats.num_chunks,
                    ),
                    level: meta.compaction.level,
                    sources: meta
                        .compaction
                        .sources
                        .iter()
                        .map(|u| u.to_string().into())
                        .collect(),
                    bytes: b.bytes,
                    shipped: hold.as_ref().map(|hold| !hold(meta.ulid)),
                }
            })
            .collect()
    }

    fn absent_blocks(&self) -> AbsentBlocks {
        let quarantined = quarantine::list(&self.inner.dir).unwrap_or_else(|error| {
            tracing::warn!(%error, "what is set aside cannot be listed");
            Vec::new()
        });
        AbsentBlocks {
            quarantined,
            lost: self.inner.lost.lock().clone(),
        }
    }
}

impl ExemplarReport for Db {
    fn exemplars(
        &self,
        matchers: Vec<Vec<Matcher>>,
        range: TimeRange,
    ) -> BoxFuture<'static, Vec<(Labels, Vec<Exemplar>)>> {
        let head = &self.inner.head;
        let found = head.exemplars.select(&matchers, range, head.generation());
        Box::pin(ready(found))
    }
}

/// Of the series in the head. What belongs to which target is known where targets are.
impl MetadataReport for Db {
    fn metadata(&self, metric: Option<&str>) -> Vec<(Str, Vec<Metadata>)> {
        self.inner.head.metadata_by_metric(metric)
    }

    fn target_metadata(
        &self,
        _matchers: &[Matcher],
        _metric: Option<&str>,
    ) -> Vec<(Labels, Str, Metadata)> {
        Vec::new()
    }
}

/// Keeps the `limit` biggest, biggest first.
fn top(list: &mut Vec<(Str, u64)>, limit: usize) {
    list.sort_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
    list.truncate(limit);
}

//! What is stored: `status/tsdb`, `status/tsdb/blocks`, and our own `status/bucket`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::report::{BucketBlock, HeadReport, LocalBlock};
use model::{Answer, Millis, Str};
use serde::Serialize;

use super::targets::Object;
use super::time::Time;
use super::{Api, reports};
use crate::error::{ApiError, ErrorType, success, success_with};
use crate::params::{Params, atoi};

#[derive(Serialize)]
struct Stat {
    name: Str,
    value: u64,
}

fn stats(all: Vec<(Str, u64)>) -> Vec<Stat> {
    let stats = all.into_iter();
    stats.map(|(name, value)| Stat { name, value }).collect()
}

pub(super) fn report(api: &Api) -> Result<Arc<dyn HeadReport>, ApiError> {
    api.head
        .clone()
        .ok_or_else(|| ApiError::not_served("statistics of a local database"))
}

/// Counting goes through all series, so it is done on the blocking pool.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|panic| ApiError::new(ErrorType::Internal, panic.to_string()))
}

pub(super) async fn tsdb(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    const MOST: usize = 10_000;
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct HeadStats {
        num_series: u64,
        num_label_pairs: u64,
        chunk_count: u64,
        min_time: Millis,
        max_time: Millis,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Tsdb {
        head_stats: HeadStats,
        series_count_by_metric_name: Vec<Stat>,
        label_value_count_by_label_name: Vec<Stat>,
        memory_in_bytes_by_label_name: Vec<Stat>,
        series_count_by_label_value_pair: Vec<Stat>,
    }
    let limit = match params.get("limit") {
        "" => 10,
        text => match atoi(text).map(usize::try_from) {
            Ok(Ok(n)) if n > MOST => {
                return Err(ApiError::bad(format!("limit must not exceed {MOST}")));
            }
            Ok(Ok(n)) if n > 0 => n,
            _ => return Err(ApiError::bad("limit must be a positive number")),
        },
    };
    let Answer {
        value: head,
        warnings,
    } = reports::head(&api, &params, limit).await?;
    let shown = Tsdb {
        head_stats: HeadStats {
            num_series: head.series,
            num_label_pairs: head.label_pairs,
            chunk_count: head.chunks,
            // An empty head has no time: the range of nothing, as in Prometheus.
            min_time: head.range.map_or(Millis::MAX, |r| r.min),
            max_time: head.range.map_or(Millis::MIN, |r| r.max),
        },
        series_count_by_metric_name: stats(head.series_by_metric),
        label_value_count_by_label_name: stats(head.values_by_label),
        memory_in_bytes_by_label_name: stats(head.bytes_by_label),
        series_count_by_label_value_pair: stats(head.series_by_pair),
    };
    success_with(&shown, &warnings)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    num_samples: u64,
    num_series: u64,
    num_chunks: u64,
}

impl From<(u64, u64, u64)> for Counts {
    fn from((num_series, num_samples, num_chunks): (u64, u64, u64)) -> Self {
        Self {
            num_samples,
            num_series,
            num_chunks,
        }
    }
}

#[derive(Serialize)]
struct Compaction {
    level: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<Str>,
}

pub(super) async fn blocks(State(api): State<Api>) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Block {
        ulid: Str,
        min_time: Millis,
        max_time: Millis,
        stats: Counts,
        compaction: Compaction,
        version: u32,
        bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        shipped: Option<bool>,
    }
    impl From<LocalBlock> for Block {
        fn from(b: LocalBlock) -> Self {
            Self {
                ulid: b.ulid,
                min_time: b.min,
                max_time: b.max,
                stats: b.counts.into(),
                compaction: Compaction {
                    level: b.level,
                    sources: b.sources,
                },
                version: 1,
                bytes: b.bytes,
                shipped: b.shipped,
            }
        }
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Quarantined {
        folder: String,
        reason: String,
        since: Time,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Lost {
        ulid: Str,
        min_time: Millis,
        max_time: Millis,
        deleted_at: Time,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Blocks {
        blocks: Vec<Block>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        quarantined: Vec<Quarantined>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        deleted_unshipped: Vec<Lost>,
    }
    let report = report(&api)?;
    let (blocks, absent) = aside(move || (report.local_blocks(), report.absent_blocks())).await?;
    let quarantined = absent.quarantined.into_iter().map(|q| Quarantined {
        folder: q.folder,
        reason: q.reason,
        since: Time(q.since),
    });
    let lost = absent.lost.into_iter().map(|l| Lost {
        ulid: l.ulid,
        min_time: l.min,
        max_time: l.max,
        deleted_at: Time(l.at),
    });
    success(&Blocks {
        blocks: blocks.into_iter().map(Block::from).collect(),
        quarantined: quarantined.collect(),
        deleted_unshipped: lost.collect(),
    })
}

pub(super) async fn bucket(State(api): State<Api>) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Block<'a> {
        ulid: &'a str,
        min_time: Millis,
        max_time: Millis,
        stats: Counts,
        compaction: Compaction,
        resolution: Millis,
        bytes: Option<u64>,
        labels: Object<'a>,
        source: &'a str,
    }
    impl<'a> From<&'a BucketBlock> for Block<'a> {
        fn from(b: &'a BucketBlock) -> Self {
            Self {
                ulid: &b.ulid,
                min_time: b.min,
                max_time: b.max,
                stats: b.counts.into(),
                compaction: Compaction {
                    level: b.level,
                    sources: vec![],
                },
                resolution: b.resolution,
                bytes: b.bytes,
                labels: Object(&b.labels),
                source: &b.source,
            }
        }
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Bucket<'a> {
        location: &'a str,
        blocks: Vec<Block<'a>>,
        partial: usize,
        last_sync: Time,
        last_error: &'a str,
        next_block_due: Option<Time>,
    }
    let report = api
        .bucket
        .clone()
        .ok_or_else(|| ApiError::not_served("facts about a bucket"))?;
    let status = aside(move || report.bucket()).await?;
    success(&Bucket {
        location: &status.location,
        blocks: status.blocks.iter().map(Block::from).collect(),
        partial: status.partial,
        last_sync: Time(status.last_sync),
        last_error: &status.last_error,
        next_block_due: status.next_block_due.map(Time),
    })
}

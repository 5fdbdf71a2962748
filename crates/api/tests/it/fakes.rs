//! Dependencies with known answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::{Options, Ready, RuntimeInfo, ready};
use axum::body::Body;
use axum::response::Response;
use chunk::memory::MemorySource;
use http::Request;
use model::report::{
    AbsentBlocks, ActiveTarget, Admin, BucketBlock, BucketReport, BucketStatus, DroppedTarget,
    HeadReport, HeadStatistics, Health, LocalBlock, LostBlock, Metadata, MetadataReport,
    MetricType, QuarantinedBlock, Targets, TargetsReport,
};
use model::time::ManualClock;
use model::{BoxFuture, Labels, Matcher, Sample, SourceError, Str, TimeRange};
use promql::ast::ExprKind;
use promql::value::{InstantSample, RangeSeries};
use promql::{Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery, Value};
use tower::ServiceExt as _;

/// Midnight of some day, ms.
pub const NOW: i64 = 1_700_000_000_000;

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

/// Knows a few expressions by heart.
#[derive(Default)]
pub struct Fake {
    /// Queries that were given up.
    pub cancelled: Arc<AtomicUsize>,
}

fn parse(text: &str) -> Result<promql::ast::Expr, QueryError> {
    promql::parse::parse(text, &Default::default()).map_err(|e| QueryError::BadData(e.to_string()))
}

fn result(value: Value) -> Result<QueryResult, QueryError> {
    Ok(QueryResult {
        value,
        warnings: vec![],
        infos: vec![],
        scope: None,
        profile: Some(Arc::default()),
    })
}

impl Evaluator for Fake {
    fn instant(&self, query: InstantQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        let cancelled = Arc::clone(&self.cancelled);
        Box::pin(async move {
            let ts = query.ts;
            let sample = |labels, value| InstantSample {
                labels,
                ts,
                value,
                histogram: None,
            };
            match (&*query.expr, parse(&query.expr)?.kind) {
                (_, ExprKind::Number(n)) => result(Value::Scalar(ts, n.value)),
                (_, ExprKind::String(s)) => result(Value::String(ts, s.as_str().to_owned())),
                ("up", _) => result(Value::Vector(vec![
                    sample(labels(&[("__name__", "up"), ("job", "a")]), 1.0),
                    sample(labels(&[("__name__", "up"), ("job", "b")]), 0.5),
                    sample(labels(&[("__name__", "up"), ("job", "\"c\"")]), f64::NAN),
                ])),
                ("vector(1)", _) => result(Value::Vector(vec![sample(labels(&[]), 1.0)])),
                ("up[1m]", _) => result(Value::Matrix(vec![RangeSeries {
                    labels: labels(&[("__name__", "up")]),
                    ts: vec![ts - 1500, ts],
                    values: vec![-0.0, f64::INFINITY],
                    histograms: vec![],
                }])),
                ("noisy", _) => Ok(QueryResult {
                    value: Value::Vector(vec![]),
                    warnings: (0..12)
                        .map(|i| format!("store {i} is away").into())
                        .collect(),
                    infos: vec!["PromQL info: so it is (1:1)".into()],
                    scope: None,
                    profile: Some(Arc::default()),
                }),
                ("heavy", _) => Err(QueryError::Execution("too heavy".to_owned())),
                ("broken", _) => Err(QueryError::Internal("broken".to_owned())),
                ("away", _) => Err(QueryError::Unavailable("away".to_owned())),
                ("late", _) => Err(QueryError::Timeout("expression evaluation")),
                ("gone", _) => Err(QueryError::Canceled("expression evaluation")),
                ("endless", _) => {
                    let cancel = query.options.cancel;
                    tokio::spawn(async move {
                        cancel.cancelled().await;
                        cancelled.fetch_add(1, Ordering::SeqCst);
                    });
                    std::future::pending().await
                }
                ("panic", _) => panic!("as asked"),
                _ => result(Value::Vector(vec![])),
            }
        })
    }

    fn range(&self, query: RangeQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        Box::pin(async move {
            let expr = parse(&query.expr)?;
            let steps = ((query.end - query.start) / query.step + 1) as usize;
            let series = match (&*query.expr, expr.kind) {
                (_, ExprKind::String(_)) => {
                    return Err(QueryError::BadData(
                        "invalid expression type \"string\" for range query, \
                         must be Scalar or instant Vector"
                            .to_owned(),
                    ));
                }
                ("wide", _) => 500,
                ("nothing", _) => 0,
                _ => 1,
            };
            result(Value::Matrix(
                (0..series)
                    .map(|i| RangeSeries {
                        labels: labels(&[("i", &i.to_string())]),
                        ts: (0..steps)
                            .map(|s| query.start + s as i64 * query.step)
                            .collect(),
                        values: (0..steps).map(|s| s as f64 / 8.0 + f64::from(i)).collect(),
                        histograms: vec![],
                    })
                    .collect(),
            ))
        })
    }
}

pub struct Reports;

impl Targets for Reports {
    fn targets(&self) -> TargetsReport {
        let discovered = labels(&[("__address__", "a:80"), ("job", "node")]);
        TargetsReport {
            active: vec![ActiveTarget {
                discovered_labels: discovered.clone(),
                labels: labels(&[("instance", "a:80"), ("job", "node")]),
                scrape_pool: "node".into(),
                scrape_url: "http://a:80/metrics".to_owned(),
                global_url: "http://a:80/metrics".to_owned(),
                last_error: String::new(),
                last_scrape: NOW - 1234,
                last_duration: 0.25,
                health: Health::Up,
                interval: 15_000,
                timeout: 10_000,
            }],
            dropped: vec![DroppedTarget {
                discovered_labels: discovered,
                scrape_pool: "other".into(),
            }],
            dropped_counts: vec![("node".into(), 0), ("other".into(), 1)],
        }
    }
}

impl MetadataReport for Reports {
    fn metadata(&self, metric: Option<&str>) -> Vec<(Str, Vec<Metadata>)> {
        let of = |kind, help: &str| Metadata {
            kind,
            help: help.into(),
            unit: "".into(),
        };
        let all: Vec<(Str, Vec<Metadata>)> = vec![
            (
                "requests_total".into(),
                vec![
                    of(MetricType::Counter, "Requests."),
                    of(MetricType::Counter, "All requests."),
                ],
            ),
            ("temperature".into(), vec![of(MetricType::Gauge, "Now.")]),
        ];
        all.into_iter()
            .filter(|(name, _)| metric.is_none_or(|m| m == &**name))
            .collect()
    }

    fn target_metadata(
        &self,
        matchers: &[Matcher],
        metric: Option<&str>,
    ) -> Vec<(Labels, Str, Metadata)> {
        let target = labels(&[("instance", "a:80"), ("job", "node")]);
        if !matchers
            .iter()
            .all(|m| m.matches(target.get(&m.name).unwrap_or("")))
        {
            return vec![];
        }
        self.metadata(metric)
            .into_iter()
            .map(|(name, mut all)| (target.clone(), name, all.remove(0)))
            .collect()
    }
}

impl HeadReport for Reports {
    fn head(&self, limit: usize) -> HeadStatistics {
        let stats: Vec<(Str, u64)> = vec![("a".into(), 3), ("b".into(), 2)];
        let stats: Vec<_> = stats.into_iter().take(limit).collect();
        HeadStatistics {
            series: 3,
            label_pairs: 4,
            chunks: 5,
            range: Some(TimeRange::new(1, 2)),
            series_by_metric: stats.clone(),
            values_by_label: stats.clone(),
            bytes_by_label: stats.clone(),
            series_by_pair: stats,
        }
    }

    fn local_blocks(&self) -> Vec<LocalBlock> {
        vec![LocalBlock {
            ulid: "01KC4D6GXQA4CRHYKV78NEBVAE".into(),
            min: 0,
            max: 7_200_000,
            counts: (1, 2, 3),
            level: 1,
            sources: vec!["01KC4D6GXQA4CRHYKV78NEBVAE".into()],
            bytes: 4,
            shipped: Some(true),
        }]
    }

    fn absent_blocks(&self) -> AbsentBlocks {
        AbsentBlocks {
            quarantined: vec![QuarantinedBlock {
                folder: "01KC4D6GXQA4CRHYKV78NEBVAF.corrupt".to_owned(),
                reason: "why".to_owned(),
                since: NOW,
            }],
            lost: vec![LostBlock {
                ulid: "01KC4D6GXQA4CRHYKV78NEBVAG".into(),
                min: 1,
                max: 2,
                at: NOW,
            }],
        }
    }
}

impl Admin for Reports {
    fn delete_series(
        &self,
        matchers: Vec<Matcher>,
        range: TimeRange,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        let bad = matchers.iter().any(|m| m.value.contains("bad"));
        assert!(range.min <= range.max);
        Box::pin(std::future::ready(match bad {
            true => Err(SourceError::new(model::Kind::Unavailable, "no")),
            false => Ok(()),
        }))
    }

    fn clean_tombstones(&self) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn snapshot(&self, skip_head: bool) -> BoxFuture<'static, Result<String, SourceError>> {
        Box::pin(std::future::ready(Ok(format!("skip={skip_head}"))))
    }
}

impl BucketReport for Reports {
    fn bucket(&self) -> BucketStatus {
        BucketStatus {
            location: "filesystem ./data/bucket".to_owned(),
            blocks: vec![BucketBlock {
                ulid: "01KC4D6GXQA4CRHYKV78NEBVAE".into(),
                min: 0,
                max: 7_200_000,
                counts: (1, 2, 3),
                level: 1,
                resolution: 0,
                bytes: None,
                labels: labels(&[("replica", "a")]),
                source: "sidecar".into(),
            }],
            partial: 1,
            last_sync: NOW,
            last_error: String::new(),
            next_block_due: Some(NOW + 60_000),
        }
    }
}

/// Every dependency, ready.
pub fn options() -> Options {
    let source = MemorySource::new(
        [
            &[("__name__", "up"), ("job", "a")][..],
            &[("__name__", "up"), ("job", "b")],
            &[("__name__", "down"), ("job", "a"), ("http.code", "200")],
        ]
        .iter()
        .map(|pairs| {
            let sample = |ts| Sample { ts, value: 1.0 };
            (labels(pairs), vec![sample(NOW - 60_000), sample(NOW)])
        })
        .collect(),
    );
    let clock = ManualClock::default();
    clock.set(NOW);
    let ready = Ready::default();
    ready.set(ready::State::Ready);
    let reports = Arc::new(Reports);
    Options {
        evaluator: Some(Arc::new(Fake::default())),
        source: Some(Arc::new(source)),
        targets: Some(reports.clone()),
        metadata: Some(reports.clone()),
        head: Some(reports.clone()),
        admin: Some(reports.clone()),
        bucket: Some(reports),
        config: Some(Arc::new(|| "global: {}\n".to_owned())),
        runtime: Some(Arc::new(|| RuntimeInfo {
            start_time: NOW - 1000,
            cwd: "/".to_owned(),
            hostname: "box".to_owned(),
            reload_success: true,
            last_config_time: NOW - 1000,
            threads: 2,
            retention: "15d".to_owned(),
            role: "all-in-one".to_owned(),
            ..RuntimeInfo::default()
        })),
        flags: [("web.listen-address".to_owned(), ":9090".to_owned())].into(),
        ready,
        clock: Arc::new(clock),
        ..Options::default()
    }
}

/// An answer with its whole body.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

pub async fn send(options: Options, request: Request<Body>) -> Answer {
    Answer::of(api::router(options).oneshot(request).await.unwrap()).await
}

/// A request for `path`; blanks and quotes are escaped.
pub fn request(method: &str, path: &str) -> Request<Body> {
    let path = path
        .replace('"', "%22")
        .replace(' ', "%20")
        .replace('{', "%7B")
        .replace('}', "%7D")
        .replace('>', "%3E");
    let request = Request::builder().method(method).uri(path);
    request.body(Body::empty()).unwrap()
}

pub async fn get(path: &str) -> Answer {
    send(options(), request("GET", path)).await
}

pub async fn post(path: &str, form: &str) -> Answer {
    let request = Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form.to_owned()))
        .unwrap();
    send(options(), request).await
}

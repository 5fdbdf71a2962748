//! Every role, wired over the seams with rooms that live in memory: what a role needs of others
//! fits together before the role is built.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bucket::{Bucket, Catalog, CatalogOptions, Shipper, ShipperOptions};
use chunk::memory::{MemorySink, MemorySource};
use metrics::Registry;
use model::{Batch, Labels, Sample, SeriesRows, Sink, Source};
use promql::{Engine, EngineOptions, Evaluator, InstantQuery, Value};
use store::{Gateway, GatewayOptions, Proxy};
use tokio::runtime::Handle;
use tower::ServiceExt as _;

fn source(job: &str) -> Arc<dyn Source> {
    let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]);
    Arc::new(MemorySource::new(vec![(
        labels,
        vec![Sample {
            ts: 60_000,
            value: 1.0,
        }],
    )]))
}

fn engine(source: Arc<dyn Source>) -> Arc<dyn Evaluator> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    Arc::new(Engine::new(
        source,
        EngineOptions::default(),
        Arc::new(pool),
    ))
}

async fn ask(evaluator: &Arc<dyn Evaluator>, expr: &str) -> Value {
    let query = InstantQuery {
        expr: expr.into(),
        ts: 60_000,
        options: Default::default(),
    };
    evaluator.instant(query).await.unwrap().value
}

/// What the API answers to `count(up)`.
async fn over_http(evaluator: Arc<dyn Evaluator>) -> String {
    let options = api::Options {
        evaluator: Some(evaluator),
        ..api::Options::default()
    };
    options.ready.set(api::ready::State::Ready);
    let request = Request::get("/api/v1/query?query=count(up)&time=60");
    let response = api::router(options)
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn server_and_all_in_one_answer_over_http() {
    assert!(
        over_http(engine(source("a")))
            .await
            .contains(r#""value":[60,"1"]"#)
    );
}

#[tokio::test]
async fn query_unites_many_sources() {
    let children = vec![("a".into(), source("a")), ("b".into(), source("b"))];
    let proxy = Arc::new(Proxy::new(children, Handle::current()));
    assert!(
        over_http(engine(proxy))
            .await
            .contains(r#""value":[60,"2"]"#)
    );
}

#[tokio::test]
async fn a_frontend_is_an_evaluator_before_an_evaluator() {
    struct Frontend(Arc<dyn Evaluator>);
    impl Evaluator for Frontend {
        fn instant(
            &self,
            query: InstantQuery,
        ) -> model::BoxFuture<'static, Result<promql::QueryResult, promql::QueryError>> {
            self.0.instant(query)
        }
        fn range(
            &self,
            query: promql::RangeQuery,
        ) -> model::BoxFuture<'static, Result<promql::QueryResult, promql::QueryError>> {
            self.0.range(query)
        }
    }
    let frontend = Arc::new(Frontend(engine(source("a"))));
    assert!(over_http(frontend).await.contains(r#""value":[60,"1"]"#));
}

fn catalog(bucket: Arc<Bucket>) -> Arc<Catalog> {
    Arc::new(Catalog::new(bucket, CatalogOptions::default(), &Registry::new()).unwrap())
}

#[tokio::test]
async fn store_and_compact_look_at_a_bucket() {
    let catalog = catalog(Bucket::in_memory());
    catalog.sync().await.unwrap();
    assert!(catalog.snapshot().blocks.is_empty());
    let gateway = Gateway::new(
        catalog,
        GatewayOptions::default(),
        Handle::current(),
        &Registry::new(),
    );
    let answer = ask(&engine(Arc::new(gateway.unwrap())), "count(up)").await;
    assert_eq!(answer, Value::Vector(Vec::new()));
}

#[tokio::test]
async fn sidecar_ships_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let options = ShipperOptions::new(dir.path(), Labels::from_pairs([("replica", "a")]));
    let shipper = Shipper::new(Bucket::in_memory(), options, &Registry::new()).unwrap();
    assert!(shipper.sync().await.unwrap().uploaded.is_empty());
}

#[tokio::test]
async fn rule_and_receive_feed_a_sink() {
    let sink: Arc<dyn Sink> = Arc::new(MemorySink::default());
    let Value::Vector(samples) = ask(&engine(source("a")), "sum by (job) (up)").await else {
        panic!("an instant vector was asked for");
    };
    let labels: Vec<Labels> = samples.iter().map(|s| s.labels.clone()).collect();
    let refs = sink.resolve(SeriesRows { labels }).await.unwrap();
    let mut batch = Batch::default();
    for (series, sample) in refs.into_iter().zip(&samples) {
        batch.push(series, sample.ts, sample.value);
    }
    assert_eq!(sink.append(batch).await.unwrap().samples, 1);
}

//! Plans, before a query ran and measured while it did, of a real engine.

use std::sync::Arc;

use api::Options;
use chunk::memory::MemorySource;
use model::Sample;
use promql::{Engine, EngineOptions};

use crate::fakes::{Answer, labels, options, request, send};

/// Asks an engine over two counters, 20 samples each.
async fn get(path: &str) -> Answer {
    let samples: Vec<Sample> = (0..20)
        .map(|i| Sample {
            ts: i * 15_000,
            value: i as f64,
        })
        .collect();
    let series = ["a", "b"].map(|job| {
        let labels = labels(&[("__name__", "m_total"), ("job", job)]);
        (labels, samples.clone())
    });
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let engine = Engine::new(
        Arc::new(MemorySource::new(series.into())),
        EngineOptions::default(),
        Arc::new(pool.unwrap()),
    );
    let options = Options {
        evaluator: Some(Arc::new(engine)),
        ..options()
    };
    send(options, request("GET", path)).await
}

#[tokio::test]
async fn a_plan_is_json_or_text() {
    let json = get("/api/v1/query_explain?query=sum(rate(m_total[1m]))&time=285").await;
    let plan = &json.json()["data"];
    assert_eq!(plan["name"], "Aggregate[Sum] by ()");
    assert_eq!(plan["streams"], false);
    assert_eq!(
        plan["children"][0]["name"],
        r#"Scan[rate] {__name__="m_total"} range=60000ms"#
    );
    assert!(plan["children"][0]["memory"].is_string());
    // Nothing ran.
    assert!(plan["executionTime"].is_null());

    let text = get("/api/v1/query_explain?query=sum(rate(m_total[1m]))&time=285&format=text").await;
    let lines: Vec<&str> = text.body.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("Aggregate[Sum] by ()  [blocks; "));
    assert!(lines[1].starts_with(r#"  Scan[rate] {__name__="m_total"} range=60000ms  [streams; "#));

    let range = get("/api/v1/query_range_explain?query=m_total&start=0&end=285&step=15").await;
    let plan = &range.json()["data"];
    assert_eq!(
        plan["name"],
        r#"Scan[instant] {__name__="m_total"} range=300000ms"#
    );

    let wrong = get("/api/v1/query_explain?query=sum((").await;
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.json()["errorType"], "bad_data");
}

#[tokio::test]
async fn a_measured_plan_comes_beside_the_answer() {
    let path = "/api/v1/query_range?query=sum(rate(m_total[1m]))&start=60&end=240&step=60&analyze=true&stats=all";
    let json = get(path).await.json();
    let values = json["data"]["result"][0]["values"].as_array().unwrap();
    assert_eq!(values.len(), 4);
    let root = &json["data"]["analysis"];
    assert_eq!(root["name"], "Aggregate[Sum] by ()");
    assert_eq!(
        (&root["series"], &root["totalSamples"]),
        (&1.into(), &4.into())
    );
    let scan = &root["children"][0];
    assert_eq!(scan["series"], 2);
    assert!(scan["bytes"].as_u64().unwrap() > 0);
    assert!(scan["executionTime"].as_str().unwrap().ends_with('s'));
    // Each of four steps sees the four samples of a minute, of two series.
    let stats = &json["data"]["stats"];
    assert_eq!(stats["samples"]["totalQueryableSamples"], 32);
    assert!(stats["timings"]["evalTotalTime"].as_f64().unwrap() > 0.0);

    let plain = get("/api/v1/query?query=m_total&time=240").await.json();
    assert!(plain["data"]["analysis"].is_null());
    assert!(plain["data"]["stats"].is_null());
}

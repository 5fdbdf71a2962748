//! The state of the process: notifications, metrics as JSON, features; and what rules make of
//! targets.

use std::path::PathBuf;
use std::sync::Arc;

use api::{Notices, Options, ScrapePool};
use serde_json::{Value, json};

use crate::fakes::{NOW, get, options, request, send};

async fn answer(options: Options, path: &str) -> Value {
    let answer = send(options, request("GET", path)).await;
    serde_json::from_str(&answer.body).unwrap()
}

fn with_notices() -> (Options, Notices) {
    let options = options();
    let notices = Notices::new(1, Arc::clone(&options.clock), &options.registry).unwrap();
    let told = Some(notices.clone());
    (
        Options {
            notices: told,
            ..options
        },
        notices,
    )
}

#[tokio::test]
async fn notifications_are_shown_and_followed() {
    const PATH: &str = "/api/v1/notifications";
    assert_eq!(answer(options(), PATH).await["data"], json!([]));
    let (options, notices) = with_notices();
    notices.show(api::notices::RELOAD_FAILED);
    let shown = &answer(options.clone(), PATH).await["data"];
    let date = "2023-11-14T22:13:20Z";
    assert_eq!(NOW, 1_700_000_000_000);
    let one = json!({"text": "Configuration reload has failed.", "date": date, "active": true});
    assert_eq!(shown, &json!([one]));

    let live = "/api/v1/notifications/live";
    let following = tokio::spawn(send(options.clone(), request("GET", live)));
    let listening = "prometheus_api_notification_active_subscribers 1\n";
    while !send(options.clone(), request("GET", "/metrics"))
        .await
        .body
        .contains(listening)
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(send(options, request("GET", live)).await.status, 204);
    notices.clear(api::notices::RELOAD_FAILED);
    notices.close();
    let followed = following.await.unwrap();
    let mut gone = one.clone();
    gone["active"] = false.into();
    let events: Vec<Value> = followed
        .body
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    assert_eq!(events, [one, gone]);
}

#[tokio::test]
async fn our_own_metrics_as_json() {
    let options = options();
    let requests = options
        .registry
        .counters("asked_total", "Asked.", ["code"])
        .unwrap();
    requests.with(&["200"]).add(3);
    let took = options
        .registry
        .histogram("took_seconds", "Took.", &[0.5, 1.0])
        .unwrap();
    took.observe(0.75);
    let path = "/api/v1/status/self_metrics?metric_name_pattern=asked_.*|took_seconds";
    assert_eq!(
        answer(options.clone(), path).await["data"],
        json!([
            {"name": "asked_total", "help": "Asked.", "type": "COUNTER",
             "metric": [{"label": [{"name": "code", "value": "200"}], "counter": {"value": 3}}]},
            {"name": "took_seconds", "help": "Took.", "type": "HISTOGRAM",
             "metric": [{"histogram": {
                "sampleCount": "1", "sampleSum": 0.75,
                "bucket": [
                    {"cumulativeCount": "0", "upperBound": 0.5},
                    {"cumulativeCount": "1", "upperBound": 1},
                ]}}]},
        ])
    );
    let all = answer(options.clone(), "/api/v1/status/self_metrics").await;
    assert!(all["data"].as_array().unwrap().len() >= 2);
    let wrong = "/api/v1/status/self_metrics?metric_name_pattern=(";
    assert_eq!(answer(options, wrong).await["errorType"], "bad_data");
}

/// The table of Prometheus 3.14 for the language: the same names, and the same of them on.
#[tokio::test]
async fn the_language_has_the_features_of_prometheus() {
    let ours = answer(options(), "/api/v1/features").await;
    let data = std::env::var_os("EPIMETHEUS_DATA").map(PathBuf::from);
    let data = data.unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"))
    });
    assert_eq!(ours["data"]["promql_operators"]["limitk"], false);
    assert_eq!(ours["data"]["promql_functions"]["rate"], true);
    let Ok(theirs) = std::fs::read(data.join("api/features.json")) else {
        println!("SKIPPED: the table of Prometheus, which is not in EPIMETHEUS_DATA");
        return;
    };
    let theirs: Value = serde_json::from_slice(&theirs).unwrap();
    for category in ["promql_functions", "promql_operators"] {
        assert_eq!(ours["data"][category], theirs[category], "{category}");
    }
    // Two of its rows are the process' own.
    let mut language = theirs["promql"].clone();
    let rows = language.as_object_mut().unwrap();
    rows.remove("delayed_name_removal");
    rows.remove("type_and_unit_labels");
    assert_eq!(ours["data"]["promql"], language);
    let names = |table: &Value| -> Vec<String> {
        table["api"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(names(&ours["data"]), names(&theirs));
}

#[tokio::test]
async fn what_the_rules_of_a_pool_make_of_a_target() {
    let rules = r#"[
        {"source_labels": ["x"], "target_label": "z"},
        {"action": "labeldrop", "regex": "x"},
        {"action": "drop", "source_labels": ["z"], "regex": "bad"},
        {"target_label": "w", "replacement": "v"}
    ]"#;
    let relabel: Vec<model::relabel::Config> = serde_json::from_str(rules).unwrap();
    let options = || Options {
        scrape_pool: Some(Arc::new({
            let relabel = relabel.clone();
            move |name| {
                (name == "node").then(|| ScrapePool {
                    yaml: "job_name: node\n".to_owned(),
                    relabel: relabel.clone(),
                    scheme: model::relabel::NameScheme::Utf8,
                })
            }
        })),
        ..options()
    };
    const STEPS: &str = "/api/v1/targets/relabel_steps";
    let path = format!("{STEPS}?scrapePool=node&labels={{\"x\":\"good\"}}");
    let steps = answer(options(), &path).await["data"]["steps"].take();
    assert_eq!(
        steps[0],
        json!({
            "rule": {"source_labels": ["x"], "separator": ";", "regex": "(.*)",
                     "target_label": "z", "replacement": "$1", "action": "replace"},
            "output": {"x": "good", "z": "good"},
            "keep": true,
        })
    );
    assert_eq!(steps[1]["output"], json!({"z": "good"}));
    assert_eq!(steps[3]["output"], json!({"w": "v", "z": "good"}));
    let path = format!("{STEPS}?scrapePool=node&labels={{\"x\":\"bad\"}}");
    let steps = answer(options(), &path).await["data"]["steps"].take();
    let kept: Vec<&Value> = (0..4).map(|i| &steps[i]["keep"]).collect();
    assert_eq!(kept, [true, true, false, false]);
    assert_eq!(steps[3]["output"], json!({}));

    let config = "/api/v1/scrape_pools/config";
    let path = format!("{config}?scrapePool=node");
    let found = answer(options(), &path).await;
    assert_eq!(found["data"]["yaml"], "job_name: node\n");
    for (path, error) in [
        (
            format!("{STEPS}?labels={{}}"),
            "no scrapePool parameter provided",
        ),
        (
            format!("{STEPS}?scrapePool=node"),
            "no labels parameter provided",
        ),
        (
            format!("{STEPS}?scrapePool=a&labels={{}}"),
            "error retrieving scrape config: scrape pool \"a\" not found",
        ),
        (config.to_owned(), "no scrapePool parameter provided"),
    ] {
        let answer = answer(options(), &path).await;
        assert_eq!(answer["errorType"], "bad_data");
        assert_eq!(answer["error"], error);
    }
    let none = get(&format!("{config}?scrapePool=node")).await;
    assert_eq!(none.status, 404, "{}", none.body);
}

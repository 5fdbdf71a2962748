use std::sync::Arc;
use std::time::Duration;

use ::metrics::Registry;
use axum::Json;
use axum::http::StatusCode;
use axum::routing::post;
use model::Labels;
use parking_lot::Mutex;
use serde_json::Value;

use super::*;

/// An Alertmanager that remembers what it is told.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Value>>>);

impl Heard {
    async fn serve(&self, status: StatusCode) -> String {
        let heard = self.clone();
        let app = axum::Router::new().route(
            "/am/api/v2/alerts",
            post(move |Json(body): Json<Value>| async move {
                if let Value::Array(list) = body {
                    heard.0.lock().extend(list);
                }
                status
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }

    async fn wait_for(&self, count: usize) -> Vec<Value> {
        for _ in 0..500 {
            if self.0.lock().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.0.lock().clone()
    }
}

fn alert(name: &str) -> Alert {
    Alert {
        labels: Labels::from_pairs([("alertname", name), ("team", "a")]),
        annotations: Labels::from_pairs([("summary", "it is up")]),
        starts_at: 1_700_000_000_123,
        ends_at: 1_700_000_240_123,
        generator_url: "http://prom.example/graph".to_owned(),
    }
}

async fn notifier(yaml: &str, options: NotifierOptions) -> (Notifier, Registry) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let registry = Registry::new();
    let notifier = Notifier::new(&registry, options).unwrap();
    let alerting: Alerting = serde_saphyr::from_str(yaml).unwrap();
    let external = Labels::from_pairs([("region", "eu"), ("team", "none")]);
    notifier.apply(&alerting, &external).unwrap();
    for _ in 0..500 {
        if !notifier.alertmanagers().0.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (notifier, registry)
}

fn text(registry: &Registry) -> String {
    let mut body = Vec::new();
    ::metrics::encode(&registry.gather(), ::metrics::Format::Text, &mut body);
    String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn alerts_arrive_relabelled_with_external_labels() {
    let heard = Heard::default();
    let address = heard.serve(StatusCode::OK).await;
    let yaml = format!(
        "alert_relabel_configs: [{{action: labeldrop, regex: replica}}]\n\
         alertmanagers:\n\
         - path_prefix: /am/\n  static_configs: [{{targets: ['{address}', 'gone.example:1']}}]\n\
         \x20 relabel_configs: [{{action: drop, source_labels: [__address__], regex: 'gone.*'}}]\n\
         \x20 alert_relabel_configs: [{{target_label: to, replacement: here}}]\n"
    );
    let (notifier, registry) = notifier(&yaml, NotifierOptions::default()).await;
    let url = format!("http://{address}/am/api/v2/alerts");
    assert_eq!(
        notifier.alertmanagers(),
        (
            vec![url.clone()],
            vec!["http://gone.example:1/am/api/v2/alerts".to_owned()]
        )
    );
    notifier.notify(vec![alert("Up")]);
    let told = heard.wait_for(1).await;
    assert_eq!(
        told[0],
        serde_json::json!({
            "labels": {"alertname": "Up", "team": "a", "region": "eu", "to": "here"},
            "annotations": {"summary": "it is up"},
            "startsAt": "2023-11-14T22:13:20.123Z",
            "endsAt": "2023-11-14T22:17:20.123Z",
            "generatorURL": "http://prom.example/graph",
        })
    );
    notifier.stop(Duration::from_secs(5)).await;
    let said = text(&registry);
    let line = format!("prometheus_notifications_sent_total{{alertmanager=\"{url}\"}} 1\n");
    assert!(said.contains(&line), "{said}");
}

#[tokio::test]
async fn one_that_refuses_costs_the_others_nothing_and_batches_are_bounded() {
    let (good, bad) = (Heard::default(), Heard::default());
    let addresses = [
        good.serve(StatusCode::OK).await,
        bad.serve(StatusCode::INTERNAL_SERVER_ERROR).await,
    ];
    let yaml = format!(
        "alertmanagers: [{{path_prefix: am, static_configs: [{{targets: ['{}', '{}']}}]}}]",
        addresses[0], addresses[1]
    );
    let (notifier, registry) = notifier(&yaml, NotifierOptions::default()).await;
    notifier.notify((0..600).map(|i| alert(&format!("a{i}"))).collect());
    assert_eq!(good.wait_for(600).await.len(), 600);
    bad.wait_for(600).await;
    notifier.stop(Duration::from_secs(5)).await;
    let said = text(&registry);
    let line = format!(
        "prometheus_notifications_errors_total{{alertmanager=\"http://{}/am/api/v2/alerts\"}} 600\n",
        addresses[1]
    );
    assert!(said.contains(&line), "{said}");
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest() {
    // Nobody listens there: the first batch waits for a connection that is refused.
    let yaml = "alertmanagers: [{static_configs: [{targets: ['127.0.0.1:1']}]}]";
    let options = NotifierOptions {
        capacity: 3,
        ..NotifierOptions::default()
    };
    let (notifier, registry) = notifier(yaml, options).await;
    notifier.notify((0..10).map(|i| alert(&format!("a{i}"))).collect());
    let said = text(&registry);
    let line = "prometheus_notifications_dropped_total{alertmanager=\"http://127.0.0.1:1/api/v2/alerts\"} 7\n";
    assert!(said.contains(line), "{said}");
    notifier.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_alert_is_lost_only_if_nobody_heard_of_it() {
    let (good, bad) = (Heard::default(), Heard::default());
    let addresses = [
        good.serve(StatusCode::OK).await,
        bad.serve(StatusCode::INTERNAL_SERVER_ERROR).await,
    ];
    let thanos = || NotifierOptions {
        names: Names::Thanos,
        batch: 100,
        ..NotifierOptions::default()
    };
    let targets = |list: &str| {
        format!("alertmanagers: [{{path_prefix: am, static_configs: [{{targets: [{list}]}}]}}]")
    };
    let both = format!("'{}', '{}'", addresses[0], addresses[1]);
    let (told, registry) = notifier(&targets(&both), thanos()).await;
    told.notify((0..250).map(|i| alert(&format!("a{i}"))).collect());
    good.wait_for(250).await;
    told.stop(Duration::from_secs(5)).await;
    let said = text(&registry);
    for line in [
        format!(
            "thanos_alert_sender_alerts_sent_total{{alertmanager=\"{}\"}} 250\n",
            addresses[0]
        ),
        format!(
            "thanos_alert_sender_errors_total{{alertmanager=\"{}\"}} 3\n",
            addresses[1]
        ),
        "thanos_alert_sender_alerts_dropped_total 0\n".to_owned(),
        "thanos_alert_queue_alerts_pushed_total 250\n".to_owned(),
    ] {
        assert!(said.contains(&line), "{line}{said}");
    }
    let one = format!("'{}'", addresses[1]);
    let (told, registry) = notifier(&targets(&one), thanos()).await;
    told.notify((0..5).map(|i| alert(&format!("a{i}"))).collect());
    told.stop(Duration::from_secs(5)).await;
    let said = text(&registry);
    assert!(
        said.contains("thanos_alert_sender_alerts_dropped_total 5\n"),
        "{said}"
    );
}

/// Signs with the region that it was made for.
#[derive(Debug)]
struct Signs(String);

impl Signer for Signs {
    fn sign<'a>(
        &'a self,
        _: &'a reqwest::Method,
        _: &'a str,
        _: &'a reqwest::header::HeaderMap,
        body: &'a [u8],
    ) -> wire::client::Signing<'a> {
        let value = format!("{} {}", self.0, body.starts_with(b"["));
        let value = value.try_into().unwrap();
        let name = reqwest::header::HeaderName::from_static("x-signed");
        Box::pin(std::future::ready(Ok([(name, value)]
            .into_iter()
            .collect())))
    }
}

#[tokio::test]
async fn requests_are_signed_where_a_section_says_so() {
    let (send, mut signed) = tokio::sync::mpsc::channel(1);
    let app = axum::Router::new().route(
        "/api/v2/alerts",
        post(move |headers: axum::http::HeaderMap| async move {
            let _ = send.send(headers["x-signed"].clone()).await;
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let yaml = format!(
        "alertmanagers: [{{sigv4: {{region: eu}}, static_configs: [{{targets: ['{address}']}}]}}]"
    );
    let options = NotifierOptions {
        signer: Some(|section| Ok(Arc::new(Signs(section.region.clone())))),
        ..NotifierOptions::default()
    };
    let (signing, _) = notifier(&yaml, options).await;
    signing.notify(vec![alert("Up")]);
    assert_eq!(signed.recv().await.unwrap(), "eu true");
    // Whoever cannot sign does not send unsigned.
    let plain = Notifier::new(&Registry::new(), NotifierOptions::default()).unwrap();
    let alerting: Alerting = serde_saphyr::from_str(&yaml).unwrap();
    let error = plain.apply(&alerting, &Labels::default()).unwrap_err();
    assert!(error.to_string().contains("sigv4"), "{error}");
}

//! Remote write out of a real database into a receiver that fails now and then.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse as _;
use chunk::memory::MemorySink;
use http::StatusCode;
use ingest::receive::{Message, Options};
use ingest::send::{Queue, Settings};
use ingest::{Receiver, RemoteWrites};
use metrics::Registry;
use model::histogram::{Histogram, IntBuckets, IntHistogram, Span};
use model::relabel;
use model::sink::HistogramSample;
use model::{Batch, Labels, Sink};
use tsdb::Db;
use wire::client::HttpSettings;

struct Receiving {
    sink: Arc<MemorySink>,
    url: String,
    /// Requests that are still to be answered with 503.
    failing: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// How long each answer takes, ms.
    takes: Arc<AtomicUsize>,
}

async fn receiving(message: Message) -> Receiving {
    let sink = Arc::new(MemorySink::new());
    let options = Options {
        accepted: vec![message],
        metadata: true,
        ..Options::default()
    };
    let shared = Arc::clone(&sink) as Arc<dyn Sink>;
    let receiver = Receiver::new(shared, options, &Registry::new()).unwrap();
    let failing = Arc::new(AtomicUsize::new(0));
    let requests = Arc::new(AtomicUsize::new(0));
    let takes = Arc::new(AtomicUsize::new(0));
    let (fails, asked) = (Arc::clone(&failing), Arc::clone(&requests));
    let slow = Arc::clone(&takes);
    let flaky = move |request: Request, next: Next| {
        asked.fetch_add(1, Ordering::SeqCst);
        let fail = fails
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok();
        let wait = Duration::from_millis(slow.load(Ordering::SeqCst) as u64);
        async move {
            tokio::time::sleep(wait).await;
            if fail {
                return (StatusCode::SERVICE_UNAVAILABLE, "later").into_response();
            }
            next.run(request).await
        }
    };
    let app: Router = receiver.remote_write().layer(from_fn(flaky));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/write", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Receiving {
        sink,
        url,
        failing,
        requests,
        takes,
    }
}

/// The file that says how far all was settled.
fn mark(data: &Path) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(data.join("remote_write")).unwrap();
    files.next().unwrap().unwrap().path()
}

fn settings(url: &str, message: Message) -> Settings {
    let rules: Vec<relabel::Config> = Vec::new();
    Settings {
        name: "test".into(),
        url: url.into(),
        shown_url: url.into(),
        http: HttpSettings::default(),
        signer: None,
        round_robin: true,
        timeout: Duration::from_secs(5),
        headers: BTreeMap::from([("x-extra".to_owned(), "1".to_owned())]),
        relabel: relabel::compile(&rules, relabel::NameScheme::Utf8).unwrap(),
        fingerprint: format!("{url} {message:?}"),
        external_labels: Labels::from_pairs([("from", "here"), ("job", "not this")]),
        exemplars: true,
        histograms: true,
        message,
        queue: Queue {
            capacity: 200,
            max_shards: 4,
            min_shards: 2,
            most: 50,
            deadline: Duration::from_millis(50),
            min_backoff: Duration::from_millis(5),
            max_backoff: Duration::from_millis(20),
            retry_on_429: false,
            sample_age_limit: Duration::ZERO,
        },
        metadata_every: None,
        metadata_most: 100,
    }
}

fn writes(data: &Path) -> RemoteWrites {
    RemoteWrites::new(data, None, Duration::from_secs(5), &Registry::new()).unwrap()
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", "m".to_owned()),
        ("job", "a".to_owned()),
        ("i", i.to_string()),
    ])
}

fn append(db: &Db, from: i64, to: i64) {
    for ts in from..to {
        let rows: Vec<_> = (0..20).map(|i| (labels(i), ts * 1000, ts as f64)).collect();
        db.append_samples(&rows).unwrap();
    }
}

async fn arrive(receiving: &Receiving, samples: usize) {
    let count = || -> usize { receiving.sink.series().values().map(Vec::len).sum() };
    for _ in 0..400 {
        if count() >= samples {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(count(), samples);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_over_failures_and_restarts() {
    for message in [Message::V1, Message::V2] {
        let folder = tempfile::tempdir().unwrap();
        let receiving = receiving(message).await;
        let db = Db::open(folder.path(), tsdb::Options::quiet()).unwrap();
        // What was there before nobody asked for is not sent.
        append(&db, 0, 5);
        let first = writes(folder.path());
        first
            .apply(vec![settings(&receiving.url, message)])
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        receiving.failing.store(7, Ordering::SeqCst);
        append(&db, 5, 40);
        arrive(&receiving, 35 * 20).await;
        assert!(receiving.requests.load(Ordering::SeqCst) > 7);
        // External labels are added, but change nothing.
        let series = receiving.sink.series();
        let (labels, _) = series.iter().next().unwrap();
        assert_eq!(labels.get("from"), Some("here"));
        assert_eq!(labels.get("job"), Some("a"));
        // Appended while nobody sends, and while the receiver does not answer.
        first.stop().await;
        append(&db, 40, 60);
        receiving.failing.store(5, Ordering::SeqCst);
        let second = writes(folder.path());
        second
            .apply(vec![settings(&receiving.url, message)])
            .await
            .unwrap();
        append(&db, 60, 80);
        arrive(&receiving, 75 * 20).await;
        second.stop().await;
        db.close().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_twice_costs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let receiving = receiving(Message::V1).await;
    let db = Db::open(folder.path(), tsdb::Options::quiet()).unwrap();
    let first = writes(folder.path());
    first
        .apply(vec![settings(&receiving.url, Message::V1)])
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mark = mark(folder.path());
    let at_start = std::fs::read(&mark).unwrap();
    append(&db, 0, 20);
    arrive(&receiving, 400).await;
    first.stop().await;
    // As if the process had died before it wrote down how far it was.
    std::fs::write(&mark, at_start).unwrap();
    append(&db, 20, 30);
    let second = writes(folder.path());
    second
        .apply(vec![settings(&receiving.url, Message::V1)])
        .await
        .unwrap();
    arrive(&receiving, 600).await;
    second.stop().await;
}

/// A process that dies while it catches up does not begin anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_it_is_is_written_down_while_it_catches_up() {
    let folder = tempfile::tempdir().unwrap();
    let receiving = receiving(Message::V1).await;
    let db = Db::open(folder.path(), tsdb::Options::quiet()).unwrap();
    let first = writes(folder.path());
    let settings = settings(&receiving.url, Message::V1);
    first.apply(vec![settings.clone()]).await.unwrap();
    first.stop().await;
    let mark = mark(folder.path());
    let at_start = std::fs::read(&mark).unwrap();
    append(&db, 0, 2_000);
    receiving.takes.store(10, Ordering::SeqCst);
    let second = writes(folder.path());
    second.apply(vec![settings]).await.unwrap();
    let mut later = at_start.clone();
    for _ in 0..400 {
        later = std::fs::read(&mark).unwrap();
        if later != at_start {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let sent: usize = receiving.sink.series().values().map(Vec::len).sum();
    assert_ne!(later, at_start);
    assert!(sent < 40_000, "all {sent} had been sent by then");
    receiving.takes.store(0, Ordering::SeqCst);
    arrive(&receiving, 40_000).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histograms_are_sent_and_rules_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let receiving = receiving(Message::V2).await;
    let db = Db::open(folder.path(), tsdb::Options::quiet()).unwrap();
    let rule = "[{source_labels: [i], regex: '1.*', action: drop}]";
    let rules: Vec<relabel::Config> = wire::yaml(rule).unwrap();
    let sending = writes(folder.path());
    let settings = Settings {
        relabel: relabel::compile(&rules, relabel::NameScheme::Utf8).unwrap(),
        ..settings(&receiving.url, Message::V2)
    };
    sending.apply(vec![settings]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    append(&db, 0, 3);
    let series = Labels::from_pairs([("__name__", "h")]);
    let reference = db.resolve_now(std::slice::from_ref(&series)).unwrap()[0];
    let mut batch = Batch::default();
    batch.histograms.push(HistogramSample {
        series: reference,
        ts: 1000,
        start: 0,
        value: Histogram::Int(IntHistogram {
            count: 3,
            sum: 2.5,
            positive: IntBuckets {
                spans: vec![Span {
                    offset: 0,
                    length: 2,
                }],
                deltas: vec![1, 1],
            },
            ..IntHistogram::default()
        }),
    });
    db.append_now(batch).unwrap();
    // 0 and 2 to 9.
    arrive(&receiving, 9 * 3).await;
    let with = Labels::from_pairs([("__name__", "h"), ("from", "here"), ("job", "not this")]);
    for _ in 0..200 {
        if !receiving.sink.histograms(&with).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(receiving.sink.histograms(&with)[0].value.sum(), 2.5);
    sending.stop().await;
}

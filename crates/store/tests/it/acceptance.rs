//! What every server of StoreAPI must answer: the cases of Thanos' own acceptance tests
//! (`pkg/store/acceptance_test.go`), asked over gRPC of each kind of source.

use std::sync::Arc;

use chunk::memory::MemorySource;
use model::{Labels, Sample, SeriesBatch, Source, Str, Symbols, TimeRange};
use store::{GatewayOptions, Labelled, Proxy, Serve, ServeOptions};
use wire::grpc::{Channel, ChannelSettings, Code, Server, Settings};
use wire::proto::thanos::label_matcher::Type;
use wire::proto::thanos::store_client::StoreClient;
use wire::proto::thanos::{self as pb, LabelMatcher};
use wire::series::Decoder;

use crate::kit::{Kept, Place, RUNTIME, Series, labels};
use crate::remote::wired;

type Client = StoreClient<Channel>;
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Samples around now, so that a range that ends hours ago holds none.
fn series(all: &[Pairs<'_>]) -> Series {
    let now = 1_700_000_000_000;
    let mut all: Series = all
        .iter()
        .map(|pairs| {
            let samples = (0..5).map(|k| Sample {
                ts: now + k * 1000,
                value: k as f64,
            });
            (labels(pairs), samples.collect())
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

const NOW: i64 = 1_700_000_000_000;
const EXTERNAL: Pairs<'static> = &[("region", "eu-west")];

/// The kinds of sources, each over the same series under the external label.
fn sources(all: &Series) -> Vec<(&'static str, Arc<dyn Source>)> {
    let runtime = RUNTIME.handle().clone();
    let external: Arc<dyn Fn() -> Labels + Send + Sync> = Arc::new(|| labels(EXTERNAL));
    let labelled = |streams: bool| -> Arc<dyn Source> {
        let memory = MemorySource::new(all.clone()).answering_streams(streams);
        let (external, runtime) = (Arc::clone(&external), runtime.clone());
        Arc::new(Labelled::new(Arc::new(memory), external, runtime))
    };
    let gateway = || -> Arc<dyn Source> {
        let place = Place::disk();
        // Two replicas of the block.
        place.add(1, TimeRange::ALL, &labels(EXTERNAL), all);
        place.add(2, TimeRange::ALL, &labels(EXTERNAL), all);
        let source = place.gateway(GatewayOptions::default());
        Arc::new(Kept {
            source,
            _place: place,
        })
    };
    let over =
        |source| -> Arc<dyn Source> { Arc::new(wired(source, ServeOptions::default(), false)) };
    let proxy: Vec<(Str, Arc<dyn Source>)> = vec![
        ("a".into(), over(labelled(false))),
        ("b".into(), over(gateway())),
    ];
    vec![
        ("database", labelled(false)),
        ("streams", labelled(true)),
        ("gateway", gateway()),
        ("remote", over(labelled(true))),
        ("proxy", Arc::new(Proxy::new(proxy, runtime))),
    ]
}

fn client(source: Arc<dyn Source>) -> Client {
    RUNTIME.block_on(async {
        let registry = metrics::Registry::new();
        let runtime = RUNTIME.handle().clone();
        let serve = Serve::new(source, ServeOptions::default(), runtime, &registry).unwrap();
        let settings = Settings {
            listen: "127.0.0.1:0".to_owned(),
            ..Settings::default()
        };
        let server = Server::bind(settings, &registry).await.unwrap();
        let address = server.address().to_string();
        tokio::spawn(server.serve(serve.routes(), std::future::pending()));
        StoreClient::new(Channel::new(&address, &ChannelSettings::default()).unwrap())
    })
}

/// `a="1"`, `a!="1"`, `a=~"1"`, `a!~"1"`, without the quotes.
fn matcher(text: &str) -> LabelMatcher {
    let ops = [
        ("!=", Type::Neq),
        ("=~", Type::Re),
        ("!~", Type::Nre),
        ("=", Type::Eq),
    ];
    let found = ops
        .iter()
        .filter_map(|(op, kind)| Some((text.find(op)?, op, kind)))
        .min_by_key(|(at, op, _)| (*at, std::cmp::Reverse(op.len())));
    let (at, op, kind) = found.unwrap();
    LabelMatcher {
        r#type: *kind as i32,
        name: text[..at].to_owned(),
        value: text[at + op.len()..].to_owned(),
    }
}

fn matchers(list: &[&str]) -> Vec<LabelMatcher> {
    list.iter().map(|m| matcher(m)).collect()
}

fn names(client: &Client, list: &[&str], end: i64) -> Vec<String> {
    let mut client = client.clone();
    let request = pb::LabelNamesRequest {
        start: i64::MIN,
        end,
        matchers: matchers(list),
        without_replica_labels: vec!["replica".to_owned()],
        ..Default::default()
    };
    let answer = RUNTIME.block_on(client.label_names(request)).unwrap();
    answer.into_inner().names
}

fn values(client: &Client, label: &str, list: &[&str], end: i64) -> Vec<String> {
    let mut client = client.clone();
    let request = pb::LabelValuesRequest {
        label: label.to_owned(),
        start: i64::MIN,
        end,
        matchers: matchers(list),
        without_replica_labels: vec!["replica".to_owned()],
        ..Default::default()
    };
    let answer = RUNTIME.block_on(client.label_values(request)).unwrap();
    answer.into_inner().values
}

fn found(client: &Client, list: &[&str], without: &[&str]) -> Vec<String> {
    let mut client = client.clone();
    let request = pb::SeriesRequest {
        min_time: i64::MIN,
        max_time: i64::MAX,
        matchers: matchers(list),
        skip_chunks: true,
        without_replica_labels: without.iter().map(|l| (*l).to_owned()).collect(),
        ..Default::default()
    };
    RUNTIME.block_on(async {
        let mut stream = client.series(request).await.unwrap().into_inner();
        let (symbols, mut batch) = (Symbols::default(), SeriesBatch::default());
        let mut decoder = Decoder::default();
        while let Some(frame) = stream.message().await.unwrap() {
            decoder.read(&frame, &symbols, &mut batch).unwrap();
        }
        let all = 0..batch.len();
        let mut all: Vec<Labels> = all.map(|i| batch.label_set(i, &symbols)).collect();
        assert!(all.is_sorted(), "{all:?}");
        all.dedup();
        all.iter().map(|l| l.to_string()).collect()
    })
}

#[test]
fn names_and_values() {
    let a: Pairs<'_> = &[("foo", "foovalue1")];
    let b: Pairs<'_> = &[("foo", "foovalue2")];
    let c: Pairs<'_> = &[("bar", "barvalue1"), ("foo", "foovalue1")];
    let none = [] as [&str; 0];
    for (kind, source) in sources(&series(&[])) {
        let client = client(source);
        assert_eq!(names(&client, &[], NOW * 2), none, "{kind}");
        assert_eq!(values(&client, "foo", &[], NOW * 2), none, "{kind}");
    }
    for (kind, source) in sources(&series(&[a, b, c])) {
        let client = client(source);
        let all = NOW * 2;
        assert_eq!(names(&client, &[], all), ["bar", "foo", "region"], "{kind}");
        assert_eq!(
            values(&client, "foo", &[], all),
            ["foovalue1", "foovalue2"],
            "{kind}"
        );
        assert_eq!(values(&client, "bar", &[], all), ["barvalue1"], "{kind}");
        assert_eq!(values(&client, "region", &[], all), ["eu-west"], "{kind}");
        assert_eq!(values(&client, "replica", &[], all), none, "{kind}");
        let ended = NOW - 4 * 3_600_000;
        assert_eq!(names(&client, &[], ended), none, "{kind}");
        assert_eq!(values(&client, "foo", &[], ended), none, "{kind}");
        for (list, want) in [
            (&["bar=barvalue1"][..], &["bar", "foo", "region"][..]),
            (&["foo=foovalue2"], &["foo", "region"]),
            (&["bar=different"], &[]),
            (&["region=eu-west"], &["bar", "foo", "region"]),
            (&["region=different"], &[]),
            (&["region=~.*"], &["bar", "foo", "region"]),
        ] {
            assert_eq!(names(&client, list, all), want, "{kind} {list:?}");
        }
        for (label, list, want) in [
            ("foo", &["bar=barvalue1"][..], &["foovalue1"][..]),
            ("foo", &["bar=different"], &[]),
            ("foo", &["region=eu-west"], &["foovalue1", "foovalue2"]),
            ("foo", &["region=different"], &[]),
            ("bar", &["region=eu-west"], &["barvalue1"]),
            ("bar", &["region=different"], &[]),
            ("region", &["__name__=nonexistent"], &[]),
            ("region", &["region=eu-east"], &[]),
            ("region", &["foo=foovalue1"], &["eu-west"]),
        ] {
            assert_eq!(
                values(&client, label, list, all),
                want,
                "{kind} {label} {list:?}"
            );
        }
        let mut asked = client.clone();
        let request = pb::LabelValuesRequest::default();
        let e = RUNTIME.block_on(asked.label_values(request)).unwrap_err();
        assert_eq!(e.code(), Code::InvalidArgument, "{kind}");
        assert_eq!(e.message(), "label name parameter cannot be empty");
    }
}

#[test]
fn names_of_metrics() {
    let up: Pairs<'_> = &[("__name__", "up"), ("foo", "bar"), ("job", "C")];
    let other: Pairs<'_> = &[("__name__", "up"), ("foo", "baz"), ("job", "C")];
    let pod: Pairs<'_> = &[("__name__", "kube_pod_info"), ("pod", "pod-1")];
    let one: Pairs<'_> = &[("__name__", "up"), ("pod", "pod-1")];
    let two: Pairs<'_> = &[("__name__", "up"), ("pod", "pod-2")];
    let all = NOW * 2;
    for (kind, source) in sources(&series(&[up, other])) {
        let client = client(source);
        let list = ["__name__=up", "job=C"];
        assert_eq!(values(&client, "region", &list, all), ["eu-west"], "{kind}");
        let list = ["__name__=up", "region=~.*"];
        assert_eq!(values(&client, "region", &list, all), ["eu-west"], "{kind}");
    }
    for (kind, source) in sources(&series(&[pod, one, two])) {
        let client = client(source);
        let of_pod = ["__name__=kube_pod_info"];
        let want = ["__name__", "pod", "region"];
        assert_eq!(names(&client, &of_pod, all), want, "{kind}");
        assert_eq!(names(&client, &[], all), want, "{kind}");
        assert_eq!(values(&client, "pod", &of_pod, all), ["pod-1"], "{kind}");
        assert_eq!(
            values(&client, "pod", &[], all),
            ["pod-1", "pod-2"],
            "{kind}"
        );
    }
}

#[test]
fn external_labels_win() {
    let clash: Pairs<'_> = &[("foo", "bar"), ("region", "somewhere")];
    for (kind, source) in sources(&series(&[clash])) {
        let client = client(source);
        let got = found(&client, &["foo=bar"], &["replica"]);
        assert_eq!(got, [r#"{foo="bar", region="eu-west"}"#], "{kind}");
    }
}

#[test]
fn the_order_is_that_without_the_removed_labels() {
    let long: Pairs<'_> = &[("b", "1"), ("c", "1"), ("l", "1")];
    let short: Pairs<'_> = &[("b", "1"), ("l", "2")];
    let third: Pairs<'_> = &[("b", "0"), ("l", "9")];
    for (kind, source) in sources(&series(&[long, short, third])) {
        let client = client(source);
        let got = found(&client, &["b=~.+"], &["l"]);
        let want = [
            r#"{b="0", region="eu-west"}"#,
            r#"{b="1", c="1", region="eu-west"}"#,
            r#"{b="1", region="eu-west"}"#,
        ];
        assert_eq!(got, want, "{kind}");
        // An external label may be removed, too.
        let got = found(&client, &["b=~.+"], &["region", "b"]);
        assert_eq!(
            got,
            [r#"{c="1", l="1"}"#, r#"{l="2"}"#, r#"{l="9"}"#],
            "{kind}"
        );
    }
}

#[test]
fn matchers_as_prometheus_means_them() {
    let s: [Pairs<'_>; 5] = [
        &[("n", "1")],
        &[("i", "a"), ("n", "1")],
        &[("i", "b"), ("n", "1")],
        &[("n", "2")],
        &[("n", "2.5")],
    ];
    let text = |i: usize| {
        let mut pairs: Vec<(&str, &str)> = s[i - 1].to_vec();
        pairs.push(("region", "eu-west"));
        labels(&pairs).to_string()
    };
    let cases: [(&[&str], &[usize]); 28] = [
        (&["n=1"], &[2, 3, 1]),
        (&["n=1", "i=a"], &[2]),
        (&["n=1", "i=missing"], &[]),
        (&["missing="], &[2, 3, 1, 4, 5]),
        (&["n!=1"], &[4, 5]),
        (&["i=~.+"], &[2, 3]),
        (&["i=~.*"], &[2, 3, 1, 4, 5]),
        (&["i="], &[1, 4, 5]),
        (&["i!="], &[2, 3]),
        (&["missing!="], &[]),
        (&["n=1", "i!=a"], &[3, 1]),
        (&["n=~^1$"], &[2, 3, 1]),
        (&["n=1", "i=~^a$"], &[2]),
        (&["n=1", "i=~^a?$"], &[2, 1]),
        (&["i=~^$"], &[1, 4, 5]),
        (&["n=1", "i=~^.*$"], &[2, 3, 1]),
        (&["n=1", "i=~^.+$"], &[2, 3]),
        (&["n!~^1$"], &[4, 5]),
        (&["n!~1|2.5"], &[4]),
        (&["n=1", "i!~^a$"], &[3, 1]),
        (&["n=1", "i!~^a?$"], &[3]),
        (&["n=1", "i!~^.*$"], &[]),
        (&["n=1", "i!~^.+$"], &[1]),
        (&["n=1", "i!=", "i=a"], &[2]),
        (&["n=1", "i!=b", "i=~^(b|a).*$"], &[2]),
        (&["n=~(1|2)"], &[2, 3, 1, 4]),
        (&["n=~2|2\\.5"], &[4, 5]),
        (&["i=~c||d"], &[1, 4, 5]),
    ];
    for (kind, source) in sources(&series(&s)) {
        let client = client(source);
        for (list, want) in cases {
            let want: Vec<String> = want.iter().map(|i| text(*i)).collect();
            assert_eq!(found(&client, list, &["replica"]), want, "{kind} {list:?}");
        }
    }
}

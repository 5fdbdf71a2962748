//! Sources at the other end of a connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chunk::memory::MemorySource;
use chunk::suite;
use model::scope::PartialResponse;
use model::{
    Budget, Capabilities, Extent, Kind, LabelSelect, Labels, MatchOp, Matcher, Order, Rows, Sample,
    Scope, Select, Source, SourceError, Str, TimeRange, View,
};
use store::{
    DedupOptions, Deduplicated, GatewayOptions, Labelled, Proxy, Remote, Serve, ServeOptions,
};
use wire::grpc::{Channel, ChannelSettings, Routes, Server, Settings};

use crate::kit::{Kept, Place, RUNTIME, Series, fleet, labels};

/// Serves `source` on a port of its own, and gives its other end.
pub fn wired(source: Arc<dyn Source>, options: ServeOptions, snappy: bool) -> Remote {
    RUNTIME.block_on(async {
        let registry = metrics::Registry::new();
        let runtime = RUNTIME.handle().clone();
        let serve = Serve::new(source, options, runtime.clone(), &registry).unwrap();
        let settings = Settings {
            listen: "127.0.0.1:0".to_owned(),
            ..Settings::default()
        };
        let server = Server::bind(settings, &registry).await.unwrap();
        let address = server.address().to_string();
        let routes = Routes::new(serve.store()).add_service(serve.info());
        tokio::spawn(server.serve(routes, std::future::pending()));
        let settings = ChannelSettings {
            snappy,
            ..ChannelSettings::default()
        };
        let channel = Channel::new(&address, &settings).unwrap();
        let remote = Remote::new(channel, None, runtime);
        remote.ask(Duration::from_secs(5)).await.unwrap();
        remote
    })
}

fn over_the_wire(source: impl Source + 'static) -> Arc<dyn Source> {
    Arc::new(wired(Arc::new(source), ServeOptions::default(), false))
}

fn memory(series: Series) -> Arc<dyn Source> {
    Arc::new(MemorySource::new(series))
}

#[test]
fn suite_of_memory_over_the_wire() {
    suite::source("memory over the wire", |series| {
        over_the_wire(MemorySource::new(series))
    });
}

#[test]
fn suite_of_streams_over_snappy() {
    suite::source("streams over snappy", |series| {
        let source = MemorySource::new(series).answering_streams(true);
        Arc::new(wired(Arc::new(source), ServeOptions::default(), true))
    });
}

#[test]
fn suite_of_a_gateway_over_the_wire() {
    suite::source("gateway over the wire", |series| {
        let place = Place::disk();
        place.add(1, TimeRange::ALL, &Labels::default(), &series);
        let source = place.gateway(GatewayOptions::default());
        over_the_wire(Kept {
            source,
            _place: place,
        })
    });
}

#[test]
fn suite_of_a_proxy_of_remotes_over_the_wire() {
    suite::source("proxy of remotes over the wire", |series| {
        let half = |k: usize| -> Series {
            series
                .iter()
                .map(|(l, s)| {
                    (
                        l.clone(),
                        s[s.len() * k / 2..s.len() * (k + 1) / 2].to_vec(),
                    )
                })
                .filter(|(_, s)| !s.is_empty())
                .collect()
        };
        let children: Vec<(Str, Arc<dyn Source>)> = vec![
            ("a".into(), over_the_wire(MemorySource::new(half(0)))),
            ("b".into(), over_the_wire(MemorySource::new(half(1)))),
        ];
        over_the_wire(Proxy::new(children, RUNTIME.handle().clone()))
    });
}

/// A source that obeys nothing but matchers and times, as an old peer.
struct Old(Arc<dyn Source>);

impl Source for Old {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        self.0.open(scope)
    }

    fn extent(&self) -> Arc<Extent> {
        Arc::new(Extent {
            capabilities: Capabilities::default(),
            ..(*self.0.extent()).clone()
        })
    }
}

#[test]
fn a_peer_that_obeys_nothing_is_put_in_order_here() {
    let series: Series = [
        (
            labels(&[("b", "1"), ("c", "x"), ("l", "1")]),
            vec![Sample { ts: 1, value: 1.0 }],
        ),
        (
            labels(&[("b", "2"), ("c", "a"), ("l", "2")]),
            vec![Sample { ts: 1, value: 1.0 }],
        ),
        (
            labels(&[("b", "3"), ("l", "3")]),
            vec![Sample { ts: 1, value: 1.0 }],
        ),
    ]
    .into();
    let remote = over_the_wire(Old(memory(series)));
    assert_eq!(remote.extent().capabilities, Capabilities::default());
    let got = in_order(&*remote, &["l", "b"]);
    assert_eq!(got, ["{}", r#"{c="a"}"#, r#"{c="x"}"#]);
}

fn in_order(source: &dyn Source, without: &[&str]) -> Vec<String> {
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = source.open(Arc::clone(&scope)).unwrap();
    let rows = view.select(Select {
        order: Order::ByLabels {
            without: without.iter().map(|l| Str::from(*l)).collect(),
        },
        ..Select::new(vec![Matcher::equal("absent", "")], TimeRange::ALL)
    });
    let rows = suite::collect_in_order(rows, &scope, TimeRange::ALL).unwrap();
    rows.into_iter().map(|(l, _)| l.to_string()).collect()
}

#[test]
fn suite_of_a_labelled_source_without_labels() {
    suite::source("labelled by nothing", |series| {
        let none = Arc::new(Labels::default);
        let source = Labelled::new(memory(series), none, RUNTIME.handle().clone());
        // Tools may ask for everything; StoreAPI may not.
        Arc::new(source)
    });
}

#[test]
fn suite_of_a_deduplicated_source() {
    suite::source("deduplicated over nothing", |series| {
        let options = DedupOptions::default();
        Arc::new(Deduplicated::new(
            memory(series),
            options,
            RUNTIME.handle().clone(),
        ))
    });
}

struct Acceptance {
    source: Arc<dyn Source>,
    now: i64,
}

impl Acceptance {
    fn new(series: &[&[(&str, &str)]]) -> Self {
        let now = 1_700_000_000_000;
        let series: Series = series
            .iter()
            .map(|pairs| {
                (
                    labels(pairs),
                    vec![Sample {
                        ts: now,
                        value: 1.0,
                    }],
                )
            })
            .collect();
        let source: Arc<dyn Source> = memory(series);
        let external = || labels(&[("region", "eu-west")]);
        let runtime = RUNTIME.handle().clone();
        let source = Labelled::new(source, Arc::new(external), runtime.clone());
        let options = DedupOptions {
            replica_labels: vec!["replica".into()],
            ..Default::default()
        };
        let remote = over_the_wire(source);
        Self {
            source: Arc::new(Deduplicated::new(remote, options, runtime)),
            now,
        }
    }

    fn label_select(&self, matchers: &[(MatchOp, &str, &str)], end: Option<i64>) -> LabelSelect {
        LabelSelect {
            matchers: matchers
                .iter()
                .map(|(op, n, v)| Matcher::new(*op, *n, *v).unwrap())
                .collect(),
            range: TimeRange::new(i64::MIN, end.unwrap_or(i64::MAX)),
            limit: 0,
        }
    }

    fn names(&self, matchers: &[(MatchOp, &str, &str)]) -> String {
        let view = self.source.open(Scope::unbounded(TimeRange::ALL)).unwrap();
        let answer = view.label_names(self.label_select(matchers, None));
        RUNTIME.block_on(answer).unwrap().value.join(",")
    }

    fn values(&self, name: &str, matchers: &[(MatchOp, &str, &str)]) -> String {
        let view = self.source.open(Scope::unbounded(TimeRange::ALL)).unwrap();
        let answer = view.label_values(name.into(), self.label_select(matchers, None));
        RUNTIME.block_on(answer).unwrap().value.join(",")
    }
}

#[test]
fn acceptance_of_store_api() {
    use MatchOp::{Equal, Regex};
    let none = Acceptance::new(&[]);
    assert_eq!(none.names(&[]), "");
    assert_eq!(none.values("foo", &[]), "");
    assert_eq!(none.values("region", &[]), "eu-west");
    let view = none.source.open(Scope::unbounded(TimeRange::ALL)).unwrap();
    let empty = RUNTIME.block_on(view.label_values("".into(), none.label_select(&[], None)));
    assert_eq!(empty.unwrap_err().kind, Kind::Invalid);

    let one = Acceptance::new(&[&[("foo", "foovalue1")]]);
    assert_eq!(one.names(&[]), "foo,region");
    assert_eq!(one.values("foo", &[]), "foovalue1");
    assert_eq!(one.values("replica", &[]), "");

    let abc = Acceptance::new(&[
        &[("foo", "foovalue1")],
        &[("foo", "foovalue2")],
        &[("foo", "foovalue1"), ("bar", "barvalue1")],
    ]);
    assert_eq!(abc.names(&[]), "bar,foo,region");
    let view = abc.source.open(Scope::unbounded(TimeRange::ALL)).unwrap();
    let early = abc.label_select(&[], Some(abc.now - 4 * 3_600_000));
    assert!(
        RUNTIME
            .block_on(view.label_names(early))
            .unwrap()
            .value
            .is_empty()
    );
    assert_eq!(abc.names(&[(Equal, "bar", "barvalue1")]), "bar,foo,region");
    assert_eq!(abc.names(&[(Equal, "foo", "foovalue2")]), "foo,region");
    assert_eq!(abc.names(&[(Equal, "bar", "different")]), "");
    assert_eq!(abc.names(&[(Equal, "region", "eu-west")]), "bar,foo,region");
    assert_eq!(abc.names(&[(Equal, "region", "different")]), "");
    assert_eq!(
        abc.values("foo", &[(Equal, "bar", "barvalue1")]),
        "foovalue1"
    );
    assert_eq!(abc.values("foo", &[(Equal, "bar", "different")]), "");
    assert_eq!(
        abc.values("foo", &[(Equal, "region", "eu-west")]),
        "foovalue1,foovalue2"
    );
    assert_eq!(abc.values("foo", &[(Equal, "region", "different")]), "");
    assert_eq!(
        abc.values("bar", &[(Equal, "region", "eu-west")]),
        "barvalue1"
    );
    assert_eq!(abc.values("bar", &[(Equal, "region", "different")]), "");
    assert_eq!(
        abc.values("region", &[(Equal, "__name__", "nonexistent")]),
        ""
    );
    assert_eq!(abc.values("region", &[(Equal, "region", "eu-east")]), "");

    let clash = Acceptance::new(&[&[("foo", "bar"), ("region", "somewhere")]]);
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = clash.source.open(Arc::clone(&scope)).unwrap();
    let select = Select {
        skip_chunks: true,
        ..Select::new(vec![Matcher::equal("foo", "bar")], TimeRange::ALL)
    };
    let batches = suite::batches(view.select(select)).unwrap();
    assert_eq!(
        batches[0].label_set(0, &scope.symbols).to_string(),
        r#"{foo="bar", region="eu-west"}"#
    );

    let up = Acceptance::new(&[
        &[("__name__", "up"), ("foo", "bar"), ("job", "C")],
        &[("__name__", "up"), ("foo", "baz"), ("job", "C")],
    ]);
    let matchers = [(Equal, "__name__", "up"), (Equal, "job", "C")];
    assert_eq!(up.values("region", &matchers), "eu-west");
    let any = (Regex, "region", ".*");
    let up = Acceptance::new(&[&[("__name__", "up"), ("foo", "bar")]]);
    assert_eq!(up.names(&[any]), "__name__,foo,region");
    assert_eq!(
        up.values("region", &[(Equal, "__name__", "up"), any]),
        "eu-west"
    );

    let pods = Acceptance::new(&[
        &[("__name__", "up"), ("pod", "pod-1")],
        &[("__name__", "up"), ("pod", "pod-2")],
        &[("__name__", "kube_pod_info"), ("pod", "pod-1")],
    ]);
    assert_eq!(
        pods.names(&[(Equal, "__name__", "kube_pod_info")]),
        "__name__,pod,region"
    );
    assert_eq!(pods.names(&[]), "__name__,pod,region");
    assert_eq!(
        pods.values("pod", &[(Equal, "__name__", "kube_pod_info")]),
        "pod-1"
    );
    assert_eq!(pods.values("pod", &[]), "pod-1,pod-2");
}

#[test]
fn nothing_but_external_labels_is_asked_too_much() {
    let one = Acceptance::new(&[&[("foo", "foovalue1")]]);
    let view = one.source.open(Scope::unbounded(TimeRange::ALL)).unwrap();
    let select = Select::new(vec![Matcher::equal("region", "eu-west")], TimeRange::ALL);
    let e = suite::batches(view.select(select)).unwrap_err();
    assert_eq!(
        (e.kind, e.message.as_str()),
        (
            Kind::Invalid,
            "no matchers specified (excluding external labels)"
        )
    );
}

#[test]
fn limits_are_said() {
    let series = fleet("up", 100, 0, 500);
    let run = |options: ServeOptions| {
        let remote = wired(memory(series.clone()), options, false);
        let view = remote.open(Scope::unbounded(TimeRange::ALL)).unwrap();
        let select = Select::new(vec![Matcher::equal("__name__", "up")], TimeRange::ALL);
        suite::batches(view.select(select))
    };
    assert!(
        run(ServeOptions {
            series_limit: 100,
            sample_limit: 60_000,
            ..Default::default()
        })
        .is_ok()
    );
    for options in [
        ServeOptions {
            series_limit: 99,
            ..Default::default()
        },
        ServeOptions {
            sample_limit: 59_999,
            ..Default::default()
        },
        ServeOptions {
            memory: Budget::new("store requests", 20_000),
            ..Default::default()
        },
    ] {
        assert_eq!(run(options).unwrap_err().kind, Kind::Limit);
    }
}

#[test]
fn a_client_that_runs_out_of_memory_says_so_and_gives_it_back() {
    let remote = wired(
        memory(fleet("up", 300, 0, 500)),
        ServeOptions::default(),
        false,
    );
    let budget = Budget::new("one query", 100_000);
    let scope = Arc::new(Scope::new(TimeRange::ALL, Arc::clone(&budget)));
    let view = remote.open(scope).unwrap();
    let select = Select::new(vec![Matcher::equal("__name__", "up")], TimeRange::ALL);
    let options = DedupOptions {
        replica_labels: vec!["replica".into()],
        ..Default::default()
    };
    let _ = options;
    assert_eq!(
        suite::batches(view.select(select)).unwrap_err().kind,
        Kind::Limit
    );
    assert_eq!(budget.used(), 0);
}

fn replica(name: &str, from: i64, to: i64) -> Series {
    let samples = (from..to)
        .map(|k| Sample {
            ts: k * 15_000,
            value: k as f64,
        })
        .collect();
    vec![(labels(&[("__name__", "up"), ("replica", name)]), samples)]
}

#[test]
fn replicas_are_deduplicated_without_gap_or_double() {
    // Both replicas in live stores and, shipped, in two more; one was down for a while.
    let down = |name| -> Series {
        let mut all = replica(name, 0, 1000);
        all[0].1.retain(|s| !(6_000_000..9_000_000).contains(&s.ts));
        all
    };
    let children: Vec<(Str, Arc<dyn Source>)> = vec![
        (
            "live a".into(),
            over_the_wire(MemorySource::new(replica("a", 480, 1000))),
        ),
        ("live b".into(), over_the_wire(MemorySource::new(down("b")))),
        (
            "shipped a".into(),
            over_the_wire(MemorySource::new(replica("a", 0, 600))),
        ),
        (
            "shipped b".into(),
            over_the_wire(MemorySource::new(replica("b", 0, 300))),
        ),
    ];
    let runtime = RUNTIME.handle().clone();
    let proxy = Arc::new(Proxy::new(children, runtime.clone()));
    for chain in [false, true] {
        let options = DedupOptions {
            replica_labels: vec!["replica".into()],
            chain,
            ..Default::default()
        };
        let source = Deduplicated::new(
            Arc::clone(&proxy) as Arc<dyn Source>,
            options,
            runtime.clone(),
        );
        let scope = Scope::unbounded(TimeRange::ALL);
        let view = source.open(Arc::clone(&scope)).unwrap();
        let select = Select::new(vec![Matcher::equal("__name__", "up")], TimeRange::ALL);
        let batches = suite::batches(view.select(select)).unwrap();
        assert_eq!(batches.iter().map(|b| b.len()).sum::<usize>(), 1);
        let mut columns = chunk::Columns::default();
        let want = chunk::Want::raw(TimeRange::ALL);
        chunk::SeriesDecoder::new()
            .decode(&batches[0], 0, &want, &mut columns)
            .unwrap();
        let expected: Vec<i64> = (0..1000).map(|k| k * 15_000).collect();
        assert!(columns.ts == expected, "chain: {chain}");
        assert!(
            columns
                .values
                .iter()
                .enumerate()
                .all(|(k, v)| *v == k as f64)
        );
        // A query that wants replicas apart gets them.
        let mut scope = Scope::new(TimeRange::ALL, Budget::unlimited());
        scope.gather.replica_labels = Some(Arc::from([]));
        let scope = Arc::new(scope);
        let view = source.open(Arc::clone(&scope)).unwrap();
        let select = Select::new(vec![Matcher::equal("__name__", "up")], TimeRange::ALL);
        let all = suite::collect(view.select(select), &scope, TimeRange::ALL).unwrap();
        assert_eq!(all.len(), 2);
    }
}

#[test]
fn a_tenant_sees_its_own_and_nothing_else() {
    let series: Series = ["a", "b"]
        .iter()
        .map(|t| {
            (
                labels(&[("__name__", "up"), ("tenant_id", t)]),
                vec![Sample { ts: 1, value: 1.0 }],
            )
        })
        .collect();
    let options = DedupOptions {
        tenant_label: Some("tenant_id".into()),
        ..Default::default()
    };
    let source = Deduplicated::new(memory(series), options, RUNTIME.handle().clone());
    let mut scope = Scope::new(TimeRange::ALL, Budget::unlimited());
    scope.tenant = Some("a".into());
    let scope = Arc::new(scope);
    let view = source.open(Arc::clone(&scope)).unwrap();
    for crafted in [
        vec![Matcher::equal("__name__", "up")],
        vec![Matcher::equal("tenant_id", "b")],
        vec![Matcher::new(MatchOp::Regex, "tenant_id", "a|b").unwrap()],
    ] {
        let all = suite::collect(
            view.select(Select::new(crafted, TimeRange::ALL)),
            &scope,
            TimeRange::ALL,
        )
        .unwrap();
        assert!(
            all.keys().all(|l| l.get("tenant_id") == Some("a")),
            "{all:?}"
        );
    }
    let ask = LabelSelect {
        matchers: vec![],
        range: TimeRange::ALL,
        limit: 0,
    };
    let values = RUNTIME
        .block_on(view.label_values("tenant_id".into(), ask))
        .unwrap();
    assert_eq!(values.value, ["a".into()] as [Str; 1]);
    assert!(
        source.open(Scope::unbounded(TimeRange::ALL)).is_err(),
        "no tenant, no answer"
    );
}

/// A source that never answers.
struct Hangs;

impl Source for Hangs {
    fn open(&self, _: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        Ok(Box::new(Hangs))
    }

    fn extent(&self) -> Arc<Extent> {
        Arc::default()
    }
}

impl View for Hangs {
    fn select(&self, _: Select) -> Rows {
        Rows::Stream(Box::pin(futures::stream::pending()))
    }

    fn label_names(
        &self,
        _: LabelSelect,
    ) -> model::BoxFuture<'static, Result<model::Answer<Vec<Str>>, SourceError>> {
        Box::pin(std::future::pending())
    }

    fn label_values(
        &self,
        _: Str,
        s: LabelSelect,
    ) -> model::BoxFuture<'static, Result<model::Answer<Vec<Str>>, SourceError>> {
        self.label_names(s)
    }
}

#[test]
fn a_slow_store_does_not_hold_a_query() {
    let hangs = over_the_wire(Hangs);
    let good = over_the_wire(MemorySource::new(fleet("up", 3, 0, 10)));
    let children = |slow: Arc<dyn Source>| {
        vec![
            (Str::from("slow"), slow),
            ("good".into(), Arc::clone(&good)),
        ]
    };
    let ask_as = |proxy: &Proxy, timeout: Duration, partial: PartialResponse| {
        let mut scope = Scope::new(TimeRange::ALL, Budget::unlimited()).with_timeout(timeout);
        scope.partial_response = partial;
        let view = proxy.open(Arc::new(scope)).unwrap();
        suite::batches(view.select(Select::new(
            vec![Matcher::equal("__name__", "up")],
            TimeRange::ALL,
        )))
    };
    let ask = |proxy: &Proxy, timeout| ask_as(proxy, timeout, PartialResponse::Warn);
    // Past its deadline the query ends, whatever the store does.
    let proxy = Proxy::new(children(hangs), RUNTIME.handle().clone());
    let start = Instant::now();
    let strict = ask_as(&proxy, Duration::from_millis(300), PartialResponse::Abort);
    assert_eq!(strict.unwrap_err().kind, Kind::Timeout);
    assert!(start.elapsed() < Duration::from_secs(2));
    // Where a part may be missing, the others answer before that.
    let batches = ask(&proxy, Duration::from_secs(3)).unwrap();
    assert_eq!(batches.iter().map(|b| b.len()).sum::<usize>(), 3);
    let warning = batches.iter().flat_map(|b| &b.warnings).next().unwrap();
    assert!(warning.starts_with("slow: "), "{warning}");
    assert!(start.elapsed() < Duration::from_secs(5));
    // With a limit for each message the others answer, and the slow one is named.
    let impatient = RUNTIME.block_on(async {
        let channel = Channel::new("127.0.0.1:1", &ChannelSettings::default()).unwrap();
        Remote::new(
            channel,
            Some(Duration::from_millis(100)),
            RUNTIME.handle().clone(),
        )
    });
    let proxy = Proxy::new(children(Arc::new(impatient)), RUNTIME.handle().clone());
    let batches = ask(&proxy, Duration::from_secs(10)).unwrap();
    assert_eq!(batches.iter().map(|b| b.len()).sum::<usize>(), 3);
    let warning = batches.iter().flat_map(|b| &b.warnings).next().unwrap();
    assert!(warning.starts_with("slow: "), "{warning}");
}

#[test]
fn aborting_is_told_as_aborted() {
    let remote = wired(
        Arc::new(Labelled::new(
            Arc::new(Broken),
            Arc::new(Labels::default),
            RUNTIME.handle().clone(),
        )),
        ServeOptions::default(),
        false,
    );
    let mut scope = Scope::new(TimeRange::ALL, Budget::unlimited());
    scope.partial_response = PartialResponse::Abort;
    let view = remote.open(Arc::new(scope)).unwrap();
    let select = Select::new(vec![Matcher::equal("a", "b")], TimeRange::ALL);
    let e = suite::batches(view.select(select)).unwrap_err();
    assert_eq!(
        (e.kind, e.message.as_str()),
        (Kind::Unavailable, "the disk is gone")
    );
}

struct Broken;

impl Source for Broken {
    fn open(&self, _: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        Err(SourceError::new(Kind::Unavailable, "the disk is gone"))
    }

    fn extent(&self) -> Arc<Extent> {
        Arc::default()
    }
}

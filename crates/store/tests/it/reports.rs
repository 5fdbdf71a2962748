//! Reports of several processes over gRPC.

use std::sync::Arc;
use std::time::Duration;

use chunk::memory::MemorySource;
use model::report::{
    ActiveTarget, AlertState, ExemplarReport, ExemplarsBySeries, HeadReport, HeadStatistics,
    Health, LocalBlock, Metadata, MetadataReport, MetricType, Own, Reports, RuleGroupStatus,
    RuleHealth, RuleKind, RuleStatus, RulesReport, Targets, TargetsReport,
};
use model::scope::{Gather, PartialResponse};
use model::sink::Exemplar;
use model::{BoxFuture, Budget, Kind, Labels, Matcher, Scope, SeriesRef, Str, TimeRange};
use store::{
    EndpointSpec, Endpoints, EndpointsOptions, FanOut, FanOutOptions, Labelled, Serve, ServeOptions,
};
use wire::grpc::{Server, Settings};

use crate::kit::{RUNTIME, labels};

/// A process that knows one rule, one target, one metric and one exemplar.
struct Fake {
    state: AlertState,
    health: Health,
}

impl RulesReport for Fake {
    fn rule_groups(&self) -> Vec<RuleGroupStatus> {
        vec![RuleGroupStatus {
            name: "g".into(),
            file: "/rules.yml".into(),
            interval: 15_000,
            limit: 0,
            rules: vec![RuleStatus {
                name: "Down".into(),
                query: "up == 0".into(),
                labels: labels(&[("severity", "page")]),
                health: RuleHealth::Good,
                last_error: String::new(),
                evaluation_time: 0.1,
                last_evaluation: 1_700_000_000_000,
                kind: RuleKind::Alerting {
                    state: self.state,
                    hold: 60_000,
                    keep_firing_for: 0,
                    annotations: Labels::default(),
                    alerts: Vec::new(),
                },
            }],
            evaluation_time: 0.2,
            last_evaluation: 1_700_000_000_000,
            partial_response: PartialResponse::Abort,
        }]
    }
}

impl Targets for Fake {
    fn targets(&self) -> TargetsReport {
        TargetsReport {
            active: vec![ActiveTarget {
                discovered_labels: labels(&[("__address__", "x:1")]),
                labels: labels(&[("job", "x")]),
                scrape_pool: "x".into(),
                scrape_url: "http://x:1/metrics".into(),
                global_url: "http://x:1/metrics".into(),
                last_error: String::new(),
                last_scrape: 1_700_000_000_000,
                last_duration: 0.01,
                health: self.health,
                interval: 15_000,
                timeout: 10_000,
            }],
            ..TargetsReport::default()
        }
    }
}

impl MetadataReport for Fake {
    fn metadata(&self, metric: Option<&str>) -> Vec<(Str, Vec<Metadata>)> {
        let one = Metadata {
            kind: MetricType::Counter,
            help: "Requests.".into(),
            unit: "".into(),
        };
        let all = vec![("requests_total".into(), vec![one])];
        all.into_iter()
            .filter(|(name, _): &(Str, _)| metric.is_none_or(|m| m == &**name))
            .collect()
    }

    fn target_metadata(&self, _: &[Matcher], _: Option<&str>) -> Vec<(Labels, Str, Metadata)> {
        Vec::new()
    }
}

impl ExemplarReport for Fake {
    fn exemplars(
        &self,
        matchers: Vec<Vec<Matcher>>,
        _: TimeRange,
    ) -> BoxFuture<'static, ExemplarsBySeries> {
        let series = labels(&[("__name__", "requests_total")]);
        let matches = |list: &Vec<Matcher>| {
            let value = |m: &Matcher| series.get(&m.name).unwrap_or("").to_owned();
            list.iter().all(|m| m.matches(&value(m)))
        };
        let found = match matchers.iter().any(matches) {
            false => Vec::new(),
            true => vec![(
                series,
                vec![Exemplar {
                    series: SeriesRef {
                        id: 1,
                        generation: 0,
                    },
                    labels: labels(&[("trace", "abc")]),
                    value: 0.5,
                    ts: 1_700_000_000_000,
                    timed: true,
                }],
            )],
        };
        Box::pin(std::future::ready(found))
    }
}

impl HeadReport for Fake {
    fn head(&self, _: usize) -> HeadStatistics {
        HeadStatistics {
            series: 5,
            series_by_metric: vec![("up".into(), 5)],
            range: Some(TimeRange::new(10, 20)),
            ..HeadStatistics::default()
        }
    }

    fn local_blocks(&self) -> Vec<LocalBlock> {
        Vec::new()
    }
}

/// Serves a process with these external labels; gives its address.
fn served(external: &[(&str, &str)], state: AlertState, health: Health) -> String {
    let external = labels(external);
    let fake = Arc::new(Fake { state, health });
    let own: Arc<dyn Fn() -> Labels + Send + Sync> = Arc::new(move || external.clone());
    let reports = Own {
        rules: Some(Arc::clone(&fake) as _),
        targets: Some(Arc::clone(&fake) as _),
        metadata: Some(Arc::clone(&fake) as _),
        exemplars: Some(Arc::clone(&fake) as _),
        head: Some(fake),
        labels: Arc::clone(&own),
    };
    RUNTIME.block_on(async {
        let registry = metrics::Registry::new();
        let runtime = RUNTIME.handle().clone();
        // Without any data it would have no label set.
        let one = vec![model::Sample { ts: 15, value: 1.0 }];
        let source = Labelled::new(
            Arc::new(MemorySource::new(vec![(labels(&[("job", "x")]), one)])),
            own,
            runtime.clone(),
        );
        let options = ServeOptions {
            component: "sidecar".to_owned(),
            reports: Some(Arc::new(reports)),
            ..ServeOptions::default()
        };
        let serve = Serve::new(Arc::new(source), options, runtime, &registry).unwrap();
        let settings = Settings {
            listen: "127.0.0.1:0".to_owned(),
            ..Settings::default()
        };
        let server = Server::bind(settings, &registry).await.unwrap();
        let address = server.address().to_string();
        tokio::spawn(server.serve(serve.routes(), std::future::pending()));
        address
    })
}

fn fan_out(addresses: &[String], options: FanOutOptions) -> FanOut {
    let runtime = RUNTIME.handle().clone();
    let specs = addresses.iter().map(|address| EndpointSpec {
        address: address.clone(),
        ..EndpointSpec::default()
    });
    let registry = metrics::Registry::new();
    let known = EndpointsOptions {
        info_timeout: Duration::from_secs(2),
        ..EndpointsOptions::default()
    };
    let _entered = runtime.enter();
    let endpoints = Endpoints::new(specs.collect(), known, runtime.clone(), &registry).unwrap();
    RUNTIME.block_on(endpoints.update());
    FanOut::new(Arc::new(endpoints), options, runtime.clone())
}

fn scope(partial: PartialResponse) -> Arc<Scope> {
    let mut scope = Scope::new(TimeRange::ALL, Budget::unlimited());
    scope.partial_response = partial;
    Arc::new(scope.with_timeout(Duration::from_secs(10)))
}

fn replicas() -> FanOutOptions {
    FanOutOptions {
        replica_labels: vec!["replica".into()],
        tenant_label: None,
    }
}

#[test]
fn replicas_report_as_one() {
    let a = served(
        &[("cluster", "x"), ("replica", "a")],
        AlertState::Pending,
        Health::Up,
    );
    let b = served(
        &[("cluster", "x"), ("replica", "b")],
        AlertState::Firing,
        Health::Down,
    );
    let all = fan_out(&[a, b], replicas());
    let warn = || scope(PartialResponse::Warn);
    RUNTIME.block_on(async {
        let rules = all.rules(warn()).await.unwrap();
        assert_eq!(rules.warnings, [] as [Str; 0]);
        assert_eq!((rules.value.len(), rules.value[0].rules.len()), (1, 1));
        let rule = &rules.value[0].rules[0];
        assert_eq!(
            rule.labels,
            labels(&[("cluster", "x"), ("severity", "page")])
        );
        assert!(matches!(
            rule.kind,
            RuleKind::Alerting {
                state: AlertState::Firing,
                hold: 60_000,
                ..
            }
        ));

        let targets = all.targets(warn()).await.unwrap().value;
        assert_eq!(targets.active.len(), 1);
        assert_eq!(targets.active[0].health, Health::Down);
        assert_eq!(targets.active[0].labels.get("replica"), None);

        let metadata = all.metadata(None, usize::MAX, warn()).await.unwrap().value;
        assert_eq!((metadata.len(), metadata[0].1.len()), (1, 1));
        assert_eq!(metadata[0].1[0].kind, MetricType::Counter);
        let none = all
            .metadata(Some("absent".into()), usize::MAX, warn())
            .await;
        assert!(none.unwrap().value.is_empty());

        let of = |cluster: &str| {
            vec![vec![
                Matcher::equal("__name__", "requests_total"),
                Matcher::equal("cluster", cluster),
            ]]
        };
        let found = all
            .exemplars(of("x"), TimeRange::ALL, warn())
            .await
            .unwrap();
        assert_eq!(found.value.len(), 1, "{found:?}");
        assert_eq!(found.value[0].1.len(), 1);
        assert_eq!(found.value[0].0.get("cluster"), Some("x"));
        let none = all
            .exemplars(of("y"), TimeRange::ALL, warn())
            .await
            .unwrap();
        assert!(none.value.is_empty());

        let heads = all.statistics(10, Vec::new(), warn()).await.unwrap().value;
        assert_eq!(heads.len(), 1);
        assert_eq!(heads[0].1.series, 10, "databases add up");

        // Apart, if they are wanted so.
        let mut apart = Scope::new(TimeRange::ALL, Budget::unlimited());
        apart.gather = Gather {
            replica_labels: Some(Arc::from([])),
            ..Gather::default()
        };
        let rules = all.rules(Arc::new(apart)).await.unwrap();
        assert_eq!(rules.value.len(), 2);
    });
}

#[test]
fn what_one_cannot_report_is_said_or_fails() {
    let a = served(&[("replica", "a")], AlertState::Inactive, Health::Up);
    let b = served(&[("replica", "b")], AlertState::Inactive, Health::Up);
    let both = fan_out(&[a.clone(), b], replicas());
    // A hung process: it takes connections and says nothing. It was known before.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let all = fan_out(&[a, hung.local_addr().unwrap().to_string()], replicas());
    RUNTIME.block_on(async {
        let rules = both.rules(scope(PartialResponse::Abort)).await.unwrap();
        assert_eq!(rules.value.len(), 1);
        // It never said what it serves, so nothing of it is missed.
        let rules = all.rules(scope(PartialResponse::Abort)).await.unwrap();
        assert_eq!((rules.value.len(), rules.warnings.len()), (1, 0));
    });
}

#[test]
fn one_that_hangs_is_left_behind_at_the_deadline() {
    /// Rules that never come.
    struct Hung;
    impl Reports for Hung {
        fn served(&self) -> model::report::Served {
            model::report::Served {
                rules: true,
                ..Default::default()
            }
        }

        fn rules(&self, _: Arc<Scope>) -> model::report::Reported<Vec<RuleGroupStatus>> {
            Box::pin(std::future::pending())
        }
    }
    let hung = RUNTIME.block_on(async {
        let registry = metrics::Registry::new();
        let options = ServeOptions {
            reports: Some(Arc::new(Hung)),
            ..ServeOptions::default()
        };
        let source = Arc::new(MemorySource::new(Vec::new()));
        let serve = Serve::new(source, options, RUNTIME.handle().clone(), &registry).unwrap();
        let settings = Settings {
            listen: "127.0.0.1:0".to_owned(),
            ..Settings::default()
        };
        let server = Server::bind(settings, &registry).await.unwrap();
        let address = server.address().to_string();
        tokio::spawn(server.serve(serve.routes(), std::future::pending()));
        address
    });
    let live = served(&[("replica", "a")], AlertState::Firing, Health::Up);
    let all = fan_out(&[hung.clone(), live], replicas());
    let soon = |partial| {
        let mut scope = Scope::new(TimeRange::ALL, Budget::unlimited());
        scope.partial_response = partial;
        Arc::new(scope.with_timeout(Duration::from_millis(700)))
    };
    RUNTIME.block_on(async {
        let rules = all.rules(soon(PartialResponse::Warn)).await.unwrap();
        assert_eq!(rules.value.len(), 1);
        assert_eq!(rules.warnings.len(), 1);
        assert!(rules.warnings[0].contains(&hung), "{:?}", rules.warnings);
        let e = all.rules(soon(PartialResponse::Abort)).await.unwrap_err();
        assert_eq!(e.kind, Kind::Unavailable);
    });
}

#[test]
fn no_tenant_sees_what_another_one_reports() {
    let a = served(&[("tenant_id", "a")], AlertState::Firing, Health::Up);
    let b = served(&[("tenant_id", "b")], AlertState::Firing, Health::Up);
    let options = FanOutOptions {
        replica_labels: vec!["tenant_id".into()],
        tenant_label: Some("tenant_id".into()),
    };
    let all = fan_out(&[a, b], options);
    let of = |tenant: Option<&str>| {
        let mut scope = Scope::new(TimeRange::ALL, Budget::unlimited());
        scope.tenant = tenant.map(Str::from);
        // Replicas apart, so that labels are seen.
        scope.gather.replica_labels = Some(Arc::from([]));
        Arc::new(scope.with_timeout(Duration::from_secs(10)))
    };
    RUNTIME.block_on(async {
        let rules = all.rules(of(Some("a"))).await.unwrap().value;
        let shown: Vec<_> = rules.iter().flat_map(|g| &g.rules).collect();
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].labels.get("tenant_id"), Some("a"));
        let targets = all.targets(of(Some("b"))).await.unwrap().value;
        assert_eq!(targets.active.len(), 1);
        let crafted = vec![
            vec![Matcher::equal("tenant_id", "b")],
            vec![Matcher::equal("__name__", "requests_total")],
        ];
        let found = all.exemplars(crafted, TimeRange::ALL, of(Some("a"))).await;
        let found = found.unwrap().value;
        assert!(found.iter().all(|(l, _)| l.get("tenant_id") == Some("a")));
        assert_eq!(found.len(), 1);
        let heads = all.statistics(10, Vec::new(), of(Some("a"))).await.unwrap();
        assert_eq!(heads.value[0].1.series, 5, "those of one database");
        let none = all.rules(of(Some("c"))).await.unwrap().value;
        assert!(none.is_empty());
        assert_eq!(all.rules(of(None)).await.unwrap_err().kind, Kind::Invalid);
        let metadata = all.metadata(None, 9, of(Some("c"))).await.unwrap().value;
        assert!(metadata.is_empty());
    });
}

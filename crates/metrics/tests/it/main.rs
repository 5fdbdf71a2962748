//! What a scraper sees.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use metrics::{DEFAULT_BUCKETS, Desc, Error, Format, Kind, Registry, Value};

fn scrape(registry: &Registry, format: Format) -> String {
    let mut out = Vec::new();
    metrics::encode(&registry.gather(), format, &mut out);
    String::from_utf8(out).unwrap()
}

fn example() -> Registry {
    let r = Registry::new();
    let requests = r
        .counters("requests_total", "Requests \"seen\"\\\n.", ["code", "path"])
        .unwrap();
    requests.with(&["500", "/a\"b\\\n"]).add(3);
    requests.with(&["200", "/"]).inc();
    r.float_counter("odd_counter", "No suffix.")
        .unwrap()
        .add(0.25);
    r.gauge("temperature", "Below zero.").unwrap().set(-7);
    r.float_gauge("big", "Not whole.").unwrap().set(1.5e300);
    let h = r
        .histogram("latency_seconds", "Time.", &[0.1, 1.0, 1e6, 1e21])
        .unwrap();
    for v in [0.1, 0.5, 2.0, 1e30, f64::INFINITY] {
        h.observe(v);
    }
    let s = r
        .summaries("size_bytes", "Sizes.", ["kind"], &[0.5, 1.0])
        .unwrap();
    for v in 1..=100 {
        s.with(&["x"]).observe(f64::from(v));
    }
    r.callback(Kind::Unknown, "answer", "Computed.", || 42.0)
        .unwrap();
    r
}

#[test]
fn text_format() {
    let want = r##"# HELP answer Computed.
# TYPE answer untyped
answer 42
# HELP big Not whole.
# TYPE big gauge
big 1.5e+300
# HELP latency_seconds Time.
# TYPE latency_seconds histogram
latency_seconds_bucket{le="0.1"} 1
latency_seconds_bucket{le="1"} 2
latency_seconds_bucket{le="1e+06"} 3
latency_seconds_bucket{le="1e+21"} 3
latency_seconds_bucket{le="+Inf"} 5
latency_seconds_sum +Inf
latency_seconds_count 5
# HELP odd_counter No suffix.
# TYPE odd_counter counter
odd_counter 0.25
# HELP requests_total Requests "seen"\\\n.
# TYPE requests_total counter
requests_total{code="200",path="/"} 1
requests_total{code="500",path="/a\"b\\\n"} 3
# HELP size_bytes Sizes.
# TYPE size_bytes summary
size_bytes{kind="x",quantile="0.5"} 50
size_bytes{kind="x",quantile="1"} 100
size_bytes_sum{kind="x"} 5050
size_bytes_count{kind="x"} 100
# HELP temperature Below zero.
# TYPE temperature gauge
temperature -7
"##;
    assert_eq!(scrape(&example(), Format::Text), want);
}

#[test]
fn openmetrics() {
    let text = scrape(&example(), Format::OpenMetrics);
    for line in [
        "# HELP requests Requests \\\"seen\\\"\\\\\\n.",
        "# TYPE requests counter",
        "requests_total{code=\"200\",path=\"/\"} 1",
        "# TYPE odd_counter unknown",
        "odd_counter 0.25",
        "# TYPE answer unknown",
        "latency_seconds_bucket{le=\"1.0\"} 2",
        "latency_seconds_bucket{le=\"1e+06\"} 3",
        "size_bytes{kind=\"x\",quantile=\"1.0\"} 100",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.ends_with("\n# EOF\n"));
    assert_eq!(scrape(&Registry::new(), Format::OpenMetrics), "# EOF\n");
    assert_eq!(scrape(&Registry::new(), Format::Text), "");
}

#[test]
fn the_same_registration_is_the_same_family() {
    let r = Registry::new();
    r.counters("a_total", "A.", ["x"])
        .unwrap()
        .with(&["1"])
        .inc();
    r.counters("a_total", "A.", ["x"])
        .unwrap()
        .with(&["1"])
        .inc();
    assert_eq!(
        r.counters("a_total", "A.", ["x"])
            .unwrap()
            .with(&["1"])
            .get(),
        2
    );
    let conflict = Err(Error::Conflict("a_total".into()));
    assert_eq!(r.counters("a_total", "B.", ["x"]).map(|_| ()), conflict);
    assert_eq!(r.counters("a_total", "A.", ["y"]).map(|_| ()), conflict);
    assert_eq!(
        r.counters("a_total", "A.", ["x", "y"]).map(|_| ()),
        conflict
    );
    assert_eq!(r.gauges("a_total", "A.", ["x"]).map(|_| ()), conflict);
    assert_eq!(r.callback(Kind::Counter, "a_total", "A.", || 1.0), conflict);

    r.histogram("h", "H.", &DEFAULT_BUCKETS).unwrap();
    r.histogram("h", "H.", &DEFAULT_BUCKETS).unwrap();
    assert!(r.histogram("h", "H.", &[1.0]).is_err());

    r.callback(Kind::Gauge, "c", "C.", || 1.0).unwrap();
    assert!(r.callback(Kind::Gauge, "c", "C.", || 1.0).is_err());
    assert!(r.remove("c"));
    assert!(!r.remove("c"));
    r.callback(Kind::Gauge, "c", "C.", || 2.0).unwrap();
    assert!(scrape(&r, Format::Text).contains("\nc 2\n"));
}

#[test]
fn wrong_names_are_refused() {
    let r = Registry::new();
    for name in ["", "1a", "a-b", "a.b", "é"] {
        assert_eq!(
            r.gauge(name, "").map(|_| ()),
            Err(Error::InvalidName(name.into()))
        );
    }
    for label in ["", "1a", "a:b", "__x"] {
        assert!(r.gauges("g", "", [label]).is_err(), "{label}");
    }
    assert!(r.gauges("g", "", ["a", "a"]).is_err());
    assert!(r.histograms("h", "", ["le"], &[1.0]).is_err());
    assert!(r.summaries("s", "", ["quantile"], &[]).is_err());
    assert!(r.histogram("h", "", &[2.0, 1.0]).is_err());
    assert!(r.histogram("h", "", &[f64::INFINITY]).is_err());
    assert!(r.summary("s", "", &[1.5]).is_err());
    assert!(r.gather().is_empty());
}

#[test]
fn members_come_and_go() {
    let r = Registry::new();
    let g = r.gauges("g", "G.", ["job"]).unwrap();
    for job in ["b", "a", "c"] {
        g.with(&[job]).set(1);
    }
    g.remove(&["b"]);
    g.remove(&["nobody"]);
    g.retain(|[job]| &**job != "c");
    assert_eq!(
        scrape(&r, Format::Text),
        "# HELP g G.\n# TYPE g gauge\ng{job=\"a\"} 1\n"
    );
    g.clear();
    assert_eq!(scrape(&r, Format::Text), "");
}

#[test]
fn guards_and_timers() {
    let r = Registry::new();
    let g = r.gauge("g", "").unwrap();
    let guard = g.in_flight();
    assert_eq!(g.get(), 1);
    drop(guard);
    assert_eq!(g.get(), 0);
    let h = r.histogram("h", "", &[1000.0]).unwrap();
    drop(h.start_timer());
    h.observe(f64::NAN);
    h.observe_duration(Duration::from_secs(2000));
    match &r.gather()[1].metrics[0].value {
        Value::Histogram { buckets, count, .. } => {
            assert_eq!((buckets[0].1, buckets[1].1, *count), (1, 3, 3));
        }
        other => panic!("{other:?}"),
    }
    let c = r.float_counter("c_total", "").unwrap();
    c.add(-1.0);
    c.add(f64::NAN);
    assert_eq!(c.get(), 0.0);
}

#[test]
fn collectors_may_give_several_families() {
    struct Two;
    impl metrics::Collector for Two {
        fn describe(&self) -> Vec<Desc> {
            vec![
                Desc::new(Kind::Gauge, "z", "Z.", &[]),
                Desc::new(Kind::Counter, "b_total", "B.", &["x"]),
                Desc::new(Kind::Gauge, "never", "N.", &[]),
            ]
        }
        fn collect(&self, samples: &mut metrics::Samples) {
            samples.push(0, &[], 1.0);
            samples.push(1, &["one", "too many"], 2.0);
            samples.push(1, &[], 3.0);
            samples.push(9, &[], 4.0);
        }
    }
    let r = Registry::new();
    r.collector(Two).unwrap();
    assert!(r.gauge("z", "Z.").is_err());
    let names: Vec<_> = r.gather().iter().map(|f| f.desc.name.to_string()).collect();
    assert_eq!(names, ["b_total", "z"]);
    assert!(scrape(&r, Format::Text).contains("b_total{x=\"one\"} 2\nb_total{x=\"\"} 3\n"));
    assert!(r.remove("never"));
    assert!(r.gather().is_empty());
}

#[test]
fn threads_lose_nothing() {
    let r = Registry::new();
    let family = r.counters("c_total", "", ["n"]).unwrap();
    let sum = r.float_counter("s_total", "").unwrap();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for i in 0..2000 {
                    family.with(&[["a", "b", "c"][i % 3]]).inc();
                    sum.add(0.5);
                }
            });
        }
    });
    let total: u64 = ["a", "b", "c"]
        .iter()
        .map(|n| family.with(&[n]).get())
        .sum();
    assert_eq!((total, sum.get()), (8000, 4000.0));
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_knows_itself() {
    let r = Registry::new();
    metrics::process(&r).unwrap();
    metrics::build_info(&r, "epimetheus", "0.1.0", "abc", "main", "1.95.0").unwrap();
    let text = scrape(&r, Format::Text);
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    ] {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(&format!("{name} ")))
            .expect(name);
        assert!(line.parse::<f64>().unwrap() >= 0.0, "{name} {line}");
    }
    assert!(text.contains(
        "epimetheus_build_info{version=\"0.1.0\",revision=\"abc\",branch=\"main\",rustversion=\"1.95.0\"} 1\n"
    ));
}

#[test]
fn negotiation() {
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                      application/openmetrics-text;version=0.0.1;q=0.5,\
                      text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                      text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for (accept, want) in [
        (prometheus, Format::OpenMetrics),
        ("", Format::Text),
        ("*/*", Format::Text),
        (
            "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
            Format::Text,
        ),
        ("application/openmetrics-text", Format::OpenMetricsOld),
        ("application/openmetrics-text;version=2.0.0", Format::Text),
        (
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5",
            Format::OpenMetricsOld,
        ),
        (
            "text/plain;q=0.5,application/openmetrics-text;version=\"1.0.0\";q=0.6",
            Format::OpenMetrics,
        ),
        (
            "text/plain;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5",
            Format::Text,
        ),
        (
            "application/openmetrics-text;version=1.0.0;q=0",
            Format::Text,
        ),
        (
            "application/openmetrics-text;version=1.0.0;q=nonsense",
            Format::Text,
        ),
        (";;;,,=", Format::Text),
    ] {
        assert_eq!(Format::negotiate(accept), want, "{accept}");
    }
    assert!(Format::OpenMetrics.content_type().contains("version=1.0.0"));
}

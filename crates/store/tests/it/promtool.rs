//! Blocks that real Prometheus wrote, shipped and answered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bucket::{Shipper, ShipperOptions};
use chunk::suite;
use model::{Labels, Matcher, Sample, Scope, Select, Source, TimeRange};
use store::{ExternalLabels, GatewayOptions};

use crate::kit::{Place, RUNTIME, labels};

const START: i64 = 1_700_000_000;

fn openmetrics(path: &Path) -> BTreeMap<Labels, Vec<Sample>> {
    let mut text = String::new();
    let mut want: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
    for metric in ["first_metric", "second_metric"] {
        let _ = writeln!(text, "# TYPE {metric} gauge");
        for i in 0..40 {
            for k in 0..400i64 {
                let value = ((k * 37 + i * 11) % 101) as f64 / 8.0;
                let ts = START + k * 30 + i;
                let _ = writeln!(
                    text,
                    r#"{metric}{{instance="host-{i}",zone="z\"{}"}} {value} {ts}"#,
                    i % 3
                );
                let labels = Labels::from_pairs([
                    ("__name__", metric.to_owned()),
                    ("instance", format!("host-{i}")),
                    ("zone", format!("z\"{}", i % 3)),
                ]);
                let samples = want.entry(labels).or_default();
                samples.push(Sample {
                    ts: ts * 1000,
                    value,
                });
            }
        }
    }
    text.push_str("# EOF\n");
    std::fs::write(path, text).unwrap();
    want
}

#[test]
fn a_block_of_prometheus_is_answered_with_equal_samples() {
    let dir = tempfile::tempdir().unwrap();
    let (input, data) = (dir.path().join("input.txt"), dir.path().join("data"));
    let want = openmetrics(&input);
    let made = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([&input, &data])
        .output();
    let made = match made {
        Ok(made) => made,
        Err(e) => {
            println!("SKIPPED: promtool cannot be run: {e}");
            return;
        }
    };
    assert!(made.status.success(), "{made:?}");
    let place = Place::s3();
    let external = labels(&[("cluster", "test")]);
    let options = ShipperOptions::new(&data, external.clone());
    let shipper = Shipper::new(place.bucket(), options, &metrics::Registry::new()).unwrap();
    let report = RUNTIME.block_on(shipper.sync()).unwrap();
    assert!(report.uploaded.len() >= 2, "{report:?}");
    assert!(report.failed.is_empty(), "{report:?}");

    let gateway = place.gateway(GatewayOptions {
        labels: ExternalLabels::own(external.clone()),
        ..GatewayOptions::default()
    });
    check(&gateway, &want, |labels| labels.clone());
    let overlaid = place.gateway(GatewayOptions::default());
    check(&overlaid, &want, |labels| labels.overlay(&external));
}

fn check(
    source: &dyn Source,
    want: &BTreeMap<Labels, Vec<Sample>>,
    shown: impl Fn(&Labels) -> Labels,
) {
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = source.open(Arc::clone(&scope)).unwrap();
    let collect = |matchers, range| {
        let rows = view.select(Select::new(matchers, range));
        suite::collect(rows, &scope, range).unwrap()
    };
    let all = collect(vec![Matcher::equal("absent", "")], TimeRange::ALL);
    assert_eq!(all.len(), want.len());
    for (labels, samples) in want {
        assert!(
            suite::same_samples(&all[&shown(labels)], samples),
            "{labels}"
        );
    }
    let middle = TimeRange::new((START + 2000) * 1000, (START + 9000) * 1000);
    let some = collect(vec![Matcher::equal("zone", "z\"1")], middle);
    assert_eq!(some.len(), 2 * 13);
    for (labels, samples) in want.iter().filter(|(l, _)| l.get("zone") == Some("z\"1")) {
        let inside: Vec<Sample> = samples
            .iter()
            .filter(|s| middle.contains(s.ts))
            .copied()
            .collect();
        assert!(
            suite::same_samples(&some[&shown(labels)], &inside),
            "{labels}"
        );
    }
}

/// The fixture that stands beside the repository: special floats, UTF-8, gaps.
#[test]
fn a_fixture_of_prometheus_is_answered_as_promtool_dumps_it() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let data = std::env::var("EPIMETHEUS_DATA").unwrap_or_else(|_| beside.to_owned());
    let fixture = Path::new(&data).join("tsdb/generated_by_2.42");
    let block = fixture.join("block_floats/01M83373T6A2J79QZ1V7RA5WS6");
    let Ok(dump) = std::fs::read_to_string(fixture.join("expected/block_floats.dump.txt")) else {
        println!("SKIPPED: no fixtures in {data}");
        return;
    };
    let place = Place::s3();
    place.copy(&block, "01M83373T6A2J79QZ1V7RA5WS6".parse().unwrap());
    let gateway = place.gateway(GatewayOptions::default());
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = gateway.open(Arc::clone(&scope)).unwrap();
    let rows = view.select(Select::new(Vec::new(), TimeRange::ALL));
    let all = suite::collect(rows, &scope, TimeRange::ALL).unwrap();
    let samples: usize = all.values().map(Vec::len).sum();
    let lines: Vec<&str> = dump.lines().filter(|l| !l.is_empty()).collect();
    assert_eq!((all.len(), samples), (8, lines.len()));
    // Each line ends with value and timestamp; the multiset of these is compared, whatever way
    // the labels are quoted.
    let mut want: Vec<(i64, u64)> = lines
        .iter()
        .map(|line| {
            let mut words = line.rsplitn(3, ' ');
            let ts: i64 = words.next().unwrap().parse().unwrap();
            let value: f64 = words.next().unwrap().parse().unwrap();
            (ts, if value.is_nan() { 0 } else { value.to_bits() })
        })
        .collect();
    let mut got: Vec<(i64, u64)> = all
        .values()
        .flatten()
        .map(|s| {
            (
                s.ts,
                if s.value.is_nan() {
                    0
                } else {
                    s.value.to_bits()
                },
            )
        })
        .collect();
    want.sort_unstable();
    got.sort_unstable();
    assert_eq!(got, want);
}

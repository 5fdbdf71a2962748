//! Data folders handed to and taken from a real Prometheus.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::{Labels, Sample};
use tsdb::{Db, Options};

use crate::prometheus::{Prometheus, binaries};
use crate::{Series, all};

fn begin(binary: &str, data: &Path, scrape: bool) -> Prometheus {
    let config = |port| match scrape {
        true => format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs: [{{job_name: self, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
        ),
        false => "global: {}\n".to_owned(),
    };
    Prometheus::start(binary, data, config, &[])
}

pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
}

/// The samples up to `end`, without stale markers.
pub(crate) fn until(series: &Series, end: i64) -> Series {
    series
        .iter()
        .map(|(l, s)| {
            let s = s
                .iter()
                .filter(|s| s.ts <= end && !model::is_stale(s.value));
            (l.clone(), s.copied().collect::<Vec<_>>())
        })
        .filter(|(_, s)| !s.is_empty())
        .collect()
}

pub(crate) fn same(a: &Series, b: &Series) {
    let names = |s: &Series| s.keys().map(Labels::to_string).collect::<Vec<_>>();
    assert_eq!(names(a), names(b));
    for (labels, samples) in a {
        let equal = |x: &Sample, y: &Sample| {
            x.ts == y.ts && (x.value == y.value || (x.value.is_nan() && y.value.is_nan()))
        };
        let other = &b[labels];
        assert!(
            samples.len() == other.len() && samples.iter().zip(other).all(|(x, y)| equal(x, y)),
            "{labels}:\n{samples:?}\n{other:?}"
        );
    }
}

#[test]
fn a_folder_that_prometheus_left_is_taken_over_and_given_back() {
    for binary in binaries() {
        take_over_and_give_back(&binary);
    }
}

fn take_over_and_give_back(binary: &str) {
    for signal in ["-TERM", "-KILL"] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let theirs = begin(binary, &data, true);
        // Its discovery takes five seconds to begin.
        let deadline = Instant::now() + Duration::from_secs(60);
        let (end, want) = loop {
            std::thread::sleep(Duration::from_millis(500));
            let end = now() - 300;
            let want = theirs.all(end);
            if want.len() > 100 && want.values().any(|s| s.len() > 8) {
                break (end, want);
            }
            assert!(
                Instant::now() < deadline,
                "prometheus does not scrape itself"
            );
        };
        theirs.signal(signal);

        let db = Db::open(&data, Options::quiet()).unwrap();
        assert!(
            db.replayed().damaged.is_empty(),
            "{:?}",
            db.replayed().damaged
        );
        let ours = all(&db);
        same(&until(&ours, end), &want);
        // We go on where it ended: the same series, and new ones.
        let later = now() + 1000;
        let mut rows: Vec<_> = ours
            .keys()
            .take(50)
            .map(|l| (l.clone(), later, 42.5))
            .collect();
        rows.extend((0..30).map(|i| {
            (
                Labels::from_pairs([("__name__", "ours".to_owned()), ("i", i.to_string())]),
                later,
                1.0,
            )
        }));
        assert!(db.append_samples(&rows).unwrap().rejected.is_empty());
        let ours = all(&db);
        drop(db);

        let theirs = begin(binary, &data, false);
        same(&theirs.all(later + 1000), &until(&ours, later));
        theirs.signal("-TERM");
        let db = Db::open(&data, Options::quiet()).unwrap();
        same(&all(&db), &ours);
    }
}

#[test]
fn a_folder_that_we_left_opens_in_prometheus() {
    for binary in binaries() {
        leave_to(&binary);
    }
}

fn leave_to(binary: &str) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let options = Options {
        max_block: Some(6 * 3_600_000),
        ..Options::quiet()
    };
    let db = Db::open(&data, options.clone()).unwrap();
    let start = (now() / 7_200_000 - 7) * 7_200_000;
    let values = [
        0.0,
        -0.0,
        1.5,
        f64::INFINITY,
        f64::NAN,
        f64::MIN_POSITIVE,
        1e300,
        -7.0,
    ];
    let mut rounds = Vec::new();
    for k in 0.. {
        let ts = start + k * 15_000;
        if ts > now() {
            break;
        }
        let rows: Vec<_> = (0..30)
            .filter(|i| i % 7 != 3 || (k / 100) % 2 == 0)
            .map(|i| {
                let labels = Labels::from_pairs([
                    ("__name__", format!("m_{}", i % 3)),
                    ("i", i.to_string()),
                    ("text", "ä \"q\" \\ \n 日本".to_owned()),
                ]);
                let value = match i {
                    0..8 => values[(k as usize + i) % values.len()],
                    8..16 => k as f64,
                    _ => (k * k * i as i64 % 1009) as f64 / 8.0,
                };
                (labels, ts + i as i64 % 5, value)
            })
            .collect();
        let took = db.append_samples(&rows).unwrap();
        assert!(took.rejected.is_empty(), "{:?}", took.rejected);
        if k % 240 == 0 {
            rounds.push(db.maintain().unwrap());
        }
    }
    rounds.push(db.maintain().unwrap());
    assert!(rounds.iter().map(|r| r.cut.len()).sum::<usize>() >= 5);
    assert!(rounds.iter().map(|r| r.merged.len()).sum::<usize>() >= 1);
    let ours = all(&db);
    drop(db);

    let theirs = begin(binary, &data, false);
    let end = now() + 60_000;
    same(&theirs.all(end), &until(&ours, end));
    theirs.signal("-KILL");
    // And back, whatever it did to the folder meanwhile.
    let db = Db::open(&data, options).unwrap();
    same(&all(&db), &ours);
}

use std::collections::BTreeMap;

use futures::executor::block_on;
use model::{
    Appended, Batch, Labels, Reject, STALE_NAN, Sample, SeriesRef, SeriesRows, Sink, SinkError,
};

use super::same_samples;

/// When the checks' samples begin: any time will do, as long as it is later than the sink's own
/// beginning.
const START: i64 = 1_700_000_000_000;

/// Checks that what `make` builds takes samples as a `model::Sink` must. `read` gives all samples
/// that a sink holds. `name` is put before every failure.
pub fn sink<S: Sink>(
    name: &str,
    make: impl Fn() -> S,
    read: impl Fn(&S) -> BTreeMap<Labels, Vec<Sample>>,
) {
    let case = Case { name, make, read };
    case.references();
    case.samples();
    case.rejections();
    case.atomic();
    case.stale();
    case.lengths();
    case.empty();
}

struct Case<'a, M, R> {
    name: &'a str,
    make: M,
    read: R,
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

fn batch(rows: &[(SeriesRef, i64, f64)]) -> Batch {
    let mut batch = Batch::default();
    for &(r, t, v) in rows {
        batch.push(r, START + t, v);
    }
    batch
}

impl<S, M, R> Case<'_, M, R>
where
    S: Sink,
    M: Fn() -> S,
    R: Fn(&S) -> BTreeMap<Labels, Vec<Sample>>,
{
    fn resolve(&self, sink: &S, labels: Vec<Labels>) -> Vec<SeriesRef> {
        let n = labels.len();
        let refs = block_on(sink.resolve(SeriesRows { labels }))
            .unwrap_or_else(|e| panic!("{}: resolve: {e}", self.name));
        assert_eq!(refs.len(), n, "{}: one reference a row", self.name);
        refs
    }

    fn append(&self, sink: &S, batch: Batch) -> Appended {
        let appended =
            block_on(sink.append(batch)).unwrap_or_else(|e| panic!("{}: append: {e}", self.name));
        let given_back = &appended.batch;
        assert!(
            given_back.is_empty() && given_back.ts.is_empty() && given_back.values.is_empty(),
            "{}: the batch comes back empty",
            self.name
        );
        appended
    }

    fn holds(&self, sink: &S, want: &[(Labels, Vec<(i64, f64)>)]) {
        let held = (self.read)(sink);
        let held: BTreeMap<_, _> = held.into_iter().filter(|(_, s)| !s.is_empty()).collect();
        assert_eq!(held.len(), want.len(), "{}: {held:?}", self.name);
        for (labels, samples) in want {
            let samples: Vec<Sample> = samples
                .iter()
                .map(|&(t, value)| Sample {
                    ts: START + t,
                    value,
                })
                .collect();
            let held = held.get(labels).map(Vec::as_slice).unwrap_or_default();
            assert!(
                same_samples(held, &samples),
                "{}: {labels}: {held:?}, expected {samples:?}",
                self.name
            );
        }
    }

    fn references(&self) {
        let sink = (self.make)();
        let refs = self.resolve(&sink, vec![labels(0), labels(1), labels(0)]);
        assert_eq!(
            refs[0], refs[2],
            "{}: equal labels, equal reference",
            self.name
        );
        assert_ne!(refs[0], refs[1], "{}", self.name);
        let again = self.resolve(&sink, vec![labels(2), labels(1)]);
        assert_eq!(again[1], refs[1], "{}: references stay", self.name);
        self.holds(&sink, &[]);
    }

    fn samples(&self) {
        let sink = (self.make)();
        let r = self.resolve(&sink, vec![labels(0), labels(1)]);
        let took = self.append(
            &sink,
            batch(&[(r[0], 0, 1.0), (r[1], 0, -0.0), (r[0], 10, f64::INFINITY)]),
        );
        assert_eq!((took.samples, took.rejected.len()), (3, 0), "{}", self.name);
        let mut next = took.batch;
        next.push(r[1], START + 20, STALE_NAN);
        assert_eq!(self.append(&sink, next).samples, 1, "{}", self.name);
        self.holds(
            &sink,
            &[
                (labels(0), vec![(0, 1.0), (10, f64::INFINITY)]),
                (labels(1), vec![(0, -0.0), (20, STALE_NAN)]),
            ],
        );
    }

    fn rejections(&self) {
        let sink = (self.make)();
        let r = self.resolve(&sink, vec![labels(0), labels(1)]);
        self.append(&sink, batch(&[(r[0], 100, 1.0)]));
        // The very same sample again is fine; another value for its time is not.
        let again = self.append(&sink, batch(&[(r[0], 100, 1.0)]));
        assert!(
            again.rejected.is_empty(),
            "{}: {:?}",
            self.name,
            again.rejected
        );
        let took = self.append(
            &sink,
            batch(&[(r[1], 90, 5.0), (r[0], 100, 2.0), (r[0], 110, 3.0)]),
        );
        assert_eq!(took.samples, 2, "{}: the others are taken", self.name);
        assert_eq!(took.rejected.len(), 1, "{}", self.name);
        assert_eq!(took.rejected[0].row, 1, "{}", self.name);
        assert_eq!(took.rejected[0].reason, Reject::Duplicate, "{}", self.name);
        self.holds(
            &sink,
            &[
                (labels(0), vec![(100, 1.0), (110, 3.0)]),
                (labels(1), vec![(90, 5.0)]),
            ],
        );
    }

    fn atomic(&self) {
        let sink = (self.make)();
        let r = self.resolve(&sink, vec![labels(0), labels(1)]);
        self.append(&sink, batch(&[(r[0], 100, 1.0)]));
        let mut bad = batch(&[(r[1], 100, 5.0), (r[0], 100, 2.0)]);
        bad.atomic = true;
        match block_on(sink.append(bad)) {
            Err(SinkError::Rejected(rejected)) => assert_eq!(rejected.row, 1, "{}", self.name),
            other => panic!("{}: an atomic batch with a bad row: {other:?}", self.name),
        }
        self.holds(&sink, &[(labels(0), vec![(100, 1.0)])]);
        let mut good = batch(&[(r[1], 100, 5.0), (r[0], 200, 2.0)]);
        good.atomic = true;
        assert_eq!(self.append(&sink, good).samples, 2, "{}", self.name);
    }

    fn stale(&self) {
        let sink = (self.make)();
        let r = self.resolve(&sink, vec![labels(0)]);
        let old = SeriesRef {
            generation: r[0].generation.wrapping_sub(1),
            ..r[0]
        };
        let unknown = SeriesRef {
            id: u64::MAX - 7,
            ..r[0]
        };
        let rows = batch(&[(old, 0, 1.0), (r[0], 0, 2.0), (unknown, 0, 3.0)]);
        match block_on(sink.append(rows)) {
            Err(SinkError::Stale(rows)) => assert_eq!(rows, [0, 2], "{}", self.name),
            other => panic!("{}: expired references: {other:?}", self.name),
        }
        self.holds(&sink, &[]);
    }

    fn lengths(&self) {
        let sink = (self.make)();
        let r = self.resolve(&sink, vec![labels(0)]);
        let mut crooked = batch(&[(r[0], 0, 1.0)]);
        crooked.values.clear();
        assert!(
            matches!(
                block_on(sink.append(crooked)),
                Err(SinkError::Failed { .. })
            ),
            "{}: columns of different lengths",
            self.name
        );
        self.holds(&sink, &[]);
    }

    fn empty(&self) {
        let sink = (self.make)();
        assert!(self.resolve(&sink, vec![]).is_empty(), "{}", self.name);
        let took = self.append(&sink, Batch::default());
        assert_eq!((took.samples, took.rejected.len()), (0, 0), "{}", self.name);
    }
}

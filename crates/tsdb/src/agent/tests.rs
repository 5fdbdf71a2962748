use std::sync::atomic::{AtomicU64, Ordering};

use model::histogram::{Histogram, IntHistogram};
use model::sink::{Exemplar, HistogramSample};
use model::{Kind, Reject, STALE_NAN};

use super::*;
use crate::wal::record::{self, RecordKind};
use crate::wal::{SegmentReader, checkpoint, segments};

fn set(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("i", &i.to_string())])
}

fn options() -> AgentOptions {
    AgentOptions {
        truncate_every: None,
        ..AgentOptions::default()
    }
}

fn append(agent: &Agent, series: &[usize], ts: Millis) -> Appended {
    let labels: Vec<Labels> = series.iter().map(|i| set(*i)).collect();
    let refs = agent.resolve_now(&labels).unwrap();
    let mut batch = Batch::default();
    for r in refs {
        batch.push(r, ts, ts as f64);
    }
    agent.append_now(batch).unwrap()
}

/// Series and samples of every segment, those of checkpoints apart.
fn logged(dir: &Path) -> (usize, Vec<(u64, i64)>) {
    let (mut series, mut samples) = (0, Vec::new());
    for (_, path) in segments(&dir.join("wal")).unwrap() {
        let mut reader = SegmentReader::open(&path).unwrap();
        while let Ok(Some(bytes)) = reader.read() {
            match record::kind(bytes) {
                RecordKind::Series => record::read_series(bytes, |_, _| series += 1).unwrap(),
                RecordKind::Samples => {
                    record::read_samples(bytes, |s, t, _| samples.push((s, t))).unwrap();
                }
                _ => {}
            }
        }
    }
    (series, samples)
}

#[test]
fn samples_stand_in_the_log_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::open(dir.path(), options()).unwrap();
    assert_eq!(append(&agent, &[1, 2, 1], 1_000).rejected.len(), 1);
    assert_eq!(append(&agent, &[1, 3], 2_000).samples, 2);
    // Not newer: as an agent of Prometheus has it, even the same again.
    let again = append(&agent, &[1], 2_000);
    assert_eq!(again.rejected[0].reason, Reject::OutOfOrder);
    agent.set_out_of_order_window(1_500);
    assert_eq!(append(&agent, &[1], 1_500).samples, 1);
    assert_eq!(append(&agent, &[1], 500).samples, 0);
    drop(agent);
    let (series, samples) = logged(dir.path());
    assert_eq!(series, 3);
    assert_eq!(
        samples,
        [(1, 1_000), (2, 1_000), (1, 2_000), (3, 2_000), (1, 1_500)]
    );
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");

    // Opened again it knows its series, and how far each is.
    let agent = Agent::open(dir.path(), options()).unwrap();
    assert_eq!(agent.replayed().series, 3);
    assert_eq!(append(&agent, &[3], 2_000).samples, 0);
    assert_eq!(append(&agent, &[3, 4], 2_001).samples, 2);
    assert_eq!(agent.inner.options.stats.series.get(), 4);
    drop(agent);
    let (_, samples) = logged(dir.path());
    assert_eq!(samples.last(), Some(&(4, 2_001)));
}

#[test]
fn an_atomic_batch_is_taken_whole_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::open(dir.path(), options()).unwrap();
    append(&agent, &[1], 1_000);
    let refs = agent.resolve_now(&[set(2), set(1)]).unwrap();
    let mut batch = Batch {
        atomic: true,
        ..Batch::default()
    };
    batch.push(refs[0], 5_000, 1.0);
    batch.push(refs[1], 1_000, 1.0);
    let error = agent.append_now(batch).unwrap_err();
    assert!(
        matches!(error, SinkError::Rejected(r) if r.row == 1),
        "{error}"
    );
    // The first row left no trace.
    assert_eq!(append(&agent, &[2], 4_000).samples, 1);
    let mut unknown = Batch::default();
    unknown.push(series::reference(99), 1, 1.0);
    let error = agent.append_now(unknown).unwrap_err();
    assert!(matches!(error, SinkError::Stale(rows) if rows == [0]));
    agent.close().unwrap();
    let error = agent.resolve_now(&[set(3)]).unwrap_err();
    assert!(matches!(
        error,
        SinkError::Failed {
            kind: Kind::Unavailable,
            ..
        }
    ));
}

#[test]
fn histograms_exemplars_and_starts_are_logged() {
    let dir = tempfile::tempdir().unwrap();
    let with_zeros = AgentOptions {
        starts: Starts::Zeros,
        ..options()
    };
    let agent = Agent::open(dir.path(), with_zeros).unwrap();
    let refs = agent.resolve_now(&[set(1), set(2)]).unwrap();
    let exemplar = |ts| Exemplar {
        series: refs[0],
        labels: Labels::from_pairs([("trace", "t")]),
        value: 1.0,
        ts,
        timed: false,
    };
    let batch = |ts| {
        let mut batch = Batch::default();
        batch.push(refs[0], ts, STALE_NAN);
        batch.starts.push(900);
        batch.histograms.push(HistogramSample {
            series: refs[1],
            ts,
            start: 0,
            value: Histogram::Int(IntHistogram::default()),
        });
        batch.exemplars.push(exemplar(ts));
        batch
    };
    for ts in [1_000, 2_000] {
        let appended = agent.append_now(batch(ts)).unwrap();
        assert_eq!((appended.samples, appended.histograms), (1, 1));
    }
    drop(agent);
    let (mut histograms, mut exemplars) = (0, 0);
    for (_, path) in segments(&dir.path().join("wal")).unwrap() {
        let mut reader = SegmentReader::open(&path).unwrap();
        while let Ok(Some(bytes)) = reader.read() {
            match record::kind(bytes) {
                RecordKind::Histograms => {
                    record::read_histograms(bytes, |_, _, _, _| histograms += 1).unwrap();
                }
                RecordKind::Exemplars => {
                    record::read_exemplars(bytes, |_, _, _, _| exemplars += 1).unwrap();
                }
                _ => {}
            }
        }
    }
    // The same exemplar is shown by each scrape.
    assert_eq!((histograms, exemplars), (2, 1));
    // Where the counter began there is a zero, once.
    let (_, samples) = logged(dir.path());
    assert_eq!(samples, [(1, 900), (1, 1_000), (1, 2_000)]);
}

struct At {
    segment: AtomicU64,
    sent: Millis,
}

impl Readers for At {
    fn segment(&self) -> Option<u64> {
        Some(self.segment.load(Ordering::Relaxed))
    }
    fn sent(&self) -> Option<Millis> {
        Some(self.sent)
    }
}

#[test]
fn truncation_leaves_what_is_not_sent_and_forgets_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let now = WallClock.now();
    let agent = Agent::open(dir.path(), options()).unwrap();
    let at = Arc::new(At {
        segment: AtomicU64::new(0),
        sent: now,
    });
    agent.set_readers(Arc::clone(&at) as Arc<dyn Readers>);
    // Long silent, and just here.
    append(&agent, &[1], now - 3_600_000);
    for step in 0..9 {
        append(&agent, &[2, 3], now + step);
        agent.inner.wal.rotate().unwrap();
    }
    let wal = dir.path().join("wal");
    let count = || segments(&wal).unwrap().len();
    let before = count();
    // Nothing was read yet: nothing goes, but the series that is silent is forgotten.
    agent.truncate().unwrap();
    assert_eq!(count(), before + 1);
    assert_eq!(agent.inner.options.stats.series.get(), 2);
    assert_eq!(agent.inner.options.stats.unsent.get(), 0);
    // All was read.
    at.segment.store(100, Ordering::Relaxed);
    agent.truncate().unwrap();
    assert!(count() <= before / 2, "{} of {before}", count());
    let (last, folder) = checkpoint::latest(&wal).unwrap().unwrap();
    assert!(last > 3, "{last}");
    let mut kept = Vec::new();
    for (_, path) in segments(&folder).unwrap() {
        let mut reader = SegmentReader::open(&path).unwrap();
        while let Ok(Some(bytes)) = reader.read() {
            if record::kind(bytes) == RecordKind::Series {
                record::read_series(bytes, |id, _| kept.push(id)).unwrap();
            }
        }
    }
    // Its segment was younger than its end.
    kept.sort_unstable();
    assert_eq!(kept, [1, 2, 3]);
    drop(agent);
    let agent = Agent::open(dir.path(), options()).unwrap();
    assert_eq!(append(&agent, &[2], now).samples, 0);
    assert_eq!(append(&agent, &[2], now + 100).samples, 1);
    // A number is not used again.
    let new = agent.resolve_now(&[set(9)]).unwrap();
    assert_eq!(new[0].id, 4);
}

#[test]
fn a_remote_that_never_answers_keeps_the_log_no_longer_than_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::open(
        dir.path(),
        AgentOptions {
            min_time: 0,
            max_time: 0,
            ..options()
        },
    )
    .unwrap();
    agent.set_readers(Arc::new(At {
        segment: AtomicU64::new(0),
        sent: 0,
    }));
    for step in 0..9 {
        append(&agent, &[1], step);
        agent.inner.wal.rotate().unwrap();
    }
    // Older than no time at all.
    std::thread::sleep(Duration::from_millis(20));
    agent.truncate().unwrap();
    assert!(agent.inner.options.stats.unsent.get() > 3);
    assert!(segments(&dir.path().join("wal")).unwrap().len() < 6);
}

#[test]
fn a_torn_end_is_cut_and_damage_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::open(dir.path(), options()).unwrap();
    append(&agent, &[1], 1_000);
    append(&agent, &[2], 2_000);
    drop(agent);
    let (_, path) = segments(&dir.path().join("wal")).unwrap().pop().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    let agent = Agent::open(dir.path(), options()).unwrap();
    assert!(agent.replayed().damaged.is_empty());
    assert_eq!(append(&agent, &[1], 1_000).samples, 0);
    assert_eq!(append(&agent, &[1], 3_000).samples, 1);
}

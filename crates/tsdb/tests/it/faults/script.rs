//! Deeds of a database, and what they should leave.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use block::fs::sim::{Dice, SimFs};
use model::report::Admin as _;
use model::{Labels, Matcher, TimeRange};
use tsdb::wal::SyncMode;
use tsdb::{Db, Options};

use crate::all;

/// Every sample, by series and time, as the bits of its value.
pub type Content = BTreeMap<(Labels, i64), u64>;

/// How long blocks of a script are, ms.
pub const BLOCK: i64 = 2_000;
/// Between two samples of a series, ms.
pub const STEP: i64 = 250;

/// One deed.
#[derive(Clone, Debug)]
pub enum Deed {
    /// A sample for each of these series, `STEP` later than the last time.
    Append(Vec<usize>),
    /// A sample of one series, so many ms before the newest of all.
    Late(usize, i64),
    /// So many rounds of maintenance, as the background thread does them.
    Maintain,
    /// Everything out of the head.
    Flush,
    /// Samples of one series are deleted.
    Delete(usize, TimeRange),
    CleanTombstones,
    Snapshot,
    Sync,
    /// Stopped and started.
    Reopen,
}

/// A random script. Time goes on by `STEP` with each append.
pub fn random(seed: u64, deeds: usize) -> Vec<Deed> {
    let mut dice = Dice::new(seed);
    let mut now = 0;
    let mut script = Vec::new();
    for i in 0..deeds {
        script.push(match dice.below(23) {
            20.. => Deed::Late(dice.below(5), dice.below(2 * BLOCK as usize) as i64),
            0..13 => {
                now += STEP;
                // Some series stay, some come and go.
                let mut series: Vec<usize> = (0..1 + dice.below(4)).collect();
                series.push(10 + i / 10);
                Deed::Append(series)
            }
            13 | 14 => Deed::Maintain,
            15 => {
                let from = dice.below(now as usize + 1) as i64;
                let to = from + dice.below(3 * BLOCK as usize) as i64;
                Deed::Delete(dice.below(3), TimeRange::new(from, to))
            }
            16 => Deed::Reopen,
            17 => Deed::Sync,
            18 => match dice.below(3) {
                0 => Deed::Flush,
                1 => Deed::CleanTombstones,
                _ => Deed::Snapshot,
            },
            _ => Deed::Maintain,
        });
    }
    script
}

pub fn labels(series: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("s", series.to_string())])
}

/// Small blocks and segments, and no thread that does anything by itself.
pub fn options(fs: &SimFs) -> Options {
    let mut options = Options {
        min_block: BLOCK,
        max_block: Some(3 * BLOCK),
        fs: Arc::new(fs.clone()),
        patience: Duration::ZERO,
        out_of_order_window: 3 * BLOCK,
        ..Options::quiet()
    };
    options.wal.segment_size = 32 << 10;
    options.wal.sync = SyncMode::Always;
    options
}

/// What a query for everything answers.
pub fn content(db: &Db) -> Content {
    let mut content = Content::new();
    for (labels, samples) in all(db) {
        for s in samples {
            let twice = content.insert((labels.clone(), s.ts), s.value.to_bits());
            assert_eq!(twice, None, "{labels} has two samples at {}", s.ts);
        }
    }
    content
}

/// A deed that was done or tried, and when.
#[derive(Clone, Debug)]
pub struct Done {
    pub deed: Deed,
    /// Steps of the disk before and after it.
    pub steps: (usize, usize),
    pub before: Arc<Content>,
    pub after: Arc<Content>,
    /// The snapshot's name, and what is in it.
    pub snapshot: Option<String>,
    /// What it said when it failed.
    pub error: Option<String>,
}

/// A database at work, and the model of what is in it.
pub struct Run {
    pub dir: tempfile::TempDir,
    pub fs: SimFs,
    pub options: Options,
    pub db: Option<Db>,
    pub model: Arc<Content>,
    /// All that was ever written, deleted or not.
    pub ever: Content,
    pub now: i64,
    pub done: Vec<Done>,
}

impl Run {
    pub fn new(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fs = SimFs::new(dir.path()).unwrap();
        let mut options = options(&fs);
        change(&mut options);
        let mut run = Self {
            dir,
            fs,
            options,
            db: None,
            model: Arc::default(),
            ever: Content::new(),
            now: 0,
            done: Vec::new(),
        };
        run.open().unwrap();
        run
    }

    /// Goes on with a folder that is there.
    pub fn on(dir: tempfile::TempDir, model: Content, now: i64) -> Self {
        let fs = SimFs::new(dir.path()).unwrap();
        let options = options(&fs);
        let mut run = Self {
            dir,
            fs,
            options,
            db: None,
            ever: model.clone(),
            model: Arc::new(model),
            now,
            done: Vec::new(),
        };
        run.open().unwrap();
        run
    }

    pub fn open(&mut self) -> Result<(), tsdb::Error> {
        // The lock goes before the next one comes.
        self.db = None;
        self.db = Some(Db::open(self.dir.path(), self.options.clone())?);
        Ok(())
    }

    pub fn db(&self) -> &Db {
        self.db.as_ref().expect("open")
    }

    /// Does a script; nothing fails.
    pub fn all(&mut self, script: &[Deed]) {
        for deed in script {
            self.deed(deed);
            let done = self.done.last().expect("just done");
            assert_eq!(done.error, None, "{deed:?}");
            let found = content(self.db());
            assert_same(&found, &done.after, &format!("after {deed:?}"));
        }
    }

    /// Does one deed, and notes down what it should leave: `after` if it is acknowledged, else
    /// anything between.
    pub fn deed(&mut self, deed: &Deed) {
        let before = Arc::clone(&self.model);
        let mut after = Content::clone(&before);
        let mut snapshot = None;
        let start = self.fs.steps();
        let result: Result<(), String> = match deed {
            Deed::Append(series) => {
                self.now += STEP;
                let value = self.now as f64;
                let rows: Vec<_> = series
                    .iter()
                    .map(|&s| (labels(s), self.now, value))
                    .collect();
                for (labels, ts, value) in &rows {
                    after.insert((labels.clone(), *ts), value.to_bits());
                    self.ever.insert((labels.clone(), *ts), value.to_bits());
                }
                let took = self.db().append_samples(&rows);
                took.map(|t| assert!(t.rejected.is_empty(), "{:?}", t.rejected))
                    .map_err(|e| e.to_string())
            }
            Deed::Late(series, back) => {
                let row = (labels(*series), (self.now - back).max(1), *back as f64);
                let key = (row.0.clone(), row.1);
                // What is there already is refused, or the same.
                let new = !self.ever.contains_key(&key);
                if new {
                    after.insert(key.clone(), row.2.to_bits());
                    self.ever.insert(key.clone(), row.2.to_bits());
                }
                let took = match new {
                    true => self.db().append_samples(&[row]),
                    false => Ok(model::Appended::default()),
                };
                took.map(|t| {
                    if !t.rejected.is_empty() {
                        after.remove(&key);
                    }
                })
                .map_err(|e| e.to_string())
            }
            Deed::Maintain => self.db().maintain().map(drop).map_err(|e| e.to_string()),
            Deed::Flush => self.db().flush_all().map(drop).map_err(|e| e.to_string()),
            Deed::Sync => self.db().sync().map_err(|e| e.to_string()),
            Deed::Delete(series, range) => {
                let of = labels(*series);
                after.retain(|(l, ts), _| *l != of || !range.contains(*ts));
                let matchers = vec![Matcher::equal("s", series.to_string())];
                futures::executor::block_on(self.db().delete_series(matchers, *range))
                    .map_err(|e| e.to_string())
            }
            Deed::CleanTombstones => {
                futures::executor::block_on(self.db().clean_tombstones()).map_err(|e| e.to_string())
            }
            Deed::Snapshot => futures::executor::block_on(self.db().snapshot(false))
                .map(|name| snapshot = Some(name))
                .map_err(|e| e.to_string()),
            Deed::Reopen => self.open().map_err(|e| e.to_string()),
        };
        let error = result.err();
        if error.is_none() && matches!(deed, Deed::Maintain) {
            // Retention may have taken the oldest; what it took is judged here.
            self.retained(&mut after);
        }
        let after = Arc::new(after);
        if error.is_none() {
            self.model = Arc::clone(&after);
        }
        self.done.push(Done {
            deed: deed.clone(),
            steps: (start, self.fs.steps()),
            before,
            after,
            snapshot,
            error,
        });
    }

    fn retained(&self, after: &mut Content) {
        let limit = self.options.retention.time;
        if limit == 0 {
            return;
        }
        let found = content(self.db());
        let newest = after.keys().map(|k| k.1).max().unwrap_or(0);
        after.retain(|key, _| {
            let kept = found.contains_key(key);
            assert!(
                kept || key.1 <= newest - limit,
                "{} at {} went too early",
                key.0,
                key.1
            );
            kept
        });
    }

    /// What must be there, and what may be, when the first `steps` steps are done.
    pub fn at(&self, steps: usize) -> (Arc<Content>, Arc<Content>, String) {
        let mut last = (Arc::default(), Arc::default(), "the start".to_owned());
        for done in &self.done {
            if done.steps.0 > steps {
                break;
            }
            let what = format!("{:?}", done.deed);
            last = if done.steps.1 > steps {
                (Arc::clone(&done.before), Arc::clone(&done.after), what)
            } else {
                (Arc::clone(&done.after), Arc::clone(&done.after), what)
            };
        }
        last
    }
}

/// How two contents differ, in a few lines.
pub fn difference(found: &Content, want: &Content) -> Vec<String> {
    let say = |what: &str, (key, bits): (&(Labels, i64), &u64)| {
        format!("{what} {} at {}: {}", key.0, key.1, f64::from_bits(*bits))
    };
    let missing = want.iter().filter(|(k, v)| found.get(k) != Some(v));
    let extra = found.iter().filter(|(k, v)| want.get(k) != Some(v));
    let mut lines: Vec<String> = missing.map(|e| say("missing", e)).collect();
    lines.extend(extra.map(|e| say("extra", e)));
    lines
}

pub fn assert_same(found: &Content, want: &Content, when: &str) {
    let lines = difference(found, want);
    assert!(
        lines.is_empty(),
        "{when}: {:#?}",
        &lines[..lines.len().min(8)]
    );
}

/// Whether `found` can be what is left when something between `before` and `after` was under way.
/// What comes in one batch comes whole or not at all.
pub fn judge(found: &Content, before: &Content, after: &Content) -> Result<(), String> {
    for (key, bits) in before {
        if after.get(key) == Some(bits) && found.get(key) != Some(bits) {
            return Err(format!("{} at {} is lost", key.0, key.1));
        }
    }
    for (key, bits) in found {
        if before.get(key) != Some(bits) && after.get(key) != Some(bits) {
            return Err(format!("{} at {} should not be there", key.0, key.1));
        }
    }
    let new = after.keys().filter(|k| !before.contains_key(*k));
    let (there, not): (Vec<_>, Vec<_>) = new.partition(|k| found.contains_key(*k));
    match (there.first(), not.first()) {
        (Some(there), Some(not)) => Err(format!(
            "half a batch: {} at {} is there, {} is not",
            there.0, there.1, not.0
        )),
        _ => Ok(()),
    }
}

/// Opens a folder that a crash left, by itself or for good.
pub fn recover(dir: &Path) -> (Db, SimFs) {
    let fs = SimFs::new(dir).unwrap();
    let db = Db::open(dir, options(&fs)).unwrap_or_else(|e| panic!("not opened: {e}"));
    (db, fs)
}

//! Deeds of a database, and what they should leave.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use block::fs::sim::{Dice, SimFs};
use model::report::Admin as _;
use model::{Labels, Matcher, TimeRange};
use tsdb::wal::SyncMode;
use tsdb::{Db, Options};

use super::content::{Content, Value, append, assert_same, content};

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
        Self::go_on(dir, fs, model, now)
    }

    /// Goes on where a process was killed, on the disk as it was then.
    pub fn go_on(dir: tempfile::TempDir, fs: SimFs, model: Content, now: i64) -> Self {
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

    /// What a query answers while the disk is well.
    pub fn content(&self) -> Content {
        self.fs.undisturbed(|| content(self.db()))
    }

    /// Does a script; nothing fails.
    pub fn all(&mut self, script: &[Deed]) {
        for deed in script {
            self.deed(deed);
            let done = self.done.last().expect("just done");
            assert_eq!(done.error, None, "{deed:?}");
            let found = self.content();
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
                let now = self.now;
                let row = |&s: &usize| (labels(s), now, Value::of(s, now, now));
                let rows: Vec<_> = series.iter().map(row).collect();
                for (labels, ts, value) in &rows {
                    after.insert((labels.clone(), *ts), value.seen());
                    self.ever.insert((labels.clone(), *ts), value.seen());
                }
                let took = append(self.db(), &rows);
                took.map(|t| assert!(t.rejected.is_empty(), "{:?}", t.rejected))
                    .map_err(|e| e.to_string())
            }
            Deed::Late(series, back) => {
                let ts = (self.now - back).max(1);
                let row = (labels(*series), ts, Value::of(*series, ts, *back));
                let key = (row.0.clone(), row.1);
                // What is there already is refused, or the same.
                let new = !self.ever.contains_key(&key);
                if new {
                    after.insert(key.clone(), row.2.seen());
                    self.ever.insert(key.clone(), row.2.seen());
                }
                let took = match new {
                    true => append(self.db(), &[row]),
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
        let found = self.content();
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

/// Opens a folder that a crash left, by itself or for good.
pub fn recover(dir: &Path) -> (Db, SimFs) {
    let fs = SimFs::new(dir).unwrap();
    let db = Db::open(dir, options(&fs)).unwrap_or_else(|e| panic!("not opened: {e}"));
    (db, fs)
}

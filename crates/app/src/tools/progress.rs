//! Long work says how far it is, on the error stream: redrawn in place where that is a terminal, else a line every few
//! seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bucket::{Bucket, OnRead};
use compact::compactor::{OnStep, Step};
use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::terminal;

/// Time between two lines.
const EVERY: Duration = Duration::from_secs(5);
/// Time between two looks at what a terminal is shown.
const REDRAW: Duration = Duration::from_millis(100);

const BYTES: &str = "{prefix} [{wide_bar}] {percent}% {msg} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {left}";
const ITEMS: &str = "{prefix} [{wide_bar}] {percent}% {msg} {per_sec} ETA {left}";
const LINE: &str = "{wide_msg}";

/// `done` of `total` in percent.
pub fn percent(done: u64, total: u64) -> u64 {
    (u128::from(done) * 100 / u128::from(total.max(1))) as u64
}

/// A bar on the terminal, if there is one.
fn bar(total: u64, template: &str, prefix: &'static str, message: String) -> Option<ProgressBar> {
    if !terminal::is_one() {
        return None;
    }
    let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // Before the first step nobody knows. What cannot be written is not seen.
        let _ = match state.pos() {
            0 => write!(out, "-"),
            _ => write!(out, "{:#}", HumanDuration(state.eta())),
        };
    };
    let style = ProgressStyle::with_template(template).ok()?;
    let style = style.progress_chars("=> ").with_key("left", left);
    let bar = ProgressBar::new(total).with_prefix(prefix);
    let bar = terminal::show(bar.with_message(message).with_style(style));
    bar.tick();
    Some(bar)
}

/// Says something now and then, in the words of who works.
pub struct Progress {
    bar: Option<ProgressBar>,
    next: Instant,
}

impl Progress {
    /// Silent for the first seconds where there is no terminal.
    pub fn new() -> Self {
        let bar = bar(0, LINE, "", String::new());
        let next = Instant::now() + if bar.is_some() { REDRAW } else { EVERY };
        Self { bar, next }
    }

    /// Says what `text` gives, if it is time to.
    pub fn tick(&mut self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        match &self.bar {
            Some(bar) => {
                self.next = now + REDRAW;
                bar.set_message(text());
            }
            None => {
                self.next = now + EVERY;
                eprintln!("{}", text());
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A work on many things, of which each has its bytes: said until it is dropped. Must be begun in the async runtime.
pub struct Work {
    tally: Arc<Tally>,
    telling: JoinHandle<()>,
}

/// Tells how many bytes have moved so far.
type Moved = Box<dyn Fn() -> u64 + Send + Sync>;

struct Tally {
    /// "replicating"
    what: &'static str,
    /// "blocks"
    things: &'static str,
    total: u64,
    /// Of all things; 0 if nobody knows.
    bytes: u64,
    moved: Moved,
    done: AtomicU64,
    so_far: Mutex<SoFar>,
    bar: Option<ProgressBar>,
}

#[derive(Default)]
struct SoFar {
    /// Bytes of the things that are done.
    sure: u64,
    /// What had moved when the last one was.
    mark: u64,
    /// The most that was told.
    told: u64,
}

impl Work {
    /// `what` is done with `total` `things` of so many `bytes` together (0: nobody knows); `moved` tells how many bytes
    /// have moved so far, for what is not done yet.
    pub fn begin(
        what: &'static str,
        things: &'static str,
        total: u64,
        bytes: u64,
        moved: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let message = format!("0/{total} {things}");
        let bar = match bytes {
            0 => bar(total, ITEMS, what, message),
            _ => bar(bytes, BYTES, what, message),
        };
        let tally = Arc::new(Tally {
            what,
            things,
            total,
            bytes,
            so_far: Mutex::new(SoFar {
                mark: moved(),
                ..SoFar::default()
            }),
            moved: Box::new(moved),
            done: AtomicU64::new(0),
            bar,
        });
        let telling = tokio::spawn(Arc::clone(&tally).tell());
        Self { tally, telling }
    }

    /// One more thing is done, which has so many bytes.
    pub fn done(&self, bytes: u64) {
        let tally = &self.tally;
        tally.done.fetch_add(1, Ordering::Relaxed);
        let mut so_far = tally.so_far.lock();
        so_far.sure += bytes;
        so_far.mark = (tally.moved)();
        drop(so_far);
        tally.draw();
    }

    /// Whether nothing is left.
    pub fn is_done(&self) -> bool {
        self.tally.done.load(Ordering::Relaxed) >= self.tally.total
    }

    /// So many things are done altogether.
    pub fn set(&self, done: u64) {
        self.tally.done.store(done, Ordering::Relaxed);
        self.tally.draw();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.telling.abort();
        if let Some(bar) = &self.tally.bar {
            bar.finish_and_clear();
        }
    }
}

impl Tally {
    async fn tell(self: Arc<Self>) {
        let pause = if self.bar.is_some() { REDRAW } else { EVERY };
        loop {
            tokio::time::sleep(pause).await;
            match self.bar {
                Some(_) => self.draw(),
                None => self.say(),
            }
        }
    }

    /// Bytes so far. Things that are done at the same time may have moved more than those that are done have: it
    /// never goes back.
    fn position(&self) -> u64 {
        let mut so_far = self.so_far.lock();
        let moved = (self.moved)().saturating_sub(so_far.mark);
        let now = (so_far.sure + moved).min(self.bytes);
        so_far.told = so_far.told.max(now);
        so_far.told
    }

    fn draw(&self) {
        let Some(bar) = &self.bar else { return };
        let done = self.done.load(Ordering::Relaxed);
        bar.set_position(match self.bytes {
            0 => done,
            _ => self.position(),
        });
        bar.set_message(format!("{done}/{} {}", self.total, self.things));
    }

    fn say(&self) {
        let done = self.done.load(Ordering::Relaxed);
        let (of, things) = (self.total, self.things);
        match self.bytes {
            0 => {
                let percent = percent(done, of);
                tracing::info!(percent, done, of, things, "{}", self.what);
            }
            bytes => {
                let moved = self.position();
                let percent = percent(moved, bytes);
                tracing::info!(percent, done, of, things, moved, bytes, "{}", self.what);
            }
        }
    }
}

/// Says how far the looks at a bucket are.
pub fn looks() -> OnRead {
    let work: Mutex<Option<Work>> = Mutex::default();
    Arc::new(move |done, of| {
        let mut work = work.lock();
        let of = of as u64;
        let begin = || Work::begin("reading meta.json", "blocks", of, 0, || 0);
        work.get_or_insert_with(begin).set(done as u64);
        work.take_if(|work| work.is_done());
    })
}

/// Says how far a compactor is with what it does to blocks of this bucket.
pub fn steps(bucket: &Arc<Bucket>) -> OnStep {
    let (bucket, work) = (Arc::clone(bucket), Mutex::<Option<Work>>::default());
    Arc::new(move |step| {
        let mut work = work.lock();
        match step {
            Step::Begun {
                what,
                blocks,
                bytes,
            } => {
                let bucket = Arc::clone(&bucket);
                *work = (blocks > 0).then(|| {
                    let moved = move || bucket.fetched_bytes();
                    Work::begin(what, "blocks", blocks as u64, bytes, moved)
                });
            }
            Step::Done { bytes } => {
                if let Some(work) = &*work {
                    work.done(bytes);
                }
                work.take_if(|work| work.is_done());
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_moved_counts_until_the_thing_is_done() {
        let moved = Arc::new(AtomicU64::new(1000));
        let source = Arc::clone(&moved);
        let work = Work::begin("copying", "blocks", 3, 300, move || {
            source.load(Ordering::Relaxed)
        });
        let position = || work.tally.position();
        assert_eq!(position(), 0, "what moved before is not of this work");
        moved.store(1040, Ordering::Relaxed);
        assert_eq!(position(), 40);
        // It moved less than it has: some of it was there.
        work.done(100);
        assert_eq!(position(), 100);
        moved.store(1190, Ordering::Relaxed);
        assert_eq!(position(), 250);
        // Two at once: one is done, the other one's bytes are not forgotten.
        work.done(100);
        assert_eq!(position(), 250);
        moved.store(9000, Ordering::Relaxed);
        assert_eq!(position(), 300);
    }
}

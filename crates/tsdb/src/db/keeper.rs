//! The database's own threads: one makes the log power-safe, one does the maintenance.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Inner;

/// Tells the threads to end.
#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    bell: Condvar,
}

impl Stop {
    /// Waits; true when it is time to end.
    fn wait(&self, time: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.bell.wait_for(&mut stopped, time);
        }
        *stopped
    }
}

/// The running threads; they end when this is dropped.
pub(super) struct Keepers {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

impl Keepers {
    pub(super) fn start(inner: &Arc<Inner>) -> Self {
        let mut keepers = Self {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        if let Some(every) = inner.sync_interval() {
            keepers.spawn("wal-sync", inner, every, |inner| {
                if let Err(e) = inner.wal.sync().and_then(|()| inner.sync_ooo()) {
                    tracing::error!(error = %e, "the log could not be made power-safe");
                }
            });
        }
        if let Some(every) = inner.options.maintain_every {
            keepers.spawn("tsdb-maintain", inner, every, |inner| {
                if let Err(e) = inner.maintain() {
                    tracing::error!(error = %e, "maintenance failed and will be tried again");
                }
            });
        }
        keepers
    }

    fn spawn(
        &mut self,
        name: &str,
        inner: &Arc<Inner>,
        every: Duration,
        work: impl Fn(&Arc<Inner>) + Send + 'static,
    ) {
        let stop = Arc::clone(&self.stop);
        let inner: Weak<Inner> = Arc::downgrade(inner);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while !stop.wait(every) {
                    match inner.upgrade() {
                        Some(inner) => work(&inner),
                        None => break,
                    }
                }
            });
        match thread {
            Ok(thread) => self.threads.push(thread),
            Err(e) => tracing::error!(error = %e, "thread {name} could not be started"),
        }
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        *self.stop.stopped.lock() = true;
        self.stop.bell.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

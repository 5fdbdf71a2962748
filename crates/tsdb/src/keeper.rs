//! Threads of a database that do the same again and again.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

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
#[derive(Default)]
pub(crate) struct Keepers {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

impl Keepers {
    /// Does `work` with `inner` every so often, on a thread of its own.
    pub(crate) fn spawn<T: Send + Sync + 'static>(
        &mut self,
        name: &str,
        inner: &Arc<T>,
        every: Duration,
        work: impl Fn(&Arc<T>) + Send + 'static,
    ) {
        let stop = Arc::clone(&self.stop);
        let inner: Weak<T> = Arc::downgrade(inner);
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

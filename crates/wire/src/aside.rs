//! Work that takes the processor for more than a moment, beside the threads that serve.

use std::sync::{Arc, LazyLock};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinError;

/// Turns of whatever takes the processor: as many at once as there are processors.
///
/// A thread of its own for each of a hundred requests would finish none of them sooner, and each such
/// thread keeps pages of memory that only it can use.
#[derive(Debug)]
pub struct Turns(Arc<Semaphore>);

impl Turns {
    /// One for each processor, and `spare` ones.
    pub fn new(spare: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self(Arc::new(Semaphore::new(processors + spare)))
    }

    /// Runs `work` on a thread of `runtime` that may be held, once it is its turn.
    ///
    /// The work must not wait for anything that takes a turn here itself. Fails if it panics, and when
    /// the runtime ends.
    pub async fn run<T: Send + 'static>(
        &self,
        runtime: &Handle,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // Nobody closes it; without a turn it would be done just the same.
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let done = runtime.spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await
    }
}

/// Those of whatever only computes; a spare one for whoever is just handing over.
static TURNS: LazyLock<Turns> = LazyLock::new(|| Turns::new(1));

/// Runs `work`, which only computes, on a thread of `runtime` that may be held, once it is its turn.
pub async fn aside_on<T: Send + 'static>(
    runtime: &Handle,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    TURNS.run(runtime, work).await
}

/// [`aside_on`] the runtime that the caller runs on.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    aside_on(&Handle::current(), work).await
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn no_more_threads_than_turns() {
        let slow = || {
            std::thread::sleep(Duration::from_millis(5));
            std::thread::current().id()
        };
        let all = futures_util::future::try_join_all((0..50).map(|_| aside(slow)));
        let threads: HashSet<_> = all.await.unwrap().into_iter().collect();
        // Some may still be on their way back to rest when the next turn begins.
        let turns = std::thread::available_parallelism().unwrap().get() + 1;
        let most = (2 * turns).max(25);
        assert!(threads.len() <= most, "{} threads", threads.len());
        let panicked = aside(|| panic!("as it should")).await;
        assert!(panicked.unwrap_err().is_panic());
        assert_eq!(aside(|| 1).await.unwrap(), 1, "its turn was given back");
    }
}

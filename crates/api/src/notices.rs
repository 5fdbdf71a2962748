//! What people should know about the state of the process, told while they look: Prometheus'
//! notifications.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use metrics::{Counter, Gauge, Registry};
use model::Millis;
use model::time::Clock;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::v1::Time;

/// It replays what it wrote before it was stopped.
pub const STARTING: &str = "Epimetheus is starting and replaying the write-ahead log (WAL).";
/// It finishes what runs.
pub const STOPPING: &str = "Epimetheus is shutting down and gracefully stopping all operations.";
/// The old configuration stays in force.
pub const RELOAD_FAILED: &str = "Configuration reload has failed.";

/// How many notices a listener may be behind.
const BEHIND: usize = 10;

/// One thing to know.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Notice {
    text: &'static str,
    date: Time,
    active: bool,
}

/// All that is to be known now; clones share it.
#[derive(Clone)]
pub struct Notices(Arc<Inner>);

struct Inner {
    board: Mutex<Board>,
    clock: Arc<dyn Clock>,
    /// How many may listen.
    most: usize,
    listening: Gauge,
    sent: Counter,
    dropped: Counter,
}

#[derive(Default)]
struct Board {
    shown: Vec<Notice>,
    listeners: Vec<mpsc::Sender<Notice>>,
    closed: bool,
}

impl Notices {
    /// Nothing is to be known yet; at most `most` may listen (`--web.max-notifications-subscribers`).
    pub fn new(
        most: usize,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> Result<Self, metrics::Error> {
        Ok(Self(Arc::new(Inner {
            board: Mutex::default(),
            clock,
            most,
            listening: registry.gauge(
                "prometheus_api_notification_active_subscribers",
                "The current number of active notification subscribers.",
            )?,
            sent: registry.counter(
                "prometheus_api_notification_updates_sent_total",
                "Total number of notification updates sent.",
            )?,
            dropped: registry.counter(
                "prometheus_api_notification_updates_dropped_total",
                "Total number of notification updates dropped.",
            )?,
        })))
    }

    /// Shows a text, or says that it holds again.
    pub fn show(&self, text: &'static str) {
        let date = Time(self.now());
        let mut board = self.0.board.lock();
        let notice = Notice {
            text,
            date,
            active: true,
        };
        match board.shown.iter_mut().find(|n| n.text == text) {
            Some(shown) => shown.date = date,
            None => board.shown.push(notice.clone()),
        }
        self.tell(&mut board, &notice);
    }

    /// Takes a text away.
    pub fn clear(&self, text: &'static str) {
        let mut board = self.0.board.lock();
        let Some(at) = board.shown.iter().position(|n| n.text == text) else {
            return;
        };
        let mut notice = board.shown.remove(at);
        notice.active = false;
        self.tell(&mut board, &notice);
    }

    /// Ends all listening, so that the server can end.
    pub fn close(&self) {
        let mut board = self.0.board.lock();
        board.closed = true;
        board.listeners.clear();
        self.0.listening.set(0);
    }

    fn now(&self) -> Millis {
        self.0.clock.now()
    }

    /// Nobody is waited for: who is too far behind misses it.
    fn tell(&self, board: &mut Board, notice: &Notice) {
        board.listeners.retain(|listener| {
            self.0.sent.inc();
            match listener.try_send(notice.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    self.0.dropped.inc();
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
        self.count(board);
    }

    fn count(&self, board: &Board) {
        let listening = i64::try_from(board.listeners.len()).unwrap_or(i64::MAX);
        self.0.listening.set(listening);
    }

    /// What is shown now.
    pub(crate) fn shown(&self) -> Vec<Notice> {
        self.0.board.lock().shown.clone()
    }

    /// What is shown now, then every change; none if too many listen already.
    pub(crate) fn listen(&self) -> Option<Listening> {
        let mut board = self.0.board.lock();
        board.listeners.retain(|listener| !listener.is_closed());
        if board.closed || board.listeners.len() >= self.0.most {
            self.count(&board);
            return None;
        }
        let (listener, news) = mpsc::channel(BEHIND);
        for notice in &board.shown {
            // There are fewer texts than room.
            let _ = listener.try_send(notice.clone());
        }
        board.listeners.push(listener);
        self.count(&board);
        drop(board);
        Some(Listening {
            news,
            notices: self.clone(),
        })
    }
}

/// One who listens.
pub(crate) struct Listening {
    news: mpsc::Receiver<Notice>,
    notices: Notices,
}

impl Stream for Listening {
    type Item = Notice;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.news.poll_recv(context)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.news.close();
        let mut board = self.notices.0.board.lock();
        board.listeners.retain(|listener| !listener.is_closed());
        self.notices.count(&board);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};
    use model::time::WallClock;

    use super::*;

    #[test]
    fn changes_are_told_to_those_who_listen() {
        let registry = Registry::new();
        let notices = Notices::new(1, Arc::new(WallClock), &registry).unwrap();
        notices.show(STARTING);
        let mut listening = notices.listen().unwrap();
        assert!(notices.listen().is_none(), "one more than may");
        notices.clear(STARTING);
        notices.clear(STARTING);
        notices.show(RELOAD_FAILED);
        let mut heard = Vec::new();
        while let Some(Some(notice)) = listening.next().now_or_never() {
            heard.push((notice.text, notice.active));
        }
        assert_eq!(
            heard,
            [(STARTING, true), (STARTING, false), (RELOAD_FAILED, true)]
        );
        drop(listening);
        let mut again = notices.listen().unwrap();
        assert_eq!(notices.shown().len(), 1);
        notices.close();
        assert!(again.next().now_or_never().unwrap().is_some());
        assert!(again.next().now_or_never().unwrap().is_none());
        assert!(notices.listen().is_none());
    }

    #[test]
    fn who_does_not_read_is_not_waited_for() {
        let registry = Registry::new();
        let notices = Notices::new(1, Arc::new(WallClock), &registry).unwrap();
        let _slow = notices.listen().unwrap();
        for _ in 0..2 * BEHIND {
            notices.show(RELOAD_FAILED);
        }
        assert_eq!(notices.0.dropped.get(), BEHIND as u64);
    }
}

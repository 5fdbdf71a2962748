//! How much of the log has been sent: so that a new process goes on where this one ended.

use std::collections::VecDeque;
use std::path::PathBuf;

use parking_lot::Mutex;

use super::tail::Position;

/// A stretch of the log, and how many of its items are not settled yet.
struct Stretch {
    start: Position,
    open: u64,
}

#[derive(Default)]
struct State {
    /// Number of the first stretch.
    first: u64,
    stretches: VecDeque<Stretch>,
}

/// Knows which items of the log are on their way. A stretch is settled once each of its items was
/// sent or given up.
#[derive(Default)]
pub(super) struct Tracker(Mutex<State>);

impl Tracker {
    /// Begins a stretch; the answer is its number.
    pub(super) fn begin(&self, start: Position) -> u64 {
        let mut state = self.0.lock();
        state.stretches.push_back(Stretch { start, open: 0 });
        state.first + state.stretches.len() as u64 - 1
    }

    /// Items of a stretch are on their way.
    pub(super) fn add(&self, stretch: u64, items: u64) {
        let state = &mut *self.0.lock();
        let place = stretch.checked_sub(state.first).map(|i| i as usize);
        if let Some(stretch) = place.and_then(|i| state.stretches.get_mut(i)) {
            stretch.open += items;
        }
    }

    /// Items are settled.
    pub(super) fn settle(&self, items: &[(u64, u64)]) {
        let state = &mut *self.0.lock();
        for (stretch, items) in items {
            let place = stretch.checked_sub(state.first).map(|i| i as usize);
            if let Some(stretch) = place.and_then(|i| state.stretches.get_mut(i)) {
                stretch.open = stretch.open.saturating_sub(*items);
            }
        }
        // The last one may get more.
        while state.stretches.len() > 1 && state.stretches.front().is_some_and(|s| s.open == 0) {
            state.stretches.pop_front();
            state.first += 1;
        }
    }

    /// Up to where all is settled, if reading has come to `read`.
    pub(super) fn settled(&self, read: Position) -> Position {
        let state = self.0.lock();
        let open = state.stretches.iter().find(|s| s.open > 0);
        open.map_or(read, |s| s.start)
    }
}

/// The file that keeps the position.
pub(super) struct Mark {
    path: PathBuf,
    written: Option<Position>,
}

impl Mark {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: None,
        }
    }

    /// What a process before this one left.
    pub(super) fn read(&self) -> Option<Position> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let (segment, offset) = text.trim().split_once(' ')?;
        Some(Position {
            segment: segment.parse().ok()?,
            offset: offset.parse().ok()?,
        })
    }

    /// Writes a position, if it is another one.
    pub(super) fn write(&mut self, position: Position) {
        if self.written == Some(position) {
            return;
        }
        let write = || -> std::io::Result<()> {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let half = self.path.with_extension("tmp");
            std::fs::write(&half, format!("{} {}\n", position.segment, position.offset))?;
            std::fs::rename(&half, &self.path)
        };
        match write() {
            Ok(()) => self.written = Some(position),
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "how far samples were sent could not be written down");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { segment: 1, offset }
    }

    #[test]
    fn the_first_open_stretch_is_where_to_go_on() {
        let tracker = Tracker::default();
        let a = tracker.begin(at(0));
        tracker.add(a, 3);
        let b = tracker.begin(at(10));
        tracker.add(b, 1);
        assert_eq!(tracker.settled(at(20)), at(0));
        tracker.settle(&[(b, 1)]);
        tracker.settle(&[(a, 2)]);
        assert_eq!(tracker.settled(at(20)), at(0));
        tracker.settle(&[(a, 1)]);
        assert_eq!(tracker.settled(at(20)), at(20));
        tracker.add(b, 1);
        assert_eq!(tracker.settled(at(30)), at(10));
    }

    #[test]
    fn marks_outlive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("remote").join("x");
        assert_eq!(Mark::new(path.clone()).read(), None);
        Mark::new(path.clone()).write(at(7));
        assert_eq!(Mark::new(path).read(), Some(at(7)));
    }
}

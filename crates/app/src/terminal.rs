//! Standard error where it is a terminal: bars at its bottom, and lines above them.

use std::io::{self, Write};
use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

/// One for the process, because there is one standard error. Nothing is drawn where that is no terminal.
static BARS: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));

/// Whether bars are seen.
pub fn is_one() -> bool {
    !BARS.is_hidden()
}

/// Draws a bar below those that there are, until it is cleared.
pub fn show(bar: ProgressBar) -> ProgressBar {
    BARS.add(bar)
}

/// Writes to the terminal while the bars are out of the way. Whatever is written to standard output or standard
/// error while there may be bars goes through here.
pub fn above<T>(write: impl FnOnce() -> T) -> T {
    BARS.suspend(write)
}

/// Standard error, for lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        above(|| io::stderr().write(bytes))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        above(|| io::stderr().write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

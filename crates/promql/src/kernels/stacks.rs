//! Sliding windows of anything that can be joined: two stacks.
//!
//! The window is cut somewhere. Left of the cut, every suffix is known; right of it, the whole.
//! A window is one suffix joined with the right part. When the cut leaves the window, all samples
//! inside become suffixes: each sample is touched twice in all, and nothing is ever subtracted,
//! so infinities and cancellation do no harm.

/// A window over samples by index, and the join of what it holds.
pub(crate) struct Stacks<'a, T> {
    suffixes: &'a mut Vec<T>,
    cut: usize,
    right: Option<T>,
    end: usize,
}

impl<'a, T: Copy> Stacks<'a, T> {
    /// An empty window; `suffixes` is a buffer to reuse.
    pub(crate) fn new(suffixes: &'a mut Vec<T>) -> Self {
        suffixes.clear();
        Self {
            suffixes,
            cut: 0,
            right: None,
            end: 0,
        }
    }

    /// The join of samples `lo..hi`, which must not be empty; neither end may fall from call to
    /// call.
    #[inline(always)]
    pub(crate) fn window(
        &mut self,
        lo: usize,
        hi: usize,
        of: impl Fn(usize) -> T,
        join: impl Fn(T, T) -> T,
    ) -> T {
        if lo >= self.cut {
            // Everything left of the cut is gone: turn what is inside into suffixes.
            self.suffixes.clear();
            let mut suffix = of(hi - 1);
            self.suffixes.push(suffix);
            for i in (lo..hi - 1).rev() {
                suffix = join(of(i), suffix);
                self.suffixes.push(suffix);
            }
            self.cut = hi;
            self.end = hi;
            self.right = None;
            return suffix;
        }
        while self.end < hi {
            let next = of(self.end);
            self.right = Some(match self.right {
                Some(right) => join(right, next),
                None => next,
            });
            self.end += 1;
        }
        // Suffixes were pushed from the cut backwards: that of `lo` stands at `cut - 1 - lo`.
        let left = self.suffixes[self.cut - 1 - lo];
        match self.right {
            Some(right) => join(left, right),
            None => left,
        }
    }
}

//! Decoded samples, column by column.

use model::{Millis, Sample, TimeRange};

use crate::Histograms;

/// The samples of a series: floats as two columns of equal length, and native histograms apart, so
/// that kernels over floats never meet them. Methods say which of them they are about.
///
/// Reuse one `Columns` for many series: [`Columns::clear`] keeps the memory.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// Timestamps, ms since the Unix epoch.
    pub ts: Vec<Millis>,
    /// Values; NaN payloads are kept (stale markers).
    pub values: Vec<f64>,
    /// Start timestamps, ms (0: unknown); empty when none is known, else one per float.
    pub starts: Vec<Millis>,
    /// Native histograms. No timestamp is in both lists.
    pub histograms: Histograms,
}

impl Columns {
    /// How many floats there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Bytes of the lists.
    pub fn bytes(&self) -> usize {
        let floats = self.ts.capacity() + self.values.capacity() + self.starts.capacity();
        floats * 8 + self.histograms.bytes()
    }

    /// Whether there is no float.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// Removes floats and histograms and keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.ts.clear();
        self.values.clear();
        self.starts.clear();
        self.histograms.clear();
    }

    /// Whether there is neither a float nor a histogram.
    #[inline]
    pub fn holds_nothing(&self) -> bool {
        self.ts.is_empty() && self.histograms.is_empty()
    }

    /// Adds a float.
    #[inline]
    pub fn push(&mut self, ts: Millis, value: f64) {
        self.ts.push(ts);
        self.values.push(value);
        if !self.starts.is_empty() {
            self.starts.push(0);
        }
    }

    /// Says when the float added last started, ms.
    pub fn started(&mut self, start: Millis) {
        if start == 0 && self.starts.is_empty() {
            return;
        }
        self.starts.resize(self.ts.len(), 0);
        if let Some(last) = self.starts.last_mut() {
            *last = start;
        }
    }

    /// The start timestamp of float `i`, ms; 0: unknown.
    #[inline]
    pub fn start(&self, i: usize) -> Millis {
        self.starts.get(i).copied().unwrap_or(0)
    }

    /// Keeps the first `len` floats.
    pub fn truncate(&mut self, len: usize) {
        self.ts.truncate(len);
        self.values.truncate(len);
        self.starts.truncate(len);
    }

    /// Makes room for `additional` more floats.
    pub fn reserve(&mut self, additional: usize) {
        self.ts.reserve(additional);
        self.values.reserve(additional);
    }

    /// Adds the floats `from..` of other columns.
    pub fn extend_from(&mut self, other: &Columns, from: usize) {
        let before = self.ts.len();
        self.ts
            .extend_from_slice(other.ts.get(from..).unwrap_or_default());
        self.values
            .extend_from_slice(other.values.get(from..).unwrap_or_default());
        if !self.starts.is_empty() || !other.starts.is_empty() {
            self.starts.resize(before, 0);
            self.starts
                .extend_from_slice(other.starts.get(from..).unwrap_or_default());
            self.starts.resize(self.ts.len(), 0);
        }
    }

    /// Adds floats and histograms of other columns.
    pub fn extend_from_all(&mut self, other: &Columns) {
        self.extend_from(other, 0);
        self.histograms.extend_from(&other.histograms, 0);
    }

    /// First and last timestamp of floats and histograms, each list ascending.
    pub(crate) fn bounds(&self) -> Option<(Millis, Millis)> {
        let ends = |ts: &[Millis]| Some((*ts.first()?, *ts.last()?));
        match (ends(&self.ts), ends(&self.histograms.ts)) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        }
    }

    /// The floats one by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Millis, f64)> + '_ {
        self.ts.iter().copied().zip(self.values.iter().copied())
    }

    /// The floats as a list.
    pub fn samples(&self) -> Vec<Sample> {
        self.iter()
            .map(|(ts, value)| Sample { ts, value })
            .collect()
    }

    /// Whether each timestamp is later than the one before it, among the floats and among the
    /// histograms.
    pub fn ascends(&self) -> bool {
        ascends(&self.ts) && ascends(&self.histograms.ts)
    }

    /// Drops floats and histograms outside `range`. The timestamps must ascend.
    pub fn clip(&mut self, range: TimeRange) {
        self.clip_from(0, range);
        self.histograms.clip_from(0, range);
    }

    /// Drops those floats of `start..` that lie outside `range`.
    pub(crate) fn clip_from(&mut self, start: usize, range: TimeRange) {
        let Some(tail) = self.ts.get(start..) else {
            return;
        };
        if let Some(&last) = tail.last()
            && last > range.max
        {
            let keep = start + tail.partition_point(|&t| t <= range.max);
            self.truncate(keep);
        }
        let Some(tail) = self.ts.get(start..) else {
            return;
        };
        if let Some(&first) = tail.first()
            && first < range.min
        {
            let skip = tail.partition_point(|&t| t < range.min);
            self.ts.drain(start..start + skip);
            self.values.drain(start..start + skip);
            if !self.starts.is_empty() {
                self.starts.drain(start..start + skip);
            }
        }
    }
}

/// Whether each timestamp is later than the one before it.
pub(crate) fn ascends(ts: &[Millis]) -> bool {
    // Without an early exit the compiler compares several pairs at once.
    ts.windows(2).fold(true, |all, w| all & (w[0] < w[1]))
}

impl FromIterator<(Millis, f64)> for Columns {
    fn from_iter<T: IntoIterator<Item = (Millis, f64)>>(iter: T) -> Self {
        let (ts, values) = iter.into_iter().unzip();
        Self {
            ts,
            values,
            ..Self::default()
        }
    }
}

/// Equal timestamps and start timestamps, bit-equal values, and equal histograms.
impl PartialEq for Columns {
    fn eq(&self, other: &Self) -> bool {
        self.ts == other.ts
            && (0..self.starts.len().max(other.starts.len()))
                .all(|i| self.start(i) == other.start(i))
            && self.histograms == other.histograms
            && self.values.len() == other.values.len()
            && self
                .values
                .iter()
                .zip(&other.values)
                .all(|(a, b)| a.to_bits() == b.to_bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_keeps_both_ends() {
        let all: Columns = (0..10).map(|i| (i * 10, i as f64)).collect();
        for (min, max, want) in [
            (0, 90, 0..10),
            (10, 20, 1..3),
            (11, 19, 0..0),
            (-5, 5, 0..1),
            (85, 1000, 9..10),
            (200, 300, 0..0),
            (50, 40, 0..0),
        ] {
            let mut c = all.clone();
            c.clip(TimeRange::new(min, max));
            let want: Columns = want.map(|i| (i * 10, i as f64)).collect();
            assert_eq!(c, want, "{min}..={max}");
        }
    }

    #[test]
    fn starts_and_histograms_come_along() {
        let columns = |floats: &[(i64, i64)], histograms: &[i64]| {
            let mut c = Columns::default();
            for &(ts, start) in floats {
                c.push(ts, ts as f64);
                c.started(start);
            }
            for &ts in histograms {
                c.histograms
                    .push_histogram(ts, &model::histogram::FloatHistogram::default());
                c.histograms.started(ts - 1);
            }
            c
        };
        let all = columns(&[(10, 0), (20, 15), (30, 15), (40, 35)], &[5, 25, 45]);
        assert_eq!(all.starts, [0, 15, 15, 35]);
        let mut clipped = all.clone();
        clipped.clip(TimeRange::new(20, 30));
        assert_eq!(clipped, columns(&[(20, 15), (30, 15)], &[25]));
        assert_ne!(clipped, columns(&[(20, 15), (30, 16)], &[25]));
        assert_ne!(clipped, columns(&[(20, 15), (30, 15)], &[26]));

        // Behind floats without starts, and before them.
        let mut joined = columns(&[(1, 0), (2, 0)], &[]);
        assert!(joined.starts.is_empty());
        joined.extend_from_all(&all);
        joined.extend_from(&columns(&[(50, 0)], &[]), 0);
        assert_eq!(joined.starts, [0, 0, 0, 15, 15, 35, 0]);
        assert_eq!(joined.histograms.starts, [4, 24, 44]);
        joined.truncate(3);
        assert_eq!((joined.starts.len(), joined.histograms.len()), (3, 3));
        assert_eq!(all.bounds(), Some((5, 45)));
    }
}

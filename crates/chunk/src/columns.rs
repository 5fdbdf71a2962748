//! Decoded samples, column by column.

use model::{Millis, Sample, TimeRange};

use crate::Histograms;

/// The samples of a series: floats as two columns of equal length, and native histograms apart, so
/// that kernels over floats never meet them. Methods that do not say otherwise are about the floats.
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

    /// Adds a sample.
    #[inline]
    pub fn push(&mut self, ts: Millis, value: f64) {
        self.ts.push(ts);
        self.values.push(value);
    }

    /// Keeps the first `len` samples.
    pub fn truncate(&mut self, len: usize) {
        self.ts.truncate(len);
        self.values.truncate(len);
    }

    /// Makes room for `additional` more samples.
    pub fn reserve(&mut self, additional: usize) {
        self.ts.reserve(additional);
        self.values.reserve(additional);
    }

    /// Adds the samples `from..` of another pair of columns.
    pub fn extend_from(&mut self, other: &Columns, from: usize) {
        self.ts
            .extend_from_slice(other.ts.get(from..).unwrap_or_default());
        self.values
            .extend_from_slice(other.values.get(from..).unwrap_or_default());
    }

    /// The samples one by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Millis, f64)> + '_ {
        self.ts.iter().copied().zip(self.values.iter().copied())
    }

    /// The samples as a list.
    pub fn samples(&self) -> Vec<Sample> {
        self.iter()
            .map(|(ts, value)| Sample { ts, value })
            .collect()
    }

    /// Whether each timestamp is later than the one before it.
    pub fn ascends(&self) -> bool {
        ascends(&self.ts)
    }

    /// Drops the samples outside `range`. The timestamps must ascend.
    pub fn clip(&mut self, range: TimeRange) {
        self.clip_from(0, range);
    }

    /// Drops those samples of `start..` that lie outside `range`.
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

/// Equal timestamps and bit-equal values.
impl PartialEq for Columns {
    fn eq(&self, other: &Self) -> bool {
        self.ts == other.ts
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
}

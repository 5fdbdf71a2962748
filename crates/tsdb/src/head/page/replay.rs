//! Samples of the log, which everybody may see.

use chunk::xor;
use model::Millis;

use super::{Chunking, Inner, Open, Taken};
use crate::head::open::sure_floats;

impl Inner {
    /// Appends a sample.
    #[inline]
    pub(in crate::head) fn append_replayed(
        &mut self,
        slot: usize,
        (ts, value): (Millis, f64),
        chunking: Chunking,
    ) -> Option<Taken> {
        match self.get(slot)?.stale(value) {
            Some(marker) => self.append_histogram(slot, (ts, 0), &marker, chunking, (0, 0)),
            None => self.append_float(slot, (ts, 0, value), chunking),
        }
    }

    /// Appends as many of the samples as without a doubt go to the series' open chunk of floats, one
    /// behind the other; how many those are. None: the first one has to be judged.
    pub(in crate::head) fn append_many(
        &mut self,
        slot: usize,
        samples: &[(Millis, f64)],
        chunking: Chunking,
        scratch: &mut xor::Scratch,
    ) -> usize {
        let Some(Some(series)) = self.series.get_mut(slot) else {
            return 0;
        };
        let Open::Floats(open) = &mut series.open else {
            return 0;
        };
        if chunking.xor2 {
            return 0;
        }
        let Some(mut last) = open.last_ts() else {
            return 0;
        };
        // As far as `Series::too_long` lets it go.
        let longest = series.open_min.saturating_add(u32::MAX.into());
        let end = series.cut_at.min(longest);
        let sure = samples.iter().take(sure_floats(open));
        let many = sure
            .take_while(|&&(ts, _)| ts > std::mem::replace(&mut last, ts) && ts < end)
            .count();
        open.extend(&samples[..many], scratch);
        many
    }
}

//! What can be wrong with a block's index (`pkg/block/index.go` of Thanos).

use block::Block;
use block::index::ChunkMeta;
use model::TimeRange;

use crate::Error;

/// What is wrong with an index, and how large things in it are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Series.
    pub series: u64,
    /// Chunks.
    pub chunks: u64,
    /// Series whose labels are not in order.
    pub out_of_order_labels: u64,
    /// Series with chunks that are not in order or overlap.
    pub out_of_order_series: u64,
    /// Chunks that begin before the one before them ends.
    pub out_of_order_chunks: u64,
    /// Chunks that are the same as the one before them.
    pub duplicated_chunks: u64,
    /// Chunks that reach out of the block's time.
    pub outside_chunks: u64,
    /// Those of them of which nothing lies in the block's time.
    pub completely_outside_chunks: u64,
    /// Those of them that begin at the block's end, as a defect of old Prometheus versions left them.
    pub at_the_end_chunks: u64,
    /// Series that do not come after the one before them.
    pub unsorted_series: u64,
}

impl Health {
    /// What is wrong, in words; none if nothing is.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut say = |n: u64, what: &str| {
            if n > 0 {
                problems.push(format!("{n} {what}"));
            }
        };
        say(self.unsorted_series, "series are not in order");
        say(self.out_of_order_labels, "series have labels out of order");
        say(
            self.out_of_order_chunks,
            "chunks are out of order or overlap",
        );
        say(self.duplicated_chunks, "chunks are there twice");
        let cut = self.outside_chunks - self.completely_outside_chunks;
        say(cut, "chunks reach out of the block's time");
        say(
            self.completely_outside_chunks,
            "chunks lie outside the block's time",
        );
        problems
    }

    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.problems().is_empty()
    }
}

/// Goes through the index of a block.
pub fn of_index(block: &Block) -> Result<Health, Error> {
    let ids = block.index().all_series()?;
    let mut reader = block.index().series();
    let (mut labels, mut chunks) = (Vec::new(), Vec::<ChunkMeta>::new());
    let mut last: Vec<(u32, u32)> = Vec::new();
    let mut health = Health::default();
    let range = block.range();
    for (i, &id) in ids.iter().enumerate() {
        labels.clear();
        chunks.clear();
        let upcoming = ids.get(i + 1..).unwrap_or_default();
        let upcoming = upcoming.get(..upcoming.len().min(256)).unwrap_or_default();
        reader.decode(id, upcoming, TimeRange::ALL, &mut labels, &mut chunks)?;
        health.series += 1;
        health.chunks += chunks.len() as u64;
        if i > 0 && labels <= last {
            health.unsorted_series += 1;
        }
        health.out_of_order_labels += u64::from(!labels.is_sorted_by(|a, b| a.0 < b.0));
        std::mem::swap(&mut last, &mut labels);

        let mut wrong = 0;
        for (i, chunk) in chunks.iter().enumerate() {
            let before = i.checked_sub(1).and_then(|i| chunks.get(i));
            if let Some(before) = before
                && chunk.min <= before.max
            {
                match (chunk.min, chunk.max) == (before.min, before.max) {
                    true => health.duplicated_chunks += 1,
                    false => wrong += 1,
                }
            }
            if chunk.min < range.min || chunk.max > range.max {
                health.outside_chunks += 1;
                if chunk.max < range.min || chunk.min > range.max {
                    health.completely_outside_chunks += 1;
                    health.at_the_end_chunks += u64::from(chunk.min == range.max + 1);
                }
            }
        }
        health.out_of_order_chunks += wrong;
        health.out_of_order_series += u64::from(wrong > 0);
    }
    Ok(health)
}

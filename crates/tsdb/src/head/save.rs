//! Moving finished chunks from memory to files, and back into place when a head is opened.

use std::path::Path;
use std::sync::Arc;

use block::fs::Fs;
use hashbrown::HashMap;
use model::{Millis, SeriesRef, TimeRange};

use super::files::{self, ChunkFile, ChunkFiles, Found, Place, Unsaved};
use super::ooo::OooUnfiled;
use super::page::{FromFiles, PAGE};
use super::{Head, page, place};
use crate::Error;

/// Chunks are written once they have so many bytes together.
const BATCH: usize = 1 << 20;

/// Chunks on their way to a file.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Page, slot, what the page knows of it, where its bytes end.
    chunks: Vec<(usize, usize, page::Finished, usize)>,
}

/// The chunks that files hold, until their series are found in the log.
#[derive(Default)]
pub(crate) struct Filed(HashMap<u64, Vec<Found>>);

impl Filed {
    /// The chunks of the series that the log calls `reference`.
    pub(crate) fn take(&mut self, reference: u64) -> Option<Vec<Found>> {
        self.0.remove(&reference)
    }

    /// Chunks whose series the log does not have.
    pub(crate) fn left(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

impl Head {
    /// Opens the folder of chunk files: what they hold is given to its series as the log names them.
    /// Chunks that end before `min` are in blocks. Call before replay.
    pub(crate) fn open_files(
        &self,
        dir: &Path,
        fs: Arc<dyn Fs>,
        min: Millis,
        damaged: &mut Vec<String>,
    ) -> Result<Filed, Error> {
        let stats = Arc::clone(&self.stats.chunk_files);
        let (files, loaded) = ChunkFiles::open(dir, fs, min, stats, damaged)?;
        // A series that went may have left chunks: nobody may be given its number.
        self.skip_numbers(loaded.highest);
        let _ = self.files.set(files);
        Ok(Filed(loaded.chunks))
    }

    /// Gives a series the chunks that files hold of it. What does not lie behind the one before is left
    /// out, with all that follows: their samples are in the log.
    pub(crate) fn attach(&self, id: u32, found: &[Found]) {
        let ascending = found
            .windows(2)
            .position(|w| matches!(w, [a, b] if b.min <= a.max));
        let found = found.get(..ascending.map_or(found.len(), |i| i + 1));
        let found = found.unwrap_or_default();
        let (number, slot) = place(id);
        let Some(page) = self.page(number) else {
            return;
        };
        let taken = page.0.lock().attach(slot, found);
        if let (Some(first), Some(last)) = (found.first(), found.last())
            && taken > 0
        {
            self.stats.chunks.add(taken as i64);
            self.saw(TimeRange::new(first.min, last.max));
        }
    }

    /// Writes the finished chunks that lie in memory to files. After an error they stay in memory.
    /// No series, chunk or sample may be removed meanwhile.
    pub(crate) fn save_chunks(&self) -> Result<(), Error> {
        let Some(files) = self.files.get() else {
            return Ok(());
        };
        // Batches that begin from now on have higher numbers.
        let low = self.isolation.low();
        let mut gathered = Gathered::default();
        for (number, page) in self.walk() {
            page.0.lock().unfiled(low, |unfiled| {
                gathered.bytes.extend_from_slice(unfiled.bytes);
                let end = gathered.bytes.len();
                gathered
                    .chunks
                    .push((number, unfiled.slot, unfiled.chunk, end));
            });
            if gathered.bytes.len() >= BATCH {
                self.save(files, &mut gathered)?;
            }
        }
        self.save(files, &mut gathered)?;
        self.save_ooo(files)
    }

    /// The same for chunks that came out of order.
    fn save_ooo(&self, files: &ChunkFiles) -> Result<(), Error> {
        let mut gathered: Vec<(usize, OooUnfiled)> = Vec::new();
        let mut bytes = 0;
        for (number, page) in self.walk() {
            if let Some(store) = &page.0.lock().ooo {
                gathered.extend(
                    store
                        .unfiled()
                        .inspect(|c| bytes += c.bytes.len())
                        .map(|c| (number, c)),
                );
            }
            if bytes >= BATCH {
                self.save_late(files, &gathered)?;
                gathered.clear();
                bytes = 0;
            }
        }
        self.save_late(files, &gathered)
    }

    fn save_late(&self, files: &ChunkFiles, gathered: &[(usize, OooUnfiled)]) -> Result<(), Error> {
        let chunks = gathered.iter().map(|(number, c)| Unsaved {
            series: *number as u64 * u64::from(PAGE) + c.slot as u64,
            min: c.min,
            max: c.max,
            encoding: files::out_of_order(c.encoding),
            bytes: &c.bytes,
        });
        let chunks: Vec<Unsaved<'_>> = chunks.collect();
        let places = files
            .write(&chunks)
            .inspect_err(|_| self.stats.chunk_files.writes_failed.inc())?;
        for ((number, chunk), at) in gathered.iter().zip(places) {
            // Held by its bytes: the file may go before the chunk does.
            let mapped = files.file(at.file).and_then(|file| file.shared());
            let end = at.offset as usize + chunk.bytes.len();
            let Some(mapped) = mapped.filter(|all| end <= all.len()) else {
                continue;
            };
            if let Some(page) = self.page(*number)
                && let Some(store) = &mut page.0.lock().ooo
            {
                store.filed(chunk, mapped.slice(at.offset as usize..end));
            }
        }
        Ok(())
    }

    fn save(&self, files: &ChunkFiles, gathered: &mut Gathered) -> Result<(), Error> {
        let mut start = 0;
        let chunks = gathered.chunks.iter().map(|(number, slot, chunk, end)| {
            let bytes = gathered.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            Unsaved {
                series: *number as u64 * u64::from(PAGE) + *slot as u64,
                min: chunk.min,
                max: chunk.max(),
                encoding: chunk.encoding(),
                bytes,
            }
        });
        let chunks: Vec<Unsaved<'_>> = chunks.collect();
        let places = files
            .write(&chunks)
            .inspect_err(|_| self.stats.chunk_files.writes_failed.inc())?;
        for ((number, slot, chunk, _), at) in gathered.chunks.iter().zip(places) {
            if let Some(page) = self.page(*number) {
                page.0.lock().filed(*slot, chunk, at);
            }
        }
        gathered.bytes.clear();
        gathered.chunks.clear();
        Ok(())
    }

    /// Removes the files in which nothing is as new as `before`.
    pub(crate) fn truncate_files(&self, before: Millis) -> Result<(), Error> {
        match self.files.get() {
            Some(files) => files.truncate(before),
            None => Ok(()),
        }
    }

    /// The file in which a chunk lies.
    pub(super) fn file(&self, at: Place) -> Option<Arc<ChunkFile>> {
        self.files.get()?.file(at.file)
    }

    /// Reads chunks that lie in files.
    pub(super) fn read_files(&self, wanted: &[(Place, u32)]) -> Result<FromFiles, Error> {
        let mut read = FromFiles::new();
        for &(at, len) in wanted {
            let Some(file) = self.file(at) else {
                return Err(Error::Invalid("a file of chunks is gone".into()));
            };
            let bytes = file.chunk(at.offset, len);
            let bytes = bytes.map_err(Error::io("reading", file.path()))?;
            read.insert((at.file, at.offset), bytes);
        }
        Ok(read)
    }

    /// The number of a series of this head.
    pub(super) fn own(&self, series: &SeriesRef) -> Option<u32> {
        match series.generation == self.generation {
            true => u32::try_from(series.id).ok(),
            false => None,
        }
    }

    /// Counts what is only counted now and then.
    pub(crate) fn tell(&self) {
        let stats = &self.stats.head;
        let (mut stale, mut histograms, mut buckets) = (0, 0, 0);
        for (_, page) in self.walk() {
            let page = page.0.lock();
            for series in page.series.iter().flatten() {
                stale += i64::from(series.open.is_stale());
                if let super::open::Open::Histograms(open) = &series.open {
                    histograms += 1;
                    buckets += i64::from(open.buckets);
                }
            }
        }
        stats.stale_series.set(stale);
        stats.histogram_series.set(histograms);
        stats.histogram_buckets.set(buckets);
        let (low, high) = self.isolation.watermarks();
        stats.low_watermark.set(low as i64);
        stats.high_watermark.set(high as i64);
        stats
            .symbol_bytes
            .set(self.index.read().symbol_bytes() as i64);
    }
}

//! Handing chunks of the head to a block writer, series by series in the order of their labels.

use block::index::SymbolSet;
use block::{BlockError, Chunk, Writer};
use model::{Encoding, Millis};

use super::files::Place;
use super::index::{Index, PairId};
use super::page::SeenBytes;
use super::{Head, Snapshot, place};
use crate::stats::ChunkSizes;

/// The series that have chunks in a range, in the order of their labels.
pub(crate) struct Export {
    symbols: SymbolSet,
    /// Ordinals of name and value, by the rank of the pair.
    pairs: Vec<(u32, u32)>,
    /// Ranks of the pairs of all series.
    labels: Vec<u32>,
    series: Vec<(u32, u32, u32)>,
}

impl Export {
    /// The symbols that the block needs.
    pub(crate) fn take_symbols(&mut self) -> SymbolSet {
        std::mem::take(&mut self.symbols)
    }
}

/// A pair as symbols, and its number.
pub(super) type Ranked = ((u32, u32), PairId);

/// The symbols of these pairs, and the pairs as symbols with their numbers, ascending: their ranks
/// order series as their labels do.
pub(super) fn ranked(index: &Index, pairs: &[PairId]) -> (SymbolSet, Vec<Ranked>) {
    let texts = pairs.iter().map(|&p| index.pair(p));
    let symbols = SymbolSet::collect(texts.flat_map(|(n, v)| [n, v]));
    let ordinal = |s: &str| symbols.find(s).unwrap_or(0);
    let mut ranked: Vec<Ranked> = pairs
        .iter()
        .map(|&p| {
            let (name, value) = index.pair(p);
            ((ordinal(name), ordinal(value)), p)
        })
        .collect();
    ranked.sort_unstable();
    (symbols, ranked)
}

impl Head {
    /// Gathers the series with chunks in `min..max`. Memory: four bytes a label. No series may be
    /// removed before the export is written: numbers of pairs must stay what they are.
    pub(crate) fn export(
        &self,
        (min, max): (Millis, Millis),
        snapshot: Option<&Snapshot>,
    ) -> Export {
        let index = self.index.read();
        let pages = self.pages.read();
        let used = index.pair_ids();
        let (symbols, ranked) = ranked(&index, &used);
        let mut rank_of = vec![0u32; used.last().map_or(0, |&p| p as usize + 1)];
        for (rank, (_, pair)) in ranked.iter().enumerate() {
            rank_of[*pair as usize] = rank as u32;
        }
        let mut labels: Vec<u32> = Vec::new();
        let mut series = Vec::new();
        for (number, page) in pages.iter() {
            let page = page.0.lock();
            for (slot, s) in page.series.iter().enumerate() {
                let Some(s) = s else { continue };
                if !page.see(slot, (min, max - 1), snapshot, |_| {}) {
                    continue;
                }
                let start = labels.len() as u32;
                labels.extend(page.labels(s).iter().map(|&p| rank_of[p as usize]));
                let id = number as u32 * super::PAGE + slot as u32;
                series.push((id, start, labels.len() as u32));
            }
        }
        drop(pages);
        drop(index);
        let of = |s: &(u32, u32, u32)| &labels[s.1 as usize..s.2 as usize];
        series.sort_unstable_by(|a, b| of(a).cmp(of(b)));
        Export {
            symbols,
            pairs: ranked.into_iter().map(|r| r.0).collect(),
            labels,
            series,
        }
    }

    /// Writes the chunks in `min..max` of the series of an export.
    pub(crate) fn write(
        &self,
        export: &Export,
        (min, max): (Millis, Millis),
        snapshot: Option<&Snapshot>,
        sizes: &ChunkSizes,
        writer: &mut Writer,
    ) -> Result<(), BlockError> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut chunks: Vec<(Millis, Millis, Encoding, usize)> = Vec::new();
        let mut in_files: Vec<(Place, std::ops::Range<usize>)> = Vec::new();
        let mut labels = Vec::new();
        for &(id, from, to) in &export.series {
            let (number, slot) = place(id);
            let Some(page) = self.page(number) else {
                continue;
            };
            bytes.clear();
            chunks.clear();
            in_files.clear();
            {
                let page = page.0.lock();
                page.see(slot, (min, max - 1), snapshot, |seen| {
                    match seen.bytes {
                        SeenBytes::Shared(blob, at, len) => {
                            let blob = page.blob(blob);
                            let at = at as usize;
                            bytes.extend_from_slice(
                                blob.get(at..at + len as usize).unwrap_or_default(),
                            );
                        }
                        SeenBytes::InFile(at, len) => {
                            let start = bytes.len();
                            bytes.resize(start + len as usize, 0);
                            in_files.push((at, start..bytes.len()));
                        }
                        SeenBytes::Copy(b) => bytes.extend_from_slice(b),
                        SeenBytes::Cut(b, n) => {
                            bytes.extend_from_slice(&n);
                            bytes.extend_from_slice(b.get(2..).unwrap_or_default());
                        }
                    }
                    chunks.push((seen.min, seen.max, seen.encoding, bytes.len()));
                });
            }
            for (at, range) in in_files.drain(..) {
                let room = bytes.get_mut(range).unwrap_or_default();
                self.read_chunk(at, room)?;
            }
            let mut start = 0;
            let list: Vec<Chunk<'_>> = chunks
                .iter()
                .map(|&(min, max, encoding, end)| {
                    let data = &bytes[start..end];
                    start = end;
                    Chunk {
                        min,
                        max,
                        encoding,
                        data,
                    }
                })
                .collect();
            labels.clear();
            let ranks = &export.labels[from as usize..to as usize];
            labels.extend(ranks.iter().map(|&r| export.pairs[r as usize]));
            writer.add(&labels, &list)?;
            list.iter().for_each(|chunk| sizes.observe(chunk));
        }
        Ok(())
    }

    /// Reads a chunk that lies in a file; nothing is locked meanwhile.
    fn read_chunk(&self, at: Place, out: &mut [u8]) -> Result<(), BlockError> {
        let (what, read) = match self.file(at) {
            Some(file) => (file.path().display().to_string(), file.read(at.offset, out)),
            None => (
                "a file of chunks".to_owned(),
                Err(std::io::ErrorKind::NotFound.into()),
            ),
        };
        read.map_err(|source| BlockError::Io {
            what: format!("reading {what}"),
            source,
        })
    }
}

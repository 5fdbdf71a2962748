//! Handing out-of-order samples to a block writer.

use block::index::SymbolSet;
use block::{BlockError, Chunk, Writer};
use hashbrown::HashMap;
use model::Millis;

use super::super::export::ranked;
use super::super::{Head, PAGE, place};
use super::store::encode;

/// The series with out-of-order samples in a range, in the order of their labels.
pub(crate) struct OooExport {
    symbols: SymbolSet,
    /// Ordinals of name and value, by the rank of the pair.
    pairs: Vec<(u32, u32)>,
    /// Ranks of the pairs of all series.
    labels: Vec<u32>,
    series: Vec<(u32, u32, u32)>,
    epoch: u32,
    /// First and last time.
    range: (Millis, Millis),
}

impl OooExport {
    /// The symbols that the block needs.
    pub(crate) fn take_symbols(&mut self) -> SymbolSet {
        std::mem::take(&mut self.symbols)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

impl Head {
    /// Gathers the series with out-of-order samples in `range` that are older than `epoch`. No
    /// series may be removed before the export is written: numbers of pairs must stay what they are.
    pub(crate) fn ooo_export(&self, epoch: u32, range: (Millis, Millis)) -> OooExport {
        let index = self.index.read();
        let pages = self.pages.read();
        let mut labels: Vec<u32> = Vec::new();
        let mut series = Vec::new();
        for (number, page) in pages.iter() {
            let page = page.0.lock();
            let Some(store) = &page.ooo else { continue };
            for slot in store.older(epoch).filter(|&s| store.any(s, range)) {
                let Some(s) = page.get(slot) else { continue };
                let start = labels.len() as u32;
                labels.extend_from_slice(page.labels(s));
                let id = number as u32 * PAGE + slot as u32;
                series.push((id, start, labels.len() as u32));
            }
        }
        drop(pages);
        let mut used = labels.clone();
        used.sort_unstable();
        used.dedup();
        let (symbols, ranked) = ranked(&index, &used);
        drop(index);
        let ranks: HashMap<u32, u32> = ranked.iter().zip(0..).map(|(r, n)| (r.1, n)).collect();
        for label in &mut labels {
            *label = ranks.get(label).copied().unwrap_or(0);
        }
        let of = |s: &(u32, u32, u32)| &labels[s.1 as usize..s.2 as usize];
        series.sort_unstable_by(|a, b| of(a).cmp(of(b)));
        OooExport {
            symbols,
            pairs: ranked.into_iter().map(|r| r.0).collect(),
            labels,
            series,
            epoch,
            range,
        }
    }

    /// Writes the samples of an export, united and encoded anew.
    pub(crate) fn write_ooo(
        &self,
        export: &OooExport,
        writer: &mut Writer,
    ) -> Result<(), BlockError> {
        let mut samples = Vec::new();
        let mut labels = Vec::new();
        for &(id, from, to) in &export.series {
            let (number, slot) = place(id);
            let Some(page) = self.page(number) else {
                continue;
            };
            {
                let page = page.0.lock();
                let Some(store) = &page.ooo else { continue };
                store
                    .samples(slot, export.epoch, export.range, &mut samples)
                    .map_err(|e| BlockError::Invalid(e.to_string()))?;
            }
            let encoded = encode(&samples);
            let list: Vec<Chunk<'_>> = encoded
                .iter()
                .map(|c| Chunk {
                    min: c.range.min,
                    max: c.range.max,
                    encoding: c.encoding,
                    data: &c.data,
                })
                .collect();
            if list.is_empty() {
                continue;
            }
            labels.clear();
            let ranks = &export.labels[from as usize..to as usize];
            labels.extend(ranks.iter().map(|&r| export.pairs[r as usize]));
            writer.add(&labels, &list)?;
        }
        Ok(())
    }
}

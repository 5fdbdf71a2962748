//! One block, read to its last byte.

use std::path::Path;

use block::postings::Index as _;
use block::{Block, BlockError};
use chunk::Columns;
use model::TimeRange;
use model::histogram::CUSTOM_SCHEMA;

use super::{Findings, Version};
use crate::tools::progress::{Progress, percent};

/// Reads the block in `dir`.
pub fn verify(dir: &Path, name: &str, findings: &mut Findings, progress: &mut Progress) {
    let place = format!("block {name}");
    match Block::open(dir) {
        Err(e) => findings.damaged(&place, e),
        Ok(block) => {
            let before = findings.damage.len();
            if let Err(e) = series(&block, &place, findings, progress) {
                findings.damaged(&place, e);
            }
            if let Err(e) = postings(&block, &place, findings) {
                findings.damaged(&place, e);
            }
            let stats = &block.meta().stats;
            if findings.damage.len() == before {
                println!(
                    "ok {place}: {} series, {} chunks, {} samples",
                    stats.num_series, stats.num_chunks, stats.num_samples
                );
            }
        }
    }
}

fn series(
    block: &Block,
    place: &str,
    findings: &mut Findings,
    progress: &mut Progress,
) -> Result<(), BlockError> {
    let (index, meta) = (block.index(), block.meta());
    let symbols = index.symbols();
    let ids = index.all_series()?;
    let mut reader = index.series();
    let (mut labels, mut chunks, mut before) = (Vec::new(), Vec::new(), Vec::new());
    let mut columns = Columns::default();
    let (mut samples, mut chunk_count) = (0u64, 0u64);
    for (i, &id) in ids.iter().enumerate() {
        std::mem::swap(&mut before, &mut labels);
        labels.clear();
        chunks.clear();
        reader.decode(id, &ids[i + 1..], TimeRange::ALL, &mut labels, &mut chunks)?;
        if i > 0 && labels <= before {
            findings.damaged(place, format!("series {id} is out of the order of labels"));
        }
        let symbol = |o: u32| symbols.get(o).unwrap_or("");
        findings.labels(labels.iter().map(|p| (symbol(p.0), symbol(p.1))), place);
        let mut end = None;
        for c in &chunks {
            chunk_count += 1;
            if end.is_some_and(|end| c.min <= end) {
                findings.damaged(place, format!("chunks of series {id} overlap at {}", c.min));
            }
            end = Some(c.max);
            if c.min < meta.min_time || c.max >= meta.max_time {
                findings.damaged(
                    place,
                    format!(
                        "series {id} has samples from {} to {}, outside the block's time",
                        c.min, c.max
                    ),
                );
            }
            let read = block
                .segments()
                .chunk(c.reference)
                .and_then(|(encoding, data)| {
                    samples += chunk::sample_count(encoding, &data)? as u64;
                    Ok((encoding, data))
                });
            let (encoding, data) = match read {
                Ok(read) => read,
                Err(e) => {
                    findings.damaged(place, format!("a chunk of series {id}: {e}"));
                    continue;
                }
            };
            findings.encoding(encoding, place);
            if encoding == model::Encoding::AGGREGATE {
                continue;
            }
            columns.clear();
            if let Err(e) = chunk::decode(encoding, &data, &mut columns) {
                findings.damaged(place, format!("a chunk of series {id}: {e}"));
                continue;
            }
            check(&columns, c.range(), id, place, findings);
        }
        progress.tick(|| {
            let (done, of) = (i as u64, ids.len() as u64);
            format!("{place}: {done} of {of} series ({}%)", percent(done, of))
        });
    }
    let stats = &meta.stats;
    for (what, said, found) in [
        ("series", stats.num_series, ids.len() as u64),
        ("chunks", stats.num_chunks, chunk_count),
        ("samples", stats.num_samples, samples),
    ] {
        if said != found {
            findings.damaged(
                place,
                format!("meta.json says {said} {what}, there are {found}"),
            );
        }
    }
    for (id, _) in block.tombstones().iter() {
        if u32::try_from(id).map_or(true, |id| ids.binary_search(&id).is_err()) {
            findings.damaged(
                place,
                format!("tombstones delete from series {id}, which is not there"),
            );
        }
    }
    Ok(())
}

/// Whether a chunk holds what the index says.
fn check(columns: &Columns, range: TimeRange, id: u32, place: &str, findings: &mut Findings) {
    let histograms = &columns.histograms;
    let floats = columns.iter().map(|s| s.0);
    let times: Vec<i64> = floats.chain(histograms.iter().map(|h| h.0)).collect();
    if times.windows(2).any(|w| w[0] >= w[1]) {
        findings.damaged(
            place,
            format!("a chunk of series {id} is out of the order of time"),
        );
    }
    if times.first() != Some(&range.min) || times.last() != Some(&range.max) {
        findings.damaged(
            place,
            format!(
                "a chunk of series {id} is not from {} to {} as the index says",
                range.min, range.max
            ),
        );
    }
    if histograms
        .iter()
        .any(|(_, h)| h.layout.schema == CUSTOM_SCHEMA)
    {
        findings.needs(Version::V2_55, "histograms with custom buckets", place);
    }
}

/// Whether every list of postings names series that are there.
fn postings(block: &Block, place: &str, findings: &mut Findings) -> Result<(), BlockError> {
    let index = block.index();
    let ids = index.all_series()?;
    let mut entries = 0u64;
    for name in index.table().names() {
        for (value, at) in index.table().values(name, "") {
            index.postings(&[at], &mut |list| {
                entries += list.len() as u64;
                let unknown = list
                    .iter()
                    .filter(|id| ids.binary_search(id).is_err())
                    .count();
                if unknown > 0 {
                    findings.damaged(
                        place,
                        format!("{unknown} series of {name}={value:?} are not there"),
                    );
                }
            })?;
        }
    }
    if entries == 0 && !ids.is_empty() {
        findings.damaged(place, "no series is found by its labels");
    }
    Ok(())
}

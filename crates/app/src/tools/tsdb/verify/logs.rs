//! Logs and head chunk files, read to their last byte.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use model::Encoding;
use tsdb::wal::record::{self, BadRecord};
use tsdb::wal::{ReadError, SegmentReader};

use super::{Findings, Version};
use crate::tools::progress::Progress;

/// Reads the segments in `dir`, those of a checkpoint too.
pub fn log(dir: &Path, name: &str, findings: &mut Findings, progress: &mut Progress) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    if let Some((number, path)) = tsdb::wal::checkpoint::latest(dir)? {
        segments(
            &path,
            &format!("{name}/checkpoint.{number:08}"),
            findings,
            progress,
        )?;
    }
    segments(dir, name, findings, progress)
}

fn segments(
    dir: &Path,
    name: &str,
    findings: &mut Findings,
    progress: &mut Progress,
) -> Result<()> {
    let all = tsdb::wal::segments(dir)?;
    let (mut records, damage) = (0u64, findings.damage.len());
    for (i, (number, path)) in all.iter().enumerate() {
        let place = format!("{name}/{number:08}");
        compression(path, &place, findings)?;
        let mut reader = SegmentReader::open(path)?;
        loop {
            match reader.read() {
                Ok(Some(bytes)) => {
                    records += 1;
                    if judge(bytes, &place, findings).is_err() {
                        findings.damaged(
                            &place,
                            format!("a malformed record of type {}", bytes.first().unwrap_or(&0)),
                        );
                    }
                }
                Ok(None) => break,
                Err(ReadError::Corrupt { torn: true, .. }) if i + 1 == all.len() => {
                    println!("note: {place} ends inside a record, as after any crash");
                    break;
                }
                Err(e) => {
                    let good = reader.good_offset();
                    findings.damaged(&place, e.at(path, good));
                    break;
                }
            }
            progress.tick(|| format!("{place}: {records} records"));
        }
    }
    if !all.is_empty() && findings.damage.len() == damage {
        println!("ok {name}: {} segments, {records} records", all.len());
    }
    Ok(())
}

/// Reads one record to its end, and says what it needs.
fn judge(bytes: &[u8], place: &str, findings: &mut Findings) -> Result<(), BadRecord> {
    let kind = bytes.first().copied().unwrap_or(0);
    match kind {
        1 => record::read_series(bytes, |_, labels| {
            findings.labels(labels.iter().copied(), place);
        }),
        2 => record::read_samples(bytes, |_, _, _| {}),
        3 => record::read_tombstones(bytes, |_, _, _| {}),
        4 => record::read_exemplars(bytes, |_, _, _, _| {}),
        // References of chunks, for the out-of-order log.
        5 => match bytes.len() % 16 {
            1 => Ok(()),
            _ => Err(BadRecord),
        },
        6 => record::read_metadata(bytes, |_, _, _, _| {}),
        7..=10 | 12 | 13 => {
            match kind {
                9 | 10 => findings.needs(
                    Version::V3,
                    "log records of histograms with custom buckets (9, 10)",
                    place,
                ),
                12 | 13 => findings.needs(
                    Version::V3_10,
                    "log records of histograms with start timestamps (12, 13)",
                    place,
                ),
                _ => {}
            }
            record::read_histograms(bytes, |_, _, _, _| {})
        }
        11 => {
            findings.needs(
                Version::V3_10,
                "log records of samples with start timestamps (11)",
                place,
            );
            record::read_samples(bytes, |_, _, _| {})
        }
        _ => {
            findings.needs(Version::Never, "log records of an unknown type", place);
            Ok(())
        }
    }
}

/// How the fragments of a segment are compressed: a walk over their headers.
fn compression(path: &Path, place: &str, findings: &mut Findings) -> Result<()> {
    const PAGE: usize = tsdb::wal::PAGE;
    const HEADER: usize = 7;
    let mut file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut page = Vec::with_capacity(PAGE);
    loop {
        page.clear();
        let n = file.by_ref().take(PAGE as u64).read_to_end(&mut page)?;
        if n == 0 {
            return Ok(());
        }
        let mut at = 0;
        while let Some(&[kind, a, b, ..]) = page.get(at..at + HEADER) {
            if kind & 7 == 0 {
                break;
            }
            if kind & 0x10 != 0 {
                findings.needs(Version::V2_55, "log records compressed with zstd", place);
            }
            at += HEADER + usize::from(u16::from_be_bytes([a, b]));
        }
    }
}

const MAGIC: [u8; 4] = 0x0130_BC91_u32.to_be_bytes();
const HEADER: usize = 8;

/// Reads the head chunk files in `dir`.
pub fn head_chunks(dir: &Path, findings: &mut Findings) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string());
    }
    names.retain(|n| n.len() == 6 && n.bytes().all(|b| b.is_ascii_digit()));
    names.sort();
    let (mut chunks, damage) = (0u64, findings.damage.len());
    for (i, name) in names.iter().enumerate() {
        let place = format!("chunks_head/{name}");
        // Each is at most 128 MiB.
        let bytes = std::fs::read(dir.join(name))?;
        if bytes.is_empty() && i + 1 == names.len() {
            continue;
        }
        if bytes.get(..4) != Some(&MAGIC) || bytes.get(4) != Some(&1) {
            findings.damaged(&place, "no head chunk file of version 1");
            continue;
        }
        let mut rest = bytes.get(HEADER..).unwrap_or_default();
        // What was set aside for a file and never written is zeros.
        while rest.iter().take(64).any(|b| *b != 0) {
            match entry(rest) {
                Some((encoding, data, len, true)) => {
                    chunks += 1;
                    findings.encoding(encoding, &place);
                    let mut columns = chunk::Columns::default();
                    if let Err(e) = chunk::decode(encoding, data, &mut columns) {
                        findings.damaged(&place, e);
                    }
                    rest = rest.get(len..).unwrap_or_default();
                }
                None if i + 1 == names.len() => {
                    println!("note: {place} ends inside a chunk, as after any crash");
                    break;
                }
                found => {
                    let at = bytes.len() - rest.len();
                    let what = match found {
                        Some(_) => format!("the checksum of the chunk at byte {at} is wrong"),
                        None => format!("it ends within the chunk at byte {at}"),
                    };
                    findings.damaged(&place, what);
                    break;
                }
            }
        }
    }
    if !names.is_empty() && findings.damage.len() == damage {
        println!("ok chunks_head: {} files, {chunks} chunks", names.len());
    }
    Ok(())
}

/// `u64 series | u64 min | u64 max | u8 encoding | uvarint length | data | u32 CRC`: the encoding, the
/// data, the length of all, and whether the checksum is right; none if the bytes end before it.
fn entry(bytes: &[u8]) -> Option<(Encoding, &[u8], usize, bool)> {
    const FIXED: usize = 24;
    let encoding = bytes.get(FIXED)? & 0x7f;
    let (mut len, mut at) = (0usize, FIXED + 1);
    for shift in (0..).step_by(7).take(5) {
        let byte = *bytes.get(at)?;
        at += 1;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    let end = at.checked_add(len)?;
    let data = bytes.get(at..end)?;
    let sum = bytes.get(end..end + 4)?;
    let right = crc32c::crc32c(bytes.get(..end)?).to_be_bytes();
    Some((Encoding(encoding), data, end + 4, sum == right))
}

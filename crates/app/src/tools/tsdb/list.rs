//! `tools tsdb list`: the blocks of a data folder.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use block::{Block, Meta};
use ulid::Ulid;

use super::show;

/// Prints the table.
pub fn run(dir: &Path, human: bool) -> Result<ExitCode> {
    let blocks = find(dir)?;
    let list: Vec<(Meta, u64)> = blocks
        .iter()
        .map(|b| Ok((b.meta().clone(), size(b.dir())?)))
        .collect::<Result<_>>()?;
    if !list.is_empty() {
        print!("{}", show::blocks(&list, true, human));
    } else {
        print!("{}", show::blocks(&[], true, human));
    }
    Ok(ExitCode::SUCCESS)
}

/// The blocks in a folder, ascending by time. Fails if one of them cannot be read, unless another
/// was made of it.
pub fn find(dir: &Path) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut broken = Vec::new();
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("opening the db dir: {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let Ok(ulid) = Ulid::from_string(name) else {
            continue;
        };
        if !path.join(block::meta::FILE).exists() {
            continue;
        }
        match Block::open(&path) {
            Ok(block) => blocks.push(block),
            Err(e) => broken.push((ulid, e)),
        }
    }
    broken.retain(|(ulid, _)| {
        let parents = blocks.iter().flat_map(|b| &b.meta().compaction.parents);
        parents.into_iter().all(|p| p.ulid != *ulid)
    });
    if !broken.is_empty() {
        let texts: Vec<String> = broken
            .iter()
            .map(|(ulid, e)| format!("corrupted block {ulid}: {e}"))
            .collect();
        bail!("{}", texts.join("\n"));
    }
    blocks.sort_by_key(|b| (b.meta().min_time, b.meta().ulid));
    Ok(blocks)
}

/// Bytes of a block's files.
pub fn size(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        sum += match entry.file_type()?.is_dir() {
            true => size(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(sum)
}

//! `tools bucket`: what `thanos tools bucket` does, with its flags and outputs.

mod change;
mod copy;
mod duty;
mod list;
mod rewrite;
mod verify;
mod web;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bucket::{Bucket, Catalog, CatalogOptions};
use clap::{ArgMatches, Command};
use ulid::Ulid;

use crate::kingpin::{Flag, Typed, register};
use crate::roles::compact::objstore;
use crate::tools::progress;

/// One tool.
struct Tool {
    name: &'static str,
    about: &'static str,
    flags: &'static [&'static [Flag]],
    run: fn(&Typed<'_>) -> Result<ExitCode>,
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "verify",
        about: "Verify all blocks in the bucket against specified issues",
        flags: verify::FLAGS,
        run: verify::run,
    },
    Tool {
        name: "ls",
        about: "List all blocks in the bucket",
        flags: list::LS,
        run: list::ls,
    },
    Tool {
        name: "inspect",
        about: "Inspect all blocks in the bucket in detailed, table-like way",
        flags: list::INSPECT,
        run: list::inspect,
    },
    Tool {
        name: "web",
        about: "Web interface for the bucket",
        flags: web::FLAGS,
        run: web::run,
    },
    Tool {
        name: "replicate",
        about: "Replicate data from one bucket to another. NOTE: Currently it works only with blocks (chunks, index and meta.json)",
        flags: copy::REPLICATE,
        run: copy::replicate,
    },
    Tool {
        name: "downsample",
        about: "Continuously downsamples blocks in the bucket",
        flags: duty::DOWNSAMPLE,
        run: duty::downsample,
    },
    Tool {
        name: "cleanup",
        about: "Cleans up all blocks marked for deletion, and partial uploads",
        flags: duty::CLEANUP,
        run: duty::cleanup,
    },
    Tool {
        name: "mark",
        about: "Mark block for deletion or no-compact in a safe way. NOTE: If the compactor is running compacting same block, this operation would be potentially a noop",
        flags: change::MARK,
        run: change::mark,
    },
    Tool {
        name: "rewrite",
        about: "Rewrite chosen blocks in the bucket, while deleting or modifying series",
        flags: rewrite::FLAGS,
        run: rewrite::run,
    },
    Tool {
        name: "retention",
        about: "Retention applies retention policies on the given bucket. Please make sure no compactor is running on the same bucket at the same time",
        flags: duty::RETENTION,
        run: duty::retention,
    },
    Tool {
        name: "upload-blocks",
        about: "Upload blocks push blocks from the provided path to the object storage",
        flags: copy::UPLOAD,
        run: copy::upload,
    },
];

/// The command line.
pub fn command() -> Command {
    let mut command = Command::new("bucket")
        .about("Bucket utility commands")
        .subcommand_required(true)
        .arg_required_else_help(true);
    for tool in TOOLS {
        let tool_command = Command::new(tool.name).about(tool.about);
        command = command.subcommand(register(tool_command, tool.flags));
    }
    command
}

/// The flag tables, by the name of their tool.
pub fn tables() -> impl Iterator<Item = (&'static str, &'static [&'static [Flag]])> {
    TOOLS.iter().map(|tool| (tool.name, tool.flags))
}

/// Runs what was typed behind `tools bucket`.
pub fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    let Some((name, matches)) = matches.subcommand() else {
        return Ok(ExitCode::from(2));
    };
    let Some(tool) = TOOLS.iter().find(|tool| tool.name == name) else {
        return Ok(ExitCode::from(2));
    };
    let typed = Typed::new(matches, tool.flags);
    crate::logging::init(&typed)?;
    crate::roles::warn_without_effect(&typed);
    (tool.run)(&typed)
}

/// The bucket that the flags name.
fn open(typed: &Typed<'_>) -> Result<Arc<Bucket>> {
    Ok(bucket::open(&objstore(typed)?, &metrics::Registry::new())?)
}

/// All blocks that `options` let through.
async fn look(bucket: &Arc<Bucket>, options: CatalogOptions) -> Result<Arc<Catalog>> {
    let options = CatalogOptions {
        on_read: Some(progress::looks()),
        ..options
    };
    let catalog = Catalog::new(Arc::clone(bucket), options, &metrics::Registry::new())?;
    catalog.sync().await.context("listing the bucket")?;
    for (ulid, why) in &catalog.snapshot().unreadable {
        tracing::warn!(block = %ulid, why, "a block cannot be read");
    }
    Ok(Arc::new(catalog))
}

/// The ULIDs of a flag that may be repeated.
fn ulids(typed: &Typed<'_>, flag: &str) -> Result<Vec<Ulid>> {
    let parse = |text: &str| {
        let wrong = |e| typed.error(flag, format!("{text:?} is not a valid block ULID: {e}"));
        Ulid::from_string(text).map_err(wrong)
    };
    let list: Result<Vec<Ulid>, _> = typed.list(flag).into_iter().map(parse).collect();
    Ok(list?)
}

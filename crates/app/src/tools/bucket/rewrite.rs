//! `rewrite`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use block::Meta;
use bucket::Bucket;
use bucket::marks::{self, DeletionMark};
use compact::output::{HashFunc, Output};
use compact::rewrite::{Change, Deletion, Rewrite};
use model::TimeRange;
use model::time::{Clock as _, WallClock};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use ulid::Ulid;

use crate::flags::thanos;
use crate::kingpin::{Flag, Typed, many, switch, switch_on, value};
use crate::logging;
use crate::outpost::content;
use crate::roles::compact::hash_func;
use crate::terminal;
use crate::tools::progress::Work;

/// The flags of `rewrite`.
pub const FLAGS: &[&[Flag]] = &[
    &[
        many("id", "ID (ULID) of the blocks for rewrite (repeated flag)."),
        value(
            "tmp.dir",
            "/tmp/thanos-rewrite",
            "Working directory for temporary files.",
        ),
        switch_on(
            "dry-run",
            "Prints the series changes instead of doing them. Defaults to true, for user to double check. Pass --no-dry-run to skip this.",
        ),
        switch(
            "prom-blocks",
            "If specified, we assume the blocks to be uploaded are only used with Prometheus so we don't check external labels in this case.",
        ),
        switch(
            "delete-blocks",
            "Whether to delete the original blocks after rewriting blocks successfully. Available in non dry-run mode only.",
        ),
        value(
            "hash-func",
            "",
            "Specify which hash function to use when calculating the hashes of produced files: \"\" or SHA256.",
        ),
        value(
            "rewrite.to-delete-config",
            "",
            "YAML list of what to delete: matchers, and intervals of mint and maxt (none: everything).",
        ),
        value(
            "rewrite.to-delete-config-file",
            "",
            "Path to YAML list of what to delete.",
        ),
        value(
            "rewrite.to-relabel-config",
            "",
            "YAML list of relabel configs that will be applied to blocks.",
        ),
        value(
            "rewrite.to-relabel-config-file",
            "",
            "Path to YAML list of relabel configs that will be applied to blocks.",
        ),
        switch_on(
            "rewrite.add-change-log",
            "Print every change to the error stream, in a dry run and without.",
        ),
    ],
    thanos::OBJSTORE,
    logging::FLAGS,
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    matchers: String,
    #[serde(default)]
    intervals: Vec<Interval>,
    #[serde(default)]
    request_id: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interval {
    mint: i64,
    maxt: i64,
}

struct Wanted {
    rewrite: Rewrite,
    /// For `meta.json`.
    deletions: Value,
    relabels: Value,
}

fn wanted(typed: &Typed<'_>) -> Result<Wanted> {
    let mut wanted = Wanted {
        rewrite: Rewrite::default(),
        deletions: Value::Null,
        relabels: Value::Null,
    };
    if let Some(text) = content(typed, "rewrite.to-delete-config")? {
        let wrong = |e: String| typed.error("rewrite.to-delete-config", e);
        let requests: Vec<Request> = wire::yaml(&text).map_err(wrong)?;
        let mut said = Vec::new();
        for request in requests {
            let matchers = promql::parse::parse_selector(&request.matchers)
                .map_err(|e| wrong(format!("matchers {:?}: {e}", request.matchers)))?;
            let intervals = &request.intervals;
            said.push(json!({
                "matchers": request.matchers,
                "intervals": intervals.iter().map(|i| json!({"Mint": i.mint, "Maxt": i.maxt})).collect::<Vec<_>>(),
                "request_id": request.request_id,
            }));
            let intervals = intervals.iter().map(|i| TimeRange::new(i.mint, i.maxt));
            wanted.rewrite.deletions.push(Deletion {
                matchers,
                intervals: intervals.collect(),
            });
        }
        wanted.deletions = said.into();
    }
    if let Some(text) = content(typed, "rewrite.to-relabel-config")? {
        let wrong = |e: String| typed.error("rewrite.to-relabel-config", e);
        let configs: Vec<model::relabel::Config> = wire::yaml(&text).map_err(wrong)?;
        let scheme = model::relabel::NameScheme::Utf8;
        let rules = model::relabel::compile(&configs, scheme);
        wanted.rewrite.relabel = rules.map_err(|e| wrong(e.to_string()))?;
        wanted.relabels = wire::yaml(&text).map_err(wrong)?;
    }
    if wanted.rewrite.deletions.is_empty() && wanted.rewrite.relabel.is_empty() {
        bail!("rewrite configuration should be provided");
    }
    Ok(wanted)
}

/// Runs `rewrite`.
pub fn run(typed: &Typed<'_>) -> Result<ExitCode> {
    let blocks = super::ulids(typed, "id")?;
    if blocks.is_empty() {
        return Err(typed.error("id", "a block is needed").into());
    }
    let wanted = Arc::new(wanted(typed)?);
    let bucket = super::open(typed)?;
    let hash = hash_func(typed)?;
    let dir = PathBuf::from(typed.required("tmp.dir")?);
    let (dry, log) = (
        typed.switch("dry-run"),
        typed.switch("rewrite.add-change-log"),
    );
    let (prometheus, delete) = (typed.switch("prom-blocks"), typed.switch("delete-blocks"));
    crate::runtime::run(async {
        let mut metas = Vec::with_capacity(blocks.len());
        for block in blocks {
            let key = marks::key(block, block::meta::FILE);
            let meta = Meta::parse(&bucket.get(&key).await?);
            metas.push(meta.with_context(|| format!("reading {key}"))?);
        }
        // A dry run looks into indexes only.
        let read = if dry { Meta::index_bytes } else { Meta::bytes };
        let source = Arc::clone(&bucket);
        let (count, bytes) = (metas.len() as u64, metas.iter().map(read).sum());
        let moved = move || source.fetched_bytes();
        let work = Work::begin("rewriting", "blocks", count, bytes, moved);
        for meta in metas {
            let block = meta.ulid;
            let labelled = meta.thanos.as_ref().is_some_and(|t| !t.labels.is_empty());
            if !labelled && !prometheus && !dry {
                bail!(
                    "block {block}: empty external labels are not allowed for Thanos block; give --prom-blocks for blocks of a Prometheus"
                );
            }
            let made = one(&bucket, &meta, &wanted, &dir, hash, dry, log || dry).await?;
            match made {
                None if dry => {
                    tracing::info!(%block, "dry run finished; changes are printed to the error stream")
                }
                None => {
                    tracing::warn!(%block, "nothing would be left of the block: mark it for deletion instead")
                }
                Some(new) => {
                    tracing::info!(source = %block, %new, "uploaded");
                    if delete {
                        let mark = DeletionMark::new(block, "block rewritten", WallClock.now());
                        marks::write(&bucket, block, &mark).await?;
                    }
                }
            }
            work.done(read(&meta));
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn one(
    bucket: &Arc<Bucket>,
    meta: &Meta,
    wanted: &Arc<Wanted>,
    dir: &std::path::Path,
    hash: HashFunc,
    dry: bool,
    log: bool,
) -> Result<Option<Ulid>> {
    let new = Ulid::generate();
    let parent = dir.join(new.to_string());
    let output = Output::new(Arc::clone(bucket), Handle::current(), new, &parent, hash);
    let making = {
        let (bucket, old, wanted) = (Arc::clone(bucket), meta.clone(), Arc::clone(wanted));
        let (output, parent, runtime) = (Arc::clone(&output), parent.clone(), Handle::current());
        move || -> Result<Option<Meta>> {
            let window = compact::input::window(1);
            let (block, _) = compact::input::open(&bucket, &runtime, &old, window)?;
            let plan = wanted.rewrite.plan(&block, |change| {
                if log {
                    terminal::above(|| eprintln!("{}", line(&change)));
                }
            })?;
            if dry {
                return Ok(None);
            }
            let mut meta = old.clone();
            meta.ulid = new;
            let thanos = meta.thanos.get_or_insert_default();
            thanos.rewrites.push(json!({
                "sources": old.compaction.sources.iter().map(Ulid::to_string).collect::<Vec<_>>(),
                "deletions_applied": wanted.deletions,
                "relabels_applied": wanted.relabels,
            }));
            thanos.source = "bucket.rewrite".to_owned();
            meta.compaction.sources = vec![new];
            Ok(plan.write(&block, output, &parent, meta)?)
        }
    };
    let made = tokio::task::spawn_blocking(making).await?;
    let done = async {
        let Some(mut meta) = made? else {
            return Ok(None);
        };
        output.upload_index(&mut meta).await?;
        output.publish(&mut meta).await?;
        Ok::<_, anyhow::Error>(Some(new))
    };
    let done = done.await;
    let _ = std::fs::remove_dir_all(parent);
    if !matches!(done, Ok(Some(_))) && !dry {
        output.discard().await;
    }
    done
}

fn line(change: &Change) -> String {
    match change {
        Change::Deleted(labels, times) => {
            let times: Vec<String> = times
                .iter()
                .map(|t| format!("{{{} {}}}", t.min, t.max))
                .collect();
            format!("Deleted {labels} [{}]", times.join(" "))
        }
        Change::Relabelled(labels, Some(to)) => format!("Relabelled {labels} {to}"),
        Change::Relabelled(labels, None) => format!("Dropped {labels}"),
    }
}

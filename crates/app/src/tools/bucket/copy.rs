//! `replicate` and `upload-blocks`.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use block::Meta;
use bucket::{Bucket, CatalogOptions, Shipper, ShipperOptions};
use compact::replicate::{Replicated, in_order};
use model::{Labels, Matcher};
use parking_lot::Mutex;
use ulid::Ulid;

use crate::flags::{compact as flags, thanos};
use crate::kingpin::{Flag, Typed, many, many_or, optional, switch, value};
use crate::logging;
use crate::outpost::content;
use crate::roles::compact::selection;
use crate::tools::progress::Work;

/// The flags of `replicate`.
pub const REPLICATE: &[&[Flag]] = &[
    &[
        optional(
            "objstore-to.config",
            "YAML that configures the object store that blocks are copied to.",
        ),
        optional(
            "objstore-to.config-file",
            "Path to YAML that configures the object store that blocks are copied to.",
        ),
        many_or(
            "resolution",
            "0s,5m,1h",
            "Only blocks with these resolutions will be replicated. Repeated flag.",
        ),
        value(
            "compaction-min",
            "1",
            "Only blocks with at least this compaction level will be replicated.",
        ),
        value(
            "compaction-max",
            "4",
            "Only blocks up to a maximum of this compaction level will be replicated.",
        ),
        many(
            "compaction",
            "Only blocks with these compaction levels will be replicated. Repeated flag. Overrides compaction-min and compaction-max if set.",
        ),
        many(
            "matcher",
            "Blocks whose external labels match this matcher will be replicated. All Prometheus matchers are supported, including =, !=, =~ and !~.",
        ),
        switch("single-run", "Run replication only one time, then exit."),
        many(
            "id",
            "Block to be replicated to the destination bucket. IDs will be used to match blocks and other matchers will be ignored. When specified, this command will be run only once after successful replication. Repeated field.",
        ),
        switch(
            "ignore-marked-for-deletion",
            "Do not replicate blocks that have deletion mark.",
        ),
        value("wait-interval", "1m", "Time between two runs."),
        switch("dry-run", "Say what would be copied, and copy nothing."),
    ],
    flags::SELECT,
    thanos::HTTP,
    thanos::OBJSTORE,
    logging::FLAGS,
];

/// The flags of `upload-blocks`.
pub const UPLOAD: &[&[Flag]] = &[
    &[
        value(
            "path",
            "./data",
            "Path to the directory containing blocks to upload.",
        ),
        many(
            "label",
            "External labels to add to the uploaded blocks (repeated), as key=\"value\".",
        ),
        switch(
            "shipper.upload-compacted",
            "If true shipper will try to upload compacted blocks as well.",
        ),
        value(
            "shipper.upload-concurrency",
            "5",
            "Number of goroutines to use when uploading block files to object storage.",
        )
        .accepted("parts of a file are uploaded side by side"),
    ],
    thanos::OBJSTORE,
    logging::FLAGS,
];

/// Which blocks are copied.
struct Filter {
    ids: Vec<Ulid>,
    resolutions: Vec<i64>,
    levels: Vec<u32>,
    matchers: Vec<Matcher>,
}

impl Filter {
    fn from_flags(typed: &Typed<'_>) -> Result<Self> {
        let items = |flag| typed.list(flag).into_iter().flat_map(|l| l.split(','));
        let mut resolutions = Vec::new();
        for text in items("resolution") {
            let ms = model::time::parse_duration(text);
            resolutions.push(ms.map_err(|e| typed.error("resolution", e))?);
        }
        let mut levels: Vec<u32> = Vec::new();
        for text in items("compaction") {
            levels.push(text.parse().map_err(|e| typed.error("compaction", e))?);
        }
        if levels.is_empty() {
            let (min, max) = (
                typed.number("compaction-min")?,
                typed.number("compaction-max")?,
            );
            if min > max {
                bail!("--compaction-min {min} is more than --compaction-max {max}");
            }
            levels = (min..=max).collect();
        }
        let matchers = match typed.list("matcher").as_slice() {
            [] => Vec::new(),
            list => {
                let text = format!("{{{}}}", list.join(","));
                let parsed = promql::parse::parse_selector(&text);
                parsed.map_err(|e| typed.error("matcher", e))?
            }
        };
        Ok(Self {
            ids: super::ulids(typed, "id")?,
            resolutions,
            levels,
            matchers,
        })
    }

    fn wants(&self, meta: &Meta, labels: &Labels) -> bool {
        if labels.is_empty() {
            tracing::error!(block = %meta.ulid, "labels should not be empty; the block is left out");
            return false;
        }
        if !self.ids.is_empty() {
            return self.ids.contains(&meta.ulid);
        }
        let matches = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or(""));
        self.matchers.iter().all(matches)
            && self.resolutions.contains(&meta.resolution())
            && self.levels.contains(&meta.compaction.level)
    }
}

/// Runs `replicate`.
pub fn replicate(typed: &Typed<'_>) -> Result<ExitCode> {
    let filter = Filter::from_flags(typed)?;
    let to = content(typed, "objstore-to.config")?
        .ok_or_else(|| typed.error("objstore-to.config", "a bucket to copy to is needed"))?;
    let to = bucket::Config::parse(&to).map_err(|e| typed.error("objstore-to.config", e))?;
    let from = super::open(typed)?;
    let to = bucket::open(&to, &metrics::Registry::new())?;
    let options = CatalogOptions {
        ignore_deletion_marks_delay: typed
            .switch("ignore-marked-for-deletion")
            .then_some(Duration::ZERO),
        deduplicate: false,
        ..selection(typed)?
    };
    let once = typed.switch("single-run") || !filter.ids.is_empty() || typed.switch("dry-run");
    let (pause, dry) = (typed.duration("wait-interval")?, typed.switch("dry-run"));
    crate::runtime::run(async {
        loop {
            run_once(&from, &to, &filter, options.clone(), dry).await?;
            if once {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(model::time::span(pause)).await;
        }
    })
}

async fn run_once(
    from: &Arc<Bucket>,
    to: &Arc<Bucket>,
    filter: &Filter,
    options: CatalogOptions,
    dry: bool,
) -> Result<()> {
    let catalog = super::look(from, options).await?;
    let snapshot = catalog.snapshot();
    let wanted = snapshot.blocks.iter();
    let wanted = wanted.filter(|b| filter.wants(&b.meta, &b.labels));
    let metas = in_order(wanted.map(|b| b.meta.clone()).collect());
    let (mut copied, mut there) = (0, 0);
    if dry {
        for meta in &metas {
            println!("{}", meta.ulid);
        }
        return Ok(());
    }
    let bytes = metas.iter().map(Meta::bytes).sum();
    let source = Arc::clone(from);
    let moved = move || source.fetched_bytes();
    let work = Work::begin("replicating", "blocks", metas.len() as u64, bytes, moved);
    for meta in &metas {
        match compact::replicate::replicate(from, to, meta.ulid).await? {
            Replicated::Already => there += 1,
            Replicated::Copied(objects) => {
                copied += 1;
                tracing::info!(block = %meta.ulid, objects, "block replicated");
            }
        }
        work.done(meta.bytes());
    }
    drop(work);
    tracing::info!(copied, there, "replication done");
    Ok(())
}

/// Labels as `name="value"`.
fn labels(typed: &Typed<'_>, flag: &str) -> Result<Labels> {
    let mut pairs = Vec::new();
    for text in typed.list(flag) {
        let pair = text.split_once('=').and_then(|(name, quoted)| {
            let value = quoted.strip_prefix('"')?.strip_suffix('"')?;
            Some((name.to_owned(), value.to_owned()))
        });
        let message = || typed.error(flag, format!("{text:?} is not key=\"value\""));
        pairs.push(pair.ok_or_else(message)?);
    }
    Ok(Labels::from_pairs(pairs))
}

/// What is said of an upload while it goes on.
struct Uploading {
    work: Work,
    sizes: HashMap<Ulid, u64>,
}

/// Runs `upload-blocks`.
pub fn upload(typed: &Typed<'_>) -> Result<ExitCode> {
    let labels = labels(typed, "label")?;
    if labels.is_empty() {
        bail!(
            "no external labels configured, uniquely identifying external labels must be configured with --label; see https://thanos.io/tip/thanos/storage.md#external-labels for details"
        );
    }
    let bucket = super::open(typed)?;
    let shown: Arc<Mutex<Option<Uploading>>> = Arc::default();
    let told = Arc::clone(&shown);
    let options = ShipperOptions {
        upload_compacted: typed.switch("shipper.upload-compacted"),
        source: "bucket.upload".to_owned(),
        on_settled: Some(Arc::new(move |block| {
            if let Some(Uploading { work, sizes }) = &*told.lock() {
                work.done(sizes.get(&block).copied().unwrap_or(0));
            }
        })),
        ..ShipperOptions::new(typed.required("path")?, labels)
    };
    crate::runtime::run(async {
        let sent = Arc::clone(&bucket);
        let shipper = Shipper::new(bucket, options, &metrics::Registry::new())?;
        let sizes: HashMap<Ulid, u64> = shipper.waiting()?.into_iter().collect();
        let (blocks, bytes) = (sizes.len() as u64, sizes.values().sum());
        let work = Work::begin("uploading", "blocks", blocks, bytes, move || {
            sent.sent_bytes()
        });
        *shown.lock() = Some(Uploading { work, sizes });
        let report = shipper.sync().await;
        shown.lock().take();
        let report = report?;
        tracing::info!(?report, "upload done");
        Ok(match report.failed.len() {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    })
}

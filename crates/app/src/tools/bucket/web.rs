//! `web`.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use bucket::{Catalog, CatalogOptions};
use model::time::span;
use wire::grpc::Routes;

use crate::blocks::{self, Blocks};
use crate::flags::{compact as flags, thanos};
use crate::kingpin::{Flag, Typed, switch, value};
use crate::outpost::{Outpost, Settings};
use crate::roles::compact::{objstore, selection};
use crate::{limits, logging};

/// The flags of `web`.
pub const FLAGS: &[&[Flag]] = &[
    &[
        value(
            "refresh",
            "30m",
            "Refresh interval to download metadata from remote storage.",
        ),
        value(
            "timeout",
            "5m",
            "Timeout to download metadata from remote storage.",
        ),
        value("label", "", "External block label to use as group title."),
        value("web.route-prefix", "", "Prefix for API and UI endpoints."),
        switch(
            "disable-admin-operations",
            "Disable UI/API admin operations like marking blocks for deletion and no compaction.",
        ),
    ],
    flags::SELECT,
    thanos::HTTP,
    thanos::OBJSTORE,
    thanos::WEB,
    limits::FLAGS,
    logging::FLAGS,
];

/// Runs `web`.
pub fn run(typed: &Typed<'_>) -> Result<ExitCode> {
    let settings = Settings::without_grpc(typed, "bucket")?;
    let config = objstore(typed)?;
    let options = CatalogOptions {
        ignore_deletion_marks_delay: None,
        deduplicate: false,
        compaction_marks: true,
        interval: span(typed.duration("refresh")?),
        ..selection(typed)?
    };
    let timeout = span(typed.duration("timeout")?);
    let label = typed.required("label")?.to_owned();
    let admin = !typed.switch("disable-admin-operations");
    let prefix = settings.route_prefix.clone();
    crate::runtime::run(async move {
        let outpost = Outpost::open(settings).await?;
        let bucket = bucket::open(&config, &outpost.registry)?;
        let catalog = Catalog::new(Arc::clone(&bucket), options, &outpost.registry)?;
        let catalog = Arc::new(catalog);
        let blocks = blocks::router(Blocks {
            bucket,
            label,
            global: Arc::clone(&catalog),
            loaded: None,
            plan: None,
            admin,
        });
        let mut options = outpost.options();
        options.more_pages = vec!["blocks"];
        let app = api::router(options).merge(blocks);
        let app = wire::server::prefix::mount(app, &prefix);
        let stop = outpost.stop.clone();
        tokio::spawn(async move {
            if tokio::time::timeout(timeout, catalog.sync()).await.is_err() {
                tracing::warn!("the bucket was not listed within --timeout");
            }
            catalog.run(stop).await;
        });
        outpost
            .serve_app(app, Routes::default(), async { Ok(()) })
            .await
    })
}

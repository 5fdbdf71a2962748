//! `mark`.

use std::process::ExitCode;

use anyhow::Result;
use bucket::marks::{self, DeletionMark, Mark, NoCompactMark, NoDownsampleMark};
use model::time::{Clock as _, WallClock};

use crate::flags::thanos;
use crate::kingpin::{Flag, Typed, many, optional, switch, value};
use crate::logging;

/// The flags of `mark`.
pub const MARK: &[&[Flag]] = &[
    &[
        many(
            "id",
            "ID (ULID) of the blocks to be marked for deletion (repeated flag).",
        ),
        optional(
            "marker",
            "Marker to be put: deletion-mark.json, no-compact-mark.json or no-downsample-mark.json.",
        ),
        value(
            "details",
            "",
            "Human readable details to be put into marker.",
        ),
        switch("remove", "Remove the marker."),
    ],
    thanos::OBJSTORE,
    logging::FLAGS,
];

/// Runs `mark`.
pub fn mark(typed: &Typed<'_>) -> Result<ExitCode> {
    let blocks = super::ulids(typed, "id")?;
    if blocks.is_empty() {
        return Err(typed.error("id", "a block is needed").into());
    }
    let marker = typed.required("marker")?;
    let (remove, details) = (typed.switch("remove"), typed.required("details")?);
    if !remove && details.is_empty() {
        return Err(typed
            .error("details", "required flag --details not provided")
            .into());
    }
    let bucket = super::open(typed)?;
    let now = WallClock.now();
    crate::runtime::run(async {
        for block in blocks {
            let bucket = &bucket;
            let written = match (marker, remove) {
                (DeletionMark::FILE, true) => marks::remove::<DeletionMark>(bucket, block)
                    .await
                    .map(|()| true),
                (NoCompactMark::FILE, true) => marks::remove::<NoCompactMark>(bucket, block)
                    .await
                    .map(|()| true),
                (NoDownsampleMark::FILE, true) => marks::remove::<NoDownsampleMark>(bucket, block)
                    .await
                    .map(|()| true),
                (DeletionMark::FILE, false) => {
                    marks::write(bucket, block, &DeletionMark::new(block, details, now)).await
                }
                (NoCompactMark::FILE, false) => {
                    marks::write(
                        bucket,
                        block,
                        &NoCompactMark::new(block, "manual", details, now),
                    )
                    .await
                }
                (NoDownsampleMark::FILE, false) => {
                    marks::write(
                        bucket,
                        block,
                        &NoDownsampleMark::new(block, "manual", details, now),
                    )
                    .await
                }
                (other, _) => {
                    let message = format!(
                        "{other:?} is no marker; use deletion-mark.json, no-compact-mark.json or no-downsample-mark.json"
                    );
                    return Err(typed.error("marker", message).into());
                }
            }?;
            match written {
                true => tracing::info!(%block, marker, remove, "marking done"),
                false => {
                    tracing::warn!(%block, marker, "the block has that marker already; it stays as it is")
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

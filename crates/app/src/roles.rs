//! The roles: which rooms each opens, in which order.

pub mod all_in_one;
pub mod compact;
pub mod query;
pub mod query_frontend;
pub mod rule;
pub mod server;
pub mod sidecar;
pub mod store;

use std::time::Duration;

use model::Millis;

use crate::kingpin::{Flag, FlagError, Typed};
use crate::{flags, limits, logging};

/// The flags of a role that opens the whole house, behind its `own` ones and those of a `compactor` that
/// it has beside.
const fn of_a_house(
    own: &'static [Flag],
    compactor: [&'static [Flag]; 2],
) -> [&'static [Flag]; 14] {
    [
        own,
        compactor[0],
        compactor[1],
        flags::CONFIG,
        flags::WEB,
        flags::STORAGE,
        flags::AGENT,
        flags::QUERY,
        flags::SCRAPE,
        flags::RULES,
        flags::OBJSTORE,
        flags::GRPC,
        limits::FLAGS,
        logging::FLAGS,
    ]
}

/// How far from its due time a scrape may begin and still be stamped with it, ms.
fn tolerance(typed: &Typed<'_>) -> Result<Millis, FlagError> {
    let tolerance = typed.duration("scrape.timestamp-tolerance")?;
    Ok(if typed.switch("scrape.adjust-timestamps") {
        tolerance
    } else {
        0
    })
}

/// How often the configuration's files are looked at for changes, if they are; at most each second.
fn auto_reload(typed: &Typed<'_>) -> Result<Option<Duration>, FlagError> {
    let asked = crate::house::settings::asked(typed, "auto-reload-config");
    if !asked && !typed.switch("config.auto-reload") {
        return Ok(None);
    }
    let every = typed.duration("config.auto-reload-interval")?.max(1000);
    Ok(Some(model::time::span(every)))
}

/// How often changes of targets are taken over at most.
fn throttle(typed: &Typed<'_>) -> Result<Duration, FlagError> {
    Ok(model::time::span(
        typed.duration("scrape.discovery-reload-interval")?,
    ))
}

/// Says once of each flag that was given and does nothing that it does nothing.
pub fn warn_without_effect(typed: &Typed<'_>) {
    for (flag, why) in typed.without_effect() {
        tracing::warn!("--{flag} has no effect: {why}");
    }
}

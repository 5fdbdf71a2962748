//! Queries that others leave no memory for.
//!
//! A query that failed because all queries together held too much, although it alone would fit, is
//! evaluated again once there is room: one such query at a time, while the others that failed so hold
//! nothing. It keeps its place among those that run meanwhile, so that fewer do.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use model::Cancel;

use super::Inner;
use crate::gate::Turn;
use crate::value::QueryError;

/// How often a query is evaluated again.
pub(super) const ATTEMPTS: usize = 3;
/// How long it waits for room. Answers that are being written count, too, and some are read slowly.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks whether there is room.
const LOOK: Duration = Duration::from_millis(10);

impl Inner {
    /// Waits until a query may be evaluated again, if it has no turn for that yet, and until there is
    /// room for a whole one, if that comes soon.
    pub(super) async fn room(
        &self,
        turn: Option<Turn>,
        deadline: Option<Instant>,
        cancel: &Cancel,
    ) -> Result<Option<Turn>, QueryError> {
        let waited = async {
            let turn = match turn {
                Some(turn) => turn,
                None => self.again.enter().await,
            };
            let memory = &self.options.memory;
            let enough = self.options.query_memory.min(memory.limit());
            let end = Instant::now() + PATIENCE;
            while memory.limit().saturating_sub(memory.used()) < enough && Instant::now() < end {
                self.timer.at(Some(Instant::now() + LOOK)).await;
            }
            turn
        };
        let stop = self.stopped(deadline, cancel, "query queue");
        match select(waited.boxed(), stop).await {
            Either::Left((turn, _)) => Ok(Some(turn)),
            Either::Right((e, _)) => Err(e),
        }
    }
}

//! What holds the house together: the map against the code, and every role's wiring.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod flags;
mod map;
// Not all of it is needed here.
#[allow(dead_code)]
#[path = "../../../../e2e/peers.rs"]
mod peers;
mod thanos_flags;
mod wiring;

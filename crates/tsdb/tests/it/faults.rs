//! What a crash, a full disk, a broken disk and flipped bits leave, against a simple model in memory.
//!
//! Each test runs a script of random deeds (seeded) on a simulated disk, and holds whatever can be
//! opened afterwards against what had been acknowledged. The everyday run tries a few hundred
//! points; `EPIMETHEUS_FAULT_SEEDS=40` tries every point of so many scripts and prints how many.

mod broken;
mod content;
mod crash;
mod damage;
mod model;
mod script;

/// How many scripts, and whether every point of them is tried.
fn effort(quick: u64) -> (u64, bool) {
    match std::env::var("EPIMETHEUS_FAULT_SEEDS") {
        Ok(n) => (n.parse().expect("EPIMETHEUS_FAULT_SEEDS is a number"), true),
        Err(_) => (quick, false),
    }
}

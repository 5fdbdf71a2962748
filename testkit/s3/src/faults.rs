//! What goes wrong, by a seeded plan.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::Op;

/// Something that goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answered `503 SlowDown`; nothing happens.
    Unavailable,
    /// Answered `500 InternalError`; nothing happens.
    Internal,
    /// Answered `403 AccessDenied`; nothing happens.
    Forbidden,
    /// Never answered; nothing happens.
    Hang,
    /// The connection is closed without an answer; nothing happens.
    Reset,
    /// The request is carried out, but the connection is closed before the answer is sent.
    LostAnswer,
    /// The answer's body ends after so many bytes, though a longer one was announced.
    Truncate(usize),
    /// The answer comes this much later.
    Delay(Duration),
    /// The answer's body trickles, so many bytes every 10 ms.
    Trickle(usize),
}

/// Which requests a fault strikes.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    op: Option<Op>,
    contains: String,
    skip: u64,
    times: u64,
    probability: f64,
}

impl Rule {
    /// Strikes every request.
    pub fn always(fault: Fault) -> Self {
        Self {
            fault,
            op: None,
            contains: String::new(),
            skip: 0,
            times: u64::MAX,
            probability: 1.0,
        }
    }

    /// Strikes the next request that fits.
    pub fn once(fault: Fault) -> Self {
        Self::always(fault).times(1)
    }

    /// Only requests of this operation fit.
    pub fn on(mut self, op: Op) -> Self {
        self.op = Some(op);
        self
    }

    /// Only requests whose key contains `part` fit.
    pub fn key(mut self, part: impl Into<String>) -> Self {
        self.contains = part.into();
        self
    }

    /// Spares the first `n` that fit.
    pub fn after(mut self, n: u64) -> Self {
        self.skip = n;
        self
    }

    /// Strikes at most `n` times.
    pub fn times(mut self, n: u64) -> Self {
        self.times = n;
        self
    }

    /// Strikes one that fits with this probability (0 to 1), by the seeded dice.
    pub fn probability(mut self, p: f64) -> Self {
        self.probability = p;
        self
    }
}

/// The plan: the first rule that fits and strikes decides.
#[derive(Debug)]
pub struct Faults {
    rules: Mutex<(Vec<Rule>, u64)>,
    struck: AtomicU64,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rules: Mutex::new((Vec::new(), seed)),
            struck: AtomicU64::new(0),
        }
    }

    /// Adds a rule behind those that are there.
    pub fn add(&self, rule: Rule) {
        self.rules.lock().0.push(rule);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.rules.lock().0.clear();
    }

    /// How many faults were injected.
    pub fn struck(&self) -> u64 {
        self.struck.load(Ordering::Relaxed)
    }

    pub(crate) fn roll(&self, op: Op, key: &str) -> Option<Fault> {
        let mut guard = self.rules.lock();
        let (rules, dice) = &mut *guard;
        for rule in rules.iter_mut() {
            let fits = rule.op.is_none_or(|o| o == op) && key.contains(&rule.contains);
            if !fits || rule.times == 0 {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if rule.probability < 1.0 && unit(dice) >= rule.probability {
                continue;
            }
            rule.times -= 1;
            self.struck.fetch_add(1, Ordering::Relaxed);
            return Some(rule.fault);
        }
        None
    }
}

/// The next number in [0, 1) of a splitmix64 sequence.
pub(crate) fn unit(dice: &mut u64) -> f64 {
    *dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *dice;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_skip_count_and_roll() {
        let faults = Faults::new(7);
        faults.add(Rule::once(Fault::Reset).on(Op::Put).key("meta").after(1));
        assert_eq!(faults.roll(Op::Put, "x/meta.json"), None);
        assert_eq!(faults.roll(Op::Get, "x/meta.json"), None);
        assert_eq!(faults.roll(Op::Put, "x/meta.json"), Some(Fault::Reset));
        assert_eq!(faults.roll(Op::Put, "x/meta.json"), None);
        faults.add(Rule::always(Fault::Unavailable).probability(0.3));
        let hits = (0..1000)
            .filter(|_| faults.roll(Op::Get, "k").is_some())
            .count();
        assert!((200..400).contains(&hits), "{hits}");
        assert_eq!(faults.struck(), hits as u64 + 1);
    }
}

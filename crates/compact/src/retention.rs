//! How long blocks are kept, by resolution and, beyond Thanos, by their external labels; and how long
//! single series in them are.

use std::sync::Arc;

use block::postings::{resolve, sets};
use block::{Block, BlockError};
use model::{Labels, Matcher, Millis};
use xxhash_rust::xxh64::xxh64;

/// How long blocks of each resolution are kept, ms; 0: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Raw data.
    pub raw: Millis,
    /// 5 minutes.
    pub five_minutes: Millis,
    /// 1 hour.
    pub hour: Millis,
}

impl Keep {
    /// How long blocks of a resolution are kept; none: for ever.
    pub fn of(&self, resolution: Millis) -> Option<Millis> {
        let keep = match resolution {
            0 => self.raw,
            crate::FIVE_MINUTES => self.five_minutes,
            crate::HOUR => self.hour,
            _ => 0,
        };
        (keep > 0).then_some(keep)
    }
}

/// How long which blocks are kept.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    /// Blocks whose external labels match: the first rule that does counts.
    pub rules: Vec<(Vec<Matcher>, Keep)>,
    /// All other blocks.
    pub default: Keep,
    /// Series that go before their block does.
    pub series: Vec<Arc<SeriesRule>>,
}

/// How long some series of some blocks are kept, where that is shorter than their blocks are.
#[derive(Clone, Debug)]
pub struct SeriesRule {
    /// Which blocks, by their external labels.
    pub blocks: Vec<Matcher>,
    /// Which series in them, by their own labels.
    pub series: Vec<Matcher>,
    /// `series` as it was written.
    pub text: String,
    /// How long. A rule that keeps for ever keeps what it matches from the rules after it.
    pub keep: Keep,
}

/// What is to go of a block: the rules for its series, each with whether its time is over. The first
/// rule that matches a series counts.
#[derive(Clone, Debug)]
pub struct Outdated {
    rules: Vec<(Arc<SeriesRule>, bool)>,
}

impl Outdated {
    /// The series of the block that are to go, ascending.
    pub fn series(&self, block: &Block) -> Result<Vec<u32>, BlockError> {
        let mut spoken_for = Vec::new();
        let mut outdated = sets::Union::new();
        for (rule, over) in &self.rules {
            let mut ids = resolve(block.index(), &rule.series)?;
            sets::subtract(&mut ids, &spoken_for);
            if *over {
                outdated.add(&ids);
            }
            let mut both = sets::Union::new();
            both.add(&spoken_for);
            both.add(&ids);
            spoken_for = both.finish();
        }
        Ok(outdated.finish())
    }

    /// The selectors of those that are to go.
    pub fn selectors(&self) -> impl Iterator<Item = &str> {
        let over = self.rules.iter().filter(|(_, over)| *over);
        over.map(|(rule, _)| rule.text.as_str())
    }

    /// Tells these rules from others: what was done for them need not be done again.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for (rule, over) in &self.rules {
            text.push_str(if *over { "-" } else { "+" });
            text.push_str(&rule.text);
            text.push('\n');
        }
        format!("{:016x}", xxh64(text.as_bytes(), 0))
    }
}

impl Retention {
    /// How long blocks with these labels are kept.
    pub fn keep(&self, labels: &Labels) -> Keep {
        let mut rules = self.rules.iter();
        let rule = rules.find(|(matchers, _)| all_match(matchers, labels));
        rule.map_or(self.default, |(_, keep)| *keep)
    }

    /// Whether a block that ends at `max_time` (exclusive, ms) has been kept long enough. Thanos counts
    /// whole seconds of the end.
    pub fn is_over(
        &self,
        labels: &Labels,
        resolution: Millis,
        max_time: Millis,
        now: Millis,
    ) -> bool {
        over(self.keep(labels).of(resolution), max_time, now)
    }

    /// Which series of such a block have been kept long enough; none if no rule says so.
    pub fn outdated(
        &self,
        labels: &Labels,
        resolution: Millis,
        max_time: Millis,
        now: Millis,
    ) -> Option<Outdated> {
        let of_block = |rule: &&Arc<SeriesRule>| all_match(&rule.blocks, labels);
        let mut rules: Vec<_> = self
            .series
            .iter()
            .filter(of_block)
            .map(|rule| {
                let over = over(rule.keep.of(resolution), max_time, now);
                (Arc::clone(rule), over)
            })
            .collect();
        // What comes after the last of them takes nothing away.
        let last = rules.iter().rposition(|(_, over)| *over)?;
        rules.truncate(last + 1);
        Some(Outdated { rules })
    }
}

fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    let matches = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or(""));
    matchers.iter().all(matches)
}

fn over(keep: Option<Millis>, max_time: Millis, now: Millis) -> bool {
    let end = max_time.div_euclid(1000).saturating_mul(1000);
    keep.is_some_and(|keep| now > end.saturating_add(keep))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Millis = 24 * 3_600_000;

    #[test]
    fn each_resolution_has_its_time() {
        let retention = Retention {
            default: Keep {
                raw: DAY,
                five_minutes: 7 * DAY,
                hour: 0,
            },
            ..Retention::default()
        };
        let none = Labels::default();
        let over = |resolution, age: Millis| retention.is_over(&none, resolution, 0, age);
        assert!(!over(0, DAY) && over(0, DAY + 1));
        assert!(!over(300_000, DAY + 1) && over(300_000, 7 * DAY + 1));
        assert!(!over(3_600_000, 1000 * DAY), "0 is for ever");
        assert!(!over(42, 1000 * DAY), "nobody said how long");
        assert!(retention.is_over(&none, 0, 999, DAY + 1), "whole seconds");
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let keep = |raw| Keep {
            raw,
            ..Keep::default()
        };
        let retention = Retention {
            rules: vec![
                (vec![Matcher::equal("tenant", "a")], keep(DAY)),
                (vec![Matcher::equal("tenant", "")], keep(2 * DAY)),
            ],
            default: keep(0),
            series: Vec::new(),
        };
        let labels = |tenant| Labels::from_pairs([("tenant", tenant)]);
        assert_eq!(retention.keep(&labels("a")).raw, DAY);
        assert_eq!(retention.keep(&Labels::default()).raw, 2 * DAY);
        assert_eq!(retention.keep(&labels("b")).raw, 0);
    }
}

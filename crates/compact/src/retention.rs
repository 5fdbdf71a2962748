//! How long blocks are kept, by resolution and, beyond Thanos, by their external labels.

use model::{Labels, Matcher, Millis};

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
}

impl Retention {
    /// How long blocks with these labels are kept.
    pub fn keep(&self, labels: &Labels) -> Keep {
        let matches = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or(""));
        let rule = self
            .rules
            .iter()
            .find(|(matchers, _)| matchers.iter().all(matches));
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
        let Some(keep) = self.keep(labels).of(resolution) else {
            return false;
        };
        let end = max_time.div_euclid(1000).saturating_mul(1000);
        now > end.saturating_add(keep)
    }
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
        };
        let labels = |tenant| Labels::from_pairs([("tenant", tenant)]);
        assert_eq!(retention.keep(&labels("a")).raw, DAY);
        assert_eq!(retention.keep(&Labels::default()).raw, 2 * DAY);
        assert_eq!(retention.keep(&labels("b")).raw, 0);
    }
}

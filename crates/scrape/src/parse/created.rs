//! Start timestamps from OpenMetrics' `_created` lines.
//!
//! A family's `_created` line may stand after the samples it is about, so they have to be looked
//! for ahead. The rule is Prometheus': a series gets the time of the first `_created` line at or
//! after it and before the next metadata line, if that line is about the same labels (without
//! `le` or `quantile`); or the time of the `_created` line met last, if that was about the same.
//! The first such line ahead is remembered, so that every line is read twice at most.

use model::Millis;
use model::report::MetricType;
use xxhash_rust::xxh3::xxh3_64;

use super::block::{self, Dialect, Part};
use super::{Event, ParseError, Parser, Series};

const SUFFIX: &[u8] = b"_created";

/// What was seen of `_created` lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Created {
    /// The first `_created` line ahead; good until the parser passes `end`.
    ahead: Option<Ahead>,
    /// Labels and time of the last one that was taken.
    taken: Option<(u64, Millis)>,
    key: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Ahead {
    /// Where the line, or the family, ends.
    end: usize,
    /// Its labels and time; none if the family ended first.
    line: Option<(u64, Millis)>,
}

impl<'a> Parser<'a> {
    pub(super) fn next_with_created(
        &mut self,
        expected: &[u8],
    ) -> Result<Option<Event<'a>>, ParseError> {
        loop {
            let event = self.next_openmetrics(expected)?;
            let Some(Event::Series(mut series)) = event else {
                return Ok(event);
            };
            if !counts_since(series.kind) {
                if let Some(created) = &mut self.created {
                    created.taken = None;
                }
                return Ok(Some(Event::Series(series)));
            }
            if name_range(series.text).1.ends_with(SUFFIX) {
                continue;
            }
            series.start = self.start_of(&series);
            return Ok(Some(Event::Series(series)));
        }
    }

    fn start_of(&mut self, series: &Series<'a>) -> Option<Millis> {
        let (_, name) = name_range(series.text);
        let family = name.get(..self.family_len)?;
        // Taken out while the parser looks ahead as one that knows nothing of `_created`.
        let mut created = self.created.take()?;
        let key = labels_key(series, family, &mut created.key);
        let start = match created.taken {
            Some((taken, start)) if taken == key => Some(start),
            _ => {
                let ahead = match created.ahead {
                    Some(ahead) if self.pos <= ahead.end => ahead,
                    _ => self.look_ahead(&mut created.key),
                };
                created.ahead = Some(ahead);
                created.taken = ahead.line.filter(|(k, start)| *k == key && *start > 0);
                created.taken.map(|(_, start)| start)
            }
        };
        self.created = Some(created);
        start
    }

    fn look_ahead(&self, key: &mut Vec<u8>) -> Ahead {
        let mut ahead = self.clone();
        while let Ok(Some(Event::Series(series))) = ahead.next_openmetrics(&[]) {
            let (_, name) = name_range(series.text);
            if let Some(family) = name.strip_suffix(SUFFIX) {
                let line = (
                    labels_key(&series, family, key),
                    (series.value * 1000.0) as Millis,
                );
                return Ahead {
                    end: ahead.pos,
                    line: Some(line),
                };
            }
        }
        Ahead {
            end: ahead.pos,
            line: None,
        }
    }
}

/// Whether series of this kind have a start.
fn counts_since(kind: MetricType) -> bool {
    matches!(
        kind,
        MetricType::Counter | MetricType::Summary | MetricType::Histogram
    )
}

/// Where the metric's name ends in front of the braces (0 if it stands inside), and the name.
fn name_range(text: &[u8]) -> (usize, &[u8]) {
    if text.first() != Some(&b'{') {
        let end = block::name_end(text, 0);
        return (end, text.get(..end).unwrap_or_default());
    }
    let mut name = 0..0;
    // The text was parsed before.
    let _ = block::scan(text, 1, Dialect::OpenMetrics, false, |part| {
        if let Part::Name(found) = part {
            name = found;
        }
    });
    (0, text.get(name).unwrap_or_default())
}

fn labels_key(series: &Series<'_>, family: &[u8], key: &mut Vec<u8>) -> u64 {
    let left_out: &[u8] = match series.kind {
        MetricType::Summary => b"quantile",
        MetricType::Histogram => b"le",
        _ => b"",
    };
    key.clear();
    let (end, _) = name_range(series.text);
    if series.text.get(end) == Some(&b'{') {
        let text = series.text;
        let _ = block::scan(text, end + 1, Dialect::OpenMetrics, false, |part| {
            if let Part::Label(name, value) = part {
                let name = text.get(name).unwrap_or_default();
                if name != left_out {
                    key.extend_from_slice(name);
                    key.push(0xff);
                    key.extend_from_slice(text.get(value).unwrap_or_default());
                    key.push(0xff);
                }
            }
        });
    }
    key.extend_from_slice(family);
    xxh3_64(key)
}

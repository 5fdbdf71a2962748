//! From a body to a batch of samples: the hot path of scraping.

use model::sink::Exemplar;
use model::{Batch, Labels, Millis, SeriesRef};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cache::{Cache, Known, Place};
use crate::error::ScrapeError;
use crate::mutate::Mutator;
use crate::parse::{self, Event, Format, LabelOptions, Parser};

/// Samples further ahead of now than this are dropped, ms.
const FUTURE: Millis = 10 * 60 * 1000;

/// Stands in a batch until a new series has its reference.
pub(crate) const UNRESOLVED: SeriesRef = SeriesRef {
    id: 0,
    generation: u32::MAX,
};

/// How to read bodies of one target.
pub(crate) struct Reader<'a> {
    pub(crate) mutator: Mutator<'a>,
    pub(crate) honor_timestamps: bool,
    pub(crate) track_timestamps: bool,
    /// 0 for none.
    pub(crate) sample_limit: u64,
    pub(crate) exemplars: bool,
}

/// A series that the sink does not know yet.
#[derive(Debug)]
pub(crate) struct Fresh {
    /// Its first row in the batch.
    pub(crate) row: usize,
    pub(crate) place: Place,
    pub(crate) labels: Labels,
}

/// What a body held.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Samples.
    pub(crate) total: usize,
    /// Those that relabelling kept.
    pub(crate) added: usize,
    /// Series that the last scrape did not have.
    pub(crate) series_added: usize,
    pub(crate) duplicates: usize,
    pub(crate) out_of_bounds: usize,
    /// A fingerprint of all metadata lines.
    pub(crate) metadata: u64,
}

/// What is to be appended.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) batch: Batch,
    pub(crate) fresh: Vec<Fresh>,
    /// Rows of new series beyond their first: row, and its place in `fresh`.
    pub(crate) again: Vec<(usize, usize)>,
    /// The row of each exemplar's series.
    pub(crate) exemplar_rows: Vec<usize>,
}

impl Reader<'_> {
    /// Reads `body`, scraped at `ts`, into `rows`. The caller has begun a scrape of the cache, and
    /// ends it by committing it or letting it vanish.
    pub(crate) fn read(
        &self,
        body: &[u8],
        format: Format,
        ts: Millis,
        cache: &mut Cache,
        rows: &mut Rows,
    ) -> (Counts, Result<(), ScrapeError>) {
        let mut counts = Counts::default();
        let result = self.read_all(body, format, ts, cache, rows, &mut counts);
        (counts, result)
    }

    fn read_all(
        &self,
        body: &[u8],
        format: Format,
        ts: Millis,
        cache: &mut Cache,
        rows: &mut Rows,
        counts: &mut Counts,
    ) -> Result<(), ScrapeError> {
        let limit = match self.sample_limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let latest = ts.saturating_add(FUTURE);
        let known = cache.len() + 32;
        rows.batch.refs.reserve(known);
        rows.batch.ts.reserve(known);
        rows.batch.values.reserve(known);
        // Samples that count against the limit.
        let mut limited = 0;
        let mut parser = Parser::new(body, format);
        loop {
            let series = match parser.next_expecting(cache.expected())? {
                Some(Event::Series(series)) => series,
                Some(Event::Help(metric, text) | Event::Unit(metric, text)) => {
                    counts.metadata = fingerprint(counts.metadata, metric, text);
                    continue;
                }
                Some(Event::Type(metric, kind)) => {
                    counts.metadata = fingerprint(counts.metadata, metric, kind.as_str());
                    continue;
                }
                Some(Event::Comment(_)) => continue,
                None => break,
            };
            counts.total += 1;
            let timestamp = series.timestamp.filter(|_| self.honor_timestamps);
            let tracked = timestamp.is_none() || self.track_timestamps;
            let at = timestamp.unwrap_or(ts);
            let (place, reference) = match cache.look_up(series.text, series.expected, tracked) {
                Known::Series(place, reference) => (place, reference),
                Known::Dropped => continue,
                Known::Again(..) if timestamp.is_none() => {
                    counts.added += 1;
                    counts.duplicates += 1;
                    continue;
                }
                Known::Again(place, reference) => (place, reference),
                Known::New => {
                    let pairs = parse::pairs_of(series.text, series.kind, LabelOptions::default())?;
                    let Some(labels) = self.mutator.labels(&pairs)? else {
                        cache
                            .add(series.text, series.kind, true, false)
                            .ok_or(ScrapeError::BodySizeLimit)?;
                        continue;
                    };
                    if limited < limit && at <= latest {
                        let place = cache
                            .add(series.text, series.kind, false, tracked)
                            .ok_or(ScrapeError::BodySizeLimit)?;
                        rows.fresh.push(Fresh {
                            row: rows.batch.len(),
                            place,
                            labels,
                        });
                        counts.series_added += 1;
                        (place, UNRESOLVED)
                    } else {
                        (usize::MAX, UNRESOLVED)
                    }
                }
            };
            counts.added += 1;
            limited += 1;
            if limited > limit {
                continue;
            }
            if at > latest {
                counts.out_of_bounds += 1;
                continue;
            }
            let row = rows.batch.len();
            rows.batch.push(reference, at, series.value);
            if reference == UNRESOLVED
                // Places of new series ascend.
                && let Ok(i) = rows.fresh.binary_search_by_key(&place, |f| f.place)
                && rows.fresh.get(i).is_some_and(|f| f.row != row)
            {
                rows.again.push((row, i));
            }
            if let Some(exemplar) = series.exemplar
                && self.exemplars
            {
                rows.exemplar_rows.push(row);
                rows.batch.exemplars.push(Exemplar {
                    series: reference,
                    labels: exemplar.labels()?,
                    value: exemplar.value,
                    ts: exemplar.timestamp.unwrap_or(at),
                    timed: exemplar.timestamp.is_some(),
                });
            }
        }
        if limited > limit {
            return Err(ScrapeError::SampleLimit);
        }
        Ok(())
    }
}

/// A fingerprint of a metadata line and all before it.
pub(crate) fn fingerprint(before: u64, metric: &str, text: &str) -> u64 {
    let metric = xxh3_64_with_seed(metric.as_bytes(), before);
    xxh3_64_with_seed(text.as_bytes(), metric)
}

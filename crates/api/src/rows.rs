//! Series of a select in the order of their labels, one after the other, on a thread that may be
//! held.

use futures_util::StreamExt as _;
use model::{BoxStream, Cursor, Labels, Rows, SeriesBatch, SourceError, Symbols};
use tokio::runtime::Handle;

/// Where batches come from.
enum Input {
    Cursor(Box<dyn Cursor>),
    Stream(BoxStream<'static, Result<SeriesBatch, SourceError>>),
}

/// An input, and the series that it is at.
struct Place {
    input: Input,
    batch: SeriesBatch,
    at: usize,
    labels: Labels,
}

/// Walks over the series of several selects at once. Each input must come in the order of labels.
pub(crate) struct Sorted<'s> {
    places: Vec<Place>,
    symbols: &'s Symbols,
    runtime: Handle,
}

impl<'s> Sorted<'s> {
    /// Over all series of `rows`.
    pub(crate) fn new(
        rows: Vec<Rows>,
        symbols: &'s Symbols,
        runtime: Handle,
    ) -> Result<Self, SourceError> {
        let inputs = rows.into_iter().flat_map(|rows| match rows {
            Rows::Cursors(cursors) => cursors.into_iter().map(Input::Cursor).collect(),
            Rows::Stream(stream) => vec![Input::Stream(stream)],
        });
        let mut sorted = Self {
            places: Vec::new(),
            symbols,
            runtime,
        };
        for input in inputs.collect::<Vec<_>>() {
            let mut place = Place {
                input,
                batch: SeriesBatch::default(),
                at: 0,
                labels: Labels::default(),
            };
            if sorted.advance(&mut place)? {
                sorted.places.push(place);
            }
        }
        Ok(sorted)
    }

    /// Moves on to the next series; false if there is none.
    fn advance(&self, place: &mut Place) -> Result<bool, SourceError> {
        place.at += 1;
        while place.at >= place.batch.len() {
            let next = match &mut place.input {
                Input::Cursor(cursor) => cursor.next()?,
                Input::Stream(stream) => self.runtime.block_on(stream.next()).transpose()?,
            };
            let Some(batch) = next else {
                return Ok(false);
            };
            place.batch = batch;
            place.at = 0;
        }
        place.labels = place.batch.label_set(place.at, self.symbols);
        Ok(true)
    }

    /// Shows `visit` the next series: its labels, and every batch with its place that holds chunks
    /// of it. False if there is none.
    pub(crate) fn next<E: From<SourceError>>(
        &mut self,
        mut visit: impl FnMut(&Labels, &[(&SeriesBatch, usize)]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let Some(labels) = self.places.iter().map(|p| &p.labels).min().cloned() else {
            return Ok(false);
        };
        let found: Vec<(&SeriesBatch, usize)> = self
            .places
            .iter()
            .filter(|p| p.labels == labels)
            .map(|p| (&p.batch, p.at))
            .collect();
        visit(&labels, &found)?;
        let mut places = std::mem::take(&mut self.places);
        let mut left = Vec::with_capacity(places.len());
        for mut place in places.drain(..) {
            if place.labels != labels || self.advance(&mut place)? {
                left.push(place);
            }
        }
        self.places = left;
        Ok(true)
    }
}

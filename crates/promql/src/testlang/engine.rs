//! Scripts over our own engine.

use std::sync::Arc;

use chunk::memory::MemorySource;
use model::{
    BoxFuture, ChunkRef, Cursor, Encoding, Extent, LabelSelect, Labels, Rows, Sample, Scope,
    Select, SeriesBatch, Source, SourceError, Str, View,
};

use super::{Backend, LoadedValue, Series};
use crate::features::Features;
use crate::{Engine, EngineOptions, Evaluator};

/// The engine over what a script loaded, with every optional part of the language on, as the
/// corpus assumes.
pub struct OverEngine {
    pool: Arc<rayon::ThreadPool>,
}

impl OverEngine {
    /// Computes on `pool`.
    pub fn new(pool: Arc<rayon::ThreadPool>) -> Self {
        Self { pool }
    }
}

impl Backend for OverEngine {
    fn evaluator(&self, series: &[Series]) -> Result<Arc<dyn Evaluator>, String> {
        if series
            .iter()
            .any(|s| s.samples.iter().any(|s| s.start != 0))
        {
            return Err("not implemented: start timestamps".to_owned());
        }
        let options = EngineOptions {
            max_samples: 10_000,
            features: Features::ALL,
            delayed_name_removal: true,
            ..EngineOptions::default()
        };
        let source = Arc::new(Loaded::new(series));
        Ok(Arc::new(Engine::new(
            source,
            options,
            Arc::clone(&self.pool),
        )))
    }
}

/// Floats in memory; native histograms as chunks that cannot be opened yet, so that a query that
/// meets one says so.
struct Loaded {
    floats: MemorySource,
    histograms: Vec<Labels>,
}

impl Loaded {
    fn new(series: &[Series]) -> Self {
        let floats = series.iter().map(|s| {
            let samples = s.samples.iter().filter_map(|s| match s.value {
                LoadedValue::Float(value) => Some(Sample { ts: s.ts, value }),
                LoadedValue::Histogram(_) => None,
            });
            (s.labels.clone(), samples.collect())
        });
        let histograms = series
            .iter()
            .filter(|s| {
                let float = |v: &LoadedValue| matches!(v, LoadedValue::Float(_));
                s.samples.iter().any(|s| !float(&s.value))
            })
            .map(|s| s.labels.clone())
            .collect();
        Self {
            floats: MemorySource::new(floats.collect()),
            histograms,
        }
    }
}

impl Source for Loaded {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        Ok(Box::new(LoadedView {
            floats: self.floats.open(Arc::clone(&scope))?,
            histograms: self.histograms.clone(),
            scope,
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        self.floats.extent()
    }
}

struct LoadedView {
    floats: Box<dyn View>,
    histograms: Vec<Labels>,
    scope: Arc<Scope>,
}

impl View for LoadedView {
    fn select(&self, select: Select) -> Rows {
        let mut batch = SeriesBatch::default();
        for labels in &self.histograms {
            let matches = |m: &model::Matcher| m.matches(labels.get(&m.name).unwrap_or(""));
            if !select.matchers.iter().all(matches) {
                continue;
            }
            self.scope.symbols.intern_labels(labels, &mut batch.labels);
            batch.chunks.push(ChunkRef {
                min: select.range.min,
                max: select.range.max,
                encoding: Encoding::FLOAT_HISTOGRAM,
                aggregate: Default::default(),
                lane: 0,
                buffer: 0,
                offset: 0,
                len: 0,
            });
            batch.finish_series();
        }
        let mut rows = self.floats.select(select);
        if let Rows::Cursors(cursors) = &mut rows
            && !batch.is_empty()
        {
            cursors.push(Box::new(Once(Some(batch))));
        }
        rows
    }

    fn label_names(
        &self,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<model::Answer<Vec<Str>>, SourceError>> {
        self.floats.label_names(select)
    }

    fn label_values(
        &self,
        name: Str,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<model::Answer<Vec<Str>>, SourceError>> {
        self.floats.label_values(name, select)
    }
}

struct Once(Option<SeriesBatch>);

impl Cursor for Once {
    fn next(&mut self) -> Result<Option<SeriesBatch>, SourceError> {
        Ok(self.0.take())
    }
}

//! Scripts over our own engine.

use std::sync::Arc;

use chunk::HistogramRow;
use chunk::memory::{MemorySource, StoredSeries};
use model::Sample;
use model::histogram::Histogram;

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
        let options = EngineOptions {
            max_samples: 10_000,
            features: Features::ALL,
            delayed_name_removal: true,
            start_timestamps: true,
            ..EngineOptions::default()
        };
        let stored = series.iter().map(stored).collect::<Result<_, _>>()?;
        let source = MemorySource::with_histograms(stored);
        Ok(Arc::new(Engine::new(
            Arc::new(source),
            options,
            Arc::clone(&self.pool),
        )))
    }
}

/// A loaded series as it is stored: through the chunks that a database would make of it.
fn stored(series: &Series) -> Result<StoredSeries, String> {
    let mut out = StoredSeries::floats(series.labels.clone(), Vec::new());
    for sample in &series.samples {
        let (ts, start) = (sample.ts, sample.start);
        match &sample.value {
            LoadedValue::Float(value) => {
                out.floats.push(Sample { ts, value: *value });
                out.starts.push(start);
            }
            LoadedValue::Histogram(h) => {
                h.validate()
                    .map_err(|e| format!("{} at {ts}: {e}", series.labels))?;
                out.histograms.push(HistogramRow {
                    ts,
                    start,
                    value: Histogram::Float((**h).clone()),
                });
            }
        }
    }
    Ok(out)
}

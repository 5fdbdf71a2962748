//! `.test` scripts against the engine: Prometheus' corpus, and our own.

use std::path::Path;
use std::sync::Arc;

use chunk::memory::MemorySource;
use model::{
    BoxFuture, ChunkRef, Cursor, Encoding, Extent, LabelSelect, Labels, Rows, Sample, Scope,
    Select, SeriesBatch, Source, SourceError, Str, View,
};
use promql::features::Features;
use promql::testlang::{Backend, LoadedValue, Report, Series, run, text_report};
use promql::{Engine, EngineOptions, Evaluator};

struct Native {
    pool: Arc<rayon::ThreadPool>,
}

impl Backend for Native {
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

/// Runs the scripts of a folder; the reports, or none if there is no such folder.
fn reports(folder: &Path) -> Option<Vec<Report>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let backend = Native {
        pool: Arc::new(pool.expect("threads can be started")),
    };
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .collect();
    scripts.sort();
    let report = |path: &std::path::PathBuf| {
        let name = path.file_name()?.to_str()?;
        Some(run(&std::fs::read_to_string(path).ok()?, name, &backend))
    };
    Some(scripts.iter().filter_map(report).collect())
}

#[test]
fn our_own_scripts_pass() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
    let reports = reports(folder).expect("the folder is part of the crate");
    assert!(reports.len() > 3);
    let text = text_report(&reports, 20);
    assert!(
        reports
            .iter()
            .all(|r| r.counts().fail == 0 && r.counts().not_implemented == 0),
        "{text}"
    );
}

#[test]
fn prometheus_corpus_passes() {
    let Some(reports) = reports(&crate::corpus::root().join("promqltest")) else {
        println!(
            "SKIPPED: no promqltest in {}",
            crate::corpus::root().display()
        );
        return;
    };
    let text = text_report(&reports, 400);
    println!("{text}");
    if std::env::var_os("LIST_MISSING").is_some() {
        for report in &reports {
            for case in &report.cases {
                if let promql::testlang::Outcome::NotImplemented(what) = &case.outcome {
                    println!(
                        "MISSING {}:{} {what} | {}",
                        report.name, case.line, case.query
                    );
                }
            }
        }
    }
    assert!(reports.iter().all(Report::passed), "{text}");
}

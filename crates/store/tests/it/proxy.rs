use std::sync::Arc;

use chunk::memory::MemorySource;
use chunk::suite;
use model::scope::PartialResponse;
use model::{
    Budget, Extent, Kind, Labels, Matcher, Rows, Sample, Scope, Select, Source, SourceError, Str,
    TimeRange, View,
};
use store::{ExternalLabels, GatewayOptions, Proxy};

use crate::kit::{Kept, Place, RUNTIME, Series, fleet};

/// Part `k` of `n` of every series' samples, by time.
fn slice(series: &Series, k: usize, n: usize) -> Series {
    series
        .iter()
        .map(|(labels, samples)| {
            let (from, to) = (samples.len() * k / n, samples.len() * (k + 1) / n);
            (labels.clone(), samples[from..to].to_vec())
        })
        .filter(|(_, samples): &(Labels, Vec<Sample>)| !samples.is_empty())
        .collect()
}

fn proxy(children: Vec<(&str, Arc<dyn Source>)>) -> Proxy {
    let children = children.into_iter().map(|(n, s)| (Str::from(n), s));
    Proxy::new(children.collect(), RUNTIME.handle().clone())
}

fn memory(series: Series) -> Arc<dyn Source> {
    Arc::new(MemorySource::new(series))
}

fn streaming(series: Series) -> Arc<dyn Source> {
    Arc::new(MemorySource::new(series).answering_streams(true))
}

#[test]
fn suite_of_one() {
    suite::source("proxy of one", |series| {
        Arc::new(proxy(vec![("a", memory(series))]))
    });
}

#[test]
fn suite_of_cursors() {
    suite::source("proxy of cursors", |series| {
        let half = |k| memory(slice(&series, k, 2));
        Arc::new(proxy(vec![
            ("a", half(0)),
            ("b", half(1)),
            ("none", memory(vec![])),
        ]))
    });
}

#[test]
fn suite_of_both_kinds() {
    suite::source("proxy of both kinds", |series| {
        let third = |k| slice(&series, k, 3);
        Arc::new(proxy(vec![
            ("a", memory(third(0))),
            ("b", streaming(third(1))),
            ("c", memory(third(2))),
        ]))
    });
}

#[test]
fn suite_of_database_and_gateway() {
    suite::source("proxy of database and gateway", |series| {
        let place = Place::disk();
        place.add(1, TimeRange::ALL, &Labels::default(), &slice(&series, 0, 2));
        let gateway = place.gateway(GatewayOptions {
            labels: ExternalLabels::own(Labels::default()),
            ..GatewayOptions::default()
        });
        let gateway = Arc::new(Kept {
            source: gateway,
            _place: place,
        });
        Arc::new(proxy(vec![
            ("db", memory(slice(&series, 1, 2))),
            ("bucket", gateway),
        ]))
    });
}

#[test]
fn equal_series_become_one_entry_and_equal_chunks_one() {
    let all = fleet("up", 10, 0, 240);
    let both = proxy(vec![
        ("a", memory(all.clone())),
        ("b", streaming(all.clone())),
    ]);
    let scope = Scope::unbounded(TimeRange::ALL);
    let view = both.open(Arc::clone(&scope)).unwrap();
    let select = Select::new(vec![Matcher::equal("__name__", "up")], TimeRange::ALL);
    let batches = suite::batches(view.select(select)).unwrap();
    assert_eq!(batches.iter().map(|b| b.len()).sum::<usize>(), 10);
    let rows = suite::open(&batches, &scope.symbols, TimeRange::ALL).unwrap();
    assert!(rows.iter().all(|(_, samples)| samples.len() == 240));
}

#[test]
fn a_lone_child_is_passed_through() {
    let early = memory(fleet("up", 10, 0, 100));
    let late = streaming(fleet("up", 10, 10_000_000, 100));
    let both = proxy(vec![("early", early), ("late", late)]);
    let view = both.open(Scope::unbounded(TimeRange::ALL)).unwrap();
    let name = || vec![Matcher::equal("__name__", "up")];
    let rows = view.select(Select::new(name(), TimeRange::new(0, 1_000)));
    assert!(matches!(rows, Rows::Cursors(_)), "cursors stay cursors");
    let rows = view.select(Select::new(name(), TimeRange::ALL));
    assert!(matches!(rows, Rows::Stream(_)));
    let rows = view.select(Select::new(name(), TimeRange::new(5_000_000, 6_000_000)));
    assert!(
        matches!(rows, Rows::Cursors(c) if c.is_empty()),
        "nobody has that time"
    );
}

#[test]
fn a_lone_child_that_fails_is_said_too() {
    for (strategy, answers) in [
        (PartialResponse::Warn, true),
        (PartialResponse::Abort, false),
    ] {
        let bad = Arc::new(Bad {
            at_open: false,
            kind: Kind::Unavailable,
        });
        let alone = proxy(vec![("bad", bad)]);
        let mut scope = Scope::new(TimeRange::ALL, Budget::unlimited());
        scope.partial_response = strategy;
        let view = alone.open(Arc::new(scope)).unwrap();
        let name = vec![Matcher::equal("__name__", "up")];
        let batches = suite::batches(view.select(Select::new(name, TimeRange::ALL)));
        let names = futures::executor::block_on(view.label_names(model::LabelSelect {
            matchers: vec![],
            range: TimeRange::ALL,
            limit: 0,
        }));
        match (batches, names) {
            (Ok(batches), Ok(names)) => {
                assert!(answers);
                let warnings: Vec<&Str> = batches.iter().flat_map(|b| &b.warnings).collect();
                assert_eq!(*warnings, [&Str::from("bad: the disk is gone")]);
                assert_eq!(*names.warnings, [Str::from("bad: the disk is gone")]);
            }
            (Err(e), Err(_)) => {
                assert!(!answers);
                assert_eq!(e.message, "bad: the disk is gone");
            }
            _ => panic!("series and labels differ"),
        }
    }
}

/// A child that fails when it is opened, or at its first batch.
struct Bad {
    at_open: bool,
    kind: Kind,
}

impl Bad {
    fn error(&self) -> SourceError {
        SourceError::new(self.kind, "the disk is gone")
    }
}

impl Source for Bad {
    fn open(&self, _: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        match self.at_open {
            true => Err(self.error()),
            false => Ok(Box::new(Bad {
                at_open: false,
                kind: self.kind,
            })),
        }
    }

    fn extent(&self) -> Arc<Extent> {
        Arc::default()
    }
}

impl View for Bad {
    fn select(&self, _: Select) -> Rows {
        Rows::Stream(Box::pin(futures::stream::iter([Err(self.error())])))
    }

    fn label_names(
        &self,
        _: model::LabelSelect,
    ) -> model::BoxFuture<'static, Result<model::Answer<Vec<Str>>, SourceError>> {
        Box::pin(std::future::ready(Err(self.error())))
    }

    fn label_values(
        &self,
        _: Str,
        select: model::LabelSelect,
    ) -> model::BoxFuture<'static, Result<model::Answer<Vec<Str>>, SourceError>> {
        self.label_names(select)
    }
}

#[test]
fn a_child_that_fails_is_said_or_fails_all() {
    for at_open in [true, false] {
        for (strategy, kind, answers) in [
            (PartialResponse::Warn, Kind::Unavailable, true),
            (PartialResponse::Abort, Kind::Unavailable, false),
            (PartialResponse::Warn, Kind::Limit, false),
        ] {
            let good = memory(fleet("up", 3, 0, 10));
            let bad = Arc::new(Bad { at_open, kind });
            let both = proxy(vec![("good", good), ("bad", bad)]);
            let mut scope = Scope::new(TimeRange::ALL, Budget::unlimited());
            scope.partial_response = strategy;
            let scope = Arc::new(scope);
            let batches = both.open(Arc::clone(&scope)).and_then(|view| {
                let name = vec![Matcher::equal("__name__", "up")];
                suite::batches(view.select(Select::new(name, TimeRange::ALL)))
            });
            match batches {
                Ok(batches) => {
                    assert!(answers);
                    assert_eq!(batches.iter().map(|b| b.len()).sum::<usize>(), 3);
                    let warnings: Vec<&Str> = batches.iter().flat_map(|b| &b.warnings).collect();
                    assert_eq!(*warnings, [&Str::from("bad: the disk is gone")]);
                }
                Err(e) => {
                    assert!(!answers, "{e}");
                    assert_eq!(e.kind, kind);
                }
            }
            let names = both.open(scope).and_then(|view| {
                futures::executor::block_on(view.label_names(model::LabelSelect {
                    matchers: vec![],
                    range: TimeRange::ALL,
                    limit: 0,
                }))
            });
            match names {
                Ok(names) => {
                    assert!(answers);
                    assert_eq!((names.value.len(), names.warnings.len()), (3, 1));
                }
                Err(e) => assert_eq!((answers, e.kind), (false, kind)),
            }
        }
    }
}

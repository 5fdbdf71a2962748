//! Which selectors are asked in the order of labels: those whose order decides who stays.

use std::sync::{Arc, Mutex};

use chunk::memory::MemorySource;
use futures::executor::block_on;
use model::{
    Answer, BoxFuture, Extent, LabelSelect, Labels, Order, Rows, Sample, Scope, Select, Source,
    SourceError, Str, View,
};
use promql::value::QueryOptions;
use promql::{Engine, EngineOptions, Evaluator, InstantQuery};

/// Notes in which order it is asked.
#[derive(Clone)]
struct Asked {
    source: MemorySource,
    orders: Arc<Mutex<Vec<Order>>>,
}

struct AskedView(Box<dyn View>, Arc<Mutex<Vec<Order>>>);

impl Source for Asked {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        let view = self.source.open(scope)?;
        Ok(Box::new(AskedView(view, Arc::clone(&self.orders))))
    }

    fn extent(&self) -> Arc<Extent> {
        self.source.extent()
    }
}

impl View for AskedView {
    fn select(&self, select: Select) -> Rows {
        let mut orders = self.1.lock().expect("nobody panics");
        orders.push(select.order.clone());
        self.0.select(select)
    }

    fn label_names(
        &self,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        self.0.label_names(select)
    }

    fn label_values(
        &self,
        name: Str,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        self.0.label_values(name, select)
    }
}

#[test]
fn ties_are_broken_in_the_order_of_labels() {
    let samples = vec![Sample { ts: 0, value: 1.0 }];
    let series = ["a", "b"].map(|v| {
        (
            Labels::from_pairs([("__name__", "m"), ("l", v)]),
            samples.clone(),
        )
    });
    let orders = Arc::<Mutex<Vec<Order>>>::default();
    let source = Asked {
        source: MemorySource::new(series.into()),
        orders: Arc::clone(&orders),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = Arc::new(pool.expect("a thread"));
    let engine = Engine::new(Arc::new(source), EngineOptions::default(), pool);
    let by_labels = || Order::ByLabels {
        without: Vec::new(),
    };
    for (expr, want) in [
        ("sum(m)", Order::Any),
        ("topk(1, m)", by_labels()),
        (
            "bottomk by (l) (1, abs(count_over_time(m[1m])))",
            by_labels(),
        ),
        // Read once, in the order that one of them needs.
        ("m / on (l) topk(1, m)", by_labels()),
    ] {
        let asked = block_on(engine.instant(InstantQuery {
            expr: expr.into(),
            ts: 0,
            options: QueryOptions::default(),
        }));
        assert!(asked.is_ok(), "{expr}");
        let orders = std::mem::take(&mut *orders.lock().expect("nobody panics"));
        assert_eq!(orders, [want], "{expr}");
    }
}

//! What selectors ask of a source: in which order, once, and what they tell of the answer's use.

use std::sync::{Arc, Mutex};

use chunk::memory::MemorySource;
use futures::executor::block_on;
use model::{
    Answer, BoxFuture, Extent, LabelSelect, Labels, Order, Projection, Rows, Sample, Scope, Select,
    Source, SourceError, Str, View,
};
use promql::value::QueryOptions;
use promql::{Engine, EngineOptions, Evaluator, InstantQuery, RangeQuery};

/// Notes what it is asked.
#[derive(Clone)]
struct Asked {
    source: MemorySource,
    selects: Arc<Mutex<Vec<Select>>>,
}

struct AskedView(Box<dyn View>, Arc<Mutex<Vec<Select>>>);

impl Source for Asked {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        let view = self.source.open(scope)?;
        Ok(Box::new(AskedView(view, Arc::clone(&self.selects))))
    }

    fn extent(&self) -> Arc<Extent> {
        self.source.extent()
    }
}

impl View for AskedView {
    fn select(&self, select: Select) -> Rows {
        self.1.lock().expect("nobody panics").push(select.clone());
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

/// An engine over two series of `m`, and what its source was asked since the last look.
fn engine() -> (Engine, impl Fn() -> Vec<Select>) {
    let samples = vec![Sample { ts: 0, value: 1.0 }];
    let series = ["a", "b"].map(|v| {
        let labels = Labels::from_pairs([("__name__", "m"), ("l", v)]);
        (labels, samples.clone())
    });
    let selects = Arc::<Mutex<Vec<Select>>>::default();
    let source = Asked {
        source: MemorySource::new(series.into()),
        selects: Arc::clone(&selects),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = Arc::new(pool.expect("a thread"));
    let engine = Engine::new(Arc::new(source), EngineOptions::default(), pool);
    let since = move || std::mem::take(&mut *selects.lock().expect("nobody panics"));
    (engine, since)
}

#[test]
fn ties_are_broken_in_the_order_of_labels() {
    let (engine, asked) = engine();
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
        let answer = block_on(engine.instant(InstantQuery {
            expr: expr.into(),
            ts: 0,
            options: QueryOptions::default(),
        }));
        assert!(answer.is_ok(), "{expr}");
        let orders: Vec<Order> = asked().into_iter().map(|s| s.order).collect();
        assert_eq!(orders, [want], "{expr}");
    }
}

/// Function, range, grouping and projection of the only select of `expr`, a range query of two steps.
type Told = (
    Option<&'static str>,
    i64,
    Option<(bool, &'static [&'static str])>,
    Projection,
);

#[test]
fn a_source_is_told_what_its_answer_is_for() {
    let (engine, asked) = engine();
    let list = |names: &[&str]| names.iter().map(|n| Str::from(*n)).collect::<Vec<_>>();
    let include = |names: &[&str]| Projection::Include(list(names));
    let cases: [(&str, Told); 7] = [
        ("m", (None, 0, None, Projection::All)),
        (
            "sum by (l) (m)",
            (
                Some("sum"),
                0,
                Some((true, &["l"])),
                include(&["l", "__name__"]),
            ),
        ),
        (
            "max without (l) (rate(m[5m]))",
            (
                Some("rate"),
                300_000,
                Some((false, &["l"])),
                Projection::Exclude(list(&["l"])),
            ),
        ),
        (
            "count(count_over_time(m[1m]))",
            (
                Some("count_over_time"),
                60_000,
                Some((true, &[])),
                include(&["__name__"]),
            ),
        ),
        // All labels matter to what is shown, and to what is joined.
        (
            "rate(m[5m])",
            (Some("rate"), 300_000, None, Projection::All),
        ),
        ("m * on (l) m", (None, 0, None, Projection::All)),
        // Asked once: what is not true for both is not told.
        ("rate(m[5m]) > m", (None, 0, None, Projection::All)),
    ];
    for (expr, (func, range, grouping, projection)) in cases {
        let answer = block_on(engine.range(RangeQuery {
            expr: expr.into(),
            start: 0,
            end: 15_000,
            step: 15_000,
            options: QueryOptions::default(),
        }));
        assert!(answer.is_ok(), "{expr}");
        let selects = asked();
        assert_eq!(selects.len(), 1, "{expr}");
        let hints = &selects[0].hints;
        assert_eq!(hints.func.as_deref(), func, "{expr}");
        assert_eq!((hints.range, hints.step), (range, 15_000), "{expr}");
        let told = hints.grouping.as_ref().map(|(by, l)| (*by, l.clone()));
        let wanted = grouping.map(|(by, names)| (by, list(names)));
        assert_eq!(told, wanted, "{expr}");
        assert_eq!(hints.projection, projection, "{expr}");
    }
}

#[test]
fn the_plan_says_what_narrows_a_selector() {
    let (engine, _) = engine();
    let plan = |expr: &str| {
        let plan = engine.explain(expr, 0, 0, None);
        plan.expect("the query is sound").to_string()
    };
    let narrowed = plan("m and on (l) n{l=\"a\"}");
    assert!(
        narrowed.contains(
            "{l=\"a\",__name__=\"m\"} range=300000ms narrowed by the other side's {l=\"a\"}"
        ),
        "{narrowed}"
    );
    let written = plan("m{l=\"a\"} and on (l) n{l=\"a\"}");
    assert!(!written.contains("narrowed"), "{written}");
    let unsafe_to = plan("m + on (l) n{l=\"a\"}");
    assert!(!unsafe_to.contains("narrowed"), "{unsafe_to}");
}

//! Any text: the PromQL parser must answer or refuse, what it accepts must print as something that it
//! accepts again, and the planner must plan or refuse it.
#![no_main]

use std::sync::{Arc, LazyLock};

use chunk::memory::MemorySource;
use libfuzzer_sys::fuzz_target;
use promql::features::Features;
use promql::parse::{parse, parse_metric, parse_selector};
use promql::prettify::prettify;
use promql::{Engine, EngineOptions};

/// Plans are made, never run: its thread sleeps.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let options = EngineOptions {
        features: Features::ALL,
        ..EngineOptions::default()
    };
    let source = Arc::new(MemorySource::new(Vec::new()));
    Engine::new(source, options, Arc::new(pool.expect("a thread")))
});

fuzz_target!(|text: &str| {
    let _ = parse_selector(text);
    let _ = parse_metric(text);
    if let Ok(expr) = parse(text, &Features::ALL) {
        let printed = expr.to_string();
        assert!(parse(&printed, &Features::ALL).is_ok(), "{printed}");
        assert!(parse(&prettify(&expr), &Features::ALL).is_ok(), "{printed}");
        for (end, step) in [(1_700_000_000_000, None), (1_700_000_600_000, Some(15_000))] {
            if let Ok(plan) = ENGINE.explain(text, 1_700_000_000_000, end, step) {
                assert!(!plan.to_string().is_empty());
            }
        }
    }
});

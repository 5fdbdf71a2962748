//! An answer is the same to the last bit, whatever threads and cursors do.

use std::sync::Arc;

use chunk::memory::MemorySource;
use futures::executor::block_on;
use promql::features::Features;
use promql::value::QueryOptions;
use promql::{Engine, EngineOptions, Evaluator, InstantQuery, RangeQuery};

use crate::dealt::Dealt;
use crate::oracle_data::{self, END, START};

/// What depends on an order: sums of floats and of histograms, moments, ties, joins, set operators.
const QUERIES: &[&str] = &[
    "sum(rate(f_total[2m]) / 3)",
    "sum by (job) (f / 7)",
    "avg(f / 7)",
    "avg without (inst) (exp(f) * 1e300)",
    "stddev(f / 7)",
    "stdvar by (inst) (rate(f_total[2m]) / 3)",
    "quantile(0.3, f)",
    "topk(3, ceil(f / 40))",
    "bottomk by (job) (1, f > bool 0)",
    "limitk(4, f)",
    "count_values(\"v\", ceil(f / 20))",
    "sum(rate(h_total[3m]))",
    "sum by (job) (g / 7)",
    "avg(rate(h_total[3m]))",
    "avg by (inst) (g / 7)",
    "avg(mix) or sum(f)",
    "histogram_quantile(0.7, avg without (inst) (irate(h_total[17m])))",
    "histogram_quantile(0.7, sum by (job) (rate(n_total[2m])))",
    "sum(f / on (job, inst) (f_total + 1))",
    "avg(f / 3 or f_total / 7)",
    "avg(f / 3 and f_total unless on (job, inst) f > 10)",
    "avg_over_time(sum(f / 7)[10m:45s])",
    "sum(f_total - f_total offset 7m) / sum(f / 3)",
];

#[test]
fn answers_are_equal_to_the_last_bit_whoever_reads_what() {
    let engines: Vec<Engine> = [1, 2, 3, 7]
        .map(|threads| {
            let dealt = Dealt {
                source: MemorySource::with_histograms(oracle_data::series(11)),
                ahead: |_| None,
                fails: None,
                in_turn: true,
            };
            let options = EngineOptions {
                features: Features::ALL,
                ..EngineOptions::default()
            };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            Engine::new(Arc::new(dealt), options, Arc::new(pool.expect("threads")))
        })
        .into();
    for expr in QUERIES {
        let mut first = None;
        for engine in engines.iter().cycle().take(engines.len() * 12) {
            let range = block_on(engine.range(RangeQuery {
                expr: (*expr).into(),
                start: START,
                end: END,
                step: 300_000,
                options: QueryOptions::default(),
            }));
            let instant = block_on(engine.instant(InstantQuery {
                expr: (*expr).into(),
                ts: START + 3_601_000,
                options: QueryOptions::default(),
            }));
            // The text of a number names its bits, but for those of NaN.
            let answers = [range, instant].map(|a| a.unwrap_or_else(|e| panic!("{expr}: {e}")));
            let said = answers.map(|a| format!("{:?} {:?} {:?}", a.value, a.warnings, a.infos));
            let text = said.join("\n");
            assert!(text.contains("labels"), "{expr} has an answer");
            let first = first.get_or_insert_with(|| text.clone());
            assert!(text == *first, "{expr}\n{first}\n{text}");
        }
    }
}

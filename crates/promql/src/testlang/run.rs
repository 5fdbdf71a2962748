//! Running a script.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use model::{Labels, Millis};

use super::script::{Command, Eval, Load, commands};
use super::{Backend, Case, LoadedSample, Outcome, Report, Series, judge, nhcb, rerun};
use crate::value::{
    Evaluator, InstantQuery, InstantSample, QueryError, QueryOptions, QueryResult, RangeQuery,
    Value,
};

/// Runs a script: reads it, loads what it loads, and judges each `eval`. Blocks until it is done.
pub fn run(script: &str, name: &str, backend: &dyn Backend) -> Report {
    let mut report = Report {
        name: name.to_owned(),
        ..Report::default()
    };
    let commands = match commands(script) {
        Ok(commands) => commands,
        Err(error) => {
            report.error = Some(error);
            return report;
        }
    };
    let mut data = Data::default();
    let mut evaluator = None;
    for command in commands {
        match command {
            Command::Clear => {
                data = Data::default();
                evaluator = None;
            }
            Command::Load(load) => {
                evaluator = None;
                if let Err(error) = data.load(load) {
                    report.error = Some(error);
                    return report;
                }
            }
            Command::Eval(eval) => {
                let evaluator = evaluator.get_or_insert_with(|| backend.evaluator(&data.series()));
                let outcome = match evaluator {
                    Ok(evaluator) => Runner {
                        eval: &eval,
                        evaluator: evaluator.as_ref(),
                    }
                    .judge(),
                    Err(error) => Err(Miss::of(error.clone())),
                };
                report.cases.push(Case {
                    line: eval.line,
                    query: eval.query,
                    outcome: match outcome {
                        Ok(()) => Outcome::Pass,
                        Err(Miss::Fail(why)) => Outcome::Fail(why),
                        Err(Miss::NotImplemented(what)) => Outcome::NotImplemented(what),
                    },
                });
            }
        }
    }
    report
}

/// What a script has loaded so far. A later sample at the same time wins.
#[derive(Default)]
struct Data(BTreeMap<Labels, BTreeMap<Millis, LoadedSample>>);

impl Data {
    fn load(&mut self, load: Load) -> Result<(), String> {
        let natives = if load.with_nhcb {
            nhcb::convert(&load.series)?
        } else {
            Vec::new()
        };
        for series in load.series.into_iter().chain(natives) {
            let samples = self.0.entry(series.labels).or_default();
            samples.extend(series.samples.into_iter().map(|s| (s.ts, s)));
        }
        Ok(())
    }

    fn series(&self) -> Vec<Series> {
        let series = self.0.iter().filter(|(_, samples)| !samples.is_empty());
        series
            .map(|(labels, samples)| Series {
                labels: labels.clone(),
                samples: samples.values().cloned().collect(),
            })
            .collect()
    }
}

/// Why an `eval` did not pass.
enum Miss {
    Fail(String),
    NotImplemented(String),
}

impl Miss {
    fn of(text: String) -> Self {
        if text.starts_with("not implemented") {
            Miss::NotImplemented(text)
        } else {
            Miss::Fail(text)
        }
    }
}

struct Runner<'a> {
    eval: &'a Eval,
    evaluator: &'a dyn Evaluator,
}

impl Runner<'_> {
    fn judge(&self) -> Result<(), Miss> {
        let eval = self.eval;
        if !eval.instant {
            let result = self.range(&eval.query, eval.start, eval.end, eval.step);
            let Some(result) = self.expected_failure(result)? else {
                return Ok(());
            };
            judge::annotations(eval, &result).map_err(Miss::Fail)?;
            return judge::value(eval, &result.value).map_err(Miss::Fail);
        }
        self.instant_at(&eval.query, eval.end)?;
        let (query, times) = rerun::pinned(&eval.query, eval.end).unwrap_or_default();
        for at in times {
            let context = |miss| match miss {
                Miss::Fail(why) => Miss::Fail(format!("as {query} at {at}: {why}")),
                other => other,
            };
            self.instant_at(&query, at).map_err(context)?;
        }
        Ok(())
    }

    /// The result, or nothing if the query failed as it should.
    fn expected_failure(
        &self,
        result: Result<QueryResult, QueryError>,
    ) -> Result<Option<QueryResult>, Miss> {
        match (result, &self.eval.fail) {
            (Ok(result), None) => Ok(Some(result)),
            (Ok(_), Some(_)) => Err(Miss::Fail("expected an error but got none".to_owned())),
            (Err(error), wanted) => {
                let error = error.to_string();
                if let miss @ Miss::NotImplemented(_) = Miss::of(error.clone()) {
                    return Err(miss);
                }
                match wanted {
                    Some(wanted) if wanted.matches(&error) => Ok(None),
                    Some(wanted) => Err(Miss::Fail(format!(
                        "expected error {wanted} but got {error:?}"
                    ))),
                    None => Err(Miss::Fail(format!("error: {error}"))),
                }
            }
        }
    }

    /// As an instant query at `at`, and as the middle step of a range query.
    fn instant_at(&self, query: &str, at: Millis) -> Result<(), Miss> {
        let eval = self.eval;
        let result = block_on(self.evaluator.instant(InstantQuery {
            expr: query.into(),
            ts: at,
            options: QueryOptions::default(),
        }));
        let Some(result) = self.expected_failure(result)? else {
            return Ok(());
        };
        judge::annotations(eval, &result).map_err(Miss::Fail)?;
        judge::value(eval, &result.value).map_err(Miss::Fail)?;
        let depends_on_grid = ["start()", "end()", "range()", "step()"];
        if eval.only_instant || depends_on_grid.iter().any(|call| query.contains(call)) {
            return Ok(());
        }
        const MINUTE: Millis = 60_000;
        let in_range = |why: String| Miss::of(format!("in range mode: {why}"));
        let grid = self
            .range(query, at - MINUTE, at + MINUTE, MINUTE)
            .map_err(|error| match Miss::of(error.to_string()) {
                Miss::Fail(why) => in_range(why),
                other => other,
            })?;
        let Value::Matrix(series) = grid.value else {
            return Err(in_range("the result is no matrix".to_owned()));
        };
        if eval.ordered {
            return Ok(());
        }
        judge::sorted(&series).map_err(in_range)?;
        let middle: Vec<InstantSample> = series
            .into_iter()
            .filter_map(|series| {
                let float = series.ts.iter().position(|ts| *ts == at);
                let mut histograms = series.histograms.into_iter();
                let histogram = histograms.find(|(ts, _)| *ts == at).map(|(_, h)| h);
                Some(InstantSample {
                    ts: at,
                    value: match (float, &histogram) {
                        (Some(i), _) => *series.values.get(i)?,
                        (None, Some(_)) => 0.0,
                        (None, None) => return None,
                    },
                    histogram,
                    labels: series.labels,
                })
            })
            .collect();
        let value = match (&result.value, middle.first()) {
            (Value::Scalar(..), Some(sample)) => Value::Scalar(at, sample.value),
            _ => Value::Vector(middle),
        };
        judge::value(eval, &value).map_err(in_range)
    }

    fn range(
        &self,
        query: &str,
        start: Millis,
        end: Millis,
        step: Millis,
    ) -> Result<QueryResult, QueryError> {
        block_on(self.evaluator.range(RangeQuery {
            expr: query.into(),
            start,
            end,
            step,
            options: QueryOptions::default(),
        }))
    }
}

/// Waits for a future on this thread; an evaluator's work happens elsewhere.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

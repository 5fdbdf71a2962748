//! What peers evaluate: their results side by side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use model::scope::PartialResponse;
use model::{Labels, Millis, Str};

use super::block::{Block, Row, set};
use super::context::Context;
use super::operator::{Blocks, Description, Operator};
use super::pace::Pace;
use crate::grid::Grid;
use crate::histogram::Histogram;
use crate::peers::Peer;
use crate::plan::remote::{self, Question};
use crate::value::{QueryError, QueryOptions, QueryResult, RangeSeries, Value};

/// Asks all peers of a question at once.
pub(crate) struct Remote {
    pub(crate) question: Arc<remote::Remote>,
    pub(crate) grid: Grid,
}

impl Remote {
    /// How the query that runs is asked of others.
    fn options(cx: &Context) -> QueryOptions {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        QueryOptions {
            timeout: cx
                .scope
                .deadline
                .map(left)
                .map(|t| t.max(Duration::from_millis(1))),
            tenant: cx.scope.tenant.clone(),
            partial_response: cx.scope.partial_response,
            gather: cx.scope.gather.clone(),
            ..QueryOptions::default()
        }
    }

    async fn ask(self: Arc<Self>, cx: Arc<Context>, peer: Peer) -> Result<Block, QueryError> {
        let steps = self.grid.count;
        let question = self.question.on(&self.grid, Self::options(&cx));
        let answer = match question {
            Some(Question::Instant(query)) => peer.evaluator.instant(query).await,
            Some(Question::Range(query)) => peer.evaluator.range(query).await,
            None => return Ok(Block::new(steps)),
        };
        let name = &peer.name;
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) if cx.scope.partial_response == PartialResponse::Warn => {
                let text = format!("remote query error ({name}): {e}");
                cx.say(|a| a.of_source(&Str::from(text)));
                return Ok(Block::new(steps));
            }
            Err(e) => {
                let text = format!("remote query error ({name}): {e}");
                return Err(QueryError::Execution(text));
            }
        };
        for warning in &answer.warnings {
            let text = format!("remote query warning ({name}): {warning}");
            cx.say(|a| a.of_source(&Str::from(text)));
        }
        let bytes = weight(&answer);
        cx.run(bytes, move |cx| self.block(cx, answer)).await
    }

    fn block(&self, cx: &Context, answer: QueryResult) -> Result<Block, QueryError> {
        let mut block = cx.build(self.grid.count)?;
        let (mut row, mut pace) = (Row::default(), Pace::default());
        match answer.value {
            Value::Vector(samples) => {
                for sample in samples {
                    pace.step(cx, 0)?;
                    self.begin(cx, &mut row, &sample.labels);
                    match &sample.histogram {
                        None => self.put(&mut row, self.grid.start, sample.value),
                        Some(h) => self.put_histogram(&mut row, self.grid.start, h),
                    }
                    block.push(row.as_ref())?;
                }
            }
            Value::Matrix(all) => {
                for series in &all {
                    pace.step(cx, self.grid.count)?;
                    self.begin(cx, &mut row, &series.labels);
                    for (&ts, &value) in series.ts.iter().zip(&series.values) {
                        self.put(&mut row, ts, value);
                    }
                    for (ts, h) in &series.histograms {
                        self.put_histogram(&mut row, *ts, h);
                    }
                    block.push(row.as_ref())?;
                }
            }
            Value::Scalar(..) | Value::String(..) => {
                let text = "a peer answered no vector".to_owned();
                return Err(QueryError::Internal(text));
            }
        }
        block.finish()
    }

    fn begin(&self, cx: &Context, row: &mut Row, labels: &Labels) {
        row.reset(self.grid.count);
        cx.scope.symbols.intern_labels(labels, &mut row.labels);
    }

    /// The step at `ts`, if there is one.
    fn step(&self, ts: Millis) -> Option<usize> {
        let since = ts.checked_sub(self.grid.start)?;
        let step = usize::try_from(since.checked_div(self.grid.step)?).ok()?;
        (step < self.grid.count && self.grid.at(step) == ts).then_some(step)
    }

    fn put(&self, row: &mut Row, ts: Millis, value: f64) {
        if let Some(i) = self.step(ts)
            && let Some(place) = row.values.get_mut(i)
        {
            *place = value;
            set(&mut row.bits, i);
        }
    }

    fn put_histogram(&self, row: &mut Row, ts: Millis, h: &model::histogram::FloatHistogram) {
        let Some(i) = self.step(ts) else {
            return;
        };
        // In the order of time.
        if row
            .histograms
            .last()
            .is_none_or(|(last, _)| (*last as usize) < i)
        {
            row.histograms
                .push((i as u32, Arc::new(Histogram::of_float(h))));
            set(&mut row.bits, i);
        }
    }
}

/// Bytes to work on.
fn weight(answer: &QueryResult) -> usize {
    let of = |s: &RangeSeries| 128 + s.ts.len() * 16 + s.histograms.len() * 512;
    match &answer.value {
        Value::Matrix(all) => all.iter().map(of).sum(),
        Value::Vector(all) => all.len() * 256,
        Value::Scalar(..) | Value::String(..) => 0,
    }
}

impl Operator for Remote {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        let peers: Vec<Peer> = self.question.peers.to_vec();
        let at_once = peers.len().max(1);
        let asked = peers.into_iter().map(move |peer| {
            let (this, cx) = (Arc::clone(&self), Arc::clone(&cx));
            this.ask(cx, peer)
        });
        stream::iter(asked)
            .buffered(at_once)
            .filter(|block| {
                let empty = block.as_ref().is_ok_and(Block::is_empty);
                async move { !empty }
            })
            .boxed()
    }

    fn describe(&self) -> Description {
        let peers: Vec<&str> = self.question.peers.iter().map(|p| &*p.name).collect();
        let name = format!("Remote [{}] {}", peers.join(", "), self.question.text());
        Description::new(name, true, "series x steps x 9 B")
    }
}

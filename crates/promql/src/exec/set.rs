//! `and`, `or`, `unless`: presence alone decides.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::block::{Block, Row, unite, words};
use super::context::{Context, Held, Weigh as _};
use super::index::{Key, LabelIndex};
use super::join::matching_key;
use super::operator::{Blocks, Description, Operator, fold, left_first};
use super::pace::Pace;
use super::pipe::Pipe;
use crate::ast::{BinaryOp, Matching};
use crate::value::QueryError;

/// `lhs op rhs`; `op` is `and`, `or` or `unless`.
pub(crate) struct Set {
    pub(crate) op: BinaryOp,
    pub(crate) matching: Matching,
    pub(crate) lhs: Pipe,
    pub(crate) rhs: Pipe,
}

/// At which steps a match has a series.
#[derive(Default)]
struct Presence {
    keys: LabelIndex,
    bits: Vec<u64>,
    held: Option<Held>,
}

impl Presence {
    fn add(&mut self, cx: &Context, key: &Key, block: &Block, w: usize) -> Result<(), QueryError> {
        let (mut labels, mut pace) = (Vec::new(), Pace::default());
        for row in block.rows() {
            pace.step(cx, w * 64)?;
            key.of(row.labels, &mut labels);
            let held = match &mut self.held {
                Some(held) => held,
                none => none.insert(cx.hold(0)?),
            };
            let of_row = size_of_val(&labels[..]) + w * 8 + 16;
            held.ensure(self.keys.bytes() / 2 + self.bits.len() * 8 + of_row)?;
            let (k, new) = self.keys.intern(&labels);
            if new {
                self.bits.resize((k + 1) * w, 0);
            }
            unite(&mut self.bits[k * w..(k + 1) * w], row.bits);
        }
        let bytes = self.keys.bytes() + self.bits.capacity() * 8;
        match &mut self.held {
            Some(held) => held.resize(bytes),
            None => Ok(()),
        }
    }

    /// The rows of `block` at the steps where their match is present (`keep`) or not.
    fn mask(
        &self,
        cx: &Context,
        key: &Key,
        block: &Block,
        steps: usize,
        keep: bool,
    ) -> Result<Block, QueryError> {
        let w = words(steps);
        let mut out = cx.build(steps)?;
        let (mut labels, mut row, mut pace) = (Vec::new(), Row::default(), Pace::default());
        for source in block.rows() {
            pace.step(cx, steps)?;
            key.of(source.labels, &mut labels);
            match (self.keys.find(&labels), keep) {
                (None, true) => continue,
                (None, false) => {
                    out.push(source)?;
                    continue;
                }
                (Some(k), _) => {
                    source.copy_to(&mut row);
                    let theirs = &self.bits[k * w..(k + 1) * w];
                    for (mine, theirs) in row.bits.iter_mut().zip(theirs) {
                        *mine &= if keep { *theirs } else { !*theirs };
                    }
                    row.drop_cleared();
                    if !row.is_empty() {
                        out.push(row.as_ref())?;
                    }
                }
            }
        }
        out.finish()
    }
}

impl Operator for Set {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        let key = Arc::new(matching_key(&self.matching, &cx));
        let steps = self.lhs.grid.count;
        let (lhs, rhs) = (self.lhs.blocks(&cx), self.rhs.blocks(&cx));
        if self.op == BinaryOp::Or {
            return either(cx, key, lhs, rhs, steps);
        }
        let keep = self.op == BinaryOp::And;
        let build = {
            let (cx, key) = (Arc::clone(&cx), Arc::clone(&key));
            async move {
                fold(&cx, rhs, Presence::default(), move |cx, state, block| {
                    state.add(cx, &key, &block, words(steps))
                })
                .await
            }
        };
        let masked = async move {
            let presence = match build.await {
                Ok(presence) => Arc::new(presence),
                Err(e) => return Err(left_first(e, lhs).await),
            };
            Ok(masked(cx, key, lhs, presence, steps, keep))
        };
        stream::once(masked).try_flatten().boxed()
    }

    fn describe(&self) -> Description {
        Description::new(
            format!("Set[{}]", self.op.as_str()),
            true,
            "matches x steps / 8 B",
        )
        .over([self.lhs.describe(), self.rhs.describe()])
    }
}

/// The blocks of `input` at the steps where their match is present (`keep`) or not.
fn masked(
    cx: Arc<Context>,
    key: Arc<Key>,
    input: Blocks,
    presence: Arc<Presence>,
    steps: usize,
    keep: bool,
) -> Blocks {
    let credits = cx.credits;
    input
        .map(move |block| {
            let (cx, key, presence) = (Arc::clone(&cx), Arc::clone(&key), Arc::clone(&presence));
            async move {
                let block = block?;
                let bytes = block.weight();
                cx.run(bytes, move |cx| {
                    presence.mask(cx, &key, &block, steps, keep)
                })
                .await
            }
        })
        .buffered(credits)
        .try_filter(|block| {
            let empty = block.is_empty();
            async move { !empty }
        })
        .boxed()
}

/// `or`: all of the left side, noting its matches; then the right side where there were none.
fn either(cx: Arc<Context>, key: Arc<Key>, lhs: Blocks, rhs: Blocks, steps: usize) -> Blocks {
    enum State {
        Left(Blocks, Presence),
        Right(Blocks),
    }
    let state = (State::Left(lhs, Presence::default()), Some(rhs), cx, key);
    stream::try_unfold(state, move |(mut state, mut rhs, cx, key)| async move {
        loop {
            match state {
                State::Left(mut lhs, mut presence) => match lhs.next().await.transpose()? {
                    Some(block) => {
                        let of = Arc::clone(&key);
                        let (block, presence) = cx
                            .run(block.weight(), move |cx| {
                                presence.add(cx, &of, &block, words(steps))?;
                                Ok((block, presence))
                            })
                            .await?;
                        let state = State::Left(lhs, presence);
                        return Ok(Some((block, (state, rhs, cx, key))));
                    }
                    None => {
                        let rhs = rhs.take().unwrap_or_else(|| stream::empty().boxed());
                        let (cx, key) = (Arc::clone(&cx), Arc::clone(&key));
                        state = State::Right(masked(cx, key, rhs, presence.into(), steps, false));
                    }
                },
                State::Right(mut blocks) => {
                    return match blocks.next().await.transpose()? {
                        Some(block) => Ok(Some((block, (State::Right(blocks), rhs, cx, key)))),
                        None => Ok(None),
                    };
                }
            }
        }
    })
    .boxed()
}

//! Deep plans on shallow stacks: a part of the plan runs as a task of its own.
//!
//! Streams poll the streams below them, so a plan of 500 levels would need the stack of 500 polls.
//! Every few levels an exchange hands the part below to the query's own list of tasks, which are
//! polled side by side by whoever polls the query, and takes its blocks from a channel of one.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_channel::mpsc;
use futures_util::sink::SinkExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use model::BoxFuture;

use super::context::Context;
use super::operator::{Blocks, Description, Operator};
use super::pipe::Pipe;

/// A part of a query that is polled beside it.
pub(crate) type Task = BoxFuture<'static, ()>;

/// Runs its input as a task.
pub(crate) struct Exchange {
    pub(crate) input: Pipe,
}

impl Operator for Exchange {
    fn run(self: Arc<Self>, cx: Arc<Context>) -> Blocks {
        // Nothing runs before the first poll, as everywhere.
        let started = async move {
            let (mut to, blocks) = mpsc::channel(0);
            let of_task = Arc::clone(&cx);
            cx.spawn(Box::pin(async move {
                let mut input = self.input.blocks(&of_task);
                while let Some(block) = input.next().await {
                    if to.send(block).await.is_err() {
                        return;
                    }
                }
            }));
            blocks
        };
        futures_util::stream::once(started).flatten().boxed()
    }

    fn describe(&self) -> Description {
        self.input.describe()
    }
}

/// Polls `main`, and beside it the tasks that arrive, until `main` is done.
pub(crate) async fn drive<T>(
    main: impl Future<Output = T>,
    mut arriving: mpsc::UnboundedReceiver<Task>,
) -> T {
    let mut main = pin!(main);
    let mut running = FuturesUnordered::new();
    std::future::poll_fn(move |cx| {
        loop {
            if let Poll::Ready(value) = main.as_mut().poll(cx) {
                return Poll::Ready(value);
            }
            let mut moved = false;
            while let Poll::Ready(Some(task)) = arriving.poll_next_unpin(cx) {
                running.push(task);
                moved = true;
            }
            while let Poll::Ready(Some(())) = running.poll_next_unpin(cx) {
                moved = true;
            }
            if !moved {
                return Poll::Pending;
            }
        }
    })
    .await
}

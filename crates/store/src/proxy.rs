//! One source of several.
//!
//! Children that cannot have anything for a question are not asked; if one is left, its rows are
//! passed on untouched. Otherwise each is asked for its series in the order of labels and the
//! answers are merged: series with equal labels become one entry, whose chunks are united by
//! timestamp, because the children hold parts of the same data (a local database and the blocks
//! that were shipped from it).
//!
//! Where labels are removed before sorting (`without`), equal labels may also mean replicas. Then
//! only entries of different children that cover different times are joined.

mod inputs;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use model::source::Projection;
use model::{
    Answer, BoxFuture, Capabilities, Extent, LabelSelect, Matcher, Order, Rows, Scope, Select,
    SeriesBatch, Source, SourceError, Str, TimeRange, View,
};
use tokio::runtime::Handle;

use crate::failure;
use crate::merge::{Merge, Shape, Unite};
pub(crate) use inputs::{Chain, RowsInput};
use inputs::{CursorsInput, MergedCursor};

/// A source over other sources.
pub struct Proxy {
    children: Vec<(Str, Arc<dyn Source>)>,
    runtime: Handle,
}

impl Proxy {
    /// A source over `children`, whose names stand in warnings and errors. Its tasks run on
    /// `runtime`.
    pub fn new(children: Vec<(Str, Arc<dyn Source>)>, runtime: Handle) -> Self {
        Self { children, runtime }
    }
}

impl Source for Proxy {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        scope.check()?;
        let mut children = Vec::with_capacity(self.children.len());
        let mut warnings = Vec::new();
        for (name, source) in &self.children {
            match source.open(Arc::clone(&scope)) {
                Ok(view) => children.push(Child {
                    name: Arc::clone(name),
                    view,
                    extent: source.extent(),
                }),
                Err(e) => warnings.push(failure::tolerate(&scope, name, e)?),
            }
        }
        Ok(Box::new(ProxyView {
            children,
            warnings,
            scope,
            runtime: self.runtime.clone(),
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        let mut all = Extent {
            parts: Vec::new(),
            capabilities: Capabilities {
                sharding: true,
                without_labels: true,
                projection: true,
            },
        };
        let mut known = true;
        for (_, source) in &self.children {
            let extent = source.extent();
            // No parts: it may hold anything, and so may we.
            known &= !extent.parts.is_empty();
            all.parts.extend_from_slice(&extent.parts);
            let (ours, theirs) = (&mut all.capabilities, extent.capabilities);
            ours.sharding &= theirs.sharding;
            ours.without_labels &= theirs.without_labels;
            ours.projection &= theirs.projection;
        }
        match (known, self.children.is_empty()) {
            (true, true) => all.parts.push((model::Labels::default(), TimeRange::EMPTY)),
            (true, false) => {}
            (false, _) => all.parts.clear(),
        }
        Arc::new(all)
    }
}

struct Child {
    name: Str,
    view: Box<dyn View>,
    extent: Arc<Extent>,
}

struct ProxyView {
    children: Vec<Child>,
    /// About children that could not be opened.
    warnings: Vec<Str>,
    scope: Arc<Scope>,
    runtime: Handle,
}

impl ProxyView {
    fn concerned(&self, range: TimeRange, matchers: &[Matcher]) -> Vec<&Child> {
        let may = |child: &&Child| child.extent.may_hold(range, matchers);
        self.children.iter().filter(may).collect()
    }

    /// The rows of the only child that is asked: as they are, but for the end that a failure makes.
    fn alone(&self, only: &Child, select: Select) -> Rows {
        let rows = match only.view.select(select) {
            Rows::Stream(rows) => rows,
            at_hand @ Rows::Cursors(_) => return at_hand,
        };
        let (name, scope) = (Arc::clone(&only.name), Arc::clone(&self.scope));
        let state = Some((rows, name, scope));
        Rows::Stream(Box::pin(futures_util::stream::unfold(
            state,
            |state| async {
                let (mut rows, name, scope) = state?;
                Some(match rows.next().await? {
                    Ok(batch) => (Ok(batch), Some((rows, name, scope))),
                    Err(e) => {
                        let said = failure::tolerate(&scope, &name, e).map(|warning| SeriesBatch {
                            warnings: vec![warning],
                            ..SeriesBatch::default()
                        });
                        (said, None)
                    }
                })
            },
        )))
    }

    fn labels<'a>(
        &'a self,
        select: LabelSelect,
        ask: impl Fn(
            &'a dyn View,
            LabelSelect,
        ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>>,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        let children = self.concerned(select.range, &select.matchers);
        if let ([only], true) = (children.as_slice(), self.warnings.is_empty()) {
            let (name, scope) = (Arc::clone(&only.name), Arc::clone(&self.scope));
            let answer = ask(&*only.view, select);
            return Box::pin(async move {
                answer.await.or_else(|e| {
                    Ok(Answer {
                        value: Vec::new(),
                        warnings: vec![failure::tolerate(&scope, &name, e)?],
                    })
                })
            });
        }
        let answers: Vec<_> = children
            .iter()
            .map(|child| {
                let (name, answer) = (Arc::clone(&child.name), ask(&*child.view, select.clone()));
                async move { (name, answer.await) }
            })
            .collect();
        let (scope, mut warnings) = (Arc::clone(&self.scope), self.warnings.clone());
        Box::pin(async move {
            let mut found: BTreeSet<Str> = BTreeSet::new();
            for (name, answer) in join_all(answers).await {
                match answer {
                    Ok(answer) => {
                        found.extend(answer.value);
                        warnings.extend(answer.warnings);
                    }
                    Err(e) => warnings.push(failure::tolerate(&scope, &name, e)?),
                }
            }
            let mut seen = BTreeSet::new();
            warnings.retain(|w| seen.insert(Arc::clone(w)));
            let limit = match select.limit {
                0 => usize::MAX,
                n => n,
            };
            Ok(Answer {
                value: found.into_iter().take(limit).collect(),
                warnings,
            })
        })
    }
}

impl View for ProxyView {
    fn select(&self, select: Select) -> Rows {
        let children = self.concerned(select.range, &select.matchers);
        match (children.as_slice(), self.warnings.as_slice()) {
            ([], []) => return Rows::empty(),
            ([only], []) => return self.alone(only, select),
            _ => {}
        }
        let instant = select.hints.step == 0 && select.hints.range <= 5 * 60_000;
        let removes = matches!(&select.order, Order::ByLabels { without } if !without.is_empty());
        let shape = Shape {
            unite: if removes {
                Unite::Disjoint
            } else {
                Unite::Same
            },
            projection: select.hints.projection.clone(),
            limit: select.hints.limit,
            series: if instant { 2048 } else { 256 },
            bytes: 1 << 20,
        };
        let mut asked = select;
        if asked.order == Order::Any {
            asked.order = Order::ByLabels {
                without: Vec::new(),
            };
        }
        // What two children call the same series is only known with all of its labels.
        asked.hints.projection = Projection::All;
        let rows: Vec<(Str, Rows)> = children
            .iter()
            .map(|child| (Arc::clone(&child.name), child.view.select(asked.clone())))
            .collect();
        let (scope, warnings) = (Arc::clone(&self.scope), self.warnings.clone());
        if rows
            .iter()
            .all(|(_, rows)| matches!(rows, Rows::Cursors(_)))
        {
            let inputs = rows.into_iter().filter_map(|(name, rows)| match rows {
                Rows::Cursors(cursors) => Some(CursorsInput::new(name, cursors)),
                Rows::Stream(_) => None,
            });
            let merge = Merge::new(inputs.collect(), scope, shape, warnings);
            return Rows::Cursors(vec![Box::new(MergedCursor(merge))]);
        }
        let inputs = rows
            .into_iter()
            .map(|(name, rows)| RowsInput::new(name, rows, self.runtime.clone()));
        let merge = Merge::new(inputs.collect(), scope, shape, warnings);
        self.stream(merge)
    }

    fn label_names(
        &self,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        self.labels(select, |view, select| view.label_names(select))
    }

    fn label_values(
        &self,
        name: Str,
        select: LabelSelect,
    ) -> BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>> {
        self.labels(select, move |view, select| {
            view.label_values(Arc::clone(&name), select)
        })
    }
}

impl ProxyView {
    fn stream(&self, mut merge: Merge<RowsInput>) -> Rows {
        crate::stream_of(&self.runtime, move |send| async move {
            let ended = loop {
                match merge.next().await {
                    Ok(Some(batch)) => {
                        if send.send(Ok(batch)).await.is_err() {
                            break Ok(());
                        }
                    }
                    Ok(None) => break Ok(()),
                    Err(e) => break Err(e),
                }
            };
            merge.close().await;
            ended
        })
    }
}

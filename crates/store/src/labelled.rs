//! External labels on top of a source that does not know them.

use std::sync::Arc;

use model::{
    Answer, BoxFuture, Capabilities, Extent, Kind, LabelSelect, Labels, Matcher, Rows, Scope,
    Select, Source, SourceError, Str, View,
};
use tokio::runtime::Handle;

use crate::arrange::{Change, arrange};

/// A source with external labels: they are laid on top of each series (and win over its own), and
/// matchers on them are answered by them.
pub struct Labelled {
    inner: Arc<dyn Source>,
    labels: Arc<dyn Fn() -> Labels + Send + Sync>,
    runtime: Handle,
}

impl Labelled {
    /// `inner` with `labels`, which are asked for at each `open`.
    pub fn new(
        inner: Arc<dyn Source>,
        labels: Arc<dyn Fn() -> Labels + Send + Sync>,
        runtime: Handle,
    ) -> Self {
        Self {
            inner,
            labels,
            runtime,
        }
    }
}

impl Source for Labelled {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        Ok(Box::new(LabelledView {
            inner: self.inner.open(Arc::clone(&scope))?,
            labels: (self.labels)(),
            scope,
            runtime: self.runtime.clone(),
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        let labels = (self.labels)();
        let inner = self.inner.extent();
        let parts = match inner.parts.as_slice() {
            [] => vec![(labels, model::TimeRange::ALL)],
            parts => parts
                .iter()
                .map(|(l, r)| (l.overlay(&labels), *r))
                .collect(),
        };
        Arc::new(Extent {
            parts,
            capabilities: Capabilities {
                sharding: true,
                without_labels: true,
                projection: true,
            },
        })
    }
}

struct LabelledView {
    inner: Box<dyn View>,
    labels: Labels,
    scope: Arc<Scope>,
    runtime: Handle,
}

impl LabelledView {
    /// The matchers that are left for the series' own labels; none if ours rule everything out.
    fn rest(&self, matchers: &[Matcher]) -> Option<Vec<Matcher>> {
        let mut rest = Vec::with_capacity(matchers.len());
        for matcher in matchers {
            match self.labels.get(&matcher.name) {
                Some(value) if matcher.matches(value) => {}
                Some(_) => return None,
                None => rest.push(matcher.clone()),
            }
        }
        Some(rest)
    }
}

type Names = BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>>;

fn ready(names: Vec<Str>) -> Names {
    Box::pin(std::future::ready(Ok(names.into())))
}

impl View for LabelledView {
    fn select(&self, mut select: Select) -> Rows {
        let Some(rest) = self.rest(&select.matchers) else {
            return Rows::empty();
        };
        if rest.is_empty() && !select.matchers.is_empty() {
            let message = "no matchers specified (excluding external labels)";
            let e = SourceError::new(Kind::Invalid, message);
            return Rows::Stream(Box::pin(futures_util::stream::iter([Err(e)])));
        }
        select.matchers = rest;
        if self.labels.is_empty() {
            return self.inner.select(select);
        }
        let (asked, change) = Change::split(select, self.labels.clone());
        arrange(self.inner.select(asked), change, &self.scope, &self.runtime)
    }

    fn label_names(&self, mut select: LabelSelect) -> Names {
        let Some(rest) = self.rest(&select.matchers) else {
            return ready(Vec::new());
        };
        select.matchers = rest;
        let limit = std::mem::take(&mut select.limit);
        let (found, labels) = (self.inner.label_names(select), self.labels.clone());
        Box::pin(async move {
            let mut answer = found.await?;
            if !answer.value.is_empty() {
                answer
                    .value
                    .extend(labels.iter().map(|(n, _)| Str::from(n)));
                answer.value.sort_unstable();
                answer.value.dedup();
            }
            if limit > 0 {
                answer.value.truncate(limit);
            }
            Ok(answer)
        })
    }

    fn label_values(&self, name: Str, mut select: LabelSelect) -> Names {
        let Some(rest) = self.rest(&select.matchers) else {
            return ready(Vec::new());
        };
        let Some(ours) = self.labels.get(&name).map(Str::from) else {
            select.matchers = rest;
            return self.inner.label_values(name, select);
        };
        if rest.is_empty() {
            return ready(vec![ours]);
        }
        // Ours only if there is anything at all.
        let found = self.inner.label_names(LabelSelect {
            matchers: rest,
            limit: 1,
            ..select
        });
        Box::pin(async move {
            let mut answer = found.await?;
            if !answer.value.is_empty() {
                answer.value = vec![ours];
            }
            Ok(answer)
        })
    }
}

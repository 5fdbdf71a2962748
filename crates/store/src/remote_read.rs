//! `remote_read`: any server that answers remote read, as a source.
//!
//! As Prometheus has it (`storage/remote/read.go`): it is asked only about selectors that hold the
//! required matchers, and, unless it shall be asked about everything, only about what is older than
//! the local database. That it does not answer is a warning and no error. External labels go into
//! the question and come out of the answer. It knows no label names or values.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::Gauge;
use model::{
    Answer, BoxFuture, Extent, LabelSelect, Labels, MatchOp, Matcher, Millis, Rows, Scope, Select,
    SeriesBatch, Source, SourceError, Str, TimeRange, View,
};
use tokio::runtime::Handle;
use wire::client::HttpClient;

use crate::prometheus::Endpoint;
use crate::stream_of;

/// A `remote_read` section, judged.
#[derive(Clone)]
pub struct RemoteReadOptions {
    /// How it is talked to; the longest time of a request is its.
    pub client: HttpClient,
    /// Where it is.
    pub url: String,
    /// How long reading may take.
    pub timeout: Duration,
    /// Headers to add.
    pub headers: Vec<(String, String)>,
    /// Ask only for selectors that hold these.
    pub required: Labels,
    /// Labels that go into every question and come out of every answer.
    pub external_labels: Labels,
    /// From when on the local database has everything, ms: asked only about what is older. None:
    /// asked about everything.
    pub local_from: Option<Arc<dyn Fn() -> Option<Millis> + Send + Sync>>,
    /// How many questions it is answering now.
    pub asked: Gauge,
}

/// A server that answers remote read.
pub struct RemoteRead(Arc<Inner>);

struct Inner {
    options: RemoteReadOptions,
    runtime: Handle,
}

impl RemoteRead {
    /// The server of `options`.
    pub fn new(options: RemoteReadOptions, runtime: Handle) -> Self {
        Self(Arc::new(Inner { options, runtime }))
    }
}

impl Inner {
    /// What is to be asked of it; none: nothing.
    fn range(&self, wanted: TimeRange) -> Option<TimeRange> {
        let Some(local) = &self.options.local_from else {
            return Some(wanted);
        };
        match local() {
            Some(from) if wanted.min > from => None,
            Some(from) => Some(TimeRange::new(wanted.min, wanted.max.min(from))),
            None => Some(wanted),
        }
    }

    fn holds_required(&self, matchers: &[Matcher]) -> bool {
        self.options.required.iter().all(|(name, value)| {
            let same =
                |m: &Matcher| m.op == MatchOp::Equal && *m.name == *name && *m.value == *value;
            matchers.iter().any(same)
        })
    }
}

impl Source for RemoteRead {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        scope.check()?;
        Ok(Box::new(RemoteView {
            inner: Arc::clone(&self.0),
            scope,
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        Arc::default()
    }
}

struct RemoteView {
    inner: Arc<Inner>,
    scope: Arc<Scope>,
}

type Names = BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>>;

impl View for RemoteView {
    fn select(&self, select: Select) -> Rows {
        let options = &self.inner.options;
        let Some(range) = self.inner.range(select.range) else {
            return Rows::empty();
        };
        if !self.inner.holds_required(&select.matchers) {
            return Rows::empty();
        }
        let mut select = select;
        if select.skip_chunks {
            // By this name a Prometheus knows that no sample is wanted.
            select.hints.func = Some("series".into());
        }
        let mut without = Vec::new();
        for (name, value) in &options.external_labels {
            if select.matchers.iter().any(|m| *m.name == *name) {
                continue;
            }
            if let Ok(matcher) = Matcher::new(MatchOp::Equal, name, value) {
                select.matchers.push(matcher);
                without.push(Str::from(name));
            }
        }
        let (inner, scope) = (Arc::clone(&self.inner), Arc::clone(&self.scope));
        stream_of(&self.inner.runtime, move |send| async move {
            let endpoint = Endpoint {
                client: &inner.options.client,
                url: inner.options.url.clone(),
                headers: &inner.options.headers,
                without: &without,
            };
            let _asked = inner.options.asked.in_flight();
            let read = endpoint.read(&select, range, &scope, &send);
            let error = match tokio::time::timeout(inner.options.timeout, read).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => SourceError::new(
                    model::Kind::Timeout,
                    format!("remote read of {} took too long", inner.options.url),
                ),
            };
            // What is here is answered whatever becomes of a remote, to rules, too; but the query's
            // own limits are no matter of the remote.
            scope.check()?;
            if error.kind == model::Kind::Limit {
                return Err(error);
            }
            let warned = SeriesBatch {
                warnings: vec![error.to_string().into()],
                ..SeriesBatch::default()
            };
            let _ = send.send(Ok(warned)).await;
            Ok(())
        })
    }

    fn label_names(&self, _: LabelSelect) -> Names {
        Box::pin(async { Ok(Answer::default()) })
    }

    fn label_values(&self, _: Str, _: LabelSelect) -> Names {
        Box::pin(async { Ok(Answer::default()) })
    }
}

/// A source that another one can take the place of, between two queries.
pub struct Switch(ArcSwap<Arc<dyn Source>>);

impl Switch {
    /// Asks `source`.
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self(ArcSwap::from_pointee(source))
    }

    /// Asks `source` from now on.
    pub fn set(&self, source: Arc<dyn Source>) {
        self.0.store(Arc::new(source));
    }
}

impl Source for Switch {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        self.0.load().open(scope)
    }

    fn extent(&self) -> Arc<Extent> {
        self.0.load().extent()
    }
}

//! OTLP metrics over HTTP: `ExportMetricsServiceRequest` in protobuf or JSON, as Prometheus translates it
//! (`storage/remote/otlptranslator/prometheusremotewrite`).
//!
//! A request is taken as a whole or not at all. The label set of each data point is made of its
//! attributes, of what is promoted of its resource and scope, and of `job` and `instance`, which
//! come of `service.namespace`, `service.name` and `service.instance.id`; what else a resource says
//! goes to `target_info`.

mod json;
mod names;
mod points;
mod values;

use std::io::Read as _;

use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use model::histogram::Histogram;
use model::report::{Metadata, MetricType};
use model::{Labels, LabelsBuilder, METRIC_NAME, Millis};
use wire::fields::{BadMessage, Fields};

pub use names::Strategy;

use super::write::{Request, Taken, shared, text};
use super::{Inner, Receiver, Refused};
use names::{LabelNames, Suffix};
use points::{Kind, Point};
use values::{Attribute, attribute};

const NAMESPACE: &str = "service.namespace";
const NAME: &str = "service.name";
const INSTANCE: &str = "service.instance.id";
const IDENTIFYING: [&str; 3] = [NAMESPACE, NAME, INSTANCE];
/// Two samples of `target_info` are at most so far apart: half of what a query looks back.
const INFO_EVERY: Millis = 150_000;

/// The `otlp` section.
#[derive(Clone, Debug, Default)]
pub struct OtlpSettings {
    /// Make labels of all resource attributes but these; none: only of those below.
    pub promote_all_but: Option<Vec<String>>,
    /// Make labels of these resource attributes.
    pub promote: Vec<String>,
    /// How names are translated.
    pub strategy: Strategy,
    /// Keep `service.*` on `target_info`.
    pub keep_identifying: bool,
    /// Make native histograms with custom buckets of classic ones.
    pub convert_histograms: bool,
    /// Make labels of the scope's name, version, schema and attributes.
    pub promote_scope: bool,
    /// Put `key` before labels that begin with one underscore.
    pub sanitize_underscore: bool,
    /// Keep several underscores in a row.
    pub preserve_underscores: bool,
    /// Take samples of delta temporality as they are (`otlp-native-delta-ingestion`).
    pub native_delta: bool,
}

/// Answers a request.
pub(super) async fn request(State(receiver): State<Receiver>, request: HttpRequest) -> Response {
    match receiver.otlp_request(request).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refused) => refused.into_response(),
    }
}

impl Receiver {
    async fn otlp_request(&self, request: HttpRequest) -> Result<(), Refused> {
        let (parts, body) = request.into_parts();
        let get = |name| {
            let value = parts.headers.get(name).and_then(|v| v.to_str().ok());
            value.unwrap_or("").to_owned()
        };
        let kind = get(header::CONTENT_TYPE);
        let essence = kind.split(';').next().unwrap_or_default().trim();
        let in_json = match essence {
            "application/x-protobuf" => false,
            "application/json" => true,
            _ => {
                return Err(Refused::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    format!(
                        "unsupported content type: {kind}, supported: [application/json, application/x-protobuf]"
                    ),
                ));
            }
        };
        let encoding = get(header::CONTENT_ENCODING);
        let gzip = match encoding.as_str() {
            "" | "identity" => false,
            "gzip" => true,
            other => {
                return Err(Refused::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    format!("unsupported compression: {other}, supported: gzip"),
                ));
            }
        };
        let body = self.body(body).await?;
        let settings = self.0.otlp.load_full();
        let (_, refused) = self
            .on_thread(move |inner| {
                let plain = match gzip {
                    false => body.to_vec(),
                    true => match inner.gunzip(&body) {
                        Ok(plain) => plain,
                        Err(refused) => return (Taken::default(), Some(refused)),
                    },
                };
                let plain = match in_json {
                    false => plain,
                    true => match json::to_protobuf(&plain) {
                        Ok(plain) => plain,
                        Err(e) => {
                            let refused = Refused::bad(format!("decoding the request: {e}"));
                            return (Taken::default(), Some(refused));
                        }
                    },
                };
                inner.write_otlp(&plain, &settings)
            })
            .await?;
        refused.map_or(Ok(()), Err)
    }
}

impl Inner {
    fn gunzip(&self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let limit = self.options.max_bytes as u64;
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(body)
            .take(limit + 1)
            .read_to_end(&mut plain)
            .map_err(|e| Refused::bad(format!("gzip: {e}")))?;
        if plain.len() as u64 > limit {
            return Err(Refused::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request has more than {limit} bytes"),
            ));
        }
        Ok(plain)
    }

    fn write_otlp(&self, body: &[u8], settings: &OtlpSettings) -> (Taken, Option<Refused>) {
        let mut translator = Translator {
            inner: self,
            settings,
            names: LabelNames {
                utf8: settings.strategy.utf8(),
                sanitize_underscore: settings.sanitize_underscore,
                preserve_underscores: settings.preserve_underscores,
            },
            request: self.request(),
            series: Vec::new(),
        };
        let read = translator.resources(body);
        let Translator {
            request, series, ..
        } = translator;
        if let Err(refused) = read {
            return (Taken::default(), Some(refused));
        }
        if !request.errors.is_empty() {
            // Nothing is taken of what holds something that nobody can mean.
            let all = request.errors.join("\n");
            let refused = Refused::new(StatusCode::INTERNAL_SERVER_ERROR, all);
            return (Taken::default(), Some(refused));
        }
        let (taken, refused) = self.finish(request, true, |at| series.get(at).cloned());
        self.counters
            .otlp_exemplars_refused
            .add(taken.exemplars_refused as u64);
        (taken, refused)
    }
}

/// What the points of a resource, then of a scope, have in common.
#[derive(Clone, Default)]
struct Context {
    promoted: Vec<(String, String)>,
    job: String,
    instance: String,
    scope: Vec<(String, String)>,
    /// From the first to the last point.
    times: Option<(Millis, Millis)>,
}

/// A metric, without its points.
struct Metric {
    name: String,
    kind: Kind,
    metadata: Option<Metadata>,
    delta: bool,
}

struct Translator<'i> {
    inner: &'i Inner,
    settings: &'i OtlpSettings,
    names: LabelNames,
    request: Request<'i>,
    /// The labels of each series, for when they have to be resolved again.
    series: Vec<Labels>,
}

fn bad(error: BadMessage) -> Refused {
    Refused::bad(format!("decoding the request: {error}"))
}

impl Translator<'_> {
    fn resources(&mut self, body: &[u8]) -> Result<(), Refused> {
        let mut fields = Fields::new(body);
        while let Some((number, value)) = fields.next_field().map_err(bad)? {
            if number == 1 {
                self.resource(value.bytes())?;
            }
        }
        Ok(())
    }

    fn resource(&mut self, message: &[u8]) -> Result<(), Refused> {
        let mut attributes = Vec::new();
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next_field().map_err(bad)? {
            if number == 1 {
                let mut fields = value.fields();
                while let Some((number, value)) = fields.next_field().map_err(bad)? {
                    if number == 1 {
                        attributes.push(attribute(value.bytes()).map_err(bad)?);
                    }
                }
            }
        }
        let mut context = self.context(&attributes);
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next_field().map_err(bad)? {
            if number == 2 {
                self.scope(value.bytes(), &mut context)?;
            }
        }
        self.target_info(&attributes, &context)
    }

    fn context(&self, attributes: &[Attribute<'_>]) -> Context {
        let get = |name: &str| {
            let found = attributes.iter().find(|(n, _)| *n == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let job = match (get(NAMESPACE), get(NAME)) {
            (_, "") => String::new(),
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        };
        let listed = |list: &[String], name: &str| list.iter().any(|l| l == name);
        let promoted = attributes
            .iter()
            .filter(|(name, _)| match &self.settings.promote_all_but {
                Some(ignored) => !listed(ignored, name),
                None => listed(&self.settings.promote, name),
            });
        Context {
            promoted: self.joined(promoted),
            job,
            instance: get(INSTANCE).to_owned(),
            ..Context::default()
        }
    }

    /// Attributes under their labels' names; values of those that fall together are joined.
    fn joined<'a>(
        &self,
        attributes: impl Iterator<Item = &'a Attribute<'a>>,
    ) -> Vec<(String, String)> {
        let mut sorted: Vec<&Attribute<'_>> = attributes.collect();
        sorted.sort();
        let mut out: Vec<(String, String)> = Vec::with_capacity(sorted.len());
        for (name, value) in sorted {
            let name = self.names.label(name);
            match out.iter_mut().find(|(n, v)| *n == name && !v.is_empty()) {
                Some((_, before)) => {
                    before.push(';');
                    before.push_str(value);
                }
                None => out.push((name, value.clone())),
            }
        }
        out
    }

    fn scope(&mut self, message: &[u8], context: &mut Context) -> Result<(), Refused> {
        context.scope.clear();
        if self.settings.promote_scope {
            context.scope = self.scope_labels(message).map_err(bad)?;
        }
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next_field().map_err(bad)? {
            if number == 2 {
                self.metric(value.bytes(), context)?;
            }
        }
        Ok(())
    }

    fn scope_labels(&self, message: &[u8]) -> Result<Vec<(String, String)>, BadMessage> {
        let (mut name, mut version, mut schema) = ("", "", "");
        let mut labels = Vec::new();
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => {
                    let mut scope = value.fields();
                    while let Some((number, value)) = scope.next_field()? {
                        match number {
                            1 => name = value.text()?,
                            2 => version = value.text()?,
                            3 => {
                                let (name, value) = attribute(value.bytes())?;
                                let name = format!("otel_scope_{name}");
                                labels.push((self.names.label(&name), value));
                            }
                            _ => {}
                        }
                    }
                }
                3 => schema = value.text()?,
                _ => {}
            }
        }
        for (label, value) in [
            ("otel_scope_name", name),
            ("otel_scope_version", version),
            ("otel_scope_schema_url", schema),
        ] {
            labels.push((label.to_owned(), value.to_owned()));
        }
        Ok(labels)
    }

    fn metric(&mut self, message: &[u8], context: &mut Context) -> Result<(), Refused> {
        let (mut name, mut help, mut unit, mut data) = ("", "", "", None);
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next_field().map_err(bad)? {
            match number {
                1 => name = value.text().map_err(bad)?,
                2 => help = value.text().map_err(bad)?,
                3 => unit = value.text().map_err(bad)?,
                other => data = Kind::of(other).map(|k| (k, value.bytes())).or(data),
            }
        }
        let Some((kind, data)) = data else {
            self.request.error(format!(
                "could not get aggregation temporality for {name} as it has unsupported metric type"
            ));
            return Ok(());
        };
        let (mut temporality, mut monotonic) = (0, false);
        let mut fields = Fields::new(data);
        while let Some((number, value)) = fields.next_field().map_err(bad)? {
            match number {
                2 => temporality = value.number(),
                3 => monotonic = value.number() != 0,
                _ => {}
            }
        }
        let delta = temporality == 1;
        let timeless = matches!(kind, Kind::Gauge | Kind::Summary);
        if !timeless && temporality != 2 && !(delta && self.settings.native_delta) {
            self.request.error(format!(
                "invalid temporality and type combination for metric {name:?}"
            ));
            return Ok(());
        }
        let suffix = match kind {
            Kind::Gauge => Suffix::Gauge,
            Kind::Sum if monotonic => Suffix::Counter,
            _ => Suffix::None,
        };
        let metadata = self.inner.options.metadata.then(|| Metadata {
            kind: match kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Sum if delta => MetricType::Unknown,
                Kind::Sum if monotonic => MetricType::Counter,
                Kind::Sum => MetricType::Gauge,
                Kind::Histogram | Kind::Exponential if delta => MetricType::Unknown,
                Kind::Histogram | Kind::Exponential => MetricType::Histogram,
                Kind::Summary => MetricType::Summary,
            },
            help: shared(help),
            unit: shared(&names::unit(unit)),
        });
        let metric = Metric {
            name: names::metric(self.settings.strategy, name, unit, suffix),
            kind,
            metadata,
            delta,
        };
        let mut fields = Fields::new(data);
        while let Some((number, value)) = fields.next_field().map_err(bad)? {
            if number == 1 {
                let point = Point::read(kind, value.bytes()).map_err(bad)?;
                context.times = Some(match context.times {
                    None => (point.ts, point.ts),
                    Some((first, last)) => (first.min(point.ts), last.max(point.ts)),
                });
                self.point(&metric, &point, context)?;
            }
        }
        Ok(())
    }

    fn point(
        &mut self,
        metric: &Metric,
        point: &Point<'_>,
        context: &Context,
    ) -> Result<(), Refused> {
        let base = self.labels(&point.attributes, &[METRIC_NAME], context, true);
        let name = &metric.name;
        let of = |suffix: &str, more: Option<(&str, String)>| {
            let mut labels = base.clone();
            labels.set(METRIC_NAME, format!("{name}{suffix}"));
            if let Some((name, value)) = more {
                labels.set(name, value);
            }
            labels.build()
        };
        let exemplars = &point.exemplars;
        match metric.kind {
            Kind::Gauge => self.float(metric, of("", None), point, point.value(), &[]),
            Kind::Sum => self.float(metric, of("", None), point, point.value(), exemplars),
            Kind::Exponential => {
                let value = match point.exponential(metric.delta) {
                    Ok(value) => value,
                    Err(error) => {
                        self.request.error(error);
                        return Ok(());
                    }
                };
                self.histogram(metric, of("", None), point, value)
            }
            Kind::Histogram if self.settings.convert_histograms => {
                self.histogram(metric, of("", None), point, point.custom(metric.delta))
            }
            Kind::Histogram => {
                if let Some(sum) = point.sum() {
                    self.float(metric, of("_sum", None), point, sum, &[])?;
                }
                let count = point.shown(point.count as f64);
                self.float(metric, of("_count", None), point, count, &[])?;
                let mut below = f64::NEG_INFINITY;
                let all = point.cumulative().chain([(f64::INFINITY, count)]);
                for (bound, count) in all {
                    let le = match bound {
                        f64::INFINITY => "+Inf".to_owned(),
                        bound => bound.to_string(),
                    };
                    let mut within = Vec::new();
                    for message in exemplars {
                        let value = values::exemplar(message).map_err(bad)?.1;
                        if value > below && value <= bound {
                            within.push(*message);
                        }
                    }
                    below = bound;
                    let labels = of("_bucket", Some(("le", le)));
                    self.float(metric, labels, point, count, &within)?;
                }
                Ok(())
            }
            Kind::Summary => {
                let sum = point.sum().unwrap_or_else(|| point.shown(0.0));
                self.float(metric, of("_sum", None), point, sum, &[])?;
                let count = point.shown(point.count as f64);
                self.float(metric, of("_count", None), point, count, &[])?;
                for (quantile, value) in &point.quantiles {
                    let labels = of("", Some(("quantile", quantile.to_string())));
                    self.float(metric, labels, point, point.shown(*value), &[])?;
                }
                Ok(())
            }
        }
    }

    /// The labels of a point, but for its name.
    fn labels(
        &self,
        attributes: &[Attribute<'_>],
        ignored: &[&str],
        context: &Context,
        promote: bool,
    ) -> LabelsBuilder {
        let mut labels = LabelsBuilder::default();
        let kept = attributes
            .iter()
            .filter(|(name, _)| !ignored.contains(name));
        for (name, value) in self.joined(kept) {
            labels.set(name, value);
        }
        if promote {
            for (name, value) in &context.promoted {
                if labels.get(name).is_empty() {
                    labels.set(name.as_str(), value.as_str());
                }
            }
        }
        for (name, value) in [("job", &context.job), ("instance", &context.instance)] {
            if !value.is_empty() {
                labels.set(name, value.as_str());
            }
        }
        if promote {
            for (name, value) in &context.scope {
                labels.set(name.as_str(), value.as_str());
            }
        }
        labels
    }

    fn series(&mut self, labels: Labels) -> model::SeriesRef {
        let key = self.inner.keys.key(labels.as_bytes());
        let at = self.series.len();
        self.series.push(labels.clone());
        match self
            .request
            .series(key, at, || Ok::<_, std::convert::Infallible>(labels))
        {
            Ok(series) => series,
            Err(never) => match never {},
        }
    }

    fn float(
        &mut self,
        metric: &Metric,
        labels: Labels,
        point: &Point<'_>,
        value: f64,
        exemplars: &[&[u8]],
    ) -> Result<(), Refused> {
        let series = self.series(labels);
        let start = match metric.kind {
            Kind::Gauge => 0,
            _ => point.start,
        };
        self.request
            .sample(series, point.ts, start, value)
            .map_err(|reason| Refused::bad(text(reason)))?;
        self.rest(metric, series, exemplars)
    }

    fn histogram(
        &mut self,
        metric: &Metric,
        labels: Labels,
        point: &Point<'_>,
        value: Histogram,
    ) -> Result<(), Refused> {
        let series = self.series(labels);
        self.request
            .histogram(series, point.ts, point.start, value)
            .map_err(|reason| Refused::bad(text(reason)))?;
        self.rest(metric, series, &point.exemplars)
    }

    fn rest(
        &mut self,
        metric: &Metric,
        series: model::SeriesRef,
        exemplars: &[&[u8]],
    ) -> Result<(), Refused> {
        for message in exemplars {
            let (labels, value, ts) = values::exemplar(message).map_err(bad)?;
            let _ = self.request.exemplar(series, labels, value, ts);
        }
        if let Some(metadata) = &metric.metadata {
            self.request.metadata(series, metadata.clone());
        }
        Ok(())
    }

    fn target_info(
        &mut self,
        attributes: &[Attribute<'_>],
        context: &Context,
    ) -> Result<(), Refused> {
        let Some((first, last)) = context.times else {
            return Ok(());
        };
        if attributes
            .iter()
            .all(|(name, _)| IDENTIFYING.contains(name))
        {
            return Ok(());
        }
        if context.job.is_empty() && context.instance.is_empty() {
            return Ok(());
        }
        let ignored: &[&str] = if self.settings.keep_identifying {
            &[METRIC_NAME]
        } else {
            &[NAMESPACE, NAME, INSTANCE, METRIC_NAME]
        };
        let mut labels = self.labels(attributes, ignored, context, false);
        let labels = labels.set(METRIC_NAME, "target_info").build();
        let series = self.series(labels);
        // However far apart a request's points are, there is an end.
        const MOST: usize = 10_000;
        let step = INFO_EVERY as usize;
        let between = (first..last).step_by(step).take(MOST);
        for ts in between.chain([last]) {
            self.request
                .sample(series, ts, 0, 1.0)
                .map_err(|reason| Refused::bad(text(reason)))?;
        }
        Ok(())
    }
}

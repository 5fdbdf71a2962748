//! A proxy in front of a querier, as Thanos' query frontend is one.
//!
//! Everything that is asked goes to the querier, and answers are passed on as they come. What the
//! frontend knows (`query`, `query_range`, `labels`, `label/.../values`, `series`) it counts,
//! limits, completes with defaults, asks again when it failed, and logs when it was slow.

mod rewrite;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use metrics::{Counter, Family, Histogram, Registry};
use model::Millis;
use wire::client::HttpClient;

use crate::error::{ApiError, ErrorType};
use rewrite::Question;
pub use rewrite::Rewriting;

/// A request's body may have this many bytes, as in Thanos.
const MOST_BYTES: usize = 10 << 20;
/// The header that carries the tenant between Thanos' components.
const TENANT: &str = "thanos-tenant";
/// Headers that belong to one connection, not to the request.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Which queries are logged as slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slow {
    /// None.
    #[default]
    Never,
    /// All.
    Always,
    /// Those that take longer.
    Beyond(Duration),
}

/// How a frontend behaves.
#[derive(Clone, Debug)]
pub struct FrontendOptions {
    /// The querier's URL, without a slash at the end.
    pub downstream: String,
    /// How questions are changed on their way.
    pub rewriting: Rewriting,
    /// How often a range query is tried.
    pub range_tries: u32,
    /// How often an instant query is tried.
    pub instant_tries: u32,
    /// How often a question for labels or series is tried.
    pub labels_tries: u32,
    /// The header that names the tenant, in small letters.
    pub tenant_header: String,
    /// Which queries are logged.
    pub slow: Slow,
    /// The header that names the user in the log; empty: the user of basic authentication.
    pub user_header: String,
    /// Headers that name the organisation in the log, the first that is there.
    pub org_headers: Vec<String>,
    /// Ask for statistics with every query, and log them.
    pub statistics: bool,
    /// Whether pages of others may read the answers; if not, headers of CORS are taken away.
    pub cors: bool,
    /// How long the head of an answer may take.
    pub head_timeout: Option<Duration>,
}

/// The frontend.
pub struct Frontend {
    client: HttpClient,
    options: FrontendOptions,
    queries: Family<Counter, 1>,
    tries: Family<Histogram, 1>,
}

/// What of the API is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Instant,
    Range,
    LabelNames,
    LabelValues,
    Series,
}

impl Operation {
    const ALL: [Self; 5] = [
        Self::Instant,
        Self::Range,
        Self::LabelNames,
        Self::LabelValues,
        Self::Series,
    ];

    fn of(method: &Method, path: &str) -> Option<Self> {
        if !matches!(*method, Method::GET | Method::POST) {
            return None;
        }
        let (_, rest) = path.rsplit_once("/api/v1/")?;
        match rest {
            "query" => Some(Self::Instant),
            "query_range" => Some(Self::Range),
            "labels" => Some(Self::LabelNames),
            "series" => Some(Self::Series),
            _ => {
                let name = rest.strip_prefix("label/")?.strip_suffix("/values")?;
                (!name.is_empty()).then_some(Self::LabelValues)
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Instant => "query",
            Self::Range => "query_range",
            Self::LabelNames => "label_names",
            Self::LabelValues => "label_values",
            Self::Series => "series",
        }
    }

    /// Thanos' name for the chain that answers it.
    fn chain(self) -> &'static str {
        match self {
            Self::Instant => "query_instant",
            Self::Range => "query_range",
            Self::LabelNames | Self::LabelValues | Self::Series => "labels",
        }
    }
}

/// A request on its way.
struct Passed {
    method: Method,
    /// Path and query.
    target: String,
    headers: HeaderMap,
    body: bytes::Bytes,
}

impl Frontend {
    /// A frontend that asks through `client`.
    pub fn new(
        client: HttpClient,
        options: FrontendOptions,
        registry: &Registry,
    ) -> Result<Self, metrics::Error> {
        let queries = registry.counters(
            "thanos_query_frontend_queries_total",
            "Total queries passing through query frontend",
            ["op"],
        )?;
        for operation in Operation::ALL {
            queries.with(&[operation.name()]);
        }
        Ok(Self {
            tries: registry.histograms(
                "cortex_query_frontend_retries",
                "Number of times a request is retried.",
                ["tripperware"],
                &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
            )?,
            queries,
            client,
            options,
        })
    }

    /// Whether the querier says that it is ready, as it does to a probe.
    pub async fn downstream_is_ready(&self) -> Result<(), String> {
        let url = format!("{}/-/ready", self.options.downstream);
        let request = self.client.get(&url).map_err(|e| e.to_string())?;
        let url = wire::client::redacted(request.url());
        let asked = tokio::time::timeout(Duration::from_secs(10), self.client.send(request)).await;
        let answer = asked
            .map_err(|_| format!("{url} did not answer within 10 s"))?
            .map_err(|e| e.to_string())?;
        let status = answer.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(format!("downstream URL {url} returned an error: {status}"));
        }
        Ok(())
    }

    /// The routes: all of them.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().fallback(pass).with_state(self)
    }

    /// How often an operation is tried: at least once.
    fn tries(&self, operation: Operation) -> u32 {
        let tries = match operation {
            Operation::Instant => self.options.instant_tries,
            Operation::Range => self.options.range_tries,
            _ => self.options.labels_tries,
        };
        tries.max(1)
    }

    /// Asks the querier once.
    async fn ask(&self, passed: &Passed) -> Result<Response, String> {
        let url = format!("{}{}", self.options.downstream, passed.target);
        let mut request = self
            .client
            .request(passed.method.clone(), &url)
            .map_err(|e| e.to_string())?;
        *request.headers_mut() = passed.headers.clone();
        if !passed.body.is_empty() {
            *request.body_mut() = Some(passed.body.clone().into());
        }
        let sent = self.client.send(request);
        let answer = match self.options.head_timeout {
            None => sent.await,
            Some(limit) => tokio::time::timeout(limit, sent)
                .await
                .map_err(|_| format!("no answer within {limit:?}"))?,
        };
        let answer = answer.map_err(|e| e.to_string())?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        let headers = response.headers_mut();
        *headers = answer.headers().clone();
        own_hops(headers);
        if !self.options.cors {
            let cors: Vec<HeaderName> = headers
                .keys()
                .filter(|name| name.as_str().starts_with("access-control-"))
                .cloned()
                .collect();
            cors.iter().for_each(|name| drop(headers.remove(name)));
        }
        *response.body_mut() = Body::from_stream(answer.bytes_stream());
        Ok(response)
    }

    /// Asks until there is an answer, or it has been tried often enough.
    async fn ask_again(&self, operation: Operation, passed: &Passed) -> Result<Response, String> {
        let most = self.tries(operation);
        let mut tried = 0;
        let answer = loop {
            let answer = self.ask(passed).await;
            let failed = match &answer {
                Ok(response) => response
                    .status()
                    .is_server_error()
                    .then(|| response.status().to_string()),
                Err(error) => Some(error.clone()),
            };
            let Some(error) = failed else {
                break answer;
            };
            tried += 1;
            if tried >= most {
                break answer;
            }
            tracing::warn!(
                op = operation.name(),
                r#try = tried,
                error,
                "asking the querier again"
            );
        };
        let tries = self.tries.with(&[operation.chain()]);
        tries.observe(f64::from(tried));
        answer
    }

    /// The tenant's header as the querier knows it.
    fn convert_tenant(&self, headers: &mut HeaderMap) {
        let own = self.options.tenant_header.as_str();
        if own == TENANT || own.is_empty() {
            return;
        }
        if let Some(tenant) = headers.remove(own) {
            headers.insert(TENANT, tenant);
        }
    }
}

/// Takes away what belongs to one connection.
fn own_hops(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    for name in HOP_BY_HOP.iter().copied().chain(named.iter().map(|n| &**n)) {
        headers.remove(name);
    }
}

async fn pass(State(frontend): State<Arc<Frontend>>, request: Request) -> Response {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let body = match axum::body::to_bytes(body, MOST_BYTES).await {
        Ok(body) => body,
        Err(_) => {
            let text = "http: request body too large";
            return (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
        }
    };
    let logged = Logged::of(&frontend.options, &parts, &body);
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let mut passed = Passed {
        method: parts.method.clone(),
        target: target.to_owned(),
        headers: parts.headers,
        body,
    };
    own_hops(&mut passed.headers);
    for own in [header::HOST, header::CONTENT_LENGTH, header::EXPECT] {
        passed.headers.remove(own);
    }
    frontend.convert_tenant(&mut passed.headers);
    let operation = Operation::of(&parts.method, parts.uri.path());
    let answer = match operation {
        None => frontend.ask(&passed).await,
        Some(operation) => {
            frontend.queries.with(&[operation.name()]).inc();
            let now = model::time::Clock::now(&model::time::WallClock);
            let rewriting = &frontend.options.rewriting;
            if let Some(question) = Question::read(&passed) {
                match question.rewritten(operation, rewriting, frontend.options.statistics, now) {
                    Ok(question) => question.write(&mut passed),
                    Err(refused) => return refused.into_response(),
                }
            }
            frontend.ask_again(operation, &passed).await
        }
    };
    let response = answer.unwrap_or_else(|error| {
        let text = format!("the querier does not answer: {error}");
        ApiError::new(ErrorType::Unavailable, text).into_response()
    });
    if let Some(logged) = logged {
        logged.ended(&frontend.options, began.elapsed(), &response);
    }
    response
}

/// What the log of slow queries says of a request.
struct Logged {
    method: Method,
    host: String,
    path: String,
    user: String,
    org: String,
    dashboard: String,
    panel: String,
    params: Vec<(String, String)>,
}

impl Logged {
    /// Remembers what is needed; none for what is never logged.
    fn of(options: &FrontendOptions, parts: &http::request::Parts, body: &[u8]) -> Option<Self> {
        if options.slow == Slow::Never && !options.statistics
            || !parts.uri.path().contains("/api/v1")
        {
            return None;
        }
        let text = |name: &str| {
            let value = parts.headers.get(name).and_then(|v| v.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let or_dash = |value: String| match value.is_empty() {
            true => "-".to_owned(),
            false => value,
        };
        let user = match options.user_header.as_str() {
            "" => wire::server::user_of(&parts.headers).unwrap_or_default(),
            name => text(name),
        };
        let mut orgs = options.org_headers.iter().map(|name| text(name));
        let org = orgs.find(|org| !org.is_empty());
        Some(Self {
            method: parts.method.clone(),
            host: text("host"),
            path: parts.uri.path().to_owned(),
            user,
            org: org.unwrap_or_else(|| "anonymous".to_owned()),
            dashboard: or_dash(text("x-dashboard-uid")),
            panel: or_dash(text("x-panel-id")),
            params: rewrite::pairs(parts.uri.query().unwrap_or_default(), &parts.headers, body),
        })
    }

    /// Logs it if it was slow. The time is that to the head of the answer: its body is passed on
    /// while it comes.
    fn ended(self, options: &FrontendOptions, took: Duration, response: &Response) {
        let slow = match options.slow {
            Slow::Never => false,
            Slow::Always => true,
            Slow::Beyond(limit) => took > limit,
        };
        let params: Vec<String> = self
            .params
            .iter()
            .map(|(name, value)| format!("param_{name}={value:?}"))
            .collect();
        let params = params.join(" ");
        if slow {
            tracing::info!(
                method = %self.method,
                host = self.host,
                path = self.path,
                remote_user = self.user,
                org_id = self.org,
                time_taken_ms = took.as_millis() as u64,
                status = response.status().as_u16(),
                grafana_dashboard_uid = self.dashboard,
                grafana_panel_id = self.panel,
                query_range = %self.range(),
                params,
                "slow query detected"
            );
        }
        if options.statistics {
            tracing::info!(
                component = "query-frontend",
                method = %self.method,
                path = self.path,
                remote_user = self.user,
                response_time_ms = took.as_millis() as u64,
                params,
                "query stats"
            );
        }
    }

    /// The range that was asked for, for people.
    fn range(&self) -> String {
        let of = |name: &str| -> Option<Millis> {
            let (_, value) = self.params.iter().find(|(n, _)| n == name)?;
            crate::params::parse_time(value).ok()
        };
        match (of("start"), of("end")) {
            (Some(start), Some(end)) => model::time::format_duration((end - start).max(0)),
            _ => "-".to_owned(),
        }
    }
}

/// A header's name, if it is one.
pub fn header_name(text: &str) -> Result<String, String> {
    HeaderName::try_from(text)
        .map(|name| name.as_str().to_owned())
        .map_err(|_| format!("{text:?} is no name of a header"))
}

/// The value of a header that a form has.
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

//! The HTTP client: one per scrape job, remote or discovery mechanism, after its own settings.
//!
//! [`HttpSettings`] are Prometheus' HTTP client keys (`basic_auth`, `tls_config`, `proxy_url`,
//! ...), to be inlined into the settings of whoever talks HTTP; an [`HttpClient`] obeys them. What
//! they name in files (passwords, tokens, headers, certificates) is read again on use, so that
//! rotated secrets are taken up without a reload.
//!
//! ```no_run
//! # async fn example() -> Result<(), wire::client::ClientError> {
//! use wire::client::{ClientOptions, HttpClient, HttpSettings};
//!
//! let client = HttpClient::new(&HttpSettings::default(), ClientOptions::default())?;
//! let request = client.get("http://localhost:9100/metrics")?;
//! let response = client.send(request).await?;
//! # Ok(()) }
//! ```

mod dial;
mod oauth2;
mod settings;
mod tls;
mod turns;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Request, Response};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::trace;

pub use dial::{Dialer, Io};
pub use reqwest::Method;
pub use settings::{
    Authorization, BasicAuth, Header, HttpHeaders, HttpSettings, OAuth2, SigV4, TlsSettings,
    TlsVersion, Url, is_reserved_header,
};
pub use tls::client_tls;

/// Why a request could not be made, or was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The settings ask for something that this version cannot do.
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
    /// A file that the settings name cannot be read.
    #[error("unable to read {what} {path}: {error}")]
    File {
        /// What it holds.
        what: &'static str,
        /// Where it should be.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// Certificates, keys or TLS versions that cannot be used.
    #[error("tls: {0}")]
    Tls(String),
    /// A header, URL or proxy that cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The time ran out.
    #[error("{0}: context deadline exceeded")]
    Timeout(String),
    /// No answer: the address, the connection or the protocol failed.
    #[error("{0}")]
    Failed(String),
}

/// Signs requests: the last thing that is done to them before they are sent.
pub trait Signer: std::fmt::Debug + Send + Sync {
    /// The headers of a signature under a request to `url` with these headers and this body. The error
    /// says why it cannot be signed.
    fn sign<'a>(
        &'a self,
        method: &'a Method,
        url: &'a str,
        headers: &'a HeaderMap,
        body: &'a [u8],
    ) -> Signing<'a>;
}

/// A signature that is being made.
pub type Signing<'a> =
    std::pin::Pin<Box<dyn Future<Output = Result<HeaderMap, String>> + Send + 'a>>;

/// What the owner of a client decides, not the user.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The `User-Agent`.
    pub user_agent: String,
    /// Ask for gzip and decode it on the fly. Off for those who decode bodies themselves.
    pub gzip: bool,
    /// Longest time for a whole exchange; none if each request brings its own.
    pub timeout: Option<Duration>,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Signs every request.
    pub signer: Option<Arc<dyn Signer>>,
    /// Each connection goes to another address of the host than the one before (`round_robin_dns`).
    pub round_robin: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("Epimetheus/", env!("CARGO_PKG_VERSION")).to_owned(),
            gzip: true,
            timeout: None,
            idle_timeout: Duration::from_secs(300),
            signer: None,
            round_robin: false,
        }
    }
}

/// An HTTP client that obeys one [`HttpSettings`]. Clones share connections.
#[derive(Clone)]
pub struct HttpClient(Arc<Inner>);

struct Inner {
    settings: HttpSettings,
    options: ClientOptions,
    connections: Mutex<Connections>,
    tokens: Option<oauth2::Tokens>,
}

struct Connections {
    client: reqwest::Client,
    /// What the files of the TLS settings looked like when `client` was built.
    seen: tls::Seen,
    /// When they were looked at last.
    looked: Instant,
}

impl HttpClient {
    /// A client after `settings`. Reads the files that its TLS settings name; others are read on
    /// use.
    pub fn new(settings: &HttpSettings, options: ClientOptions) -> Result<Self, ClientError> {
        if let Some(key) = settings.unsupported().first() {
            return Err(ClientError::Unsupported(key));
        }
        let seen = tls::Seen::of(&settings.tls_config);
        let client = connect(settings, &options)?;
        let tokens = settings.oauth2.as_ref();
        let tokens = tokens.map(|oauth2| oauth2::Tokens::new(oauth2, &options));
        Ok(Self(Arc::new(Inner {
            settings: settings.clone(),
            tokens: tokens.transpose()?,
            options,
            connections: Mutex::new(Connections {
                client,
                seen,
                looked: Instant::now(),
            }),
        })))
    }

    /// A request for `url`.
    pub fn request(&self, method: Method, url: &str) -> Result<Request, ClientError> {
        let url = url
            .parse()
            .map_err(|e| ClientError::Invalid(format!("parse {url:?}: {e}")))?;
        Ok(Request::new(method, url))
    }

    /// A `GET` request for `url`.
    pub fn get(&self, url: &str) -> Result<Request, ClientError> {
        self.request(Method::GET, url)
    }

    /// Sends `request` with the credentials of its URL, else of the settings, and with their headers.
    pub async fn send(&self, mut request: Request) -> Result<Response, ClientError> {
        let client = self.client()?;
        let url = redacted(request.url());
        authorize_by_url(&mut request)?;
        self.authorize(request.headers_mut()).await?;
        if let Some(headers) = &self.0.settings.http_headers {
            headers.add_to(request.headers_mut()).await?;
        }
        if let Some(signer) = &self.0.options.signer {
            let body = request.body().and_then(reqwest::Body::as_bytes);
            let (method, url) = (request.method(), request.url().as_str());
            let signed = signer.sign(method, url, request.headers(), body.unwrap_or_default());
            let signed = signed.await.map_err(ClientError::Invalid)?;
            request.headers_mut().extend(signed);
        }
        let method = request.method().clone();
        // A part of what it is done for, if that is traced.
        let span = match Span::current().is_disabled() {
            true => Span::none(),
            false => tracing::info_span!(
                "HTTP",
                otel.name = format!("HTTP {method}"),
                otel.kind = "client",
                otel.status_code = Empty,
                http.request.method = method.as_str(),
                server.address = request.url().host_str(),
                server.port = request.url().port_or_known_default(),
                url.path = request.url().path(),
                http.response.status_code = Empty,
            ),
        };
        trace::tell(&span, request.headers_mut());
        let answer = client.execute(request).instrument(span.clone()).await;
        match &answer {
            Ok(answer) => {
                span.record("http.response.status_code", answer.status().as_u16());
            }
            Err(_) => {
                span.record("otel.status_code", "ERROR");
            }
        }
        answer.map_err(|error| {
            let error = error.without_url();
            let mut text = format!("{} {url:?}: ", title_case(&method));
            if error.is_timeout() {
                text.truncate(text.len().saturating_sub(2));
                return ClientError::Timeout(text);
            }
            text.push_str(&root_cause(&error));
            ClientError::Failed(text)
        })
    }

    /// The connections, built anew if the files of the TLS settings have changed.
    fn client(&self) -> Result<reqwest::Client, ClientError> {
        let mut connections = self.0.connections.lock();
        let settings = &self.0.settings;
        if settings.tls_config.has_files() && connections.looked.elapsed().as_millis() >= 500 {
            connections.looked = Instant::now();
            let seen = tls::Seen::of(&settings.tls_config);
            if seen != connections.seen {
                connections.client = connect(settings, &self.0.options)?;
                connections.seen = seen;
            }
        }
        Ok(connections.client.clone())
    }

    async fn authorize(&self, headers: &mut HeaderMap) -> Result<(), ClientError> {
        let settings = &self.0.settings;
        let value = if let Some(basic) = &settings.basic_auth {
            let username = match basic.username_file.as_str() {
                "" => basic.username.clone(),
                file => read_trimmed("basic auth username file", file).await?,
            };
            let password = match basic.password_file.as_str() {
                "" => basic.password.expose().to_owned(),
                file => read_trimmed("basic auth password file", file).await?,
            };
            let pair =
                base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
            format!("Basic {pair}")
        } else if let Some(authorization) = &settings.authorization {
            let credentials = match authorization.credentials_file.as_str() {
                "" => authorization.credentials.expose().to_owned(),
                file => read_trimmed("authorization credentials file", file).await?,
            };
            if credentials.is_empty() {
                return Ok(());
            }
            format!("{} {credentials}", authorization.kind)
        } else if let Some(tokens) = &self.0.tokens {
            let value = tokens.header().await?;
            headers.entry(AUTHORIZATION).or_insert(value);
            return Ok(());
        } else {
            return Ok(());
        };
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| ClientError::Invalid("credentials hold a forbidden character".into()))?;
        value.set_sensitive(true);
        headers.entry(AUTHORIZATION).or_insert(value);
        Ok(())
    }
}

/// Moves user and password from the URL to where servers look for them, as Go's client does. What
/// the request says already stays.
fn authorize_by_url(request: &mut Request) -> Result<(), ClientError> {
    let url = request.url_mut();
    if url.username().is_empty() && url.password().is_none() {
        return Ok(());
    }
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let mut pair = decoded(url.username());
    pair.push(b':');
    pair.extend(decoded(url.password().unwrap_or_default()));
    // Only URLs without a host can have none, and those cannot be asked.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::try_from(format!("Basic {pair}"))
        .map_err(|_| ClientError::Invalid("credentials hold a forbidden character".into()))?;
    value.set_sensitive(true);
    let headers = request.headers_mut();
    headers.entry(AUTHORIZATION).or_insert(value);
    Ok(())
}

impl HttpHeaders {
    async fn add_to(&self, headers: &mut HeaderMap) -> Result<(), ClientError> {
        for (name, header) in &self.0 {
            let name = HeaderName::try_from(name.as_str())
                .map_err(|_| ClientError::Invalid(format!("invalid header name {name:?}")))?;
            let mut add = |text: &str| {
                let value = HeaderValue::try_from(text)
                    .map_err(|_| ClientError::Invalid(format!("invalid value of header {name}")))?;
                headers.append(name.clone(), value);
                Ok::<(), ClientError>(())
            };
            for value in &header.values {
                add(value)?;
            }
            for secret in &header.secrets {
                add(secret.expose())?;
            }
            for file in &header.files {
                add(&read_trimmed("headers file", file).await?)?;
            }
        }
        Ok(())
    }
}

/// Builds what [`HttpClient`] sends with.
fn connect(
    settings: &HttpSettings,
    options: &ClientOptions,
) -> Result<reqwest::Client, ClientError> {
    let tls = tls::client_tls(&settings.tls_config, settings.enable_http2)?;
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(&options.user_agent)
        .pool_idle_timeout(options.idle_timeout)
        .tcp_nodelay(true)
        .referer(false)
        .gzip(options.gzip)
        .redirect(match settings.follow_redirects {
            true => reqwest::redirect::Policy::limited(10),
            false => reqwest::redirect::Policy::none(),
        });
    if !settings.enable_http2 {
        builder = builder.http1_only();
    }
    if let Some(timeout) = options.timeout {
        builder = builder.timeout(timeout);
    }
    if options.round_robin {
        builder = builder.dns_resolver(Arc::new(turns::Turns::default()));
    }
    match &settings.proxy_url {
        Some(url) if !url.is_empty() => {
            let invalid = |e: &dyn std::fmt::Display| {
                ClientError::Invalid(format!("proxy_url {:?}: {e}", url.redacted()))
            };
            let mut proxy = reqwest::Proxy::all(url.as_str())
                .map_err(|e| invalid(&e.without_url()))?
                .no_proxy(reqwest::NoProxy::from_string(&settings.no_proxy));
            let mut headers = HeaderMap::new();
            for (name, values) in &settings.proxy_connect_header {
                let name = HeaderName::try_from(name.as_str()).map_err(|e| invalid(&e))?;
                for value in values {
                    let value = HeaderValue::try_from(value.expose())
                        .map_err(|_| invalid(&"invalid value in proxy_connect_header"))?;
                    headers.append(name.clone(), value);
                }
            }
            if !headers.is_empty() {
                proxy = proxy.headers(headers);
            }
            builder = builder.proxy(proxy);
        }
        _ if settings.proxy_from_environment => {}
        _ => builder = builder.no_proxy(),
    }
    builder
        .build()
        .map_err(|e| ClientError::Invalid(root_cause(&e)))
}

/// The whole body of an answer, if it has at most `limit` bytes.
pub async fn body(mut answer: Response, limit: usize) -> Result<bytes::Bytes, ClientError> {
    let failed = |e: reqwest::Error| ClientError::Failed(root_cause(&e.without_url()));
    let mut held = bytes::BytesMut::new();
    while let Some(part) = answer.chunk().await.map_err(failed)? {
        if held.len() + part.len() > limit {
            return Err(ClientError::Failed(format!(
                "an answer has more than {limit} bytes"
            )));
        }
        held.extend_from_slice(&part);
    }
    Ok(held.freeze())
}

async fn read_trimmed(what: &'static str, path: &str) -> Result<String, ClientError> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(ClientError::File {
            what,
            path: path.to_owned(),
            error,
        }),
    }
}

/// The URL with `xxxxx` in the place of a password, for people.
pub fn redacted(url: &reqwest::Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        let _ = url.set_password(Some("xxxxx"));
    }
    url.into()
}

fn title_case(method: &Method) -> String {
    let mut text = method.as_str().to_ascii_lowercase();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

/// The innermost cause that says something, which is the one a user can act on.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let inner = error.to_string();
        if !inner.is_empty() {
            text = inner;
        }
        source = error.source();
    }
    text
}

//! A client of the HTTP API whose errors read as promtool's.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use clap::{Arg, ArgMatches};
use serde_json::Value;
use wire::client::{ClientOptions, HttpClient, HttpSettings};

/// Why there is nothing to print.
#[derive(Debug)]
pub enum Failure {
    /// The text says it all.
    Plain(String),
    /// The query failed: type, text, and what else the server said.
    Query(String, String, String),
}

impl Failure {
    /// The line for stderr.
    pub fn text(&self) -> String {
        match self {
            Failure::Plain(text) => text.clone(),
            Failure::Query(kind, text, detail) if detail.is_empty() => {
                format!("query error: {kind}: {text}")
            }
            Failure::Query(kind, text, detail) => {
                format!("query error: {kind}: {text} (detail: {})", detail.trim())
            }
        }
    }
}

/// What a server answered.
pub struct Answer {
    /// `data`
    pub data: Value,
    /// `warnings`
    pub warnings: Vec<String>,
}

/// Asks one server.
pub struct Client {
    http: HttpClient,
    base: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The flag `--http.config.file`.
pub fn settings_file() -> Arg {
    Arg::new("http.config.file")
        .long("http.config.file")
        .value_name("FILE")
        .help("HTTP client configuration file.")
}

/// The settings in the file of `--http.config.file`, if it was typed.
pub fn settings(m: &ArgMatches) -> Result<HttpSettings, String> {
    let Some(file) = m.get_one::<String>("http.config.file") else {
        return Ok(HttpSettings::default());
    };
    let failed = |e: String| format!("failed to load HTTP config file: {e}");
    let text = std::fs::read_to_string(file).map_err(|e| failed(format!("open {file}: {e}")))?;
    wire::yaml(&text).map_err(failed)
}

/// Headers written as `name=value`.
pub fn parse_headers(headers: &[&str]) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let parsed = headers.iter().map(|header| {
        let pair = header.split_once('=').and_then(|(name, value)| {
            Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?))
        });
        pair.ok_or_else(|| format!("expected KEY=VALUE got {header:?}"))
    });
    parsed.collect()
}

impl Client {
    /// A client of `server`, a URL, with the settings that were typed; `headers` are `name=value`.
    pub fn new(m: &ArgMatches, server: &str, headers: &[&str]) -> Result<Self, Failure> {
        let cannot = |e: String| Failure::Plain(format!("error creating API client: {e}"));
        let settings = settings(m).map_err(Failure::Plain)?;
        let options = ClientOptions {
            timeout: Some(Duration::from_secs(120)),
            ..ClientOptions::default()
        };
        // Only the first caller of a process sets it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = HttpClient::new(&settings, options).map_err(|e| cannot(e.to_string()))?;
        let base = match server.contains("://") {
            true => server.to_owned(),
            false => format!("http://{server}"),
        };
        Ok(Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            headers: parse_headers(headers).map_err(cannot)?,
        })
    }

    /// Sends the parameters as a form.
    pub async fn post(&self, path: &str, params: &[(&str, &str)]) -> Result<Answer, Failure> {
        self.ask(Method::POST, path, params).await
    }

    /// Sends the parameters behind the path.
    pub async fn get(&self, path: &str, params: &[(&str, &str)]) -> Result<Answer, Failure> {
        self.ask(Method::GET, path, params).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        params: &[(&str, &str)],
    ) -> Result<Answer, Failure> {
        let failed = |text: String| Failure::Plain(format!("query error: {text}"));
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(params)
            .finish();
        let posted = method == Method::POST;
        let url = match posted {
            true => format!("{}{path}", self.base),
            false => format!("{}{path}?{form}", self.base),
        };
        let mut request = self
            .http
            .request(method, &url)
            .map_err(|e| failed(e.to_string()))?;
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        if posted {
            const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(header::CONTENT_TYPE, FORM);
            *request.body_mut() = Some(form.into());
        }
        let response = self.http.send(request).await;
        let response = response.map_err(|e| failed(e.to_string()))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|e| failed(e.to_string()))?;
        let broken = |kind: &str, text: String| {
            let detail = String::from_utf8_lossy(&body).into_owned();
            Failure::Query(kind.to_owned(), text, detail)
        };
        // These carry an answer of the API; other failures come from what stands before it.
        if !status.is_success() && !matches!(status.as_u16(), 400 | 422 | 503) {
            let code = status.as_u16();
            return Err(match code / 100 {
                4 => broken("client_error", format!("client error: {code}")),
                5 => broken("server_error", format!("server error: {code}")),
                _ => broken("bad_response", format!("bad response code {code}")),
            });
        }
        let mut answer: Value = serde_json::from_slice(&body)
            .map_err(|e| Failure::Query("bad_response".to_owned(), e.to_string(), String::new()))?;
        if answer["status"] == "error" || !status.is_success() {
            let field = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
            return Err(Failure::Query(
                field("errorType"),
                field("error"),
                String::new(),
            ));
        }
        let warnings = answer["warnings"].as_array().into_iter().flatten();
        Ok(Answer {
            warnings: warnings
                .filter_map(|w| w.as_str().map(str::to_owned))
                .collect(),
            data: answer["data"].take(),
        })
    }
}

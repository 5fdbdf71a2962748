//! Cross-origin requests, answered as Prometheus answers them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{self, HeaderValue};
use model::regex::Regex;

/// Which origins may read answers from a browser page of their own.
#[derive(Clone, Debug)]
pub struct Cors(Arc<Origins>);

#[derive(Debug)]
enum Origins {
    Any,
    Matching(Regex),
}

impl Cors {
    /// Origins that match `pattern` as a whole (`--web.cors.origin`); `.*` means all.
    pub fn new(pattern: &str) -> Result<Self, super::ServerError> {
        if pattern == ".*" {
            return Ok(Self(Arc::new(Origins::Any)));
        }
        let regex = Regex::anchored(pattern).map_err(|e| {
            super::ServerError::Url(format!("invalid CORS origin regex {pattern:?}: {e}"))
        })?;
        Ok(Self(Arc::new(Origins::Matching(regex))))
    }

    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        match &*self.0 {
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::Matching(regex) => origin
                .to_str()
                .is_ok_and(|text| regex.is_match(text))
                .then(|| origin.clone()),
        }
    }
}

impl Default for Cors {
    /// All origins, as `--web.cors.origin` has it by default.
    fn default() -> Self {
        Self(Arc::new(Origins::Any))
    }
}

/// Middleware for `axum::middleware::from_fn_with_state`: adds the headers that let pages of the
/// allowed origins read the answer.
pub async fn answer(State(cors): State<Cors>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Accept, Authorization, Content-Type, Origin"),
        );
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, OPTIONS"),
        );
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Date"),
        );
        if let Some(allowed) = cors.allowed(&origin) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        }
    }
    response
}

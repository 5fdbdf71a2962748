//! Errors as the API shows them, and the envelope around every answer.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use model::{Kind, SourceError, Str};
use promql::QueryError;
use serde::Serialize;

use crate::encode::JSON;

/// What went wrong, in the API's own words (`errorType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// A parameter is wrong.
    BadData,
    /// The query failed while it ran.
    Execution,
    /// Whoever asked has gone.
    Canceled,
    /// It took too long.
    Timeout,
    /// A defect or damage on our side.
    Internal,
    /// Try again later.
    Unavailable,
    /// The feature is switched off.
    Disabled,
    /// It does not exist, or this process does not serve it.
    NotFound,
}

impl ErrorType {
    fn text(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::Unavailable | Self::Disabled => "unavailable",
            Self::NotFound => "not_found",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            // nginx' code for a client that closed the connection; it is below 1000, so valid.
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Timeout | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            // Prometheus says 500 where an API is switched off.
            Self::Internal | Self::Disabled => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotFound => StatusCode::NOT_FOUND,
        }
    }
}

/// An error answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Which kind.
    pub kind: ErrorType,
    /// What, in Prometheus' words where it has some.
    pub message: String,
}

impl ApiError {
    pub(crate) fn new(kind: ErrorType, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(ErrorType::BadData, message)
    }

    /// `invalid parameter "NAME": WHY`
    pub(crate) fn param(name: &str, why: impl std::fmt::Display) -> Self {
        Self::bad(format!("invalid parameter \"{name}\": {why}"))
    }

    pub(crate) fn not_served(what: &str) -> Self {
        Self::new(
            ErrorType::NotFound,
            format!("{what} are not served by this process"),
        )
    }
}

impl From<SourceError> for ApiError {
    fn from(e: SourceError) -> Self {
        let kind = match e.kind {
            Kind::NotFound => ErrorType::NotFound,
            Kind::Invalid => ErrorType::BadData,
            Kind::Unavailable => ErrorType::Unavailable,
            Kind::Limit => ErrorType::Execution,
            Kind::Cancelled => ErrorType::Canceled,
            Kind::Timeout => ErrorType::Timeout,
            Kind::Corrupt | Kind::Internal => ErrorType::Internal,
        };
        Self::new(kind, e.message)
    }
}

impl From<QueryError> for ApiError {
    fn from(e: QueryError) -> Self {
        let kind = match &e {
            QueryError::BadData(text) => return Self::param("query", text),
            QueryError::Execution(_) => ErrorType::Execution,
            QueryError::Canceled(_) => ErrorType::Canceled,
            QueryError::Timeout(_) => ErrorType::Timeout,
            QueryError::Unavailable(_) => ErrorType::Unavailable,
            QueryError::Internal(_) => ErrorType::Internal,
        };
        Self::new(kind, e.to_string())
    }
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Envelope<'a> {
            status: &'static str,
            error_type: &'static str,
            error: &'a str,
        }
        let envelope = Envelope {
            status: "error",
            error_type: self.kind.text(),
            error: &self.message,
        };
        // Strings always serialize.
        let body = serde_json::to_vec(&envelope).unwrap_or_default();
        let headers = [
            (header::CONTENT_TYPE, JSON),
            (header::CACHE_CONTROL, NO_STORE),
        ];
        (self.kind.status(), headers, body).into_response()
    }
}

/// A successful answer made with serde: everything but samples, series and names.
pub(crate) fn success<T: Serialize>(data: &T) -> Result<Response, ApiError> {
    success_with(data, &[])
}

/// The same with what has to be said about it.
pub(crate) fn success_with<T: Serialize>(data: &T, warnings: &[Str]) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        status: &'static str,
        data: &'a T,
        #[serde(skip_serializing_if = "<[&str]>::is_empty")]
        warnings: &'a [&'a str],
    }
    let texts: Vec<&str> = warnings.iter().map(|w| &**w).collect();
    let envelope = Envelope {
        status: "success",
        data,
        warnings: &texts,
    };
    let body = serde_json::to_vec(&envelope)
        .map_err(|e| ApiError::new(ErrorType::Internal, format!("error encoding JSON: {e}")))?;
    let response = (StatusCode::OK, [(header::CONTENT_TYPE, JSON)], body).into_response();
    Ok(mark_partial(response, warnings))
}

/// Answers that other caches must not keep say so: those from which data is missing.
pub(crate) fn mark_partial(mut response: Response, warnings: &[Str]) -> Response {
    if warnings.iter().any(|w| !w.starts_with("PromQL ")) {
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, NO_STORE);
    }
    response
}

/// The end of a successful answer after its data: `,"warnings":[...],"infos":[...]}`. At most ten
/// of each are shown.
pub(crate) fn tail(out: &mut Vec<u8>, warnings: &[Str], infos: &[Str]) {
    const MOST: usize = 10;
    for (name, word, texts) in [("warnings", "warning", warnings), ("infos", "info", infos)] {
        if texts.is_empty() {
            continue;
        }
        let mut shown: Vec<Str> = texts.iter().take(MOST).cloned().collect();
        if texts.len() > MOST {
            let more = texts.len() - MOST;
            shown.push(format!("{more} more {word} annotations omitted").into());
        }
        out.push(b',');
        crate::json::string(out, name);
        out.push(b':');
        crate::json::strings(out, &shown);
    }
    out.push(b'}');
}

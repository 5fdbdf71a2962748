//! The URL under which the world sees us, and the path prefix under which we serve.

use axum::Router;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{StatusCode, header};
use url::Url;

use super::ServerError;

/// The outside URL: `flag` (`--web.external-url`), or `http://hostname:port/` with the port of
/// the first listen address. The path of the answer never ends in a slash, except the root.
pub fn external_url(flag: &str, listen: &str, hostname: &str) -> Result<Url, ServerError> {
    let text = if flag.is_empty() {
        let port = listen
            .rsplit_once(':')
            .map(|(_, port)| port)
            .filter(|port| !port.is_empty())
            .ok_or_else(|| ServerError::Url(format!("listen address {listen:?} has no port")))?;
        format!("http://{hostname}:{port}/")
    } else {
        flag.to_owned()
    };
    if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
        return Err(ServerError::Url(
            "URL must not begin or end with quotes".to_owned(),
        ));
    }
    let mut url = Url::parse(&text)
        .map_err(|e| ServerError::Url(format!("failed to parse external URL {text:?}: {e}")))?;
    if url.cannot_be_a_base() {
        return Err(ServerError::Url(format!(
            "failed to parse external URL {text:?}: it needs a scheme and a host"
        )));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// The path under which routes are served: `flag` (`--web.route-prefix`), or the external URL's
/// path. `""` for the root, else it begins with a slash and does not end with one.
pub fn route_prefix(flag: Option<&str>, external: &Url) -> String {
    let path = flag.filter(|f| !f.is_empty()).unwrap_or(external.path());
    match path.trim_matches('/') {
        "" => String::new(),
        path => format!("/{path}"),
    }
}

/// Puts `app` under `prefix` (from [`route_prefix`]); the root then leads there, and so does the
/// prefix with a slash at its end.
pub fn mount(app: Router, prefix: &str) -> Router {
    if prefix.is_empty() {
        return app;
    }
    let target = prefix.to_owned();
    let lead = axum::routing::get(move || std::future::ready(redirect(&target)));
    Router::new()
        .route("/", lead.clone())
        .route(&format!("{prefix}/"), lead)
        .nest(prefix, app)
}

/// Leads on, with 307, where a path has slashes too many: from `//api/v1/query/` to `/api/v1/query`, as Go's routers do. None if it
/// has not.
pub fn tidied(uri: &http::Uri) -> Option<Response> {
    let path = tidy(uri.path())?;
    let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    Some(Redirect::temporary(&(path + &query)).into_response())
}

fn tidy(path: &str) -> Option<String> {
    let mut tidy = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        tidy.push('/');
        tidy.push_str(part);
    }
    (!tidy.is_empty() && tidy != path).then_some(tidy)
}

/// 302 to `location`.
pub fn redirect(location: &str) -> Response {
    match http::HeaderValue::from_str(location) {
        Ok(value) => (StatusCode::FOUND, [(header::LOCATION, value)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_urls() {
        let url = |flag| external_url(flag, "0.0.0.0:9090", "box").map(|u| u.to_string());
        assert_eq!(url("").unwrap(), "http://box:9090/");
        assert_eq!(url("https://a.b/prom/").unwrap(), "https://a.b/prom");
        assert_eq!(url("http://a.b").unwrap(), "http://a.b/");
        assert!(url("'http://a.b'").is_err());
        assert!(url("prom").is_err());
        assert!(url("mailto:x").is_err());
        assert!(external_url("", "nonsense", "box").is_err());
    }

    #[test]
    fn slashes_too_many() {
        assert_eq!(tidy("//api/v1//query/").unwrap(), "/api/v1/query");
        assert_eq!(tidy("/metrics/").unwrap(), "/metrics");
        assert_eq!(tidy("/metrics"), None);
        assert_eq!(tidy("/"), None);
        assert_eq!(tidy("//"), None);
    }

    #[test]
    fn prefixes() {
        let external = Url::parse("https://a.b/prom").unwrap();
        assert_eq!(route_prefix(None, &external), "/prom");
        assert_eq!(route_prefix(Some("/"), &external), "");
        assert_eq!(route_prefix(Some("x/y/"), &external), "/x/y");
        assert_eq!(route_prefix(None, &Url::parse("https://a.b").unwrap()), "");
    }
}

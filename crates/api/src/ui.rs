//! The page for people: the built UI, embedded, under any path.
//!
//! The page learns where it stands from `<base href>`, which is filled in when it is served, so
//! that the same build works under every route prefix and behind every proxy. Nothing is loaded
//! from elsewhere, and the content security policy says so.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rust_embed::RustEmbed;
use wire::server::prefix::{redirect, tidied};

use crate::Options;

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/ui"]
struct Files;

/// The pages, each at the path of its name.
const PAGES: [&str; 14] = [
    "query",
    "alerts",
    "rules",
    "targets",
    "service-discovery",
    "alertmanager-discovery",
    "stores",
    "tsdb-status",
    "bucket",
    "blocks",
    "loaded",
    "status",
    "flags",
    "config",
];

/// Where pages stood before; the page itself leads on from there.
const MOVED: [&str; 2] = ["/status/{section}", "/about"];

/// The pages that a process with these options has something to show on.
pub(crate) fn pages(options: &Options) -> Vec<&'static str> {
    // Others' rules and targets are shown, too; only what became targets is told.
    let gathers = options.gathering.is_some();
    let has = |name: &str| match name {
        "query" => options.evaluator.is_some(),
        "alerts" | "rules" => gathers || options.rules.is_some(),
        "targets" => gathers || options.targets.is_some(),
        "service-discovery" => options.targets.is_some(),
        "alertmanager-discovery" => options.alertmanagers.is_some(),
        "stores" => gathers,
        "tsdb-status" => options.head.is_some(),
        "bucket" => options.bucket.is_some(),
        "config" => options.config.is_some(),
        "status" | "flags" => true,
        other => options.more_pages.contains(&other),
    };
    PAGES.into_iter().filter(|name| has(name)).collect()
}

struct Page {
    /// The page but for its nonces, which stand between the parts.
    parts: Vec<String>,
    external_path: String,
    prefix_header: String,
    /// Where the root leads.
    first: &'static str,
}

pub(crate) fn router(options: &Options) -> Router {
    let page = Arc::new(Page {
        parts: template(options),
        external_path: options.external_path.clone(),
        prefix_header: options.prefix_header.clone(),
        first: pages(options).first().copied().unwrap_or("status"),
    });
    let mut app = Router::new();
    for name in PAGES {
        app = app.route(&format!("/{name}"), get(index));
    }
    for path in MOVED {
        app = app.route(path, get(index));
    }
    app.route("/", get(home))
        .route("/graph", get(graph))
        .route("/global", get(global))
        .route("/assets/{*path}", get(asset))
        .route("/favicon.svg", get(favicon))
        .route("/favicon.ico", get(favicon))
        .fallback(unknown)
        .with_state(page)
}

const BASE: &str = "<base href=\"/\" />";

fn template(options: &Options) -> Vec<String> {
    let file = Files::get("index.html").map(|f| f.data).unwrap_or_default();
    let title = format!("<title>{}</title>", escape(&options.title));
    String::from_utf8_lossy(&file)
        .replace("<title>Epimetheus</title>", &title)
        .replace("\"PAGES\"", &format!("\"{}\"", pages(options).join(" ")))
        .split("NONCE")
        .map(str::to_owned)
        .collect()
}

/// Text as it may stand in an attribute or element.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

async fn home(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    redirect(&format!("{}/{}", page.prefix(&headers), page.first))
}

/// Where Prometheus 2 had its page; links to it are everywhere.
async fn graph(
    State(page): State<Arc<Page>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.map_or(String::new(), |q| format!("?{q}"));
    redirect(&format!("{}/query{query}", page.prefix(&headers)))
}

/// Where Thanos' compactor has the page of all blocks.
async fn global(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    redirect(&format!("{}/blocks", page.prefix(&headers)))
}

async fn index(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    page.serve(StatusCode::OK, &headers)
}

impl Page {
    /// What the browser sees before our paths: as the flag has it, else as the proxy says in the
    /// header. Only a path is taken from there, so that no proxy leads people elsewhere.
    fn prefix(&self, headers: &HeaderMap) -> String {
        if !self.external_path.is_empty() || self.prefix_header.is_empty() {
            return self.external_path.clone();
        }
        let said = headers.get(&self.prefix_header);
        let said = said.and_then(|v| v.to_str().ok()).unwrap_or_default();
        let path = match said.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
            None => said,
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        match path.trim_matches('/') {
            "" => String::new(),
            path => format!("/{path}"),
        }
    }

    fn serve(&self, status: StatusCode, headers: &HeaderMap) -> Response {
        // Two keyed hashes of fresh random keys: nobody can tell them beforehand.
        let random = || RandomState::new().hash_one(());
        let nonce = format!("{:016x}{:016x}", random(), random());
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; \
             img-src 'self' data:; font-src 'self'; connect-src 'self'; worker-src 'self'; \
             base-uri 'self'; \
             form-action 'none'; frame-ancestors 'self'"
        );
        let base = format!("<base href=\"{}/\" />", escape(&self.prefix(headers)));
        let text = self.parts.join(&nonce).replacen(BASE, &base, 1);
        let mut response = (status, text).into_response();
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

/// Files with a hash in their name never change.
async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    file(
        &format!("assets/{path}"),
        &headers,
        "public, max-age=31536000, immutable",
    )
}

async fn favicon(headers: HeaderMap) -> Response {
    file("favicon.svg", &headers, "public, max-age=86400")
}

/// A path that is none of ours: where it has slashes too many the right one is told; else the page says so to people, a line to
/// machines.
async fn unknown(
    State(page): State<Arc<Page>>,
    method: Method,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Response {
    if let Some(there) = tidied(&uri) {
        return there;
    }
    let wants_page = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("text/html"));
    if method == Method::GET && wants_page {
        return page.serve(StatusCode::NOT_FOUND, &headers);
    }
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

fn file(name: &str, asked: &HeaderMap, caching: &'static str) -> Response {
    let (found, zipped) = match Files::get(&format!("{name}.gz")) {
        Some(found) => (found, true),
        None => match Files::get(name) {
            Some(found) => (found, false),
            None => return (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
        },
    };
    let hash = &found.metadata.sha256_hash()[..8];
    let tag: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let names = |header: header::HeaderName, wanted: &str| {
        let values = asked.get_all(header).into_iter();
        values
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|v| v.trim().trim_start_matches("W/").starts_with(wanted))
    };
    let mut response = if names(header::IF_NONE_MATCH, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if zipped && !names(header::ACCEPT_ENCODING, "gzip") {
        let mut plain = Vec::new();
        // Our own files, zipped by our own build.
        match flate2::read::GzDecoder::new(&*found.data).read_to_end(&mut plain) {
            Ok(_) => Body::from(plain).into_response(),
            Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    } else {
        let mut response = Body::from(found.data.into_owned()).into_response();
        if zipped {
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type(name)),
        (header::CACHE_CONTROL, caching),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::VARY, "Accept-Encoding"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("html") => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    }
}

//! What the API server answers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::select::{by_field, by_label};
use crate::state::{Order, State, status};
use crate::{Cut, KINDS};

type Asked = HashMap<String, String>;

pub(crate) fn router(state: Arc<State>) -> Router {
    let mut router = Router::new();
    for (plural, kind, group, namespaced) in KINDS {
        let base = match group {
            "v1" => "/api/v1".to_owned(),
            group => format!("/apis/{group}"),
        };
        let everywhere = {
            let state = Arc::clone(&state);
            move |Query(asked): Query<Asked>| async move {
                answer(state, Collection::new(plural, kind, group, ""), asked)
            }
        };
        router = router.route(&format!("{base}/{plural}"), get(everywhere));
        if namespaced {
            let state = Arc::clone(&state);
            let inside = move |Path(namespace): Path<String>, Query(asked): Query<Asked>| async move {
                answer(
                    state,
                    Collection::new(plural, kind, group, &namespace),
                    asked,
                )
            };
            router = router.route(
                &format!("{base}/namespaces/{{namespace}}/{plural}"),
                get(inside),
            );
        }
    }
    router.layer(axum::middleware::from_fn_with_state(state, guard))
}

/// Remembers what was asked, and refuses what was ordered to be refused.
async fn guard(
    Extract(state): Extract<Arc<State>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let asked = request.uri().to_string();
    let refused = {
        let mut settings = state.settings();
        settings.requests.push(asked.clone());
        let given = headers.get(header::AUTHORIZATION);
        let wanted = settings.token.as_ref().map(|t| format!("Bearer {t}"));
        let unknown = wanted.is_some() && given.and_then(|v| v.to_str().ok()) != wanted.as_deref();
        let mut faults = settings.faults.iter_mut();
        let fault = faults.find(|f| f.times > 0 && asked.contains(&f.part));
        match fault {
            _ if unknown => Some(401),
            Some(fault) => {
                fault.times -= 1;
                Some(fault.status)
            }
            None => None,
        }
    };
    match refused {
        Some(code) => failure(code, "refused by order"),
        None => next.run(request).await,
    }
}

fn failure(code: u16, message: &str) -> Response {
    let mut response = axum::Json(status(code, message)).into_response();
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::IM_A_TEAPOT);
    if code == 429 {
        response.headers_mut().insert(header::RETRY_AFTER, 1.into());
    }
    response
}

/// Objects of one kind in one namespace or in all.
#[derive(Clone)]
struct Collection {
    plural: &'static str,
    kind: &'static str,
    group: &'static str,
    namespace: String,
}

impl Collection {
    fn new(plural: &'static str, kind: &'static str, group: &'static str, namespace: &str) -> Self {
        Self {
            plural,
            kind,
            group,
            namespace: namespace.to_owned(),
        }
    }

    fn has(&self, object: &Value, asked: &Asked) -> bool {
        let selector = |key: &str| asked.get(key).map_or("", String::as_str);
        let here = self.namespace.is_empty()
            || object["metadata"]["namespace"].as_str() == Some(&self.namespace);
        here && by_label(selector("labelSelector"), object)
            && by_field(selector("fieldSelector"), object)
    }
}

fn is_set(asked: &Asked, key: &str) -> bool {
    asked.get(key).is_some_and(|v| v == "true" || v == "1")
}

fn answer(state: Arc<State>, collection: Collection, asked: Asked) -> Response {
    match is_set(&asked, "watch") {
        true => watch(state, collection, asked),
        false => list(&state, &collection, &asked),
    }
}

fn list(state: &State, collection: &Collection, asked: &Asked) -> Response {
    let (version, mut items) = match asked.get("continue").filter(|c| !c.is_empty()) {
        None => state.list(collection.plural, |o| collection.has(o, asked)),
        Some(token) => match state.go_on(token) {
            Some(rest) => rest,
            None => {
                return failure(
                    410,
                    "The provided continue parameter is too old to display a consistent list result.",
                );
            }
        },
    };
    let limit = asked.get("limit").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if limit > 0 && items.len() > limit {
        let rest = items.split_off(limit);
        metadata["remainingItemCount"] = rest.len().into();
        metadata["continue"] = state.keep_list(version, rest).into();
    }
    // The server leaves kind and version out of the items of a list.
    for item in &mut items {
        if let Some(item) = item.as_object_mut() {
            item.remove("kind");
            item.remove("apiVersion");
        }
    }
    axum::Json(json!({
        "kind": format!("{}List", collection.kind),
        "apiVersion": collection.group,
        "metadata": metadata,
        "items": items,
    }))
    .into_response()
}

fn watch(state: Arc<State>, collection: Collection, asked: Asked) -> Response {
    let version = asked.get("resourceVersion").map_or("", String::as_str);
    let initial = is_set(&asked, "sendInitialEvents") || matches!(version, "" | "0");
    let version: u64 = version.parse().unwrap_or(0);
    if !initial && !state.remembers(version) {
        let message = format!("too old resource version: {version}");
        if state.settings().gone_by_status {
            return failure(410, &message);
        }
        let event = line("ERROR", &status(410, &message));
        return ([(header::CONTENT_TYPE, "application/json")], event).into_response();
    }
    let seconds = asked.get("timeoutSeconds").and_then(|t| t.parse().ok());
    let mut watching = Watching {
        orders: state.orders(),
        queue: VecDeque::new(),
        version,
        ends: tokio::time::Instant::now() + Duration::from_secs(seconds.unwrap_or(1800)),
        over: false,
        collection,
        asked,
    };
    if initial {
        watching.first(&state);
    }
    let stream =
        futures_util::stream::unfold((state, watching), |(state, mut watching)| async move {
            let part = watching.next(&state).await?;
            Some((part, (state, watching)))
        });
    (
        [(header::CONTENT_TYPE, "application/json")],
        Body::from_stream(stream),
    )
        .into_response()
}

/// One watch.
struct Watching {
    collection: Collection,
    asked: Asked,
    version: u64,
    /// How many orders were obeyed.
    orders: usize,
    queue: VecDeque<Result<Bytes, std::io::Error>>,
    ends: tokio::time::Instant,
    over: bool,
}

impl Watching {
    /// Everything that is there, and a mark behind it if that was asked for.
    fn first(&mut self, state: &State) {
        let (version, items) = state.list(self.collection.plural, |o| {
            self.collection.has(o, &self.asked)
        });
        self.version = version;
        let lines = items.iter().map(|item| Ok(line("ADDED", item)));
        self.queue.extend(lines);
        if is_set(&self.asked, "sendInitialEvents") {
            let marks = json!({"k8s.io/initial-events-end": "true"});
            self.queue.push_back(Ok(self.bookmark(Some(marks))));
        }
    }

    fn bookmark(&self, annotations: Option<Value>) -> Bytes {
        let mut metadata = json!({"resourceVersion": self.version.to_string()});
        if let Some(annotations) = annotations {
            metadata["annotations"] = annotations;
        }
        let Collection { kind, group, .. } = self.collection;
        let object = json!({"kind": kind, "apiVersion": group, "metadata": metadata});
        line("BOOKMARK", &object)
    }

    async fn next(&mut self, state: &State) -> Option<Result<Bytes, std::io::Error>> {
        let mut wake = state.wake.subscribe();
        let _running = state.run();
        loop {
            if let Some(part) = self.queue.pop_front() {
                return Some(part);
            }
            if self.over {
                return None;
            }
            wake.borrow_and_update();
            self.look(state);
            if !self.queue.is_empty() || self.over {
                continue;
            }
            tokio::select! {
                woken = wake.changed() => woken.ok()?,
                () = tokio::time::sleep_until(self.ends) => return None,
            }
        }
    }

    fn look(&mut self, state: &State) {
        let (version, happened, orders) = state.since(self.version, self.orders);
        self.version = version;
        for event in happened {
            if event.plural != self.collection.plural {
                continue;
            }
            let has = |o: &Option<Value>| {
                let o = o.as_ref();
                o.is_some_and(|o| self.collection.has(o, &self.asked))
            };
            let line = match (has(&event.before), has(&event.after), event.after) {
                (false, true, Some(object)) => line("ADDED", &object),
                (true, true, Some(object)) => line("MODIFIED", &object),
                (true, _, _) => {
                    let mut object = event.before.unwrap_or_default();
                    object["metadata"]["resourceVersion"] = event.version.to_string().into();
                    line("DELETED", &object)
                }
                _ => continue,
            };
            // In pieces, as a network may bring it.
            let (a, b) = (line.slice(..line.len() / 2), line.slice(line.len() / 2..));
            self.queue.extend([Ok(a), Ok(b)]);
        }
        for order in orders {
            self.orders += 1;
            match order {
                Order::Bookmark if is_set(&self.asked, "allowWatchBookmarks") => {
                    self.queue.push_back(Ok(self.bookmark(None)));
                }
                Order::Bookmark => {}
                Order::Error(code) => {
                    let event = line("ERROR", &status(code, "sent by order"));
                    self.queue.push_back(Ok(event));
                    self.over = true;
                }
                Order::Cut(how) => {
                    let half = Bytes::from_static(b"{\"type\":\"MODIFIED\",\"object\":{\"meta");
                    match how {
                        Cut::Clean => {}
                        Cut::MidLine => self.queue.push_back(Ok(half)),
                        Cut::Broken => {
                            let broken = std::io::Error::other("cut by order");
                            self.queue.extend([Ok(half), Err(broken)]);
                        }
                    }
                    self.over = true;
                }
            }
        }
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut text = json!({"type": kind, "object": object}).to_string();
    text.push('\n');
    text.into()
}

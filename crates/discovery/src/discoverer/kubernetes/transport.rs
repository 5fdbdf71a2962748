//! The way of a request to an API server.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::sync::Mutex;
use tokio::time::Instant;
use wire::client::{ClientError, ClientOptions, HttpClient, HttpSettings, Method};

use crate::counters::Counters;

/// The longest that listing one page may take; a watch ends when the server says so.
const LIST: Duration = Duration::from_secs(120);
/// The least time between two beginnings of the same watch.
const PACE: Duration = Duration::from_secs(1);

/// A client that obeys Prometheus' HTTP settings, so that they mean here what they mean anywhere.
pub(super) fn client(
    server: &str,
    settings: &HttpSettings,
    counters: &Counters,
) -> Result<Client, ClientError> {
    let server: Arc<str> = server.trim_end_matches('/').into();
    let client = HttpClient::new(settings, ClientOptions::default())?;
    let requests = counters.kubernetes_requests.clone();
    // Nothing but `GET` is ever asked.
    let send = move |request: Request<Body>| {
        let (server, client) = (Arc::clone(&server), client.clone());
        let requests = requests.clone();
        async move {
            let (head, _) = request.into_parts();
            let url = format!("{server}{}", head.uri);
            let mut sent = client.request(Method::GET, &url)?;
            if !is_watch(&head.uri) {
                *sent.timeout_mut() = Some(LIST);
            }
            *sent.headers_mut() = head.headers;
            let answer = client.send(sent).await.inspect_err(|_| {
                requests.with(&["<error>"]).inc();
            })?;
            requests.with(&[answer.status().as_str()]).inc();
            Ok::<_, ClientError>(Response::from(answer))
        }
    };
    Ok(Client::new(tower::service_fn(send), "default"))
}

/// A client that does not begin a watch again at once, should the server end every one at once.
pub(super) fn paced(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    // When a watch may begin.
    let next = Arc::new(Mutex::new(Instant::now()));
    let send = move |request: Request<Body>| {
        let (client, next) = (client.clone(), Arc::clone(&next));
        async move {
            if is_watch(request.uri()) {
                let mut next = next.lock().await;
                tokio::time::sleep_until(*next).await;
                *next = Instant::now() + PACE;
            }
            client.send(request).await
        }
    };
    Client::new(tower::service_fn(send), namespace)
}

fn is_watch(uri: &http::Uri) -> bool {
    let mut terms = uri.query().unwrap_or("").split('&');
    terms.any(|term| term == "watch=true")
}

//! The listening thread: connections, faults, latency, counting; the rest is [`crate::service`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request as HttpRequest, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::counters::{Op, Request};
use crate::service::Service;
use crate::{Fault, Shared};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The thread and the way to end it.
#[derive(Debug)]
pub(crate) struct Thread {
    stop: oneshot::Sender<()>,
    join: std::thread::JoinHandle<()>,
}

impl Thread {
    pub(crate) fn start(shared: Arc<Shared>) -> std::io::Result<(SocketAddr, Self)> {
        let listener = std::net::TcpListener::bind(shared.config.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let join = std::thread::Builder::new()
            .name("s3kit".into())
            .spawn(move || {
                runtime.block_on(async move {
                    // A listener that was just bound registers unless the process is out of file
                    // descriptors; then nobody can connect, which says it.
                    let Ok(listener) = TcpListener::from_std(listener) else {
                        return;
                    };
                    tokio::select! {
                        () = accept(listener, shared) => {}
                        _ = stopped => {}
                    }
                });
                // Hanging requests die with the runtime.
                runtime.shutdown_background();
            })?;
        Ok((address, Self { stop, join }))
    }

    pub(crate) fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.join.join();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut builder = S3ServiceBuilder::new(Service(Arc::clone(&shared)));
    let config = &shared.config;
    builder.set_auth(SimpleAuth::from_single(
        config.access_key.clone(),
        config.secret_key.clone(),
    ));
    let service = builder.build();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: leave some time for others to be closed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (service, shared) = (service.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let serve =
                service_fn(move |request| handle(service.clone(), Arc::clone(&shared), request));
            let server = auto::Builder::new(TokioExecutor::new());
            // An error here is a client that went away, or a fault that was asked for.
            let _ = server.serve_connection(TokioIo::new(stream), serve).await;
        });
    }
}

async fn handle(
    service: S3Service,
    shared: Arc<Shared>,
    request: HttpRequest<Incoming>,
) -> Result<Response<Body>, BoxError> {
    let start = Instant::now();
    let (op, key) = classify(&request);
    let header = |name: http::HeaderName| {
        let value = request.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let mut record = Request {
        op,
        key,
        range: header(http::header::RANGE),
        status: 0,
        bytes_in: header(http::header::CONTENT_LENGTH)
            .and_then(|n| n.parse().ok())
            .unwrap_or(0),
        bytes_out: 0,
        start,
        end: start,
    };
    let latency = Duration::from_micros(shared.latency_micros.load(Ordering::Relaxed));
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let fault = shared.faults.roll(op, &record.key);
    let mut finish = |status: u16, bytes_out: u64| {
        record.status = status;
        record.bytes_out = bytes_out;
        record.end = Instant::now();
        shared.counters.record(record.clone());
    };
    let refuse = match fault {
        Some(Fault::Unavailable) => Some((503, "SlowDown")),
        Some(Fault::Internal) => Some((500, "InternalError")),
        Some(Fault::Forbidden) => Some((403, "AccessDenied")),
        _ => None,
    };
    if let Some((status, code)) = refuse {
        // The body is read so that the connection can be used again.
        let _ = request.into_body().collect().await;
        finish(status, 0);
        return error(status, code);
    }
    match fault {
        Some(Fault::Hang) => {
            finish(0, 0);
            return std::future::pending().await;
        }
        Some(Fault::Reset) => {
            finish(0, 0);
            return Err("connection reset on request".into());
        }
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        _ => {}
    }
    let answer = match hyper::service::Service::call(&service, request).await {
        Ok(answer) => answer,
        Err(e) => {
            finish(0, 0);
            return Err(e.into());
        }
    };
    if fault == Some(Fault::LostAnswer) {
        finish(0, 0);
        return Err("answer lost on request".into());
    }
    let (mut parts, body) = answer.into_parts();
    let bytes = body.collect().await?.to_bytes();
    finish(parts.status.as_u16(), bytes.len() as u64);
    let body = match fault {
        Some(Fault::Truncate(at)) if at < bytes.len() => {
            parts
                .headers
                .insert(http::header::CONTENT_LENGTH, bytes.len().into());
            cut(bytes.slice(..at))
        }
        Some(Fault::Trickle(step)) if step < bytes.len() => {
            parts
                .headers
                .insert(http::header::CONTENT_LENGTH, bytes.len().into());
            trickle(bytes, step.max(1))
        }
        _ => whole(bytes),
    };
    Ok(Response::from_parts(parts, body))
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|e: Infallible| match e {})
        .boxed_unsync()
}

/// A body that breaks off.
fn cut(bytes: Bytes) -> Body {
    let frames = [Ok(Frame::data(bytes)), Err("body cut on request".into())];
    // The pause lets the first part reach the client before the connection is closed.
    let frames = stream::unfold(frames.into_iter(), |mut frames| async move {
        let frame = frames.next()?;
        if frame.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Some((frame, frames))
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// A body that comes in small steps.
fn trickle(bytes: Bytes, step: usize) -> Body {
    let frames = stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        let part = rest.split_to(step.min(rest.len()));
        Some((Ok::<_, BoxError>(Frame::data(part)), rest))
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

fn error(status: u16, code: &str) -> Result<Response<Body>, BoxError> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code>\
         <Message>injected</Message></Error>"
    );
    Ok(Response::builder()
        .status(StatusCode::from_u16(status)?)
        .header(http::header::CONTENT_TYPE, "application/xml")
        .body(whole(xml.into()))?)
}

/// What a path-style request asks, and of which key (for a list: the prefix).
fn classify(request: &HttpRequest<Incoming>) -> (Op, String) {
    let path = request.uri().path().trim_start_matches('/');
    let key = path.split_once('/').map_or("", |(_, key)| key);
    let query = request.uri().query().unwrap_or("");
    let param = |name: &str| {
        query.split('&').find_map(|pair| {
            let (n, v) = pair.split_once('=').unwrap_or((pair, ""));
            (n == name).then(|| decode(v))
        })
    };
    let has = |name: &str| param(name).is_some();
    let op = match *request.method() {
        Method::GET if key.is_empty() && !has("location") && !path.is_empty() => {
            return (Op::List, param("prefix").unwrap_or_default());
        }
        Method::GET if !key.is_empty() => Op::Get,
        Method::HEAD if !key.is_empty() => Op::Head,
        Method::PUT if key.is_empty() => Op::Other,
        Method::PUT if has("uploadId") => Op::UploadPart,
        Method::PUT if request.headers().contains_key("x-amz-copy-source") => Op::Copy,
        Method::PUT => Op::Put,
        Method::POST if has("delete") => Op::BulkDelete,
        Method::POST if has("uploads") => Op::CreateMultipart,
        Method::POST if has("uploadId") => Op::CompleteMultipart,
        Method::DELETE if has("uploadId") => Op::AbortMultipart,
        Method::DELETE if !key.is_empty() => Op::Delete,
        _ => Op::Other,
    };
    (op, decode(key))
}

/// Undoes percent-encoding; what is not valid stays as it is.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(if first == b'+' { b' ' } else { first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

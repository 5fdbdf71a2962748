//! OTLP metrics: taken or refused.
#![no_main]

use std::sync::{Arc, LazyLock};

use chunk::memory::MemorySink;
use ingest::Receiver;
use ingest::receive::Options;
use libfuzzer_sys::fuzz_target;
use tower::ServiceExt as _;

static RECEIVER: LazyLock<(tokio::runtime::Runtime, Receiver)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("a runtime");
    let sink = Arc::new(MemorySink::new());
    let receiver = Receiver::new(sink, Options::default(), &metrics::Registry::new());
    (runtime, receiver.expect("a receiver"))
});

fuzz_target!(|body: &[u8]| {
    let (runtime, receiver) = &*RECEIVER;
    let request = http::Request::post("/otlp/v1/metrics")
        .header("content-type", "application/x-protobuf")
        .body(axum::body::Body::from(body.to_vec()))
        .expect("a request");
    let _ = runtime.block_on(receiver.otlp().oneshot(request));
});

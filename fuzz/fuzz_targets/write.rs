//! Requests of remote write, 1.x and 2.0: taken or refused.
#![no_main]

use std::sync::{Arc, LazyLock};

use chunk::memory::MemorySink;
use ingest::Receiver;
use ingest::receive::{Message, Options};
use libfuzzer_sys::fuzz_target;
use tower::ServiceExt as _;

static RECEIVER: LazyLock<(tokio::runtime::Runtime, Receiver)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("a runtime");
    let options = Options {
        accepted: vec![Message::V1, Message::V2],
        metadata: true,
        ..Options::default()
    };
    let sink = Arc::new(MemorySink::new());
    let receiver = Receiver::new(sink, options, &metrics::Registry::new()).expect("a receiver");
    (runtime, receiver)
});

fuzz_target!(|body: &[u8]| {
    let (runtime, receiver) = &*RECEIVER;
    let packed = snap::raw::Encoder::new().compress_vec(body).expect("it is short");
    for message in [Message::V1, Message::V2] {
        let kind = format!("application/x-protobuf;proto={}", message.as_str());
        let request = http::Request::post("/write")
            .header("content-type", kind)
            .body(axum::body::Body::from(packed.clone()))
            .expect("a request");
        let _ = runtime.block_on(receiver.remote_write().oneshot(request));
    }
    let _ = wire::histogram::read(body);
});

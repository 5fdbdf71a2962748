//! The runtime that every role lives in.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Runs `work` in a runtime of its own.
pub fn run(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    // Fails only if somebody installed one before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("async")
        .build()
        .context("starting the runtime")?;
    let code = runtime.block_on(async {
        let code = work.await;
        crate::traces::stop().await;
        code
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    code
}

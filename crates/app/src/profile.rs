//! `/debug/pprof/`: where the time goes, in the format of Go's tools (`go tool pprof URL`), and plain
//! words about what a Go program would have to tell and this one has not.

use std::io::Write as _;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

mod message;

/// Samples a second; as Go does it.
const FREQUENCY: i32 = 100;
/// The longest profile, seconds.
const LONGEST: u64 = 600;

/// The routes.
pub fn router() -> Router {
    Router::new()
        .route("/debug/pprof/profile", get(cpu))
        .route("/debug/pprof/{kind}", get(missing))
}

#[derive(serde::Deserialize)]
struct Asked {
    seconds: Option<u64>,
}

async fn cpu(Query(asked): Query<Asked>) -> Response {
    let seconds = asked.seconds.unwrap_or(30);
    if !(1..=LONGEST).contains(&seconds) {
        let text = format!("seconds must be between 1 and {LONGEST}, not {seconds}\n");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    match taken(Duration::from_secs(seconds)).await {
        Ok(profile) => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream"),
                (
                    header::CONTENT_DISPOSITION,
                    "attachment; filename=\"profile\"",
                ),
            ];
            (headers, profile).into_response()
        }
        Err((status, text)) => (status, text).into_response(),
    }
}

async fn missing(Path(kind): Path<String>) -> Response {
    let text = match kind.as_str() {
        "heap" | "allocs" => {
            "the allocator of this build (mimalloc) does not note who allocates: see process_resident_memory_bytes \
             and the budgets that are logged at the start, or run the program under heaptrack\n"
        }
        "goroutine" | "threadcreate" | "block" | "mutex" | "trace" => {
            "there is no Go runtime that could tell this; /debug/pprof/profile shows where the time goes\n"
        }
        _ => return (StatusCode::NOT_FOUND, "no such profile\n").into_response(),
    };
    (StatusCode::NOT_IMPLEMENTED, text).into_response()
}

#[cfg(not(feature = "cpu-profile"))]
async fn taken(_: Duration) -> Result<Vec<u8>, (StatusCode, String)> {
    let text = "this build is without CPU profiles (feature cpu-profile)\n";
    Err((StatusCode::NOT_IMPLEMENTED, text.to_owned()))
}

/// Samples for so long; one at a time.
#[cfg(feature = "cpu-profile")]
async fn taken(time: Duration) -> Result<Vec<u8>, (StatusCode, String)> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let failed = |e: &dyn std::fmt::Display| {
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("could not take a CPU profile: {e}\n"),
        )
    };
    let Ok(_turn) = TURN.try_lock() else {
        let text = "a CPU profile is being taken; try again later\n".to_owned();
        return Err((StatusCode::SERVICE_UNAVAILABLE, text));
    };
    let began = std::time::SystemTime::now();
    let guard = pprof::ProfilerGuardBuilder::default()
        .frequency(FREQUENCY)
        // Unwinding from inside of these may wait for itself.
        .blocklist(&["libc", "libgcc", "pthread", "vdso"])
        .build()
        .map_err(|e| failed(&e))?;
    tokio::time::sleep(time).await;
    // Finding names takes a while.
    let made = tokio::task::spawn_blocking(move || {
        let report = guard.report().build()?;
        drop(guard);
        let stacks = report.data.iter().map(|(frames, count)| {
            let names = frames.frames.iter().flatten();
            let names = names.map(|s| (s.name(), s.filename().into_owned(), s.lineno.unwrap_or(0)));
            (
                names.collect::<Vec<_>>(),
                i64::try_from(*count).unwrap_or(0),
            )
        });
        Ok::<_, pprof::Error>(message::profile(stacks, i64::from(FREQUENCY), began, time))
    });
    let profile = made.await.map_err(|e| failed(&e))?;
    let profile = profile.map_err(|e| failed(&e))?;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&profile).map_err(|e| failed(&e))?;
    packed.finish().map_err(|e| failed(&e))
}

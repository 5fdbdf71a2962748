//! `/debug/pprof/`: where the time goes, in the format of Go's tools (`go tool pprof URL`), and plain
//! words about what a Go program would have to tell and this one has not.

use std::io::Write as _;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

pub mod heap;
mod message;

/// Samples a second; as Go does it.
const FREQUENCY: i32 = 100;
/// The longest profile, seconds.
const LONGEST: u64 = 600;

/// The routes.
pub fn router() -> Router {
    Router::new()
        .route("/debug/pprof/profile", get(cpu))
        .route("/debug/pprof/heap", get(memory))
        .route("/debug/pprof/allocs", get(memory))
        .route("/debug/pprof/{kind}", get(missing))
}

#[derive(serde::Deserialize)]
struct Asked {
    seconds: Option<u64>,
}

async fn cpu(Query(asked): Query<Asked>) -> Response {
    let made = match asked.time() {
        Ok(time) => taken(time).await,
        Err(refusal) => Err(refusal),
    };
    answer(made, "attachment; filename=\"profile\"")
}

/// Nothing is noted until somebody asks: what is allocated from then on is what can be told.
async fn memory(Query(asked): Query<Asked>) -> Response {
    let made = match asked.time() {
        Ok(time) => allocated(time).await,
        Err(refusal) => Err(refusal),
    };
    answer(made, "attachment; filename=\"heap\"")
}

impl Asked {
    /// How long it shall take, or what is wrong with that.
    fn time(&self) -> Result<Duration, (StatusCode, String)> {
        let seconds = self.seconds.unwrap_or(30);
        if (1..=LONGEST).contains(&seconds) {
            return Ok(Duration::from_secs(seconds));
        }
        let text = format!("seconds must be between 1 and {LONGEST}, not {seconds}\n");
        Err((StatusCode::BAD_REQUEST, text))
    }
}

fn answer(made: Result<Vec<u8>, (StatusCode, String)>, name: &'static str) -> Response {
    match made {
        Ok(profile) => {
            let kind = (header::CONTENT_TYPE, "application/octet-stream");
            ([kind, (header::CONTENT_DISPOSITION, name)], profile).into_response()
        }
        Err((status, text)) => (status, text).into_response(),
    }
}

async fn missing(Path(kind): Path<String>) -> Response {
    let text = match kind.as_str() {
        "goroutine" | "threadcreate" | "block" | "mutex" | "trace" => {
            "there is no Go runtime that could tell this; /debug/pprof/profile shows where the time goes\n"
        }
        _ => return (StatusCode::NOT_FOUND, "no such profile\n").into_response(),
    };
    (StatusCode::NOT_IMPLEMENTED, text).into_response()
}

#[cfg(not(feature = "cpu-profile"))]
async fn taken(_: Duration) -> Result<Vec<u8>, (StatusCode, String)> {
    let text = "this build is without profiles (feature cpu-profile)\n";
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
        let period = 1_000_000_000 / i64::from(FREQUENCY);
        let stacks = report.data.iter().map(|(frames, count)| {
            let names = frames.frames.iter().flatten();
            let names = names.map(|s| (s.name(), s.filename().into_owned(), s.lineno.unwrap_or(0)));
            let count = i64::try_from(*count).unwrap_or(0);
            let counts = vec![count, count.saturating_mul(period)];
            (names.collect::<Vec<_>>(), counts)
        });
        const CPU: message::Kind = ("cpu", "nanoseconds");
        let about = message::About {
            kinds: &[("samples", "count"), CPU],
            period: (CPU, period),
            began,
            took: time,
        };
        Ok::<_, pprof::Error>(message::profile(&about, stacks))
    });
    let profile = made.await.map_err(|e| failed(&e))?;
    let profile = profile.map_err(|e| failed(&e))?;
    packed(&profile).map_err(|e| failed(&e))
}

fn packed(profile: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(profile)?;
    packed.finish()
}

/// What is allocated from now on for so long, and what of it is still there in the end.
#[cfg(feature = "cpu-profile")]
async fn allocated(time: Duration) -> Result<Vec<u8>, (StatusCode, String)> {
    let failed = |e: &dyn std::fmt::Display| {
        let text = format!("could not take a heap profile: {e}\n");
        (StatusCode::INTERNAL_SERVER_ERROR, text)
    };
    let began = std::time::SystemTime::now();
    let Some(watch) = heap::Watch::begin() else {
        let text = match heap::is_there() {
            true => "a heap profile is being taken; try again later\n",
            false => "this program has another allocator, which does not tell who allocates\n",
        };
        return Err((StatusCode::SERVICE_UNAVAILABLE, text.to_owned()));
    };
    tokio::time::sleep(time).await;
    let made = tokio::task::spawn_blocking(move || {
        let about = message::About {
            kinds: &heap::KINDS,
            period: (("space", "bytes"), heap::PERIOD),
            began,
            took: time,
        };
        packed(&message::profile(&about, watch.end().into_iter()))
    });
    made.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
}

#[cfg(not(feature = "cpu-profile"))]
async fn allocated(time: Duration) -> Result<Vec<u8>, (StatusCode, String)> {
    taken(time).await
}

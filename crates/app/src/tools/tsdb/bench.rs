//! `tools tsdb bench write`: how fast samples are taken.

use std::collections::HashSet;
use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Arg, ArgMatches, Command};
use model::{Batch, Labels, Millis};
use tsdb::{Db, Options, Retention};

use super::{flag, text};

/// Between two scrapes, ms.
const INTERVAL: Millis = 30_000;
/// Series of one pretended target.
const TARGET: usize = 1000;
/// Scrapes that targets may be ahead of each other.
const ROUND: usize = 100;

/// The command line.
pub fn command() -> Command {
    Command::new("write")
        .about("Run a write performance benchmark.")
        .arg(flag("out", "Set the output path.").default_value("benchout"))
        .arg(
            flag("metrics", "Number of metrics to read.")
                .default_value("10000")
                .value_parser(clap::value_parser!(usize)),
        )
        .arg(
            flag("scrapes", "Number of scrapes to simulate.")
                .default_value("3000")
                .value_parser(clap::value_parser!(usize)),
        )
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .help("Input file with samples data: one JSON object of labels a line."),
        )
}

/// Runs it.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let number = |name: &str| m.get_one::<usize>(name).copied().unwrap_or(0);
    let out = PathBuf::from(text(m, "out").unwrap_or("benchout"));
    match std::fs::remove_dir_all(out.join("storage")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    let options = Options {
        retention: Retention::time(15 * 24 * 3_600_000),
        future_limit: None,
        maintain_every: None,
        ..Options::default()
    };
    let db = Db::open(out.join("storage"), options)?;
    let file = text(m, "file").unwrap_or_default();
    let (series, _) = stage("readData", || read(file, number("metrics")))?;
    let (total, took) = stage("ingestScrapes", || ingest(&db, &series, number("scrapes")))?;
    println!(" > total samples: {total}");
    println!(" > samples/sec: {}", total as f64 / took.as_secs_f64());
    stage("stopStorage", || Ok(db.close()?))?;
    Ok(ExitCode::SUCCESS)
}

fn stage<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    println!(">> start stage={name}");
    let started = Instant::now();
    let done = work()?;
    let took = started.elapsed();
    println!(">> completed stage={name} duration={took:?}");
    Ok((done, took))
}

/// The first `n` different sets of labels.
fn read(file: &str, n: usize) -> Result<Vec<Labels>> {
    let input = std::fs::File::open(file).with_context(|| format!("open {file}"))?;
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for line in std::io::BufReader::new(input).lines() {
        if all.len() >= n {
            break;
        }
        let line: String = line?
            .chars()
            .filter(|c| !matches!(c, '"' | '{' | '}'))
            .collect();
        let pairs = line.split(',').filter_map(|pair| pair.split_once(':'));
        let labels = Labels::from_pairs(pairs);
        if !labels.is_empty() && seen.insert(labels.clone()) {
            all.push(labels);
        }
    }
    Ok(all)
}

fn ingest(db: &Db, series: &[Labels], scrapes: usize) -> Result<u64> {
    let total = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    for round in (0..scrapes).step_by(ROUND) {
        let next = AtomicUsize::new(0);
        let targets: Vec<&[Labels]> = series.chunks(TARGET).collect();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                            let start = INTERVAL.saturating_mul(round as Millis);
                            total.fetch_add(scrape(db, target, start)?, Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|w| match w.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
    }
    println!("ingestion completed");
    Ok(total.into_inner())
}

/// A hundred scrapes of one target; how many samples were taken.
fn scrape(db: &Db, target: &[Labels], start: Millis) -> Result<u64> {
    let refs = db.resolve_now(target)?;
    let mut taken = 0;
    for i in 1..=ROUND {
        let ts = start + INTERVAL * i as Millis;
        let value = 123_456_789.0 + 1000.0 * i as f64;
        let mut batch = Batch::default();
        refs.iter().for_each(|r| batch.push(*r, ts, value));
        taken += db.append_now(batch)?.samples as u64;
    }
    Ok(taken)
}

//! `tools debug pprof|metrics|all`: takes what a server says about itself into one archive.

use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Arg, ArgMatches, Command};
use wire::client::{ClientOptions, HttpClient, HttpSettings, body};

/// Where the archive is written: into the folder that one stands in.
const ARCHIVE: &str = "debug.tar.gz";
/// No part may be larger, bytes.
const MAX_SIZE: usize = 1 << 30;

const PROFILES: [(&str, &str); 7] = [
    ("/debug/pprof/profile?seconds=30", "cpu.pb"),
    ("/debug/pprof/block", "block.pb"),
    ("/debug/pprof/goroutine", "goroutine.pb"),
    ("/debug/pprof/heap", "heap.pb"),
    ("/debug/pprof/mutex", "mutex.pb"),
    ("/debug/pprof/threadcreate", "threadcreate.pb"),
    ("/debug/pprof/trace?seconds=30", "trace.pb"),
];
const METRICS: [(&str, &str); 1] = [("/metrics", "metrics.txt")];

/// The command and everything below it.
pub fn command() -> Command {
    let part = |name, about| {
        let server = Arg::new("server").required(true).value_name("server");
        Command::new(name)
            .about(about)
            .arg(server.help("Prometheus server to ask."))
    };
    Command::new("debug")
        .about("Fetch debug information")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(part("pprof", "Fetch profiling debug information"))
        .subcommand(part("metrics", "Fetch metrics debug information"))
        .subcommand(part("all", "Fetch all debug information"))
}

/// Runs what was typed behind `debug`.
pub fn dispatch(matches: &ArgMatches) -> Result<ExitCode> {
    let Some((name, m)) = matches.subcommand() else {
        return Ok(ExitCode::from(2));
    };
    let mut parts: Vec<(&str, &str)> = Vec::new();
    if name != "metrics" {
        parts.extend(PROFILES);
    }
    if name != "pprof" {
        parts.extend(METRICS);
    }
    let server = m.get_one::<String>("server").map_or("", String::as_str);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(match runtime.block_on(collect(server, &parts)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error completing debug command: {error:#}");
            ExitCode::FAILURE
        }
    })
}

/// Writes the archive; says how many parts the server does not have.
async fn collect(server: &str, parts: &[(&str, &str)]) -> Result<usize> {
    let options = ClientOptions {
        timeout: Some(Duration::from_secs(120)),
        ..ClientOptions::default()
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = HttpClient::new(&HttpSettings::default(), options)?;
    let mut missing = 0;
    let mut taken = Vec::new();
    for (path, file) in parts {
        let url = format!("{}{path}", server.trim_end_matches('/'));
        println!("collecting: {url}");
        let answer = client.send(client.get(&url)?).await;
        let answer = answer.context("error executing HTTP request")?;
        let status = answer.status();
        if !status.is_success() {
            eprintln!("{url}: the server answers {status}; left out");
            missing += 1;
            continue;
        }
        let bytes = body(answer, MAX_SIZE).await;
        let bytes = bytes.context("error reading the response body")?;
        taken.push((*file, plain(&bytes)?));
    }
    if taken.is_empty() {
        anyhow::bail!("the server has nothing of this");
    }
    let file = std::fs::File::create(ARCHIVE)
        .with_context(|| format!("error creating archive {ARCHIVE:?}"))?;
    let packed = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    let mut archive = tar::Builder::new(packed);
    for (name, bytes) in taken {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o666);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    println!("Compiling debug information complete, all files written in {ARCHIVE:?}.");
    Ok(missing)
}

/// The bytes, unpacked if they are packed, as profiles are.
fn plain(bytes: &[u8]) -> Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes.to_vec());
    }
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .take(MAX_SIZE as u64)
        .read_to_end(&mut unpacked)
        .context("unpacking a profile")?;
    Ok(unpacked)
}

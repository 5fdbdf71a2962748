//! `s3kit`: the test server as a program, for demos and end-to-end tests.
//!
//! ```text
//! s3kit [--listen 127.0.0.1:9000] [--bucket NAME]... [--access-key K] [--secret-key S]
//!       [--latency-ms N]
//! ```
//! It prints its endpoint on the first line and runs until it is killed.

use std::process::ExitCode;
use std::time::Duration;

use s3kit::{Config, Server};

fn settings(args: impl Iterator<Item = String>) -> Result<Config, String> {
    let mut config = Config::default();
    let mut buckets = Vec::new();
    let mut args = args;
    while let Some(flag) = args.next() {
        let (flag, value) = match flag.split_once('=') {
            Some((f, v)) => (f.to_owned(), v.to_owned()),
            None => {
                let value = args.next().ok_or(format!("{flag} needs a value"))?;
                (flag, value)
            }
        };
        let bad = |e: &dyn std::fmt::Display| format!("{flag}={value}: {e}");
        match flag.as_str() {
            "--listen" => config.listen = value.parse().map_err(|e| bad(&e))?,
            "--bucket" => buckets.push(value),
            "--access-key" => config.access_key = value,
            "--secret-key" => config.secret_key = value,
            "--latency-ms" => {
                config.latency = Duration::from_millis(value.parse().map_err(|e| bad(&e))?);
            }
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    if !buckets.is_empty() {
        config.buckets = buckets;
    }
    Ok(config)
}

fn main() -> ExitCode {
    let started = settings(std::env::args().skip(1))
        .and_then(|config| Server::start(config).map_err(|e| e.to_string()));
    match started {
        Ok(server) => {
            println!("{}", server.endpoint());
            loop {
                std::thread::park();
            }
        }
        Err(e) => {
            eprintln!("s3kit: {e}");
            ExitCode::from(2)
        }
    }
}

//! Asks a server how it is.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::ArgMatches;
use wire::client::{ClientOptions, HttpClient, body};

use crate::tools::query::client::settings;

pub(super) fn run(matches: &ArgMatches, path: &str) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(match runtime.block_on(ask(matches, path)) {
        Ok(answer) => {
            eprintln!("  SUCCESS:  {answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

async fn ask(matches: &ArgMatches, path: &str) -> Result<String, String> {
    let settings = settings(matches)?;
    let given = matches.get_one::<String>("url");
    let server = given.map_or("", String::as_str).trim_end_matches('/');
    let server = match server.contains("://") {
        true => server.to_owned(),
        false => format!("http://{server}"),
    };
    let url = format!("{server}{path}");
    let options = ClientOptions {
        timeout: Some(Duration::from_secs(10)),
        ..ClientOptions::default()
    };
    // Only the first caller of a process sets it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = HttpClient::new(&settings, options).map_err(|e| e.to_string())?;
    let request = client.get(&url).map_err(|e| e.to_string())?;
    let answer = client.send(request).await.map_err(|e| e.to_string())?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(format!("check failed: URL={server}, status={status}"));
    }
    let text = body(answer, 1 << 20).await.map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

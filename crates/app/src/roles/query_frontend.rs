//! `epimetheus query-frontend`: a proxy in front of a querier, with Thanos' flags.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use api::frontend::{Frontend, FrontendOptions, Rewriting, Slow, header_name};
use api::ready::State;
use model::Cancel;
use model::time::{parse_duration, span};
use serde::Deserialize;
use wire::client::{ClientOptions, HttpClient, HttpSettings, TlsSettings};
use wire::grpc::Routes;

use crate::kingpin::{Flag, FlagError, Typed};
use crate::outpost::{Outpost, Settings, content, listed};
use crate::{flags::thanos, limits, logging};

/// The flags of this role.
pub const FLAGS: &[&[Flag]] = &[
    thanos::QUERY_FRONTEND,
    thanos::HTTP,
    thanos::REQUESTS,
    thanos::GLOBAL,
    limits::FLAGS,
    logging::FLAGS,
];

/// How often the querier is asked whether it is ready.
const LOOK: Duration = Duration::from_secs(10);
/// And while it is not.
const LOOK_FOR: Duration = Duration::from_secs(1);

/// How the querier is asked, as Thanos' transport is configured.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Tripper {
    tls_config: Option<TlsSettings>,
    response_header_timeout: Option<String>,
    idle_conn_timeout: Option<serde::de::IgnoredAny>,
    tls_handshake_timeout: Option<serde::de::IgnoredAny>,
    expect_continue_timeout: Option<serde::de::IgnoredAny>,
    max_idle_conns: Option<serde::de::IgnoredAny>,
    max_idle_conns_per_host: Option<serde::de::IgnoredAny>,
    max_conns_per_host: Option<serde::de::IgnoredAny>,
}

/// Runs the role.
pub fn run(typed: &Typed<'_>) -> Result<ExitCode> {
    logging::init(typed)?;
    let settings = Settings::without_grpc(typed, "query-frontend")?;
    let (client, head_timeout) = client(typed)?;
    let options = FrontendOptions {
        head_timeout,
        ..options(typed)?
    };
    super::warn_without_effect(typed);
    crate::runtime::run(live(settings, options, client))
}

fn options(typed: &Typed<'_>) -> Result<FrontendOptions> {
    const URL: &str = "query-frontend.downstream-url";
    let downstream = typed.required(URL)?.trim_end_matches('/').to_owned();
    match url::Url::parse(&downstream) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
        _ => {
            let message = format!("{downstream:?} is no URL of a querier, as http://querier:10902");
            return Err(typed.error(URL, message).into());
        }
    }
    let header = |flag: &str, text: &str| header_name(text).map_err(|e| typed.error(flag, e));
    const TENANT: &str = "query-frontend.tenant-header";
    const ORG: &str = "query-frontend.org-id-header";
    let tenant_header = header(TENANT, typed.required(TENANT)?)?;
    let mut org_headers = Vec::new();
    for name in listed(typed, ORG) {
        org_headers.push(header(ORG, &name)?);
    }
    if tenant_header != "thanos-tenant" {
        if !org_headers.is_empty() {
            let message = "cannot be used together with --query-frontend.tenant-header";
            return Err(typed.error(ORG, message).into());
        }
        org_headers.push(tenant_header.clone());
    }
    org_headers.push("thanos-tenant".to_owned());
    const LABELS: &str = "labels.default-time-range";
    let labels_range = typed.duration(LABELS)?;
    if labels_range == 0 {
        return Err(typed.error(LABELS, "cannot be set to 0").into());
    }
    let user_header = match typed.text("query-frontend.slow-query-logs-user-header") {
        None | Some("") => String::new(),
        Some(name) => header("query-frontend.slow-query-logs-user-header", name)?,
    };
    Ok(FrontendOptions {
        downstream,
        rewriting: Rewriting {
            align: typed.switch("query-range.align-range-with-step"),
            longest: typed.duration("query-range.max-query-length")?,
            partial_response: typed.switch("query-range.partial-response"),
            labels_partial_response: typed.switch("labels.partial-response"),
            labels_range,
        },
        range_tries: typed.number("query-range.max-retries-per-request")?,
        instant_tries: typed.number("query.max-retries-per-request")?,
        labels_tries: typed.number("labels.max-retries-per-request")?,
        tenant_header,
        slow: slow(typed)?,
        user_header,
        org_headers,
        statistics: typed.switch("query-frontend.force-query-stats"),
        cors: !typed.switch("web.disable-cors"),
        head_timeout: None,
    })
}

/// A duration, that below zero meaning all.
fn slow(typed: &Typed<'_>) -> Result<Slow, FlagError> {
    const FLAG: &str = "query-frontend.log-queries-longer-than";
    let text = typed.required(FLAG)?;
    let (below, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    Ok(
        match parse_duration(digits).map_err(|e| typed.error(FLAG, e))? {
            0 => Slow::Never,
            _ if below => Slow::Always,
            ms => Slow::Beyond(span(ms)),
        },
    )
}

/// Who asks, and how long the head of an answer may take.
fn client(typed: &Typed<'_>) -> Result<(HttpClient, Option<Duration>)> {
    const FLAG: &str = "query-frontend.downstream-tripper-config";
    let wrong = |e: String| typed.error(FLAG, e);
    let tripper: Tripper = match content(typed, FLAG)? {
        None => Tripper::default(),
        Some(text) => wire::yaml(&text).map_err(wrong)?,
    };
    if tripper.idle_conn_timeout.is_some()
        || tripper.tls_handshake_timeout.is_some()
        || tripper.expect_continue_timeout.is_some()
        || tripper.max_idle_conns.is_some()
        || tripper.max_idle_conns_per_host.is_some()
        || tripper.max_conns_per_host.is_some()
    {
        tracing::warn!(
            "--{FLAG}: how connections are kept has no effect: they are kept as they are used"
        );
    }
    let head_timeout = match tripper.response_header_timeout {
        None => None,
        Some(text) => Some(parse_duration(&text).map_err(|e| wrong(e.to_string()))?),
    };
    let settings = HttpSettings {
        tls_config: tripper.tls_config.unwrap_or_default(),
        // Redirects are for whoever asked.
        follow_redirects: false,
        ..HttpSettings::default()
    };
    let options = ClientOptions {
        // Bodies pass as they are.
        gzip: false,
        ..ClientOptions::default()
    };
    let client = HttpClient::new(&settings, options)?;
    Ok((client, head_timeout.filter(|ms| *ms > 0).map(span)))
}

async fn live(
    settings: Settings,
    options: FrontendOptions,
    client: HttpClient,
) -> Result<ExitCode> {
    let outpost = Outpost::open(settings).await?;
    let frontend = Arc::new(Frontend::new(client, options, &outpost.registry)?);
    // Whether it can answer is the querier's to say.
    let ready = api::Ready::default();
    let own = api::Options {
        ready: ready.clone(),
        ..outpost.options()
    };
    let app = api::health(own).merge(Arc::clone(&frontend).router());
    tokio::spawn(look(frontend, ready, outpost.stop.clone()));
    let opened = async { Ok(()) };
    outpost.serve_app(app, Routes::default(), opened).await
}

/// Asks the querier again and again whether it is ready.
async fn look(frontend: Arc<Frontend>, ready: api::Ready, stop: Cancel) {
    let mut before = None;
    loop {
        let looked = frontend.downstream_is_ready().await;
        let is = looked.is_ok();
        ready.set(if is { State::Ready } else { State::Starting });
        // Another reason is news too.
        if before.as_ref() != Some(&looked) {
            match &looked {
                Ok(()) => tracing::info!("the querier is ready"),
                Err(error) => tracing::warn!(error, "not ready: the querier is not"),
            }
        }
        before = Some(looked);
        tokio::select! {
            () = stop.cancelled() => {
                ready.set(State::Stopping);
                return;
            }
            () = tokio::time::sleep(if is { LOOK } else { LOOK_FOR }) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kingpin::register;

    fn read(args: &[&str]) -> Result<FrontendOptions> {
        let command = clap::Command::new("test").no_binary_name(true);
        let matches = register(command, FLAGS).try_get_matches_from(args)?;
        options(&Typed::new(&matches, FLAGS))
    }

    #[test]
    fn flags_become_options() {
        let options = read(&[
            "--query-frontend.downstream-url=http://querier:10902/prefix/",
            "--query-frontend.log-queries-longer-than=-1s",
            "--query-range.max-query-length=30d",
            "--no-query-range.align-range-with-step",
            "--query-frontend.tenant-header=X-Team",
        ])
        .unwrap();
        assert_eq!(options.downstream, "http://querier:10902/prefix");
        assert_eq!(options.slow, Slow::Always);
        assert_eq!(options.rewriting.longest, 30 * 86_400_000);
        assert!(!options.rewriting.align && options.rewriting.partial_response);
        assert_eq!(options.org_headers, ["x-team", "thanos-tenant"]);
        for wrong in [
            "--query-frontend.downstream-url=querier",
            "--labels.default-time-range=0s",
            "--query-frontend.tenant-header=a b",
        ] {
            assert!(read(&[wrong]).is_err(), "{wrong}");
        }
    }
}

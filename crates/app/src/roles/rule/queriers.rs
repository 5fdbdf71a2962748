//! Whom expressions are asked of.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use api::client::{GrpcQueriers, Querier, Queriers, QueriersOptions};
use metrics::{Counter, Registry};
use model::scope::PartialResponse;
use model::time::span;
use model::{BoxFuture, Cancel};
use promql::{Evaluator, InstantQuery, QueryError, QueryResult, RangeQuery};
use serde::Deserialize;
use wire::client::{ClientOptions, HttpClient, HttpSettings};
use wire::grpc::ChannelSettings;

use super::peers::{self, FileSd, HttpConfig};
use crate::addresses::{Lookups, Sources};
use crate::kingpin::Typed;
use crate::outpost::listed;

/// An entry of `--query.config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    http_config: HttpConfig,
    static_configs: Vec<String>,
    file_sd_configs: Vec<FileSd>,
    scheme: String,
    path_prefix: String,
    grpc_config: Option<GrpcConfig>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct GrpcConfig {
    endpoint_addresses: Vec<String>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            http_config: HttpConfig::default(),
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            scheme: "http".to_owned(),
            path_prefix: String::new(),
            grpc_config: None,
        }
    }
}

/// A group of queriers with equal settings.
#[derive(Debug)]
struct Group {
    http: HttpSettings,
    sources: Sources,
    scheme: String,
    prefix: String,
}

/// Whom to ask, and how.
#[derive(Debug)]
pub(super) struct Settings {
    groups: Vec<Group>,
    /// Those that are asked over gRPC, if none over HTTP answers.
    grpc: Vec<String>,
    options: QueriersOptions,
    dns_interval: Duration,
}

impl Settings {
    pub(super) fn from_flags(typed: &Typed<'_>) -> Result<Self> {
        let (addresses, files) = (listed(typed, "query"), listed(typed, "query.sd-files"));
        let mut grpc = listed(typed, "grpc-query-endpoint");
        let config = peers::content(typed, "query.config")?;
        let flags = !addresses.is_empty() || !files.is_empty() || !grpc.is_empty();
        let groups = match config {
            Some(_) if flags => bail!(
                "--query/--query.sd-files/--grpc-query-endpoint and --query.config* parameters cannot be defined at the same time"
            ),
            Some(text) => {
                let (groups, endpoints) =
                    parse(&text).map_err(|e| typed.error("query.config", e))?;
                grpc = endpoints;
                groups
            }
            None if !flags => bail!(
                "no query configuration parameter was given; give --query or --query.config-file"
            ),
            None => {
                for (i, address) in addresses.iter().enumerate() {
                    if addresses.iter().take(i).any(|a| a == address) {
                        bail!("Address {address} is duplicated for --query flag.");
                    }
                }
                let mut groups = addresses
                    .iter()
                    .map(|address| group_of(address))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|e| typed.error("query", e))?;
                if !files.is_empty() {
                    groups.push(Group {
                        http: HttpSettings::default(),
                        sources: Sources {
                            written: Vec::new(),
                            files,
                            refresh: typed.required("query.sd-interval")?.to_owned(),
                        },
                        scheme: "http".to_owned(),
                        prefix: String::new(),
                    });
                }
                groups
            }
        };
        let post = match typed.required("query.http-method")? {
            "POST" => true,
            "GET" => false,
            other => {
                let message = format!("enum value must be one of GET,POST, got {other:?}");
                return Err(typed.error("query.http-method", message).into());
            }
        };
        Ok(Self {
            groups,
            grpc,
            options: QueriersOptions {
                post,
                thanos_params: !typed.switch("query.only-prometheus-params"),
                ..QueriersOptions::default()
            },
            dns_interval: span(typed.duration("query.sd-dns-interval")?),
        })
    }

    /// Looks up where the queriers are, and goes on doing so.
    pub(super) async fn open(self, registry: &Registry, stop: &Cancel) -> Result<Queriers> {
        let lookups = Lookups::new("thanos_rule_query_apis_", self.dns_interval, registry)?;
        let mut queriers = Vec::new();
        for (i, group) in self.groups.into_iter().enumerate() {
            let name = format!("query-{i}");
            let known = lookups
                .follow(&name, group.sources, registry, stop.clone())
                .await?;
            let (scheme, prefix) = (group.scheme, group.prefix);
            queriers.push(Querier {
                client: HttpClient::new(&group.http, ClientOptions::default())?,
                urls: Arc::new(move || {
                    let addresses = known.borrow();
                    let url = |address: &String| format!("{scheme}://{address}{prefix}");
                    addresses.iter().map(url).collect()
                }),
            });
        }
        let sources = Sources {
            written: self.grpc,
            ..Sources::default()
        };
        let known = lookups
            .follow("grpc-query", sources, registry, stop.clone())
            .await?;
        let grpc = GrpcQueriers::new(
            Arc::new(move || Vec::clone(&known.borrow())),
            ChannelSettings::default(),
        );
        Ok(Queriers::new(queriers, grpc, self.options))
    }
}

/// The querier at an address of `--query`: a URL, or `host:port`, perhaps to be looked up.
fn group_of(address: &str) -> Result<Group, String> {
    let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
    if scheme != "http" && scheme != "https" {
        return Err(format!("{scheme:?} is not supported scheme for address"));
    }
    let (host, path) = match rest.split_once('/') {
        Some((host, path)) => (host, path),
        None => (rest, ""),
    };
    if host.is_empty() {
        return Err("static address cannot be empty".to_owned());
    }
    Ok(Group {
        http: HttpSettings::default(),
        sources: Sources {
            written: vec![host.to_owned()],
            ..Sources::default()
        },
        scheme: scheme.to_owned(),
        prefix: peers::prefix(path),
    })
}

/// The groups of `--query.config`, and the endpoints that are asked over gRPC.
fn parse(text: &str) -> Result<(Vec<Group>, Vec<String>), String> {
    let entries: Vec<Entry> = wire::yaml(text)?;
    let (mut groups, mut endpoints) = (Vec::new(), Vec::new());
    for entry in entries {
        endpoints.extend(
            entry
                .grpc_config
                .into_iter()
                .flat_map(|g| g.endpoint_addresses),
        );
        for sources in peers::sources(entry.static_configs, entry.file_sd_configs) {
            groups.push(Group {
                http: entry.http_config.settings()?,
                sources,
                scheme: entry.scheme.clone(),
                prefix: peers::prefix(&entry.path_prefix),
            });
        }
    }
    Ok((groups, endpoints))
}

/// Counts and logs the warnings of answers: what they say is missing, a rule cannot tell.
pub(super) struct Warned {
    inner: Arc<dyn Evaluator>,
    abort: Counter,
    warn: Counter,
}

impl Warned {
    pub(super) fn new(inner: Arc<dyn Evaluator>, registry: &Registry) -> Result<Self> {
        let family = registry.counters(
            "thanos_rule_evaluation_with_warnings_total",
            "The total number of rule evaluation that were successful but had non PromQL warnings which can indicate partial error.",
            ["strategy"],
        )?;
        Ok(Self {
            inner,
            abort: family.with(&["abort"]),
            warn: family.with(&["warn"]),
        })
    }
}

impl Evaluator for Warned {
    fn instant(&self, query: InstantQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        let counter = match query.options.partial_response {
            PartialResponse::Abort => self.abort.clone(),
            PartialResponse::Warn => self.warn.clone(),
        };
        let expr = Arc::clone(&query.expr);
        let asked = self.inner.instant(query);
        Box::pin(async move {
            let answer = asked.await?;
            let warnings: Vec<&str> = answer.warnings.iter().map(|w| &**w).collect();
            if !warnings.is_empty() {
                tracing::warn!(warnings = warnings.join(", "), query = %expr, "a querier warns");
            }
            if warnings.iter().any(|w| !w.starts_with("PromQL ")) {
                counter.inc();
            }
            Ok(answer)
        })
    }

    fn range(&self, query: RangeQuery) -> BoxFuture<'static, Result<QueryResult, QueryError>> {
        self.inner.range(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls_or_hosts() {
        let of = |address| {
            let group = group_of(address).unwrap();
            let host = group.sources.written[0].clone();
            (group.scheme, host, group.prefix)
        };
        let strings = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(of("q:9090"), strings("http", "q:9090", ""));
        assert_eq!(
            of("https://dns+q:9090/thanos/"),
            strings("https", "dns+q:9090", "/thanos")
        );
        assert_eq!(
            of("dnssrv+_http._tcp.query"),
            strings("http", "dnssrv+_http._tcp.query", "")
        );
        assert!(group_of("ftp://q").is_err());
        assert!(group_of("").is_err());
    }

    #[test]
    fn a_file_of_queriers_is_read() {
        let text = "- http_config: {basic_auth: {username: u, password: p}, transport_config: {max_idle_conns: 3}}\n  static_configs: ['dns+q:9090']\n  scheme: https\n  path_prefix: /thanos\n- file_sd_configs: [{files: [a.json, 'b/*.yml'], refresh_interval: 1m}]\n- grpc_config: {endpoint_addresses: ['q:10901']}\n";
        let (groups, grpc) = parse(text).unwrap();
        assert_eq!(groups.len(), 2);
        assert_eq!(
            (groups[0].scheme.as_str(), groups[0].prefix.as_str()),
            ("https", "/thanos")
        );
        let user = groups[0].http.basic_auth.as_ref().unwrap();
        assert_eq!(user.username, "u");
        assert_eq!(groups[1].sources.refresh, "1m");
        assert!(parse("- static_config: [a]").is_err());
        assert_eq!(grpc, ["q:10901"]);
    }
}

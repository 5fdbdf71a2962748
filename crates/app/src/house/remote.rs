//! `remote_write` and `remote_read` sections as the rooms that obey them understand them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ingest::receive::Message;
use ingest::send::{Queue, Settings};
use metrics::{Family, Gauge, Registry};
use model::time::span;
use model::{Labels, Source, relabel};
use store::{Proxy, RemoteRead, RemoteReadOptions};
use tokio::runtime::Handle;
use wire::client::{ClientOptions, HttpClient};

use super::signing;
use crate::config::{AzureAd, Config, RemoteWrite};

/// What is to be sent where, under a configuration that was judged.
pub fn writes(config: &Config, external_labels: &Labels) -> Result<Vec<Settings>> {
    let scheme = config.scheme();
    config
        .remote_write
        .iter()
        .map(|remote| {
            let url = remote.url();
            let relabel = relabel::compile(&remote.write_relabel_configs, scheme)
                .with_context(|| format!("remote_write {:?}", url.redacted()))?;
            let fingerprint = format!("{remote:?} {external_labels}");
            let hash = fingerprint_hash(&format!("{:?}", url.redacted()));
            let name = match remote.name.as_str() {
                // Nameless ones are told apart by a few letters of a hash, as Prometheus does it.
                "" => hash,
                name => name.to_owned(),
            };
            let mut http = remote.http.clone();
            if let Some(login) = remote.azuread.as_ref().and_then(AzureAd::login) {
                http.oauth2 = Some(login);
            }
            let signer = match (&remote.sigv4, &remote.google_iam) {
                (Some(section), _) => signing::signer(section).map(Some),
                (None, Some(section)) => signing::google(&section.credentials_file).map(Some),
                (None, None) => Ok(None),
            };
            Ok(Settings {
                name,
                url: url.as_str().to_owned(),
                shown_url: url.redacted().to_string(),
                http,
                signer: signer.with_context(|| format!("remote_write {:?}", url.redacted()))?,
                round_robin: remote.round_robin_dns,
                timeout: span(remote.remote_timeout.0),
                headers: remote.headers.clone(),
                relabel,
                fingerprint,
                external_labels: external_labels.clone(),
                exemplars: remote.send_exemplars,
                histograms: remote.send_native_histograms,
                message: remote.protobuf_message.parse().unwrap_or(Message::V1),
                queue: queue(remote),
                metadata_every: remote
                    .metadata_config
                    .send
                    .then(|| span(remote.metadata_config.send_interval.0))
                    .filter(|every| *every > Duration::ZERO),
                metadata_most: positive(remote.metadata_config.max_samples_per_send),
            })
        })
        .collect()
}

fn positive(n: i64) -> usize {
    usize::try_from(n).unwrap_or(1).max(1)
}

fn queue(remote: &RemoteWrite) -> Queue {
    let queue = &remote.queue_config;
    Queue {
        capacity: positive(queue.capacity),
        max_shards: positive(queue.max_shards),
        min_shards: positive(queue.min_shards),
        most: positive(queue.max_samples_per_send),
        deadline: span(queue.batch_send_deadline.0),
        min_backoff: span(queue.min_backoff.0),
        max_backoff: span(queue.max_backoff.0),
        retry_on_429: queue.retry_on_http_429,
        sample_age_limit: span(queue.sample_age_limit.0),
    }
}

fn fingerprint_hash(text: &str) -> String {
    let labels = Labels::from_pairs([("url", text)]);
    format!("{:016x}", labels.hash64())
        .chars()
        .take(6)
        .collect()
}

/// How many questions each remote is answering now, by name and URL.
pub fn asked(registry: &Registry) -> Result<Family<Gauge, 2>, metrics::Error> {
    registry.gauges(
        "prometheus_remote_read_client_queries",
        "The number of in-flight remote read queries.",
        ["remote_name", "url"],
    )
}

/// The local source, and beside it what is to be read remotely.
pub fn reads(
    config: &Config,
    external_labels: &Labels,
    local: &Arc<dyn Source>,
    db: &Arc<tsdb::Db>,
    asked: &Family<Gauge, 2>,
) -> Result<Arc<dyn Source>> {
    asked.clear();
    if config.remote_read.is_empty() {
        return Ok(Arc::clone(local));
    }
    let mut children: Vec<(model::Str, Arc<dyn Source>)> =
        vec![("local".into(), Arc::clone(local))];
    for remote in &config.remote_read {
        let url = remote.url();
        let client = HttpClient::new(&remote.http, ClientOptions::default())
            .with_context(|| format!("remote_read {:?}", url.redacted()))?;
        let local_from = (!remote.read_recent).then(|| {
            let db = Arc::clone(db);
            Arc::new(move || db.ordered_from()) as Arc<dyn Fn() -> Option<i64> + Send + Sync>
        });
        let options = RemoteReadOptions {
            client,
            url: url.as_str().to_owned(),
            timeout: span(remote.remote_timeout.0),
            headers: remote.headers.clone().into_iter().collect(),
            required: remote.required_matchers.0.clone(),
            external_labels: match remote.filter_external_labels {
                true => external_labels.clone(),
                false => Labels::default(),
            },
            local_from,
            asked: asked.with(&[&remote.name, &url.redacted()]),
        };
        let source = RemoteRead::new(options, Handle::current());
        let name = match remote.name.as_str() {
            "" => url.redacted(),
            name => name.to_owned(),
        };
        children.push((name.into(), Arc::new(source)));
    }
    Ok(Arc::new(Proxy::new(children, Handle::current())))
}

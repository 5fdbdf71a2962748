//! What is pushed and read by other servers: receivers of remote write and OTLP, remote read.

use std::sync::Arc;

use anyhow::Result;
use ingest::Receiver;
use ingest::receive::{Message, Options, OtlpSettings};
use metrics::Registry;
use model::Sink;
use tokio::sync::Semaphore;

use super::settings::asked;
use crate::config::Config;
use crate::kingpin::Typed;

/// What the flags say.
pub struct Settings {
    /// Messages of remote write that are taken; none: it is off.
    accepted: Vec<Message>,
    otlp: bool,
    /// Deltas over OTLP are taken as they are (`otlp-native-delta-ingestion`).
    pub native_delta: bool,
    /// Metadata of series is logged (`metadata-wal-records`).
    pub metadata: bool,
    /// Limits of remote read.
    pub read: api::ReadLimits,
}

impl Settings {
    /// As the flags say.
    pub fn from_flags(typed: &Typed<'_>) -> Result<Self> {
        const ACCEPTED: &str = "web.remote-write-receiver.accepted-protobuf-messages";
        let mut accepted = Vec::new();
        for name in typed.list(ACCEPTED) {
            for name in name.split(',') {
                accepted.push(name.trim().parse().map_err(|e| typed.error(ACCEPTED, e))?);
            }
        }
        if accepted.is_empty() {
            accepted = vec![Message::V1, Message::V2];
        }
        if !typed.switch("web.enable-remote-write-receiver") {
            accepted.clear();
        }
        let samples: f64 = typed.number("storage.remote.read-sample-limit")?;
        Ok(Self {
            accepted,
            otlp: typed.switch("web.enable-otlp-receiver"),
            native_delta: asked(typed, "otlp-native-delta-ingestion"),
            metadata: asked(typed, "metadata-wal-records"),
            read: api::ReadLimits {
                samples: samples.max(0.0) as u64,
                concurrent: Arc::new(Semaphore::new(
                    typed.number("storage.remote.read-concurrent-limit")?,
                )),
                frame_bytes: typed.number("storage.remote.read-max-bytes-in-frame")?,
            },
        })
    }

    /// The receiver, if anything is to be received.
    pub fn receiver(&self, sink: Arc<dyn Sink>, registry: &Registry) -> Result<Option<Receiver>> {
        if self.accepted.is_empty() && !self.otlp {
            return Ok(None);
        }
        let options = Options {
            accepted: self.accepted.clone(),
            metadata: self.metadata,
            ..Options::default()
        };
        Ok(Some(Receiver::new(sink, options, registry)?))
    }

    /// Puts the routes of a receiver into the API.
    pub fn serve(&self, receiver: &Receiver, options: &mut api::Options) {
        options.remote_write = (!self.accepted.is_empty()).then(|| receiver.remote_write());
        options.otlp = self.otlp.then(|| receiver.otlp());
    }

    /// How OTLP is taken in under a configuration that was judged.
    pub fn otlp(&self, config: &Config) -> OtlpSettings {
        let said = config.otlp.clone().unwrap_or_default();
        OtlpSettings {
            promote_all_but: said
                .promote_all_resource_attributes
                .then_some(said.ignore_resource_attributes),
            promote: said.promote_resource_attributes,
            strategy: said.translation_strategy.parse().unwrap_or_default(),
            keep_identifying: said.keep_identifying_resource_attributes,
            convert_histograms: said.convert_histograms_to_nhcb,
            promote_scope: said.promote_scope_metadata,
            sanitize_underscore: said.label_name_underscore_sanitization,
            preserve_underscores: said.label_name_preserve_multiple_underscores,
            native_delta: self.native_delta,
        }
    }
}

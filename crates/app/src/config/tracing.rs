//! The `tracing` section.

use std::collections::BTreeMap;

use model::settings;
use model::settings::Duration;
use wire::client::{TlsSettings, is_reserved_header};

use crate::traces::{self, Collector, Protocol, Sampling};

settings! {
    /// Where traces go.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Tracing ("config.plain") check(Tracing::judge) {
        /// `grpc` or `http`.
        pub client_type ("client_type"): String = "grpc".to_owned();
        /// The collector's address.
        pub endpoint ("endpoint"): String;
        /// Share of traces that are sent.
        pub sampling_fraction ("sampling_fraction"): f64;
        /// Without TLS.
        pub insecure ("insecure"): bool;
        /// With these certificates.
        pub tls_config ("tls_config"): TlsSettings;
        /// Headers to add.
        pub headers ("headers"): BTreeMap<String, String>;
        /// `gzip`, or nothing.
        pub compression ("compression"): String;
        /// How long sending may take.
        pub timeout ("timeout"): Duration;
    }
}

impl From<Tracing> for traces::Settings {
    fn from(section: Tracing) -> Self {
        let own = [
            ("service.name", "prometheus"),
            ("service.version", env!("CARGO_PKG_VERSION")),
        ];
        Self {
            collector: Collector {
                protocol: match section.client_type.as_str() {
                    "http" => Protocol::Http {
                        path: "/v1/traces".to_owned(),
                    },
                    _ => Protocol::Grpc,
                },
                endpoint: section.endpoint,
                insecure: section.insecure,
                tls: section.tls_config,
                headers: section.headers,
                gzip: section.compression == "gzip",
                timeout: match section.timeout.0 {
                    0 => None,
                    timeout => Some(model::time::span(timeout)),
                },
            },
            sampling: Sampling {
                share: section.sampling_fraction,
                by_parent: true,
                forced: false,
            },
            resource: own.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        }
    }
}

impl Tracing {
    fn judge(&mut self) -> Result<(), String> {
        if !matches!(self.client_type.as_str(), "grpc" | "http") {
            return Err(format!(
                "expected tracing client type to be to be http or grpc, but got {}",
                self.client_type
            ));
        }
        for header in self.headers.keys() {
            if header.eq_ignore_ascii_case("authorization") {
                return Err(
                    "custom authorization header configuration is not yet supported".to_owned(),
                );
            }
            if is_reserved_header(header) {
                return Err(format!(
                    "{header} is a reserved header. It must not be changed"
                ));
            }
        }
        if self.endpoint.is_empty() {
            return Err("tracing endpoint must be set".to_owned());
        }
        match self.compression.as_str() {
            "" | "gzip" => Ok(()),
            other => Err(format!(
                "invalid compression type {other} provided, valid options: gzip"
            )),
        }
    }
}

//! One entry of `scrape_configs`.

use std::collections::BTreeMap;
use std::path::Path;

use model::relabel::{self, NameScheme};
use model::settings;
use model::settings::{Bytes, Duration, join_folder};
use wire::client::HttpSettings;

use super::{Global, check_protocols};
use crate::parse::{EscapingScheme, ScrapeProtocol};
use discovery::config::Discovery;

settings! {
    /// A job: where its targets come from, how they are asked and what is kept of their answers.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ScrapeConfig ("config.ScrapeConfig") null("empty or null scrape config section")
        check(ScrapeConfig::judge)
    {
        inline {
            /// Where the targets come from.
            discovery: Discovery = Discovery::default(),
            /// How to talk to them.
            http: HttpSettings = HttpSettings::default(),
        }
        /// The job's name.
        pub job_name ("job_name"): String => always;
        /// Keep the scraped labels where they clash with the target's.
        pub honor_labels ("honor_labels"): bool;
        /// Take the timestamps of the samples.
        pub honor_timestamps ("honor_timestamps"): bool = true => always;
        /// Mark series stale even if their samples have timestamps.
        pub track_timestamps_staleness ("track_timestamps_staleness"): bool => always;
        /// Parameters of the URL.
        pub params ("params"): BTreeMap<String, Vec<String>>;
        /// How often; 0 until completed.
        pub scrape_interval ("scrape_interval"): Duration;
        /// How long a scrape may take; 0 until completed.
        pub scrape_timeout ("scrape_timeout"): Duration;
        /// Formats to ask for, best first.
        pub scrape_protocols ("scrape_protocols"): Option<Vec<String>>;
        /// What to take an answer for that does not say what it is.
        pub fallback_scrape_protocol ("fallback_scrape_protocol"): String;
        /// Scrape native histograms.
        pub scrape_native_histograms ("scrape_native_histograms"): Option<bool>;
        /// Scrape classic histograms beside native ones.
        pub always_scrape_classic_histograms ("always_scrape_classic_histograms"): Option<bool>;
        /// Make native histograms of classic ones.
        pub convert_classic_histograms_to_nhcb ("convert_classic_histograms_to_nhcb"): Option<bool>;
        /// Where failed scrapes are logged.
        pub scrape_failure_log_file ("scrape_failure_log_file"): String;
        /// The path of the URL.
        pub metrics_path ("metrics_path"): String = "/metrics".to_owned();
        /// `http` or `https`.
        pub scheme ("scheme"): String = "http".to_owned();
        /// Ask for gzip.
        pub enable_compression ("enable_compression"): bool = true => always;
        /// Biggest body, uncompressed; 0 for no limit, as all limits.
        pub body_size_limit ("body_size_limit"): Bytes;
        /// Most samples of a scrape after relabelling.
        pub sample_limit ("sample_limit"): u64;
        /// Most targets after relabelling.
        pub target_limit ("target_limit"): u64;
        /// Most labels of a sample.
        pub label_limit ("label_limit"): u64;
        /// Longest label name.
        pub label_name_length_limit ("label_name_length_limit"): u64;
        /// Longest label value.
        pub label_value_length_limit ("label_value_length_limit"): u64;
        /// Most buckets of a native histogram.
        pub native_histogram_bucket_limit ("native_histogram_bucket_limit"): u64;
        /// Smallest growth from bucket to bucket of a native histogram.
        pub native_histogram_min_bucket_factor ("native_histogram_min_bucket_factor"): f64;
        /// Most dropped targets to remember; 0 for all.
        pub keep_dropped_targets ("keep_dropped_targets"): u64;
        /// Which names are valid.
        pub metric_name_validation_scheme ("metric_name_validation_scheme"):
            Option<NameScheme>;
        /// How targets shall write other names.
        pub metric_name_escaping_scheme ("metric_name_escaping_scheme"): String;
        /// Report timeout, limit and body size of each scrape too.
        pub extra_scrape_metrics ("extra_scrape_metrics"): Option<bool>;
        /// What becomes of targets.
        pub relabel_configs ("relabel_configs"): Vec<relabel::Config>,
            nulls "empty or null target relabeling rule in scrape config";
        /// What becomes of samples.
        pub metric_relabel_configs ("metric_relabel_configs"): Vec<relabel::Config>,
            nulls "empty or null metric relabeling rule in scrape config";
    }
}

impl ScrapeConfig {
    fn judge(&mut self) -> Result<(), String> {
        if self.job_name.is_empty() {
            return Err("job_name is empty".to_owned());
        }
        // Relabelling may mend an address; without it a URL in its place is a mistake.
        if self.relabel_configs.is_empty() {
            self.discovery.check_static_addresses()?;
        }
        Ok(())
    }

    /// Fills in what the globals say, and judges the whole.
    pub fn complete(&mut self, global: &Global) -> Result<(), String> {
        let job = self.job_name.clone();
        let at = move |e: String| format!("{e} for scrape config with job name {job:?}");
        if self.scrape_interval.0 == 0 {
            self.scrape_interval = global.scrape_interval;
        }
        if self.scrape_timeout > self.scrape_interval {
            return Err(at("scrape timeout greater than scrape interval".to_owned()));
        }
        if self.scrape_timeout.0 == 0 {
            self.scrape_timeout = global.scrape_timeout.min(self.scrape_interval);
        }
        if self.body_size_limit.0 == 0 {
            self.body_size_limit = global.body_size_limit;
        }
        for (own, common) in [
            (&mut self.sample_limit, global.sample_limit),
            (&mut self.target_limit, global.target_limit),
            (&mut self.label_limit, global.label_limit),
            (
                &mut self.label_name_length_limit,
                global.label_name_length_limit,
            ),
            (
                &mut self.label_value_length_limit,
                global.label_value_length_limit,
            ),
            (&mut self.keep_dropped_targets, global.keep_dropped_targets),
        ] {
            if *own == 0 {
                *own = common;
            }
        }
        if self.scrape_failure_log_file.is_empty() {
            self.scrape_failure_log_file = global.scrape_failure_log_file.clone();
        }
        self.scrape_native_histograms = self
            .scrape_native_histograms
            .or(global.scrape_native_histograms);
        self.extra_scrape_metrics = self.extra_scrape_metrics.or(global.extra_scrape_metrics);
        self.convert_classic_histograms_to_nhcb
            .get_or_insert(global.convert_classic_histograms_to_nhcb);
        self.always_scrape_classic_histograms
            .get_or_insert(global.always_scrape_classic_histograms);
        self.complete_protocols(global, &at)?;
        self.complete_names(global)?;
        let scheme = self.validation();
        for rule in self
            .relabel_configs
            .iter()
            .chain(&self.metric_relabel_configs)
        {
            rule.compile(scheme).map(drop).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn complete_protocols(
        &mut self,
        global: &Global,
        at: impl Fn(String) -> String,
    ) -> Result<(), String> {
        if self.scrape_protocols.is_none() {
            self.scrape_protocols = match &global.scrape_protocols {
                Some(protocols) => Some(protocols.clone()),
                None => {
                    let first = self.scrape_native_histograms == Some(true);
                    let first = first.then_some(ScrapeProtocol::PrometheusProto);
                    let all = first.into_iter().chain(ScrapeProtocol::DEFAULT);
                    Some(all.map(|p| p.as_str().to_owned()).collect())
                }
            };
        }
        check_protocols(self.scrape_protocols.as_deref().unwrap_or_default()).map_err(&at)?;
        if !self.fallback_scrape_protocol.is_empty() {
            self.fallback_scrape_protocol
                .parse::<ScrapeProtocol>()
                .map_err(|e| at("invalid fallback_scrape_protocol".to_owned()) + ": " + &e)?;
        }
        Ok(())
    }

    fn complete_names(&mut self, global: &Global) -> Result<(), String> {
        let global_scheme = global
            .metric_name_validation_scheme
            .unwrap_or(NameScheme::Utf8);
        let usual = |scheme| match scheme {
            NameScheme::Legacy => EscapingScheme::Underscores,
            NameScheme::Utf8 => EscapingScheme::AllowUtf8,
        };
        let known = |what: &str, name: &str| {
            name.parse::<EscapingScheme>().map_err(|_| {
                format!(
                    "unknown {what} name escaping method specified, must be one of 'allow-utf-8', \
                     'underscores', 'dots', or 'values', got {name:?}"
                )
            })
        };
        let global_escaping = match global.metric_name_escaping_scheme.as_str() {
            "" => usual(global_scheme),
            name => known("global", name)?,
        };
        // A job that sets its own scheme does not take over the global way of escaping.
        let inherited = match self.metric_name_validation_scheme {
            None => global_escaping,
            Some(own) => usual(own),
        };
        let scheme = *self
            .metric_name_validation_scheme
            .get_or_insert(global_scheme);
        let escaping = match self.metric_name_escaping_scheme.as_str() {
            "" => inherited,
            name => known("scrape config", name)?,
        };
        if escaping == EscapingScheme::AllowUtf8 && scheme != NameScheme::Utf8 {
            return Err(
                "utf8 metric names requested but validation scheme is not set to UTF8".to_owned(),
            );
        }
        self.metric_name_escaping_scheme = escaping.as_str().to_owned();
        Ok(())
    }

    /// Which names are valid.
    pub fn validation(&self) -> NameScheme {
        self.metric_name_validation_scheme
            .unwrap_or(NameScheme::Utf8)
    }

    /// How targets shall write other names.
    pub fn escaping(&self) -> EscapingScheme {
        self.metric_name_escaping_scheme.parse().unwrap_or_default()
    }

    /// The formats to ask for.
    pub fn protocols(&self) -> Vec<ScrapeProtocol> {
        let names = self.scrape_protocols.as_deref().unwrap_or_default();
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// What to take an answer for that does not say what it is.
    pub fn fallback(&self) -> Option<ScrapeProtocol> {
        self.fallback_scrape_protocol.parse().ok()
    }

    /// The keys that are set and that this version cannot obey.
    pub fn unsupported(&self) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        keys.extend(self.discovery.unsupported().into_iter().map(str::to_owned));
        keys.extend(self.http.unsupported().into_iter().map(str::to_owned));
        keys
    }

    /// Takes the files that are named relative to `folder`.
    pub fn set_folder(&mut self, folder: &Path) {
        self.http.set_folder(folder);
        self.discovery.set_folder(folder);
        join_folder(folder, &mut self.scrape_failure_log_file);
    }
}

//! The scraping part of `prometheus.yml`: `global` and `scrape_configs`, as Prometheus 3.14 reads
//! them (`config/config.go`).
//!
//! What was typed is read first; [`ScrapeConfig::complete`] then fills in what the globals say and
//! judges the whole. Files are named relative to the configuration file: `set_folder`.

mod external;
mod job;

use model::relabel::NameScheme;
use model::settings;
use model::settings::{Bytes, Duration};

pub use external::{LabelMap, expand};
pub use job::ScrapeConfig;

use crate::parse::ScrapeProtocol;

settings! {
    /// The `global` section.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Global ("config.plain") check(Global::complete) {
        /// How often targets are scraped.
        pub scrape_interval ("scrape_interval"): Duration = Duration(60_000);
        /// How long a scrape may take; 0 until completed.
        pub scrape_timeout ("scrape_timeout"): Duration;
        /// Formats to ask for, best first.
        pub scrape_protocols ("scrape_protocols"): Option<Vec<String>>;
        /// How often rules are evaluated.
        pub evaluation_interval ("evaluation_interval"): Duration = Duration(60_000);
        /// How far in the past rules are evaluated.
        pub rule_query_offset ("rule_query_offset"): Duration;
        /// Where queries are logged.
        pub query_log_file ("query_log_file"): String;
        /// Where failed scrapes are logged.
        pub scrape_failure_log_file ("scrape_failure_log_file"): String;
        /// Labels of everything that leaves this process.
        pub external_labels ("external_labels"): LabelMap;
        /// Biggest body, uncompressed; 0 for no limit, as all limits.
        pub body_size_limit ("body_size_limit"): Bytes;
        /// Most samples of a scrape after relabelling.
        pub sample_limit ("sample_limit"): u64;
        /// Most targets of a job after relabelling.
        pub target_limit ("target_limit"): u64;
        /// Most labels of a sample.
        pub label_limit ("label_limit"): u64;
        /// Longest label name.
        pub label_name_length_limit ("label_name_length_limit"): u64;
        /// Longest label value.
        pub label_value_length_limit ("label_value_length_limit"): u64;
        /// Most dropped targets to remember per job; 0 for all.
        pub keep_dropped_targets ("keep_dropped_targets"): u64;
        /// Which names are valid.
        pub metric_name_validation_scheme ("metric_name_validation_scheme"):
            Option<NameScheme>;
        /// How targets shall write other names.
        pub metric_name_escaping_scheme ("metric_name_escaping_scheme"): String;
        /// Scrape native histograms; not supported in use.
        pub scrape_native_histograms ("scrape_native_histograms"): Option<bool>;
        /// Make native histograms of classic ones; not supported in use.
        pub convert_classic_histograms_to_nhcb ("convert_classic_histograms_to_nhcb"): bool;
        /// Scrape classic histograms beside native ones.
        pub always_scrape_classic_histograms ("always_scrape_classic_histograms"): bool;
        /// Report timeout, limit and body size of each scrape too.
        pub extra_scrape_metrics ("extra_scrape_metrics"): Option<bool>;
    }
}

impl Global {
    /// Fills in what was not said, and judges the whole. Doing it twice changes nothing.
    pub fn complete(&mut self) -> Result<(), String> {
        let scheme = *self
            .metric_name_validation_scheme
            .get_or_insert(NameScheme::Utf8);
        self.external_labels.check(scheme)?;
        if self.scrape_interval.0 == 0 {
            self.scrape_interval = Duration(60_000);
        }
        if self.scrape_timeout > self.scrape_interval {
            return Err("global scrape timeout greater than scrape interval".to_owned());
        }
        if self.scrape_timeout.0 == 0 {
            self.scrape_timeout = Duration(10_000).min(self.scrape_interval);
        }
        if self.evaluation_interval.0 == 0 {
            self.evaluation_interval = Duration(60_000);
        }
        if let Some(protocols) = &self.scrape_protocols {
            check_protocols(protocols).map_err(|e| format!("{e} for global config"))?;
        }
        self.scrape_native_histograms.get_or_insert(false);
        self.extra_scrape_metrics.get_or_insert(false);
        Ok(())
    }

    /// Takes the files that are named relative to `folder`.
    pub fn set_folder(&mut self, folder: &std::path::Path) {
        model::settings::join_folder(folder, &mut self.query_log_file);
        model::settings::join_folder(folder, &mut self.scrape_failure_log_file);
    }
}

settings! {
    /// A file of `scrape_config_files`.
    #[derive(Clone, Debug)]
    pub struct ScrapeConfigs ("config.ScrapeConfigs") {
        /// Its jobs.
        pub scrape_configs ("scrape_configs"): Vec<ScrapeConfig>,
            nulls "empty or null scrape config section";
    }
}

/// Judges a list of `scrape_protocols`.
fn check_protocols(names: &[String]) -> Result<(), String> {
    if names.is_empty() {
        return Err("scrape_protocols cannot be empty".to_owned());
    }
    for (i, name) in names.iter().enumerate() {
        let before = names.get(..i).unwrap_or_default();
        if before.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            let all = names.join(" ");
            return Err(format!(
                "duplicated protocol in scrape_protocols, got [{all}]"
            ));
        }
        name.parse::<ScrapeProtocol>()
            .map_err(|e| format!("scrape_protocols: {e}"))?;
    }
    Ok(())
}

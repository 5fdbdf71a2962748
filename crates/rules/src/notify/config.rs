//! The `alerting` section.

use std::path::Path;

use discovery::config::{Discovery, check_address};
use model::Labels;
use model::relabel::{self, NameScheme};
use model::settings;
use model::settings::{Blank, Duration};
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use wire::client::{HttpSettings, SigV4};

settings! {
    /// Where alerts go, and what becomes of them on the way.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Alerting ("config.plain") {
        /// What becomes of every alert.
        pub alert_relabel_configs ("alert_relabel_configs"): Vec<relabel::Config>,
            nulls "empty or null alert relabeling rule";
        /// Who is told.
        pub alertmanagers ("alertmanagers"): Vec<Alertmanager>,
            nulls "empty or null Alertmanager config section";
    }
}

settings! {
    /// A group of Alertmanagers.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Alertmanager ("config.AlertmanagerConfig") check(Alertmanager::judge) {
        inline {
            /// Where they are.
            discovery: Discovery = Discovery::default(),
            /// How to talk to them.
            http: HttpSettings = HttpSettings::default(),
        }
        /// AWS' signatures.
        pub sigv4 ("sigv4"): Option<SigV4>;
        /// `http` or `https`.
        pub scheme ("scheme"): String = "http".to_owned();
        /// What stands before `/api/v2/alerts`.
        pub path_prefix ("path_prefix"): String;
        /// How long sending may take.
        pub timeout ("timeout"): Duration = Duration(10_000);
        /// Always v2.
        pub api_version ("api_version"): ApiVersion = ApiVersion => always;
        /// What becomes of the targets.
        pub relabel_configs ("relabel_configs"): Vec<relabel::Config>,
            nulls "empty or null Alertmanager target relabeling rule";
        /// What becomes of the alerts for this group.
        pub alert_relabel_configs ("alert_relabel_configs"): Vec<relabel::Config>,
            nulls "empty or null Alertmanager alert relabeling rule";
    }
}

impl Alertmanager {
    /// Fails if what relabelling makes of a static target is a URL, which people write by mistake.
    pub fn check_target(
        &self,
        group: &Labels,
        target: &str,
        scheme: NameScheme,
    ) -> Result<(), String> {
        let rules = relabel::compile(&self.relabel_configs, scheme).map_err(|e| e.to_string())?;
        let own = Labels::from_pairs([(super::ADDRESS, target), (super::SCHEME, &self.scheme)]);
        let after = relabel::process(&group.overlay(&own), &rules);
        let address = after.as_ref().and_then(|labels| labels.get(super::ADDRESS));
        address.map_or(Ok(()), check_address)
    }

    /// The keys that are set and that this version cannot obey.
    pub fn unsupported(&self) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        keys.extend(self.discovery.unsupported().into_iter().map(str::to_owned));
        keys.extend(self.http.unsupported().into_iter().map(str::to_owned));
        keys
    }

    fn judge(&mut self) -> Result<(), String> {
        let http = &self.http;
        let auth =
            http.basic_auth.is_some() || http.authorization.is_some() || http.oauth2.is_some();
        if auth && self.sigv4.is_some() {
            return Err(
                "at most one of basic_auth, authorization, oauth2, & sigv4 must be configured"
                    .to_owned(),
            );
        }
        if self.relabel_configs.is_empty() {
            self.discovery.check_static_addresses()?;
        }
        Ok(())
    }
}

impl Alerting {
    /// Judges the relabelling rules.
    pub fn check_rules(&self, scheme: NameScheme) -> Result<(), String> {
        let of_groups = self
            .alertmanagers
            .iter()
            .flat_map(|a| a.alert_relabel_configs.iter().chain(&a.relabel_configs));
        for rule in self.alert_relabel_configs.iter().chain(of_groups) {
            rule.compile(scheme).map(drop).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Makes relative paths those of the configuration's folder.
    pub fn set_folder(&mut self, folder: &Path) {
        for alertmanager in &mut self.alertmanagers {
            alertmanager.http.set_folder(folder);
            alertmanager.discovery.set_folder(folder);
        }
    }
}

/// The version of Alertmanager's API: only `v2` is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApiVersion;

impl Blank for ApiVersion {}

impl<'de> Deserialize<'de> for ApiVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "v2" => Ok(Self),
            other => Err(de::Error::custom(format_args!(
                "expected Alertmanager api version to be one of [v2] but got {other}"
            ))),
        }
    }
}

impl Serialize for ApiVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("v2")
    }
}

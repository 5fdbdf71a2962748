//! The `remote_write` and `remote_read` sections.

use std::collections::BTreeMap;

use model::relabel;
use model::relabel::NameScheme;
use model::settings;
use model::settings::{Duration, Secret};
use scrape::config::LabelMap;
use wire::client::{HttpSettings, OAuth2, SigV4, Url, is_reserved_header};

settings! {
    /// Where samples are sent on.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RemoteWrite ("config.plain") null("empty or null remote write config section")
        check(RemoteWrite::judge)
    {
        inline {
            /// How to talk to it.
            http: HttpSettings = HttpSettings { enable_http2: false, ..HttpSettings::default() },
        }
        /// Where it is.
        pub url ("url"): Option<Url>;
        /// How long sending may take.
        pub remote_timeout ("remote_timeout"): Duration = Duration(30_000);
        /// Headers to add.
        pub headers ("headers"): BTreeMap<String, String>;
        /// What becomes of the series.
        pub write_relabel_configs ("write_relabel_configs"): Vec<relabel::Config>,
            nulls "empty or null relabeling rule in remote write config";
        /// Its name, for metrics and logs.
        pub name ("name"): String;
        /// Send exemplars.
        pub send_exemplars ("send_exemplars"): bool;
        /// Send native histograms.
        pub send_native_histograms ("send_native_histograms"): bool;
        /// Take the addresses of its name in turn.
        pub round_robin_dns ("round_robin_dns"): bool;
        /// Which message is sent: version 1 or 2.
        pub protobuf_message ("protobuf_message"): String = "prometheus.WriteRequest".to_owned();
        /// Log requests that failed.
        pub failed_request_logging ("failed_request_logging"): bool;
        /// The queue in front of it.
        pub queue_config ("queue_config"): Queue;
        /// Sending metadata.
        pub metadata_config ("metadata_config"): Metadata;
        /// AWS' signatures.
        pub sigv4 ("sigv4"): Option<SigV4>;
        /// Azure AD.
        pub azuread ("azuread"): Option<AzureAd>;
        /// Google IAM.
        pub google_iam ("google_iam"): Option<GoogleIam>;
    }
}

settings! {
    /// The queue in front of a remote.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Queue ("config.QueueConfig") check(Queue::judge) {
        /// Samples waiting per shard.
        pub capacity ("capacity"): i64 = 10_000;
        /// Most shards.
        pub max_shards ("max_shards"): i64 = 50;
        /// Fewest shards.
        pub min_shards ("min_shards"): i64 = 1;
        /// Most samples in a request.
        pub max_samples_per_send ("max_samples_per_send"): i64 = 2_000;
        /// Longest time a sample waits.
        pub batch_send_deadline ("batch_send_deadline"): Duration = Duration(5_000);
        /// First wait before a retry.
        pub min_backoff ("min_backoff"): Duration = Duration(30);
        /// Longest wait before a retry.
        pub max_backoff ("max_backoff"): Duration = Duration(5_000);
        /// Retry on 429.
        pub retry_on_http_429 ("retry_on_http_429"): bool;
        /// Older samples are dropped; 0 for never.
        pub sample_age_limit ("sample_age_limit"): Duration;
    }
}

settings! {
    /// Sending metadata.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Metadata ("config.MetadataConfig") {
        /// Whether.
        pub send ("send"): bool = true => always;
        /// How often.
        pub send_interval ("send_interval"): Duration = Duration(60_000) => always;
        /// Most entries in a request.
        pub max_samples_per_send ("max_samples_per_send"): i64 = 2_000;
    }
}

settings! {
    /// Where samples are read from.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RemoteRead ("config.plain") null("empty or null remote read config section")
        check(RemoteRead::judge)
    {
        inline {
            /// How to talk to it.
            http: HttpSettings = HttpSettings::default(),
        }
        /// Where it is.
        pub url ("url"): Option<Url>;
        /// How long reading may take.
        pub remote_timeout ("remote_timeout"): Duration = Duration(60_000);
        /// Biggest frame of a streamed answer, bytes.
        pub chunked_read_limit ("chunked_read_limit"): u64 = 50_000_000;
        /// Headers to add.
        pub headers ("headers"): BTreeMap<String, String>;
        /// Read what the local database should have too.
        pub read_recent ("read_recent"): bool;
        /// Its name, for metrics and logs.
        pub name ("name"): String;
        /// Ask only for selectors that hold these.
        pub required_matchers ("required_matchers"): LabelMap;
        /// Add the external labels to the selectors.
        pub filter_external_labels ("filter_external_labels"): bool = true;
    }
}

settings! {
    /// Azure AD: all is read and judged; `oauth` is supported in use.
    #[derive(Clone, Debug, PartialEq)]
    #[expect(missing_docs, reason = "the words of Azure")]
    pub struct AzureAd ("azuread.plain") check(AzureAd::judge) {
        pub managed_identity ("managed_identity"): Option<AzureIdentity>;
        pub workload_identity ("workload_identity"): Option<AzureIdentity>;
        pub oauth ("oauth"): Option<AzureIdentity>;
        pub sdk ("sdk"): Option<AzureIdentity>;
        pub certificate ("certificate"): Option<AzureIdentity>;
        pub cloud ("cloud"): String = "AzurePublic".to_owned();
        pub scope ("scope"): String;
    }
}

settings! {
    /// How to log in to Azure.
    #[derive(Clone, Debug, PartialEq)]
    #[expect(missing_docs, reason = "the words of Azure")]
    pub struct AzureIdentity ("azuread.identity") {
        pub client_id ("client_id"): String;
        pub tenant_id ("tenant_id"): String;
        pub client_secret ("client_secret"): Secret;
        pub token_file_path ("token_file_path"): String;
        pub certificate_path ("certificate_path"): String;
        pub certificate_key_path ("certificate_key_path"): String;
        pub certificate_password ("certificate_password"): Secret;
        pub send_certificate_chain ("send_certificate_chain"): bool;
    }
}

settings! {
    /// Google's credentials.
    #[derive(Clone, Debug, PartialEq)]
    pub struct GoogleIam ("googleiam.plain") {
        /// The service account's key.
        pub credentials_file ("credentials_file"): String;
    }
}

fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), String> {
    for header in headers.keys() {
        if header.eq_ignore_ascii_case("authorization") {
            return Err(
                "authorization header must be changed via the basic_auth, authorization, oauth2, \
                 sigv4, azuread or google_iam parameter"
                    .to_owned(),
            );
        }
        if is_reserved_header(header) {
            return Err(format!(
                "{header} is a reserved header. It must not be changed"
            ));
        }
    }
    Ok(())
}

impl RemoteWrite {
    fn judge(&mut self) -> Result<(), String> {
        if self.url.is_none() {
            return Err("url for remote_write is empty".to_owned());
        }
        check_headers(&self.headers)?;
        let known = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"];
        if !known.contains(&self.protobuf_message.as_str()) {
            return Err(format!(
                "invalid protobuf_message value: unknown type for remote write protobuf message {}, \
                 supported: {}",
                self.protobuf_message,
                known.join(", ")
            ));
        }
        let ways: Vec<&str> = [
            (self.http.basic_auth.is_some(), "basic_auth"),
            (self.http.authorization.is_some(), "authorization"),
            (self.http.oauth2.is_some(), "oauth2"),
            (self.sigv4.is_some(), "sigv4"),
            (self.azuread.is_some(), "azuread"),
            (self.google_iam.is_some(), "google_iam"),
        ]
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, way)| way)
        .collect();
        if ways.len() > 1 {
            return Err(format!(
                "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam \
                 must be configured. Currently configured: [{}]",
                ways.join(" ")
            ));
        }
        Ok(())
    }

    pub(super) fn check_rules(&self, scheme: NameScheme) -> Result<(), String> {
        self.write_relabel_configs
            .iter()
            .try_for_each(|rule| rule.compile(scheme).map(drop).map_err(|e| e.to_string()))
    }

    /// Where it is.
    pub fn url(&self) -> Url {
        self.url.clone().unwrap_or_default()
    }
}

impl RemoteWrite {
    /// The keys that are set and that this version cannot obey.
    pub(super) fn unsupported(&self) -> Vec<&'static str> {
        let mut keys = self.http.unsupported();
        let azure = self.azuread.as_ref();
        if azure.is_some_and(|azure| azure.oauth.is_none()) {
            keys.push("azuread");
        }
        keys
    }
}

impl RemoteRead {
    fn judge(&mut self) -> Result<(), String> {
        if self.url.is_none() {
            return Err("url for remote_read is empty".to_owned());
        }
        check_headers(&self.headers)
    }

    /// Where it is.
    pub fn url(&self) -> Url {
        self.url.clone().unwrap_or_default()
    }
}

impl Queue {
    fn judge(&mut self) -> Result<(), String> {
        for (wrong, message) in [
            (self.max_shards <= 0, "max_shards must be positive"),
            (self.min_shards <= 0, "min_shards must be positive"),
            (
                self.min_shards > self.max_shards,
                "min_shards must not be greater than max_shards",
            ),
            (
                self.max_samples_per_send <= 0,
                "max_samples_per_send must be positive",
            ),
            (self.capacity <= 0, "capacity must be positive"),
            (
                self.max_backoff < self.min_backoff,
                "max_backoff must not be less than min_backoff",
            ),
        ] {
            if wrong {
                return Err(format!("remote write queue {message}"));
            }
        }
        Ok(())
    }
}

impl AzureAd {
    /// What to log in with, if `oauth` says so.
    pub fn login(&self) -> Option<OAuth2> {
        let oauth = self.oauth.as_ref()?;
        let (authority, audience) = match self.cloud.as_str() {
            "AzureChina" => ("login.chinacloudapi.cn", "https://monitor.azure.cn"),
            "AzureGovernment" => ("login.microsoftonline.us", "https://monitor.azure.us"),
            _ => ("login.microsoftonline.com", "https://monitor.azure.com"),
        };
        let scope = match self.scope.as_str() {
            "" => format!("{audience}//.default"),
            scope => scope.to_owned(),
        };
        Some(OAuth2 {
            client_id: oauth.client_id.clone(),
            client_secret: oauth.client_secret.clone(),
            scopes: vec![scope],
            token_url: format!("https://{authority}/{}/oauth2/v2.0/token", oauth.tenant_id),
            ..OAuth2::default()
        })
    }

    fn judge(&mut self) -> Result<(), String> {
        if !matches!(
            self.cloud.as_str(),
            "AzurePublic" | "AzureChina" | "AzureGovernment"
        ) {
            return Err("must provide a cloud in the Azure AD config".to_owned());
        }
        let ways = [
            &self.managed_identity,
            &self.workload_identity,
            &self.oauth,
            &self.sdk,
            &self.certificate,
        ];
        match ways.into_iter().flatten().count() {
            1 => Ok(()),
            0 => Err(
                "must provide an Azure Managed Identity, Azure Workload Identity, Azure \
                      OAuth, Azure Certificate or Azure SDK in the Azure AD config"
                    .to_owned(),
            ),
            _ => Err(
                "cannot provide multiple authentication methods in the Azure AD config".to_owned(),
            ),
        }
    }
}

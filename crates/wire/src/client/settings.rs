//! Prometheus' HTTP client keys (`config/http_config.go` of prometheus/common).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use model::settings;
use model::settings::{Blank, Secret, join_folder};
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

settings! {
    /// How to talk to an HTTP server.
    #[derive(Clone, Debug, PartialEq)]
    pub struct HttpSettings ("config.HTTPClientConfig") check(HttpSettings::judge) {
        /// User and password.
        pub basic_auth ("basic_auth"): Option<BasicAuth>;
        /// Any other `Authorization`.
        pub authorization ("authorization"): Option<Authorization>;
        /// OAuth 2.0 client credentials.
        pub oauth2 ("oauth2"): Option<OAuth2>;
        /// The old way to write `authorization.credentials`; moved there once it is read.
        pub bearer_token ("bearer_token"): Secret;
        /// The old way to write `authorization.credentials_file`; moved there once it is read.
        pub bearer_token_file ("bearer_token_file"): String;
        /// Certificates and TLS versions.
        pub tls_config ("tls_config"): TlsSettings;
        /// Whether redirects are followed.
        pub follow_redirects ("follow_redirects"): bool = true => always;
        /// Whether HTTP/2 is offered over TLS.
        pub enable_http2 ("enable_http2"): bool = true => always;
        /// The proxy to go through.
        pub proxy_url ("proxy_url"): Option<Url>;
        /// Hosts to reach without it, separated by commas.
        pub no_proxy ("no_proxy"): String;
        /// Take the proxy from the environment.
        pub proxy_from_environment ("proxy_from_environment"): bool;
        /// Headers for the proxy.
        pub proxy_connect_header ("proxy_connect_header"): BTreeMap<String, Vec<Secret>>;
        /// Headers to add to every request.
        pub http_headers ("http_headers"): Option<HttpHeaders>;
    }
}

settings! {
    /// User and password.
    #[derive(Clone, Debug, PartialEq)]
    pub struct BasicAuth ("config.BasicAuth") {
        /// The user.
        pub username ("username"): String;
        /// A file that holds it.
        pub username_file ("username_file"): String;
        /// Its name in a secret manager; not supported in use.
        pub username_ref ("username_ref"): String;
        /// The password.
        pub password ("password"): Secret;
        /// A file that holds it.
        pub password_file ("password_file"): String;
        /// Its name in a secret manager; not supported in use.
        pub password_ref ("password_ref"): String;
    }
}

settings! {
    /// An `Authorization` header.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Authorization ("config.Authorization") {
        /// Its scheme; `Bearer` if none is given.
        pub kind ("type"): String;
        /// What follows.
        pub credentials ("credentials"): Secret;
        /// A file that holds it.
        pub credentials_file ("credentials_file"): String;
        /// Its name in a secret manager; not supported in use.
        pub credentials_ref ("credentials_ref"): String;
    }
}

settings! {
    /// OAuth 2.0: client credentials; signed assertions are read and judged, not supported in use.
    #[derive(Clone, Debug, PartialEq)]
    #[expect(missing_docs, reason = "the words of RFC 6749 and RFC 7523")]
    pub struct OAuth2 ("config.OAuth2") {
        pub client_id ("client_id"): String;
        pub client_secret ("client_secret"): Secret;
        pub client_secret_file ("client_secret_file"): String;
        pub client_secret_ref ("client_secret_ref"): String;
        pub client_certificate_key_id ("client_certificate_key_id"): String;
        pub client_certificate_key ("client_certificate_key"): Secret;
        pub client_certificate_key_file ("client_certificate_key_file"): String;
        pub client_certificate_key_ref ("client_certificate_key_ref"): String;
        pub grant_type ("grant_type"): String;
        pub signature_algorithm ("signature_algorithm"): String;
        pub iss ("iss"): String;
        pub audience ("audience"): String;
        pub claims ("claims"): BTreeMap<String, Scalar>;
        pub scopes ("scopes"): Vec<String>;
        pub token_url ("token_url"): String;
        pub endpoint_params ("endpoint_params"): BTreeMap<String, String>;
        pub tls_config ("tls_config"): TlsSettings;
        pub proxy_url ("proxy_url"): Option<Url>;
        pub no_proxy ("no_proxy"): String;
        pub proxy_from_environment ("proxy_from_environment"): bool;
        pub proxy_connect_header ("proxy_connect_header"): BTreeMap<String, Vec<Secret>>;
    }
}

settings! {
    /// Certificates and TLS versions of a client.
    #[derive(Clone, Debug, PartialEq)]
    pub struct TlsSettings ("config.TLSConfig") check(TlsSettings::judge) {
        /// Certificates to trust instead of the system's, PEM.
        pub ca ("ca"): String;
        /// The client's certificate, PEM.
        pub cert ("cert"): String;
        /// Its key, PEM.
        pub key ("key"): Secret;
        /// A file of certificates to trust.
        pub ca_file ("ca_file"): String;
        /// A file that holds the client's certificate.
        pub cert_file ("cert_file"): String;
        /// A file that holds its key.
        pub key_file ("key_file"): String;
        /// A name in a secret manager; not supported in use.
        pub ca_ref ("ca_ref"): String;
        /// A name in a secret manager; not supported in use.
        pub cert_ref ("cert_ref"): String;
        /// A name in a secret manager; not supported in use.
        pub key_ref ("key_ref"): String;
        /// The name that the server's certificate must be for, if not the host's.
        pub server_name ("server_name"): String;
        /// Trust any certificate.
        pub insecure_skip_verify ("insecure_skip_verify"): bool;
        /// The oldest version to speak.
        pub min_version ("min_version"): Option<TlsVersion>;
        /// The newest version to speak.
        pub max_version ("max_version"): Option<TlsVersion>;
    }
}

settings! {
    /// One header of `http_headers`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Header ("config.Header") {
        /// Its values.
        pub values ("values"): Vec<String>;
        /// More of them, not to be shown.
        pub secrets ("secrets"): Vec<Secret>;
        /// Files that hold more of them.
        pub files ("files"): Vec<String>;
    }
}

settings! {
    /// AWS Signature V4: read and judged, not supported in use.
    #[derive(Clone, Debug, PartialEq)]
    #[expect(missing_docs, reason = "the words of AWS")]
    pub struct SigV4 ("sigv4.plain") check(SigV4::judge) {
        pub region ("region"): String;
        pub access_key ("access_key"): String;
        pub secret_key ("secret_key"): Secret;
        pub profile ("profile"): String;
        pub role_arn ("role_arn"): String;
        pub external_id ("external_id"): String;
        pub use_fips_sts_endpoint ("use_fips_sts_endpoint"): bool;
        pub service_name ("service_name"): String;
    }
}

/// Headers by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpHeaders(pub BTreeMap<String, Header>);

impl<'de> Deserialize<'de> for HttpHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self)
    }
}

impl Serialize for HttpHeaders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A value of a JWT claim, whatever its type.
pub type Scalar = String;

/// A TLS version as the configuration spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "TLS 1.0 to 1.3")]
pub enum TlsVersion {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

impl TlsVersion {
    const ALL: [(TlsVersion, &'static str); 4] = [
        (Self::Tls10, "TLS10"),
        (Self::Tls11, "TLS11"),
        (Self::Tls12, "TLS12"),
        (Self::Tls13, "TLS13"),
    ];

    /// The version with this number: `1.0` to `1.3`, as Thanos' files have them.
    pub fn numbered(number: &str) -> Option<Self> {
        Some(match number {
            "1.0" => Self::Tls10,
            "1.1" => Self::Tls11,
            "1.2" => Self::Tls12,
            "1.3" => Self::Tls13,
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for TlsVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::ALL
            .into_iter()
            .find(|(_, name)| *name == text)
            .map(|(version, _)| version)
            .ok_or_else(|| de::Error::custom(format_args!("unknown TLS version: {text}")))
    }
}

impl Serialize for TlsVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = Self::ALL
            .iter()
            .find(|(v, _)| v == self)
            .map_or("", |(_, name)| name);
        serializer.serialize_str(name)
    }
}

/// A URL as it was written; its password is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Url {
    text: String,
    parsed: Option<url::Url>,
}

impl Url {
    /// The text, password included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The URL, if it is absolute.
    pub fn parsed(&self) -> Option<&url::Url> {
        self.parsed.as_ref()
    }

    /// The scheme; empty without one.
    pub fn scheme(&self) -> &str {
        self.parsed.as_ref().map_or("", url::Url::scheme)
    }

    /// The host; empty without one.
    pub fn host(&self) -> &str {
        self.parsed
            .as_ref()
            .and_then(url::Url::host_str)
            .unwrap_or("")
    }

    /// The text with `xxxxx` in the place of a password.
    pub fn redacted(&self) -> String {
        match &self.parsed {
            Some(url) if url.password().is_some() => super::redacted(url),
            _ => self.text.clone(),
        }
    }
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err(format!(
                "parse {text:?}: net/url: invalid control character in URL"
            ));
        }
        let parsed = match url::Url::parse(text) {
            Ok(url) => Some(url),
            // A path, or nothing: a URL too, for whoever does not need a host. Others say so.
            Err(url::ParseError::RelativeUrlWithoutBase | url::ParseError::EmptyHost) => None,
            Err(e) => return Err(format!("parse URL: {e}")),
        };
        Ok(Self {
            text: text.to_owned(),
            parsed,
        })
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

impl Blank for Url {
    fn is_blank(&self) -> bool {
        self.text.is_empty()
    }
}

/// How many of these are set.
fn set(values: [bool; 3]) -> usize {
    values.into_iter().filter(|v| *v).count()
}

fn refuse(wrong: bool, message: &str) -> Result<(), String> {
    if wrong {
        Err(message.to_owned())
    } else {
        Ok(())
    }
}

impl HttpSettings {
    fn judge(&mut self) -> Result<(), String> {
        let bearer = !self.bearer_token.is_empty() || !self.bearer_token_file.is_empty();
        refuse(
            !self.bearer_token.is_empty() && !self.bearer_token_file.is_empty(),
            "at most one of bearer_token & bearer_token_file must be configured",
        )?;
        refuse(
            (self.basic_auth.is_some() || self.oauth2.is_some()) && bearer,
            "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
        )?;
        if let Some(b) = &self.basic_auth {
            let user = [&b.username, &b.username_file, &b.username_ref].map(|s| !s.is_empty());
            refuse(
                set(user) > 1,
                "at most one of basic_auth username, username_file & username_ref must be configured",
            )?;
            let password = [
                !b.password.is_empty(),
                !b.password_file.is_empty(),
                !b.password_ref.is_empty(),
            ];
            refuse(
                set(password) > 1,
                "at most one of basic_auth password, password_file & password_ref must be configured",
            )?;
        }
        self.judge_authorization(bearer)?;
        if let Some(oauth2) = &self.oauth2 {
            refuse(
                self.basic_auth.is_some(),
                "at most one of basic_auth, oauth2 & authorization must be configured",
            )?;
            oauth2.judge()?;
        }
        self.judge_proxy()?;
        if let Some(headers) = &self.http_headers
            && let Some(name) = headers.0.keys().find(|name| is_reserved_header(name))
        {
            return Err(format!("setting header {name:?} is not allowed"));
        }
        Ok(())
    }

    fn judge_authorization(&mut self, bearer: bool) -> Result<(), String> {
        let Some(a) = &mut self.authorization else {
            if bearer {
                self.authorization = Some(Authorization {
                    kind: "Bearer".to_owned(),
                    credentials: std::mem::take(&mut self.bearer_token),
                    credentials_file: std::mem::take(&mut self.bearer_token_file),
                    credentials_ref: String::new(),
                });
            }
            return Ok(());
        };
        refuse(
            bearer,
            "authorization is not compatible with bearer_token & bearer_token_file",
        )?;
        let given = [
            !a.credentials.is_empty(),
            !a.credentials_file.is_empty(),
            !a.credentials_ref.is_empty(),
        ];
        refuse(
            set(given) > 1,
            "at most one of authorization credentials & credentials_file must be configured",
        )?;
        a.kind = match a.kind.trim() {
            "" => "Bearer".to_owned(),
            kind => kind.to_owned(),
        };
        refuse(
            a.kind.eq_ignore_ascii_case("basic"),
            "authorization type cannot be set to \"basic\", use \"basic_auth\" instead",
        )?;
        refuse(
            self.basic_auth.is_some() || self.oauth2.is_some(),
            "at most one of basic_auth, oauth2 & authorization must be configured",
        )
    }

    fn judge_proxy(&self) -> Result<(), String> {
        let url = self.proxy_url.as_ref().is_some_and(|url| !url.is_empty());
        refuse(
            !self.proxy_connect_header.is_empty() && !self.proxy_from_environment && !url,
            "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured",
        )?;
        refuse(
            self.proxy_from_environment && url,
            "if proxy_from_environment is configured, proxy_url must not be configured",
        )?;
        refuse(
            self.proxy_from_environment && !self.no_proxy.is_empty(),
            "if proxy_from_environment is configured, no_proxy must not be configured",
        )?;
        refuse(
            self.proxy_url.is_none() && !self.no_proxy.is_empty(),
            "if no_proxy is configured, proxy_url must also be configured",
        )
    }

    /// The keys that are set and that this version cannot obey.
    pub fn unsupported(&self) -> Vec<&'static str> {
        let mut keys = self.tls_config.unsupported();
        if let Some(oauth2) = &self.oauth2 {
            if !matches!(oauth2.grant_type.as_str(), "" | "client_credentials") {
                keys.push("oauth2.grant_type");
            }
            if !oauth2.client_secret_ref.is_empty() {
                keys.push("oauth2.client_secret_ref");
            }
        }
        if let Some(basic) = &self.basic_auth {
            if !basic.username_ref.is_empty() {
                keys.push("basic_auth.username_ref");
            }
            if !basic.password_ref.is_empty() {
                keys.push("basic_auth.password_ref");
            }
        }
        if self
            .authorization
            .as_ref()
            .is_some_and(|a| !a.credentials_ref.is_empty())
        {
            keys.push("authorization.credentials_ref");
        }
        keys
    }

    /// Takes the files that are named relative to `folder`.
    pub fn set_folder(&mut self, folder: &Path) {
        self.tls_config.set_folder(folder);
        if let Some(basic) = &mut self.basic_auth {
            join_folder(folder, &mut basic.username_file);
            join_folder(folder, &mut basic.password_file);
        }
        if let Some(authorization) = &mut self.authorization {
            join_folder(folder, &mut authorization.credentials_file);
        }
        if let Some(oauth2) = &mut self.oauth2 {
            join_folder(folder, &mut oauth2.client_secret_file);
            oauth2.tls_config.set_folder(folder);
        }
        for header in self.http_headers.iter_mut().flat_map(|h| h.0.values_mut()) {
            for file in &mut header.files {
                join_folder(folder, file);
            }
        }
    }
}

impl OAuth2 {
    fn judge(&self) -> Result<(), String> {
        refuse(
            self.client_id.is_empty(),
            "oauth2 client_id must be configured",
        )?;
        refuse(
            self.token_url.is_empty(),
            "oauth2 token_url must be configured",
        )?;
        if self.grant_type == "urn:ietf:params:oauth:grant-type:jwt-bearer" {
            let keys = [
                !self.client_certificate_key.is_empty(),
                !self.client_certificate_key_file.is_empty(),
                !self.client_certificate_key_ref.is_empty(),
            ];
            refuse(
                set(keys) > 1,
                "at most one of oauth2 client_certificate_key, client_certificate_key_file & client_certificate_key_ref must be configured using grant-type=urn:ietf:params:oauth:grant-type:jwt-bearer",
            )?;
            return refuse(
                !matches!(
                    self.signature_algorithm.as_str(),
                    "" | "RS256" | "RS384" | "RS512"
                ),
                "valid signature algorithms are RS256, RS384 and RS512",
            );
        }
        let secrets = [
            !self.client_secret.is_empty(),
            !self.client_secret_file.is_empty(),
            !self.client_secret_ref.is_empty(),
        ];
        refuse(
            set(secrets) > 1,
            "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured using grant-type=client_credentials",
        )
    }
}

impl TlsSettings {
    fn judge(&mut self) -> Result<(), String> {
        let ca = [&self.ca, &self.ca_file, &self.ca_ref].map(|s| !s.is_empty());
        let cert = [&self.cert, &self.cert_file, &self.cert_ref].map(|s| !s.is_empty());
        let key = [
            !self.key.is_empty(),
            !self.key_file.is_empty(),
            !self.key_ref.is_empty(),
        ];
        refuse(
            set(ca) > 1,
            "at most one of ca, ca_file & ca_ref must be configured",
        )?;
        refuse(
            set(cert) > 1,
            "at most one of cert, cert_file & cert_ref must be configured",
        )?;
        refuse(
            set(key) > 1,
            "at most one of key and key_file must be configured",
        )?;
        refuse(
            set(cert) > 0 && set(key) == 0,
            "exactly one of key or key_file must be configured when a client certificate is configured",
        )?;
        refuse(
            set(key) > 0 && set(cert) == 0,
            "exactly one of cert or cert_file must be configured when a client key is configured",
        )?;
        match (self.min_version, self.max_version) {
            (Some(min), Some(max)) => refuse(
                max < min,
                "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified",
            ),
            _ => Ok(()),
        }
    }

    /// The keys that are set and that this version cannot obey.
    pub fn unsupported(&self) -> Vec<&'static str> {
        [
            (&self.ca_ref, "tls_config.ca_ref"),
            (&self.cert_ref, "tls_config.cert_ref"),
            (&self.key_ref, "tls_config.key_ref"),
        ]
        .into_iter()
        .filter(|(value, _)| !value.is_empty())
        .map(|(_, key)| key)
        .collect()
    }

    /// Whether files are named in it.
    pub fn has_files(&self) -> bool {
        !(self.ca_file.is_empty() && self.cert_file.is_empty() && self.key_file.is_empty())
    }

    /// Takes the files that are named relative to `folder`.
    pub fn set_folder(&mut self, folder: &Path) {
        for file in [&mut self.ca_file, &mut self.cert_file, &mut self.key_file] {
            join_folder(folder, file);
        }
    }
}

impl SigV4 {
    fn judge(&mut self) -> Result<(), String> {
        refuse(
            self.access_key.is_empty() != self.secret_key.is_empty(),
            "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config",
        )?;
        refuse(
            !self.external_id.is_empty() && self.role_arn.is_empty(),
            "external_id can only be used with role_arn",
        )
    }
}

/// Whether a header is set by the client itself, or through settings of its own.
pub fn is_reserved_header(name: &str) -> bool {
    const RESERVED: [&str; 18] = [
        "authorization",
        "host",
        "content-encoding",
        "content-length",
        "content-type",
        "user-agent",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "www-authenticate",
        "accept-encoding",
        "x-prometheus-remote-write-version",
        "x-prometheus-remote-read-version",
        "x-prometheus-scrape-timeout-seconds",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-content-sha256",
    ];
    RESERVED
        .iter()
        .any(|reserved| name.eq_ignore_ascii_case(reserved))
}

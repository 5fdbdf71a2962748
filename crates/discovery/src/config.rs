//! The discovery sections of a configuration file, as Prometheus 3.14 spells them.

mod consul;
mod foreign;
mod kubernetes;

use std::collections::BTreeMap;
use std::path::Path;

use model::settings;
use model::settings::{Blank, Duration, Settings, join_folder, no_nulls};
use serde::de::{Deserialize, Deserializer, MapAccess};
use serde::ser::{Serialize, SerializeMap, Serializer};
use wire::client::{HttpSettings, Url};

pub use consul::Consul;
pub use foreign::Foreign;
pub use kubernetes::{AttachMetadata, Kubernetes, Namespaces, Role, Selector};

/// All discovery sections of one job. A group of settings to be inlined in the job's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovery {
    /// Targets written down.
    pub static_configs: Vec<Static>,
    /// Targets in files.
    pub file_sd_configs: Vec<File>,
    /// Targets from an HTTP server.
    pub http_sd_configs: Vec<Http>,
    /// Targets from DNS.
    pub dns_sd_configs: Vec<Dns>,
    /// Targets from Consul.
    pub consul_sd_configs: Vec<Consul>,
    /// Targets from Kubernetes.
    pub kubernetes_sd_configs: Vec<Kubernetes>,
    /// Sections of mechanisms that we only judge, by their keys.
    pub foreign: Vec<(&'static str, Vec<Foreign>)>,
}

/// The mechanisms that a configuration may name, and whether we can run them.
pub fn providers() -> impl Iterator<Item = (&'static str, bool)> {
    let own = ["consul", "dns", "file", "http", "static"];
    let own = own.into_iter().map(|name| (name, true));
    let kubernetes = ("kubernetes", cfg!(feature = "kubernetes"));
    let foreign = foreign::KEYS.into_iter();
    let foreign = foreign.filter_map(|key| key.strip_suffix("_sd_configs"));
    own.chain([kubernetes])
        .chain(foreign.map(|name| (name, false)))
}

/// Fails if an address of a target is a URL, which people write by mistake.
pub fn check_address(address: &str) -> Result<(), String> {
    match address.contains('/') {
        true => Err(format!("{address:?} is not a valid hostname")),
        false => Ok(()),
    }
}

impl Discovery {
    /// Keys of the mechanisms in use that we cannot run, and of HTTP client settings that we
    /// cannot obey in those that we can.
    pub fn unsupported(&self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        let mut add = |key, used: bool| keys.extend(used.then_some(key));
        if cfg!(not(feature = "kubernetes")) {
            let used = !self.kubernetes_sd_configs.is_empty();
            add("kubernetes_sd_configs", used);
        }
        for (key, sections) in &self.foreign {
            add(key, !sections.is_empty());
        }
        let http = self.http_sd_configs.iter().map(|section| &section.http);
        let clusters = self.kubernetes_sd_configs.iter();
        let catalogs = self.consul_sd_configs.iter();
        let http = http.chain(clusters.map(|section| &section.http));
        let http = http.chain(catalogs.map(|section| &section.http));
        keys.extend(http.flat_map(|settings| settings.unsupported()));
        keys
    }

    /// Fails if a static target is a URL, which people write by mistake. Not to be asked where
    /// relabelling may mend it.
    pub fn check_static_addresses(&self) -> Result<(), String> {
        let mut targets = self.static_configs.iter().flat_map(|group| &group.targets);
        targets.try_for_each(|target| check_address(target))
    }

    /// Makes the paths of files relative to `folder`, which holds the configuration file.
    pub fn set_folder(&mut self, folder: &Path) {
        for file in &mut self.file_sd_configs {
            file.files
                .iter_mut()
                .for_each(|path| join_folder(folder, path));
        }
        for http in &mut self.http_sd_configs {
            http.http.set_folder(folder);
        }
        for consul in &mut self.consul_sd_configs {
            consul.set_folder(folder);
        }
        for kubernetes in &mut self.kubernetes_sd_configs {
            kubernetes.set_folder(folder);
        }
    }
}

impl Settings for Discovery {
    const TYPE: &'static str = "discovery.Configs";

    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "static_configs" => self.static_configs = sections(key, map)?,
            "file_sd_configs" => self.file_sd_configs = sections(key, map)?,
            "http_sd_configs" => self.http_sd_configs = sections(key, map)?,
            "dns_sd_configs" => self.dns_sd_configs = sections(key, map)?,
            "consul_sd_configs" => self.consul_sd_configs = sections(key, map)?,
            "kubernetes_sd_configs" => self.kubernetes_sd_configs = sections(key, map)?,
            _ => match foreign::KEYS.iter().find(|k| **k == key) {
                None => return Ok(false),
                Some(key) => self.foreign.push((key, foreign::sections(key, map)?)),
            },
        }
        Ok(true)
    }

    fn check(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        fn entry<M: SerializeMap, T: Serialize>(
            map: &mut M,
            key: &str,
            list: &[T],
        ) -> Result<(), M::Error> {
            if list.is_empty() {
                Ok(())
            } else {
                map.serialize_entry(key, list)
            }
        }
        entry(map, "static_configs", &self.static_configs)?;
        entry(map, "file_sd_configs", &self.file_sd_configs)?;
        entry(map, "http_sd_configs", &self.http_sd_configs)?;
        entry(map, "dns_sd_configs", &self.dns_sd_configs)?;
        entry(map, "consul_sd_configs", &self.consul_sd_configs)?;
        entry(map, "kubernetes_sd_configs", &self.kubernetes_sd_configs)?;
        for (key, sections) in &self.foreign {
            entry(map, key, sections)?;
        }
        Ok(())
    }
}

impl Blank for Discovery {
    fn is_blank(&self) -> bool {
        *self == Self::default()
    }
}

impl<'de> Deserialize<'de> for Discovery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        settings::deserialize(deserializer)
    }
}

impl Serialize for Discovery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        settings::serialize(self, serializer)
    }
}

/// The sections under one key; a null list has none, a null section is an error.
fn sections<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    key: &str,
    map: &mut A,
) -> Result<Vec<T>, A::Error> {
    let list = map
        .next_value::<Option<Vec<Option<T>>>>()?
        .unwrap_or_default();
    no_nulls(list, &format!("empty or null section in {key}"))
}

settings! {
    /// Targets written down: also the shape of an entry in the files of `file_sd_configs`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Static ("struct") check(Static::judge) {
        /// Addresses.
        pub targets ("targets"): Vec<String>;
        /// Labels that they all have.
        pub labels ("labels"): BTreeMap<String, String>;
    }
}

impl Static {
    fn judge(&mut self) -> Result<(), String> {
        match self.labels.contains_key("") {
            true => Err("\"\" is not a valid label name".to_owned()),
            false => Ok(()),
        }
    }
}

settings! {
    /// Targets in files, read again when they change.
    #[derive(Clone, Debug, PartialEq)]
    pub struct File ("file.plain") check(File::judge) {
        /// Paths, with perhaps a star in the last part.
        pub files ("files"): Vec<String>;
        /// How often they are read even if nothing seems to have changed.
        pub refresh_interval ("refresh_interval"): Duration = Duration(300_000);
    }
}

impl File {
    fn judge(&mut self) -> Result<(), String> {
        if self.files.is_empty() {
            let message = "file service discovery config must contain at least one path name";
            return Err(message.to_owned());
        }
        match self.files.iter().find(|path| !is_pattern(path)) {
            Some(path) => Err(format!(
                "path name {path:?} is not valid for file discovery"
            )),
            None => Ok(()),
        }
    }
}

/// Whether a path has a star at most in its last part, and ends in `json`, `yml` or `yaml`.
fn is_pattern(path: &str) -> bool {
    let Some((stem, extension)) = path.rsplit_once('.') else {
        return false;
    };
    let known = ["json", "yml", "yaml", "JSON", "YML", "YAML"].contains(&extension);
    let plain = stem
        .split_once('*')
        .is_none_or(|(_, after)| !after.contains('/'));
    known && plain
}

settings! {
    /// Targets from an HTTP server.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Http ("http.plain") check(Http::judge) {
        inline {
            /// How to talk to it.
            http: HttpSettings = HttpSettings::default(),
        }
        /// What to ask.
        pub url ("url"): Url;
        /// How often.
        pub refresh_interval ("refresh_interval"): Duration = Duration(60_000);
    }
}

impl Http {
    fn judge(&mut self) -> Result<(), String> {
        let wrong = match (self.url.is_empty(), self.url.scheme(), self.url.host()) {
            (true, ..) => "URL is missing",
            // An address without a host cannot be parsed, but has a scheme.
            (_, "", _) if is_bare_http(self.url.as_str()) => "host is missing in URL",
            (_, "http" | "https", "") => "host is missing in URL",
            (_, "http" | "https", _) => return Ok(()),
            _ => "URL scheme must be 'http' or 'https'",
        };
        Err(wrong.to_owned())
    }
}

/// Whether nothing but a scheme stands there.
pub(crate) fn is_bare_http(url: &str) -> bool {
    ["http:", "https:"].iter().any(|scheme| {
        url.strip_prefix(scheme)
            .is_some_and(|rest| rest.trim_start_matches('/').is_empty())
    })
}

settings! {
    /// Targets from DNS.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Dns ("dns.plain") check(Dns::judge) {
        /// What to look up.
        pub names ("names"): Vec<String>;
        /// How often.
        pub refresh_interval ("refresh_interval"): Duration = Duration(30_000);
        /// Which records: `SRV`, `A`, `AAAA`, `MX` or `NS`.
        pub kind ("type"): String = "SRV".to_owned();
        /// The port of the targets, where the records do not say it.
        pub port ("port"): u16;
    }
}

impl Dns {
    fn judge(&mut self) -> Result<(), String> {
        if self.names.is_empty() {
            return Err("DNS-SD config must contain at least one SRV record name".to_owned());
        }
        match self.kind.to_ascii_uppercase().as_str() {
            "SRV" => Ok(()),
            "A" | "AAAA" | "MX" | "NS" if self.port != 0 => Ok(()),
            "A" | "AAAA" | "MX" | "NS" => Err(
                "a port is required in DNS-SD configs for all record types except SRV".to_owned(),
            ),
            other => Err(format!("invalid DNS-SD records type {other}")),
        }
    }
}

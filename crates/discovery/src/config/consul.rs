//! `consul_sd_configs`.

use std::collections::BTreeMap;
use std::path::Path;

use model::settings;
use model::settings::{Duration, Secret};
use wire::client::{BasicAuth, HttpSettings};

settings! {
    /// Targets from the catalog of Consul.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Consul ("consul.plain") check(Consul::judge) {
        inline {
            /// How to talk to it.
            http: HttpSettings = HttpSettings::default(),
        }
        /// Its host and port.
        pub server ("server"): String = "localhost:8500".to_owned();
        /// What stands before the paths of its API.
        pub path_prefix ("path_prefix"): String;
        /// What we are known by.
        pub token ("token"): Secret;
        /// The datacenter; the agent's own if it is empty.
        pub datacenter ("datacenter"): String;
        /// The namespace (Consul Enterprise).
        pub namespace ("namespace"): String;
        /// The admin partition (Consul Enterprise).
        pub partition ("partition"): String;
        /// What stands before, between and after tags in a label.
        pub tag_separator ("tag_separator"): String = ",".to_owned();
        /// `http` or `https`.
        pub scheme ("scheme"): String = "http".to_owned();
        /// The old way to write `basic_auth`.
        pub username ("username"): String;
        /// The old way to write `basic_auth`.
        pub password ("password"): Secret;
        /// Whether any server may answer, not only the leader.
        pub allow_stale ("allow_stale"): bool = true => always;
        /// The least time between two questions for the same.
        pub refresh_interval ("refresh_interval"): Duration = Duration(30_000);
        /// Which services; all if none is named.
        pub services ("services"): Vec<String>;
        /// Tags that an instance must have, all of them.
        pub tags ("tags"): Vec<String>;
        /// Metadata that a node must have.
        pub node_meta ("node_meta"): BTreeMap<String, String>;
        /// An expression that services of the catalog must fulfil.
        pub filter ("filter"): String;
        /// An expression that instances must fulfil.
        pub health_filter ("health_filter"): String;
    }
}

impl Consul {
    /// Makes the paths of files relative to `folder`.
    pub(super) fn set_folder(&mut self, folder: &Path) {
        self.http.set_folder(folder);
    }

    fn judge(&mut self) -> Result<(), String> {
        if self.server.trim().is_empty() {
            return Err("consul SD configuration requires a server address".to_owned());
        }
        if !self.username.is_empty() || !self.password.is_empty() {
            if self.http.basic_auth.is_some() {
                return Err("at most one of consul SD configuration username and password and basic auth can be configured".to_owned());
            }
            self.http.basic_auth = Some(BasicAuth {
                username: self.username.clone(),
                password: self.password.clone(),
                ..BasicAuth::default()
            });
            // Said once.
            self.username.clear();
            self.password = Secret::default();
        }
        let other = self.http.authorization.is_some() || self.http.oauth2.is_some();
        if !self.token.is_empty() && other {
            return Err(
                "at most one of consul SD token, authorization, or oauth2 can be configured"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

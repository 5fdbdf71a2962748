//! Discoverers: what runs for one section of the configuration.

mod dns;
mod file;
mod glob;
mod http;

use std::future::Future;
use std::pin::Pin;

use tokio_util::sync::CancellationToken;

use crate::config::{self, Discovery};
use crate::counters::Counters;
use crate::{Error, Group, Updates};

/// Something that looks for targets until it is told to stop.
pub trait Discoverer: Send + 'static {
    /// Runs, sending what is found, the whole of a source at a time. Trouble is logged and counted
    /// inside, and leaves what was found before as it is.
    fn run(
        self: Box<Self>,
        updates: Updates,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// What a discoverer was asked to do; equal ones need to run only once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Spec {
    Static(Vec<config::Static>),
    File(config::File),
    Http(Box<config::Http>),
    Dns(config::Dns),
}

impl Spec {
    /// Everything that a job asks for and that we can run.
    pub(crate) fn all(discovery: &Discovery) -> Vec<Spec> {
        let mut all = Vec::new();
        if !discovery.static_configs.is_empty() {
            all.push(Spec::Static(discovery.static_configs.clone()));
        }
        all.extend(discovery.dns_sd_configs.iter().cloned().map(Spec::Dns));
        all.extend(discovery.file_sd_configs.iter().cloned().map(Spec::File));
        all.extend(
            discovery
                .http_sd_configs
                .iter()
                .cloned()
                .map(|h| Spec::Http(Box::new(h))),
        );
        all
    }
}

/// A section that was opened.
#[derive(Default)]
pub(crate) struct Opened {
    /// What is known without looking.
    pub(crate) at_once: Vec<Group>,
    /// Who looks for more.
    pub(crate) discoverer: Option<Box<dyn Discoverer>>,
}

pub(crate) fn open(spec: &Spec, counters: &Counters) -> Result<Opened, Error> {
    let discoverer: Box<dyn Discoverer> = match spec {
        Spec::Static(list) => {
            let groups = list.iter().cloned().enumerate();
            let at_once = groups.map(|(i, written)| Group::new(i.to_string(), written, &[]));
            return Ok(Opened {
                at_once: at_once.collect(),
                discoverer: None,
            });
        }
        Spec::File(config) => Box::new(file::Files::new(config.clone(), counters.clone())),
        Spec::Dns(config) => Box::new(dns::Names::new(config, counters.clone())),
        Spec::Http(config) => Box::new(http::Server::new(config, counters.clone())?),
    };
    Ok(Opened {
        at_once: Vec::new(),
        discoverer: Some(discoverer),
    })
}

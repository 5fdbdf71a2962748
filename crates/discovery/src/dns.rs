//! Addresses of peers, as Thanos writes them: plain, or to be looked up in DNS.
//!
//! `host:port` stands for itself, `dns+host:port` for all addresses of a host, `dnssrv+name` for
//! the hosts of an SRV record and their addresses, `dnssrvnoa+name` for those hosts by name, and
//! `dnsdualstack+host:port` for addresses of both families.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError as Refused, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::sync::OnceCell;

/// Why an address could not be looked up.
#[derive(Clone, Debug, thiserror::Error)]
#[error("looking up {address}: {message}")]
pub struct DnsError {
    /// As it was written.
    pub address: String,
    /// What went wrong.
    pub message: String,
}

/// Looks addresses up. The system's own settings decide whom it asks.
#[derive(Default)]
pub struct Dns {
    resolver: OnceCell<TokioResolver>,
}

/// Whether an address has to be looked up.
pub fn is_dynamic(address: &str) -> bool {
    ["dns+", "dnssrv+", "dnssrvnoa+", "dnsdualstack+"]
        .iter()
        .any(|scheme| address.starts_with(scheme))
}

/// The records of a name, aliases on the way to them included. That there are none, or no such name, is an
/// answer and no failure: a headless Service without ready pods has none.
pub(crate) async fn records(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
) -> Result<Vec<RData>, NetError> {
    match resolver.lookup(name, kind).await {
        Ok(answer) => Ok(answer.answers().iter().map(|r| r.data.clone()).collect()),
        Err(NetError::Dns(Refused::NoRecordsFound(none)))
            if [ResponseCode::NoError, ResponseCode::NXDomain].contains(&none.response_code) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Whether the system's resolver says that there is no such name, or no address of it. The standard library
/// keeps of getaddrinfo's EAI_NONAME and EAI_NODATA only the words, glibc's and musl's.
fn is_none(error: &std::io::Error) -> bool {
    const WORDS: [&str; 4] = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ];
    let error = error.to_string();
    WORDS.iter().any(|words| error.ends_with(words))
}

impl Dns {
    #[cfg(test)]
    pub(crate) fn with(resolver: TokioResolver) -> Self {
        Self {
            resolver: OnceCell::new_with(Some(resolver)),
        }
    }

    /// The `host:port` pairs that `address` stands for now, each once, ascending; none if DNS says that
    /// there are none.
    pub async fn lookup(&self, address: &str) -> Result<Vec<String>, DnsError> {
        let failed = |message: String| DnsError {
            address: address.to_owned(),
            message,
        };
        let found = match address.split_once('+') {
            Some(("dns", host)) => self.addresses(host, true).await,
            Some(("dnsdualstack", host)) => self.addresses(host, false).await,
            Some(("dnssrv", name)) => self.services(name, true).await,
            Some(("dnssrvnoa", name)) => self.services(name, false).await,
            _ => return Ok(vec![address.to_owned()]),
        };
        Ok(found.map_err(failed)?.into_iter().collect())
    }

    /// Addresses of `host:port`; those of version 6 only where there are no others, unless both
    /// are wanted.
    async fn addresses(&self, host: &str, one_family: bool) -> Result<BTreeSet<String>, String> {
        if !host.contains(':') {
            return Err("missing port in address".to_owned());
        }
        let found: Vec<SocketAddr> = match tokio::net::lookup_host(host).await {
            Ok(found) => found.collect(),
            Err(e) if is_none(&e) => Vec::new(),
            Err(e) => return Err(e.to_string()),
        };
        let has_four = found.iter().any(SocketAddr::is_ipv4);
        let wanted = |a: &&SocketAddr| !one_family || !has_four || a.is_ipv4();
        Ok(found.iter().filter(wanted).map(|a| a.to_string()).collect())
    }

    async fn services(&self, name: &str, resolve: bool) -> Result<BTreeSet<String>, String> {
        let (name, port) = match name.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (name, None),
        };
        let resolver = self
            .resolver
            .get_or_try_init(|| async {
                let builder = TokioResolver::builder_tokio().map_err(|e| e.to_string())?;
                builder.build().map_err(|e| e.to_string())
            })
            .await?;
        let answer = records(resolver, name, RecordType::SRV)
            .await
            .map_err(|e| e.to_string())?;
        let mut found = BTreeSet::new();
        for record in &answer {
            let RData::SRV(service) = record else {
                continue;
            };
            let host = service.target.to_utf8();
            let host = host.trim_end_matches('.');
            let port = port.map_or_else(|| service.port.to_string(), String::from);
            let pair = format!("{host}:{port}");
            if resolve {
                found.extend(self.addresses(&pair, true).await?);
            } else {
                found.insert(pair);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_of_every_kind() {
        let dns = Dns::default();
        assert_eq!(dns.lookup("a:1").await.unwrap(), ["a:1"]);
        assert_eq!(
            dns.lookup("dns+127.0.0.1:10901").await.unwrap(),
            ["127.0.0.1:10901"]
        );
        assert!(
            dns.lookup("dns+localhost:1")
                .await
                .unwrap()
                .contains(&"127.0.0.1:1".to_owned())
        );
        assert!(dns.lookup("dns+localhost").await.is_err());
        let said = |words: &str| {
            is_none(&std::io::Error::other(format!(
                "failed to lookup address information: {words}"
            )))
        };
        assert!(said("Name or service not known"));
        assert!(!said("Temporary failure in name resolution"));
        assert!(is_dynamic("dnssrv+_grpc._tcp.x") && !is_dynamic("x:1"));
    }
}

//! Addresses of peers, as Thanos writes them: plain, or to be looked up in DNS.
//!
//! `host:port` stands for itself, `dns+host:port` for all addresses of a host, `dnssrv+name` for
//! the hosts of an SRV record and their addresses, `dnssrvnoa+name` for those hosts by name, and
//! `dnsdualstack+host:port` for addresses of both families.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
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

impl Dns {
    /// The `host:port` pairs that `address` stands for now, each once, ascending.
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

    /// The records of a name, of one of the types `SRV`, `A`, `AAAA`, `MX` and `NS`: none if the
    /// name, or such a record of it, does not exist. A name that is not whole is looked for below
    /// the system's search domains, too.
    pub(crate) async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, String> {
        match self.resolver().await?.lookup(name, kind).await {
            Ok(answer) => Ok(answer.answers().iter().map(|r| r.data.clone()).collect()),
            Err(e) if e.is_no_records_found() => Ok(Vec::new()),
            Err(e) => Err(format!("could not resolve {name:?}: {e}")),
        }
    }

    async fn resolver(&self) -> Result<&TokioResolver, String> {
        let made = self.resolver.get_or_try_init(|| async {
            let mut builder = TokioResolver::builder_tokio().map_err(|e| e.to_string())?;
            // Whoever asks again wants to know again.
            builder.options_mut().cache_size = 0;
            builder.build().map_err(|e| e.to_string())
        });
        made.await
    }

    /// Addresses of `host:port`; those of version 6 only where there are no others, unless both
    /// are wanted.
    async fn addresses(&self, host: &str, one_family: bool) -> Result<BTreeSet<String>, String> {
        if !host.contains(':') {
            return Err("missing port in address".to_owned());
        }
        let found: Vec<SocketAddr> = tokio::net::lookup_host(host)
            .await
            .map_err(|e| e.to_string())?
            .collect();
        let has_four = found.iter().any(SocketAddr::is_ipv4);
        let wanted = |a: &&SocketAddr| !one_family || !has_four || a.is_ipv4();
        Ok(found.iter().filter(wanted).map(|a| a.to_string()).collect())
    }

    async fn services(&self, name: &str, resolve: bool) -> Result<BTreeSet<String>, String> {
        let (name, port) = match name.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (name, None),
        };
        let answer = self.resolver().await?.lookup(name, RecordType::SRV).await;
        let mut found = BTreeSet::new();
        for record in answer.map_err(|e| e.to_string())?.answers() {
            let RData::SRV(service) = &record.data else {
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
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use hickory_resolver::config::{
        ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig,
    };
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use tokio::net::UdpSocket;

    use super::*;

    /// A name server that knows records by name and type, as bytes, and its client.
    pub(crate) async fn server(known: Vec<(&'static str, u16, Vec<u8>)>) -> Dns {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                // Behind the head of 12 bytes: the name, in pieces, and the type.
                let (mut name, mut at) = (String::new(), 12);
                while buffer[at] != 0 {
                    let piece = &buffer[at + 1..at + 1 + usize::from(buffer[at])];
                    name.push_str(std::str::from_utf8(piece).unwrap());
                    name.push('.');
                    at += 1 + piece.len();
                }
                let question = &buffer[12..at + 5];
                let kind = u16::from_be_bytes([buffer[at + 1], buffer[at + 2]]);
                assert!(length >= at + 5);
                let of_name = known.iter().filter(|(n, ..)| name == format!("{n}."));
                let exists = of_name.clone().next().is_some();
                let found: Vec<_> = of_name.filter(|(_, k, _)| *k == kind).collect();
                let mut answer = buffer[..2].to_vec();
                answer.extend([
                    0x81,
                    if exists { 0x80 } else { 0x83 },
                    0,
                    1,
                    0,
                    found.len() as u8,
                ]);
                answer.extend([0, 0, 0, 0]);
                answer.extend_from_slice(question);
                for (_, kind, data) in found {
                    answer.extend([0xc0, 12]);
                    answer.extend(kind.to_be_bytes());
                    answer.extend([0, 1, 0, 0, 0, 60]);
                    answer.extend((data.len() as u16).to_be_bytes());
                    answer.extend_from_slice(data);
                }
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        let mut connection = ConnectionConfig::new(ProtocolConfig::Udp);
        connection.port = port;
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let provider = TokioRuntimeProvider::default();
        let resolver = TokioResolver::builder_with_config(config, provider).build();
        Dns {
            resolver: OnceCell::new_with(Some(resolver.unwrap())),
        }
    }

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
        assert!(is_dynamic("dnssrv+_grpc._tcp.x") && !is_dynamic("x:1"));
    }
}

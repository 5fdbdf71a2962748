//! A DNS server that says what it is told to, and what becomes of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SRV};
use hickory_resolver::proto::rr::{Name, Record};
use hickory_resolver::proto::serialize::binary::{BinDecodable, BinEncodable};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

use super::*;

type Zone = Arc<Mutex<BTreeMap<(String, RecordType), Result<Vec<RData>, ResponseCode>>>>;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// Answers from a zone; what is not in it does not exist.
async fn serve(zone: Zone) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let asked = Message::from_bytes(&buffer[..len]).unwrap();
            let query = asked.queries[0].clone();
            let mut answer = asked.clone();
            answer.metadata.message_type = MessageType::Response;
            answer.metadata.recursion_available = true;
            let key = (query.name().to_ascii(), query.query_type());
            match zone.lock().get(&key) {
                Some(Ok(records)) => {
                    for data in records {
                        let record = Record::from_rdata(query.name().clone(), 60, data.clone());
                        answer.add_answer(record);
                    }
                }
                Some(Err(code)) => answer.metadata.response_code = *code,
                None => answer.metadata.response_code = ResponseCode::NXDomain,
            }
            let _ = socket.send_to(&answer.to_bytes().unwrap(), from).await;
        }
    });
    port
}

/// Makes resolvers that ask nobody but the zone.
async fn asking(
    zone: &Zone,
) -> impl Fn() -> Result<TokioResolver, NetError> + Send + Sync + 'static {
    let port = serve(Arc::clone(zone)).await;
    move || {
        let mut connection = ConnectionConfig::udp();
        connection.port = port;
        let server = NameServerConfig::new(IpAddr::V4(Ipv4Addr::LOCALHOST), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, vec![], vec![server]);
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        builder.options_mut().timeout = Duration::from_millis(500);
        builder.options_mut().attempts = 1;
        builder.options_mut().cache_size = 0;
        builder.build()
    }
}

async fn names(section: &str, zone: &Zone) -> Names {
    let resolver = asking(zone).await;
    let config = serde_saphyr::from_str(section).unwrap();
    let counters = Counters::new("scrape", &metrics::Registry::new()).unwrap();
    Names::with(&config, counters, Box::new(resolver))
}

async fn found(names: &Names) -> Vec<String> {
    let groups = names.refresh().await.unwrap();
    let targets = groups
        .iter()
        .flat_map(|g| &g.targets)
        .map(ToString::to_string);
    let mut targets: Vec<String> = targets.collect();
    targets.sort();
    targets
}

#[tokio::test]
async fn a_service_without_pods_has_no_addresses() {
    let zone = Zone::default();
    let key = || ("_grpc._tcp.x.example.com.".to_owned(), RecordType::SRV);
    let service = SRV::new(0, 0, 10901, name("127.0.0.1."));
    zone.lock().insert(key(), Ok(vec![RData::SRV(service)]));
    let dns = crate::dns::Dns::with((asking(&zone).await)().unwrap());
    let ask = || dns.lookup("dnssrvnoa+_grpc._tcp.x.example.com");
    assert_eq!(ask().await.unwrap(), ["127.0.0.1:10901"]);
    // Nobody is ready: no records, or no name.
    zone.lock().insert(key(), Ok(Vec::new()));
    assert_eq!(ask().await.unwrap(), [] as [&str; 0]);
    zone.lock().remove(&key());
    assert_eq!(ask().await.unwrap(), [] as [&str; 0]);
    // That is not known.
    zone.lock().insert(key(), Err(ResponseCode::ServFail));
    assert!(ask().await.is_err());
}

#[tokio::test]
async fn records_of_every_kind() {
    let zone = Zone::default();
    let srv = SRV::new(0, 0, 9100, name("a.example.com."));
    let alias = RData::CNAME(CNAME(name("real.example.com.")));
    for (kind, records) in [
        (RecordType::SRV, vec![RData::SRV(srv)]),
        (RecordType::A, vec![alias, RData::A(A::new(10, 0, 0, 1))]),
        (
            RecordType::AAAA,
            vec![RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))],
        ),
        (
            RecordType::MX,
            vec![RData::MX(MX::new(10, name("mail.example.com.")))],
        ),
        (RecordType::NS, vec![RData::NS(NS(name("ns.example.com.")))]),
    ] {
        zone.lock()
            .insert(("x.example.com.".to_owned(), kind), Ok(records));
    }
    for (kind, want) in [
        (
            "SRV",
            "{__address__=\"a.example.com:9100\", __meta_dns_name=\"x.example.com\", __meta_dns_srv_record_port=\"9100\", __meta_dns_srv_record_target=\"a.example.com.\"}",
        ),
        (
            "a",
            "{__address__=\"10.0.0.1:80\", __meta_dns_name=\"x.example.com\"}",
        ),
        (
            "AAAA",
            "{__address__=\"[fd00::1]:80\", __meta_dns_name=\"x.example.com\"}",
        ),
        (
            "MX",
            "{__address__=\"mail.example.com:80\", __meta_dns_mx_record_target=\"mail.example.com.\", __meta_dns_name=\"x.example.com\"}",
        ),
        (
            "NS",
            "{__address__=\"ns.example.com:80\", __meta_dns_name=\"x.example.com\", __meta_dns_ns_record_target=\"ns.example.com.\"}",
        ),
    ] {
        let section = format!("{{names: [x.example.com], type: {kind}, port: 80}}");
        assert_eq!(found(&names(&section, &zone).await).await, [want], "{kind}");
    }
}

#[tokio::test]
async fn what_is_gone_is_told_from_what_cannot_be_known() {
    let zone = Zone::default();
    let put = |host: &str, answer| {
        zone.lock().insert((host.to_owned(), RecordType::A), answer);
    };
    put("there.", Ok(vec![RData::A(A::new(10, 0, 0, 1))]));
    put("empty.", Ok(vec![]));
    put("ill.", Err(ResponseCode::ServFail));
    put("mum.", Err(ResponseCode::Refused));
    let section = "{names: [there., empty., gone., ill., mum.], type: A, port: 1}";
    let names = names(section, &zone).await;
    let groups = names.refresh().await.unwrap();
    let said: Vec<(&str, usize)> = groups
        .iter()
        .map(|g| (&*g.source, g.targets.len()))
        .collect();
    assert_eq!(said, [("empty.", 0), ("gone.", 0), ("there.", 1)]);
    assert_eq!(
        (
            names.counters.dns_lookups.get(),
            names.counters.dns_failures.get()
        ),
        (5, 2)
    );
}

//! Several clusters, each with its own authority: a querier in each that shows and demands certificates,
//! and a global one that brings a client certificate of its own to each.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

use crate::fleet::{Role, ours, role, wait};
use crate::process::{Process, free_port};

/// A certificate authority and what it issued, as files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Authority {
    /// An authority whose files lie in `dir`.
    pub fn new(dir: &Path) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("ca.pem"), issuer.pem()).unwrap();
        Self {
            issuer,
            dir: dir.to_owned(),
        }
    }

    /// Writes a certificate for `name`.
    pub fn issue(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

struct Cluster {
    authority: Authority,
    name: &'static str,
    _server: Process,
    leaf: Role,
}

/// A server that scrapes itself, and a querier before it that speaks TLS.
async fn cluster(dir: &Path, name: &'static str) -> Cluster {
    let dir = dir.join(name);
    let authority = Authority::new(&dir);
    // The name is not the address's: whoever asks must know it.
    let host = format!("{name}.example.net");
    authority.issue(&host);
    authority.issue("global");
    let (http, grpc) = (free_port(), free_port());
    let text = format!(
        "global:\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  external_labels: {{cluster: {name}}}\nscrape_configs:\n- job_name: self\n  static_configs:\n  - targets: ['127.0.0.1:{http}']\n"
    );
    std::fs::write(dir.join("prometheus.yml"), text).unwrap();
    let args = [
        "server".to_owned(),
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        format!("--web.listen-address=127.0.0.1:{http}"),
        format!("--grpc-address=127.0.0.1:{grpc}"),
    ];
    let mut server = Process::start(ours(), &dir, http, args);
    server.wait_for("/-/ready").await;
    let file = |name: &str| authority.file(name).display().to_string();
    let args = [
        format!("--endpoint=127.0.0.1:{grpc}"),
        format!("--grpc-server-tls-cert={}", file(&format!("{host}.pem"))),
        format!("--grpc-server-tls-key={}", file(&format!("{host}.key"))),
        format!("--grpc-server-tls-client-ca={}", file("ca.pem")),
    ];
    let leaf = role(&ours(), &dir, "query", &args).await;
    Cluster {
        authority,
        name,
        _server: server,
        leaf,
    }
}

fn endpoint(cluster: &Cluster, certificate: &Authority) -> String {
    let file = |authority: &Authority, name: &str| authority.file(name).display().to_string();
    format!(
        "- address: 127.0.0.1:{}\n  client_config:\n    server_name: {}.example.net\n    compression: snappy\n    tls_config:\n      ca_file: {}\n      cert_file: {}\n      key_file: {}\n",
        cluster.leaf.grpc,
        cluster.name,
        file(&cluster.authority, "ca.pem"),
        file(certificate, "global.pem"),
        file(certificate, "global.key"),
    )
}

async fn ups(role: &Role) -> Vec<String> {
    let answer = role.process.get("/api/v1/query", &[("query", "up")]).await;
    let mut found: Vec<String> = answer["data"]["result"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|s| s["metric"]["cluster"].as_str().unwrap_or("").to_owned())
        .collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_global_querier_is_the_union_of_its_clusters() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let east = cluster(dir, "east").await;
    let mut west = cluster(dir, "west").await;
    let list = [
        endpoint(&east, &east.authority),
        endpoint(&west, &west.authority),
    ]
    .concat();
    let sd = dir.join("endpoints.yml");
    std::fs::write(&sd, format!("endpoints:\n{list}")).unwrap();
    let args = [
        format!("--endpoint.sd-config-file={}", sd.display()),
        "--endpoint.sd-config-reload-interval=1s".to_owned(),
        "--endpoint.info-timeout=1s".to_owned(),
        "--query.timeout=10s".to_owned(),
    ];
    let global = role(&ours(), dir, "query", &args).await;
    wait("both clusters", 60, async || {
        ups(&global).await == ["east", "west"]
    })
    .await;
    let both = global
        .process
        .get("/api/v1/query", &[("query", "up")])
        .await;
    assert!(both["warnings"].is_null(), "{both}");
    let stores = global.process.get("/api/v1/stores", &[]).await;
    assert_eq!(
        stores["data"]["query"].as_array().map(Vec::len),
        Some(2),
        "{stores}"
    );

    // A certificate of the other authority opens no door.
    let wrong = [
        endpoint(&east, &east.authority),
        endpoint(&west, &east.authority),
    ]
    .concat();
    let other = dir.join("wrong.yml");
    std::fs::write(&other, format!("endpoints:\n{wrong}")).unwrap();
    let args = [
        format!("--endpoint.sd-config-file={}", other.display()),
        "--endpoint.info-timeout=1s".to_owned(),
    ];
    let stranger = role(&ours(), dir, "query", &args).await;
    wait("one cluster", 30, async || ups(&stranger).await == ["east"]).await;
    let said = stranger
        .process
        .get("/api/v1/query", &[("query", "up")])
        .await;
    let address = format!("127.0.0.1:{}", west.leaf.grpc);
    assert!(
        said["warnings"][0].as_str().unwrap().contains(&address),
        "{said}"
    );

    // One is cut off: it is named, and the rest answers in time.
    west.leaf.process.kill();
    let mut said = Value::Null;
    wait("a warning", 30, async || {
        let begun = Instant::now();
        said = global
            .process
            .get("/api/v1/query", &[("query", "up")])
            .await;
        assert!(begun.elapsed() < Duration::from_secs(10), "in time: {said}");
        said["warnings"].as_array().is_some_and(|w| !w.is_empty())
    })
    .await;
    assert_eq!(ups(&global).await, ["east"]);
    assert!(
        said["warnings"][0].as_str().unwrap().contains(&address),
        "{said}"
    );

    // It leaves the file, and nothing is missed any more.
    std::fs::write(
        &sd,
        format!("endpoints:\n{}", endpoint(&east, &east.authority)),
    )
    .unwrap();
    wait("no warning", 30, async || {
        let said = global
            .process
            .get("/api/v1/query", &[("query", "up")])
            .await;
        said["warnings"].is_null() && said["status"] == "success"
    })
    .await;
    for mut role in [global, stranger, east.leaf] {
        assert!(role.process.stop(), "a clean stop:\n{}", role.process.log());
    }
}

//! Targets from Consul.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use discovery::config::Discovery;
use discovery::{Found, Manager, ManagerOptions};
use metrics::Registry;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

/// What Consul says, each answer with its index; it waits while the caller knows the index.
#[derive(Default)]
struct Consul {
    answers: Mutex<BTreeMap<String, (u64, Value)>>,
    requests: Mutex<Vec<String>>,
    changed: watch::Sender<u64>,
}

impl Consul {
    async fn start() -> (Arc<Self>, String) {
        let consul = Arc::new(Self::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = axum::Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&consul));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (consul, address)
    }

    fn say(&self, path: &str, answer: Value) {
        let mut answers = self.answers.lock();
        let index = answers.values().map(|(index, _)| *index).max().unwrap_or(0) + 1;
        answers.insert(path.to_owned(), (index, answer));
        self.changed.send_modify(|n| *n += 1);
    }

    fn asked(&self, part: &str) -> usize {
        self.requests
            .lock()
            .iter()
            .filter(|r| r.contains(part))
            .count()
    }
}

async fn answer(State(consul): State<Arc<Consul>>, request: Request) -> Response {
    let token = request.headers().get("x-consul-token");
    if token.is_none_or(|t| t != "hush") {
        return StatusCode::FORBIDDEN.into_response();
    }
    consul.requests.lock().push(request.uri().to_string());
    let query = request.uri().query().unwrap_or("").to_owned();
    let known = query
        .split('&')
        .find_map(|t| t.strip_prefix("index=")?.parse::<u64>().ok());
    let mut changed = consul.changed.subscribe();
    loop {
        changed.borrow_and_update();
        let answer = consul.answers.lock().get(request.uri().path()).cloned();
        match answer {
            None => return StatusCode::NOT_FOUND.into_response(),
            Some((index, value)) if known != Some(index) => {
                let index = index.to_string();
                return ([("x-consul-index", index)], axum::Json(value)).into_response();
            }
            Some(_) => changed.changed().await.unwrap(),
        }
    }
}

async fn until(found: &mut watch::Receiver<Found>, want: &[&str]) {
    let all = |found: &Found| {
        let groups = found["job"].iter();
        let targets =
            groups.flat_map(|g| g.targets.iter().map(|t| g.labels.overlay(t).to_string()));
        let mut all: Vec<String> = targets.collect();
        all.sort();
        all
    };
    let there = found.wait_for(|found| all(found) == want);
    if tokio::time::timeout(Duration::from_secs(20), there)
        .await
        .is_err()
    {
        panic!("got {:#?}, not {want:#?}", all(&found.borrow()));
    }
}

fn run(section: &str) -> (Manager, watch::Receiver<Found>) {
    let options = ManagerOptions {
        reload_interval: Duration::from_millis(5),
    };
    let manager = Manager::new("scrape", &Registry::new(), options).unwrap();
    let job: Discovery = serde_saphyr::from_str(section).unwrap();
    assert_eq!(job.unsupported(), [""; 0]);
    let found = manager.subscribe();
    manager.apply([("job", &job)]);
    (manager, found)
}

#[tokio::test]
async fn services_of_the_catalog_with_their_instances() {
    let (consul, address) = Consul::start().await;
    consul.say("/v1/agent/self", json!({"Config": {"Datacenter": "dc1"}}));
    consul.say(
        "/v1/catalog/services",
        json!({"web": ["a", "b"], "db": ["a"], "other": []}),
    );
    let web = |status: &str| {
        json!([{
            "Node": {"Node": "n1", "Address": "10.0.0.1", "Meta": {"rack-id": "r"},
                     "TaggedAddresses": {"lan": "10.0.0.1"}},
            "Service": {"ID": "web-1", "Service": "web", "Tags": ["a", "b"], "Address": "",
                        "Port": 80, "Meta": {"v.1": "x"}, "Namespace": "ns", "Partition": "p"},
            "Checks": [{"CheckID": "c", "Status": "passing"}, {"CheckID": "d", "Status": status}],
        }])
    };
    consul.say("/v1/health/service/web", web("warning"));
    let (_manager, mut found) = run(&format!(
        "consul_sd_configs: [{{server: '{address}', token: hush, tags: [a, b], node_meta: {{k: v}},
          filter: 'x == y', health_filter: 'Node.Meta.z == w', namespace: ns, partition: p,
          refresh_interval: 50ms}}]"
    ));
    let target = |health: &str| {
        format!(
            "{{__address__=\"10.0.0.1:80\", __meta_consul_address=\"10.0.0.1\", \
         __meta_consul_dc=\"dc1\", __meta_consul_health=\"{health}\", \
         __meta_consul_metadata_rack_id=\"r\", __meta_consul_namespace=\"ns\", \
         __meta_consul_node=\"n1\", __meta_consul_partition=\"p\", \
         __meta_consul_service=\"web\", __meta_consul_service_id=\"web-1\", \
         __meta_consul_service_metadata_v_1=\"x\", __meta_consul_service_port=\"80\", \
         __meta_consul_tagged_address_lan=\"10.0.0.1\", __meta_consul_tags=\",a,b,\"}}"
        )
    };
    until(&mut found, &[&target("warning")]).await;
    consul.say("/v1/health/service/web", web("critical"));
    until(&mut found, &[&target("critical")]).await;

    // Only the service with both tags was asked for, with everything that narrows it down.
    assert_eq!(consul.asked("/v1/health/service/db"), 0);
    let place = "ns=ns&partition=p&stale=&node-meta=k%3Av";
    assert!(
        consul.asked(&format!(
            "/v1/catalog/services?{place}&filter=x%20%3D%3D%20y"
        )) >= 1
    );
    let health =
        format!("/v1/health/service/web?{place}&filter=Node.Meta.z%20%3D%3D%20w&tag=a&tag=b");
    assert!(consul.asked(&health) >= 2);
    assert!(consul.asked("&index=") >= 1 && consul.asked("wait=120000ms") >= 3);

    consul.say("/v1/catalog/services", json!({}));
    until(&mut found, &[]).await;
}

#[tokio::test]
async fn named_services_need_no_catalog() {
    let (consul, address) = Consul::start().await;
    consul.say(
        "/c/v1/health/service/db",
        json!([{
            "Node": {"Node": "n", "Address": "10.0.0.2", "TaggedAddresses": null},
            "Service": {"ID": "db", "Tags": null, "Address": "fd00::1", "Port": 5432},
            "Checks": [{"CheckID": "_service_maintenance:db", "Status": "critical"}],
        }]),
    );
    let (_manager, mut found) = run(&format!(
        "consul_sd_configs: [{{server: 'http://{address}', path_prefix: /c, datacenter: dc2,
          token: hush, services: [db], tag_separator: '|', allow_stale: false}}]"
    ));
    let target = "{__address__=\"[fd00::1]:5432\", __meta_consul_address=\"10.0.0.2\", \
         __meta_consul_dc=\"dc2\", __meta_consul_health=\"maintenance\", \
         __meta_consul_node=\"n\", __meta_consul_service=\"db\", \
         __meta_consul_service_address=\"fd00::1\", __meta_consul_service_id=\"db\", \
         __meta_consul_service_port=\"5432\", __meta_consul_tags=\"||\"}";
    until(&mut found, &[target]).await;
    assert_eq!(
        consul.asked("/v1/catalog") + consul.asked("/v1/agent") + consul.asked("stale"),
        0
    );
}

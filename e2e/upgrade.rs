//! From the version before to this one and back, while samples are pushed and queries asked: no query
//! fails, no sample is lost. `EPIMETHEUS_PREVIOUS` names the binary of the version before; without
//! it, this version takes over from itself.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fleet::{Role, ours, role, wait};
use crate::process::{Process, free_port};
use crate::remote::{counting, gaps, numbers};

fn previous() -> PathBuf {
    match std::env::var_os("EPIMETHEUS_PREVIOUS") {
        Some(path) => path.into(),
        None => {
            println!(
                "EPIMETHEUS_PREVIOUS names no version before: this one takes over from itself"
            );
            ours()
        }
    }
}

/// One of a pair of servers, as a StatefulSet has it: its folder and ports stay.
struct Server {
    dir: PathBuf,
    process: Process,
    grpc: u16,
}

impl Server {
    async fn new(program: &Path, dir: &Path, replica: &str) -> Self {
        let dir = dir.join(replica);
        std::fs::create_dir(&dir).unwrap();
        let config = format!("global: {{external_labels: {{cluster: e2e, replica: {replica}}}}}\n");
        std::fs::write(dir.join("server.yml"), config).unwrap();
        let (http, grpc) = (free_port(), free_port());
        let process = Self::start(program, &dir, http, grpc).await;
        Self { dir, process, grpc }
    }

    async fn start(program: &Path, dir: &Path, http: u16, grpc: u16) -> Process {
        let args = [
            "server".to_owned(),
            "--config.file=server.yml".to_owned(),
            format!("--web.listen-address=127.0.0.1:{http}"),
            format!("--grpc-address=127.0.0.1:{grpc}"),
            "--storage.tsdb.path=data".to_owned(),
            // Blocks are cut by either version, and read by the other.
            "--storage.tsdb.min-block-duration=10s".to_owned(),
            "--storage.tsdb.max-block-duration=10s".to_owned(),
            "--web.enable-remote-write-receiver".to_owned(),
        ];
        let mut process = Process::start(program, dir, http, args);
        process.wait_for("/-/ready").await;
        process
    }

    async fn becomes(&mut self, program: &Path) {
        assert!(self.process.stop(), "{}", self.process.log());
        self.process = Self::start(program, &self.dir, self.process.port, self.grpc).await;
    }
}

/// What pushes: its log keeps what a receiver cannot take at the moment.
async fn agent(program: &Path, dir: &Path, target: u16, servers: &[Server]) -> Process {
    let queue = "{batch_send_deadline: 100ms, min_backoff: 50ms, max_backoff: 200ms}";
    let mut config = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
         scrape_configs: [{{job_name: e2e, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\nremote_write:\n"
    );
    for server in servers {
        let url = server.process.url("/api/v1/write");
        config += &format!("- {{url: '{url}', queue_config: {queue}}}\n");
    }
    std::fs::write(dir.join("agent.yml"), config).unwrap();
    let port = free_port();
    let args = [
        "server".to_owned(),
        "--agent".to_owned(),
        "--config.file=agent.yml".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let mut process = Process::start(program, dir, port, args);
    process.wait_for("/-/ready").await;
    process
}

async fn querier(program: &Path, dir: &Path, servers: &[Server]) -> Role {
    let mut args = vec!["--query.replica-label=replica".to_owned()];
    args.extend(
        servers
            .iter()
            .map(|s| format!("--endpoint=127.0.0.1:{}", s.grpc)),
    );
    role(program, dir, "query", &args).await
}

/// The addresses of the queriers' Service.
type Service = Arc<Mutex<Vec<u16>>>;

/// A scrape that came too late on a busy machine is no loss: the staleness that it leaves is looked past.
const QUESTION: &str = "count(last_over_time(counted_total[1m]))";

/// Clients that ask whoever the Service names, until they are told to end.
struct Clients {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Clients {
    fn start(service: &Service) -> Self {
        let (over, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let failed = Arc::<Mutex<Vec<String>>>::default();
        let one = || {
            let (service, over, asked, failed) =
                (service.clone(), over.clone(), asked.clone(), failed.clone());
            async move {
                while !over.load(Ordering::Relaxed) {
                    let n = asked.fetch_add(1, Ordering::Relaxed);
                    let port = {
                        let ports = service.lock().unwrap();
                        ports[n % ports.len()]
                    };
                    // A connection of its own each time: none is kept to a querier that goes.
                    let client = reqwest::Client::new();
                    let url = format!("http://127.0.0.1:{port}/api/v1/query?query={QUESTION}");
                    let answer = async { client.get(url).send().await?.text().await }.await;
                    if !matches!(&answer, Ok(text) if text.contains("\"20\"]")) {
                        failed
                            .lock()
                            .unwrap()
                            .push(format!("{} {port}: {answer:?}", jiff::Timestamp::now()));
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let tasks = (0..4).map(|_| tokio::spawn(one())).collect();
        Self {
            over,
            asked,
            failed,
            tasks,
        }
    }

    async fn end(self) -> (usize, Vec<String>) {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let failed = std::mem::take(&mut *self.failed.lock().unwrap());
        (self.asked.load(Ordering::Relaxed), failed)
    }
}

fn now() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1e3
}

/// Whether a querier has seen both stores since a time.
async fn sees_both(querier: &Process, since: jiff::Timestamp) -> bool {
    let answer = querier.get("/api/v1/stores", &[]).await;
    let stores = answer["data"].as_object().cloned().unwrap_or_default();
    let seen = |store: &&serde_json::Value| {
        let at = store["lastCheck"]
            .as_str()
            .and_then(|t| t.parse::<jiff::Timestamp>().ok());
        store["lastError"].is_null() && at.is_some_and(|at| at > since)
    };
    let all = stores.values().filter_map(|list| list.as_array()).flatten();
    all.filter(seen).count() == 2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_and_a_rollback_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (before, after) = (previous(), ours());
    let target = counting().await;
    let mut servers = vec![
        Server::new(&before, dir, "a").await,
        Server::new(&before, dir, "b").await,
    ];
    let mut pusher = agent(&before, dir, target, &servers).await;
    let mut queriers = vec![
        querier(&before, dir, &servers).await,
        querier(&before, dir, &servers).await,
    ];
    for querier in &queriers {
        let full = |r: &serde_json::Value| r[0]["value"][1] == "20";
        querier.process.wait_until(QUESTION, full).await;
    }
    let service: Service = Arc::new(Mutex::new(
        queriers.iter().map(|q| q.process.port).collect(),
    ));
    let clients = Clients::start(&service);
    for program in [&after, &before] {
        for server in &mut servers {
            server.becomes(program).await;
            // The next one goes when this one is known to be there again: a chart's minReadySeconds.
            let ready = jiff::Timestamp::now();
            for querier in &queriers {
                wait("both stores", 60, async || {
                    sees_both(&querier.process, ready).await
                })
                .await;
            }
        }
        for (i, place) in queriers.iter_mut().enumerate() {
            let new = querier(program, dir, &servers).await;
            service.lock().unwrap()[i] = new.process.port;
            let mut old = std::mem::replace(place, new);
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(old.process.stop(), "{}", old.process.log());
        }
        assert!(pusher.stop(), "{}", pusher.log());
        pusher = agent(program, dir, target, &servers).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let (asked, failed) = clients.end().await;
    assert!(
        failed.is_empty(),
        "{} of {asked}: {:?}",
        failed.len(),
        failed.first()
    );
    assert!(pusher.stop(), "{}", pusher.log());
    let query = "counted_total{series=\"0\"}[1h]";
    let mut all = Vec::new();
    for server in &servers {
        let arrived = numbers(&server.process, query).await;
        let gaps = gaps(&arrived);
        // A scrape that failed, or was under way when the agent was asked to stop, is none of its samples.
        let failed = server
            .process
            .query(
                "sum(count_over_time(up[1h]) - sum_over_time(up[1h]))",
                now(),
            )
            .await;
        let failed = failed[0]["value"][1]
            .as_str()
            .map_or(0.0, |n| n.parse().unwrap());
        assert!(
            gaps.len() as f64 <= failed + 2.0,
            "{gaps:?}\n{}",
            server.process.log()
        );
        all.push(arrived);
    }
    assert_eq!(all[0], all[1], "what one has the other has");
    println!(
        "{asked} queries, {} scrapes on either server: none failed, none lost",
        all[0].len()
    );
}

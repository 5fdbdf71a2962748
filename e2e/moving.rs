//! Moving house, as `docs/migrate.md` has it: a deployment of a real Prometheus and Thanos' roles becomes ours one
//! step after the other, each with its check and its way back, and answers the same all the time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::fleet::{answers, ours, wait};
use crate::peers::thanos;
use crate::process::{Process, available, free_port, node_exporter};

const ROLES: [&str; 5] = ["prometheus", "sidecar", "store", "rule", "query"];

/// A deployment on ports that stay, whoever serves them.
struct House {
    dir: PathBuf,
    thanos: PathBuf,
    /// Ports of HTTP and gRPC.
    ports: BTreeMap<&'static str, (u16, u16)>,
    running: BTreeMap<&'static str, Process>,
    /// A moment of which all is asked, in seconds, and what was answered first.
    time: f64,
    before: Vec<Vec<Value>>,
}

impl House {
    fn grpc(&self, role: &str) -> String {
        format!("127.0.0.1:{}", self.ports[role].1)
    }

    fn http(&self, role: &str) -> String {
        format!("127.0.0.1:{}", self.ports[role].0)
    }

    fn bucket(&self) -> String {
        format!(
            "--objstore.config-file={}",
            self.dir.join("bucket.yml").display()
        )
    }

    /// The command line of a role of Thanos, which is ours, too.
    fn args(&self, role: &str, program: &Path) -> Vec<String> {
        let own = match program == ours() {
            true => "ours",
            false => "theirs",
        };
        let mut args = vec![
            role.to_owned(),
            format!("--http-address={}", self.http(role)),
            format!("--grpc-address={}", self.grpc(role)),
        ];
        let path = |name: &str| self.dir.join(name).display().to_string();
        args.extend(match role {
            "sidecar" => vec![
                format!("--prometheus.url=http://{}", self.http("prometheus")),
                format!("--tsdb.path={}", path("data")),
                "--prometheus.get_config_interval=1s".to_owned(),
                self.bucket(),
            ],
            "store" => vec![
                format!("--data-dir={}", path(&format!("store-{own}"))),
                "--sync-block-duration=1s".to_owned(),
                self.bucket(),
            ],
            "rule" => vec![
                format!("--data-dir={}", path("ruler")),
                format!("--rule-file={}", path("rules.yml")),
                format!("--query=http://{}", self.http("query")),
                "--eval-interval=1s".to_owned(),
                "--label=ruler=\"m\"".to_owned(),
                "--label=replica=\"a\"".to_owned(),
            ],
            _ => ["sidecar", "store", "rule"]
                .iter()
                .map(|role| format!("--endpoint={}", self.grpc(role)))
                .chain(["--query.replica-label=replica".to_owned()])
                .collect(),
        });
        args
    }

    fn prometheus(&self) -> Vec<String> {
        vec![
            "--config.file=prometheus.yml".to_owned(),
            format!("--web.listen-address={}", self.http("prometheus")),
            "--storage.tsdb.path=data".to_owned(),
            "--storage.tsdb.min-block-duration=20s".to_owned(),
            "--storage.tsdb.max-block-duration=20s".to_owned(),
        ]
    }

    /// Ends what runs in a role, cleanly.
    fn stop(&mut self, role: &'static str) {
        if let Some(mut process) = self.running.remove(role) {
            assert!(process.stop(), "{role}: a clean stop:\n{}", process.log());
        }
    }

    async fn start(&mut self, role: &'static str, program: &Path, args: Vec<String>) {
        self.stop(role);
        let mut process = Process::start(program, &self.dir, self.ports[role].0, args);
        process.wait_for("/-/ready").await;
        self.running.insert(role, process);
    }

    /// A program stands where another one stood.
    async fn put(&mut self, role: &'static str, program: &Path) {
        let args = self.args(role, program);
        self.start(role, program, args).await;
    }

    fn process(&self, role: &str) -> &Process {
        &self.running[role]
    }

    /// A metric of a role; 0 if it does not tell.
    async fn metric(&self, role: &str, name: &str) -> f64 {
        let text = self.process(role).text("/metrics").await;
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0.0)
    }

    /// Nothing is missed, and what is old is answered as before.
    async fn well(&self, step: &str) {
        wait(
            &format!("{step}: every endpoint without an error"),
            60,
            async || {
                let stores = self.process("query").get("/api/v1/stores", &[]).await;
                let kinds = stores["data"].as_object().into_iter().flatten();
                let lists = kinds.filter_map(|(_, list)| list.as_array());
                let well = lists.flatten().filter(|s| s["lastError"].is_null());
                well.count() == 3
            },
        )
        .await;
        let mut found = Vec::new();
        wait(&format!("{step}: the answers of before"), 60, async || {
            found = answers(self.process("query"), self.time).await;
            found == self.before
        })
        .await;
        // And what is new comes, rules among it.
        for expr in ["up", "up:count"] {
            let fresh = |r: &Value| r.as_array().is_some_and(|r| r.len() == 1);
            self.process("query").wait_until(expr, fresh).await;
        }
        wait(&format!("{step}: rules in health"), 30, async || {
            let rules = self.process("rule").get("/api/v1/rules", &[]).await;
            let rules = &rules["data"]["groups"][0]["rules"];
            rules[0]["health"] == "ok" && rules[1]["health"] == "ok"
        })
        .await;
    }

    /// A run of a compactor, and what the step says is to be looked at.
    async fn compact(&self, program: &Path, step: &str) {
        let out = Command::new(program)
            .args([
                "compact",
                "--consistency-delay=0s",
                "--http-address=127.0.0.1:0",
            ])
            .arg(format!("--data-dir={}", self.dir.join("compact").display()))
            .arg(self.bucket())
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{step}: {log}");
        assert!(!log.contains("critical error"), "{step}: {log}");
        self.well(step).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_house_is_moved_step_by_step_and_back() {
    const NAME: &str = "a_house_is_moved_step_by_step_and_back";
    let Some(thanos) = thanos(NAME) else {
        return;
    };
    if !available("prometheus", NAME) || !available("prometheus-node-exporter", NAME) {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let dir = root.path();
    let exporter = node_exporter(dir).await;
    let texts = [
        (
            "prometheus.yml",
            format!(
                "global:\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  external_labels: {{cluster: e2e, replica: a}}\nscrape_configs:\n- job_name: node\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
                exporter.port
            ),
        ),
        (
            "rules.yml",
            "groups: [{name: m, interval: 1s, rules: [{record: 'up:count', expr: 'count(up)'}, {alert: Up, expr: 'count(up) > 0'}]}]".to_owned(),
        ),
        (
            "bucket.yml",
            format!("type: FILESYSTEM\nconfig: {{directory: {}}}\n", dir.join("bucket").display()),
        ),
    ];
    for (name, text) in texts {
        std::fs::write(dir.join(name), text).unwrap();
    }
    let mut house = House {
        dir: dir.to_owned(),
        thanos: thanos.clone(),
        ports: ROLES
            .into_iter()
            .map(|role| (role, (free_port(), free_port())))
            .collect(),
        running: BTreeMap::new(),
        time: 0.0,
        before: Vec::new(),
    };
    let args = house.prometheus();
    house
        .start("prometheus", Path::new("prometheus"), args)
        .await;
    for role in ["sidecar", "store", "query", "rule"] {
        house.put(role, &thanos).await;
    }
    // Until the bucket has something of the past.
    wait("blocks in the bucket", 180, async || {
        house
            .metric("store", "thanos_bucket_store_blocks_loaded")
            .await
            >= 1.0
    })
    .await;
    let now = model::time::Clock::now(&model::time::WallClock) as f64 / 1000.0;
    house.time = now.floor() - 5.0;
    house.before = answers(house.process("query"), house.time).await;
    assert!(
        house.before.iter().all(|a| !a.is_empty()),
        "{:?}",
        house.before
    );
    house.well("before the first step").await;

    // Query, store, rule, sidecar: each there, back, and there again.
    for role in ["query", "store", "rule", "sidecar"] {
        for program in [&ours(), &house.thanos.clone(), &ours()] {
            let step = format!("{role} is {}", program.display());
            house.put(role, program).await;
            house.well(&step).await;
            match role {
                "store" => {
                    let loaded = house
                        .metric(role, "thanos_bucket_store_blocks_loaded")
                        .await;
                    assert!(loaded >= 1.0, "{step}");
                }
                "sidecar" => {
                    let up = house.metric(role, "thanos_sidecar_prometheus_up").await;
                    assert!(up >= 1.0, "{step}");
                    // Its state file goes on; both look at the start, and then every half minute.
                    wait(&format!("{step}: an upload"), 120, async || {
                        house.metric(role, "thanos_shipper_uploads_total").await >= 1.0
                    })
                    .await;
                }
                _ => {}
            }
        }
    }

    // Prometheus and its sidecar become one server on the same folder, and two again.
    for back in [true, false] {
        house.stop("sidecar");
        let mut args = house.prometheus();
        args.insert(0, "server".to_owned());
        args.push(format!("--grpc-address={}", house.grpc("sidecar")));
        args.push(house.bucket());
        house.start("prometheus", &ours(), args).await;
        house.well("a server").await;
        wait("the targets to be up", 30, async || {
            let server = house.process("prometheus");
            let targets = server.get("/api/v1/targets", &[]).await;
            targets["data"]["activeTargets"][0]["health"] == "up"
        })
        .await;
        if back {
            let args = house.prometheus();
            house
                .start("prometheus", Path::new("prometheus"), args)
                .await;
            house.put("sidecar", &ours()).await;
            house.well("Prometheus again").await;
        }
    }

    for program in [&ours(), &house.thanos.clone(), &ours()] {
        let step = format!("compact is {}", program.display());
        house.compact(program, &step).await;
    }
    for role in ["query", "rule", "store", "prometheus"] {
        house.stop(role);
    }
}

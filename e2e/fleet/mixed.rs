//! A fleet of Thanos' roles and ours: each role is swapped singly, both ways, and the answers stay.

use std::path::Path;

use serde_json::Value;

use super::{Replica, Role, answers, answers_of, ours, querier, role, sorted, store, wait};
use crate::process::{Process, free_port};

/// Our fleet, and a real Thanos whose roles stand in for ours.
pub(super) struct Fleet<'a> {
    pub thanos: &'a Path,
    pub dir: &'a Path,
    /// The bucket that our sidecars ship to.
    pub objstore: &'a str,
    /// One Prometheus of the pair; its sidecar is the second.
    pub one: &'a Replica,
    pub sidecars: [&'a Role; 2],
    pub store: &'a Role,
    /// A querier over the sidecars and the store.
    pub querier: &'a Role,
    /// What is asked is asked of this moment, in seconds.
    pub time: f64,
}

/// Waits until a querier knows so many endpoints.
async fn knows(querier: &Role, count: usize) {
    wait("a querier to know its endpoints", 60, async || {
        let stores = querier.process.get("/api/v1/stores", &[]).await;
        let kinds = stores["data"].as_object().into_iter().flatten();
        let lists = kinds.filter_map(|(_, list)| list.as_array());
        let well = lists.flatten().filter(|s| s["lastError"].is_null());
        well.count() == count
    })
    .await;
}

async fn frontend(program: &Path, dir: &Path, downstream: &Process) -> Process {
    let http = free_port();
    let args = [
        "query-frontend".to_owned(),
        format!("--http-address=127.0.0.1:{http}"),
        format!(
            "--query-frontend.downstream-url=http://127.0.0.1:{}",
            downstream.port
        ),
        "--query-range.split-interval=10s".to_owned(),
        "--query-frontend.vertical-shards=2".to_owned(),
    ];
    let mut process = Process::start(program, dir, http, args);
    process.wait_for("/-/ready").await;
    process
}

/// Whether answers are of the same series, and what they say lies no further apart than two replicas
/// may be: Thanos takes each run of chunks that overlap for a replica of its own, so which replica
/// it shows of a pair depends on how the chunks were cut.
fn alike(a: &[Vec<Value>], b: &[Vec<Value>]) -> bool {
    let number = |s: &Value| s["value"][1].as_str().and_then(|v| v.parse::<f64>().ok());
    let near = |(a, b): (&Value, &Value)| {
        let apart = number(a).zip(number(b)).map(|(a, b)| (a - b).abs());
        a["metric"] == b["metric"] && apart.is_some_and(|apart| apart <= 2.0)
    };
    let pairs = || a.iter().zip(b);
    a.len() == b.len() && pairs().all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(near))
}

impl Fleet<'_> {
    async fn over(&self, program: &Path, endpoints: &[&Role]) -> Role {
        let ports: Vec<u16> = endpoints.iter().map(|role| role.grpc).collect();
        let querier = querier(program, self.dir, &ports).await;
        knows(&querier, ports.len()).await;
        querier
    }

    /// Runs every way of standing in; `before` is what our fleet answers.
    pub(super) async fn each_role_stands_in(&self, before: &[Vec<Value>]) {
        let (a, b) = (self.sidecars[0], self.sidecars[1]);
        let apart = answers_of(&self.querier.process, self.time, "false").await;
        let same = async |querier: &Role, what: &str| {
            let found = answers_of(&querier.process, self.time, "false").await;
            assert_eq!(found, apart, "{what}, replicas apart");
            let found = answers(&querier.process, self.time).await;
            assert!(alike(&found, before), "{what}: {found:?}\n{before:?}");
        };
        let theirs = self.over(self.thanos, &[a, b, self.store]).await;
        same(&theirs, "Thanos' querier over our sidecars and store").await;
        let above = self.over(self.thanos, &[self.querier]).await;
        same(&above, "Thanos' querier over our querier").await;
        let above = self.over(&ours(), &[&theirs]).await;
        same(&above, "our querier over Thanos' querier").await;

        let their_store = store(self.thanos, self.dir, self.objstore).await;
        let their_sidecar = self.one.sidecar(self.thanos, self.objstore, false).await;
        let mixed = self.over(&ours(), &[a, b, &their_store]).await;
        same(&mixed, "our querier over Thanos' store on our bucket").await;
        let mixed = self.over(&ours(), &[a, &their_sidecar, self.store]).await;
        same(&mixed, "our querier over Thanos' sidecar").await;
        let all = [a, &their_sidecar, &their_store];
        let mixed = self.over(self.thanos, &all).await;
        same(&mixed, "Thanos' querier over Thanos' sidecar and store").await;

        self.their_sidecar_ships(b).await;
        self.frontends(&theirs.process).await;
        self.rulers(&theirs).await;
    }

    /// What Thanos' sidecar ships, both stores read.
    async fn their_sidecar_ships(&self, beside: &Role) {
        let bucket = self.dir.join("theirs");
        let objstore = format!(
            "--objstore.config=type: FILESYSTEM\nconfig: {{directory: {}}}\n",
            bucket.display()
        );
        let alone = self.over(&ours(), &[beside]).await;
        let before = answers(&alone.process, self.time).await;
        let _ships = self.one.sidecar(self.thanos, &objstore, true).await;
        for (program, whose) in [(ours(), "our"), (self.thanos.to_owned(), "Thanos'")] {
            let store = store(&program, self.dir, &objstore).await;
            let over = self.over(&ours(), &[&store]).await;
            let mut found = Vec::new();
            // The newest block is listed at the end of an upload.
            wait("what Thanos' sidecar shipped", 60, async || {
                found = answers(&over.process, self.time).await;
                !found[0].is_empty()
            })
            .await;
            assert_eq!(found, before, "{whose} store over Thanos' sidecar's blocks");
        }
    }

    /// Each one's frontend before the other's querier.
    async fn frontends(&self, theirs: &Process) {
        let own = &self.querier.process;
        // Frontends ask for times that are multiples of the step.
        let end = (self.time / 10.0).floor() * 10.0;
        let (start, end) = ((end - 40.0).to_string(), end.to_string());
        let ask = async |of: &Process, (query, dedup): (&str, &str)| {
            let params = [
                ("query", query),
                ("dedup", dedup),
                ("start", &start),
                ("end", &end),
                ("step", "2"),
            ];
            let answer = of.get("/api/v1/query_range", &params).await;
            assert_eq!(answer["status"], "success", "{query}: {answer}");
            sorted(&answer["data"]["result"])
        };
        for (program, behind, what) in [
            (ours(), theirs, "our frontend before Thanos' querier"),
            (self.thanos.to_owned(), own, "Thanos' frontend before ours"),
        ] {
            let front = frontend(&program, self.dir, behind).await;
            for query in [
                // Which replica of a pair is shown depends on where a split begins.
                ("count by (mode) (node_cpu_seconds_total)", "true"),
                ("min(up)", "true"),
                ("max by (mode, replica) (node_cpu_seconds_total)", "false"),
                (
                    "max by (replica) (rate(node_cpu_seconds_total[10s]))",
                    "false",
                ),
            ] {
                let want = ask(behind, query).await;
                assert!(!want.is_empty(), "{query:?}");
                // Twice: the second answer comes from a cache.
                for _ in 0..2 {
                    assert_eq!(ask(&front, query).await, want, "{what}: {query:?}");
                }
            }
            let time = self.time.to_string();
            let params = [("query", "count(up)"), ("time", time.as_str())];
            let found = front.get("/api/v1/query", &params).await;
            let want = behind.get("/api/v1/query", &params).await;
            assert_eq!(found["data"]["result"], want["data"]["result"], "{what}");
        }
    }

    /// A ruler of each over the other's querier, and the querier over the ruler.
    async fn rulers(&self, theirs: &Role) {
        std::fs::write(
            self.dir.join("mixed-rules.yml"),
            "groups: [{name: m, interval: 1s, rules: [{record: 'up:count', expr: 'count(up)', labels: {by: rule}}, {alert: Up, expr: 'count(up) > 0'}]}]",
        )
        .unwrap();
        for (program, asked, what) in [
            (
                self.thanos.to_owned(),
                self.querier,
                "Thanos' ruler over our querier",
            ),
            (ours(), theirs, "our ruler over Thanos' querier"),
        ] {
            let data = self.dir.join(format!("ruler-{}", free_port()));
            let args = [
                format!("--query=http://127.0.0.1:{}", asked.process.port),
                format!("--rule-file={}", self.dir.join("mixed-rules.yml").display()),
                format!("--data-dir={}", data.display()),
                "--eval-interval=1s".to_owned(),
                "--label=replica=\"a\"".to_owned(),
                "--label=ruler=\"m\"".to_owned(),
            ];
            let ruler = role(&program, self.dir, "rule", &args).await;
            let mut told = Vec::new();
            for (program, whose) in [(ours(), "our"), (self.thanos.to_owned(), "Thanos'")] {
                let above = self.over(&program, &[&ruler]).await;
                let found = above
                    .process
                    .wait_until("up:count", |r| !r[0].is_null())
                    .await;
                assert_eq!(
                    found[0]["metric"],
                    serde_json::json!({"__name__": "up:count", "by": "rule", "ruler": "m"}),
                    "{what}, {whose} querier over it"
                );
                assert_eq!(found[0]["value"][1], "1", "{what}");
                above
                    .process
                    .wait_until("ALERTS{alertname=\"Up\"}", |r| !r[0].is_null())
                    .await;
                let rules = above.process.get("/api/v1/rules", &[]).await;
                let rules = rules["data"]["groups"][0]["rules"].as_array().cloned();
                let words = rules.into_iter().flatten().map(|rule| {
                    ["name", "query", "state", "health", "type", "labels"].map(|f| rule[f].clone())
                });
                told.push(words.collect::<Vec<_>>());
            }
            assert_eq!(told[0].len(), 2, "{what}: {told:?}");
            assert_eq!(told[0], told[1], "{what}: its rules through both queriers");
        }
    }
}

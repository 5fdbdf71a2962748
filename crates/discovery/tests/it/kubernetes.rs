//! Targets from a cluster: its objects, and what happens on the way to them.

mod objects;
mod roles;
mod watching;

use std::time::Duration;

use discovery::config::Discovery;
use discovery::{Found, Manager, ManagerOptions};
use kubekit::Cluster;
use metrics::{Registry, Value};
use tokio::sync::watch;

/// A cluster and a manager that looks at it.
struct Setup {
    cluster: Cluster,
    registry: Registry,
    manager: Manager,
    found: watch::Receiver<Found>,
}

impl Setup {
    async fn new() -> Self {
        let cluster = Cluster::start().await.unwrap();
        let registry = Registry::new();
        let options = ManagerOptions {
            reload_interval: Duration::from_millis(5),
        };
        let manager = Manager::new("scrape", &registry, options).unwrap();
        let found = manager.subscribe();
        Self {
            cluster,
            registry,
            manager,
            found,
        }
    }

    /// Runs one job with these keys beside the server's address.
    fn run(&self, keys: &str) {
        self.run_all(&[keys]);
    }

    /// Runs jobs `0`, `1`, ...
    fn run_all(&self, jobs: &[&str]) {
        let sections = jobs.iter().map(|keys| {
            let url = self.cluster.url();
            read(&format!(
                "kubernetes_sd_configs: [{{api_server: '{url}', {keys}}}]"
            ))
        });
        let sections: Vec<Discovery> = sections.collect();
        let names: Vec<String> = (0..jobs.len()).map(|i| i.to_string()).collect();
        let jobs = names.iter().map(String::as_str).zip(&sections);
        self.manager.apply(jobs);
    }

    /// Waits until job 0 has exactly these targets: labels as `name=value` in any order between
    /// spaces. A `~` stands for `__meta_kubernetes_`.
    async fn until(&mut self, want: &[&str]) {
        self.until_job("0", want).await;
    }

    async fn until_job(&mut self, job: &str, want: &[&str]) {
        let mut want: Vec<String> = want.iter().map(|w| sorted(w)).collect();
        want.sort();
        let there = self.found.wait_for(|found| targets(found, job) == want);
        if tokio::time::timeout(Duration::from_secs(30), there)
            .await
            .is_err()
        {
            let got = targets(&self.found.borrow(), job);
            panic!("got\n{}\nnot\n{}", got.join("\n"), want.join("\n"));
        }
    }

    /// Waits until job 0 has targets at these addresses.
    async fn until_at(&mut self, want: &[&str]) {
        let mut want: Vec<&str> = want.to_vec();
        want.sort();
        let there = self.found.wait_for(|found| addresses(found) == want);
        if tokio::time::timeout(Duration::from_secs(30), there)
            .await
            .is_err()
        {
            panic!("got {:?}, not {want:?}", addresses(&self.found.borrow()));
        }
    }

    fn number(&self, name: &str, labels: &[&str]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| *f.desc.name == *name).unwrap();
        let metrics = family.metrics.iter();
        let mut mine =
            metrics.filter(|m| labels.iter().all(|l| m.labels.iter().any(|v| **v == **l)));
        match mine.next().unwrap().value {
            Value::Number(number) => number,
            _ => panic!("{name} is no number"),
        }
    }

    /// How often something was asked whose path and query hold `part`.
    fn asked(&self, part: &str) -> usize {
        let requests = self.cluster.requests();
        requests.iter().filter(|r| r.contains(part)).count()
    }

    async fn until_watched(&self, count: usize) {
        for _ in 0..2000 {
            if self.cluster.watches() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} watches, not {count}", self.cluster.watches());
    }
}

fn read(yaml: &str) -> Discovery {
    serde_saphyr::from_str(yaml).unwrap()
}

/// Targets of a job with all their labels, sorted.
fn targets(found: &Found, job: &str) -> Vec<String> {
    let groups = found.get(job).into_iter().flat_map(|groups| groups.iter());
    let all = groups.flat_map(|g| g.targets.iter().map(|t| g.labels.overlay(t)));
    let text = |labels: model::Labels| {
        let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
        sorted(&pairs.join(" ").replace("__meta_kubernetes_", "~"))
    };
    let all = all.map(text);
    let mut all: Vec<String> = all.collect();
    all.sort();
    all
}

fn addresses(found: &Found) -> Vec<String> {
    let groups = found.get("0").into_iter().flat_map(|groups| groups.iter());
    let all = groups.flat_map(|g| g.targets.iter());
    let mut all: Vec<String> = all
        .map(|t| t.get("__address__").unwrap().to_owned())
        .collect();
    all.sort();
    all
}

fn sorted(labels: &str) -> String {
    let mut pairs: Vec<&str> = labels.split_whitespace().collect();
    pairs.sort();
    pairs.join(" ")
}

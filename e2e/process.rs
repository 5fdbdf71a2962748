//! Handles to running programs: started on free ports, killed on drop, their logs kept.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Whether a program is on `PATH`; says so where it is not.
pub fn available(program: &str, test: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        println!("SKIPPED {test}: {program} is not installed");
    }
    found
}

/// A running program with an HTTP port.
pub struct Process {
    name: String,
    child: Option<Child>,
    log: PathBuf,
    /// Where it serves HTTP.
    pub port: u16,
    client: reqwest::Client,
}

impl Process {
    /// Starts `program`; its output goes to a file in `dir`.
    pub fn start<S: AsRef<std::ffi::OsStr>>(
        program: impl AsRef<Path>,
        dir: &Path,
        port: u16,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        let program = program.as_ref();
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        let log = dir.join(format!("{name}-{port}.log"));
        let out = std::fs::File::options()
            .append(true)
            .create(true)
            .open(&log)
            .unwrap();
        let child = Command::new(program)
            .args(args)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap_or_else(|e| panic!("starting {}: {e}", program.display()));
        // Only plain HTTP is spoken here, but the client wants a provider all the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        Self {
            name,
            child: Some(child),
            log,
            port,
            client,
        }
    }

    /// Starts our own binary with `role` and `--web.listen-address` on a free port.
    pub fn epimetheus(dir: &Path, role: &str, args: &[&str]) -> Self {
        let port = free_port();
        let mut all = vec![
            role.to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        all.extend(args.iter().map(|a| (*a).to_owned()));
        Self::start(env!("CARGO_BIN_EXE_epimetheus"), dir, port, all)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// The URL of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `path` answers 200; panics with the log when it takes too long or dies.
    pub async fn wait_for(&mut self, path: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Ok(answer) = self.client.get(self.url(path)).send().await
                && answer.status().is_success()
            {
                return;
            }
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().unwrap()) {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            assert!(
                Instant::now() < end,
                "{} is not ready:\n{}",
                self.name,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// GETs JSON. The status may be anything.
    pub async fn get(&self, path: &str, params: &[(&str, &str)]) -> Value {
        let mut url = url::Url::parse(&self.url(path)).unwrap();
        if !params.is_empty() {
            url.query_pairs_mut().extend_pairs(params);
        }
        let answer = self.client.get(url.clone()).send().await;
        let body = match answer {
            Ok(answer) => answer.bytes().await,
            Err(e) => panic!("GET {url}: {e}\n{}", self.log()),
        };
        let body = body.unwrap_or_else(|e| panic!("GET {url}: {e}\n{}", self.log()));
        serde_json::from_slice(&body)
            .unwrap_or_else(|e| panic!("GET {url}: {e}: {}", String::from_utf8_lossy(&body)))
    }

    /// The status of a GET, and the body as text.
    pub async fn status(&self, path: &str, params: &[(&str, &str)]) -> (u16, String) {
        let mut url = url::Url::parse(&self.url(path)).unwrap();
        if !params.is_empty() {
            url.query_pairs_mut().extend_pairs(params);
        }
        let answer = self.client.get(url.clone()).send().await;
        let answer = answer.unwrap_or_else(|e| panic!("GET {url}: {e}\n{}", self.log()));
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// What a GET answers.
    pub async fn text(&self, path: &str) -> String {
        self.status(path, &[]).await.1
    }

    /// The result of an instant query.
    pub async fn query(&self, expr: &str, time: f64) -> Value {
        let time = time.to_string();
        let answer = self
            .get("/api/v1/query", &[("query", expr), ("time", &time)])
            .await;
        assert_eq!(
            answer["status"],
            "success",
            "{expr}: {answer}\n{}",
            self.log()
        );
        answer["data"]["result"].clone()
    }

    /// Waits until an instant query at `now` has a result that satisfies `enough`.
    pub async fn wait_until(&self, expr: &str, enough: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            let result = self.get("/api/v1/query", &[("query", expr)]).await;
            if result["status"] == "success" && enough(&result["data"]["result"]) {
                return result["data"]["result"].clone();
            }
            assert!(
                Instant::now() < end,
                "{expr} never came true: {result}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends SIGTERM and waits; returns whether it ended with status 0.
    pub fn stop(&mut self) -> bool {
        self.signal("TERM");
        self.wait()
    }

    /// Sends SIGKILL and waits.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.wait();
    }

    /// Sends a signal, by name.
    pub fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            let _ = Command::new("kill")
                .arg(format!("-{signal}"))
                .arg(child.id().to_string())
                .status();
        }
    }

    fn wait(&mut self) -> bool {
        let Some(mut child) = self.child.take() else {
            return true;
        };
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            if let Some(status) = child.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("{} does not stop:\n{}", self.name, self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.log.display(), self.log());
        }
    }
}

/// A size that the kernel tells of a process (`VmRSS:`, `VmHWM:`), bytes; 0 when it is gone.
pub fn status(id: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(field));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Seconds of CPU that a process has taken, and whether it has ended; none if it is gone.
pub fn cpu(id: u32) -> Option<(f64, bool)> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((ticks / 100.0, fields.first() == Some(&"Z")))
}

/// A real node_exporter, if there is one.
pub async fn node_exporter(dir: &Path) -> Process {
    let port = free_port();
    let mut exporter = Process::start(
        "prometheus-node-exporter",
        dir,
        port,
        [
            format!("--web.listen-address=127.0.0.1:{port}"),
            // It has nothing to say in a container, and says so at every scrape.
            "--no-collector.systemd".to_owned(),
        ],
    );
    exporter.wait_for("/metrics").await;
    exporter
}

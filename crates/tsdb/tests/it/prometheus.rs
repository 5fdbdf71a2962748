//! A real Prometheus beside us.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use model::{Labels, Sample};

use crate::Series;

/// The older and the newer Prometheus, those of them that are there.
pub(crate) fn binaries() -> Vec<String> {
    let newer = std::env::var("EPIMETHEUS_PROMETHEUS3").unwrap_or("prometheus3".into());
    let mut found = vec!["prometheus".to_owned(), newer];
    found.retain(|name| {
        let there = Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok();
        if !there {
            println!("SKIPPED: no {name} on PATH (the newer one: or in EPIMETHEUS_PROMETHEUS3)");
        }
        there
    });
    found
}

/// A running Prometheus; killed when it is dropped.
pub(crate) struct Prometheus {
    child: Child,
    pub(crate) port: u16,
}

impl Prometheus {
    /// Starts `binary` over `data`; `config` is its configuration, given the port it listens on.
    pub(crate) fn start(
        binary: &str,
        data: &Path,
        config: impl Fn(u16) -> String,
        flags: &[&str],
    ) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let file = data.with_extension("yml");
        std::fs::write(&file, config(port)).unwrap();
        let child = Command::new(binary)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--storage.tsdb.retention.time=10y")
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let p = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while p.get("/-/ready").is_none_or(|(code, _)| code != 200) {
            assert!(
                Instant::now() < deadline,
                "prometheus does not become ready"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        p
    }

    fn call(&self, request: &[u8]) -> Option<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.write_all(request).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        Some((
            head.split(' ').nth(1)?.parse().ok()?,
            answer.split_off(end + 4),
        ))
    }

    pub(crate) fn get(&self, path: &str) -> Option<(u16, Vec<u8>)> {
        self.call(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())
    }

    /// Pushes a body of remote write, version 1.
    pub(crate) fn push(&self, body: &[u8]) -> (u16, String) {
        let packed = snap::raw::Encoder::new().compress_vec(body).unwrap();
        let mut request = format!(
            "POST /api/v1/write HTTP/1.0\r\nHost: localhost\r\nContent-Encoding: snappy\r\n\
             Content-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
            packed.len()
        )
        .into_bytes();
        request.extend_from_slice(&packed);
        let (code, body) = self.call(&request).unwrap();
        (code, String::from_utf8_lossy(&body).into_owned())
    }

    /// All samples up to `end` (ms), but for stale markers, which no query shows.
    pub(crate) fn all(&self, end: i64) -> Series {
        let query = "%7B__name__%3D~%22.%2B%22%7D%5B10d%5D";
        let path = format!("/api/v1/query?query={query}&time={}", end as f64 / 1000.0);
        let (code, body) = self.get(&path).unwrap();
        assert_eq!(code, 200, "{}", String::from_utf8_lossy(&body));
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let mut series = Series::new();
        for s in json["data"]["result"].as_array().unwrap() {
            let labels = s["metric"].as_object().unwrap().iter();
            let labels = Labels::from_pairs(labels.map(|(n, v)| (n.as_str(), v.as_str().unwrap())));
            let samples = s["values"].as_array().unwrap().iter().map(|v| Sample {
                ts: (v[0].as_f64().unwrap() * 1000.0).round() as i64,
                value: v[1].as_str().unwrap().parse().unwrap(),
            });
            series.insert(labels, samples.collect());
        }
        series
    }

    pub(crate) fn signal(mut self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap();
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

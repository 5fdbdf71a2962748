//! Sections are read, judged and written.

use std::path::{Path, PathBuf};

use discovery::config::Discovery;
use serde_json::Value;

fn read(yaml: &str) -> Result<Discovery, String> {
    serde_saphyr::from_str(yaml).map_err(|e| e.to_string())
}

fn data() -> PathBuf {
    std::env::var_os("EPIMETHEUS_DATA").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").into(),
        PathBuf::from,
    )
}

/// Every discovery section that occurs anywhere in a file, each as a job of its own.
fn jobs(value: &Value, out: &mut Vec<Value>) {
    match value {
        Value::Object(map) => {
            let own = map
                .iter()
                .filter(|(k, _)| k.ends_with("_sd_configs") || *k == "static_configs");
            let own: serde_json::Map<String, Value> =
                own.map(|(k, v)| (k.clone(), v.clone())).collect();
            if !own.is_empty() {
                out.push(own.into());
            }
            map.values().for_each(|v| jobs(v, out));
        }
        Value::Array(list) => list.iter().for_each(|v| jobs(v, out)),
        _ => {}
    }
}

#[test]
fn prometheus_own_files() {
    let folder = data().join("config");
    let Ok(index) = std::fs::read_to_string(folder.join("INDEX.json")) else {
        println!("SKIPPED: {} has no INDEX.json", folder.display());
        return;
    };
    let index: Vec<Value> = serde_json::from_str(&index).unwrap();
    let (mut accepted, mut refused, mut wrong) = (0, 0, Vec::new());
    for row in &index {
        let file = row["file"].as_str().unwrap();
        let Ok(text) = std::fs::read_to_string(folder.join(file)) else {
            continue;
        };
        let Ok(value) = serde_saphyr::from_str::<Value>(&text) else {
            continue;
        };
        let mut found = Vec::new();
        jobs(&value, &mut found);
        let verdict: Result<Vec<Discovery>, String> = found
            .into_iter()
            .map(|job| read(&serde_saphyr::to_string(&job).unwrap()))
            .collect();
        let want = row["error_contains"].as_str().unwrap_or("");
        match (row["accept"].as_bool(), verdict) {
            (Some(true), Ok(jobs)) => {
                accepted += jobs.len();
                for job in jobs {
                    let text = serde_json::to_string(&job).unwrap();
                    assert!(!text.contains("mysecret"), "{file}: {text}");
                }
            }
            (Some(true), Err(e)) => wrong.push(format!("{file} must load: {e}")),
            (_, Err(e)) if e.contains(want) => refused += 1,
            // Files that are named after a mechanism are wrong in its section.
            (_, other) => {
                let name = Path::new(file).file_name().unwrap().to_str().unwrap();
                let ours =
                    text.contains(&format!("{}_sd_configs", name.split('_').next().unwrap()));
                if ours {
                    wrong.push(format!("{file} must fail with {want:?}: {other:?}"));
                }
            }
        }
    }
    println!("{accepted} sections accepted, {refused} files refused");
    assert_eq!(wrong, Vec::<String>::new());
    assert!(accepted > 30 && refused > 50);
}

#[test]
fn sections_have_prometheus_defaults() {
    let all = read(
        "static_configs:\n- targets: [a:1, 'b:2']\n  labels: {x: y}\n- targets:\n\
         file_sd_configs:\n- files: [x/*.json, y.yml]\n\
         http_sd_configs:\n- url: http://localhost/sd\n  basic_auth: {username: u, password: p}\n\
         dns_sd_configs:\n- names: [a]\n- names: [b]\n  type: a\n  port: 3\n\
         kubernetes_sd_configs:\n- role: pod\n  namespaces: {names: [n]}\n\
         ec2_sd_configs:\n- region: r\n  secret_key: hush\n\
         gce_sd_configs:\n",
    )
    .unwrap();
    assert_eq!(all.static_configs[0].targets, ["a:1", "b:2"]);
    assert_eq!(all.file_sd_configs[0].refresh_interval.0, 300_000);
    assert_eq!(all.http_sd_configs[0].refresh_interval.0, 60_000);
    assert_eq!(
        (
            all.dns_sd_configs[0].kind.as_str(),
            all.dns_sd_configs[0].refresh_interval.0
        ),
        ("SRV", 30_000)
    );
    assert_eq!(all.kubernetes_sd_configs[0].namespaces.names, ["n"]);
    let text = serde_json::to_string(&all).unwrap();
    assert!(
        !text.contains("hush") && !text.contains("\"p\"") && text.contains("<secret>"),
        "{text}"
    );
    assert!(!format!("{all:?}").contains("hush"));
    assert!(all.unsupported().contains(&"ec2_sd_configs"));
    assert!(!all.unsupported().contains(&"gce_sd_configs"));
    assert!(!all.unsupported().contains(&"file_sd_configs"));
    assert!(!all.unsupported().contains(&"dns_sd_configs"));

    let mut moved = all;
    moved.set_folder(Path::new("/etc/p"));
    assert_eq!(
        moved.file_sd_configs[0].files,
        ["/etc/p/x/*.json", "/etc/p/y.yml"]
    );
}

#[test]
fn mistakes_are_named() {
    for (yaml, want) in [
        (
            "consult_sd_configs: []",
            "field consult_sd_configs not found in type",
        ),
        (
            "static_configs: [{targats: []}]",
            "field targats not found in type",
        ),
        (
            "static_configs: [null]",
            "empty or null section in static_configs",
        ),
        (
            "static_configs: [{labels: {'': x}}]",
            "\"\" is not a valid label name",
        ),
        (
            "file_sd_configs: [{}]",
            "file service discovery config must contain at least one path name",
        ),
        (
            "file_sd_configs: [{files: [a.txt]}]",
            "path name \"a.txt\" is not valid for file discovery",
        ),
        (
            "file_sd_configs: [{files: ['a*/b.yml']}]",
            "is not valid for file discovery",
        ),
        ("http_sd_configs: [{}]", "URL is missing"),
        (
            "http_sd_configs: [{url: 'ftp://x'}]",
            "URL scheme must be 'http' or 'https'",
        ),
        (
            "http_sd_configs: [{url: x}]",
            "URL scheme must be 'http' or 'https'",
        ),
        (
            "http_sd_configs: [{url: 'http://'}]",
            "host is missing in URL",
        ),
        (
            "dns_sd_configs: [{names: [a], type: A}]",
            "a port is required in DNS-SD configs",
        ),
        (
            "dns_sd_configs: [{names: [a], type: PTR}]",
            "invalid DNS-SD records type PTR",
        ),
        ("kubernetes_sd_configs: [{}]", "role missing"),
        (
            "kubernetes_sd_configs: [{role: vacation}]",
            "unknown Kubernetes SD role \"vacation\"",
        ),
        (
            "consul_sd_configs: [{server: ' '}]",
            "consul SD configuration requires a server address",
        ),
        (
            "consul_sd_configs: [{username: a, basic_auth: {username: b}}]",
            "at most one of consul SD configuration username and password and basic auth",
        ),
        (
            "consul_sd_configs: [{token: a, authorization: {credentials: b}}]",
            "at most one of consul SD token, authorization, or oauth2",
        ),
        (
            "consul_sd_configs: [{bearer_token: a, bearer_token_file: b}]",
            "at most one of bearer_token & bearer_token_file must be configured",
        ),
    ] {
        let error = read(yaml).unwrap_err();
        assert!(error.contains(want), "{yaml}: {error}");
    }
    let url = read("static_configs: [{targets: ['http://bad']}]").unwrap();
    assert_eq!(
        url.check_static_addresses().unwrap_err(),
        "\"http://bad\" is not a valid hostname"
    );
}

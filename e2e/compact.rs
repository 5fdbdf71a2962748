//! The compactor and the bucket's tools as processes: several on one S3 bucket, beside a real Thanos
//! on copies of one bucket, with a bucket that is away, and beside everything else in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::peers::thanos;
use crate::process::{Process, available, free_port};

mod accepted;
mod backup;
mod beside;
mod duties;
mod history;
mod local;
mod measure;
mod mending;
mod outage;
mod terminal;

const HOUR: i64 = 3600;

fn ours() -> Command {
    Command::new(env!("CARGO_BIN_EXE_epimetheus"))
}

/// Runs a command to its end; gives what it printed.
fn output(command: &mut Command) -> String {
    said(command).0
}

/// Runs a command to its end; gives what it printed and what it logged.
fn said(command: &mut Command) -> (String, String) {
    let out = command.output().unwrap();
    let error = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{command:?}: {}\n{error}", out.status);
    (String::from_utf8(out.stdout).unwrap(), error)
}

/// A folder of blocks of two hours: a counter with resets and a gauge, a sample every two minutes.
fn blocks(dir: &Path, hours: i64) -> PathBuf {
    let start = 1_700_006_400 / (48 * HOUR) * 48 * HOUR;
    let mut text = String::from("# TYPE c counter\n# HELP c c\n");
    for series in 0..3i64 {
        let mut value = 0;
        for i in 0..hours * 30 {
            let step = (i * 7919 + series * 31) % 17;
            value = if i % 101 == 100 { step } else { value + step };
            let _ = writeln!(
                text,
                "c_total{{s=\"{series}\"}} {value} {}",
                start + i * 120
            );
        }
    }
    text.push_str("# TYPE g gauge\n# HELP g g\n");
    for i in 0..hours * 30 {
        let value = (i * 31 % 97) as f64 / 7.0;
        let _ = writeln!(text, "g {value} {}", start + i * 120);
    }
    text.push_str("# EOF\n");
    let input = dir.join("input.txt");
    std::fs::write(&input, text).unwrap();
    let blocks = dir.join("blocks");
    let command = ["tools", "tsdb", "create-blocks-from", "openmetrics"];
    output(ours().args(command).arg(&input).arg(&blocks));
    blocks
}

fn config(dir: &Path, name: &str, text: &str) -> String {
    let file = dir.join(format!("{name}.yml"));
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn filesystem(dir: &Path, name: &str) -> (PathBuf, String) {
    let bucket = dir.join(name);
    std::fs::create_dir_all(&bucket).unwrap();
    let text = format!(
        "type: FILESYSTEM\nconfig:\n  directory: {}\n",
        bucket.display()
    );
    let file = config(dir, name, &text);
    (bucket, file)
}

fn s3_config(dir: &Path, name: &str, s3: &s3kit::Server) -> String {
    let (access, secret) = s3.keys();
    let text = format!(
        "type: S3\nconfig:\n  bucket: {}\n  endpoint: {}\n  access_key: {access}\n  secret_key: {secret}\n  insecure: true\n  http_config: {{response_header_timeout: 1s}}\n",
        s3.bucket(),
        s3.host_port()
    );
    config(dir, name, &text)
}

/// A compactor that goes on and on.
fn waiting(dir: &Path, name: &str, config: &str, more: &[&str]) -> Process {
    let port = free_port();
    let mut args = vec![
        "compact".to_owned(),
        "--wait".to_owned(),
        "--wait-interval=200ms".to_owned(),
        "--consistency-delay=0s".to_owned(),
        format!("--http-address=127.0.0.1:{port}"),
        format!("--data-dir={}", dir.join(name).display()),
        format!("--objstore.config-file={config}"),
    ];
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    Process::start(env!("CARGO_BIN_EXE_epimetheus"), dir, port, args)
}

fn upload(blocks: &Path, config: &str) {
    output(
        ours()
            .args(["tools", "bucket", "upload-blocks", "--label=region=\"eu\""])
            .arg(format!("--path={}", blocks.display()))
            .arg(format!("--objstore.config-file={config}")),
    );
    // The next bucket gets them, too.
    let _ = std::fs::remove_file(blocks.join("thanos.shipper.json"));
}

/// All samples of the raw blocks of a folder that are not marked, once each.
fn samples(folder: &Path, scratch: &Path) -> BTreeSet<String> {
    let _ = std::fs::remove_dir_all(scratch);
    std::fs::create_dir_all(scratch).unwrap();
    for (name, meta) in metas(folder) {
        if meta["thanos"]["downsample"]["resolution"] == 0 {
            let target = folder.join(&name);
            std::os::unix::fs::symlink(target, scratch.join(name)).unwrap();
        }
    }
    let dump = output(ours().args(["tools", "tsdb", "dump"]).arg(scratch));
    dump.lines().map(str::to_owned).collect()
}

/// The blocks of a folder that are not marked for deletion.
/// Makes the blocks of a folder others, of the same samples.
fn renew(blocks: &Path) {
    for entry in std::fs::read_dir(blocks).unwrap().flatten() {
        let path = entry.path().join("meta.json");
        let Ok(text) = std::fs::read(&path) else {
            continue;
        };
        let mut meta: Value = serde_json::from_slice(&text).unwrap();
        let ulid = ulid::Ulid::generate().to_string();
        meta["ulid"] = ulid.as_str().into();
        meta["compaction"]["sources"] = serde_json::json!([ulid]);
        std::fs::write(&path, meta.to_string()).unwrap();
        std::fs::rename(entry.path(), blocks.join(ulid)).unwrap();
    }
}

fn metas(folder: &Path) -> BTreeMap<String, Value> {
    let mut metas = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.join("deletion-mark.json").exists() {
            continue;
        }
        if let Ok(text) = std::fs::read(path.join("meta.json")) {
            let name = entry.file_name().into_string().unwrap();
            metas.insert(name, serde_json::from_slice(&text).unwrap());
        }
    }
    metas
}

fn compact(program: &Path, dir: &Path, config: &str) {
    let data = dir.join(format!("data-{}", free_port()));
    output(&mut compactor(program, &data, config));
}

/// A compactor that runs once.
fn compactor(program: impl AsRef<OsStr>, data: &Path, config: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args([
            "compact",
            "--consistency-delay=0s",
            "--http-address=127.0.0.1:0",
        ])
        .arg(format!("--data-dir={}", data.display()))
        .arg(format!("--objstore.config-file={config}"));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compactors_divide_one_s3_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = blocks(dir.path(), 26);
    for count in [2, 4] {
        let s3 = s3kit::Server::start(s3kit::Config::default()).unwrap();
        let config = s3_config(dir.path(), &format!("s3-{count}"), &s3);
        upload(&blocks, &config);
        let mut running = Vec::new();
        for n in 0..count {
            let more = [
                "--downsampling.disable",
                "--block-discovery-strategy=recursive",
            ];
            let mut process = waiting(dir.path(), &format!("d{count}-{n}"), &config, &more);
            process.wait_for("/-/ready").await;
            running.push(process);
        }
        // Twice eight hours; of the third eight the end is not known to have passed, for blocks end with
        // their last sample.
        let done = || {
            let keys = s3.keys_under("");
            let marked = |id: &str| s3.get(&format!("{id}/deletion-mark.json")).is_some();
            let metas = keys.iter().filter_map(|k| k.strip_suffix("/meta.json"));
            metas.filter(|id| !marked(id)).count() == 7
        };
        let end = Instant::now() + Duration::from_secs(120);
        while !done() {
            assert!(Instant::now() < end, "{}", running[0].log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let plan = running[0].get("/api/v1/blocks/plan", &[]).await;
        assert_eq!(plan["data"]["halted"], serde_json::json!({}), "{plan}");
        for process in &mut running {
            assert!(process.stop(), "{}", process.log());
        }
        let mut parents: BTreeMap<String, usize> = BTreeMap::new();
        for key in s3
            .keys_under("")
            .iter()
            .filter(|k| k.ends_with("/meta.json"))
        {
            let meta: Value = serde_json::from_slice(&s3.get(key).unwrap()).unwrap();
            for parent in meta["compaction"]["parents"]
                .as_array()
                .into_iter()
                .flatten()
            {
                *parents.entry(parent["ulid"].to_string()).or_default() += 1;
            }
        }
        assert_eq!(parents.len(), 8, "every block went into another");
        assert!(parents.values().all(|n| *n == 1), "once: {parents:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_blocks_are_those_that_thanos_makes() {
    let Some(thanos) = thanos("the_blocks_are_those_that_thanos_makes") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let blocks = blocks(dir.path(), 100);
    let (ours, our_config) = filesystem(dir.path(), "ours");
    let (theirs, their_config) = filesystem(dir.path(), "theirs");
    upload(&blocks, &our_config);
    upload(&blocks, &their_config);
    compact(
        Path::new(env!("CARGO_BIN_EXE_epimetheus")),
        dir.path(),
        &our_config,
    );
    compact(&thanos, dir.path(), &their_config);
    // Everything but names and times of making; of files the bytes.
    let shape = |folder: &Path| -> BTreeSet<String> {
        let of = |(name, meta): (String, Value)| {
            let thanos = &meta["thanos"];
            let chunks = std::fs::read(folder.join(name).join("chunks/000001")).unwrap();
            format!(
                "{} {} {} level {} sources {} {} {} {} {} crc {:08x}",
                thanos["downsample"]["resolution"],
                meta["minTime"],
                meta["maxTime"],
                meta["compaction"]["level"],
                meta["compaction"]["sources"].as_array().map_or(0, Vec::len),
                meta["stats"],
                thanos["labels"],
                thanos["source"],
                thanos["segment_files"],
                crc32c::crc32c(&chunks)
            )
        };
        metas(folder).into_iter().map(of).collect()
    };
    assert_eq!(shape(&ours), shape(&theirs));
    assert!(
        shape(&ours).iter().any(|s| s.starts_with("300000 ")),
        "some are downsampled"
    );

    // Thanos finds nothing wrong with them, and sees none of our other objects.
    let mut verify = Command::new(&thanos);
    verify.args([
        "tools",
        "bucket",
        "verify",
        "--issues=index_known_issues",
        "--issues=overlapped_blocks",
    ]);
    verify.arg(format!("--objstore.config-file={our_config}"));
    let out = verify.output().unwrap();
    let log = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success() && !log.contains("level=warn") && !log.contains("level=error"),
        "{log}"
    );
    let list = |program: &Path| {
        let mut ls = Command::new(program);
        ls.args(["tools", "bucket", "ls", "--exclude-delete"]);
        let text = output(ls.arg(format!("--objstore.config-file={our_config}")));
        text.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let names: BTreeSet<String> = metas(&ours).into_keys().collect();
    assert_eq!(list(&thanos), names);
    assert_eq!(list(Path::new(env!("CARGO_BIN_EXE_epimetheus"))), names);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_viewer_of_a_bucket_marks_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, config) = filesystem(dir.path(), "bucket");
    upload(&blocks(dir.path(), 2), &config);
    let block = metas(&bucket).into_keys().next().unwrap();
    let port = free_port();
    let args = [
        "tools".to_owned(),
        "bucket".to_owned(),
        "web".to_owned(),
        format!("--http-address=127.0.0.1:{port}"),
        format!("--objstore.config-file={config}"),
    ];
    let binary = env!("CARGO_BIN_EXE_epimetheus");
    let mut viewer = Process::start(binary, dir.path(), port, args);
    viewer.wait_for("/-/ready").await;
    let shown = async || {
        let answer = viewer.get("/api/v1/blocks", &[("view", "global")]).await;
        answer["data"]["blocks"][0].clone()
    };
    while shown().await.is_null() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(shown().await["ulid"], block.as_str());
    assert_eq!(shown().await["marks"], Value::Null);
    for (action, detail) in [("NO_COMPACTION", "look first"), ("DELETION", "old")] {
        let form = format!("id={block}&action={action}&detail={detail}").replace(' ', "+");
        let marked = reqwest::Client::new()
            .post(viewer.url("/api/v1/blocks/mark"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .unwrap();
        assert_eq!(marked.status(), 204);
    }
    let marks = &shown().await["marks"];
    assert_eq!(
        (&marks[0]["kind"], &marks[0]["details"]),
        (&"deletion".into(), &"old".into()),
        "{marks}"
    );
    assert_eq!(
        (&marks[1]["kind"], &marks[1]["reason"], &marks[1]["details"]),
        (&"no-compact".into(), &"manual".into(), &"look first".into()),
        "{marks}"
    );
    assert!(marks[1]["time"].as_i64().unwrap() > 1_700_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_show_and_rewrite() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = blocks(dir.path(), 2);
    let (bucket, config) = filesystem(dir.path(), "bucket");
    upload(&blocks, &config);
    let block = metas(&bucket).into_keys().next().unwrap();
    let tool = |args: &[&str]| {
        let mut command = ours();
        command.args(["tools", "bucket"]).args(args);
        output(command.arg(format!("--objstore.config-file={config}")))
    };
    let table = tool(&["inspect"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].contains("|   COMP-LEVEL   |") || lines[0].contains("| COMP-LEVEL |"),
        "{table}"
    );
    assert!(
        lines[2].contains(&block) && lines[2].contains("region=eu") && lines[2].contains("| 240 "),
        "{table}"
    );
    let wide = tool(&["ls", "-o", "wide"]);
    assert!(
        wide.contains("Compaction: 1, Downsample: 0, Source: bucket.upload"),
        "{wide}"
    );
    assert_eq!(
        tool(&["ls", "-o", "{{.ULID}} {{.Compaction.Level}}"]),
        format!("{block} 1\n")
    );
    let json: Value = serde_json::from_str(&tool(&["ls", "-o", "json"])).unwrap();
    assert_eq!(json["ulid"], block.as_str());
    tool(&[
        "verify",
        "-i",
        "index_known_issues",
        "-i",
        "overlapped_blocks",
    ]);

    let delete = "--rewrite.to-delete-config=- matchers: '{__name__=\"c_total\",s=\"1\"}'\n- matchers: '{__name__=\"g\"}'\n  intervals:\n  - mint: 0\n    maxt: 1699999999999\n";
    let relabel = "--rewrite.to-relabel-config=- source_labels: [s]\n  regex: '2'\n  target_label: s\n  replacement: two\n";
    tool(&["rewrite", "--id", &block, delete, relabel]);
    assert_eq!(metas(&bucket).len(), 1, "a dry run changes nothing");
    let tmp = format!("--tmp.dir={}", dir.path().join("tmp").display());
    tool(&[
        "rewrite",
        "--no-dry-run",
        "--delete-blocks",
        &tmp,
        "--id",
        &block,
        delete,
        relabel,
    ]);
    let left = metas(&bucket);
    let (name, meta) = left.iter().next().unwrap();
    assert_ne!(*name, block);
    assert_eq!(meta["thanos"]["source"], "bucket.rewrite");
    assert_eq!(meta["compaction"]["sources"], serde_json::json!([name]));
    assert_eq!(
        meta["thanos"]["rewrites"][0]["sources"],
        serde_json::json!([block])
    );
    let scratch = dir.path().join("scratch");
    let after = samples(&bucket, &scratch);
    assert!(
        !after
            .iter()
            .any(|l| l.contains("s=\"1\"") || l.contains("s=\"2\""))
    );
    assert!(after.iter().any(|l| l.contains("s=\"two\"")));
    if available("promtool", "tools_show_and_rewrite") {
        let text = output(
            Command::new("promtool")
                .args(["tsdb", "analyze"])
                .arg(&bucket)
                .arg(name),
        );
        assert!(text.contains(name), "{text}");
    }
}

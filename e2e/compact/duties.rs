//! The duties of a compactor one by one: downsampling, retention, cleaning.

use super::*;

fn duty(name: &str, dir: &Path, config: &str, more: &[&str]) -> String {
    let mut command = ours();
    command.current_dir(dir).args(["tools", "bucket", name]);
    command.arg(format!("--objstore.config-file={config}"));
    said(command.args(more)).1
}

fn resolutions(bucket: &Path) -> BTreeSet<i64> {
    let of = |meta: &Value| meta["thanos"]["downsample"]["resolution"].as_i64();
    metas(bucket).values().filter_map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_duty_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (bucket, config) = filesystem(dir, "bucket");
    upload(&blocks(dir, 60), &config);
    let program = env!("CARGO_BIN_EXE_epimetheus");
    let more = ["--downsampling.disable", "--delete-delay=0s"];
    output(compactor(program, &dir.join("data"), &config).args(more));
    assert_eq!(resolutions(&bucket), [0].into());

    duty("downsample", dir, &config, &["--wait-interval=0s"]);
    assert_eq!(resolutions(&bucket), [0, 300_000].into());

    // One that goes on leaves the bucket to others when it is told to stop.
    let port = free_port();
    let args = ["tools", "bucket", "downsample"].map(str::to_owned);
    let file = format!("--objstore.config-file={config}");
    let mut again = Process::start(program, dir, port, args.into_iter().chain([file]));
    let end = Instant::now() + Duration::from_secs(60);
    while !again.log().contains("downsampled;") {
        assert!(Instant::now() < end, "{}", again.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(again.stop(), "{}", again.log());

    let said = duty(
        "retention",
        dir,
        &config,
        &["--consistency-delay=0s", "--retention.resolution-raw=1d"],
    );
    assert!(said.contains("its retention is over"), "{said}");
    assert_eq!(resolutions(&bucket), [300_000].into());
    let folders = || std::fs::read_dir(&bucket).unwrap().flatten();
    let marked = || folders().any(|f| f.path().join("deletion-mark.json").exists());
    assert!(marked(), "what is over is there until it is cleaned up");
    duty(
        "cleanup",
        dir,
        &config,
        &["--consistency-delay=0s", "--delete-delay=0s"],
    );
    assert_eq!(resolutions(&bucket), [300_000].into());
}

/// What retention takes away is told before the first of it is marked, and what is marked is there until its delay is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_takes_is_told_first() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let s3 = s3kit::Server::start(s3kit::Config::default()).unwrap();
    let config = s3_config(dir, "s3", &s3);
    upload(&blocks(dir, 6), &config);
    let names: Vec<String> = s3
        .keys_under("")
        .iter()
        .filter_map(|key| key.strip_suffix("/meta.json").map(str::to_owned))
        .collect();
    assert_eq!(names.len(), 3);
    let marks = || {
        let keys = s3.keys_under("");
        let marks = keys.iter().filter(|k| k.ends_with("/deletion-mark.json"));
        marks.count()
    };
    // No mark comes through: whatever is said until then was said before.
    let stuck = s3kit::Rule::always(s3kit::Fault::Hang);
    s3.faults()
        .add(stuck.on(s3kit::Op::Put).key("deletion-mark.json"));
    let more = [
        "--downsampling.disable",
        "--retention.resolution-raw=1d",
        "--delete-delay=0s",
    ];
    let mut compactor = waiting(dir, "first", &config, &more);
    let end = Instant::now() + Duration::from_secs(60);
    while s3.faults().struck() == 0 {
        assert!(Instant::now() < end, "{}", compactor.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = compactor.log();
    assert!(
        log.contains("retention will mark these blocks for deletion"),
        "{log}"
    );
    for name in &names {
        let line = log
            .lines()
            .find(|l| l.contains("its retention is over") && l.contains(name));
        let line = line.unwrap_or_else(|| panic!("{name}: {log}"));
        assert!(line.contains("region") && line.contains("age="), "{line}");
    }
    assert!(!log.contains("has been marked"), "{log}");
    assert_eq!(marks(), 0);
    assert_eq!(
        s3.keys_under("")
            .iter()
            .filter(|k| k.ends_with("/index"))
            .count(),
        3
    );

    // Then it is done, in that order: marked, and deleted.
    s3.faults().clear();
    let end = Instant::now() + Duration::from_secs(60);
    while names.iter().any(|name| !s3.keys_under(name).is_empty()) {
        assert!(Instant::now() < end, "{}", compactor.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(compactor.stop(), "{}", compactor.log());
    let log = compactor.log();
    for name in &names {
        let at = |what: &str| {
            log.lines()
                .position(|l| l.contains(what) && l.contains(name))
        };
        let told = [
            at("its retention is over"),
            at("has been marked for deletion"),
            at("deleted a block"),
        ];
        assert!(
            told.iter().all(Option::is_some) && told.is_sorted(),
            "{told:?}: {log}"
        );
    }
}

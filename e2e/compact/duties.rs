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

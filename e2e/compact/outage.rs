//! A compactor whose bucket is away: once, it says so and ends with an error; with `--wait`, it goes on.

use s3kit::{Fault, Rule, Server};

use crate::fleet::wait;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_ends_one_run_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let blocks = blocks(dir, 26);
    let s3 = Server::start(s3kit::Config::default()).unwrap();
    let config = s3_config(dir, "s3", &s3);
    upload(&blocks, &config);
    let objects = s3.keys_under("").len();

    // Away from the start, and away from some request on.
    for (fault, after) in [
        (Fault::Unavailable, 0),
        (Fault::Forbidden, 0),
        (Fault::Hang, 0),
        (Fault::Reset, 25),
    ] {
        s3.faults().add(Rule::always(fault).after(after));
        let program = env!("CARGO_BIN_EXE_epimetheus");
        let once = super::compactor(program, &dir.join("once"), &config)
            // What it has claimed when it ends is free again before the next one gives up.
            .arg("--compact.claim-duration=3s")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&once.stderr);
        assert_eq!(once.status.code(), Some(1), "{fault:?}: {said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("epimetheus: ") && last.contains(s3.bucket()),
            "{fault:?}: {said}"
        );
        assert!(!said.contains("critical error"), "{fault:?}: {said}");
        s3.faults().clear();
    }
    let marked = |s3: &Server| {
        let keys = s3.keys_under("");
        keys.iter()
            .filter(|k| k.ends_with("/deletion-mark.json"))
            .count()
    };
    assert_eq!(marked(&s3), 0);
    assert!(s3.keys_under("").len() >= objects, "nothing was deleted");

    // Started while it is away, and again away in the middle of the work.
    s3.faults().add(Rule::always(Fault::Unavailable));
    let mut compactor = waiting(dir, "waits", &config, &["--compact.claim-duration=3s"]);
    compactor.wait_for("/-/ready").await;
    wait("it to say so", 30, async || {
        compactor.log().contains("cannot begin")
    })
    .await;
    s3.faults().clear();
    s3.faults().add(Rule::always(Fault::Unavailable).after(30));
    wait("it to say so again", 60, async || {
        compactor.log().contains("iteration failed; trying again")
    })
    .await;
    let (status, _) = compactor.status("/-/healthy", &[]).await;
    assert_eq!(status, 200);
    s3.faults().clear();
    wait("the work to be done", 60, async || marked(&s3) == 8).await;
    let text = compactor.text("/metrics").await;
    assert!(text.contains("\nthanos_compact_halted 0\n"), "{text}");
    assert!(compactor.stop(), "{}", compactor.log());
}

/// A compactor that is killed and started again where it was goes on at once; beside it nobody can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_killed_goes_on_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = blocks(dir.path(), 26);
    let s3 = s3kit::Server::start(s3kit::Config::default()).unwrap();
    let config = s3_config(dir.path(), "s3", &s3);
    upload(&blocks, &config);
    s3.set_latency(Duration::from_millis(100));
    // A claim holds for longer than the test.
    let more = ["--downsampling.disable", "--compact.claim-duration=1h"];
    let mut first = waiting(dir.path(), "place", &config, &more);
    let claimed = || {
        let keys = s3.keys_under("epimetheus/compact/");
        let texts = keys.iter().filter_map(|key| s3.get(key));
        texts
            .filter_map(|text| serde_json::from_slice::<Value>(&text).ok())
            .any(|state| state["claims"][0].is_object())
    };
    let end = Instant::now() + Duration::from_secs(60);
    while !claimed() {
        assert!(Instant::now() < end, "{}", first.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let out = ours()
        .args(["compact", "--http-address=127.0.0.1:0"])
        .arg(format!("--data-dir={}", dir.path().join("place").display()))
        .arg(format!("--objstore.config-file={config}"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(
        !out.status.success() && error.contains("a data folder of its own"),
        "{error}"
    );
    first.kill();
    assert!(claimed());
    s3.set_latency(Duration::ZERO);
    let mut again = waiting(dir.path(), "place", &config, &more);
    again.wait_for("/-/ready").await;
    let end = Instant::now() + Duration::from_secs(60);
    let marks = || {
        let keys = s3.keys_under("");
        keys.iter()
            .filter(|k| k.ends_with("/deletion-mark.json"))
            .count()
    };
    while marks() < 8 {
        assert!(Instant::now() < end, "{}", again.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(again.stop(), "{}", again.log());
}

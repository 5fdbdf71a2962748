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
        let once = ours()
            .args([
                "compact",
                "--consistency-delay=0s",
                "--http-address=127.0.0.1:0",
                // What it has claimed when it ends is free again before the next one gives up.
                "--compact.claim-duration=3s",
            ])
            .arg(format!("--data-dir={}", dir.join("once").display()))
            .arg(format!("--objstore.config-file={config}"))
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

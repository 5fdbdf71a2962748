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

/// Listings that leave things out, repeat them, show what is gone and end early: no tool breaks, what is shown is there, and
/// what is copied is whole.
#[test]
fn tools_do_no_harm_by_listings_that_change() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let s3 = Server::start(s3kit::Config::default()).unwrap();
    let config = s3_config(dir, "s3", &s3);
    upload(&blocks(dir, 10), &config);
    let ulids = |s3: &Server| -> BTreeSet<String> {
        let keys = s3.keys_under("");
        let metas = keys.iter().filter_map(|k| k.strip_suffix("/meta.json"));
        metas.map(str::to_owned).collect()
    };
    let before: BTreeMap<String, _> = s3
        .keys_under("")
        .into_iter()
        .map(|key| (key.clone(), s3.get(&key).unwrap()))
        .collect();
    let tool = |args: &[&str]| {
        let mut command = ours();
        command
            .current_dir(dir)
            .args(["tools", "bucket"])
            .args(args);
        let out = command
            .arg(format!("--objstore.config-file={config}"))
            .output();
        let out = out.unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(!said.contains("panicked"), "{args:?}: {said}");
        let code = out.status.code();
        (code, String::from_utf8(out.stdout).unwrap(), said)
    };
    let mut refused = 0;
    for seed in 0..6u64 {
        s3.listings().set(Some(s3kit::Wild {
            hidden: 0.1,
            ghosts: 0.5,
            repeated: 0.5,
            cut: 0.1,
            page: 2 + seed as usize % 4,
            seed,
        }));
        let (code, listed, said) = tool(&["ls"]);
        assert_eq!(code, Some(0), "{said}");
        let names: Vec<&str> = listed.lines().collect();
        assert!(
            names.iter().all(|name| ulids(&s3).contains(*name)),
            "{listed}"
        );
        assert!(names.is_sorted_by(|a, b| a < b), "twice: {listed}");
        let (code, ..) = tool(&["inspect"]);
        assert_eq!(code, Some(0));
        // Whatever it misses, it says so, and mends nothing that is whole.
        let (code, _, said) = tool(&["verify", "--repair", "--delete-delay=48h", "--tmp.dir=tmp"]);
        let told = said.contains("detected issue") || said.contains("epimetheus: ");
        assert!(code == Some(0) || told, "{said}");
        let (code, _, said) = tool(&["cleanup", "--consistency-delay=0s", "--delete-delay=0s"]);
        assert!(code == Some(0) || said.contains("epimetheus: "), "{said}");
        let other = Server::start(s3kit::Config::default()).unwrap();
        let to = s3_config(dir, &format!("to-{seed}"), &other);
        let to = format!("--objstore-to.config-file={to}");
        let (code, _, said) = tool(&["replicate", "--single-run", &to]);
        refused += usize::from(code != Some(0));
        assert!(
            code == Some(0) || said.contains("listing does not show"),
            "{said}"
        );
        for block in ulids(&other) {
            for key in s3.keys_under(&block) {
                assert_eq!(other.get(&key), s3.get(&key), "seed {seed}: {key}");
            }
        }
        s3.listings().set(None);
    }
    assert!(refused > 0, "no copy was refused");
    let after: BTreeMap<String, _> = s3
        .keys_under("")
        .into_iter()
        .filter(|key| !key.starts_with("epimetheus/"))
        .map(|key| (key.clone(), s3.get(&key).unwrap()))
        .collect();
    assert!(after == before, "{:?}", after.keys());
}

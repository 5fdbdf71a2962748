//! The compactor in `all-in-one`: it changes this process' blocks and no others.

use crate::fleet::wait;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_in_one_compacts_its_own_blocks_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let data = dir.join("data");
    let bucket = data.join("bucket");
    std::fs::create_dir_all(&bucket).unwrap();
    let text = format!(
        "type: FILESYSTEM\nconfig: {{directory: {}}}\n",
        bucket.display()
    );
    let local = config(dir, "local", &text);
    // Of region eu, which is this one's, and then the same of another.
    let blocks = blocks(dir, 26);
    upload(&blocks, &local);
    let own = metas(&bucket);
    renew(&blocks);
    output(
        ours()
            .args(["tools", "bucket", "upload-blocks", "--label=region=\"us\""])
            .arg(format!("--path={}", blocks.display()))
            .arg(format!("--objstore.config-file={local}")),
    );
    let others: BTreeSet<String> = metas(&bucket)
        .into_keys()
        .filter(|name| !own.contains_key(name))
        .collect();
    assert_eq!((own.len(), others.len()), (13, 13));
    std::fs::write(
        dir.join("prometheus.yml"),
        "global:\n  external_labels: {region: eu}\n",
    )
    .unwrap();
    let start = |more: &[&str]| {
        let data = format!("--data-dir={}", data.display());
        let file = format!("--config.file={}", dir.join("prometheus.yml").display());
        let mut args = vec![data.as_str(), &file, "--compact.interval=200ms"];
        args.extend_from_slice(more);
        Process::epimetheus(dir, "all-in-one", &args)
    };
    let scratch = dir.join("scratch");
    let before = samples(&bucket, &scratch);
    let end = 1_700_006_400 / (48 * HOUR) * 48 * HOUR + 26 * HOUR;
    let question = async |process: &Process| {
        let answer = process
            .query("count_over_time(g[26h])", (end - 1) as f64)
            .await;
        answer[0]["value"][1].clone()
    };

    // Left to others, it is.
    let mut idle = start(&["--no-compact"]);
    idle.wait_for("/-/ready").await;
    assert_eq!(question(&idle).await, "780");
    assert!(!idle.text("/metrics").await.contains("thanos_compact_"));
    assert!(idle.stop(), "{}", idle.log());

    let mut process = start(&[]);
    process.wait_for("/-/ready").await;
    wait("thirteen to become seven", 60, async || {
        let all = metas(&bucket).into_keys();
        all.filter(|name| !others.contains(name)).count() == 7
    })
    .await;
    assert_eq!(question(&process).await, "780");
    assert_eq!(samples(&bucket, &scratch), before);
    let all = metas(&bucket);
    assert!(others.iter().all(|name| all.contains_key(name)), "{all:?}");
    let text = process.text("/metrics").await;
    assert!(text.contains("\nthanos_compact_halted 0\n"), "{text}");
    assert!(process.stop(), "{}", process.log());
}

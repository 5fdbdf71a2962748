//! What our compactor and `rewrite` make of every kind of input is taken by promtool and by a real Prometheus, which
//! answers from it as we do.

use model::{Batch, Matcher, TimeRange, report::Admin as _};
use tsdb::{Db, Options};

use crate::peers::prometheus3;
use crate::promtool::{promtools, push_histograms, set};

use super::*;

/// ms; a multiple of two days.
const START: i64 = 1_700_006_400 / (48 * HOUR) * 48 * HOUR * 1000;
const MINUTE: i64 = 60_000;
const HOURS: i64 = 12;

/// A database of floats and both kinds of histograms, with samples that came late and some that were deleted.
async fn fill(dir: &Path) {
    let options = Options {
        out_of_order_window: 4 * HOUR * 1000,
        merge_overlapping: false,
        max_block: Some(2 * HOUR * 1000),
        ..Options::quiet()
    };
    let db = Db::open(dir, options).unwrap();
    let sets = [
        set("c_total", &[("s", "1")]),
        set("c_total", &[("s", "2")]),
        set("late", &[]),
        set("whole", &[]),
        set("part", &[]),
    ];
    for k in 0..HOURS * 60 {
        let ts = START + k * MINUTE;
        let refs = db.resolve_now(&sets).unwrap();
        let mut batch = Batch::default();
        batch.push(refs[0], ts, (k * 17 % 1000 * 100) as f64);
        batch.push(refs[1], ts, k as f64 / 7.0);
        if k % 3 == 0 {
            batch.push(refs[2], ts, k as f64);
        }
        push_histograms(&mut batch, (refs[3], refs[4]), ts, k);
        // Two hours late.
        if k % 3 == 1 && k > 120 {
            batch.push(refs[2], ts - 120 * MINUTE, -(k as f64));
        }
        assert_eq!(db.append_now(batch).unwrap().rejected, []);
        if k % 60 == 0 {
            db.maintain().unwrap();
        }
    }
    db.maintain().unwrap();
    let deleted = TimeRange::new(START + 60 * MINUTE, START + 90 * MINUTE);
    let gone = db.delete_series(vec![Matcher::equal("s", "2")], deleted);
    gone.await.unwrap();
}

/// Tombstones are not uploaded; whoever copies a whole folder brings them along.
fn copy_tombstones(from: &Path, to: &Path) -> usize {
    let mut copied = 0;
    for name in metas(to).into_keys() {
        let file = from.join(&name).join("tombstones");
        if std::fs::metadata(&file).is_ok_and(|m| m.len() > 13) {
            std::fs::copy(file, to.join(name).join("tombstones")).unwrap();
            copied += 1;
        }
    }
    copied
}

fn upload_as(blocks: &Path, config: &str, labels: &[&str]) {
    let labels = labels.iter().map(|label| format!("--label={label}"));
    output(
        ours()
            .args(["tools", "bucket", "upload-blocks"])
            .args(labels)
            .arg(format!("--path={}", blocks.display()))
            .arg(format!("--objstore.config-file={config}")),
    );
    let _ = std::fs::remove_file(blocks.join("thanos.shipper.json"));
}

/// A folder of a Prometheus with copies of the raw blocks of a region that are not marked.
fn database(bucket: &Path, region: &str, dir: &Path) -> Vec<Value> {
    std::fs::create_dir_all(dir.join("wal")).unwrap();
    let mut taken = Vec::new();
    for (name, meta) in metas(bucket) {
        let thanos = &meta["thanos"];
        if thanos["labels"]["region"] == region && thanos["downsample"]["resolution"] == 0 {
            output(
                Command::new("cp")
                    .arg("-r")
                    .arg(bucket.join(&name))
                    .arg(dir),
            );
            taken.push(meta);
        }
    }
    taken
}

/// Every point that a program over the database answers with.
async fn answers(program: &Path, role: Option<&str>, dir: &Path, data: &Path) -> BTreeSet<String> {
    let port = free_port();
    let copy = dir.join(format!("data-{port}"));
    output(Command::new("cp").arg("-r").arg(data).arg(&copy));
    let config = super::config(dir, "empty", "global: {}\n");
    let mut args: Vec<String> = role.iter().map(|&role| role.to_owned()).collect();
    args.extend([
        format!("--config.file={config}"),
        format!("--storage.tsdb.path={}", copy.display()),
        "--storage.tsdb.retention.time=100y".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ]);
    let mut process = Process::start(program, dir, port, args);
    process.wait_for("/-/ready").await;
    let start = START / 1000;
    let mut all = BTreeSet::new();
    for (query, hours) in [
        ("{__name__!=\"\"}[12h]", 12),
        ("count_over_time(c_total[12h])", 12),
        ("sum by (s) (rate(c_total[10m]))", 5),
        ("histogram_count(rate(whole[10m])) or sum(c_total)", 5),
        ("histogram_sum(part) or sum(c_total)", 3),
    ] {
        // Versions differ in whether the first moment of a range belongs to it.
        let end = (start + hours * HOUR - 1) as f64;
        let rows = process.query(query, end).await;
        let rows = rows.as_array().unwrap();
        assert!(!rows.is_empty(), "{query}\n{}", process.log());
        for row in rows {
            let points = ["value", "values", "histograms"].map(|key| row[key].as_array());
            for point in points.into_iter().flatten().flatten() {
                all.insert(format!("{query} {} {point}", row["metric"]));
            }
        }
    }
    let log = process.log();
    assert!(
        !log.contains("level=error") && !log.contains("level=ERROR"),
        "{log}"
    );
    assert!(process.stop(), "{}", process.log());
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_block_is_taken_by_promtool_and_prometheus() {
    const NAME: &str = "every_block_is_taken_by_promtool_and_prometheus";
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (bucket, config) = filesystem(dir, "bucket");
    // Out of order, histograms, tombstones: put side by side and upon each other.
    let source = dir.join("source");
    fill(&source).await;
    upload_as(&source, &config, &["region=\"eu\""]);
    assert!(copy_tombstones(&source, &bucket) > 0);
    let before = metas(&bucket);
    let late = |meta: &&Value| meta["compaction"]["hints"][0] == "from-out-of-order";
    assert!(before.values().filter(late).count() > 0, "{before:?}");
    // Replicas, of the same times.
    let plain = blocks(dir, 12);
    for replica in ["a", "b"] {
        let replica = format!("replica=\"{replica}\"");
        upload_as(&plain, &config, &["region=\"us\"", &replica]);
        renew(&plain);
    }
    let program = env!("CARGO_BIN_EXE_epimetheus");
    let mut command = compactor(program, &dir.join("data"), &config);
    output(command.args([
        "--deduplication.replica-label=replica",
        "--downsampling.disable",
    ]));
    let made = metas(&bucket);
    let of = |region: &'static str| {
        made.values()
            .filter(move |m| m["thanos"]["labels"]["region"] == region)
    };
    for region in ["eu", "us"] {
        let levels: BTreeSet<u64> = of(region)
            .filter_map(|m| m["compaction"]["level"].as_u64())
            .collect();
        assert!(
            levels.iter().any(|level| *level > 2),
            "{region}: {levels:?}"
        );
    }

    // One of them is written again without a series and under other labels, into a bucket of its own kind.
    let longest = |m: &&Value| m["maxTime"].as_i64().unwrap() - m["minTime"].as_i64().unwrap();
    let whole = of("eu").max_by_key(longest).unwrap()["ulid"]
        .as_str()
        .unwrap();
    let (rewritten, rewritten_config) = filesystem(dir, "rewritten");
    output(
        Command::new("cp")
            .arg("-r")
            .arg(bucket.join(whole))
            .arg(&rewritten),
    );
    let interval = format!("{{mint: {START}, maxt: {}}}", START + 45 * MINUTE);
    let delete =
        format!("[{{matchers: '{{s=\"1\"}}'}}, {{matchers: 'whole', intervals: [{interval}]}}]");
    std::fs::write(dir.join("delete.yml"), delete).unwrap();
    let relabel = "[{source_labels: [s], regex: '2', target_label: t, replacement: two}]";
    std::fs::write(dir.join("relabel.yml"), relabel).unwrap();
    output(
        ours()
            .current_dir(dir)
            .args([
                "tools",
                "bucket",
                "rewrite",
                "--no-dry-run",
                "--delete-blocks",
                "--tmp.dir=tmp",
            ])
            .arg("--rewrite.to-delete-config-file=delete.yml")
            .arg("--rewrite.to-relabel-config-file=relabel.yml")
            .arg(format!("--id={whole}"))
            .arg(format!("--objstore.config-file={rewritten_config}")),
    );

    let mut servers = Vec::new();
    if available("prometheus", NAME) {
        servers.push((PathBuf::from("prometheus"), true));
    }
    servers.extend(prometheus3(NAME).map(|path| (path, false)));
    for (name, bucket, region) in [
        ("eu", &bucket, "eu"),
        ("us", &bucket, "us"),
        ("rewritten", &rewritten, "eu"),
    ] {
        let data = dir.join(format!("of-{name}"));
        let taken = database(bucket, region, &data);
        assert!(!taken.is_empty());
        for tool in promtools(NAME) {
            for meta in &taken {
                let ulid = meta["ulid"].as_str().unwrap();
                let mut analyze = Command::new(&tool.program);
                let text = output(analyze.args(["tsdb", "analyze"]).arg(&data).arg(ulid));
                let series = format!("Series: {}", meta["stats"]["numSeries"]);
                assert!(text.contains(&series), "{}: {text}", tool.program);
            }
            let dump = |program: &str, before: &[&str]| -> BTreeSet<String> {
                let text = output(
                    Command::new(program)
                        .args(before)
                        .args(["tsdb", "dump"])
                        .arg(&data),
                );
                text.lines().map(str::to_owned).collect()
            };
            let (theirs, own) = (dump(&tool.program, &[]), dump(program, &["tools"]));
            // Of histograms the older one dumps none, and the newer one not always the first; the servers below are
            // asked for all.
            let floats = |lines: &BTreeSet<String>| -> BTreeSet<String> {
                let all = lines.iter().filter(|l| !l.contains("{count:"));
                all.cloned().collect()
            };
            let (few, all) = (floats(&theirs), floats(&own));
            let different: Vec<&String> = few.symmetric_difference(&all).take(9).collect();
            assert!(
                different.is_empty(),
                "{name}, {}: {different:#?}",
                tool.program
            );
            let strange: Vec<&String> = theirs.difference(&own).take(9).collect();
            assert!(strange.is_empty(), "{name}, {}: {strange:#?}", tool.program);
            assert!(!theirs.is_empty());
        }
        let own = answers(Path::new(program), Some("server"), dir, &data).await;
        for (server, old) in &servers {
            let theirs = answers(server, None, dir, &data).await;
            // The older one shows the last histogram of a range again and again.
            let shown = |line: &&String| !old || !line.contains("\"sum\":");
            let different = theirs.symmetric_difference(&own).filter(shown).take(9);
            let different: Vec<&String> = different.collect();
            assert!(
                different.is_empty(),
                "{name}, {}: {different:#?}",
                server.display()
            );
        }
    }
}

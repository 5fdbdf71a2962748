//! Compaction beside Prometheus' own, measured, and one large block: CPU time, peak memory and what lies on the
//! local disk. They take minutes, assert no times and are run by hand, for docs/benchmarks.md:
//! `EPIMETHEUS_MEASURE=target/release/epimetheus cargo test --test e2e -- --ignored --nocapture compact::local`.

use block::index::SymbolSet;
use block::{Chunk, Meta, Writer};
use chunk::xor::Encoder;
use model::{Labels, TimeRange};
use ulid::Ulid;

use crate::peers::{minio, prometheus3};
use crate::process::{cpu, status};

use super::measure::{measured, size, until_it_ends};
use super::*;

const TWO_HOURS: i64 = 7_200_000;
/// Series with different samples, of which all others are copies.
const KINDS: i64 = 16;

/// Writes a block of two hours with a sample every 15 s, `shift` ms late: counters, or values of which no two are
/// alike, which take eight bytes each. Gives its samples.
fn write(parent: &Path, number: i64, shift: i64, series: usize, noise: bool) -> u64 {
    let day = 24 * HOUR * 1000;
    let from = 1_700_006_400_000 / day * day + number * TWO_HOURS;
    let mut all: Vec<Labels> = (0..series)
        .map(|n| {
            let (instance, metric) = (format!("host-{:05}:9100", n / 50), n % 50);
            Labels::from_pairs([
                ("__name__", format!("metric_{metric:03}_total").as_str()),
                ("instance", instance.as_str()),
                ("job", "node"),
            ])
        })
        .collect();
    all.sort();
    let texts = all.iter().flat_map(|l| l.iter().flat_map(|(n, v)| [n, v]));
    let symbols = SymbolSet::collect(texts.collect::<BTreeSet<_>>());
    let mut dice = 0x9e37_79b9_7f4a_7c15u64 ^ number as u64;
    let kinds: Vec<Vec<(i64, i64, Vec<u8>)>> = (0..KINDS)
        .map(|kind| {
            let mut value = 0.0;
            let parts = (0..4i64).map(|part| {
                let mut encoder = Encoder::new();
                let at = |i: i64| from + shift + (part * 120 + i) * 15_000;
                for i in 0..120 {
                    dice = dice.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
                    value = match noise {
                        true => f64::from_bits((dice >> 2) | 1),
                        false => value + ((dice >> 40) % (1 + kind as u64 * 5)) as f64,
                    };
                    encoder.append(at(i), value);
                }
                (at(0), at(119), encoder.bytes().to_vec())
            });
            parts.collect()
        })
        .collect();
    let kinds: Vec<Vec<Chunk<'_>>> = kinds
        .iter()
        .map(|parts| {
            parts
                .iter()
                .map(|(min, max, data)| Chunk::xor(*min, *max, data))
                .collect()
        })
        .collect();
    let ulid = Ulid::from_parts(1_700_000_000_000 + number as u64, shift as u128 + 1);
    let meta = Meta::new(ulid, TimeRange::new(from, from + TWO_HOURS - 1));
    let mut writer = Writer::create(parent, meta, symbols).unwrap();
    for (n, labels) in all.iter().enumerate() {
        writer.add_labels(labels, &kinds[n % kinds.len()]).unwrap();
    }
    writer.finish().unwrap().unwrap().stats.num_samples
}

/// The samples of the compacted blocks of a folder.
fn compacted(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let metas = entries.filter_map(|e| std::fs::read(e.path().join("meta.json")).ok());
    let metas = metas.filter_map(|text| serde_json::from_slice::<Value>(&text).ok());
    metas
        .filter(|m| m["compaction"]["level"].as_u64() > Some(1))
        .filter_map(|m| m["stats"]["numSamples"].as_u64())
        .sum()
}

/// A server over a copy of the blocks, until it has compacted as many samples: its CPU time for that, and its peak
/// memory.
fn server(
    program: &Path,
    role: Option<&str>,
    dir: &Path,
    blocks: &Path,
    samples: u64,
) -> (f64, u64) {
    let port = free_port();
    let data = dir.join(format!("data-{port}"));
    output(Command::new("cp").arg("-r").arg(blocks).arg(&data));
    let config = super::config(dir, "empty", "global: {}\n");
    let mut args: Vec<String> = role.iter().map(|&r| r.to_owned()).collect();
    args.extend([
        format!("--config.file={config}"),
        format!("--storage.tsdb.path={}", data.display()),
        "--storage.tsdb.retention.time=100y".to_owned(),
        "--storage.tsdb.min-block-duration=2h".to_owned(),
        "--storage.tsdb.max-block-duration=6h".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ]);
    let process = Process::start(program, dir, port, args);
    let begun = Instant::now();
    let mut before = None;
    let (mut seconds, mut most) = (0.0, 0);
    while compacted(&data) < samples {
        assert!(begun.elapsed().as_secs() < 300, "{}", process.log());
        // It begins after a minute; what is before that is its start.
        if before.is_none() && begun.elapsed().as_secs() >= 20 && role.is_none() {
            before = cpu(process.id()).map(|c| c.0);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    if let Some((so_far, _)) = cpu(process.id()) {
        seconds = so_far;
        most = status(process.id(), "VmHWM:");
    }
    drop(process);
    std::fs::remove_dir_all(&data).unwrap();
    (seconds - before.unwrap_or(0.0), most)
}

#[test]
#[ignore = "it takes minutes; it is for docs/benchmarks.md"]
fn compaction_beside_prometheus() {
    const NAME: &str = "compaction_beside_prometheus";
    let mut servers = Vec::new();
    if let Some(path) = prometheus3(NAME) {
        servers.push(("Prometheus 3", path, None));
    }
    if available("prometheus", NAME) {
        servers.push(("Prometheus of the system", "prometheus".into(), None));
    }
    servers.push(("our server", measured(), Some("server")));
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    println!("| what | who | samples | samples/CPU s | peak MiB | input MiB |");
    for what in ["12 blocks of 2 h, side by side", "4 blocks of the same 2 h"] {
        let blocks = dir.join("blocks");
        std::fs::create_dir_all(&blocks).unwrap();
        let samples = match what.starts_with("12") {
            // The newest block is left alone by Prometheus.
            true => {
                let all: Vec<u64> = (0..13)
                    .map(|n| write(&blocks, n, 0, 20_000, false))
                    .collect();
                all[..12].iter().sum::<u64>()
            }
            false => (0..4)
                .map(|n| write(&blocks, 0, n * 3000, 20_000, false))
                .sum(),
        };
        let row = |who: &str, cpu: f64, peak: u64| {
            let mib = |n: u64| n >> 20;
            println!(
                "| {what} | {who} | {samples} | {:.0} | {} | {} |",
                samples as f64 / cpu,
                mib(peak),
                mib(size(&blocks))
            );
        };
        for round in 0..2 {
            for (who, program, role) in &servers {
                let (cpu, peak) = server(program, *role, dir, &blocks, samples);
                row(who, cpu, peak);
            }
            let (bucket, config) = filesystem(dir, &format!("bucket-{round}"));
            upload(&blocks, &config);
            let data = dir.join("compact");
            let (cpu, peak, _) = until_it_ends(
                compactor(measured(), &data, &config).args([
                    "--downsampling.disable",
                    "--compact.enable-vertical-compaction",
                    "--debug.max-compaction-level=2",
                ]),
                &data,
            );
            row("our compactor", cpu, peak);
            assert_eq!(compacted(&bucket), samples);
            std::fs::remove_dir_all(&bucket).unwrap();
        }
        std::fs::remove_dir_all(&blocks).unwrap();
    }
}

#[test]
#[ignore = "it takes minutes and 10 GiB of disk; it is for docs/benchmarks.md"]
fn compaction_of_a_large_block() {
    let Some(minio) = minio("compaction_of_a_large_block") else {
        return;
    };
    let series = std::env::var("EPIMETHEUS_SERIES").map_or(250_000, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let port = free_port();
    let drive = dir.join("drive");
    std::fs::create_dir_all(drive.join("metrics")).unwrap();
    // Its keys by default are these.
    let args = [
        "server".to_owned(),
        drive.display().to_string(),
        format!("--address=127.0.0.1:{port}"),
    ];
    let _server = Process::start(minio, dir, port, args);
    let config = config(
        dir,
        "minio",
        &format!(
            "type: S3\nconfig: {{bucket: metrics, endpoint: '127.0.0.1:{port}', insecure: true, access_key: minioadmin, secret_key: minioadmin}}\n"
        ),
    );
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed().as_secs() < 30, "no S3 server");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(2));
    let (mut samples, mut input, mut indexes) = (0, 0, 0);
    for number in 0..5 {
        let blocks = dir.join("blocks");
        std::fs::create_dir_all(&blocks).unwrap();
        // The last one says that the eight hours before it are over.
        let many = if number < 4 { series } else { 1 };
        let wrote = write(&blocks, number, 0, many, true);
        if number < 4 {
            samples += wrote;
            input += size(&blocks);
            let mut folders = std::fs::read_dir(&blocks).unwrap().flatten();
            let block = folders.next().unwrap().path();
            indexes += std::fs::metadata(block.join("index")).unwrap().len();
        }
        upload(&blocks, &config);
        std::fs::remove_dir_all(&blocks).unwrap();
    }
    let data = dir.join("compact");
    let begun = Instant::now();
    let (cpu, peak, disk) = until_it_ends(
        compactor(measured(), &data, &config).arg("--downsampling.disable"),
        &data,
    );
    println!(
        "| input MiB | indexes MiB | samples | samples/CPU s | peak MiB | most on the local disk MiB | seconds |"
    );
    println!(
        "| {} | {} | {samples} | {:.0} | {} | {} | {:.0} |",
        input >> 20,
        indexes >> 20,
        samples as f64 / cpu,
        peak >> 20,
        disk >> 20,
        begun.elapsed().as_secs_f64()
    );
    let listed = output(
        Command::new(measured())
            .args(["tools", "bucket", "ls", "--output=json"])
            .arg(format!("--objstore.config-file={config}")),
    );
    let metas = serde_json::Deserializer::from_str(&listed).into_iter::<Value>();
    let made = metas
        .flatten()
        .filter(|m| m["compaction"]["level"] == 2)
        .filter_map(|m| m["stats"]["numSamples"].as_u64())
        .sum::<u64>();
    assert_eq!(made, samples, "{listed}");
}

/// One, two and four compactors on one bucket whose every request takes 50 ms: how long they take for the same work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes a minute; it is for docs/benchmarks.md"]
async fn more_compactors_take_less_time() {
    const GROUPS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let blocks: Vec<PathBuf> = (0..GROUPS)
        .map(|group| {
            let dir = dir.join(format!("group-{group}"));
            std::fs::create_dir_all(&dir).unwrap();
            blocks(&dir, 26)
        })
        .collect();
    println!("| compactors | seconds |");
    let mut taken = Vec::new();
    for count in [1, 2, 4] {
        let s3 = s3kit::Server::start(s3kit::Config::default()).unwrap();
        let config = s3_config(dir, &format!("many-{count}"), &s3);
        for (group, blocks) in blocks.iter().enumerate() {
            output(
                ours()
                    .args(["tools", "bucket", "upload-blocks"])
                    .arg(format!("--label=region=\"{group}\""))
                    .arg(format!("--path={}", blocks.display()))
                    .arg(format!("--objstore.config-file={config}")),
            );
            let _ = std::fs::remove_file(blocks.join("thanos.shipper.json"));
        }
        s3.set_latency(Duration::from_millis(50));
        let begun = Instant::now();
        let more = ["--downsampling.disable"];
        let running: Vec<_> = (0..count)
            .map(|n| waiting(dir, &format!("many-{count}-{n}"), &config, &more))
            .collect();
        let marks = || {
            let keys = s3.keys_under("");
            keys.iter()
                .filter(|k| k.ends_with("/deletion-mark.json"))
                .count()
        };
        // Twice eight hours of each group.
        while marks() < GROUPS * 8 {
            assert!(begun.elapsed().as_secs() < 180, "{}", running[0].log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(marks(), GROUPS * 8, "each block once");
        println!("| {count} | {seconds:.1} |");
        taken.push(seconds);
    }
    assert!(taken.is_sorted_by(|a, b| a > b), "{taken:?}");
}

//! Compaction beside a real Thanos, measured: on copies of the same blocks in an S3 server, CPU time, peak
//! memory, requests and bytes of each, in turn. Takes minutes and asserts no times:
//! `EPIMETHEUS_MEASURE=target/release/epimetheus cargo test --test e2e -- --ignored --nocapture compaction_beside_thanos`.

use std::fmt::Write as _;
use std::process::Stdio;

use s3kit::Server;

use crate::process::{cpu, status};

use super::*;

/// Series of each block.
const SERIES: i64 = 1000;

/// Blocks of two hours, or one of all, with samples every `step` seconds, `shift` seconds late.
fn filled(dir: &Path, hours: i64, step: i64, shift: i64, whole: bool) -> (PathBuf, u64) {
    let start = 1_700_006_400 / (336 * HOUR) * 336 * HOUR;
    let mut text = String::from("# TYPE c counter\n");
    let mut samples = 0;
    for series in 0..SERIES {
        let mut value = 0;
        for i in 0..hours * HOUR / step {
            value += (i * 7919 + series * 31) % 17;
            let at = start + i * step + shift;
            let _ = writeln!(
                text,
                "c_total{{s=\"{series}\",path=\"/api/{}\"}} {value} {at}",
                series % 40
            );
            samples += 1;
        }
    }
    text.push_str("# EOF\n");
    let input = dir.join("input.txt");
    std::fs::write(&input, text).unwrap();
    let folder = dir.join(format!("blocks-{hours}-{shift}"));
    let command = ["tools", "tsdb", "create-blocks-from", "openmetrics"];
    let longest = if whole {
        "--max-block-duration=14d"
    } else {
        "--max-block-duration=2h"
    };
    output(ours().args(command).arg(longest).arg(&input).arg(&folder));
    (folder, samples)
}

/// The program that is measured.
pub(super) fn measured() -> PathBuf {
    let built = std::env::var_os("EPIMETHEUS_MEASURE");
    built.map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_epimetheus")),
        PathBuf::from,
    )
}

/// What a run took.
struct Taken {
    cpu: f64,
    peak: u64,
    requests: u64,
    read: u64,
    written: u64,
}

/// Bytes of all files below a folder.
pub(super) fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|e| match e.metadata() {
            Ok(m) if m.is_dir() => size(&e.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

/// CPU seconds, peak memory and the most bytes that `data` had.
pub(super) fn until_it_ends(command: &mut Command, data: &Path) -> (f64, u64, u64) {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let (mut seconds, mut most, mut disk) = (0.0, 0, 0);
    while let Some((so_far, ended)) = cpu(child.id()) {
        seconds = so_far;
        most = status(child.id(), "VmHWM:").max(most);
        disk = size(data).max(disk);
        if ended {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(child.wait().unwrap().success(), "{command:?}");
    (seconds, most, disk)
}

fn run(program: &Path, dir: &Path, s3: &Server, config: &str, more: &[&str]) -> Taken {
    s3.counters().reset();
    let data = dir.join(format!("data-{}", free_port()));
    let (seconds, most, _) = until_it_ends(compactor(program, &data, config).args(more), &data);
    let all = s3.counters().all();
    Taken {
        cpu: seconds,
        peak: most,
        requests: all.requests,
        read: all.bytes_out,
        written: all.bytes_in,
    }
}

#[test]
#[ignore = "it takes minutes; it is for docs/benchmarks.md"]
fn compaction_beside_thanos() {
    let Some(thanos) = thanos("compaction_beside_thanos") else {
        return;
    };
    let own = measured();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let downsampling = ["--downsampling.disable"];
    let replicas = [
        "--downsampling.disable",
        "--deduplication.replica-label=replica",
    ];
    println!(
        "| what | who | samples/CPU s | peak MiB | requests | MiB read | MiB written | input MiB |"
    );
    for (what, inputs, hours, step, more) in [
        ("1 input of 48 h, raw to 5m", 1, 48, 60, &[][..]),
        (
            "4 inputs of 2 h, side by side",
            4,
            12,
            15,
            &downsampling[..],
        ),
        ("16 inputs of 2 h, four replicas", 16, 8, 15, &replicas[..]),
        ("24 inputs of 2 h, four replicas", 24, 12, 15, &replicas[..]),
    ] {
        let copies = if inputs > 4 { 4 } else { 1 };
        let made: Vec<_> = (0..copies)
            .map(|n| filled(dir, hours, step, n * 3, inputs == 1))
            .collect();
        // Of twelve hours the last four wait for the hours that end their range. Replicas become one first, two
        // hours at a time; what comes of that is compacted, too.
        let part = match inputs {
            1 => 1.0,
            4 => 8.0 / 12.0,
            // Eight hours are not known to be over.
            16 => 1.0,
            _ => 1.0 + 8.0 / 12.0,
        };
        let samples = made.iter().map(|(_, n)| *n).sum::<u64>() as f64 * part;
        for round in 0..2 {
            for (who, program) in [("ours", own.as_path()), ("thanos", thanos.as_path())] {
                let s3 = Server::start(s3kit::Config::default()).unwrap();
                let config = s3_config(dir, &format!("{who}-{inputs}-{round}"), &s3);
                for (n, (folder, _)) in made.iter().enumerate() {
                    output(
                        ours()
                            .args(["tools", "bucket", "upload-blocks", "--label=region=\"eu\""])
                            .arg(format!("--label=replica=\"{n}\""))
                            .arg("--shipper.upload-compacted")
                            .arg(format!("--path={}", folder.display()))
                            .arg(format!("--objstore.config-file={config}")),
                    );
                    let _ = std::fs::remove_file(folder.join("thanos.shipper.json"));
                }
                let sizes = s3.keys_under("").into_iter().filter_map(|k| s3.get(&k));
                let input = sizes.map(|b| b.len() as f64).sum::<f64>();
                let taken = run(program, dir, &s3, &config, more);
                let mib = |bytes: f64| bytes / f64::from(1 << 20);
                println!(
                    "| {what} | {who} | {:.0} | {:.0} | {} | {:.1} | {:.1} | {:.1} |",
                    samples / taken.cpu,
                    mib(taken.peak as f64),
                    taken.requests,
                    mib(taken.read as f64),
                    mib(taken.written as f64),
                    mib(input)
                );
                let marked = s3.keys_under("");
                let marked = marked.iter().filter(|k| k.ends_with("/deletion-mark.json"));
                // What was made in between is marked, too.
                assert!(inputs == 1 || marked.count() >= inputs, "{who}: {what}");
            }
        }
    }
}

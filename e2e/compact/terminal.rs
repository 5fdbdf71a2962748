//! The bucket's tools on a terminal: a bar on it while they work, and nothing of it anywhere else.

use std::process::Stdio;

use super::*;

/// What was written to the terminal and to a redirected standard output.
struct Shown {
    terminal: String,
    output: String,
}

/// Runs a tool of the bucket with standard error on a pseudo-terminal (util-linux' `script` makes it).
fn on_terminal(dir: &Path, args: &[&str]) -> Shown {
    let quoted = args.iter().map(|arg| format!(" '{arg}'"));
    let program = env!("CARGO_BIN_EXE_epimetheus");
    let line = format!(
        "stty cols 160; '{program}' tools bucket{} > out.txt",
        quoted.collect::<String>()
    );
    let out = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let terminal = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{line}: {terminal}");
    let output = std::fs::read_to_string(dir.join("out.txt")).unwrap();
    Shown { terminal, output }
}

/// The same with standard error in a pipe.
fn in_a_pipe(dir: &Path, args: &[&str]) -> (String, String) {
    let mut command = ours();
    said(
        command
            .current_dir(dir)
            .args(["tools", "bucket"])
            .args(args),
    )
}

#[test]
fn tools_draw_a_bar_on_a_terminal_and_nowhere_else() {
    if !available("script", "tools_draw_a_bar_on_a_terminal_and_nowhere_else") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let blocks = blocks(dir, 60);
    let folder = format!("--path={}", blocks.display());
    let servers = [(); 2].map(|()| s3kit::Server::start(s3kit::Config::default()).unwrap());
    let [first, second] = &servers;
    let (from, to) = (s3_config(dir, "from", first), s3_config(dir, "to", second));
    let (bucket, other) = (
        format!("--objstore.config-file={from}"),
        format!("--objstore-to.config-file={to}"),
    );
    let seen = |what: &str, counted: &str, args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain([bucket.as_str()]).collect();
        let shown = on_terminal(dir, &args);
        let bar = shown.terminal.contains(&format!("{what} ["))
            && shown.terminal.contains(counted)
            && shown.terminal.contains("% ")
            && shown.terminal.contains("ETA ")
            && shown.terminal.contains('\r');
        assert!(bar, "{args:?}: {}", shown.terminal);
        // The last that is seen of it is that it is taken away.
        let last = shown.terminal.rsplit('\r').find(|l| !l.trim().is_empty());
        assert!(
            !last.unwrap().contains("ETA"),
            "{args:?}: {}",
            shown.terminal
        );
        let drawn = ['\u{1b}', '\r'];
        assert!(!shown.output.contains(drawn), "{args:?}: {}", shown.output);
        shown
    };
    let upload = ["upload-blocks", "--label=region=\"eu\"", &folder];
    let shown = seen("uploading", "/30 blocks", &upload);
    assert!(shown.terminal.contains("KiB/"), "{}", shown.terminal);
    // Lines of the log stand whole above it.
    let log = shown.terminal.lines().find(|l| l.contains("upload done"));
    let log = log.map(|line| line.rsplit('\r').find(|part| part.contains("upload done")));
    let log = log
        .flatten()
        .unwrap_or_else(|| panic!("{}", shown.terminal));
    assert!(log.contains("ts=") && !log.contains("ETA"), "{log}");

    let shown = seen("reading meta.json", "/30 blocks", &["inspect"]);
    assert_eq!(shown.output.lines().count(), 32, "{}", shown.output);
    seen("verifying", "/30 blocks", &["verify"]);
    seen(
        "replicating",
        "/30 blocks",
        &["replicate", "--single-run", &other],
    );

    let listed = in_a_pipe(dir, &["ls", &bucket]).0;
    let first_block = format!("--id={}", listed.lines().next().unwrap());
    let what = "--rewrite.to-delete-config=[{matchers: '{s=\"1\"}'}]";
    std::fs::write(
        dir.join("delete.yml"),
        &what["--rewrite.to-delete-config=".len()..],
    )
    .unwrap();
    let rewrite = [
        "rewrite",
        &first_block,
        "--rewrite.to-delete-config-file=delete.yml",
        "--tmp.dir=scratch",
    ];
    let shown = seen("rewriting", "/1 blocks", &rewrite);
    let told = shown.terminal.contains("Deleted c_total{s=\"1\"} [");
    assert!(told, "{}", shown.terminal);

    // Large enough for being downsampled.
    let data = dir.join("data");
    let compacted = ["--downsampling.disable", "--delete-delay=48h"];
    output(compactor(env!("CARGO_BIN_EXE_epimetheus"), &data, &from).args(compacted));
    let downsample = ["downsample", "--wait-interval=0s", "--data-dir=data"];
    seen("downsampling", "/1 blocks", &downsample);
    let retention = [
        "retention",
        "--consistency-delay=0s",
        "--retention.resolution-raw=1d",
        "--data-dir=data",
    ];
    seen("marking", " blocks", &retention);
    let cleanup = ["cleanup", "--consistency-delay=0s", "--delete-delay=0s"];
    seen("cleaning", " blocks", &cleanup);

    for args in [
        &["inspect", &bucket][..],
        &["verify", &bucket],
        &["ls", &bucket],
    ] {
        let (out, log) = in_a_pipe(dir, args);
        for text in [&out, &log] {
            assert!(
                !text.contains(['\r', '\u{1b}']) && !text.contains("ETA"),
                "{args:?}: {text}"
            );
        }
        assert!(log.lines().all(|line| line.starts_with("ts=")), "{log}");
    }
    let _ = std::fs::remove_file(blocks.join("thanos.shipper.json"));
    let third = s3kit::Server::start(s3kit::Config::default()).unwrap();
    let third = format!("--objstore.config-file={}", s3_config(dir, "third", &third));
    let (out, log) = in_a_pipe(
        dir,
        &["upload-blocks", "--label=region=\"eu\"", &folder, &third],
    );
    assert!(
        out.is_empty() && !log.contains(['\r', '\u{1b}']),
        "{out} {log}"
    );
}

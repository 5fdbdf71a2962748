//! Holds `docs/flags.md` against the flag tables. `UPDATE_DOCS=1 cargo test -p app --test it` rewrites it.

use std::fmt::Write as _;
use std::path::Path;

use app::kingpin::{Flag, Kind, Standing};

fn page() -> String {
    let mut out = String::from(
        "# Flags\n\nNames and defaults are those of Prometheus and Thanos. A flag \"without effect\" is taken so that existing command lines start; giving it\nlogs one warning with the reason. A switch `--x` is turned off by `--no-x`; `@file` reads arguments from a file, one a line.\n",
    );
    for (role, tables) in [
        ("all-in-one", app::roles::all_in_one::FLAGS),
        ("server", app::roles::server::FLAGS),
        ("sidecar", app::roles::sidecar::FLAGS),
        ("store", app::roles::store::FLAGS),
        ("query", app::roles::query::FLAGS),
        ("compact", app::roles::compact::FLAGS),
    ] {
        let _ = write!(
            out,
            "\n## `epimetheus {role}`\n\n| flag | default | meaning |\n|---|---|---|\n"
        );
        let mut flags: Vec<&Flag> = tables.iter().copied().flatten().collect();
        flags.sort_by_key(|f| f.name);
        for flag in flags {
            let default = match flag.kind {
                Kind::Value(Some(d)) | Kind::Many(Some(d)) if !d.is_empty() => format!("`{d}`"),
                Kind::Switch(on) => if on { "on" } else { "off" }.to_owned(),
                _ => String::new(),
            };
            let note = match flag.standing {
                Standing::Works => String::new(),
                Standing::Accepted(why) => format!(" *Without effect: {why}.*"),
            };
            let help = flag.help.replace('|', "\\|");
            let _ = writeln!(out, "| `--{}` | {default} | {help}{note} |", flag.name);
        }
    }
    out
}

#[test]
fn the_page_of_flags_is_true() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/flags.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == page,
        "docs/flags.md is not what the tables say; run with UPDATE_DOCS=1"
    );
}

#[test]
fn no_flag_stands_twice() {
    for tables in [
        app::roles::all_in_one::FLAGS,
        app::roles::server::FLAGS,
        app::roles::sidecar::FLAGS,
        app::roles::store::FLAGS,
        app::roles::query::FLAGS,
        app::roles::compact::FLAGS,
    ]
    .into_iter()
    .chain(app::tools::bucket::tables().map(|(_, tables)| tables))
    {
        let mut names: Vec<&str> = tables.iter().copied().flatten().map(|f| f.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|w| w[0] != w[1]), "{names:?}");
    }
}

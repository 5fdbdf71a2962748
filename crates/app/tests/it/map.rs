//! Holds the crate graph against the table in `ARCHITECTURE.md`, and prints file sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// crate -> the rooms it really leans on (normal dependencies).
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs: this test was started by it");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let is_room = |p: &serde_json::Value| p["manifest_path"].as_str().unwrap().contains("/crates/");
    let rooms: BTreeSet<&str> = packages
        .iter()
        .filter(|p| is_room(p))
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    packages
        .iter()
        .filter(|p| is_room(p))
        .map(|p| {
            let leans = p["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|d| d["kind"].is_null())
                .map(|d| d["name"].as_str().unwrap())
                .filter(|d| rooms.contains(d))
                .map(String::from)
                .collect();
            (p["name"].as_str().unwrap().to_owned(), leans)
        })
        .collect()
}

/// crate -> (floor, rooms it may lean on), from the table of rooms.
fn table() -> BTreeMap<String, (u32, BTreeSet<String>)> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [floor, name, leans, ..] = cells[..] else {
            continue;
        };
        let (Ok(floor), Some(name)) = (
            floor.parse(),
            name.strip_prefix('`').and_then(|n| n.strip_suffix('`')),
        ) else {
            continue;
        };
        let leans = leans
            .split(',')
            .map(str::trim)
            .filter(|r| !r.is_empty() && *r != "-");
        rows.insert(name.to_owned(), (floor, leans.map(String::from).collect()));
    }
    rows
}

#[test]
fn the_map_is_the_territory() {
    let (graph, table) = (graph(), table());
    assert_eq!(
        graph.keys().collect::<Vec<_>>(),
        table.keys().collect::<Vec<_>>(),
        "ARCHITECTURE.md must list every crate, and no other"
    );
    for (name, leans) in &graph {
        let (floor, allowed) = &table[name];
        assert_eq!(
            leans, allowed,
            "ARCHITECTURE.md is wrong about what `{name}` leans on"
        );
        for below in leans {
            assert!(
                table[below].0 <= *floor && below != name,
                "`{name}` (floor {floor}) leans on `{below}` (floor {})",
                table[below].0
            );
        }
    }
}

#[test]
fn there_is_no_circle() {
    let mut graph = graph();
    while !graph.is_empty() {
        let free: Vec<String> = graph
            .iter()
            .filter(|(_, leans)| leans.iter().all(|l| !graph.contains_key(l)))
            .map(|(name, _)| name.clone())
            .collect();
        assert!(!free.is_empty(), "a circle among {:?}", graph.keys());
        for name in free {
            graph.remove(&name);
        }
    }
}

/// Prints the sizes; a person judges them. Only a file no one can read in a sitting fails.
#[test]
fn files_can_be_read_in_a_sitting() {
    fn walk(dir: &Path, out: &mut Vec<(usize, PathBuf)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir()
                && path
                    .file_name()
                    .is_none_or(|n| n != "tests" && n != "generated")
            {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs")
                && path.file_name().is_none_or(|n| n != "tests.rs")
            {
                out.push((
                    std::fs::read_to_string(&path).unwrap().lines().count(),
                    path,
                ));
            }
        }
    }
    let mut files = Vec::new();
    for room in std::fs::read_dir(root().join("crates")).unwrap() {
        walk(&room.unwrap().path().join("src"), &mut files);
    }
    files.sort();
    let lines: usize = files.iter().map(|(n, _)| n).sum();
    println!(
        "{} files, {lines} lines, median {}, p90 {}",
        files.len(),
        files[files.len() / 2].0,
        files[files.len() * 9 / 10].0
    );
    for (n, path) in files.iter().rev().take(12) {
        println!("{n:6} {}", path.strip_prefix(root()).unwrap().display());
    }
    let (longest, path) = files.last().unwrap();
    assert!(
        *longest <= 1500,
        "{} has {longest} lines: what two things is it?",
        path.display()
    );
}

//! Holds `src/generated` against `proto/`. `UPDATE_GENERATED=1 cargo test -p wire --test it` writes it anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message as _;

const FILES: [&str; 14] = [
    "thanos/types.proto",
    "thanos/store.proto",
    "thanos/hints.proto",
    "thanos/info.proto",
    "thanos/rules.proto",
    "thanos/targets.proto",
    "thanos/metadata.proto",
    "thanos/exemplars.proto",
    "thanos/status.proto",
    "thanos/query.proto",
    "prometheus/types.proto",
    "prometheus/remote.proto",
    "prometheus/write_v2.proto",
    "prometheus/client.proto",
];

fn files_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    let name = |p: &Path| p.file_name().unwrap().to_string_lossy().into_owned();
    paths
        .into_iter()
        .map(|p| (name(&p), std::fs::read(&p).unwrap()))
        .collect()
}

#[test]
fn the_generated_code_is_what_the_definitions_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut set = protox::compile(FILES, [root.join("../../proto")]).unwrap();
    // Comments become documentation, but reflection does not need them.
    let with_comments = set.clone();
    for file in &mut set.file {
        file.source_code_info = None;
    }
    let fresh = tempfile::tempdir().unwrap();
    std::fs::write(fresh.path().join("descriptors.bin"), set.encode_to_vec()).unwrap();
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".thanos.SeriesResponse", "crate::series::Frame")
        .out_dir(fresh.path())
        .compile_fds(with_comments)
        .unwrap();
    let kept = root.join("src/generated");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        for (name, bytes) in files_of(fresh.path()) {
            std::fs::write(kept.join(name), bytes).unwrap();
        }
    }
    let (fresh, kept) = (files_of(fresh.path()), files_of(&kept));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&fresh), names(&kept), "run with UPDATE_GENERATED=1");
    for (name, bytes) in fresh {
        assert!(
            kept[&name] == bytes,
            "{name} has drifted: run with UPDATE_GENERATED=1"
        );
    }
}

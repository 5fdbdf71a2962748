//! Gathers the built UI for embedding: `ui/dist`, compressed, or a plain page that says how to get
//! it, so that building needs no Node.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?);
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?).join("ui");
    let dist = here.join("../../ui/dist");
    let fallback = here.join("src/ui/fallback.html");
    // The folder is always there (it holds a file of its own in the repository): a path that does
    // not exist would make every build look stale.
    println!("cargo::rerun-if-changed={}", dist.display());
    println!("cargo::rerun-if-changed={}", fallback.display());
    println!("cargo::rerun-if-changed=build.rs");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(&out)?;
    if dist.join("index.html").exists() {
        gather(&dist, &out)
    } else {
        fs::copy(fallback, out.join("index.html")).map(drop)
    }
}

fn gather(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let (path, name) = (entry.path(), name.to_string_lossy());
        if entry.file_type()?.is_dir() {
            gather(&path, &to.join(&*name))?;
        } else if name.starts_with('.') || name.ends_with(".map") {
            // Not for browsers.
        } else if name != "index.html" && compresses(&name) {
            let file = fs::File::create(to.join(format!("{name}.gz")))?;
            let mut file = flate2::write::GzEncoder::new(file, flate2::Compression::best());
            file.write_all(&fs::read(path)?)?;
            file.finish()?;
        } else {
            fs::copy(path, to.join(&*name))?;
        }
    }
    Ok(())
}

fn compresses(name: &str) -> bool {
    [".js", ".css", ".svg", ".json", ".html", ".txt"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

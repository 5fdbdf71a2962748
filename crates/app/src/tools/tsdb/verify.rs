//! `tools tsdb verify`: reads everything that a data folder holds, every checksum included, and says
//! what is damaged and what an older Prometheus could not read.

mod blocks;
mod logs;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::ArgMatches;
use model::Encoding;
use ulid::Ulid;

use super::{folder, text};
use crate::tools::progress::Progress;

/// The exit code when everything is whole, but not readable by the version that was named.
const UNREADABLE: u8 = 3;

/// A Prometheus that may be asked to read the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 2.42.
    V2_42,
    /// 2.55.
    V2_55,
    /// Any of 3.x, from 3.0 on.
    V3,
    /// 3.10 and later.
    V3_10,
    /// None of them.
    Never,
}

impl Version {
    fn text(self) -> &'static str {
        match self {
            Version::V2_42 => "2.42",
            Version::V2_55 => "2.55",
            Version::V3 => "3.0",
            Version::V3_10 => "3.10",
            Version::Never => "no Prometheus at all",
        }
    }
}

/// What was found.
#[derive(Default)]
pub struct Findings {
    damage: Vec<String>,
    /// By what it is: which version is needed, how often it was met, and where first.
    needs: BTreeMap<&'static str, (Version, u64, String)>,
}

impl Findings {
    /// Something is damaged.
    pub fn damaged(&mut self, place: &str, what: impl std::fmt::Display) {
        self.damage.push(format!("{place}: {what}"));
    }

    /// Something is there that only some versions read.
    pub fn needs(&mut self, version: Version, what: &'static str, place: &str) {
        let (_, count, _) = self
            .needs
            .entry(what)
            .or_insert_with(|| (version, 0, place.to_owned()));
        *count += 1;
    }

    /// A chunk of this encoding is there.
    pub fn encoding(&mut self, encoding: Encoding, place: &str) {
        match encoding {
            Encoding::XOR | Encoding::HISTOGRAM | Encoding::FLOAT_HISTOGRAM => {}
            Encoding::XOR2 => {
                self.needs(Version::V3_10, "float chunks of encoding 4 (XOR2)", place)
            }
            Encoding::HISTOGRAM_ST => self.needs(
                Version::V3_10,
                "histogram chunks of encoding 5 (with start timestamps)",
                place,
            ),
            Encoding::FLOAT_HISTOGRAM_ST => self.needs(
                Version::V3_10,
                "float histogram chunks of encoding 6 (with start timestamps)",
                place,
            ),
            Encoding::AGGREGATE => self.needs(
                Version::Never,
                "aggregate chunks of downsampled blocks (Thanos reads them)",
                place,
            ),
            _ => self.needs(Version::Never, "chunks of an unknown encoding", place),
        }
    }

    /// A series has these labels.
    pub fn labels<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>, place: &str) {
        let mut utf8 = false;
        for (name, value) in labels {
            utf8 |= !model::labels::is_legacy_label_name(name)
                || (name == model::METRIC_NAME && !model::labels::is_legacy_metric_name(value));
        }
        if utf8 {
            self.needs(Version::V3, "series with UTF-8 names", place);
        }
    }
}

/// Verifies and reports.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let dir = folder(m, "path");
    let asked = text(m, "readable-by").map(|v| match v {
        "2.42" => Version::V2_42,
        "2.55" => Version::V2_55,
        _ => Version::V3,
    });
    let mut findings = Findings::default();
    let mut progress = Progress::new();
    let mut names: Vec<String> = Vec::new();
    let entries = std::fs::read_dir(&dir)
        .with_context(|| format!("opening the db dir: {}", dir.display()))?;
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    for name in &names {
        let path = dir.join(name);
        if Ulid::from_string(name).is_ok() && path.is_dir() {
            blocks::verify(&path, name, &mut findings, &mut progress);
        } else if name.ends_with(".corrupt") {
            findings.damaged(name, "a block that was set aside because it cannot be read");
        }
    }
    logs::log(&dir.join("wal"), "wal", &mut findings, &mut progress)?;
    logs::log(&dir.join("wbl"), "wbl", &mut findings, &mut progress)?;
    logs::head_chunks(&dir.join("chunks_head"), &mut findings)?;
    Ok(report(&findings, asked))
}

fn report(findings: &Findings, asked: Option<Version>) -> ExitCode {
    for line in &findings.damage {
        println!("DAMAGED {line}");
    }
    let mut unreadable = false;
    for (what, (version, count, place)) in &findings.needs {
        let line = format!(
            "{what}: {count}, first in {place}; needs {}",
            version.text()
        );
        match asked {
            Some(asked) if *version > asked => {
                unreadable = true;
                println!("UNREADABLE {line}");
            }
            Some(_) => {}
            None => println!("note: {line}"),
        }
    }
    if !findings.damage.is_empty() {
        println!("{} places are damaged", findings.damage.len());
        return ExitCode::FAILURE;
    }
    if unreadable {
        return ExitCode::from(UNREADABLE);
    }
    match asked {
        Some(asked) => println!("everything is whole, and readable by {}", asked.text()),
        None => println!("everything is whole"),
    }
    ExitCode::SUCCESS
}

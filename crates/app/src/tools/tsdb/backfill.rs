//! `tools tsdb create-blocks-from openmetrics`: samples of a text become blocks.
//!
//! The text is read once, from its beginning to its end; each series' samples are encoded as they
//! come. Only when the encoded samples would take too much memory, those of the newest blocks are
//! dropped and read again in another pass. Nothing is written before everything was read.

mod importer;

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use block::Meta;
use bytes::Bytes;
use clap::ArgMatches;
use model::report::MetricType;
use model::{Labels, Millis};
use scrape::parse::{Event, Format, Parser};

use super::{folder, list, show, text};
use crate::tools::progress::{Progress, percent};
pub use importer::{Importer, block_duration};

/// Runs the command.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let input = read(Path::new(text(m, "input").unwrap_or_default()))?;
    let output = folder(m, "output");
    std::fs::create_dir_all(&output).context("create output dir")?;
    let mut custom = Vec::new();
    for label in m.get_many::<String>("label").into_iter().flatten() {
        let pair = label
            .split_once('=')
            .ok_or_else(|| anyhow!("expected KEY=VALUE got '{label}'"))?;
        custom.push(pair);
    }
    let mut table = Table::new(m);
    import(
        &input,
        &output,
        duration(m)?,
        &custom,
        importer::MEMORY,
        |made| table.print(made),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// `--max-block-duration` as the length that blocks get, ms.
pub fn duration(m: &ArgMatches) -> Result<Millis> {
    let longest = match text(m, "max-block-duration").filter(|t| !t.is_empty()) {
        Some(text) => model::time::parse_duration(text)
            .map_err(|e| anyhow!("invalid --max-block-duration: {e}"))?,
        None => 0,
    };
    Ok(block_duration(longest))
}

/// Prints blocks as they are made.
pub struct Table {
    quiet: bool,
    human: bool,
    head: bool,
}

impl Table {
    /// As the flags say.
    pub fn new(m: &ArgMatches) -> Self {
        Self {
            quiet: m.get_flag("quiet"),
            human: m.get_flag("human-readable"),
            head: true,
        }
    }

    /// Prints one.
    pub fn print(&mut self, (meta, dir): (&Meta, &Path)) -> Result<()> {
        if !self.quiet {
            let size = list::size(&dir.join(meta.ulid.to_string()))?;
            print!(
                "{}",
                show::blocks(&[(meta.clone(), size)], self.head, self.human)
            );
            self.head = false;
        }
        Ok(())
    }
}

/// The whole input: a file is mapped, anything else is read.
fn read(path: &Path) -> Result<Bytes> {
    let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let meta = file.metadata()?;
    if meta.is_file() {
        return block::read_at::map_file(path).with_context(|| format!("mmap {}", path.display()));
    }
    if meta.is_dir() {
        bail!("read {}: is a directory", path.display());
    }
    let mut all = Vec::new();
    std::io::BufReader::new(file).read_to_end(&mut all)?;
    Ok(all.into())
}

fn import(
    input: &[u8],
    output: &Path,
    duration: Millis,
    custom: &[(&str, &str)],
    memory: usize,
    mut made: impl FnMut((&Meta, &Path)) -> Result<()>,
) -> Result<()> {
    let mut importer = Importer::new(duration, memory);
    let mut known: HashMap<(&[u8], MetricType), u32> = HashMap::new();
    let mut progress = Progress::new();
    loop {
        let mut parser = Parser::new(input, Format::OpenMetrics);
        let mut last: (&[u8], MetricType, u32) = (&[], MetricType::Unknown, 0);
        let mut count = 0u64;
        while let Some(event) = parser
            .next_expecting(last.0)
            .map_err(|e| anyhow!("getting min and max timestamp: next: {e}"))?
        {
            let Event::Series(series) = event else {
                continue;
            };
            let Some(ts) = series.timestamp else {
                bail!("getting min and max timestamp: expected timestamp for series got none");
            };
            if last.0 != series.text || last.1 != series.kind {
                let key = (series.text, series.kind);
                let id = match known.get(&key) {
                    Some(&id) => id,
                    None => {
                        let id = importer.series(&labels(&series, custom)?)?;
                        known.insert(key, id);
                        id
                    }
                };
                last = (series.text, series.kind, id);
            }
            importer
                .add(last.2, ts, series.value)
                .map_err(|e| anyhow!("block creation: process blocks: {e}"))?;
            count += 1;
            if count.is_multiple_of(1 << 16) {
                progress.tick(|| {
                    // The text lies in the input.
                    let at =
                        (series.text.as_ptr() as usize).saturating_sub(input.as_ptr() as usize);
                    let share = percent(at as u64, input.len() as u64);
                    format!(
                        "read {share}% of the input: {count} samples, {} series",
                        known.len()
                    )
                });
            }
        }
        let again = importer.write(output, &mut |meta| {
            progress.tick(|| format!("wrote block {}", meta.ulid));
            made((meta, output))
        })?;
        if !again {
            return Ok(());
        }
    }
}

fn labels(series: &scrape::parse::Series<'_>, custom: &[(&str, &str)]) -> Result<Labels> {
    let own = series
        .labels()
        .map_err(|e| anyhow!("block creation: process blocks: parse: {e}"))?;
    if custom.is_empty() {
        return Ok(own);
    }
    let mut builder = own.builder();
    for &(name, value) in custom {
        match value {
            "" => builder.remove(name),
            value => builder.set(name, value),
        };
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks made of `text`: (min, max, samples, series).
    fn made(text: &str, memory: usize) -> Result<Vec<(Millis, Millis, u64, u64)>> {
        let dir = tempfile::tempdir()?;
        let mut blocks = Vec::new();
        import(
            text.as_bytes(),
            dir.path(),
            block_duration(0),
            &[("dc", "x")],
            memory,
            |(m, _)| {
                blocks.push((
                    m.min_time,
                    m.max_time,
                    m.stats.num_samples,
                    m.stats.num_series,
                ));
                Ok(())
            },
        )?;
        let found = list::find(dir.path())?;
        assert_eq!(found.len(), blocks.len());
        Ok(blocks)
    }

    #[test]
    fn one_block_for_every_two_hours_that_have_samples() {
        let text = "# TYPE a gauge\na 1 1\na 2 2\na{b=\"c\"} 1 7200\na 3 7199.5\na 4 72000\na 4 72000\n# EOF\n";
        let want = [
            (1000, 7_199_501, 3, 1),
            (7_200_000, 7_200_001, 1, 1),
            (72_000_000, 72_000_001, 1, 1),
        ];
        assert_eq!(made(text, 1 << 20).unwrap(), want);
        assert_eq!(made(text, 0).unwrap(), want, "a pass for each block");
        assert_eq!(made("# EOF\n", 0).unwrap(), []);
    }

    #[test]
    fn what_comes_late_is_put_where_it_belongs() {
        let text = "a 3 3\na 1 1\na 2 2\na 2 2\n# EOF\n";
        assert_eq!(made(text, 1 << 20).unwrap(), [(1000, 3001, 3, 1)]);
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_is_written() {
        for (text, error) in [
            ("a 1\n# EOF\n", "expected timestamp for series got none"),
            ("a 1 1\n", "data does not end with # EOF"),
            ("a 1 1\na 2 1\n# EOF\n", "duplicate sample for timestamp"),
            (
                "a 3 3\na 1 1\na 2 1\n# EOF\n",
                "duplicate sample for timestamp",
            ),
        ] {
            let e = made(text, 1 << 20).unwrap_err().to_string();
            assert!(e.contains(error), "{text}: {e}");
        }
    }
}

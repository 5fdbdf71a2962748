//! Reading head chunk files when a head is opened.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64};

use hashbrown::HashMap;
use model::{Encoding, Millis};

use super::{
    AROUND, CRC, ChunkFile, ChunkFiles, HEADER, MAGIC, MAX_FILE, OUT_OF_ORDER, Place, VERSION,
};
use crate::Error;
use crate::codec::Reader;
use crate::fs::FsExt as _;

/// A chunk in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) min: Millis,
    pub(crate) max: Millis,
    pub(crate) encoding: Encoding,
    pub(crate) samples: u16,
    pub(crate) len: u32,
    pub(in super::super) place: Place,
}

/// What the files hold.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The chunks of each series, by its number in the log, in the order of the files.
    pub(crate) chunks: HashMap<u64, Vec<Found>>,
    /// The highest number of a series.
    pub(crate) highest: u64,
}

/// A chunk of a file's bytes.
pub(super) struct Entry {
    series: u64,
    min: Millis,
    max: Millis,
    encoding: u8,
    samples: u16,
    /// Its own bytes.
    at: usize,
    len: usize,
}

/// What is wrong with a file, and from where on.
pub(super) struct Damage {
    at: usize,
    what: &'static str,
    /// The file ends within a chunk: a crash leaves it like that.
    torn: bool,
}

impl ChunkFiles {
    pub(super) fn load(
        &mut self,
        found: BTreeMap<u64, PathBuf>,
        min: Millis,
        damaged: &mut Vec<String>,
    ) -> Result<Loaded, Error> {
        let mut loaded = Loaded::default();
        let last = found.keys().next_back().copied();
        let mut whole = true;
        for (number, path) in found {
            if !whole {
                // Behind damage, what is here would hide samples of the log that lie before it.
                self.set_aside(&path)?;
                continue;
            }
            let size = std::fs::metadata(&path)
                .map_err(Error::io("reading", &path))?
                .len();
            let bytes = match size <= MAX_FILE {
                true => self.fs.read(&path).map_err(Error::io("reading", &path))?,
                false => Vec::new(),
            };
            if size < HEADER as u64 && Some(number) == last {
                // Nobody makes a sync between creating a file and writing to it.
                self.fs
                    .remove_file(&path)
                    .map_err(Error::io("removing", &path))?;
                *self.next.get_mut() = number;
                continue;
            }
            let mut entries = Vec::new();
            let damage = entries_of(&bytes, |entry| entries.push(entry)).err();
            let kept = self.keep(&path, number, &bytes, entries, min, &mut loaded)?;
            let Some(damage) = damage else { continue };
            whole = false;
            let what = format!(
                "{} is damaged at byte {}: {}",
                path.display(),
                damage.at,
                damage.what
            );
            if Some(number) == last && damage.at >= HEADER {
                // After a power failure it may end in anything. What lies before that is whole.
                match damage.torn {
                    true => tracing::info!("{what}: cut there, as after any crash"),
                    false => {
                        tracing::warn!("{what}: cut there, the rest is taken from the log");
                        self.stats.corruptions.inc();
                    }
                }
                let file = self
                    .fs
                    .open_end(&path)
                    .map_err(Error::io("opening", &path))?;
                file.truncate(damage.at as u64)
                    .map_err(Error::io("cutting", &path))?;
                continue;
            }
            tracing::warn!("{what}: set aside as .bad, its samples are taken from the log");
            self.stats.corruptions.inc();
            damaged.push(what);
            self.forget(kept, &mut loaded);
            self.set_aside(&path)?;
            *self.next.get_mut() = number;
        }
        // The last file of an earlier process, which others will follow now.
        if let Some(path) = self.last() {
            self.fs.secure(&path).map_err(Error::io("syncing", &path))?;
        }
        if !whole {
            let failed = Error::io("syncing", &self.dir);
            self.fs.sync_dir(&self.dir).map_err(failed)?;
        }
        Ok(loaded)
    }

    /// The path of the file with the highest number.
    fn last(&self) -> Option<PathBuf> {
        let files = self.files.read();
        let last = files.iter().flatten().max_by_key(|f| f.number)?;
        Some(last.path.clone())
    }

    /// Takes the chunks of a file; its place.
    fn keep(
        &self,
        path: &Path,
        number: u64,
        bytes: &[u8],
        entries: Vec<Entry>,
        min: Millis,
        loaded: &mut Loaded,
    ) -> Result<u16, Error> {
        let newest = entries.iter().map(|e| e.max).max().unwrap_or(Millis::MIN);
        let file = self.add(ChunkFile {
            path: path.to_owned(),
            number,
            len: AtomicU64::new(bytes.len() as u64),
            max: AtomicI64::new(newest),
            file: File::open(path).map_err(Error::io("opening", path))?,
            map: None,
        })?;
        for e in entries {
            loaded.highest = loaded.highest.max(e.series);
            if e.encoding & OUT_OF_ORDER != 0 || e.max < min {
                continue;
            }
            loaded.chunks.entry(e.series).or_default().push(Found {
                min: e.min,
                max: e.max,
                encoding: Encoding(e.encoding),
                samples: e.samples,
                // Within a file of at most 128 MiB.
                len: e.len as u32,
                place: Place {
                    file,
                    offset: e.at as u32,
                },
            });
        }
        Ok(file)
    }

    /// Gives the chunks of a file up again.
    fn forget(&self, file: u16, loaded: &mut Loaded) {
        loaded.chunks.retain(|_, chunks| {
            chunks.retain(|c| c.place.file != file);
            !chunks.is_empty()
        });
        if let Some(slot) = self.files.write().get_mut(usize::from(file)) {
            *slot = None;
        }
    }

    fn set_aside(&self, path: &Path) -> Result<(), Error> {
        let mut aside = path.with_extension("bad");
        let mut n = 0;
        while aside.exists() {
            n += 1;
            aside = path.with_extension(format!("bad.{n}"));
        }
        let failed = Error::io("renaming", path);
        self.fs.rename(path, &aside).map_err(failed)
    }
}

pub(super) fn entries_of(bytes: &[u8], mut each: impl FnMut(Entry)) -> Result<(), Damage> {
    let at = |at: usize, what: &'static str| Damage {
        at,
        what,
        torn: false,
    };
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(at(0, "it has no header"));
    };
    let [a, b, c, d, version, ..] = *header;
    if u32::from_be_bytes([a, b, c, d]) != MAGIC || version != VERSION {
        return Err(at(0, "its header is another format's"));
    }
    let mut pos = HEADER;
    while let Some(rest) = bytes.get(pos..).filter(|rest| !rest.is_empty()) {
        // Prometheus makes room in advance.
        if rest.iter().take(AROUND - CRC).all(|b| *b == 0) {
            return match rest.iter().all(|b| *b == 0) {
                true => Ok(()),
                false => Err(at(pos, "something stands behind its end")),
            };
        }
        let (entry, len) = match entry(rest) {
            Some(Ok(found)) => found,
            Some(Err(what)) => return Err(at(pos, what)),
            None => {
                return Err(Damage {
                    torn: true,
                    ..at(pos, "it ends within a chunk")
                });
            }
        };
        each(Entry {
            at: pos + entry.at,
            ..entry
        });
        pos += len;
    }
    Ok(())
}

/// The chunk that `bytes` begin with, and how many bytes it takes; none if they end too soon.
fn entry(bytes: &[u8]) -> Option<Result<(Entry, usize), &'static str>> {
    let mut r = Reader(bytes);
    let series = r.u64().ok()?;
    let (min, max) = (r.i64().ok()?, r.i64().ok()?);
    let encoding = r.u8().ok()?;
    let len = match r.uvarint() {
        Ok(len) => len,
        Err(_) if bytes.len() < AROUND => return None,
        Err(_) => return Some(Err("the length of a chunk is malformed")),
    };
    let at = bytes.len() - r.0.len();
    let len = usize::try_from(len)
        .ok()
        .filter(|len| *len <= MAX_FILE as usize);
    let Some(len) = len else {
        return Some(Err("a chunk is longer than a file"));
    };
    let chunk = r.take(len).ok()?;
    let (body, crc) = (bytes.get(..at + len)?, r.take(CRC).ok()?);
    if crc32c::crc32c(body).to_be_bytes() != crc {
        return Some(Err("the checksum of a chunk is wrong"));
    }
    let encoding_known = Encoding(encoding & !OUT_OF_ORDER);
    let samples = match chunk::sample_count(encoding_known, chunk) {
        Ok(n) => n,
        Err(_) => return Some(Err("a chunk is of an unknown encoding")),
    };
    if max < min
        || max
            .checked_sub(min)
            .is_none_or(|span| span > u32::MAX.into())
    {
        return Some(Err("the times of a chunk are in disorder"));
    }
    let entry = Entry {
        series,
        min,
        max,
        encoding,
        samples: u16::try_from(samples).unwrap_or(u16::MAX),
        at,
        len,
    };
    Some(Ok((entry, at + len + CRC)))
}

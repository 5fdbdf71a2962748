//! When the disk refuses: nothing may follow what is half written, and what an fsync failed on is
//! written again.
//!
//! After a failed fsync the system may drop the bytes and still let the next fsync pass. So
//! everything since the last fsync that passed is copied into a new segment; only when that one is
//! on the disk are the doubtful ends cut off. A crash in between leaves records twice, which a
//! replay does not mind: they come in the same order and end in the same state.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Active, Records, SegmentReader, Wal, create, page, segment_name};
use crate::Error;
use crate::fs::{Fs, LogFile};

/// A segment of which not everything is known to be on the disk.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) file: Arc<dyn LogFile>,
    pub(super) number: u64,
    /// So many bytes are.
    pub(super) safe: u64,
}

/// What must be done before anything else is written.
pub(super) enum Mend {
    /// A batch was refused, and a part of it may lie at the end of the segment.
    Cut,
    /// A segment that was given up must not stay.
    Remove(PathBuf),
}

impl Active {
    /// Does what a refusal left to do. An error means that nothing can be written yet.
    pub(super) fn mend(&mut self, fs: &dyn Fs, dir: &std::path::Path) -> Result<(), Error> {
        match &self.mend {
            None => return Ok(()),
            Some(Mend::Cut) => {
                let path = dir.join(segment_name(self.open.number));
                let cut = self.open.file.truncate(self.len);
                cut.map_err(Error::io("cutting what was refused off", &path))?;
            }
            Some(Mend::Remove(path)) => remove(fs, path)?,
        }
        self.mend = None;
        Ok(())
    }
}

fn remove(fs: &dyn Fs, path: &std::path::Path) -> Result<(), Error> {
    match fs.remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", path)(e)),
        _ => Ok(()),
    }
}

impl Wal {
    /// Writes everything that is not known to be on the disk again, and syncs that.
    pub(super) fn write_again(&self, active: &mut Active) -> Result<(), Error> {
        active.mend(&*self.fs, &self.dir)?;
        let number = active.open.number + 1;
        // This needs a disk that can make a name last: where it cannot, nothing is copied in vain.
        let file = create(&*self.fs, &self.dir, number)?;
        let path = self.dir.join(segment_name(number));
        let mut doubtful = active.unsynced.clone();
        doubtful.push(active.open.clone());
        let copied = self.copy(&doubtful, &*file).and_then(|len| {
            file.sync().map_err(Error::io("syncing", &path))?;
            Ok(len)
        });
        let len = match copied {
            Ok(len) => len,
            Err(e) => {
                if remove(&*self.fs, &path).is_err() {
                    active.mend = Some(Mend::Remove(path));
                }
                return Err(e);
            }
        };
        for open in &doubtful {
            // What cannot be cut off stands in the log twice, or is set aside by a replay.
            if let Err(e) = open
                .file
                .truncate(open.safe)
                .and_then(|()| open.file.sync())
            {
                let path = self.dir.join(segment_name(open.number));
                tracing::warn!("{}", Error::io("cutting", &path)(e));
            }
        }
        tracing::warn!(
            segments = doubtful.len(),
            bytes = len,
            "an fsync of the log failed: what it was for was written again"
        );
        active.unsynced.clear();
        active.doubtful = false;
        active.open = Open {
            file,
            number,
            safe: len,
        };
        active.len = len;
        self.stats.segment.set(number as i64);
        Ok(())
    }

    /// Copies the records behind the safe part of some segments; how many bytes they take.
    fn copy(&self, from: &[Open], to: &dyn LogFile) -> Result<u64, Error> {
        let mut records = Records::new(self.options.compression);
        let (mut len, mut used) = (0, 0);
        let mut out = Vec::new();
        for open in from {
            let path = self.dir.join(segment_name(open.number));
            let mut reader = SegmentReader::open_on(&*self.fs, &path)?;
            loop {
                let read = reader.read().map(|record| {
                    records.clear();
                    record.map(|bytes| records.out().extend_from_slice(bytes))
                });
                match read {
                    Ok(None) => break,
                    Ok(Some(())) => {}
                    Err(e) => return Err(e.at(&path, reader.good_offset())),
                }
                if reader.good_offset() <= open.safe {
                    continue;
                }
                records.end();
                records.pack();
                out.clear();
                let mut start = 0;
                for &(end, flag) in &records.packed_ends {
                    page::frame(&records.packed[start..end], flag, &mut used, &mut out);
                    start = end;
                }
                let path = self.dir.join("again");
                to.append(&out).map_err(Error::io("writing", &path))?;
                len += out.len() as u64;
            }
        }
        Ok(len)
    }
}

//! Reads a segment on a thread of its own, a little ahead of whoever takes the records.
//!
//! Checking, joining and decompressing records costs about as much as making sense of them: with two
//! threads a replay is nearly twice as fast.

use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::{ReadError, SegmentReader};
use crate::Error;
use crate::fs::Fs;

/// Bytes of records handed over at once.
const HANDED: usize = 256 << 10;
/// So many such lists may wait.
const WAITING: usize = 4;

#[derive(Default)]
struct List {
    bytes: Vec<u8>,
    /// Where each record ends in `bytes`, and in the file.
    ends: Vec<(usize, u64)>,
    /// What came after the records; none at the end of the segment.
    error: Option<ReadError>,
    last: bool,
}

/// The records of one segment, in order, as [`SegmentReader`] would give them.
pub(crate) struct Ahead {
    lists: Receiver<List>,
    spare: SyncSender<List>,
    list: List,
    /// The next record of `list`.
    next: usize,
    good: u64,
}

impl Ahead {
    /// Opens a segment.
    pub(crate) fn open(fs: &dyn Fs, path: &Path) -> Result<Self, Error> {
        let mut reader = SegmentReader::open_on(fs, path)?;
        let (sender, lists) = sync_channel(WAITING);
        let (spare, spares) = sync_channel::<List>(WAITING + 2);
        let thread = std::thread::Builder::new().name("wal-read".into());
        thread
            .spawn(move || {
                loop {
                    let mut list = spares.try_recv().unwrap_or_default();
                    fill(&mut reader, &mut list);
                    let last = list.last;
                    // Nobody wants more if the other end is gone.
                    if sender.send(list).is_err() || last {
                        break;
                    }
                }
            })
            .map_err(Error::io("starting a thread to read", path))?;
        Ok(Self {
            lists,
            spare,
            list: List::default(),
            next: 0,
            good: 0,
        })
    }

    /// Where the last record that was given ends: everything before is good.
    pub(crate) fn good_offset(&self) -> u64 {
        self.good
    }

    /// The next record; none at the end of the segment.
    pub(crate) fn read(&mut self) -> Result<Option<&[u8]>, ReadError> {
        while self.next >= self.list.ends.len() {
            if let Some(error) = self.list.error.take() {
                return Err(error);
            }
            if self.list.last {
                return Ok(None);
            }
            let Ok(list) = self.lists.recv() else {
                let died = std::io::Error::other("the thread that reads the log ended");
                return Err(ReadError::Io(died));
            };
            let used = std::mem::replace(&mut self.list, list);
            let _ = self.spare.try_send(used);
            self.next = 0;
        }
        let start = match self.next.checked_sub(1) {
            Some(before) => self.list.ends[before].0,
            None => 0,
        };
        let (end, offset) = self.list.ends[self.next];
        self.next += 1;
        self.good = offset;
        Ok(self.list.bytes.get(start..end))
    }
}

fn fill(reader: &mut SegmentReader<impl Read>, list: &mut List) {
    list.bytes.clear();
    list.ends.clear();
    while list.bytes.len() < HANDED {
        match reader.read() {
            Ok(Some(record)) => {
                list.bytes.extend_from_slice(record);
                list.ends.push((list.bytes.len(), reader.good_offset()));
            }
            end => {
                list.error = end.err();
                list.last = true;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{Compression, Records, Wal, WalOptions};

    #[test]
    fn it_gives_what_the_reader_gives() {
        let dir = tempfile::tempdir().unwrap();
        let fs = std::sync::Arc::new(crate::fs::OsFs);
        let wal = Wal::open(dir.path(), WalOptions::default(), fs, Default::default()).unwrap();
        let mut records = Records::new(Compression::Snappy);
        for n in [1usize, 70_000, 5, 400_000, 3000, 250_000] {
            let len = records.out().len();
            records.out().resize(len + n, n as u8);
            records.end();
        }
        let ticket = wal.append(&mut records).unwrap();
        wal.settle(ticket).unwrap();
        let path = dir.path().join("00000000");
        let mut bytes = std::fs::read(&path).unwrap();
        for cut in [false, true] {
            if cut {
                bytes.truncate(bytes.len() - 100);
                std::fs::write(&path, &bytes).unwrap();
            }
            let mut plain = SegmentReader::open(&path).unwrap();
            let mut ahead = Ahead::open(&crate::fs::OsFs, &path).unwrap();
            let mut n = 0;
            loop {
                let (a, b) = (plain.read(), ahead.read());
                let going = matches!(a, Ok(Some(_)));
                assert_eq!(
                    format!("{:?}", a.map(|r| r.map(<[u8]>::to_vec))),
                    format!("{:?}", b.map(|r| r.map(<[u8]>::to_vec)))
                );
                if !going {
                    break;
                }
                assert_eq!(plain.good_offset(), ahead.good_offset());
                n += 1;
            }
            assert_eq!(n, if cut { 5 } else { 6 });
        }
    }
}

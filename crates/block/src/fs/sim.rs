//! A disk for tests: it counts steps, fails where it is told, and remembers what was done, so that
//! whatever a crash at any step would have left can be laid out in another folder and opened there.
//!
//! [`SimFs`] works on real files below one folder (what reads them needs no disguise) and writes a
//! journal. [`SimFs::lay_out`] turns the first steps of that journal into the folder that
//! [`Loss::Kill`] (everything written stays, the step under way may be half done) or
//! [`Loss::Power`] (what was never synced is gone, wholly or in part, by seed) leaves behind.

mod disk;

use std::any::Any;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Fs, LogFile, OsFs};
use crate::read_at::ReadAt;
use bytes::Bytes;
use disk::Disk;

/// What a step is; for deciding whether it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A file or folder is made, or gets one more name.
    Create,
    /// So many bytes are written.
    Append(usize),
    /// A file is cut.
    Truncate,
    /// A file's bytes are synced.
    Sync,
    /// A folder's names are synced.
    SyncDir,
    /// Something gets another name.
    Rename,
    /// A name is removed.
    Remove,
    /// Bytes are read. Not counted among the steps: the number is that of the step to come.
    Read,
}

impl Deed {
    /// Whether a full disk refuses it.
    pub fn takes_space(self) -> bool {
        matches!(self, Deed::Create | Deed::Append(_))
    }
}

/// How a step fails.
#[derive(Debug)]
pub struct Failure {
    /// What the caller is told.
    pub error: io::Error,
    /// So many bytes of an append are written nevertheless.
    pub written: usize,
}

impl Failure {
    /// `ENOSPC`.
    pub fn full(written: usize) -> Self {
        let error = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        Self { error, written }
    }

    /// `EIO`.
    pub fn broken(written: usize) -> Self {
        let error = io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
        Self { error, written }
    }
}

/// Decides by number and kind whether a step fails.
pub type Plan = Box<dyn FnMut(usize, Deed, &Path) -> Option<Failure> + Send>;

/// What a crash takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing that was written; the step under way may be half done.
    Kill,
    /// What was not synced, wholly or in part.
    Power,
}

/// A small generator of numbers that look random (xorshift), the same for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Below `n`; 0 if `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % (n.max(1) as u64)) as usize
    }
}

/// One thing that was done, with names relative to the folder.
#[derive(Clone, Debug)]
enum Step {
    Create(usize, PathBuf),
    Append(usize, Vec<u8>),
    Truncate(usize, u64),
    Sync(usize),
    /// The sync failed: what was written since the last one is not written again by the next one.
    SyncFailed(usize),
    CreateDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    RemoveFile(PathBuf),
    RemoveDir(PathBuf),
    SyncDir(PathBuf),
}

struct State {
    journal: Vec<Step>,
    /// What there was before the first step.
    before: Disk,
    /// What there is.
    now: Disk,
    plan: Option<Plan>,
    failed: usize,
}

/// Files below a folder, with a journal.
#[derive(Clone)]
pub struct SimFs {
    root: PathBuf,
    state: Arc<Mutex<State>>,
}

impl SimFs {
    /// Begins with what is in the folder `root`, all of it synced.
    pub fn new(root: &Path) -> io::Result<Self> {
        Ok(Self::on(root, Disk::read(root)?))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps done so far.
    pub fn steps(&self) -> usize {
        self.state().journal.len()
    }

    /// What a step is, for messages.
    pub fn describe(&self, step: usize) -> String {
        match self.state().journal.get(step) {
            Some(Step::Append(file, bytes)) => format!("Append({file}, {} bytes)", bytes.len()),
            Some(step) => format!("{step:?}"),
            None => "the end".to_owned(),
        }
    }

    /// From now on `plan` says what fails; none: nothing.
    pub fn fail(&self, plan: Option<Plan>) {
        self.state().plan = plan;
    }

    /// Does something while nothing fails.
    pub fn undisturbed<T>(&self, deed: impl FnOnce() -> T) -> T {
        let plan = self.state().plan.take();
        let done = deed();
        self.state().plan = plan;
        done
    }

    /// How many steps have failed.
    pub fn failed(&self) -> usize {
        self.state().failed
    }

    /// Lays out in the folder `into`, which is created, what a crash leaves that comes when the
    /// first `steps` steps are done.
    pub fn lay_out(&self, steps: usize, loss: Loss, seed: u64, into: &Path) -> io::Result<()> {
        let mut dice = Dice::new(seed);
        let mut disk = self.disk_after(steps, &mut dice);
        if loss == Loss::Power {
            disk.lose_power(&mut dice);
        }
        disk.write(into)
    }

    /// Lays out what a kill leaves ([`Loss::Kill`]), and goes on there: what was never synced is still
    /// only in the system's memory, and a power failure takes it yet.
    pub fn go_on(&self, steps: usize, seed: u64, into: &Path) -> io::Result<Self> {
        let disk = self.disk_after(steps, &mut Dice::new(seed));
        disk.write(into)?;
        Ok(Self::on(into, disk))
    }

    fn on(root: &Path, before: Disk) -> Self {
        Self {
            root: root.to_owned(),
            state: Arc::new(Mutex::new(State {
                journal: Vec::new(),
                now: before.clone(),
                before,
                plan: None,
                failed: 0,
            })),
        }
    }

    /// The disk when `steps` steps are done, and a part of the one under way.
    fn disk_after(&self, steps: usize, dice: &mut Dice) -> Disk {
        let state = self.state();
        let mut disk = state.before.clone();
        for step in state.journal.iter().take(steps) {
            disk.apply(step);
        }
        if let Some(Step::Append(file, bytes)) = state.journal.get(steps) {
            let some = dice.below(bytes.len() + 1);
            disk.apply(&Step::Append(*file, bytes[..some].to_vec()));
        }
        disk
    }

    fn relative(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.root).ok().map(Path::to_owned)
    }

    /// Asks the plan, does it, and notes it down.
    fn step<T>(
        &self,
        deed: Deed,
        path: &Path,
        real: impl FnOnce() -> io::Result<T>,
        note: impl FnOnce(&mut State) -> Option<Step>,
    ) -> io::Result<T> {
        let mut state = self.state();
        let state = &mut *state;
        state.ask(deed, path).map_err(|f| f.error)?;
        let done = real()?;
        if let Some(step) = note(state) {
            state.done(step);
        }
        Ok(done)
    }

    fn file(&self, number: usize, path: &Path, inner: Arc<dyn LogFile>) -> Arc<dyn LogFile> {
        Arc::new(SimFile {
            fs: self.clone(),
            number,
            path: path.to_owned(),
            inner,
        })
    }
}

impl State {
    fn ask(&mut self, deed: Deed, path: &Path) -> Result<(), Failure> {
        let number = self.journal.len();
        match self.plan.as_mut().and_then(|plan| plan(number, deed, path)) {
            Some(failure) => {
                self.failed += 1;
                Err(failure)
            }
            None => Ok(()),
        }
    }

    fn done(&mut self, step: Step) {
        self.now.apply(&step);
        self.journal.push(step);
    }
}

#[deny(clippy::missing_trait_methods)]
impl Fs for SimFs {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let Some(name) = self.relative(path) else {
            return OsFs.create(path);
        };
        let mut number = 0;
        let inner = self.step(
            Deed::Create,
            path,
            || OsFs.create(path),
            |state| {
                number = state.now.next_file();
                Some(Step::Create(number, name))
            },
        )?;
        Ok(self.file(number, path, inner))
    }

    fn open_end(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let inner = OsFs.open_end(path)?;
        let number = self
            .relative(path)
            .and_then(|name| self.state().now.file_at(&name));
        Ok(match number {
            Some(number) => self.file(number, path, inner),
            None => inner,
        })
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(SimReader {
            fs: self.clone(),
            path: path.to_owned(),
            inner: OsFs.open(path)?,
        }))
    }

    fn open_at(&self, path: &Path) -> io::Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(SimAt {
            fs: self.clone(),
            path: path.to_owned(),
            inner: OsFs.open_at(path)?,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let name = self.relative(path);
        let note = |_: &mut State| name.map(Step::CreateDir);
        self.step(Deed::Create, path, || OsFs.create_dir(path), note)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let names = self.relative(from).zip(self.relative(to));
        let note = |_: &mut State| names.map(|(from, to)| Step::Rename(from, to));
        self.step(Deed::Rename, to, || OsFs.rename(from, to), note)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let names = self.relative(from).zip(self.relative(to));
        let note = |_: &mut State| names.map(|(from, to)| Step::Link(from, to));
        self.step(Deed::Create, to, || OsFs.link(from, to), note)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let name = self.relative(path);
        let note = |_: &mut State| name.map(Step::RemoveFile);
        self.step(Deed::Remove, path, || OsFs.remove_file(path), note)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let name = self.relative(path);
        let note = |_: &mut State| name.map(Step::RemoveDir);
        self.step(Deed::Remove, path, || OsFs.remove_dir(path), note)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let name = self.relative(path);
        let note = |_: &mut State| name.map(Step::SyncDir);
        // The real disk need not be waited for.
        self.step(Deed::SyncDir, path, || path.metadata().map(drop), note)
    }

    fn lasts(&self) -> bool {
        true
    }

    /// Held as long as the answer lives, and no step: a crash frees it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let held = OsFs.lock(path)?;
        if let Some(name) = self.relative(path) {
            let state = &mut *self.state();
            if state.now.file_at(&name).is_none() {
                let number = state.now.next_file();
                state.done(Step::Create(number, name));
            }
        }
        Ok(held)
    }
}

struct SimFile {
    fs: SimFs,
    number: usize,
    path: PathBuf,
    inner: Arc<dyn LogFile>,
}

#[deny(clippy::missing_trait_methods)]
impl LogFile for SimFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.fs.state();
        match state.ask(Deed::Append(bytes.len()), &self.path) {
            Ok(()) => {
                self.inner.append(bytes)?;
                state.done(Step::Append(self.number, bytes.to_vec()));
                Ok(())
            }
            Err(failure) => {
                let some = &bytes[..failure.written.min(bytes.len())];
                if !some.is_empty() {
                    self.inner.append(some)?;
                    state.done(Step::Append(self.number, some.to_vec()));
                }
                Err(failure.error)
            }
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let note = |_: &mut State| Some(Step::Truncate(self.number, len));
        let real = || self.inner.truncate(len);
        self.fs.step(Deed::Truncate, &self.path, real, note)
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.fs.state();
        match state.ask(Deed::Sync, &self.path) {
            Ok(()) => {
                state.done(Step::Sync(self.number));
                Ok(())
            }
            Err(failure) => {
                state.done(Step::SyncFailed(self.number));
                Err(failure.error)
            }
        }
    }
}

struct SimReader {
    fs: SimFs,
    path: PathBuf,
    inner: Box<dyn Read + Send>,
}

impl Read for SimReader {
    /// A failure that has `written` bytes is a short read of so many.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.fs.state().ask(Deed::Read, &self.path) {
            Ok(()) => self.inner.read(buf),
            Err(Failure { written: 0, error }) => Err(error),
            Err(Failure { written, .. }) => {
                let some = written.min(buf.len());
                self.inner.read(&mut buf[..some])
            }
        }
    }
}

struct SimAt {
    fs: SimFs,
    path: PathBuf,
    inner: Arc<dyn ReadAt>,
}

#[deny(clippy::missing_trait_methods)]
impl ReadAt for SimAt {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Fails or not; there are no short reads here: a `ReadAt` gives all or nothing.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let asked = self.fs.state().ask(Deed::Read, &self.path);
        asked.map_err(|failure| failure.error)?;
        self.inner.read_at(offset, len)
    }

    fn whole(&self) -> Option<Bytes> {
        None
    }
}

//! What is on the simulated disk: all of it, and what of it would survive a power failure.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::{Dice, Step};

type Id = usize;

const ROOT: Id = 0;

#[derive(Clone, Default)]
struct Inode {
    data: Vec<u8>,
    /// What a power failure surely leaves.
    safe: Vec<u8>,
    /// Bytes whose sync failed: the system thinks that they are written, and they are not.
    lost: Vec<std::ops::Range<usize>>,
}

/// A change of names that was not synced: each name in a folder leads to something else, all or none.
#[derive(Clone)]
struct Change(Vec<(Id, OsString, Option<Node>)>);

#[derive(Clone, Copy, PartialEq)]
enum Node {
    File(Id),
    Dir(Id),
}

type Dirs = HashMap<Id, BTreeMap<OsString, Node>>;

#[derive(Clone, Default)]
pub(super) struct Disk {
    files: HashMap<Id, Inode>,
    dirs: Dirs,
    /// The folders as a power failure surely leaves them.
    safe: Dirs,
    pending: Vec<Change>,
    next: Id,
}

impl Disk {
    /// What is in a real folder, all of it synced.
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let mut disk = Self {
            next: ROOT + 1,
            ..Self::default()
        };
        disk.read_dir(root, ROOT)?;
        disk.safe = disk.dirs.clone();
        Ok(disk)
    }

    fn read_dir(&mut self, path: &Path, id: Id) -> io::Result<()> {
        let mut names = BTreeMap::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let child = self.next_file();
            let node = if entry.file_type()?.is_dir() {
                self.read_dir(&entry.path(), child)?;
                Node::Dir(child)
            } else {
                let data = std::fs::read(entry.path())?;
                let safe = data.clone();
                let lost = Vec::new();
                self.files.insert(child, Inode { data, safe, lost });
                Node::File(child)
            };
            names.insert(entry.file_name(), node);
        }
        self.dirs.insert(id, names);
        Ok(())
    }

    /// Lays everything out in a folder.
    pub(super) fn write(&self, into: &Path) -> io::Result<()> {
        self.write_dir(into, ROOT)
    }

    fn write_dir(&self, path: &Path, id: Id) -> io::Result<()> {
        std::fs::create_dir_all(path)?;
        for (name, node) in self.dirs.get(&id).into_iter().flatten() {
            let path = path.join(name);
            match node {
                Node::Dir(id) => self.write_dir(&path, *id)?,
                Node::File(id) => {
                    let data = self.files.get(id).map_or(&[][..], |f| &f.data);
                    std::fs::write(path, data)?;
                }
            }
        }
        Ok(())
    }

    /// A number that no file or folder has.
    pub(super) fn next_file(&mut self) -> Id {
        self.next += 1;
        self.next - 1
    }

    fn node(&self, path: &Path) -> Option<Node> {
        let mut at = Node::Dir(ROOT);
        for name in path {
            let Node::Dir(id) = at else { return None };
            at = *self.dirs.get(&id)?.get(name)?;
        }
        Some(at)
    }

    pub(super) fn file_at(&self, path: &Path) -> Option<Id> {
        match self.node(path)? {
            Node::File(id) => Some(id),
            Node::Dir(_) => None,
        }
    }

    /// The folder a name stands in, and the name.
    fn place(&self, path: &Path) -> Option<(Id, OsString)> {
        match self.node(path.parent()?)? {
            Node::Dir(id) => Some((id, path.file_name()?.to_owned())),
            Node::File(_) => None,
        }
    }

    /// Names lead to something else, all at once.
    fn change<const N: usize>(&mut self, names: [(&Path, Option<Node>); N]) {
        let places = names.into_iter();
        let places = places.filter_map(|(path, node)| {
            let (dir, name) = self.place(path)?;
            Some((dir, name, node))
        });
        let change = Change(places.collect());
        put(&mut self.dirs, &change);
        self.pending.push(change);
    }

    pub(super) fn apply(&mut self, step: &Step) {
        match step {
            Step::Create(id, path) => {
                self.next = self.next.max(id + 1);
                self.files.insert(*id, Inode::default());
                self.change([(path, Some(Node::File(*id)))]);
            }
            Step::CreateDir(path) => {
                let id = self.next_file();
                self.dirs.insert(id, BTreeMap::new());
                self.change([(path, Some(Node::Dir(id)))]);
            }
            Step::Append(id, bytes) => {
                if let Some(file) = self.files.get_mut(id) {
                    file.data.extend_from_slice(bytes);
                }
            }
            Step::Truncate(id, len) => {
                if let Some(file) = self.files.get_mut(id) {
                    file.data.resize(*len as usize, 0);
                }
            }
            Step::Sync(id) => {
                if let Some(file) = self.files.get_mut(id) {
                    file.safe.clone_from(&file.data);
                    file.safe = file.without_lost();
                }
            }
            Step::SyncFailed(id) => {
                if let Some(file) = self.files.get_mut(id) {
                    let from = file.safe.len().min(file.data.len());
                    file.lost.push(from..file.data.len());
                }
            }
            Step::Rename(from, to) => {
                let node = self.node(from);
                self.change([(from, None), (to, node)]);
            }
            Step::Link(from, to) => {
                let node = self.node(from);
                self.change([(to, node)]);
            }
            Step::RemoveFile(path) | Step::RemoveDir(path) => {
                self.change([(path, None)]);
            }
            Step::SyncDir(path) => {
                let Some(Node::Dir(id)) = self.node(path) else {
                    return;
                };
                let Self { pending, safe, .. } = self;
                pending.retain(|change| {
                    let here = change.0.iter().any(|c| c.0 == id);
                    if here {
                        put(safe, change);
                    }
                    !here
                });
            }
        }
    }

    /// Forgets what was not synced, wholly or in part.
    pub(super) fn lose_power(&mut self, dice: &mut Dice) {
        let mut names = self.safe.clone();
        // A disk with a journal keeps the first changes of names, another one any of them.
        let all = self.pending.len();
        let (first, each) = match dice.below(4) {
            0 => (0, false),
            1 => (dice.below(all + 1), false),
            2 => (all, false),
            _ => (0, true),
        };
        for (i, change) in self.pending.iter().enumerate() {
            if i < first || each && dice.below(2) == 0 {
                put(&mut names, change);
            }
        }
        self.dirs = names;
        let mut ids: Vec<Id> = self.files.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(file) = self.files.get_mut(&id) {
                file.lose_power(dice);
            }
        }
    }
}

impl Inode {
    fn without_lost(&self) -> Vec<u8> {
        let mut data = self.data.clone();
        for lost in &self.lost {
            let end = lost.end.min(data.len());
            let start = lost.start.min(end);
            data[start..end].fill(0);
        }
        data
    }

    fn lose_power(&mut self, dice: &mut Dice) {
        self.data = self.without_lost();
        let grown = self.data.len().checked_sub(self.safe.len());
        let Some(grown) = grown.filter(|_| self.data.starts_with(&self.safe)) else {
            // It was cut since.
            if dice.below(2) == 0 {
                self.data.clone_from(&self.safe);
            }
            return;
        };
        let end = self.data.len();
        let kept = self.safe.len()
            + match dice.below(4) {
                0 => 0,
                1 => grown,
                _ => dice.below(grown + 1),
            };
        self.data.truncate(kept);
        // The length may have been written and the bytes not.
        if dice.below(4) == 0 {
            self.data.resize(kept + dice.below(end - kept + 1), 0);
        }
    }
}

fn put(dirs: &mut Dirs, change: &Change) {
    for (dir, name, node) in &change.0 {
        let names = dirs.entry(*dir).or_default();
        match node {
            Some(node) => {
                names.insert(name.clone(), *node);
            }
            None => {
                names.remove(name);
            }
        }
    }
}

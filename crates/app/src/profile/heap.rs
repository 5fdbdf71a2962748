//! Who allocates: the allocator of the program, which notes a sample of what it gives away while somebody
//! asks for a profile. While nobody does, that costs one look at a flag that no one writes.

#![cfg(feature = "cpu-profile")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
// Not one that allocates when it has to wait.
use std::sync::{Mutex, MutexGuard, PoisonError};

use mimalloc::MiMalloc;

use super::message::{Frame, Kind};

/// One allocation is noted for so many bytes, as in Go.
pub(super) const PERIOD: i64 = 512 << 10;

/// What a stack's values are: Go's, in Go's order.
pub(super) const KINDS: [Kind; 4] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
];

/// Most samples of a profile; what comes after is not noted.
const MOST: usize = 1 << 18;

static ON: AtomicBool = AtomicBool::new(false);
/// Whether this allocator is the program's: it has been asked for something.
static THERE: AtomicBool = AtomicBool::new(false);
static NOTED: Mutex<Option<Noted>> = Mutex::new(None);
/// A bit for each place that may be noted, by hash: most that is freed was never noted.
static MARKS: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

thread_local! {
    /// Bytes until the next sample.
    static LEFT: Cell<i64> = const { Cell::new(PERIOD) };
    /// This thread is noting: what it allocates meanwhile is its own affair.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

#[derive(Default)]
struct Noted {
    /// Stacks by the addresses of their frames, and what they have allocated and freed: objects, bytes.
    stacks: HashMap<Box<[usize]>, Sums>,
    /// What is still there: the stack that has allocated it, and what it stands for.
    alive: HashMap<usize, (Box<[usize]>, i64, i64)>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    objects: i64,
    bytes: i64,
    freed_objects: i64,
    freed_bytes: i64,
}

/// mimalloc, watched.
pub struct Watched;

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its nature; every call is handed to mimalloc as it came, and what is noted is the address alone, which is never followed"
)]
// SAFETY: see the reason above.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let at = unsafe { MiMalloc.alloc(layout) };
        if ON.load(Relaxed) {
            given(at as usize, layout.size());
        }
        at
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let at = unsafe { MiMalloc.alloc_zeroed(layout) };
        if ON.load(Relaxed) {
            given(at as usize, layout.size());
        }
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if ON.load(Relaxed) {
            taken_back(at as usize);
        }
        unsafe { MiMalloc.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let new = unsafe { MiMalloc.realloc(at, layout, size) };
        if ON.load(Relaxed) && !new.is_null() {
            taken_back(at as usize);
            given(new as usize, size);
        }
        new
    }
}

fn noted() -> MutexGuard<'static, Option<Noted>> {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` unless this thread does so already. A thread that ends is passed over.
fn alone(work: impl FnOnce()) {
    let entered = BUSY.try_with(|busy| !busy.replace(true));
    if entered == Ok(true) {
        work();
        let _ = BUSY.try_with(|busy| busy.set(false));
    }
}

fn mark(at: usize) -> (&'static AtomicU64, u64) {
    let hash = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    // 16 bits: ten say which word, six which bit.
    let word = &MARKS[(hash >> 6) as usize];
    (word, 1 << (hash & 63))
}

/// Something was allocated: notes it if its turn has come.
fn given(at: usize, size: usize) {
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let due = LEFT.try_with(|left| {
        let now = left.get().saturating_sub(size);
        left.set(if now <= 0 { PERIOD } else { now });
        now <= 0
    });
    if at == 0 || due != Ok(true) {
        return;
    }
    alone(|| {
        let mut stack = Vec::with_capacity(64);
        backtrace::trace(|frame| {
            stack.push(frame.ip() as usize);
            stack.len() < 64
        });
        let stack: Box<[usize]> = stack.into();
        // It stands for all that was allocated since the last one.
        let bytes = size.max(PERIOD);
        let objects = (bytes / size.max(1)).max(1);
        let mut noted = noted();
        let Some(noted) = noted.as_mut().filter(|n| n.alive.len() < MOST) else {
            return;
        };
        let sums = noted.stacks.entry(stack.clone()).or_default();
        sums.objects += objects;
        sums.bytes += bytes;
        noted.alive.insert(at, (stack, objects, bytes));
        let (word, bit) = mark(at);
        word.fetch_or(bit, Relaxed);
    });
}

/// Something is freed: if it was noted, that is over.
fn taken_back(at: usize) {
    let (word, bit) = mark(at);
    if word.load(Relaxed) & bit == 0 {
        return;
    }
    alone(|| {
        let mut noted = noted();
        if let Some(noted) = noted.as_mut()
            && let Some((stack, objects, bytes)) = noted.alive.remove(&at)
            && let Some(sums) = noted.stacks.get_mut(&stack)
        {
            sums.freed_objects += objects;
            sums.freed_bytes += bytes;
        }
    });
}

/// Whether the program allocates with [`Watched`]: a library's tests do not.
pub(super) fn is_there() -> bool {
    THERE.load(Relaxed)
}

/// What is allocated is noted, until this is dropped.
pub(super) struct Watch(());

impl Watch {
    /// Begins; none if another one has begun, or if the program has another allocator.
    pub(super) fn begin() -> Option<Self> {
        {
            let mut running = noted();
            if running.is_some() {
                return None;
            }
            *running = Some(Noted::default());
        }
        for word in &MARKS {
            word.store(0, Relaxed);
        }
        ON.store(true, Relaxed);
        let watch = Self(());
        THERE.store(watch.sees(), Relaxed);
        // Freed once nothing is held any more: that is noted, too.
        let first = noted().replace(Noted::default());
        drop(first);
        is_there().then_some(watch)
    }

    /// Whether what is allocated is seen at all.
    fn sees(&self) -> bool {
        drop(std::hint::black_box(vec![1u8; 2 * PERIOD as usize]));
        noted().as_ref().is_some_and(|n| !n.stacks.is_empty())
    }

    /// Ends: the stacks with their values, in the order of [`KINDS`].
    pub(super) fn end(self) -> Vec<(Vec<Frame>, Vec<i64>)> {
        ON.store(false, Relaxed);
        // Nobody else begins before all of it is said.
        let noted = noted().as_mut().map(std::mem::take).unwrap_or_default();
        let mut names: HashMap<usize, Vec<Frame>> = HashMap::new();
        let stacks = noted.stacks.into_iter().map(|(stack, sums)| {
            let frames = stack.iter().filter(|ip| **ip != 0).flat_map(|ip| {
                let frames = names.entry(*ip).or_insert_with(|| frames_at(*ip));
                frames.clone()
            });
            let frames: Vec<Frame> = frames.collect();
            // The innermost ones are the noting itself.
            let own = frames
                .iter()
                .rposition(|(_, file, _)| file.ends_with(file!()));
            let frames = frames
                .get(own.map_or(0, |at| at + 1)..)
                .unwrap_or_default()
                .to_vec();
            let values = vec![
                sums.objects,
                sums.bytes,
                sums.objects - sums.freed_objects,
                sums.bytes - sums.freed_bytes,
            ];
            (frames, values)
        });
        stacks.collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        ON.store(false, Relaxed);
        drop(noted().take());
    }
}

/// The functions that stand at an address: several, where one is inlined in another.
fn frames_at(ip: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    // The address is where the call returns to, which may be beyond its function.
    backtrace::resolve(ip.saturating_sub(1) as *mut std::ffi::c_void, |symbol| {
        let name = symbol.name().map_or_else(String::new, |n| format!("{n:#}"));
        let file = symbol
            .filename()
            .map_or_else(String::new, |f| f.display().to_string());
        frames.push((name, file, symbol.lineno().unwrap_or(0)));
    });
    if frames.is_empty() {
        frames.push((format!("{ip:#x}"), String::new(), 0));
    }
    frames
}

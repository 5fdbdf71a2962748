//! How much of the machine this process may use.
//!
//! Memory has one limit, `--memory.limit`. The head is counted in it first; queries may hold at
//! most half of it, and one query at most half of that; one that the others leave no room for waits.
//! What a query reserves is taken from the whole, so a growing head leaves less to queries and never
//! the other way round. A head that takes three quarters takes nothing more: samples are refused
//! before they reach the WAL.
//!
//! The limit is for what is in use. What is not goes back to the system soon: the allocator would
//! keep it for a second, in which a busy process lets go of several times what it may hold.

use std::path::Path;
use std::sync::Arc;

use model::Budget;

use crate::kingpin::{Flag, Typed, parse_bytes, value};

/// The flags of this room.
pub const FLAGS: &[Flag] = &[value(
    "memory.limit",
    "auto",
    "Memory that this process may use, as bytes with a unit (2GB). auto: 75% of the cgroup's limit, else of the machine's memory.",
)];

/// The memory budgets of a process.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Everything.
    pub total: Arc<Budget>,
    /// What the head may hold, bytes.
    pub head: u64,
    /// What all queries together may hold.
    pub queries: Arc<Budget>,
    /// What one query may hold, bytes.
    pub per_query: u64,
}

impl Memory {
    /// Budgets for a limit in bytes.
    pub fn new(limit: u64) -> Self {
        let total = Budget::new("the process (--memory.limit)", limit);
        let queries = total.child("all queries (half of --memory.limit)", limit / 2);
        Self {
            total,
            head: limit / 4 * 3,
            queries,
            per_query: limit / 4,
        }
    }

    /// Budgets as the flags say, and the allocator told of them.
    pub fn from_flags(typed: &Typed<'_>) -> anyhow::Result<Self> {
        let limit = match typed.required("memory.limit")? {
            "auto" => available_memory(Path::new("/")) / 4 * 3,
            text => parse_bytes(text).map_err(|e| typed.error("memory.limit", e))?,
        };
        const LEAST: u64 = 64 << 20;
        if limit < LEAST {
            let message = format!("{limit} bytes is too little; at least 64MB is needed");
            return Err(typed.error("memory.limit", message).into());
        }
        give_back(limit);
        Ok(Self::new(limit))
    }
}

/// `mi_option_purge_delay` of mimalloc 3.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has freed pages go back to the system before a busy process can let go of more of them than lies
/// between the limit and what its container has: after a tenth of a second at most, and at once
/// where there is little memory, although that costs a call for each large thing that is freed.
fn give_back(limit: u64) {
    const LITTLE: u64 = 256 << 20;
    const A_MILLISECOND: u64 = 16 << 20;
    let delay = if limit < LITTLE {
        0
    } else {
        (limit / A_MILLISECOND).min(100) as std::ffi::c_long
    };
    #[expect(unsafe_code, reason = "a foreign function")]
    // SAFETY: the number is that of an option (a test holds it), whose value is one word. Two threads
    // that set it would leave either value.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, delay);
    }
}

/// Bytes that this process may use at most: the smallest cgroup limit, else the machine's memory.
fn available_memory(root: &Path) -> u64 {
    let read = |file: &str| std::fs::read_to_string(root.join(file)).ok();
    let machine = read("proc/meminfo")
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(1 << 30, |kib| kib * 1024);
    let mut limit = machine;
    // Version 2 names the group in one line `0::/path`, version 1 in one for each controller; a
    // container sees its own group at the root.
    let groups = read("proc/self/cgroup").unwrap_or_default();
    let group = |start: &str| {
        let mut lines = groups
            .lines()
            .map(|l| l.split_once(':').map_or(l, |(_, l)| l));
        let path = lines.find_map(|l| l.strip_prefix(start));
        path.unwrap_or_default().trim().to_owned()
    };
    for (top, start, file) in [
        ("sys/fs/cgroup", ":/", "memory.max"),
        ("sys/fs/cgroup/memory", "memory:/", "memory.limit_in_bytes"),
    ] {
        let mut path = Path::new(top).join(group(start));
        loop {
            let bytes = path.join(file).to_str().and_then(&read);
            if let Some(bytes) = bytes.and_then(|t| t.trim().parse::<u64>().ok()) {
                limit = limit.min(bytes);
            }
            if path == Path::new(top) || !path.pop() {
                break;
            }
        }
    }
    limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_cgroup_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/meminfo", "MemTotal:        2097152 kB\n");
        assert_eq!(available_memory(root.path()), 2 << 30);
        write("proc/self/cgroup", "0::/pod/container\n");
        write("sys/fs/cgroup/pod/container/memory.max", "max\n");
        write("sys/fs/cgroup/pod/memory.max", "1073741824\n");
        assert_eq!(available_memory(root.path()), 1 << 30);
        write("sys/fs/cgroup/pod/container/memory.max", "536870912\n");
        assert_eq!(available_memory(root.path()), 512 << 20);
        write(
            "proc/self/cgroup",
            "4:memory:/docker/x\n2:cpu,cpuacct:/y\n0::/\n",
        );
        write(
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        assert_eq!(available_memory(root.path()), 2 << 30);
        write(
            "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes",
            "268435456\n",
        );
        assert_eq!(available_memory(root.path()), 256 << 20);
        write("proc/self/cgroup", "4:memory:/elsewhere\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n");
        assert_eq!(available_memory(root.path()), 128 << 20);
    }

    #[test]
    fn freed_pages_go_back_soon() {
        #[expect(unsafe_code, reason = "a foreign function")]
        // SAFETY: it reads one word.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "the default: this is the option we mean");
        give_back(4 << 30);
        assert_eq!(delay(), 100);
        give_back(512 << 20);
        assert_eq!(delay(), 32);
        give_back(128 << 20);
        assert_eq!(delay(), 0);
    }

    #[test]
    fn queries_get_half_and_one_gets_half_of_that() {
        let m = Memory::new(1 << 30);
        let one = m.queries.child("one query", m.per_query);
        assert!(one.reserve("test", (256 << 20) + 1).is_err());
        let _head = m.total.reserve("head", 900 << 20).unwrap();
        assert!(
            one.reserve("test", 200 << 20).is_err(),
            "the head comes first"
        );
    }
}

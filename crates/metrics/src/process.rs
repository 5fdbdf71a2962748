//! What the system knows about this process, under the names every dashboard uses.

use std::fs;

use crate::desc::{Desc, Error, Kind};
use crate::registry::{Collector, Registry, Samples};

/// Registers the `process_*` metrics, read from `/proc` at each scrape. A value that cannot be
/// read is left out; off Linux nothing is ever given.
pub fn process(registry: &Registry) -> Result<(), Error> {
    registry.collector(Process)
}

/// Registers `NAME_build_info`, a gauge that is always 1, with what is said about the build as
/// labels: version, revision, branch and the Rust version.
pub fn build_info(
    registry: &Registry,
    program: &str,
    version: &str,
    revision: &str,
    branch: &str,
    rust_version: &str,
) -> Result<(), Error> {
    let name = format!("{program}_build_info");
    let help = format!(
        "A metric with a constant '1' value labeled by version, revision, branch and rustversion from which {program} was built."
    );
    let labels = ["version", "revision", "branch", "rustversion"];
    let family = registry.gauges(&name, &help, labels)?;
    family
        .with(&[version, revision, branch, rust_version])
        .set(1);
    Ok(())
}

const FAMILIES: [(Kind, &str, &str); 9] = [
    (
        Kind::Counter,
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
    ),
    (
        Kind::Gauge,
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
    ),
    (
        Kind::Gauge,
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
    ),
    (
        Kind::Gauge,
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
    ),
    (
        Kind::Gauge,
        "process_open_fds",
        "Number of open file descriptors.",
    ),
    (
        Kind::Gauge,
        "process_max_fds",
        "Maximum number of open file descriptors.",
    ),
    (
        Kind::Gauge,
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
    ),
    (
        Kind::Counter,
        "process_network_receive_bytes_total",
        "Number of bytes received by the process over the network.",
    ),
    (
        Kind::Counter,
        "process_network_transmit_bytes_total",
        "Number of bytes sent by the process over the network.",
    ),
];

/// Clock ticks a second in `/proc/PID/stat`: the kernel's `USER_HZ`, part of its ABI.
const USER_HZ: f64 = 100.0;

struct Process;

impl Collector for Process {
    fn describe(&self) -> Vec<Desc> {
        let desc = |(kind, name, help)| Desc::new(kind, name, help, &[]);
        FAMILIES.into_iter().map(desc).collect()
    }

    fn collect(&self, samples: &mut Samples) {
        let mut push = |family, value: Option<f64>| {
            if let Some(value) = value {
                samples.push(family, &[], value);
            }
        };
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        push(0, cpu_ticks(&stat).map(|t| t / USER_HZ));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        push(1, kilobytes(&status, "VmRSS:"));
        push(2, kilobytes(&status, "VmSize:"));
        push(
            3,
            start_ticks(&stat).and_then(|t| Some(boot_seconds()? + t / USER_HZ)),
        );
        // Reading the folder opens one descriptor more.
        let fds = fs::read_dir("/proc/self/fd")
            .ok()
            .map(|d| d.count().saturating_sub(1) as f64);
        push(4, fds);
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        push(5, soft_limit(&limits, "Max open files"));
        push(6, soft_limit(&limits, "Max address space"));
        let netstat = fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();
        push(7, octets(&netstat, "InOctets"));
        push(8, octets(&netstat, "OutOctets"));
    }
}

/// Field number `n` (counted from 1, as proc(5) does) of a stat line. The second field is the
/// program's name in parentheses and may hold anything.
fn stat_field(stat: &str, n: usize) -> Option<f64> {
    let after_name = stat.rsplit_once(')')?.1;
    after_name
        .split_ascii_whitespace()
        .nth(n.checked_sub(3)?)?
        .parse()
        .ok()
}

fn cpu_ticks(stat: &str) -> Option<f64> {
    Some(stat_field(stat, 14)? + stat_field(stat, 15)?)
}

fn start_ticks(stat: &str) -> Option<f64> {
    stat_field(stat, 22)
}

fn boot_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|l| l.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn kilobytes(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|l| l.strip_prefix(key))?;
    let kb: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kb * 1024.0)
}

fn soft_limit(limits: &str, key: &str) -> Option<f64> {
    let line = limits.lines().find_map(|l| l.strip_prefix(key))?;
    match line.split_ascii_whitespace().next()? {
        // What Go's client shows for "no limit".
        "unlimited" => Some(u64::MAX as f64),
        n => n.parse().ok(),
    }
}

/// A number of the `IpExt` lines of `/proc/self/net/netstat`: one names the columns, the next has
/// them. They are those of the process' network namespace, as in Go's client.
fn octets(netstat: &str, name: &str) -> Option<f64> {
    let mut lines = netstat.lines().filter_map(|l| l.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let column = names.split_ascii_whitespace().position(|n| n == name)?;
    values.split_ascii_whitespace().nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_may_hold_anything() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4 100 0 0 0 250 50 0 0 20 0 4 0 12345 9 8";
        assert_eq!(cpu_ticks(stat), Some(300.0));
        assert_eq!(start_ticks(stat), Some(12345.0));
        assert_eq!(cpu_ticks(""), None);
        assert_eq!(cpu_ticks("7 (x) S 1"), None);
    }

    #[test]
    fn octets_stand_below_their_names() {
        let text = "TcpExt: A InOctets\nTcpExt: 1 2\nIpExt: InMcastPkts InOctets OutOctets\nIpExt: 3 70 80\n";
        assert_eq!(octets(text, "InOctets"), Some(70.0));
        assert_eq!(octets(text, "OutOctets"), Some(80.0));
        assert_eq!(octets("IpExt: InOctets\n", "InOctets"), None);
    }

    #[test]
    fn limits_and_sizes() {
        let limits = "Max open files            1024                 4096         files\n\
                      Max address space         unlimited            unlimited    bytes\n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(1024.0));
        assert_eq!(
            soft_limit(limits, "Max address space"),
            Some(u64::MAX as f64)
        );
        assert_eq!(
            kilobytes("VmSize:\t  10 kB\nVmRSS:\t 3 kB\n", "VmRSS:"),
            Some(3072.0)
        );
    }
}

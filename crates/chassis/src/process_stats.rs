//! The `process_*` families that every Prometheus client library exposes.
//!
//! Read from `/proc/self` at each scrape; a value that cannot be read is left
//! out. Source: resiliency-observability 3.1, golden 26.

use std::fmt::Write as _;

/// Clock ticks a second in `/proc/*/stat`; fixed by the Linux ABI.
const TICKS_PER_SECOND: f64 = 100.0;

/// The fields of `/proc/self/stat` that are exposed.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    start_seconds_after_boot: f64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// Returns the families in Prometheus text format; empty where there is no `/proc`.
pub(crate) fn exposition() -> String {
    let mut text = String::new();
    let stat = read("/proc/self/stat").and_then(|stat| parse_stat(&stat));
    if let Some(stat) = stat {
        put(
            &mut text,
            "process_cpu_seconds_total",
            "counter",
            stat.cpu_seconds,
        );
        put(
            &mut text,
            "process_virtual_memory_bytes",
            "gauge",
            stat.virtual_bytes,
        );
        let resident = stat.resident_pages.saturating_mul(page_size());
        put(
            &mut text,
            "process_resident_memory_bytes",
            "gauge",
            resident,
        );
        if let Some(boot) = read("/proc/stat").and_then(|stat| boot_seconds(&stat)) {
            let start = boot + stat.start_seconds_after_boot;
            put(&mut text, "process_start_time_seconds", "gauge", start);
        }
    }
    let network = read("/proc/self/net/netstat");
    if let Some((received, sent)) = network.as_deref().and_then(octets) {
        put(
            &mut text,
            "process_network_receive_bytes_total",
            "counter",
            received,
        );
        put(
            &mut text,
            "process_network_transmit_bytes_total",
            "counter",
            sent,
        );
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        put(&mut text, "process_open_fds", "gauge", open.count());
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if let Some(max) = limit.current {
        put(&mut text, "process_max_fds", "gauge", max);
    }
    let memory = rustix::process::getrlimit(rustix::process::Resource::As).current;
    // Without a limit the reference shows the largest number.
    let memory = memory.unwrap_or(u64::MAX);
    put(
        &mut text,
        "process_virtual_memory_max_bytes",
        "gauge",
        memory,
    );
    text
}

fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn put(text: &mut String, name: &str, kind: &str, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
}

/// Fields are counted after the command name, which may itself hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Stat {
        cpu_seconds: seconds(11)? + seconds(12)?,
        start_seconds_after_boot: seconds(19)?,
        virtual_bytes: number(20)?,
        resident_pages: number(21)?,
    })
}

/// Bytes received and sent by IP: a line of names, then a line of values.
fn octets(netstat: &str) -> Option<(u64, u64)> {
    let mut lines = netstat
        .lines()
        .filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let pairs = names
        .split_ascii_whitespace()
        .zip(values.split_ascii_whitespace());
    let find = |wanted: &str| {
        let found = pairs.clone().find(|(name, _)| *name == wanted);
        found.and_then(|(_, value)| value.parse().ok())
    };
    Some((find("InOctets")?, find("OutOctets")?))
}

fn boot_seconds(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_is_no_obstacle() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 10 0 0 0 150 50 0 0 20 0 1 0 3000 4096 2 0";
        let want = Stat {
            cpu_seconds: 2.0,
            start_seconds_after_boot: 30.0,
            virtual_bytes: 4096,
            resident_pages: 2,
        };
        assert_eq!(parse_stat(stat), Some(want));
        assert_eq!(parse_stat("7 (x) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn boot_time_is_one_line_of_many() {
        assert_eq!(
            boot_seconds("cpu 1 2\nbtime 1700000000\nx 1\n"),
            Some(1.7e9)
        );
        assert_eq!(boot_seconds("cpu 1 2\n"), None);
    }

    #[test]
    fn network_bytes_are_found_by_name() {
        let netstat = "TcpExt: A\nTcpExt: 1\nIpExt: InX InOctets OutOctets\nIpExt: 1 20 30\n";
        assert_eq!(octets(netstat), Some((20, 30)));
        assert_eq!(octets("IpExt: InOctets\nIpExt: 1\n"), None);
        assert_eq!(octets(""), None);
    }

    #[test]
    fn this_process_has_open_files() {
        let text = exposition();
        assert!(text.contains("process_open_fds "), "{text}");
        assert!(text.lines().all(|line| !line.is_empty()));
    }
}

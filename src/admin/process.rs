//! What this process uses, from /proc/self.

use rustix::process::{Resource, getrlimit};

/// See [`crate::metrics::Process`].
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) open_files: [u64; 2],
}

/// Now. What cannot be read is zero.
pub(super) fn usage() -> Usage {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |list| list.count() as u64);
    let mut usage =
        from_stat(&stat, rustix::param::page_size() as u64, rustix::param::clock_ticks_per_second());
    usage.open_files = [open, getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)];
    usage
}

/// proc_pid_stat(5): utime and stime are fields 14 and 15, rss is 24, counted from one; the name in
/// field 2 may have spaces and parentheses of its own.
fn from_stat(stat: &str, page: u64, ticks: u64) -> Usage {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |number: usize| -> u64 {
        after_name.split_whitespace().nth(number - 3).and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    Usage {
        cpu_seconds: (field(14) + field(15)) as f64 / ticks.max(1) as f64,
        resident_bytes: field(24) * page,
        open_files: [0, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "1 (a b) c) S 0 1 1 0 -1 4194560 10 20 30 40 250 50 7 8 20 0 4 0 99 1000000 500 18446744073709551615\n";
        let usage = from_stat(stat, 4096, 100);
        assert_eq!((usage.cpu_seconds, usage.resident_bytes), (3.0, 500 * 4096));
        assert_eq!(from_stat("", 4096, 100).resident_bytes, 0);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = usage();
        assert!(usage.resident_bytes > 0 && usage.open_files[0] > 0 && usage.open_files[1] > 0);
    }
}

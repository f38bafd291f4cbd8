//! What this machine allows: kernel, io_uring, limits, ports. Each problem comes with its exact fix.
//!
//! [`Facts::gather`] looks (and raises what may be raised); [`check`] and the plans are pure.

use std::io;

use io_uring::{IoUring, opcode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits;
use crate::problem::Problem;

/// The oldest kernel that has all that a shard's ring uses: single issuer and deferred task work.
pub const MIN_KERNEL: (u32, u32) = (6, 1);

/// Memory that one executor locks for its ring, in bytes; glommio does not start with less.
pub const MIN_MEMLOCK: u64 = 512 * 1024;

/// What was found.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `uname -r`
    pub kernel: String,
    /// sysctl kernel.io_uring_disabled; `None` where the kernel has none.
    pub io_uring_disabled: Option<u32>,
    /// Whether a seccomp filter is in force.
    pub seccomp: bool,
    /// The error number of an attempt to make a ring and complete one operation on it.
    pub ring: Result<(), i32>,
    /// Bytes that may be locked, after raising the soft limit to the hard one; `u64::MAX` is any.
    pub memlock: u64,
    /// Files that may be open, likewise.
    pub nofile: u64,
}

impl Facts {
    /// Looks at this machine. Raises the soft limits on locked memory and open files to the hard ones.
    pub fn gather() -> Self {
        let memlock = raise(Resource::Memlock);
        let nofile = raise(Resource::Nofile);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let sysctl = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).ok();
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            io_uring_disabled: sysctl("kernel/io_uring_disabled").and_then(|v| v.trim().parse().ok()),
            seccomp: field(&status, "Seccomp:").is_some_and(|mode| mode != "0"),
            ring: probe_ring().map_err(|e| e.raw_os_error().unwrap_or(0)),
            memlock,
            nofile,
        }
    }
}

/// The name of this host.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// What keeps ringport from serving on this machine (errors), or may get in its way (warnings).
pub fn check(facts: &Facts) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(check_kernel(&facts.kernel));
    if problems.is_empty() {
        problems.extend(check_ring(facts));
    }
    if facts.memlock < MIN_MEMLOCK {
        problems.push(with_hint(
            Problem::error(format!(
                "{} KiB of memory may be locked, and each shard needs {} KiB",
                facts.memlock / 1024,
                MIN_MEMLOCK / 1024
            )),
            "raise the hard limit: `ulimit -Hl unlimited` as root, LimitMEMLOCK=infinity in a systemd unit, or \
             --ulimit memlock=-1 for docker run",
        ));
    }
    problems
}

fn check_kernel(release: &str) -> Option<Problem> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next()?, numbers.next()?);
    let (major, minor) = MIN_KERNEL;
    (version < MIN_KERNEL).then(|| {
        with_hint(
            Problem::error(format!(
                "kernel {release} is too old: ringport needs Linux {major}.{minor} or newer"
            )),
            "Debian 12, Ubuntu 24.04 and RHEL 10 have one",
        )
    })
}

fn check_ring(facts: &Facts) -> Option<Problem> {
    let code = facts.ring.err()?;
    let seccomp = "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile: for docker run \
                   --security-opt seccomp=unconfined or a profile of your own, in a Pod \
                   securityContext.seccompProfile.type: Unconfined or Localhost";
    let (message, hint) = match (code, facts.io_uring_disabled) {
        (libc::EPERM, Some(value @ 1..)) => (
            format!("io_uring is forbidden on this machine: sysctl kernel.io_uring_disabled is {value}"),
            "run `sysctl -w kernel.io_uring_disabled=0`, and write it to /etc/sysctl.d/ringport.conf to keep it".to_owned(),
        ),
        (libc::EPERM | libc::EACCES, _) => {
            ("io_uring is forbidden to this process by a seccomp or security profile".to_owned(), seccomp.to_owned())
        }
        (libc::ENOSYS, _) if facts.seccomp => {
            ("io_uring is hidden from this process by a seccomp profile".to_owned(), seccomp.to_owned())
        }
        (libc::ENOSYS, _) => (
            "this kernel is built without io_uring".to_owned(),
            "use a kernel with CONFIG_IO_URING=y".to_owned(),
        ),
        (libc::ENOMEM, _) => (
            "there is not enough memory for an io_uring".to_owned(),
            "raise the limit on locked memory (ulimit -l) or the container's memory limit".to_owned(),
        ),
        (libc::EINVAL, _) => (
            format!("this kernel's io_uring cannot do what a shard needs (kernel {})", facts.kernel),
            format!("use Linux {}.{} or newer", MIN_KERNEL.0, MIN_KERNEL.1),
        ),
        (other, _) => (
            format!("no io_uring can be made: {}", io::Error::from_raw_os_error(other)),
            "see the kernel log".to_owned(),
        ),
    };
    Some(Problem { hint: Some(hint), ..Problem::error(message) })
}

/// How many sessions the limit on open files allows: two descriptors each, after what the shards'
/// listeners, their pipes and the rest of the process take. At least one.
pub fn plan_connections(nofile: u64, shards: usize, frontends: usize, splice: bool) -> u32 {
    // Each frontend has a socket in every shard, and one that holds its port.
    let listeners = shards.saturating_add(1).saturating_mul(frontends) as u64;
    let pipes =
        if splice { shards.saturating_mul(plan_pipes(nofile, shards)).saturating_mul(2) as u64 } else { 0 };
    let left = nofile.saturating_sub(limits::RESERVED_FILES).saturating_sub(listeners).saturating_sub(pipes);
    u32::try_from(left / 2).unwrap_or(u32::MAX).max(1)
}

/// How many pipes each shard may have, two descriptors each: all of them take a quarter of the open files at
/// most. They are a convenience: a low limit is for sessions first.
pub fn plan_pipes(nofile: u64, shards: usize) -> usize {
    let each = nofile / 4 / 2 / shards.max(1) as u64;
    limits::PIPES_PER_SHARD.min(usize::try_from(each).unwrap_or(usize::MAX))
}

/// A warning where the limit on open files leaves room for fewer sessions than were asked for, or for few.
pub fn check_files(nofile: u64, wanted: Option<u32>, planned: u32) -> Option<Problem> {
    let message = match wanted {
        Some(wanted) if wanted > planned => format!(
            "--max-connections is {wanted}, but {nofile} open files leave room for about {planned} sessions"
        ),
        None if planned < limits::FEW_CONNECTIONS => {
            format!("{nofile} open files leave room for {planned} sessions only")
        }
        _ => return None,
    };
    Some(with_hint(
        Problem::warning(message),
        "raise the hard limit: `ulimit -Hn 1048576` as root, LimitNOFILE=1048576 in a systemd unit, or --ulimit \
         nofile=1048576 for docker run",
    ))
}

fn with_hint(problem: Problem, hint: &str) -> Problem {
    Problem { hint: Some(hint.to_owned()), ..problem }
}

/// Raises a soft limit to its hard limit and returns what is in force.
fn raise(resource: Resource) -> u64 {
    let before = getrlimit(resource);
    // Where this is refused the old limit holds, and the checks speak of it.
    let _ = setrlimit(resource, Rlimit { current: before.maximum, maximum: before.maximum });
    getrlimit(resource).current.unwrap_or(u64::MAX)
}

/// Makes a ring as a shard does, and completes a no-op on it.
fn probe_ring() -> io::Result<()> {
    let mut ring: IoUring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(4)?;
    let nop = opcode::Nop::new().build();
    // SAFETY: a no-op refers to no memory.
    let pushed = unsafe { ring.submission().push(&nop) };
    pushed.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    match ring.completion().next() {
        Some(completion) if completion.result() == 0 => Ok(()),
        Some(completion) => Err(io::Error::from_raw_os_error(-completion.result())),
        None => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Severity;

    fn good() -> Facts {
        Facts {
            kernel: "6.18.4-test".to_owned(),
            io_uring_disabled: Some(0),
            seccomp: false,
            ring: Ok(()),
            memlock: u64::MAX,
            nofile: 1 << 20,
        }
    }

    fn messages(facts: &Facts) -> Vec<String> {
        check(facts).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_machine_has_no_problems() {
        assert_eq!(messages(&good()), [""; 0]);
        assert_eq!(messages(&Facts { kernel: "7.0.1".to_owned(), ..good() }), [""; 0]);
        assert_eq!(messages(&Facts { kernel: "6.1.0-9-amd64".to_owned(), ..good() }), [""; 0]);
    }

    #[test]
    fn each_obstacle_is_named_with_its_fix() {
        let eperm = Err(libc::EPERM);
        let enosys = Err(libc::ENOSYS);
        for (facts, wanted) in [
            (
                Facts { kernel: "5.15.0-91".to_owned(), ..good() },
                ["kernel 5.15.0-91 is too old", "Linux 6.1"],
            ),
            (Facts { kernel: "6.0.19".to_owned(), ring: enosys, ..good() }, ["kernel 6.0.19", "Linux 6.1"]),
            (
                Facts { ring: eperm, io_uring_disabled: Some(2), ..good() },
                ["kernel.io_uring_disabled is 2", "sysctl -w kernel.io_uring_disabled=0"],
            ),
            (Facts { ring: eperm, seccomp: true, ..good() }, ["seccomp", "io_uring_setup, io_uring_enter"]),
            (Facts { ring: enosys, seccomp: true, ..good() }, ["seccomp", "seccompProfile"]),
            (Facts { ring: enosys, ..good() }, ["without io_uring", "CONFIG_IO_URING=y"]),
            (Facts { ring: Err(libc::ENOMEM), ..good() }, ["memory", "ulimit -l"]),
            (Facts { ring: Err(libc::EINVAL), ..good() }, ["6.18.4-test", "Linux 6.1 or newer"]),
            (Facts { ring: Err(libc::EMFILE), ..good() }, ["Too many open files", "kernel log"]),
            (Facts { memlock: 64 * 1024, ..good() }, ["64 KiB", "LimitMEMLOCK=infinity"]),
        ] {
            let problems = check(&facts);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(problems[0].severity, Severity::Error);
            let text = problems[0].to_string();
            assert!(wanted.iter().all(|part| text.contains(part)), "{text}");
        }
    }

    #[test]
    fn sessions_are_planned_from_the_limit_on_files() {
        // 20,000 - 256 reserved - 3 for the frontend - 2048 for pipes, two a session.
        assert_eq!(plan_connections(20_000, 2, 1, true), 8_846);
        assert_eq!(plan_connections(20_000, 2, 1, false), 9_870);
        assert_eq!(plan_connections(20_000, 2, 2_768, true), 4_696);
        assert_eq!(plan_connections(1024, 2, 1, true), 254);
        assert_eq!(plan_connections(0, 2, 1, true), 1);
        assert_eq!(plan_connections(u64::MAX, 2, 1, true), u32::MAX);

        for (nofile, shards) in [(0, 0), (1024, 2), (20_000, 2), (20_000, 64), (1 << 20, 64)] {
            let pipes = plan_pipes(nofile, shards);
            assert!(
                2 * shards * pipes <= nofile as usize / 4,
                "{pipes} for {shards} shards of {nofile} files"
            );
        }
        assert_eq!(plan_pipes(20_000, 2), limits::PIPES_PER_SHARD);

        assert_eq!(check_files(20_000, None, 8_847), None);
        assert_eq!(check_files(20_000, Some(8_000), 8_846), None);
        assert!(check_files(20_000, Some(9_000), 8_847).unwrap().to_string().contains("LimitNOFILE"));
        assert!(check_files(1024, None, 255).unwrap().message.contains("255 sessions only"));
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let facts = Facts::gather();
        assert!(facts.nofile > 0 && !facts.kernel.is_empty() && !hostname().is_empty());
    }

    #[test]
    fn the_forms_of_proc_are_read() {
        let status = "Name:\tx\nSeccomp:\t2\n";
        assert_eq!(field(status, "Seccomp:"), Some("2"));
    }
}

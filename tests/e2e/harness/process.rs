//! The program under test, from outside.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::metrics::{Metrics, get};
use super::wait::{until, within};
use super::world::World;

/// A command line of the program, whose output is kept.
pub(crate) fn command(args: &[&str]) -> Command {
    allow_files();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringport"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Tests hold many connections: as many open files as may be, for this process and its children.
pub(crate) fn allow_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// A process that does not outlive its test.
pub(crate) struct Guarded(pub(crate) Child);

impl Guarded {
    /// Asks it to end, and gives its exit code.
    pub(crate) fn terminate(&mut self, signal: Signal) -> Option<i32> {
        rustix::process::kill_process(Pid::from_child(&self.0), signal).unwrap();
        until("it ends", || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `ringport run`. Killed when dropped.
pub(crate) struct Ringport {
    child: Child,
    healthz: SocketAddr,
    metrics: SocketAddr,
    log: PathBuf,
    access_log: PathBuf,
    exited: bool,
}

/// Node ports of tests are whatever is free.
const WIDE_RANGE: [&str; 2] = ["--service-node-port-range", "1024-65535"];

impl Ringport {
    /// Starts it on the manifests of a world, with these options, and waits until it is ready.
    pub(crate) fn start(world: &World, args: &[&str]) -> Self {
        let ringport = Self::spawn(world, args);
        ringport.wait_ready();
        ringport
    }

    /// Starts it without waiting.
    pub(crate) fn spawn(world: &World, args: &[&str]) -> Self {
        Self::spawn_with(world, command(&[]), args)
    }

    /// Starts it with a limit on open files that it cannot raise.
    pub(crate) fn start_with_files(world: &World, files: u64, args: &[&str]) -> Self {
        let ringport = Self::spawn_with_files(world, files, args);
        ringport.wait_ready();
        ringport
    }

    /// The same without waiting.
    pub(crate) fn spawn_with_files(world: &World, files: u64, args: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            &format!("ulimit -n {files} && exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_ringport"),
        ]);
        shell.stdin(Stdio::null());
        Self::spawn_with(world, shell, args)
    }

    /// Starts it through another program: `["setpriv", "--reuid", "1000"]`. Does not wait.
    pub(crate) fn spawn_through(world: &World, program: &[&str], args: &[&str]) -> Self {
        allow_files();
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(env!("CARGO_BIN_EXE_ringport")).stdin(Stdio::null());
        Self::spawn_with(world, command, args)
    }

    /// Starts it on a cluster instead of manifests. Does not wait.
    pub(crate) fn spawn_on_cluster(world: &World, kubeconfig: &Path, args: &[&str]) -> Self {
        let source = ["--kubeconfig", kubeconfig.to_str().unwrap()];
        Self::spawn_from(world, command(&[]), &source, args, |command, args| command.args(args))
    }

    /// Starts a test of this program through another program, which finds its arguments as JSON in a variable of
    /// its environment, and becomes it. Does not wait.
    pub(crate) fn spawn_confined(world: &World, through: &[&str], variable: &str, test: &str) -> Self {
        let mut command = Command::new(through[0]);
        command.args(&through[1..]).args(["--ignored", "--exact", "--nocapture", test]).stdin(Stdio::null());
        let manifests = world.manifests();
        let source = ["-f", manifests.to_str().unwrap()];
        Self::spawn_from(world, command, &source, &[], |command, args| {
            command.env(variable, serde_json::to_string(args).unwrap())
        })
    }

    /// The same by a command of the test's own.
    pub(crate) fn spawn_with(world: &World, command: Command, args: &[&str]) -> Self {
        let manifests = world.manifests();
        let source = ["-f", manifests.to_str().unwrap()];
        Self::spawn_from(world, command, &source, args, |command, args| command.args(args))
    }

    fn spawn_from(
        world: &World,
        mut command: Command,
        source: &[&str],
        args: &[&str],
        give: impl for<'a> FnOnce(&'a mut Command, &[String]) -> &'a mut Command,
    ) -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (healthz, metrics) = (local(world.port()), local(world.port()));
        let log = world.path(&format!("log-{}", healthz.port()));
        let access_log = world.path(&format!("access-{}.log", healthz.port()));
        let output = File::create(&log).unwrap();
        let pages = [healthz.to_string(), metrics.to_string()];
        let places = ["--healthz-bind-address", &pages[0], "--metrics-bind-address", &pages[1]];
        let access = ["--access-log", access_log.to_str().unwrap()];
        let range =
            if args.contains(&WIDE_RANGE[0]) || !source.contains(&"-f") { &[][..] } else { &WIDE_RANGE };
        let all = [&["run"], &places[..], &access, source, range, args].concat();
        let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
        let child =
            give(&mut command, &all).stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        Self { child, healthz, metrics, log, access_log, exited: false }
    }

    /// What `/proc/PID/status` says.
    pub(crate) fn status(&self) -> BTreeMap<String, String> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let pairs = text.lines().filter_map(|line| line.split_once(":\t"));
        pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
    }

    /// Its page of everything that is served.
    pub(crate) fn statusz(&self) -> String {
        get(self.metrics, "/statusz").unwrap().1
    }

    /// Waits until it serves.
    pub(crate) fn wait_ready(&self) {
        until("/readyz says ok", || {
            assert!(!self.log().contains("panicked"), "{}", self.log());
            matches!(get(self.healthz, "/readyz"), Ok((200, _))).then_some(())
        });
    }

    /// Where its health pages are.
    pub(crate) fn healthz(&self) -> SocketAddr {
        self.healthz
    }

    /// One of the health pages.
    pub(crate) fn page(&self, path: &str) -> String {
        get(self.healthz, path).unwrap().1
    }

    /// Where its metrics are.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// The status of one of the health pages.
    pub(crate) fn health(&self, path: &str) -> u16 {
        get(self.healthz, path).unwrap().0
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let (status, body) = get(self.metrics, "/metrics").unwrap();
        assert_eq!(status, 200, "{body}");
        Metrics::parse(&body)
    }

    /// Waits until a metric is as wanted.
    pub(crate) fn until_metrics(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        until(what, || Some(self.metrics()).filter(&wanted))
    }

    /// What it wrote to standard output and standard error.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The records of finished sessions, as far as they are written.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        let text = std::fs::read_to_string(&self.access_log).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        whole.lines().map(|line| Session(parse(line))).collect()
    }

    /// Waits for the record of the only session there was.
    pub(crate) fn session(&self) -> Session {
        let mut records =
            until("the access log has a session", || Some(self.sessions()).filter(|s| !s.is_empty()));
        assert_eq!(records.len(), 1, "{records:?}");
        records.remove(0)
    }

    /// The records of those that ended for this reason.
    pub(crate) fn sessions_that_ended(&self, reason: &str) -> Vec<Session> {
        self.sessions().into_iter().filter(|session| session.reason() == reason).collect()
    }

    /// How many descriptors it has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Its memory, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The CPU time that it has used.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Fields are counted behind the name, which may hold anything; utime and stime are 14 and 15.
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let status = within(limit, "ringport ends", || self.child.try_wait().unwrap());
        self.exited = true;
        status
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Ringport {
    fn drop(&mut self) {
        let gone = !self.exited && self.child.try_wait().is_ok_and(|status| status.is_some());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- ringport said:\n{}", self.log());
            return;
        }
        assert!(!gone, "ringport ended by itself:\n{}", self.log());
        assert!(!self.log().contains("panicked"), "ringport panicked:\n{}", self.log());
    }
}

/// A record of the access log.
#[derive(Debug)]
pub(crate) struct Session(serde_json::Value);

impl Session {
    /// Why it ended.
    pub(crate) fn reason(&self) -> &str {
        self.0["reason"].as_str().unwrap_or_else(|| panic!("no reason in {}", self.0))
    }

    /// A number of the record.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap_or_else(|| panic!("no {key} in {}", self.0))
    }

    /// Who connected.
    pub(crate) fn client(&self) -> &str {
        self.0["client"].as_str().unwrap_or_else(|| panic!("no client in {}", self.0))
    }

    /// Bytes delivered to the pod and to the client, and bytes lost.
    pub(crate) fn bytes(&self) -> (u64, u64, u64) {
        (self.number("bytes_up"), self.number("bytes_down"), self.number("bytes_lost"))
    }
}

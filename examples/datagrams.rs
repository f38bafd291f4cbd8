//! UDP through the real program, on loopback.
//!
//! `datagrams RINGPORT [COUNT [SOCKETS]]`: whether datagrams get lost: a million round trips at half of the rate that it
//! can take, with the counters of the kernel and of ringport before and after. `scripts/soak` builds both and runs it.
//!
//! `datagrams compare OLD NEW [ROUNDS]`: which of two builds takes less CPU time for a round trip. They take turns of 20 ms, in
//! random order: what disturbs a machine mostly lasts longer, and so disturbs both. A thousand rounds show one per cent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool: what goes wrong ends it, and it measures time"
)]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

const PAYLOAD: usize = 64;

/// How long the rate is measured that it can take.
const CAPACITY: Duration = Duration::from_secs(3);

/// A turn of [`compare`].
const SLOT: Duration = Duration::from_millis(20);

/// How long the last answers may take.
const LAST: Duration = Duration::from_secs(2);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, old, new, rounds @ ..] = args.as_slice()
        && command == "compare"
    {
        return compare([old, new], rounds.first().map_or(1000, |rounds| rounds.parse().unwrap()));
    }
    let number = |place: usize, default: usize| args.get(place).map_or(default, |arg| arg.parse().unwrap());
    let program = args.first().expect("datagrams RINGPORT [COUNT [SOCKETS]]");
    let (count, sockets) = (number(1, 1_000_000), number(2, 64));
    let pod = pod();
    let ringport = Ringport::start(program, pod);
    let mut clients = Clients::new(sockets, ringport.address);
    let capacity = f64::from(clients.closed_loop(CAPACITY)) / CAPACITY.as_secs_f64();
    let before = kernel();
    let metrics = ringport.metrics();
    let started = Instant::now();
    let answered = clients.soak(count, capacity / 2.0);
    let took = started.elapsed().as_secs_f64();
    let (after, metrics_after) = (kernel(), ringport.metrics());

    println!("{count} datagrams of {PAYLOAD} bytes from {sockets} sockets, each answered by the pod");
    println!("capacity, one in flight each      {capacity:.0} round trips/s");
    println!("rate                              {:.0} round trips/s", count as f64 / took);
    println!("answered                          {answered}");
    println!("lost                              {}", count - answered);
    for ((name, old), (_, new)) in before.iter().zip(&after) {
        println!("kernel, Udp {name:<21} {}", new - old);
    }
    let dropped = sum(&metrics_after, "ringport_datagrams_dropped_total{")
        - sum(&metrics, "ringport_datagrams_dropped_total{");
    for way in ["up", "down"] {
        let name = "ringport_datagrams_total{";
        let of = |page: &str| sum_of(page, name, &format!("direction=\"{way}\""));
        println!("ringport, datagrams {way:<13} {}", of(&metrics_after) - of(&metrics));
    }
    println!("ringport, dropped                 {dropped}");
    assert!(answered == count && dropped == 0, "datagrams were lost");
}

/// The CPU time of two builds for a round trip, by turns.
fn compare(programs: [&str; 2], rounds: usize) {
    let pod = pod();
    let builds = programs.map(|program| {
        let ringport = Ringport::start(program, pod);
        let clients = Clients::new(64, ringport.address);
        clients.closed_loop(CAPACITY / 10);
        (ringport, clients)
    });
    let (mut costs, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for _ in 0..rounds {
        let first = fastrand::usize(..2);
        let mut cost = [0.0; 2];
        for build in [first, 1 - first] {
            let (ringport, clients) = &builds[build];
            let before = ringport.cpu_nanos();
            let done = clients.closed_loop(SLOT);
            cost[build] = ringport.cpu_nanos().saturating_sub(before) as f64 / f64::from(done.max(1)) / 1e3;
            costs[build].push(cost[build]);
        }
        ratios.push((cost[1] / cost[0]).ln());
    }
    for (program, mut costs) in programs.iter().zip(costs) {
        costs.sort_by(f64::total_cmp);
        println!("{:6.2} µs a round trip (median of {rounds} turns)  {program}", costs[rounds / 2]);
    }
    let mean = ratios.iter().sum::<f64>() / rounds as f64;
    let variance = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / (rounds as f64 - 1.0);
    println!("{:6.3} ± {:.3} (two standard errors)", mean.exp(), 2.0 * (variance / rounds as f64).sqrt());
}

/// A pod that sends everything back.
fn pod() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    let _ = SockRef::from(&socket).set_recv_buffer_size(16 << 20);
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..n], from);
        }
    });
    address
}

struct Ringport {
    child: Child,
    address: SocketAddr,
    pages: u16,
    _folder: tempfile::TempDir,
}

impl Ringport {
    /// One shard, in front of the pod.
    fn start(program: &str, pod: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ready, pages) = (free_port(), free_port());
        let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 3), free_port()));
        let manifest = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: echo}}\nspec:\n  externalIPs: [{}]\n  ports: [{{protocol: UDP, \
             port: {}}}]\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: echo, labels: \
             {{kubernetes.io/service-name: echo}}}}\naddressType: IPv4\nports: [{{protocol: UDP, port: {}}}]\nendpoints: \
             [{{addresses: [{}]}}]\n",
            address.ip(),
            address.port(),
            pod.port(),
            pod.ip()
        );
        std::fs::write(folder.path().join("echo.yml"), manifest).unwrap();
        let mut child = Command::new(program)
            .args(["run", "--shards", "1", "--log-level", "warn", "-f"])
            .arg(folder.path())
            .args(["--healthz-bind-address", &format!("127.0.0.1:{ready}")])
            .args(["--metrics-bind-address", &format!("127.0.0.1:{pages}")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        while get(ready, "/readyz").is_none_or(|page| page != "ok") {
            assert!(child.try_wait().unwrap().is_none(), "{program} has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, address, pages, _folder: folder }
    }

    fn metrics(&self) -> String {
        get(self.pages, "/metrics").expect("no metrics")
    }

    /// CPU time of all its threads.
    fn cpu_nanos(&self) -> u64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = |thread: std::fs::DirEntry| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        threads.map(|thread| nanos(thread.unwrap())).sum()
    }
}

impl Drop for Ringport {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The clients' sockets, each one flow.
struct Clients {
    sockets: Vec<UdpSocket>,
}

impl Clients {
    fn new(count: usize, to: SocketAddr) -> Self {
        let socket = |_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let _ = SockRef::from(&socket).set_recv_buffer_size(4 << 20);
            socket.connect(to).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        Self { sockets: (0..count).map(socket).collect() }
    }

    /// Round trips in this time with one datagram of each socket on its way. At the end none is, but what was lost.
    fn closed_loop(&self, time: Duration) -> u32 {
        let (start, mut done, mut out) = (Instant::now(), 0, self.sockets.len() as u32);
        self.sockets.iter().for_each(|socket| _ = socket.send(&[0; PAYLOAD]).unwrap());
        while out > 0 && self.wait(Duration::from_millis(200)) {
            let over = start.elapsed() >= time;
            let came = self.receive(|socket, _| {
                if !over {
                    socket.send(&[0; PAYLOAD]).unwrap();
                }
            });
            done += came;
            out -= if over { came } else { 0 };
        }
        done
    }

    /// Sends this many at a rate, whatever comes back. Says how many were answered.
    fn soak(&mut self, count: usize, rate: f64) -> usize {
        let mut answered = vec![false; count];
        let (start, mut sent, mut received) = (Instant::now(), 0, 0);
        let mut last = start;
        while received < count && last.elapsed() < LAST {
            let due = ((start.elapsed().as_secs_f64() * rate) as usize).min(count);
            while sent < due {
                let mut payload = [0; PAYLOAD];
                payload[..8].copy_from_slice(&sent.to_ne_bytes());
                self.sockets[sent % self.sockets.len()].send(&payload).unwrap();
                sent += 1;
                last = Instant::now();
            }
            self.wait(Duration::from_micros(200));
            let came = self.receive(|_, payload| {
                let number = usize::from_ne_bytes(payload[..8].try_into().unwrap());
                received += usize::from(!std::mem::replace(&mut answered[number], true));
            });
            if came > 0 {
                last = Instant::now();
            }
        }
        received
    }

    /// Waits until something has come. False after `at_most`.
    fn wait(&self, at_most: Duration) -> bool {
        let mut all: Vec<PollFd<'_>> = self.sockets.iter().map(|s| PollFd::new(s, PollFlags::IN)).collect();
        let at_most = Timespec { tv_sec: 0, tv_nsec: i64::from(at_most.subsec_nanos()) };
        poll(&mut all, Some(&at_most)).is_ok_and(|ready| ready > 0)
    }

    /// Takes what has come.
    fn receive(&self, mut answer: impl FnMut(&UdpSocket, &[u8])) -> u32 {
        let (mut came, mut buffer) = (0, [0; 2048]);
        for socket in &self.sockets {
            while let Ok(n) = socket.recv(&mut buffer) {
                came += 1;
                answer(socket, &buffer[..n]);
            }
        }
        came
    }
}

/// What the kernel says it has lost: `Udp:` of /proc/net/snmp, whose errors grow with any socket of the machine.
fn kernel() -> Vec<(String, u64)> {
    let text = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let mut words =
        || lines.next().unwrap().split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let (names, values) = (words(), words());
    let all = names.into_iter().zip(values.into_iter().map(|value| value.parse().unwrap()));
    all.filter(|(name, _)| name.ends_with("Errors")).collect()
}

fn sum(page: &str, name: &str) -> u64 {
    sum_of(page, name, "")
}

fn sum_of(page: &str, name: &str, label: &str) -> u64 {
    let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    let mut request = String::new();
    write!(request, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

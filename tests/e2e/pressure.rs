//! A reader that does not read stops the writer, and costs no memory.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use ringport::limits;
use socket2::{Domain, Socket, Type};

use crate::harness::bytes::{CHUNK, Stream, expect, seed, send, write_until_stuck};
use crate::harness::client::{End, end_of, exchange, finish, patient, reset};
use crate::harness::metrics::Metrics;
use crate::harness::rig::Pair;
use crate::harness::wait::{time, until};

const LENGTH: usize = 96 << 20;
/// Above what it needed before: buffers, pipes and the allocator's slack, but no stream.
const MEMORY_KIB: u64 = 16 << 10;

fn slow_reader(pair: &Pair, from_pod: bool) {
    let seed = seed();
    let (client, pod) = pair.session();
    let (mut writer, mut reader) = if from_pod { (pod, client) } else { (client, pod) };
    let before = pair.ringport.memory_kib();
    let mut stream = Stream::new(seed);
    let (sent, rest) = write_until_stuck(&mut writer, &mut stream);
    let held = pair.ringport.memory_kib().saturating_sub(before);
    assert!(held < MEMORY_KIB, "{held} KiB more memory after {sent} bytes that nobody reads");
    writer.set_write_timeout(Some(crate::harness::wait::PATIENCE)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&rest).unwrap();
            let mut left = LENGTH - sent - rest.len();
            while left > 0 {
                let chunk = stream.next(CHUNK.min(left));
                writer.write_all(&chunk).unwrap();
                left -= chunk.len();
            }
            finish(&writer);
        });
        expect(&mut reader, seed, LENGTH);
        assert_eq!(end_of(&mut reader), End::Fin);
    });
    // The other direction was never in the way.
    exchange(&mut reader, &mut writer, b"thank you");
}

#[test]
fn a_client_that_does_not_read_stops_the_pod() {
    slow_reader(&Pair::start(&["--shards", "1"]), true);
}

#[test]
fn a_pod_that_does_not_read_stops_the_client() {
    slow_reader(&Pair::start(&["--shards", "1"]), false);
}

#[test]
fn the_same_while_copying() {
    slow_reader(&Pair::start(&["--shards", "1", "--splice=false"]), true);
}

#[test]
fn the_same_while_splicing() {
    let pair = Pair::start(&["--shards", "1"]);
    let seed = seed();
    let (mut client, mut pod) = pair.session();
    thread::scope(|scope| {
        scope.spawn(|| send(&mut pod, seed, 32 << 20));
        expect(&mut client, seed, 32 << 20);
    });
    assert!(pair.ringport.metrics().spliced() > 0, "32 MiB, and nothing was spliced");
    let before = pair.ringport.memory_kib();
    let mut stream = Stream::new(seed ^ 1);
    let (sent, rest) = write_until_stuck(&mut pod, &mut stream);
    let held = pair.ringport.memory_kib().saturating_sub(before);
    assert!(held < MEMORY_KIB, "{held} KiB more memory after {sent} bytes that nobody reads");
    // A stuck session is no reason to be awake.
    let cpu = pair.ringport.cpu();
    crate::harness::wait::measure_for(Duration::from_secs(1));
    let used = pair.ringport.cpu() - cpu;
    assert!(used <= Duration::from_millis(50), "{used:?} of CPU in a second in which nothing can move");
    // Nor in the way of the other direction.
    exchange(&mut client, &mut pod, b"are you there?");
    finish(&pod);
    expect(&mut client, seed ^ 1, sent);
    assert_eq!(end_of(&mut client), End::Fin);
    assert!(!rest.is_empty());
}

/// All sessions of a shard receive into the same buffers. Those that are stuck must not keep them.
fn stuck_sessions_hold_up_nobody(args: &[&str]) {
    let pair = Pair::start(&[&["--shards", "1"], args].concat());
    let mut sessions: Vec<_> = (0..24).map(|_| pair.session()).collect();
    thread::scope(|scope| {
        for (_, pod) in &mut sessions {
            scope.spawn(|| write_until_stuck(pod, &mut Stream::new(1)));
        }
    });
    for _ in 0..20 {
        let (mut client, mut pod) = pair.session();
        exchange(&mut client, &mut pod, b"ping");
        exchange(&mut pod, &mut client, b"pong");
    }
    // Their other direction is not stuck.
    for (client, pod) in &mut sessions {
        exchange(client, pod, b"are you there?");
    }
}

#[test]
fn stuck_sessions_do_not_hold_up_the_others() {
    stuck_sessions_hold_up_nobody(&[]);
}

#[test]
fn stuck_sessions_do_not_hold_up_the_others_while_copying() {
    stuck_sessions_hold_up_nobody(&["--splice=false"]);
}

/// A client that takes next to nothing.
fn connect_narrow(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(CHUNK).unwrap();
    socket.connect(&to.into()).unwrap();
    patient(socket.into())
}

/// A session whose client does not read.
struct Stuck {
    client: TcpStream,
    pod: TcpStream,
    stream: Stream,
    /// Made, and not yet taken by the pod's socket.
    rest: Vec<u8>,
    sent: usize,
}

impl Stuck {
    /// Writes what the pod's socket takes now.
    fn write_some(&mut self) {
        self.pod.set_nonblocking(true).unwrap();
        loop {
            if self.rest.is_empty() {
                self.rest = self.stream.next(CHUNK);
            }
            match self.pod.write(&self.rest) {
                Ok(n) => {
                    self.rest.drain(..n);
                    self.sent += n;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("write: {error}"),
            }
        }
        self.pod.set_nonblocking(false).unwrap();
    }
}

#[test]
fn what_is_held_for_many_that_do_not_read_has_a_bound() {
    /// Sessions after the bound is reached.
    const MORE: usize = 60;
    let pair = Pair::start(&["--shards", "1", "--splice=false"]);
    let seed = seed();
    let held = |metrics: &Metrics| metrics.sum("ringport_shard_backlog_bytes", &[]);
    let used_up = |metrics: &Metrics| metrics.sum("ringport_shard_backlog_used_up_total", &[]) > 0;
    let mut sessions: Vec<Stuck> = Vec::new();
    let mut add = |count| {
        for _ in 0..count {
            let stream = Stream::new(seed ^ sessions.len() as u64);
            let (client, pod) = (connect_narrow(pair.node), pair.accept());
            sessions.push(Stuck { client, pod, stream, rest: Vec::new(), sent: 0 });
        }
        sessions.iter_mut().for_each(Stuck::write_some);
        assert!(sessions.len() < 600, "the bound is never reached");
        pair.ringport.metrics()
    };
    let before = until("the bound is reached", || Some(add(10)).filter(used_up));
    // Whatever was under way has come to rest.
    (0..5).for_each(|_| _ = add(0));
    let (before, after) = (held(&before).max(held(&add(0))), held(&add(MORE)).max(held(&add(0))));
    // What was received when the bound was reached comes on top, and a buffer for each.
    let buffers = u64::from(limits::RECV_BUFFERS) * limits::RECV_BUFFER_BYTES as u64;
    assert!(before <= limits::BACKLOG_BYTES + 2 * buffers, "{before} bytes held");
    let more = after.saturating_sub(before);
    assert!(more <= 2 * (MORE * limits::RECV_BUFFER_BYTES) as u64, "{more} bytes more for {MORE} sessions");
    // Others still move, in bulk too.
    let (mut client, mut pod) = pair.session();
    exchange(&mut client, &mut pod, b"ping");
    thread::scope(|scope| {
        scope.spawn(|| send(&mut pod, seed, 8 << 20));
        expect(&mut client, seed, 8 << 20);
    });
    // Nothing is lost: looked at in some of them.
    for (i, mut session) in sessions.into_iter().enumerate().rev().filter(|(i, _)| i % 9 == 8) {
        finish(&session.pod);
        expect(&mut session.client, seed ^ i as u64, session.sent);
        assert_eq!(end_of(&mut session.client), End::Fin);
    }
    pair.ringport.until_metrics("nothing is held any more", |metrics| held(metrics) == 0);
}

#[test]
fn what_a_broken_session_still_gets_does_not_hold_up_the_others() {
    let pair = Pair::start(&["--shards", "1", "--splice=false"]);
    let (mut other, mut other_pod) = pair.session();
    let (mut client, mut pod) = pair.session();
    // Nobody reads it, so it is still being delivered when the pod is gone.
    write_until_stuck(&mut pod, &mut Stream::new(seed()));
    reset(pod);
    write_until_stuck(&mut client, &mut Stream::new(seed()));
    let (took, ()) = time(|| exchange(&mut other, &mut other_pod, b"undisturbed"));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

//! Bytes: all of them, in order, both ways, whatever their sizes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::harness::bytes::{Stream, expect, seed, send};
use crate::harness::client::{End, acknowledged, end_of, exchange, finish, read_to_end, reset};
use crate::harness::rig::Pair;
use crate::harness::wait::measure_for;

const MIB: usize = 1 << 20;

#[test]
fn messages_of_random_sizes_arrive_both_ways() {
    let pair = Pair::start(&[]);
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stream = Stream::new(seed);
    let (mut client, mut pod) = pair.session();
    let mut total = 0;
    for _ in 0..300 {
        // Sizes of all magnitudes, up to what fits into the socket buffers without a reader.
        let mut size = || {
            let magnitude = random.u32(0..16);
            random.usize(1..2 << magnitude)
        };
        let (up, down) = (size(), size());
        exchange(&mut client, &mut pod, &stream.next(up));
        exchange(&mut pod, &mut client, &stream.next(down));
        total += up + down;
    }
    drop(client);
    assert_eq!(end_of(&mut pod), End::Fin);
    drop(pod);
    let session = pair.ringport.session();
    let (up, down, lost) = session.bytes();
    assert_eq!((up + down, lost), (total as u64, 0));
    assert_eq!(session.reason(), "complete");
}

/// Sends and expects at the same time.
fn both_ways(stream: &TcpStream, out: (u64, usize), back: (u64, usize)) {
    let (mut reader, mut writer) = (stream, stream);
    thread::scope(|scope| {
        scope.spawn(move || send(&mut writer, out.0, out.1));
        expect(&mut reader, back.0, back.1);
    });
}

#[test]
fn bulk_in_both_directions_at_once_then_fin() {
    let pair = Pair::start(&[]);
    let seed = seed();
    let (up, down) = ((seed, 32 * MIB), (seed ^ 1, 32 * MIB + 1));
    let (mut client, mut pod) = pair.session();
    thread::scope(|scope| {
        scope.spawn(|| {
            both_ways(&pod, down, up);
            finish(&pod);
        });
        both_ways(&client, up, down);
        finish(&client);
    });
    assert_eq!(end_of(&mut client), End::Fin);
    assert_eq!(end_of(&mut pod), End::Fin);
    let session = pair.ringport.session();
    assert_eq!(session.reason(), "complete");
    assert_eq!(session.bytes(), (up.1 as u64, down.1 as u64, 0));
    // Otherwise nothing here has tested the splicing relay.
    assert!(pair.ringport.metrics().spliced() > 0, "64 MiB, and nothing was spliced");
}

#[test]
fn bulk_is_also_right_without_splice() {
    let pair = Pair::start(&["--splice=false"]);
    let seed = seed();
    let (up, down) = ((seed, 16 * MIB), (seed ^ 1, 16 * MIB));
    let (client, pod) = pair.session();
    thread::scope(|scope| {
        scope.spawn(|| both_ways(&pod, down, up));
        both_ways(&client, up, down);
    });
    drop((client, pod));
    assert_eq!(pair.ringport.session().bytes(), (up.1 as u64, down.1 as u64, 0));
    assert_eq!(pair.ringport.metrics().spliced(), 0);
}

#[test]
fn small_then_bulk_then_small_again() {
    let pair = Pair::start(&[]);
    let seed = seed();
    let mut stream = Stream::new(seed);
    let (mut client, mut pod) = pair.session();
    for round in 0..4_u64 {
        for _ in 0..200 {
            exchange(&mut client, &mut pod, &stream.next(100));
            exchange(&mut pod, &mut client, &stream.next(300));
        }
        // One direction at a time, and in turns: each must find its way into the fast mode and back.
        let (from, to) = if round % 2 == 0 { (&pod, &client) } else { (&client, &pod) };
        let (mut from, mut to) = (from, to);
        thread::scope(|scope| {
            scope.spawn(move || send(&mut from, seed ^ round, 12 * MIB));
            expect(&mut to, seed ^ round, 12 * MIB);
        });
    }
    exchange(&mut client, &mut pod, b"last words");
    finish(&client);
    assert_eq!(end_of(&mut pod), End::Fin);
    finish(&pod);
    assert_eq!(end_of(&mut client), End::Fin);
    let (up, down, lost) = pair.ringport.session().bytes();
    let chat = 4 * 200;
    assert_eq!((up, down, lost), (chat * 100 + 24 * MIB as u64 + 10, chat * 300 + 24 * MIB as u64, 0));
    assert!(pair.ringport.metrics().spliced() > 0, "48 MiB in bulk, and nothing was spliced");
}

/// A pipe has few slots, and small segments fill them long before its bytes: a relay that takes the
/// refusal of a full pipe for an empty socket hangs here.
#[test]
fn segments_of_one_mss_fill_no_pipe_for_ever() {
    let pair = Pair::start(&[]);
    let seed = seed();
    let (client, pod) = pair.session();
    // Into the fast mode first.
    let (mut to, mut from) = (&client, &pod);
    thread::scope(|scope| {
        scope.spawn(move || send(&mut from, seed, 16 * MIB));
        expect(&mut to, seed, 16 * MIB);
    });
    const SEGMENT: usize = 1448;
    const SEGMENTS: usize = 3_000;
    let mut trickle = Stream::new(seed ^ 1);
    let all = trickle.next(SEGMENT * SEGMENTS);
    thread::scope(|scope| {
        let pod = &pod;
        let segments = &all;
        scope.spawn(move || {
            let mut pod = pod;
            for (i, segment) in segments.chunks(SEGMENT).enumerate() {
                pod.write_all(segment).unwrap();
                // Now and then everything is on its way, so that segments come singly.
                if i % 64 == 0 {
                    acknowledged(pod);
                }
            }
            pod.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        let mut reader = &client;
        reader.read_to_end(&mut got).unwrap();
        assert_eq!(got.len(), all.len());
        assert!(got == all, "the segments arrived changed");
    });
}

#[test]
fn many_sessions_at_once_do_not_mix_their_bytes() {
    let pair = Pair::start(&[]);
    let seed = seed();
    // One after the other they are accepted, so that each client knows its pod.
    let sessions: Vec<_> = (0..24_u64).map(|i| (i, pair.session())).collect();
    thread::scope(|scope| {
        for (i, (client, pod)) in &sessions {
            let (up, down) = ((seed ^ (i << 8), 2 * MIB), (seed ^ (i << 8) ^ 1, 3 * MIB));
            scope.spawn(move || both_ways(pod, down, up));
            scope.spawn(move || both_ways(client, up, down));
        }
    });
    drop(sessions);
    pair.ringport.until_metrics("all sessions are over", |metrics| metrics.active() == 0);
    assert_eq!(pair.ringport.metrics().ended("complete"), 24);
}

/// Descriptors and buffers are used again at once; what one session left must not reach the next.
#[test]
fn a_session_never_sees_the_bytes_of_the_one_before() {
    let pair = Pair::start(&["--shards", "1"]);
    let seed = seed();
    for i in 0..60_u64 {
        let (mut client, mut pod) = pair.session();
        let text = Stream::new(seed ^ i).next(40_000);
        // The pod reads nothing of it, and goes; whatever was in flight is lost, and must stay lost.
        client.write_all(&text).unwrap();
        if i % 2 == 0 {
            drop(pod);
            drop(client);
        } else {
            exchange(&mut pod, &mut client, b"hello");
            reset(client);
            drop(pod);
        }
        let (mut client, mut pod) = pair.session();
        exchange(&mut client, &mut pod, b"clean?");
        exchange(&mut pod, &mut client, b"clean!");
        finish(&client);
        assert_eq!(end_of(&mut pod), End::Fin);
        finish(&pod);
        assert_eq!(end_of(&mut client), End::Fin);
    }
    pair.ringport.until_metrics("all sessions are over", |metrics| metrics.active() == 0);
}

/// splice(2) stops at an urgent byte, and when FIN has come says that this is the end.
#[test]
fn bytes_behind_an_urgent_one_are_not_lost() {
    const BEHIND: usize = 64 * 1024;
    let pair = Pair::start(&["--shards", "1"]);
    let mut stream = Stream::new(seed());
    let (mut client, mut pod) = pair.session();
    let mut sent = Vec::new();
    let down = || pair.ringport.metrics().sum("ringport_bytes_total", &["direction=\"down\""]) as usize;
    // Until some stays in the socket of the pod's side, as nobody reads at the other end.
    while down() == sent.len() {
        let piece = stream.next(256 * 1024);
        pod.write_all(&piece).unwrap();
        acknowledged(&pod);
        sent.extend(piece);
        measure_for(Duration::from_millis(50));
        assert!(sent.len() < 64 * MIB, "the way never fills");
    }
    SockRef::from(&pod).send_out_of_band(b"!").unwrap();
    let behind = stream.next(BEHIND);
    pod.write_all(&behind).unwrap();
    sent.extend(behind);
    finish(&pod);
    acknowledged(&pod);
    let (got, end) = read_to_end(&mut client);
    assert!(pair.ringport.metrics().spliced() > 0, "nothing was spliced");
    assert_eq!((got.len(), end), (sent.len(), End::Fin));
    assert!(got == sent, "it arrived changed");
}

//! A reset is passed on as a reset, after the bytes that came before it.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::harness::bytes::{CHUNK, Stream, expect, seed, send, write_until_stuck};
use crate::harness::client::{End, acknowledged, end_of, exchange, finish, read_to_end, reset};
use crate::harness::rig::Pair;
use crate::harness::wait::{measure_for, time};

/// Fits into the socket buffers of a peer that does not read.
const LENGTH: usize = 48 * 1024;

#[test]
fn the_clients_reset_reaches_the_pod() {
    let pair = Pair::start(&[]);
    let (mut client, mut pod) = pair.session();
    exchange(&mut client, &mut pod, b"hello");
    reset(client);
    assert_eq!(end_of(&mut pod), End::Reset);
    assert_eq!(pair.ringport.session().reason(), "client_reset");
    assert_eq!(pair.ringport.metrics().ended("client_reset"), 1);
}

#[test]
fn the_pods_reset_reaches_the_client() {
    let pair = Pair::start(&[]);
    let (mut client, mut pod) = pair.session();
    exchange(&mut pod, &mut client, b"hello");
    reset(pod);
    assert_eq!(end_of(&mut client), End::Reset);
    assert_eq!(pair.ringport.session().reason(), "endpoint_reset");
    assert_eq!(pair.ringport.metrics().ended("endpoint_reset"), 1);
}

#[test]
fn what_the_client_sent_before_its_reset_arrives() {
    let pair = Pair::start(&[]);
    let message = Stream::new(seed()).next(LENGTH);
    let (mut client, mut pod) = pair.session();
    client.write_all(&message).unwrap();
    acknowledged(&client);
    reset(client);
    let (got, end) = read_to_end(&mut pod);
    assert_eq!((got.len(), end), (message.len(), End::Reset));
    assert!(got == message, "it arrived changed");
    assert_eq!(pair.ringport.session().bytes(), (LENGTH as u64, 0, 0));
}

#[test]
fn what_the_pod_sent_before_its_reset_arrives() {
    let pair = Pair::start(&[]);
    let message = Stream::new(seed()).next(LENGTH);
    let (mut client, mut pod) = pair.session();
    pod.write_all(&message).unwrap();
    acknowledged(&pod);
    reset(pod);
    let (got, end) = read_to_end(&mut client);
    assert_eq!((got.len(), end), (message.len(), End::Reset));
    assert!(got == message, "it arrived changed");
    assert_eq!(pair.ringport.session().bytes(), (0, LENGTH as u64, 0));
}

#[test]
fn the_pods_reset_after_a_long_answer_loses_nothing_that_was_read() {
    const BULK: usize = 16 << 20;
    let pair = Pair::start(&[]);
    let seed = seed();
    let (mut client, mut pod) = pair.session();
    thread::scope(|scope| {
        scope.spawn(|| send(&mut pod, seed, BULK));
        expect(&mut client, seed, BULK);
    });
    reset(pod);
    assert_eq!(end_of(&mut client), End::Reset);
    assert_eq!(pair.ringport.session().reason(), "endpoint_reset");
}

#[test]
fn a_reset_after_a_fin_is_a_reset() {
    let pair = Pair::start(&[]);
    let (mut client, mut pod) = pair.session();
    finish(&client);
    assert_eq!(end_of(&mut pod), End::Fin);
    reset(pod);
    assert_eq!(end_of(&mut client), End::Reset);
    assert_eq!(pair.ringport.session().reason(), "endpoint_reset");

    let (mut client, mut pod) = pair.session();
    finish(&pod);
    assert_eq!(end_of(&mut client), End::Fin);
    reset(client);
    assert_eq!(end_of(&mut pod), End::Reset);
    pair.ringport.until_metrics("the other is counted", |metrics| metrics.ended("client_reset") == 1);
}

#[test]
fn a_reset_while_the_other_side_does_not_read_frees_the_session() {
    let pair = Pair::start(&[]);
    let files = pair.ringport.open_files();
    let (client, mut pod) = pair.session();
    write_until_stuck(&mut pod, &mut Stream::new(seed()));
    reset(client);
    assert_eq!(end_of(&mut pod), End::Reset);
    let session = pair.ringport.session();
    assert_eq!(session.reason(), "client_reset");
    assert!(session.bytes().2 > 0, "bytes were lost, and none is counted: {session:?}");
    pair.ringport.until_metrics("the session is over", |metrics| metrics.active() == 0);
    let left = pair.ringport.open_files();
    // Two pipes may stay in the pool, two descriptors each.
    assert!(left <= files + 4, "{files} descriptors before, {left} after");
}

/// One side writes until nothing more fits, as the other never reads, and resets. Nobody receives from it then.
fn reset_behind_a_side_that_never_reads(args: &[&str], from_pod: bool, reason: &str) {
    let pair = Pair::start(&[&["--shards", "1"], args].concat());
    let (client, pod) = pair.session();
    let (mut writer, mut reader): (TcpStream, TcpStream) =
        if from_pod { (pod, client) } else { (client, pod) };
    let (sent, _) = write_until_stuck(&mut writer, &mut Stream::new(seed()));
    reset(writer);
    let (took, session) = time(|| pair.ringport.session());
    assert_eq!(session.reason(), reason);
    // A second until it is noticed, five to deliver what came before, and what the machine needs.
    assert!((5.0..15.0).contains(&took.as_secs_f64()), "{took:?}");
    pair.ringport.until_metrics("the session is over", |metrics| metrics.active() == 0);
    // What did arrive is right, and is not taken for the whole.
    let (got, end) = read_to_end(&mut reader);
    assert_eq!(end, End::Reset);
    assert!(got.len() < sent, "{} of {sent} bytes", got.len());
}

#[test]
fn h8_the_pods_reset_ends_a_session_whose_client_never_reads() {
    reset_behind_a_side_that_never_reads(&[], true, "endpoint_reset");
}

#[test]
fn h8_the_same_while_copying() {
    reset_behind_a_side_that_never_reads(&["--splice=false"], true, "endpoint_reset");
}

#[test]
fn h8_the_clients_reset_ends_a_session_whose_pod_never_reads() {
    reset_behind_a_side_that_never_reads(&["--user-timeout", "0s"], false, "client_reset");
}

/// What came before a FIN is whole: a slow reader gets all of it, also when a reset follows.
#[test]
fn h8_a_reset_behind_a_fin_does_not_hurry_a_slow_reader() {
    let pair = Pair::start(&["--shards", "1"]);
    let seed = seed();
    let (mut client, mut pod) = pair.session();
    // Never read by the pod, so that its close is a reset.
    client.write_all(b"unread").unwrap();
    let mut stream = Stream::new(seed);
    let mut sent = 0;
    let down = || pair.ringport.metrics().sum("ringport_bytes_total", &["direction=\"down\""]) as usize;
    // Until some cannot be delivered, and the pod is rid of all.
    while down() == sent {
        pod.write_all(&stream.next(CHUNK)).unwrap();
        sent += CHUNK;
        acknowledged(&pod);
        measure_for(Duration::from_millis(20));
    }
    finish(&pod);
    drop(pod);
    measure_for(Duration::from_secs(8));
    expect(&mut client, seed, sent);
    assert_eq!(end_of(&mut client), End::Fin);
}

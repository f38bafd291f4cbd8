//! A reset is passed on as a reset, after the bytes that came before it.

use std::io::Write;
use std::thread;

use crate::harness::bytes::{Stream, expect, seed, send, write_until_stuck};
use crate::harness::client::{End, acknowledged, end_of, exchange, finish, read_to_end, reset};
use crate::harness::rig::Pair;

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

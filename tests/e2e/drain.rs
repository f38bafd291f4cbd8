//! SIGTERM: nothing new, what is there may end, and then exit code 0.

use std::io::Write;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::bytes::{seed, send};
use crate::harness::client::{
    End, acknowledged, end_of, exchange, finish, read_to_end, reset, until_refused,
};
use crate::harness::rig::Pair;
use crate::harness::wait::{PATIENCE, time, until};

#[test]
fn an_idle_process_ends_at_once() {
    let mut pair = Pair::start(&["--drain-timeout", "60s"]);
    pair.ringport.signal(Signal::TERM);
    assert_eq!(pair.ringport.wait(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn sessions_in_flight_are_finished() {
    let mut pair = Pair::start(&["--drain-timeout", "60s"]);
    let (mut client, mut pod) = pair.session();
    exchange(&mut client, &mut pod, b"the question");
    pair.ringport.signal(Signal::INT);
    until_refused(pair.node);
    exchange(&mut pod, &mut client, b"half an answer");
    exchange(&mut client, &mut pod, b"go on");
    pod.write_all(b"the other half").unwrap();
    finish(&pod);
    assert_eq!(read_to_end(&mut client), (b"the other half".to_vec(), End::Fin));
    drop(client);
    assert_eq!(pair.ringport.wait(Duration::from_secs(10)).code(), Some(0));
    // The record is in the log although the process is gone.
    assert_eq!(pair.ringport.sessions_that_ended("complete").len(), 1);
}

#[test]
fn shards_without_sessions_refuse_while_another_finishes_its_own() {
    let pair = Pair::start(&["--shards", "4", "--drain-timeout", "60s"]);
    let (mut client, mut pod) = pair.session();
    exchange(&mut client, &mut pod, b"hello");
    pair.ringport.signal(Signal::TERM);
    until_refused(pair.node);
    exchange(&mut client, &mut pod, b"undisturbed");
}

#[test]
fn the_drain_timeout_cuts_what_is_left() {
    let mut pair = Pair::start(&["--drain-timeout", "1s"]);
    let (mut client, mut pod) = pair.session();
    exchange(&mut client, &mut pod, b"hello");
    pair.ringport.signal(Signal::TERM);
    assert_eq!(end_of(&mut client), End::Reset);
    assert_eq!(end_of(&mut pod), End::Reset);
    assert_eq!(pair.ringport.wait(Duration::from_secs(10)).code(), Some(0));
    assert_eq!(pair.ringport.session().reason(), "drain_timeout");
}

#[test]
fn a_second_signal_ends_it_now() {
    let mut pair = Pair::start(&["--drain-timeout", "600s"]);
    let (mut client, mut pod) = pair.session();
    exchange(&mut client, &mut pod, b"hello");
    pair.ringport.signal(Signal::TERM);
    until_refused(pair.node);
    exchange(&mut client, &mut pod, b"not yet");
    pair.ringport.signal(Signal::TERM);
    pair.ringport.wait(Duration::from_secs(10));
    let mut ends = [end_of(&mut client), end_of(&mut pod)];
    ends.sort_by_key(|end| *end == End::Fin);
    assert_eq!(ends[0], End::Reset, "a session was cut as if it were complete");
}

#[test]
fn a_second_signal_ends_it_now_while_a_reset_waits_for_a_slow_client() {
    let mut pair = Pair::start(&["--drain-timeout", "600s"]);
    let (_client, mut pod) = pair.session();
    // More than the client's window, less than the buffer for it.
    send(&mut pod, seed(), 512 * 1024);
    acknowledged(&pod);
    reset(pod);
    pair.ringport.signal(Signal::TERM);
    until_refused(pair.node);
    let (took, status) = time(|| {
        pair.ringport.signal(Signal::TERM);
        pair.ringport.wait(PATIENCE)
    });
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn while_it_drains_it_is_not_ready_but_alive() {
    let mut pair = Pair::start(&["--drain-timeout", "60s"]);
    let (client, pod) = pair.session();
    pair.ringport.signal(Signal::TERM);
    until("/readyz says no", || (pair.ringport.health("/readyz") == 503).then_some(()));
    assert_eq!(pair.ringport.health("/livez"), 200);
    drop((client, pod));
    assert_eq!(pair.ringport.wait(PATIENCE).code(), Some(0));
}

//! FIN on one side is passed on after its bytes; the other direction goes on.

use std::io::{Read, Write};
use std::thread;

use crate::harness::bytes::{expect, seed, send};
use crate::harness::client::{End, end_of, exchange, finish, read_to_end};
use crate::harness::rig::Pair;

#[test]
fn the_pod_answers_after_the_clients_fin() {
    let pair = Pair::start(&[]);
    let (mut client, mut pod) = pair.session();
    client.write_all(b"the question").unwrap();
    finish(&client);
    assert_eq!(read_to_end(&mut pod), (b"the question".to_vec(), End::Fin));
    exchange(&mut pod, &mut client, b"the first part of the answer");
    exchange(&mut pod, &mut client, b"and the second");
    drop(pod);
    assert_eq!(end_of(&mut client), End::Fin);
    let session = pair.ringport.session();
    assert_eq!(session.reason(), "complete");
    assert_eq!(session.bytes(), (12, 42, 0));
}

#[test]
fn the_client_goes_on_after_the_pods_fin() {
    let pair = Pair::start(&[]);
    let (mut client, mut pod) = pair.session();
    pod.write_all(b"greetings").unwrap();
    finish(&pod);
    assert_eq!(read_to_end(&mut client), (b"greetings".to_vec(), End::Fin));
    exchange(&mut client, &mut pod, b"still here");
    exchange(&mut client, &mut pod, b"and here");
    drop(client);
    assert_eq!(end_of(&mut pod), End::Fin);
    let session = pair.ringport.session();
    assert_eq!(session.reason(), "complete");
    assert_eq!(session.bytes(), (18, 9, 0));
}

#[test]
fn a_long_answer_after_the_clients_fin_is_whole() {
    const LENGTH: usize = 24 << 20;
    let pair = Pair::start(&[]);
    let seed = seed();
    let (mut client, mut pod) = pair.session();
    finish(&client);
    assert_eq!(end_of(&mut pod), End::Fin);
    thread::scope(|scope| {
        scope.spawn(|| {
            send(&mut pod, seed, LENGTH);
            finish(&pod);
        });
        expect(&mut client, seed, LENGTH);
        assert_eq!(end_of(&mut client), End::Fin);
    });
    assert_eq!(pair.ringport.session().bytes(), (0, LENGTH as u64, 0));
}

#[test]
fn a_long_upload_after_the_pods_fin_is_whole() {
    const LENGTH: usize = 24 << 20;
    let pair = Pair::start(&[]);
    let seed = seed();
    let (mut client, mut pod) = pair.session();
    finish(&pod);
    assert_eq!(end_of(&mut client), End::Fin);
    thread::scope(|scope| {
        scope.spawn(|| {
            send(&mut client, seed, LENGTH);
            finish(&client);
        });
        expect(&mut pod, seed, LENGTH);
        assert_eq!(end_of(&mut pod), End::Fin);
    });
    assert_eq!(pair.ringport.session().bytes(), (LENGTH as u64, 0, 0));
}

#[test]
fn both_fins_at_once_end_the_session() {
    let pair = Pair::start(&[]);
    for _ in 0..50 {
        let (mut client, mut pod) = pair.session();
        finish(&client);
        finish(&pod);
        assert_eq!(end_of(&mut client), End::Fin);
        assert_eq!(end_of(&mut pod), End::Fin);
    }
    pair.ringport.until_metrics("all sessions are over", |metrics| metrics.active() == 0);
    assert_eq!(pair.ringport.metrics().ended("complete"), 50);
}

#[test]
fn data_and_fin_that_wait_before_the_pod_accepts_arrive() {
    let pair = Pair::start(&[]);
    // The client has said all and gone half-closed before the pod so much as accepts.
    let mut client = crate::harness::client::connect(pair.node);
    client.write_all(b"early").unwrap();
    finish(&client);
    let mut pod = pair.accept();
    let mut text = String::new();
    pod.read_to_string(&mut text).unwrap();
    assert_eq!(text, "early");
    exchange(&mut pod, &mut client, b"late");
    drop(pod);
    assert_eq!(end_of(&mut client), End::Fin);
}

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::super::{Arrived, Datagram, Datagrams, Senders};
use super::*;
use crate::limits;
use crate::net::udp;

/// The payload, how often it was tried, and the error.
type Told = (Vec<u8>, u8, Option<i32>);

/// Notes what it is told.
#[derive(Default)]
struct Witness(RefCell<Vec<Told>>);

impl Sender for Witness {
    fn sent(&self, sent: &Outgoing) {
        self.0.borrow_mut().push((sent.payload.bytes().to_vec(), sent.tried, None));
    }

    fn failed(self: Rc<Self>, failed: Outgoing, error: io::Error) {
        let told = (failed.payload.bytes().to_vec(), failed.tried, error.raw_os_error());
        self.0.borrow_mut().push(told);
    }
}

/// A ring that hears a socket, and a client that sends to it.
struct Rig {
    ring: Ring,
    heard: Datagrams,
    _socket: UdpSocket,
    client: OwnedFd,
    witness: Rc<Witness>,
}

impl Rig {
    fn new() -> Self {
        let ring = RelayRing::new(Arc::default()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp::gather(&socket);
        let heard = ring.datagrams(&socket, Senders::Anyone).unwrap();
        let client = udp::towards(socket.local_addr().unwrap(), None).unwrap();
        Self { ring, heard, _socket: socket, client, witness: Rc::default() }
    }

    /// A datagram that has arrived: several where there is a segment.
    fn datagram(&mut self, payload: &[u8], segment: Option<u16>) -> Outgoing {
        udp::send(&self.client, &Route::default(), payload, segment).unwrap();
        for _ in 0..1000 {
            match self.heard.poll_next(&Context::from_waker(Waker::noop())) {
                Poll::Ready(Arrived::Datagram(Datagram { payload: heard, .. })) => {
                    assert_eq!((heard.bytes(), heard.segment), (payload, segment));
                    return Outgoing { payload: heard, direction: Direction::Up, tried: payload[0] };
                }
                Poll::Ready(Arrived::Failed(error)) => panic!("{error}"),
                Poll::Pending => self.ring.turn(Some(Duration::from_millis(10))),
            }
        }
        panic!("nothing came in 10 s");
    }

    fn send(&self, socket: &RingFd, route: &Route<'_>, outgoing: Outgoing) {
        self.ring.send(socket, route, self.witness.clone(), outgoing);
    }

    fn fd(&self, socket: impl Into<OwnedFd>) -> RingFd {
        RingFd::new(&self.ring, socket.into())
    }

    /// A socket that is connected to an address.
    fn towards(&self, to: SocketAddr) -> RingFd {
        self.fd(udp::towards(to, None).unwrap())
    }

    fn turn(&self) -> Vec<Told> {
        self.ring.turn(Some(Duration::ZERO));
        self.witness.0.take()
    }
}

fn pod() -> UdpSocket {
    let pod = UdpSocket::bind("127.0.0.1:0").unwrap();
    pod.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    pod
}

fn next(pod: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let got = pod.recv(&mut buffer).unwrap();
    buffer.truncate(got);
    buffer
}

#[test]
fn o6_what_is_queued_leaves_with_one_turn_in_its_order_and_is_told() {
    let mut rig = Rig::new();
    let pod = pod();
    let to = pod.local_addr().unwrap();
    let address = Rc::new(to.into());
    let (connected, open) = (rig.towards(to), rig.fd(UdpSocket::bind("127.0.0.1:0").unwrap()));
    // More than there are buffers, so that each is used again.
    for round in 0..usize::from(limits::DATAGRAM_BUFFERS) {
        let (one, two) = (rig.datagram(&[1; 60], None), rig.datagram(&[2; 2500], Some(1000)));
        let three = rig.datagram(&[3; 70], None);
        rig.send(&connected, &Route::default(), one);
        rig.send(&connected, &Route::default(), two);
        rig.send(&open, &Route { to: Some(&address), from: None }, three);
        let told: Vec<_> =
            rig.turn().into_iter().map(|(bytes, tried, error)| (bytes.len(), tried, error)).collect();
        assert_eq!(told, [(60, 1, None), (2500, 2, None), (70, 3, None)], "round {round}");
        let sizes: Vec<usize> = (0..5).map(|_| next(&pod).len()).collect();
        assert_eq!(sizes, [60, 1000, 1000, 500, 70]);
    }
    assert_eq!(rig.ring.counters.no_buffers.get(), 0, "every buffer came back");
}

#[test]
fn a_refusal_is_told_with_the_datagram_and_the_others_of_the_turn_go() {
    let mut rig = Rig::new();
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (dead, pod) = (rig.towards(gone), pod());
    let alive = rig.towards(pod.local_addr().unwrap());
    udp::send(&dead, &Route::default(), b"x", None).unwrap();
    let (one, two) = (rig.datagram(&[1; 10], None), rig.datagram(&[2; 20], None));
    rig.send(&dead, &Route::default(), one);
    rig.send(&alive, &Route::default(), two);
    let told = rig.turn();
    assert_eq!(told, [(vec![1; 10], 1, Some(libc::ECONNREFUSED)), (vec![2; 20], 2, None)]);
    assert_eq!(next(&pod), [2; 20]);
    // It does not fit a socket that takes nothing; nobody waits for room.
    let large = rig.datagram(&[4; 65_000], None);
    let other = rig.fd(UdpSocket::bind("[::1]:0").unwrap());
    rig.send(&other, &Route { to: Some(&Rc::new(gone.into())), from: None }, large);
    let told = rig.turn();
    assert!(matches!(told.as_slice(), [(bytes, 4, Some(_))] if bytes.len() == 65_000), "{}", told.len());
}

#[test]
fn a_reply_leaves_from_the_address_it_is_told() {
    let mut rig = Rig::new();
    for (listen, from) in [("0.0.0.0:0", "127.0.0.5"), ("[::]:0", "::ffff:127.0.0.6")] {
        let (socket, client) = (rig.fd(UdpSocket::bind(listen).unwrap()), pod());
        let mut to = client.local_addr().unwrap();
        if let (IpAddr::V4(ip), true) = (to.ip(), listen.starts_with('[')) {
            to.set_ip(ip.to_ipv6_mapped().into());
        }
        let (to, from): (_, IpAddr) = (Rc::new(to.into()), from.parse().unwrap());
        for segment in [None, Some(2)] {
            let reply = rig.datagram(b"abc", segment);
            rig.send(&socket, &Route { to: Some(&to), from: Some((from, 0)) }, reply);
            assert_eq!(rig.turn().len(), 1);
            let mut buffer = [0; 16];
            let (n, peer) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((n, peer.ip()), (segment.map_or(3, usize::from), from.to_canonical()));
            if segment.is_some() {
                assert_eq!(client.recv(&mut buffer).unwrap(), 1);
            }
        }
    }
}

#[test]
fn a_sender_may_send_again_when_it_is_told() {
    /// Gives what was refused to another socket.
    struct Second(RingFd, Ring, Rc<Witness>);

    impl Sender for Second {
        fn sent(&self, _: &Outgoing) {
            panic!("the first socket refuses");
        }

        fn failed(self: Rc<Self>, failed: Outgoing, _: io::Error) {
            self.1.send(&self.0, &Route::default(), self.2.clone(), Outgoing { tried: 9, ..failed });
        }
    }

    let mut rig = Rig::new();
    let pod = pod();
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = rig.towards(gone);
    udp::send(&dead, &Route::default(), b"x", None).unwrap();
    let alive = rig.towards(pod.local_addr().unwrap());
    let second = Rc::new(Second(alive, rig.ring.clone(), rig.witness.clone()));
    let one = rig.datagram(&[1; 10], None);
    rig.ring.send(&dead, &Route::default(), second.clone(), one);
    assert_eq!(rig.turn(), []);
    assert_eq!(rig.turn(), [(vec![1; 10], 9, None)]);
    assert_eq!(next(&pod), [1; 10]);
}

#[test]
fn o4_a_registered_number_is_used_again_only_behind_all_that_was_queued_for_it() {
    let mut rig = Rig::new();
    let (first, second) = (pod(), pod());
    for round in 0..limits::RING_FILES + 10 {
        let old = rig.towards(first.local_addr().unwrap());
        old.register();
        let number = old.number.get().expect("a number");
        old.register();
        assert_eq!((old.number.get(), number < 2), (Some(number), true), "round {round}");
        let one = rig.datagram(&[1; 10], None);
        rig.send(&old, &Route::default(), one);
        drop(old);
        let new = rig.towards(second.local_addr().unwrap());
        new.register();
        assert_ne!(new.number.get(), Some(number), "its last datagram is not sent yet");
        let two = rig.datagram(&[2; 20], None);
        rig.send(&new, &Route::default(), two);
        assert_eq!(rig.turn(), [(vec![1; 10], 1, None), (vec![2; 20], 2, None)]);
        assert_eq!((next(&first), next(&second)), (vec![1; 10], vec![2; 20]));
        drop(new);
        rig.turn();
    }
}

#[test]
fn without_a_number_left_a_socket_sends_all_the_same() {
    let mut rig = Rig::new();
    let pod = pod();
    let busy = rig.towards(pod.local_addr().unwrap());
    let many: Vec<RingFd> = (0..limits::RING_FILES).map(|_| rig.fd((*busy).try_clone().unwrap())).collect();
    many.iter().for_each(RingFd::register);
    assert!(many.iter().all(|fd| fd.number.get().is_some()));
    busy.register();
    assert_eq!(busy.number.get(), None);
    for fd in [&busy, &many[7]] {
        let one = rig.datagram(&[1; 10], None);
        rig.send(fd, &Route::default(), one);
        assert_eq!((rig.turn().len(), next(&pod)), (1, vec![1; 10]));
    }
}

use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use proptest::prelude::*;
use socket2::SockRef;

use super::*;
use crate::limits;
use crate::net::udp::{self, Route};

fn ring() -> Ring {
    RelayRing::new(Arc::default()).unwrap()
}

/// Turns the ring until something has arrived. Fails after about 10 s.
fn next(ring: &Ring, datagrams: &mut Datagrams) -> Arrived {
    for _ in 0..1000 {
        if let Poll::Ready(arrived) = datagrams.poll_next(&Context::from_waker(Waker::noop())) {
            return arrived;
        }
        ring.turn(Some(Duration::from_millis(10)));
    }
    panic!("nothing came in 10 s");
}

fn datagram(ring: &Ring, datagrams: &mut Datagrams) -> Datagram {
    match next(ring, datagrams) {
        Arrived::Datagram(datagram) => datagram,
        Arrived::Failed(error) => panic!("{error}"),
    }
}

fn set(socket: &impl AsFd, level: i32, name: i32, value: i32) {
    let size = size_of::<i32>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: these options read one int.
    assert_eq!(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size) }, 0);
}

#[test]
fn a_datagram_says_who_sent_it_and_to_which_address() {
    let ring = ring();
    for (listen, from, to, local) in [
        (Some("0.0.0.0"), "127.0.0.1:0", "127.0.0.9", "127.0.0.9"),
        (Some("::"), "[::1]:0", "::1", "::1"),
        (None, "127.0.0.1:0", "127.0.0.9", "::ffff:127.0.0.9"),
        (None, "[::1]:0", "::1", "::1"),
    ] {
        let socket = udp::frontend(listen.map(|ip| ip.parse().unwrap()), 0).unwrap();
        let port = SockRef::from(&socket).local_addr().unwrap().as_socket().unwrap().port();
        let mut datagrams = ring.datagrams(&socket, Senders::Anyone).unwrap();
        let client = UdpSocket::bind(from).unwrap();
        client.send_to(b"hello", (to, port)).unwrap();
        let datagram = datagram(&ring, &mut datagrams);
        assert_eq!(datagram.payload.bytes(), b"hello");
        assert_eq!(
            (datagram.truncated, datagram.payload.segment, datagram.payload.count()),
            (false, None, 1)
        );
        let from = datagram.from.unwrap();
        assert_eq!((from.ip().to_canonical(), from.port()), {
            let client = client.local_addr().unwrap();
            (client.ip(), client.port())
        });
        assert_eq!(datagram.to.unwrap(), LocalAddr { ip: local.parse().unwrap(), interface: 0 });
        drop(datagrams);
        ring.close(socket);
    }
}

#[test]
fn empty_and_largest_datagrams_come_whole_and_the_stream_goes_on() {
    let ring = ring();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut datagrams = ring.datagrams(&socket, Senders::Anyone).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    for round in 0..3 * usize::from(limits::DATAGRAM_BUFFERS) {
        let size = [0, 1, 1472, 65_507][round % 4];
        let payload: Vec<u8> = (0..size).map(|i| (i * 7 + round) as u8).collect();
        client.send(&payload).unwrap();
        let datagram = datagram(&ring, &mut datagrams);
        assert!(datagram.payload.bytes() == payload && !datagram.truncated, "round {round}: {size} bytes");
    }
    assert_eq!(ring.counters.no_buffers.get(), 0, "every buffer came back");
}

#[test]
fn datagrams_of_one_size_come_together_and_are_counted() {
    let ring = ring();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    set(&socket, libc::SOL_UDP, libc::UDP_GRO, 1);
    let mut datagrams = ring.datagrams(&socket, Senders::Anyone).unwrap();
    let client = udp::towards(socket.local_addr().unwrap(), None).unwrap();
    let payload: Vec<u8> = (0..3_100u32).map(|i| i as u8).collect();
    udp::send(&client, &Route::default(), &payload, Some(1_000)).unwrap();
    let together = datagram(&ring, &mut datagrams);
    assert_eq!(
        (together.payload.bytes(), together.payload.segment, together.payload.count()),
        (&payload[..], Some(1_000), 4)
    );
}

/// A socket that hears one peer, and the peer.
fn peers() -> (OwnedFd, UdpSocket) {
    let pod = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = udp::towards(pod.local_addr().unwrap(), None).unwrap();
    pod.connect(SockRef::from(&socket).local_addr().unwrap().as_socket().unwrap()).unwrap();
    (socket, pod)
}

#[test]
fn a_peers_empty_and_largest_datagrams_come_whole_and_the_stream_goes_on() {
    let ring = ring();
    let (socket, pod) = peers();
    let mut datagrams = ring.datagrams(&socket, Senders::Peer).unwrap();
    for round in 0..3 * usize::from(limits::DATAGRAM_BUFFERS) {
        let size = [0, 0, 1, 1472, 65_507][round % 5];
        let payload: Vec<u8> = (0..size).map(|i| (i * 7 + round) as u8).collect();
        pod.send(&payload).unwrap();
        let datagram = datagram(&ring, &mut datagrams);
        assert!(datagram.payload.bytes() == payload && !datagram.truncated, "round {round}: {size} bytes");
        assert!(datagrams.poll_next(&Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!((datagrams.form, ring.counters.no_buffers.get()), (Form::Bare, 0));
}

#[test]
fn a_peer_that_sends_many_in_a_row_is_heard_in_batches_from_then_on_and_nothing_is_lost() {
    let ring = ring();
    let (socket, pod) = peers();
    let pod: OwnedFd = pod.into();
    let mut datagrams = ring.datagrams(&socket, Senders::Peer).unwrap();
    let (mut sent, mut together) = (0, 0);
    let mut heard = 0;
    for round in 0..200 {
        // Alone, and some that leave as one and, as long as nobody asks otherwise, arrive one by one.
        for count in [1, 5, 1] {
            let payload: Vec<u8> = (sent..sent + count).flat_map(u64::to_ne_bytes).collect();
            udp::send(&pod, &Route::default(), &payload, Some(8)).unwrap();
            sent += count;
        }
        while heard < sent {
            let datagram = datagram(&ring, &mut datagrams);
            assert_eq!(datagram.payload.bytes().len() as u64, 8 * datagram.payload.count(), "round {round}");
            for number in datagram.payload.bytes().chunks(8) {
                assert_eq!(u64::from_ne_bytes(number.try_into().unwrap()), heard, "round {round}");
                heard += 1;
            }
            together += u64::from(datagram.payload.count() > 1);
        }
    }
    assert_eq!(datagrams.form, Form::Told(Senders::Peer));
    assert!(together > 150, "{together} of 200 came together");
}

#[test]
fn a_peer_for_whom_buffers_run_out_is_heard_in_batches_from_then_on() {
    let ring = ring();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    set(&other, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 16 << 20);
    let mut others = ring.datagrams(&other, Senders::Anyone).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    // All buffers but one are somebody else's.
    let held: Vec<Datagram> = (1..limits::DATAGRAM_BUFFERS)
        .map(|_| {
            client.send_to(b"x", other.local_addr().unwrap()).unwrap();
            datagram(&ring, &mut others)
        })
        .collect();
    let (socket, pod) = peers();
    let mut datagrams = ring.datagrams(&socket, Senders::Peer).unwrap();
    for number in 0..100u32 {
        pod.send(&number.to_ne_bytes()).unwrap();
    }
    for number in 0..100u32 {
        assert_eq!(datagram(&ring, &mut datagrams).payload.bytes(), number.to_ne_bytes());
    }
    assert!(ring.counters.no_buffers.get() > 0);
    assert_eq!(datagrams.form, Form::Told(Senders::Peer));
    drop(held);
}

#[test]
fn an_icmp_error_is_told_and_not_the_end() {
    let ring = ring();
    let pod = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = pod.local_addr().unwrap();
    drop(pod);
    let socket = udp::towards(address, None).unwrap();
    let mut datagrams = ring.datagrams(&socket, Senders::Peer).unwrap();
    assert!(datagrams.poll_next(&Context::from_waker(Waker::noop())).is_pending());
    ring.turn(Some(Duration::ZERO));
    udp::send(&socket, &Route::default(), b"anybody?", None).unwrap();
    match next(&ring, &mut datagrams) {
        Arrived::Failed(error) => assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED)),
        Arrived::Datagram(_) => panic!("an answer of nobody"),
    }
    let pod = UdpSocket::bind(address).unwrap();
    let me = SockRef::from(&socket).local_addr().unwrap().as_socket().unwrap();
    pod.send_to(b"back", me).unwrap();
    assert_eq!(datagram(&ring, &mut datagrams).payload.bytes(), b"back");
}

#[test]
fn o5_more_datagrams_than_buffers_all_come_once_buffers_are_given_back() {
    let ring = ring();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 16 << 20);
    let room = SockRef::from(&socket).recv_buffer_size().unwrap();
    let mut datagrams = ring.datagrams(&socket, Senders::Anyone).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    let count = u32::from(limits::DATAGRAM_BUFFERS) * 2 + 10;
    assert!(room > count as usize * 1024, "a receive buffer of {room} bytes is too small for this test");
    for number in 0..count {
        client.send(&number.to_ne_bytes()).unwrap();
    }
    // Keeps all that come until there are no more buffers.
    let mut held = Vec::new();
    while ring.counters.no_buffers.get() == 0 {
        match datagrams.poll_next(&Context::from_waker(Waker::noop())) {
            Poll::Ready(Arrived::Datagram(datagram)) => held.push(datagram),
            Poll::Ready(Arrived::Failed(error)) => panic!("{error}"),
            Poll::Pending => ring.turn(Some(Duration::from_millis(10))),
        }
        assert!(held.len() <= usize::from(limits::DATAGRAM_BUFFERS));
    }
    let mut numbers: Vec<u32> = held.iter().map(number).collect();
    held.clear();
    while numbers.len() < count as usize {
        numbers.push(number(&datagram(&ring, &mut datagrams)));
    }
    assert!(numbers.into_iter().eq(0..count), "out of order, or lost");
}

fn number(datagram: &Datagram) -> u32 {
    u32::from_ne_bytes(datagram.payload.bytes().try_into().unwrap())
}

#[test]
fn o3_o4_a_dropped_stream_gives_back_its_buffers_and_the_next_socket_gets_only_its_own() {
    let ring = ring();
    for round in 0..u32::from(limits::DATAGRAM_BUFFERS) + 50 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut datagrams = ring.datagrams(&socket, Senders::Anyone).unwrap();
        client.send_to(&round.to_ne_bytes(), socket.local_addr().unwrap()).unwrap();
        if round % 2 == 0 {
            // Dropped while queued, or while the kernel has it.
            let _ = datagrams.poll_next(&Context::from_waker(Waker::noop()));
            if round % 4 == 0 {
                ring.turn(Some(Duration::from_millis(5)));
            }
        } else {
            assert_eq!(number(&datagram(&ring, &mut datagrams)), round);
        }
        drop(datagrams);
        ring.close(socket.into());
    }
    assert_eq!(ring.counters.no_buffers.get(), 0);
}

#[test]
fn what_a_full_socket_drops_is_told_by_the_next_datagram() {
    let ring = ring();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    set(&socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
    SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    for _ in 0..100 {
        client.send(&[0; 1000]).unwrap();
    }
    let mut datagrams = ring.datagrams(&socket, Senders::Anyone).unwrap();
    let mut came = 0;
    let dropped = loop {
        let datagram = datagram(&ring, &mut datagrams);
        came += 1;
        if let Some(dropped) = datagram.overflows {
            break dropped;
        }
        // It rides on one that came after the loss.
        client.send(&[0; 1000]).unwrap();
    };
    assert!(dropped > 0 && dropped < 100, "{dropped} after {came}");
}

proptest! {
    #[test]
    fn whatever_stands_in_a_control_buffer_is_read_without_a_panic(bytes: Vec<u8>) {
        Control::read(&bytes);
        address(&bytes);
    }

    #[test]
    fn what_the_kernel_writes_is_understood(ip: u32, interface: u32, size in 1u16.., lost: u32) {
        let mut bytes = Vec::new();
        let mut push = |level: i32, kind: i32, data: &[u8]| {
            bytes.extend((16 + data.len()).to_ne_bytes());
            bytes.extend(level.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(data);
            bytes.resize(bytes.len().next_multiple_of(8), 0xee);
        };
        let ip = Ipv4Addr::from(ip);
        push(libc::SOL_UDP, libc::UDP_GRO, &i32::from(size).to_ne_bytes());
        push(9999, 1, b"what nobody asked for");
        let info = [interface.to_ne_bytes(), [9; 4], ip.octets()].concat();
        push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        push(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &lost.to_ne_bytes());
        let to = Some(LocalAddr { ip: ip.into(), interface: 0 });
        prop_assert_eq!(Control::read(&bytes), Control { to, segment: Some(size), overflows: Some(lost) });
    }
}

//! Datagrams of every size, many at once, and several in one.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use ringport::net::udp::{Route, send};

use super::peers::{Fleet, Service, ask, bind, client, counted};
use crate::harness::bytes::{Stream, seed};
use crate::harness::netns::{Host, Lab, NODE, POD, pod_ip};
use crate::harness::process::Ringport;
use crate::harness::rig::local;
use crate::harness::wait::{PATIENCE, measure_for, until};
use crate::harness::world::World;

#[test]
fn datagrams_of_every_size_go_both_ways_whole() {
    let fleet = Fleet::start(1, &[]);
    let client = client(fleet.node);
    let mut stream = Stream::new(seed());
    // The pod adds its name to the answer: 65,507 is the largest there is.
    for size in [0, 1, 511, 1472, 1473, 9000, 32_768, 65_000, 65_507 - "pod-0:".len()] {
        assert_eq!(ask(&client, &stream.next(size)).unwrap(), "pod-0", "{size} bytes");
    }
    // Upwards it is whole at that size, downwards the pod has cut it.
    client.send(&stream.next(65_507)).unwrap();
    assert_eq!(client.recv(&mut vec![0; 70_000]).unwrap(), 65_507);
    let metrics = fleet.ringport.metrics();
    assert_eq!(metrics.sum("ringport_datagrams_dropped_total", &[]), 0);
}

#[test]
fn a_burst_larger_than_all_receive_buffers_is_delivered() {
    let fleet = Fleet::start(1, &["--shards", "1"]);
    let client = client(fleet.node);
    ask(&client, b"?").unwrap();
    fleet.pod("pod-0").mute();
    // What the kernel lets wait for the pod is some 200 datagrams; ringport's own sockets hold more.
    for burst in 1..=50 {
        for _ in 0..100 {
            client.send(b"burst").unwrap();
        }
        until("all have come", || (fleet.pod("pod-0").received() > burst * 100).then_some(()));
    }
    let metrics = counted(&fleet.ringport, "up", 5_001);
    assert_eq!(metrics.sum("ringport_datagrams_dropped_total", &[]), 0);
}

#[test]
fn answers_that_come_together_arrive_one_by_one() {
    let world = World::new();
    let ip = world.ip();
    let (target_port, mut sockets) = bind(&[ip]);
    let pod = sockets.remove(0);
    pod.set_read_timeout(Some(PATIENCE)).unwrap();
    let service = Service::new(target_port, world.port());
    world.apply("service", &service.yaml());
    world.apply("pod-0", &super::peers::pod(0, ip));
    let ringport = Ringport::start(&world, &[]);
    let client = client(local(service.node_port));
    client.send(b"stream, please").unwrap();
    let (_, flow) = pod.recv_from(&mut [0; 64]).unwrap();
    let pod: OwnedFd = pod.into();
    let mut buffer = vec![0; 70_000];
    // Enough of them that the flow counts as a busy one on the way.
    for round in 0..8u8 {
        // One that says nothing is an answer, too.
        send(&pod, &Route { to: Some(&Rc::new(flow.into())), from: None }, b"", None).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 0, "round {round}");
        let payload: Vec<u8> = (0..11_500u32).map(|i| (i as u8).wrapping_mul(round)).collect();
        send(&pod, &Route { to: Some(&Rc::new(flow.into())), from: None }, &payload, Some(1_200)).unwrap();
        for part in payload.chunks(1_200) {
            let n = client.recv(&mut buffer).unwrap();
            assert!(&buffer[..n] == part, "round {round}");
        }
    }
    let metrics = counted(&ringport, "down", 88);
    assert_eq!(metrics.sum("ringport_bytes_total", &["direction=\"down\""]), 8 * 11_500);
    assert_eq!(metrics.sum("ringport_datagrams_dropped_total", &[]), 0);
}

#[test]
fn datagrams_that_come_together_arrive_one_by_one() {
    let fleet = Fleet::start(1, &[]);
    let socket = client(fleet.node);
    ask(&socket, b"?").unwrap();
    let socket: OwnedFd = socket.into();
    let payload: Vec<u8> = (0..30_500u32).map(|i| i as u8).collect();
    send(&socket, &Route::default(), &payload, Some(1_000)).unwrap();
    let socket = UdpSocket::from(socket);
    let mut buffer = vec![0; 70_000];
    for part in payload.chunks(1_000) {
        let n = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], [b"pod-0:", part].concat());
    }
    let metrics = counted(&fleet.ringport, "up", 32);
    assert_eq!(metrics.sum("ringport_bytes_total", &["direction=\"up\""]), 30_501);
}

#[test]
fn what_does_not_fit_the_way_together_goes_one_by_one_and_in_order() {
    const SIZE: u16 = 1450;
    let Some(lab) = Lab::new() else { return };
    lab.node.ip("link set inside mtu 1400");
    lab.pods.ip("link set eth0 mtu 1400");
    let world = World::new();
    let service = Service::new(8080, world.port());
    world.apply("service", &service.yaml());
    world.apply("pod", &super::peers::pod(0, POD[0].parse().unwrap()));
    let pod = lab.pods.run(|| UdpSocket::bind((pod_ip(0, 0), 8080))).unwrap();
    pod.set_read_timeout(Some(PATIENCE)).unwrap();
    let ringport = lab.node.run(|| {
        let ringport = Ringport::spawn_through(&world, &["env"], &[]);
        ringport.wait_ready();
        ringport
    });
    let node = SocketAddr::new(NODE[0].parse().unwrap(), service.node_port);
    let socket: OwnedFd = lab.client.run(|| client(node)).into();
    let mut buffer = vec![0; 70_000];
    // The first burst finds out; the others, each with a small one behind it, come as they were sent.
    for burst in 0..20u8 {
        let payload: Vec<u8> =
            (0..10u8).flat_map(|n| [&[burst, n][..], &[0; SIZE as usize - 2]].concat()).collect();
        send(&socket, &Route::default(), &payload, Some(SIZE)).unwrap();
        let small = burst > 0;
        if small {
            send(&socket, &Route::default(), &[burst, 10], None).unwrap();
        }
        for n in 0..10 + u8::from(small) {
            let got = pod.recv(&mut buffer).unwrap();
            let size = if n < 10 { usize::from(SIZE) } else { 2 };
            assert_eq!((got, &buffer[..2]), (size, &[burst, n][..]));
        }
    }
    let metrics = lab.node.run(|| counted(&ringport, "up", 20 * 11 - 1));
    assert_eq!(metrics.sum("ringport_datagrams_dropped_total", &[]), 0);
}

/// A router further on says that a datagram does not fit (ICMP): that one is lost, and the flow stays as it is.
#[test]
fn a_way_that_turns_out_to_be_narrow_ends_no_flow() {
    let (Some(lab), Some(far)) = (Lab::new(), Host::new("far")) else { return };
    // The host of the pods is a router here, with the pod behind it.
    lab.pods.join("narrow", &far, "eth0");
    lab.pods.ip("link set narrow mtu 1280");
    lab.pods.address("narrow", &["10.245.0.1/24"]);
    far.address("eth0", &["10.245.0.10/24"]);
    far.ip("route add default via 10.245.0.1");
    lab.pods.set_sysctl("net/ipv4/ip_forward", "1");
    lab.node.ip(&format!("route add 10.245.0.0/24 via {}", POD[0]));
    let world = World::new();
    let service = Service::new(8080, world.port());
    world.apply("service", &service.yaml());
    world.apply("pod", &super::peers::pod(0, "10.245.0.10".parse().unwrap()));
    let pod = super::peers::Pod::start("pod", far.run(|| UdpSocket::bind("10.245.0.10:8080")).unwrap());
    let ringport = lab.node.run(|| Ringport::start(&world, &[]));
    let client = lab.client.run(|| client(SocketAddr::new(NODE[0].parse().unwrap(), service.node_port)));
    ask(&client, b"small").unwrap();
    let large = [7; 1400];
    client.send(&large).unwrap();
    // What the router says is heard before there is something else to send.
    measure_for(Duration::from_millis(100));
    // From the next one on the kernel sends fragments.
    for _ in 0..2 {
        client.send(&large).unwrap();
    }
    until("they come", || (pod.received() == 3).then_some(()));
    assert_eq!(pod.peers().len(), 1, "the pod sees another flow\n{}", ringport.log());
    let metrics = lab.node.run(|| ringport.metrics());
    assert_eq!((metrics.active(), metrics.ended("local_error")), (1, 0));
    assert_eq!(metrics.sum("ringport_datagrams_dropped_total", &[]), 0);
}

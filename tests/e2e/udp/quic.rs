//! QUIC, with quinn on both sides: a client that holds on to its flow, and sends many datagrams at once.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::peers::{Fleet, Service, bind, pod};
use crate::harness::process::Ringport;
use crate::harness::rig::local;
use crate::harness::wait::{PATIENCE, until};
use crate::harness::world::World;

const SERVER: &str = "pod.ringport.test";
const MESSAGE: usize = 1 << 20;

#[test]
fn a_connection_stays_with_its_pod_while_that_serves() {
    let world = World::new();
    let ips: Vec<Ipv4Addr> = (0..2).map(|_| world.ip()).collect();
    let (target_port, sockets) = bind(&ips);
    let node_port = world.port();
    let service = Service::new(target_port, node_port);
    world.apply("service", &service.yaml());
    for (i, ip) in ips.iter().enumerate() {
        world.apply(&format!("pod-{i}"), &pod(i, *ip));
    }
    let ringport = Ringport::start(&world, &[]);
    let fleet = Fleet { ringport, pods: Vec::new(), world, service, ips, node: local(node_port) };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, client) = configs();
    let work = async {
        for (i, socket) in sockets.into_iter().enumerate() {
            let runtime = Arc::new(TokioRuntime);
            let endpoint = Endpoint::new(EndpointConfig::default(), Some(server.clone()), socket, runtime);
            tokio::spawn(serve(endpoint.unwrap(), format!("pod-{i}")));
        }
        // Until both pods have one.
        let mut connections: Vec<(Connection, String)> = Vec::new();
        while !["pod-0", "pod-1"].iter().all(|name| connections.iter().any(|(_, pod)| pod == name)) {
            assert!(connections.len() < 80, "one pod gets no connection");
            let connection = connect(&client, fleet.node).await;
            let name = exchange(&connection, 10).await;
            connections.push((connection, name));
        }
        for (connection, name) in &connections {
            assert_eq!(exchange(connection, MESSAGE).await, *name);
        }
        fleet.terminate("pod-0");
        for (connection, name) in &connections {
            assert_eq!(exchange(connection, MESSAGE).await, *name, "an open connection has moved");
        }
        for _ in 0..4 {
            let connection = connect(&client, fleet.node).await;
            assert_eq!(exchange(&connection, 10).await, "pod-1", "a new one goes to the pod that stays");
        }
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await }).expect("QUIC hangs");
    until("what was sent is counted", || {
        let metrics = fleet.ringport.metrics();
        let bytes = |way| metrics.sum("ringport_bytes_total", &[way]);
        // Each connection has carried two messages each way.
        (bytes("direction=\"up\"").min(bytes("direction=\"down\"")) > 4 * MESSAGE as u64).then_some(())
    });
}

/// Answers each stream with the pod's name and what came.
async fn serve(endpoint: Endpoint, name: String) {
    while let Some(incoming) = endpoint.accept().await {
        let name = name.clone();
        tokio::spawn(async move {
            let connection = incoming.await.unwrap();
            while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                let message = receive.read_to_end(2 * MESSAGE).await.unwrap();
                send.write_all(name.as_bytes()).await.unwrap();
                send.write_all(&message).await.unwrap();
                send.finish().unwrap();
            }
        });
    }
}

/// A connection from a port of its own.
async fn connect(config: &ClientConfig, to: SocketAddr) -> Connection {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime)).unwrap();
    endpoint.connect_with(config.clone(), to, SERVER).unwrap().await.unwrap()
}

/// Sends a message; whoever answers must have got all of it.
async fn exchange(connection: &Connection, length: usize) -> String {
    let message: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&message).await.unwrap();
    send.finish().unwrap();
    let answer = receive.read_to_end(2 * MESSAGE).await.unwrap();
    let (name, echo) = answer.split_at("pod-0".len());
    assert!(echo == message, "changed on the way");
    String::from_utf8(name.to_vec()).unwrap()
}

fn configs() -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed([SERVER.to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert);
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let server = ServerConfig::with_single_cert(vec![certificate], key.into()).unwrap();
    (server, ClientConfig::with_root_certificates(Arc::new(roots)).unwrap())
}

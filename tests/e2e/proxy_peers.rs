//! PROXY headers with the programs that others run: HAProxy and nginx, as pods and in front.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use crate::harness::client::connect_from;
use crate::harness::manifest::pod;
use crate::harness::netns::skip;
use crate::harness::pod::{Pod, listen, named};
use crate::harness::process::{Guarded, Ringport};
use crate::harness::rig::{local, web};
use crate::harness::wait::until;
use crate::harness::world::World;
use crate::proxy::annotated;

/// Where to find it; says so where it is missing.
fn installed(program: &str) -> Option<String> {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .map(|folder| format!("{folder}/{program}"))
        .into_iter()
        .find(|path| std::path::Path::new(path).exists());
    if found.is_none() {
        skip(&format!("{program} is not installed (scripts/setup {program})"));
    }
    found
}

/// A running peer that listens on an address.
fn start(mut command: Command, listens: SocketAddr) -> Guarded {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut peer = Guarded(child);
    until("the peer listens", || {
        assert!(peer.0.try_wait().unwrap().is_none(), "it has ended");
        TcpStream::connect(listens).ok()
    });
    peer
}

/// HAProxy with this below its defaults.
fn haproxy(world: &World, config: &str, listens: SocketAddr) -> Option<Guarded> {
    let program = installed("haproxy")?;
    let path = world.path("haproxy.cfg");
    let defaults = "defaults\n  timeout connect 20s\n  timeout client 20s\n  timeout server 20s\n";
    std::fs::write(&path, format!("{defaults}{config}")).unwrap();
    let mut command = Command::new(program);
    command.arg("-db").arg("-q").arg("-f").arg(path);
    Some(start(command, listens))
}

/// nginx with this inside `stream`.
fn nginx(world: &World, config: &str, listens: SocketAddr) -> Option<Guarded> {
    let program = installed("nginx")?;
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if !std::path::Path::new(module).exists() {
        skip("nginx has no stream module (scripts/setup nginx)");
        return None;
    }
    let (path, pid) = (world.path("nginx.conf"), world.path("nginx.pid"));
    let text = format!(
        "load_module {module}; daemon off; master_process off; error_log stderr warn; pid {}; events {{}} stream {{ {config} }}",
        pid.display()
    );
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(path).arg("-e").arg("stderr");
    Some(start(command, listens))
}

/// A port at an address that the next process may bind.
fn free(ip: Ipv4Addr) -> SocketAddr {
    let (port, listeners) = listen(&[ip]);
    drop(listeners);
    SocketAddr::from((ip, port))
}

/// A Service with one pod at this address.
fn serve(world: &World, at: SocketAddr, annotations: &[(&str, &str)]) -> (Ringport, SocketAddr) {
    let IpAddr::V4(ip) = at.ip() else { panic!("{at} is not IPv4") };
    let node_port = world.port();
    world.apply("service", &annotated(&web(node_port, at.port()).yaml(), annotations));
    world.apply("pod", &pod("pod", "web", ip));
    (Ringport::start(world, &[]), local(node_port))
}

/// HAProxy as a pod that accepts a header, and answers who it takes the client for, and what it connected to.
fn haproxy_pod(world: &World) -> Option<(Guarded, SocketAddr)> {
    let at = free(world.ip());
    let config = format!(
        "frontend pod\n  mode http\n  bind {at} accept-proxy\n  http-request return status 200 content-type text/plain \
         lf-string \"%[src]:%[src_port] %[dst]:%[dst_port]\"\n"
    );
    Some((haproxy(world, &config, at)?, at))
}

/// The same with nginx.
fn nginx_pod(world: &World) -> Option<(Guarded, SocketAddr)> {
    let at = free(world.ip());
    let config = format!(
        "server {{ listen {at} proxy_protocol; return \"$proxy_protocol_addr:$proxy_protocol_port \
         $proxy_protocol_server_addr:$proxy_protocol_server_port\"; }}"
    );
    Some((nginx(world, &config, at)?, at))
}

/// What the pod says of a client, and what it should say.
fn asked(client: Ipv4Addr, through: SocketAddr, node: SocketAddr) -> (String, String) {
    let mut stream = connect_from(client.into(), through).unwrap();
    let told = format!("{} {node}", stream.local_addr().unwrap());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    (answer.rsplit("\r\n").next().unwrap_or_default().to_owned(), told)
}

#[test]
fn haproxy_and_nginx_as_pods_believe_the_header_of_either_version() {
    for start in [haproxy_pod, nginx_pod] {
        for version in ["v1", "v2"] {
            let world = World::new();
            let Some((_peer, at)) = start(&world) else { return };
            let (_ringport, node) = serve(&world, at, &[("proxy-protocol", version)]);
            for _ in 0..5 {
                let (said, wanted) = asked(world.ip(), node, node);
                assert_eq!(said, wanted, "{version}");
            }
        }
    }
}

#[test]
fn haproxy_and_nginx_in_front_are_believed() {
    for (program, line) in [
        ("haproxy", "send-proxy"),
        ("haproxy", "send-proxy-v2"),
        ("haproxy", "send-proxy-v2-ssl-cn"),
        ("nginx", ""),
    ] {
        let world = World::new();
        let (target_port, mut listeners) = listen(&[world.ip()]);
        let at = listeners[0].local_addr().unwrap();
        assert_eq!(at.port(), target_port);
        let _pod = Pod::start(listeners.remove(0), named("pod"));
        let (ringport, node) = serve(&world, at, &[("accept-proxy-protocol", "127.0.0.1")]);
        let front = free(world.ip());
        let peer = match program {
            "haproxy" => {
                let config = format!(
                    "listen front\n  mode tcp\n  bind {front}\n  server node {node} source 127.0.0.1 {line}\n"
                );
                haproxy(&world, &config, front)
            }
            _ => {
                let config = format!(
                    "server {{ listen {front}; proxy_pass {node}; proxy_bind 127.0.0.1; proxy_protocol on; }}"
                );
                nginx(&world, &config, front)
            }
        };
        let Some(_peer) = peer else { return };
        let mut client = connect_from(world.ip().into(), front).unwrap();
        client.write_all(b"who?\n").unwrap();
        let mut name = String::new();
        client.read_to_string(&mut name).unwrap();
        assert_eq!(name, "pod\n", "{program} {line}");
        let address = client.local_addr().unwrap().to_string();
        // Its end is what ends the session.
        drop(client);
        until("the client of the client is in the access log", || {
            ringport.sessions().iter().any(|session| session.client() == address).then_some(())
        });
    }
}

#[test]
fn the_health_checks_of_haproxy_are_its_own() {
    let world = World::new();
    let (_, mut listeners) = listen(&[world.ip()]);
    let at = listeners[0].local_addr().unwrap();
    let _pod = Pod::start(listeners.remove(0), named("pod"));
    let (ringport, node) = serve(&world, at, &[("accept-proxy-protocol", "127.0.0.1")]);
    let front = free(world.ip());
    let config = format!(
        "listen front\n  mode tcp\n  bind {front}\n  server node {node} source 127.0.0.1 send-proxy-v2 check inter 100ms\n"
    );
    let Some(_peer) = haproxy(&world, &config, front) else { return };
    until("some checks have been relayed", || {
        let checks =
            ringport.sessions().into_iter().filter(|session| session.client().starts_with("127.0.0.1:"));
        (checks.count() >= 3).then_some(())
    });
}

#[test]
fn a_client_is_known_through_two_proxies() {
    let world = World::new();
    let Some((_pod, at)) = haproxy_pod(&world) else { return };
    let (_ringport, node) =
        serve(&world, at, &[("accept-proxy-protocol", "127.0.0.1"), ("proxy-protocol", "v2")]);
    let outer = World::new();
    let front = free(outer.ip());
    let config =
        format!("server {{ listen {front}; proxy_pass {node}; proxy_bind 127.0.0.1; proxy_protocol on; }}");
    let Some(_front) = nginx(&outer, &config, front) else { return };
    let (said, wanted) = asked(world.ip(), front, front);
    assert_eq!(said, wanted);
}

//! The commands, as a person meets them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Output, Stdio};

use rustix::process::Signal;

use crate::harness::client::{ask, try_connect};
use crate::harness::manifest::{Service, pod};
use crate::harness::pod::{Pod, listen, named};
use crate::harness::process::{Guarded, command};
use crate::harness::rig::{local, web};
use crate::harness::wait::until;
use crate::harness::world::World;

fn check(world: &World, text: &str) -> (Output, String) {
    world.apply("manifest", text);
    let path = world.manifests().join("manifest.yml");
    let output = command(&["check", "-f", path.to_str().unwrap()]).output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output, String::from_utf8(said).unwrap())
}

#[test]
fn check_accepts_the_sample_service() {
    let world = World::new();
    let (output, said) = check(&world, &(web(30_008, 80).yaml() + "---\n" + &pod("a", "web", world.ip())));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("web") && said.contains("30008"), "{said}");
}

#[test]
fn check_names_file_line_field_and_what_is_wrong() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "nodePort: 30008",
            "nodePort: 80",
            &["spec.ports[0].nodePort", "The range of valid ports is 30000-32767"],
        ),
        ("port: 80", "port: 0", &["spec.ports[0].port", "must be between 1 and 65535"]),
        ("type: NodePort", "typo: NodePort", &["unknown field", "spec.typo"]),
        ("type: NodePort", "type: NodePort\n  type: ClusterIP", &["duplicate", "type"]),
        ("type: NodePort", "type: nodeport", &["spec.type", "Unsupported value", "NodePort"]),
        ("name: web", "name: Web_1", &["metadata.name", "Web_1"]),
        ("kind: Service", "kind: Servise", &["Servise"]),
        ("selector:", "selector: [", &["manifest.yml:"]),
    ];
    let world = World::new();
    let good = Service { target_port: 80, ..web(30_008, 80) }.yaml();
    for (right, wrong, parts) in cases {
        let (output, said) = check(&world, &good.replacen(right, wrong, 1));
        assert_eq!(output.status.code(), Some(1), "{wrong}: {said}");
        assert!(said.contains("manifest.yml:"), "{wrong}: no file and line in: {said}");
        for part in *parts {
            assert!(said.contains(part), "{wrong}: no '{part}' in: {said}");
        }
    }
}

#[test]
fn run_serves_the_good_and_names_the_refused() {
    let world = World::new();
    let node_port = world.port();
    let ip = world.ip();
    let (target_port, mut listeners) = listen(&[ip]);
    let _pod = Pod::start(listeners.remove(0), named("good"));
    let bad = Service { name: "bad", ..web(1, target_port) };
    world.apply(
        "all",
        &[bad.yaml(), web(node_port, target_port).yaml(), pod("good", "web", ip)].join("---\n"),
    );
    let ringport = crate::harness::process::Ringport::start(&world, &[]);
    assert_eq!(ask(local(node_port)).unwrap(), "good");
    let log = ringport.log();
    assert!(log.contains("all.yml:") && log.contains("bad"), "{log}");
}

#[test]
fn manifests_may_come_from_standard_input() {
    let world = World::new();
    let (node_port, healthz) = (world.port(), local(world.port()));
    let ip = world.ip();
    let (target_port, mut listeners) = listen(&[ip]);
    let _pod = Pod::start(listeners.remove(0), named("stdin"));
    let child = command(&["run", "-f", "-", "--service-node-port-range", "1024-65535"])
        .args(["--healthz-bind-address", &healthz.to_string()])
        .args(["--metrics-bind-address", &local(world.port()).to_string()])
        .stdin(Stdio::piped())
        .spawn();
    let mut child = Guarded(child.unwrap());
    let text = web(node_port, target_port).yaml() + "---\n" + &pod("stdin", "web", ip);
    child.0.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let name = until("the Service is served", || {
        assert_eq!(child.0.try_wait().unwrap(), None, "ringport ended by itself");
        ask(local(node_port)).ok()
    });
    assert_eq!(name, "stdin");
    assert_eq!(child.terminate(Signal::TERM), Some(0));
}

#[test]
fn the_demo_prints_a_line_that_works() {
    let world = World::new();
    // The sample's port is what it is: one demo at a time, of these tests and on this machine.
    const SAMPLE: u16 = 30_008;
    let _turn = until("no other test runs the demo", || UdpSocket::bind((Ipv4Addr::LOCALHOST, SAMPLE)).ok());
    until("port 30008 is free", || TcpListener::bind((Ipv6Addr::UNSPECIFIED, SAMPLE)).ok());
    let said = world.path("said");
    let child = command(&["demo"])
        .args(["--healthz-bind-address", &local(world.port()).to_string()])
        .args(["--metrics-bind-address", &local(world.port()).to_string()])
        .stdout(File::create(&said).unwrap())
        .spawn();
    let mut child = Guarded(child.unwrap());
    let address: SocketAddr = until("the demo prints a curl line", || {
        let text = std::fs::read_to_string(&said).unwrap();
        // The line is whole once another follows.
        let (line, _) = text.split_once("curl ")?.1.split_once('\n')?;
        line.trim_start_matches("http://").trim_end_matches('/').parse().ok()
    });
    let mut stream = try_connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Otherwise it would wait for this session.
    drop(stream);
    assert_eq!(child.terminate(Signal::INT), Some(0));
}

#[test]
fn wrong_arguments_are_explained() {
    for (args, part) in [
        (&["run", "--drain-timeout", "soon"][..], "soon"),
        (&["run", "--shards", "0"], "0"),
        (&["run", "-f", "/nowhere/at/all"], "/nowhere/at"),
        (&["runn"], "run"),
        (&["run", "--max-conections", "5"], "--max-connections"),
    ] {
        let mut child = Guarded(command(args).stderr(Stdio::piped()).spawn().unwrap());
        let status = until("it ends", || child.0.try_wait().unwrap());
        let mut said = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!status.success() && said.contains(part), "{args:?} said: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

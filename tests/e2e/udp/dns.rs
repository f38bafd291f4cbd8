//! A real DNS server and a real resolver: dnsmasq and dig of Debian, which `scripts/setup dig dnsmasq` installs.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use super::peers::{Service, bind, pod};
use crate::harness::process::{Guarded, Ringport};
use crate::harness::rig::local;
use crate::harness::wait::until;
use crate::harness::world::World;

#[test]
fn dig_asks_dnsmasq_over_udp_and_tcp() {
    for program in ["dig", "dnsmasq"] {
        if !is_installed(program) {
            eprintln!("SKIPPED: there is no {program}; `scripts/setup dig dnsmasq` installs it");
            return;
        }
    }
    let world = World::new();
    let ips: Vec<Ipv4Addr> = (0..2).map(|_| world.ip()).collect();
    let (target_port, sockets) = bind(&ips);
    drop(sockets);
    let servers: Vec<Guarded> = ips.iter().map(|ip| dnsmasq(*ip, target_port)).collect();
    let node_port = world.port();
    let service = Service { tcp: true, ..Service::new(target_port, node_port) };
    world.apply("service", &service.yaml());
    for (i, ip) in ips.iter().enumerate() {
        world.apply(&format!("pod-{i}"), &pod(i, *ip));
    }
    let ringport = Ringport::start(&world, &[]);
    // A server may still be starting.
    until("an answer", || dig(node_port, &["www.ringport.test"]).filter(|answer| answer == "192.0.2.1"));
    for _ in 0..20 {
        assert_eq!(dig(node_port, &["www.ringport.test"]).unwrap(), "192.0.2.1");
    }
    // 60 addresses: an answer of about a thousand bytes.
    let many = dig(node_port, &["+bufsize=4096", "many.ringport.test"]).unwrap();
    assert_eq!(many.lines().count(), 60, "{many}");
    assert_eq!(dig(node_port, &["+tcp", "www.ringport.test"]).unwrap(), "192.0.2.1");
    let metrics = ringport.until_metrics("the answers are counted", |metrics| {
        metrics.sum("ringport_datagrams_total", &["direction=\"down\""]) >= 22
    });
    assert_eq!(metrics.sum("ringport_datagrams_dropped_total", &["direction=\"down\""]), 0);
    drop(servers);
}

fn dnsmasq(ip: Ipv4Addr, port: u16) -> Guarded {
    let mut command = Command::new("dnsmasq");
    command.args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"]);
    command.args([format!("--listen-address={ip}"), format!("--port={port}"), "--pid-file".to_owned()]);
    command.arg("--host-record=www.ringport.test,192.0.2.1");
    command.args((1..=60).map(|i| format!("--host-record=many.ringport.test,192.0.2.{i}")));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Guarded(command.spawn().unwrap())
}

/// The lines of `dig +short`; `None` without an answer.
fn dig(port: u16, args: &[&str]) -> Option<String> {
    let mut command = Command::new("dig");
    command.args([format!("@{}", local(port).ip()), "-p".to_owned(), port.to_string(), "+short".to_owned()]);
    let output = command.args(["+tries=1", "+time=2"]).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap().trim_end().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).is_file())
}

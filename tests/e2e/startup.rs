//! Machines that forbid what is needed: it says what, and what to do about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::thread;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::harness::client::ask;
use crate::harness::manifest::{Service, pod};
use crate::harness::netns::{Host, skip};
use crate::harness::pod::{Pod, listen, named};
use crate::harness::process::{Ringport, command};
use crate::harness::rig::{local, web};
use crate::harness::wait::until;
use crate::harness::world::World;

/// Fails at once, with these words.
fn fails_with(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "no '{word}' in:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// A world with a Service, so that there is something to serve.
fn world() -> World {
    let world = World::new();
    world.apply("service", &web(world.port(), 80).yaml());
    world
}

const NO_PAGES: [&str; 4] = ["--metrics-bind-address", "", "--healthz-bind-address", ""];

/// Runs it under a filter that answers io_uring's system calls with an error. A filter is inherited by what the
/// thread starts that has it.
fn without_io_uring(errno: i32) -> Output {
    let world = world();
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let rules: BTreeMap<_, _> = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let filter: BpfProgram = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    )
    .unwrap()
    .try_into()
    .unwrap();
    let manifests = world.manifests();
    thread::spawn(move || {
        seccompiler::apply_filter(&filter).unwrap();
        command(&["run", "-f"]).arg(manifests).args(NO_PAGES).output().unwrap()
    })
    .join()
    .unwrap()
}

#[test]
fn io_uring_forbidden_by_a_seccomp_profile() {
    // As Docker's profile answers, and as older ones do.
    for errno in [libc::EPERM, libc::ENOSYS] {
        let output = without_io_uring(errno);
        fails_with(
            &output,
            &["io_uring", "seccomp profile", "io_uring_setup, io_uring_enter", "seccompProfile"],
        );
    }
}

#[test]
fn too_little_memory_may_be_locked() {
    let world = world();
    let output = Command::new("sh")
        .args(["-c", "ulimit -l 64 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ringport"), "run", "-f"])
        .arg(world.manifests())
        .args(NO_PAGES)
        .output()
        .unwrap();
    fails_with(&output, &["64 KiB of memory may be locked", "512 KiB", "LimitMEMLOCK=infinity"]);
}

#[test]
fn a_privileged_port_is_told_and_tried_again_and_stops_no_other() {
    let Some(node) = Host::new("node") else { return };
    if Command::new("setpriv").arg("--version").output().is_err() {
        return skip("there is no setpriv");
    }
    node.run(|| {
        let world = World::new();
        let (ip, node_port) = (world.ip(), world.port());
        let (target_port, mut listeners) = listen(&[ip]);
        let _pod = Pod::start(listeners.remove(0), named("pod"));
        let at_80 = world.ip();
        let service = Service { external_ip: Some(at_80), ..web(node_port, target_port) };
        world.apply("service", &service.yaml());
        world.apply("pod", &pod("pod", "web", ip));
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service"]);
        command.arg(env!("CARGO_BIN_EXE_ringport"));
        let ringport = Ringport::spawn_with(&world, command, &[]);
        ringport.wait_ready();
        assert_eq!(ask(local(node_port)).unwrap(), "pod", "the other frontend of the Service");
        assert_eq!(ringport.metrics().problems(), 1);
        let log = ringport.log();
        for word in [
            "setcap cap_net_bind_service=ep",
            &format!("TCP {at_80}:80 of port default/web cannot be served"),
            "ip_unprivileged_port_start=80",
        ] {
            assert!(log.contains(word), "no '{word}' in:\n{log}");
        }
        // As it says, and of this namespace alone.
        std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "80").unwrap();
        let name = until("the port is served", || ask(SocketAddr::from((at_80, 80))).ok());
        assert_eq!(name, "pod");
        ringport.until_metrics("nothing is missing any more", |metrics| metrics.problems() == 0);
    });
}

/// `ip` is the first program that it runs, to look for what a killed process has left.
#[test]
fn a_signal_during_the_start_is_the_end_and_not_death() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, programs) = (world(), World::new());
    let ip = programs.manifests().join("ip");
    std::fs::write(&ip, "#!/bin/sh\nkill -TERM $PPID\n").unwrap();
    std::fs::set_permissions(&ip, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut started = command(&["run", "-f"]);
    let output = started.arg(world.manifests()).args(NO_PAGES).env("PATH", programs.manifests()).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{}\n{said}", output.status);
    assert!(said.contains("draining"), "{said}");
}

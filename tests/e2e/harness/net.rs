//! Two network namespaces that a test makes and removes: a node, and the world outside, joined by a link.
//!
//! A thread moves into one of them; what it opens and starts is there, and can be used from anywhere.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The address of the node on the link `out`.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The address outside, on the link `in`.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// See the module.
pub(crate) struct Net {
    node: Namespace,
    outside: Namespace,
}

struct Namespace(String);

impl Net {
    /// `None`, and says so, where this user may not make namespaces.
    pub(crate) fn new() -> Option<Self> {
        let net = Self { node: Namespace::new("node")?, outside: Namespace::new("outside")? };
        let (node, outside) = (&net.node.0, &net.outside.0);
        ip(&format!("link add out netns {node} type veth peer name in netns {outside}"));
        net.node.ip(&format!("addr add {NODE}/24 dev out"));
        net.outside.ip(&format!("addr add {OUTSIDE}/24 dev in"));
        net.node.ip("link set lo up");
        net.node.ip("link set out up");
        net.outside.ip("link set lo up");
        net.outside.ip("link set in up");
        Some(net)
    }

    /// Does something on the node.
    pub(crate) fn on_node<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.node.within(f)
    }

    /// Does something outside.
    pub(crate) fn outside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.outside.within(f)
    }

    /// `ip` with these arguments, on the node.
    pub(crate) fn ip_on_node(&self, args: &str) {
        self.node.ip(args);
    }

    /// The same outside.
    pub(crate) fn ip_outside(&self, args: &str) {
        self.outside.ip(args);
    }
}

impl Namespace {
    fn new(what: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ringport-{}-{}-{what}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        match Command::new("ip").args(["netns", "add", &name]).output() {
            Ok(output) if output.status.success() => Some(Self(name)),
            why => {
                eprintln!("NOT TESTED: no network namespace can be made here: {why:?}");
                None
            }
        }
    }

    fn ip(&self, args: &str) {
        ip(&format!("-n {} {args}", self.0));
    }

    fn within<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.0)).unwrap();
        let inside = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            f()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

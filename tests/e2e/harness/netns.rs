//! Hosts that exist for one test: network namespaces without names, joined by veth pairs or a switch. The kernel
//! removes them with the last thread, process and descriptor that holds them, so a test that is killed leaves nothing.
//!
//! ```text
//! Lab    client ── node ── pods      192.0.2.10 ─ 192.0.2.1 │ 10.244.0.1 ─ 10.244.0.10 …
//! Lan    any number of hosts on one switch
//! ```
//!
//! What has to happen on a host runs in [`Host::run`]: sockets and processes that are made there belong to it, and
//! work on from anywhere. `/proc/net` is that of the main thread; use `/proc/thread-self/net`.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::pod::{Pod, named};

/// A namespace that plays a host. Its loopback interface is up.
pub(crate) struct Host {
    name: &'static str,
    namespace: OwnedFd,
}

impl Host {
    /// `None`, said aloud, where this machine does not let this user make one; a failure with
    /// RINGPORT_TEST_NAMESPACES=required in the environment.
    pub(crate) fn new(name: &'static str) -> Option<Self> {
        let made = thread::scope(|scope| scope.spawn(namespace).join().unwrap());
        match made {
            Ok(namespace) => {
                let host = Self { name, namespace };
                host.ip("link set lo up");
                Some(host)
            }
            Err(error) => {
                skip(&format!("no network namespace can be made: {error} (run as root)"));
                None
            }
        }
    }

    /// Runs something on this host, on a thread of its own.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let on_host = || {
            move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            f()
        };
        let result = thread::scope(|scope| scope.spawn(on_host).join());
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a command on this host, which must succeed, and gives what it wrote. Words are split at spaces.
    pub(crate) fn command(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = self.run(|| Command::new(words[0]).args(&words[1..]).output());
        let output = output.unwrap_or_else(|error| panic!("{line}: {error} (scripts/setup installs it)"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "on {}: {line}: {said}", self.name);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `ip` with these arguments.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.command(&format!("ip {arguments}"))
    }

    /// Writes `net.…`, with slashes for dots: `net/ipv4/ip_forward`.
    pub(crate) fn set_sysctl(&self, key: &str, value: &str) {
        self.run(|| std::fs::write(format!("/proc/sys/{key}"), value))
            .unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    /// Reads it.
    pub(crate) fn sysctl(&self, key: &str) -> String {
        let text = self.run(|| std::fs::read_to_string(format!("/proc/sys/{key}")));
        text.unwrap_or_else(|error| panic!("{key}: {error}")).trim().to_owned()
    }

    /// Gives an interface addresses, as in `192.0.2.1/24`, which can be used at once.
    pub(crate) fn address(&self, interface: &str, addresses: &[&str]) {
        for address in addresses {
            // Without this an IPv6 address waits until duplicates have had time to say so.
            let nodad = if address.contains(':') { "nodad" } else { "" };
            self.ip(&format!("address add {address} dev {interface} {nodad}"));
        }
    }

    /// Joins two hosts by a cable: an interface of this host and one of the other, both up.
    pub(crate) fn join(&self, interface: &str, other: &Self, other_interface: &str) {
        let (pid, fd) = (std::process::id(), other.namespace.as_raw_fd());
        self.ip(&format!(
            "link add {interface} type veth peer name {other_interface} netns /proc/{pid}/fd/{fd}"
        ));
        self.ip(&format!("link set {interface} up"));
        other.ip(&format!("link set {other_interface} up"));
    }

    /// A pod that listens on an address of this host and answers with its name.
    pub(crate) fn pod(&self, address: SocketAddr, name: &str) -> Pod {
        let listener = self.run(|| TcpListener::bind(address));
        Pod::start(listener.unwrap_or_else(|error| panic!("{address}: {error}")), named(name))
    }
}

/// Hosts on one switch.
pub(crate) struct Lan(Host);

impl Lan {
    /// `None` as for [`Host::new`].
    pub(crate) fn new() -> Option<Self> {
        let switch = Host::new("switch")?;
        switch.ip("link add switch type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
        switch.ip("link set switch up");
        Some(Self(switch))
    }

    /// Gives a host an interface on this switch, with these addresses.
    pub(crate) fn attach(&self, host: &Host, interface: &str, addresses: &[&str]) {
        let ports = self.0.ip("-o link show master switch").lines().count();
        let port = format!("port{ports}");
        self.0.join(&port, host, interface);
        self.0.ip(&format!("link set {port} master switch"));
        host.address(interface, addresses);
    }
}

/// A client, a node that it reaches the world through, and pods behind the node. Interfaces of the node are
/// `outside` and `inside`, it forwards, and the others have it as their default route.
pub(crate) struct Lab {
    pub(crate) client: Host,
    pub(crate) node: Host,
    pub(crate) pods: Host,
}

/// Addresses of a [`Lab`], IPv4 and IPv6. There are two of the client, so that one may be refused.
pub(crate) const CLIENT: [&str; 2] = ["192.0.2.10", "2001:db8:1::10"];
pub(crate) const OTHER_CLIENT: [&str; 2] = ["192.0.2.77", "2001:db8:1::77"];
pub(crate) const NODE: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];
pub(crate) const NODE_INSIDE: [&str; 2] = ["10.244.0.1", "fd00:244::1"];
/// Of the first pod; the host `pods` has as many as [`PODS`].
pub(crate) const POD: [&str; 2] = ["10.244.0.10", "fd00:244::10"];
pub(crate) const PODS: u8 = 4;

impl Lab {
    /// `None` as for [`Host::new`].
    pub(crate) fn new() -> Option<Self> {
        let lab = Self { client: Host::new("client")?, node: Host::new("node")?, pods: Host::new("pods")? };
        lab.client.join("eth0", &lab.node, "outside");
        lab.pods.join("eth0", &lab.node, "inside");
        for family in 0..2 {
            let bits = [24, 64][family];
            let with_bits = |address: &str| format!("{address}/{bits}");
            lab.client.address("eth0", &[&with_bits(CLIENT[family]), &with_bits(OTHER_CLIENT[family])]);
            lab.node.address("outside", &[&with_bits(NODE[family])]);
            lab.node.address("inside", &[&with_bits(NODE_INSIDE[family])]);
            for pod in 0..PODS {
                lab.pods.address("eth0", &[&with_bits(&pod_ip(family, pod).to_string())]);
            }
            lab.client.ip(&format!("route add default via {}", NODE[family]));
            lab.pods.ip(&format!("route add default via {}", NODE_INSIDE[family]));
        }
        lab.node.set_sysctl("net/ipv4/ip_forward", "1");
        lab.node.set_sysctl("net/ipv6/conf/all/forwarding", "1");
        Some(lab)
    }
}

/// The address of a pod of a [`Lab`]: family 0 is IPv4, 1 is IPv6.
pub(crate) fn pod_ip(family: usize, pod: u8) -> IpAddr {
    match POD[family].parse().unwrap() {
        IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) + u32::from(pod)).into(),
        IpAddr::V6(first) => std::net::Ipv6Addr::from(u128::from(first) + u128::from(pod)).into(),
    }
}

/// Says that something is not tested, past the capture of a test that passes.
pub(crate) fn skip(why: &str) {
    let required = std::env::var_os("RINGPORT_TEST_NAMESPACES").is_some_and(|value| value == "required");
    assert!(!required, "{why}");
    let test = thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: {why}");
}

/// A new namespace. The calling thread stays in it.
fn namespace() -> io::Result<OwnedFd> {
    // SAFETY: only the network of this thread becomes another; descriptors stay shared with the process.
    #[allow(unsafe_code, reason = "see the line above")]
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(std::fs::File::open("/proc/thread-self/ns/net")?.into())
}

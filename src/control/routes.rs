//! Served addresses that no interface has: externalIPs, load balancer addresses, clusterIPs. A socket can be bound
//! to one, but its traffic arrives only where a local route says that it is this node's.
//!
//! With `--manage-addresses` this makes such a route for exactly those addresses; without it, or without the right, one
//! problem of each Service says which command does.
//!
//! - Routes carry ringport's protocol number. No other route is touched, and no address gets one that the node has, or
//!   had: where one of its own goes, sessions of it may be left, but the address may be another machine's.
//! - A route is there before the frontend is published, and stays until the last session of its address is over.
//! - Routes that a killed process left are taken over at the next start; those that are not needed go, all of them where
//!   this process does not manage any.
//! - Only one ringport manages the routes of a network namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Weak};

use ipnet::IpNet;

use crate::limits;
use crate::net::addresses;
use crate::net::routes::{LocalRoute, Routes};
use crate::problem::{Problem, Reason};
use crate::route::snapshot::{Frontend, FrontendKey, FrontendKind};
use crate::types::NamespacedName;

/// A name among the sockets of a network namespace, which whoever manages its routes has. It goes with the process.
const LOCK: &[u8] = b"ringport/manage-addresses";

/// See the module. Dropping it removes its routes.
pub(super) struct LocalRoutes {
    manage: bool,
    lock: Option<UnixDatagram>,
    addresses: BTreeMap<IpAddr, Address>,
    /// Addresses that are not served any more, but may have sessions.
    leaving: BTreeSet<IpAddr>,
    /// Routes that this process has made or taken over.
    made: BTreeSet<IpAddr>,
    /// Whether routes of a killed process may be there.
    leftovers: bool,
    /// Whether `addresses` has changed since the kernel was last asked.
    changed: bool,
    problems: Vec<Problem>,
}

/// Who uses an address.
#[derive(Default)]
struct Address {
    keys: BTreeMap<FrontendKey, NamespacedName>,
    /// Every frontend there was; sessions hold theirs.
    frontends: Vec<Weak<Frontend>>,
}

/// What the kernel has, and what it should have.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    add: Vec<IpAddr>,
    remove: Vec<IpAddr>,
    /// Ours, to be kept.
    keep: BTreeSet<IpAddr>,
}

impl LocalRoutes {
    pub(super) fn new(manage: bool) -> Self {
        Self {
            manage,
            lock: None,
            addresses: BTreeMap::new(),
            leaving: BTreeSet::new(),
            made: BTreeSet::new(),
            leftovers: true,
            changed: true,
            problems: Vec::new(),
        }
    }

    /// This frontend is about to be published.
    pub(super) fn serve(&mut self, frontend: &Arc<Frontend>) {
        let Some(ip) = one_address(&frontend.key) else { return };
        if frontend.kind == FrontendKind::NodePort {
            return;
        }
        let address = self.addresses.entry(ip).or_insert_with(|| {
            self.changed = true;
            Address::default()
        });
        address.frontends.retain(|known| known.strong_count() > 0);
        address.frontends.push(Arc::downgrade(frontend));
        address.keys.insert(frontend.key, frontend.port.name.service.clone());
        self.leaving.remove(&ip);
    }

    /// This one is not published any more.
    pub(super) fn give_up(&mut self, key: &FrontendKey) {
        let Some(ip) = one_address(key) else { return };
        if let Some(address) = self.addresses.get_mut(&ip) {
            address.keys.remove(key);
            if address.keys.is_empty() {
                self.leaving.insert(ip);
            }
        }
    }

    /// Brings the kernel's routes up to date, where there may be something to do.
    pub(super) fn settle(&mut self) {
        if self.changed {
            self.look_again();
        }
    }

    /// Tries again what could not be done, and lets go of addresses whose last session is over.
    pub(super) fn retry(&mut self) {
        let addresses = &mut self.addresses;
        let before = self.leaving.len();
        self.leaving.retain(|ip| {
            let used = |address: &Address| address.frontends.iter().any(|f| f.strong_count() > 0);
            let stays = addresses.get(ip).is_some_and(used);
            if !stays {
                addresses.remove(ip);
            }
            stays
        });
        self.changed |= self.leaving.len() != before;
        if self.changed || !self.problems.is_empty() {
            self.look_again();
        }
    }

    pub(super) fn waiting(&self) -> bool {
        self.changed || !self.problems.is_empty() || !self.leaving.is_empty()
    }

    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Asks the kernel which addresses are the node's, and makes and removes routes.
    pub(super) fn look_again(&mut self) {
        self.problems = self.sync().unwrap_or_else(|error| {
            let message = format!("the routes of this node cannot be read: {error}");
            vec![Problem { reason: Reason::AddressNotRouted, ..Problem::warning(message) }]
        });
    }

    fn sync(&mut self) -> io::Result<Vec<Problem>> {
        self.changed = false;
        let leftovers = std::mem::take(&mut self.leftovers) && !self.manage;
        if self.addresses.is_empty() && !self.manage && !leftovers {
            return Ok(Vec::new());
        }
        let mut routes = Routes::open()?;
        let mut found = routes.local()?;
        if leftovers {
            self.clear(&mut routes, &mut found);
        }
        // Those of an interface that is down have no route, and need none of ours.
        let own = addresses::all()?.into_iter().map(|ip| LocalRoute { destination: ip.into(), ours: false });
        found.extend(own);
        let alone = self.manage && self.lock();
        if !alone {
            // Whoever made them, they lead here.
            let all: Vec<LocalRoute> =
                found.iter().map(|route| LocalRoute { ours: false, ..*route }).collect();
            let missing = plan(self.wanted(), &all).add;
            let others =
                self.manage.then_some("another ringport manages the addresses of this network namespace");
            return Ok(self.unrouted(&missing, others, self.manage));
        }
        let Plan { add, remove, keep } = plan(self.wanted(), &found);
        let before = std::mem::replace(&mut self.made, keep);
        let (mut missing, mut why) = (Vec::new(), None);
        for address in add {
            match routes.add(address) {
                Ok(()) => {
                    if before.contains(&address) {
                        tracing::warn!(%address, "made a local route anew: somebody had removed it");
                    } else {
                        tracing::debug!(%address, "made a local route");
                    }
                    self.made.insert(address);
                }
                Err(error) => {
                    missing.push(address);
                    why.get_or_insert(error);
                }
            }
        }
        for address in remove {
            match routes.remove(address) {
                Ok(()) => tracing::debug!(%address, "removed a local route"),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => {
                    tracing::warn!(%address, %error, "cannot remove a local route");
                }
            }
        }
        let why = why.map(|error| explain(&error));
        Ok(self.unrouted(&missing, why.as_deref(), true))
    }

    /// A problem for each Service that has some of these addresses.
    fn unrouted(&self, missing: &[IpAddr], why: Option<&str>, managed: bool) -> Vec<Problem> {
        let mut of_services: BTreeMap<&NamespacedName, Vec<IpAddr>> = BTreeMap::new();
        for ip in missing {
            let owner = self.addresses.get(ip).and_then(|address| address.keys.values().next());
            owner.into_iter().for_each(|service| of_services.entry(service).or_default().push(*ip));
        }
        let problems = of_services.into_iter().filter_map(|(service, addresses)| {
            let problem = unrouted(&addresses, why, managed)?;
            Some(Problem { object: Some(format!("Service {service}")), ..problem })
        });
        problems.collect()
    }

    /// Removes what a killed process has left, unless another one lives that manages routes.
    fn clear(&mut self, routes: &mut Routes, found: &mut Vec<LocalRoute>) {
        if !found.iter().any(|route| route.ours) || !self.lock() {
            return;
        }
        found.retain(|route| {
            let address = route.destination.addr();
            let removed = route.ours && match routes.remove(address) {
                Ok(()) => {
                    tracing::info!(%address, "removed a local route that a former ringport has left");
                    true
                }
                Err(error) => {
                    tracing::warn!(%address, %error, "a local route that a former ringport has left cannot be removed");
                    false
                }
            };
            !removed
        });
        self.lock = None;
    }

    /// Every address, and whether it is served.
    fn wanted(&self) -> impl Iterator<Item = (IpAddr, bool)> {
        self.addresses.iter().map(|(ip, address)| (*ip, !address.keys.is_empty()))
    }

    /// Whether this process is the one that manages routes here.
    fn lock(&mut self) -> bool {
        if self.lock.is_none() {
            let name = SocketAddr::from_abstract_name(LOCK);
            self.lock = name.and_then(|name| UnixDatagram::bind_addr(&name)).ok();
        }
        self.lock.is_some()
    }
}

impl Drop for LocalRoutes {
    fn drop(&mut self) {
        if self.made.is_empty() {
            return;
        }
        let Ok(mut routes) = Routes::open() else { return };
        for address in &self.made {
            if let Err(error) = routes.remove(*address) {
                tracing::warn!(%address, %error, "cannot remove a local route");
            }
        }
    }
}

/// Which routes are missing for these addresses, and which of ours are too many. One that is not served any more keeps
/// the route that it has, and gets none.
fn plan(addresses: impl Iterator<Item = (IpAddr, bool)>, found: &[LocalRoute]) -> Plan {
    let is_host = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
    let (ours, others): (Vec<&LocalRoute>, Vec<_>) =
        found.iter().partition(|r| r.ours && is_host(&r.destination));
    let mut ours: BTreeSet<IpAddr> = ours.iter().map(|route| route.destination.addr()).collect();
    let hosts: BTreeSet<IpAddr> =
        others.iter().map(|r| r.destination).filter(is_host).map(|net| net.addr()).collect();
    let networks: Vec<IpNet> = others.iter().map(|r| r.destination).filter(|net| !is_host(net)).collect();
    let mut plan = Plan::default();
    for (address, is_served) in addresses {
        let of_the_node = hosts.contains(&address) || networks.iter().any(|net| net.contains(&address));
        if of_the_node {
            continue;
        }
        if ours.remove(&address) {
            plan.keep.insert(address);
        } else if is_served {
            plan.add.push(address);
        }
    }
    plan.remove = ours.into_iter().collect();
    plan
}

/// What keeps traffic from arriving, and the command that helps.
fn unrouted(addresses: &[IpAddr], why: Option<&str>, managed: bool) -> Option<Problem> {
    let named: Vec<String> = addresses.iter().take(limits::ADDRESSES_NAMED).map(IpAddr::to_string).collect();
    let more = match addresses.len() - named.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let commands: Vec<String> = named.iter().map(|ip| format!("ip route add local {ip} dev lo")).collect();
    let (first, plural) = (named.first()?, addresses.len() > 1);
    let what = if plural { format!("these addresses: {}{more}", named.join(", ")) } else { first.clone() };
    let message = match why {
        Some(why) => {
            format!("traffic does not arrive for {what}; no interface has {}, and {why}", them(plural))
        }
        None => format!("traffic may not arrive for {what}; no interface has {}", them(plural)),
    };
    let option = if managed { "" } else { "start with --manage-addresses, or " };
    Some(Problem {
        reason: Reason::AddressNotRouted,
        hint: Some(format!("{option}run `{}`{more}", commands.join("; "))),
        ..Problem::warning(message)
    })
}

/// The address that a frontend has to itself; a wildcard is of addresses that the node has anyway.
fn one_address(key: &FrontendKey) -> Option<IpAddr> {
    key.address.filter(|_| !key.is_wildcard())
}

fn them(plural: bool) -> &'static str {
    if plural { "them" } else { "it" }
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "this process may not make a route: it needs CAP_NET_ADMIN".to_owned()
        }
        Some(libc::ENETDOWN) => "the interface lo is down (`ip link set lo up`)".to_owned(),
        _ => format!("no route can be made: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn route(net: &str, ours: bool) -> LocalRoute {
        LocalRoute { destination: net.parse().unwrap(), ours }
    }

    #[test]
    fn routes_are_made_for_exactly_the_addresses_that_the_node_does_not_have() {
        let found = [
            route("127.0.0.0/8", false),
            route("127.0.0.1/32", false),
            route("192.0.2.1/32", false),
            route("203.0.113.1/32", true),
            route("203.0.113.2/32", true),
            route("192.0.2.9/32", false),
            route("2001:db8::1/128", false),
            // On an interface by now, beside the route that we made before.
            route("203.0.113.5/32", true),
            route("203.0.113.5/32", false),
            route("203.0.113.6/32", true),
        ];
        let wanted = [
            "127.0.0.9",
            "192.0.2.1",
            "203.0.113.1",
            "203.0.113.3",
            "203.0.113.5",
            "2001:db8::1",
            "2001:db8::2",
        ];
        // What is not served any more, but has sessions.
        let leaving = ["203.0.113.6", "203.0.113.7"].map(|text| (ip(text), false));
        let plan = plan(wanted.map(|text| (ip(text), true)).into_iter().chain(leaving), &found);
        assert_eq!(plan.add, [ip("203.0.113.3"), ip("2001:db8::2")]);
        assert_eq!(plan.keep, BTreeSet::from([ip("203.0.113.1"), ip("203.0.113.6")]));
        assert_eq!(plan.remove, [ip("203.0.113.2"), ip("203.0.113.5")]);
    }

    #[test]
    fn one_line_says_which_command_helps() {
        assert_eq!(unrouted(&[], None, false), None);
        let one = unrouted(&[ip("1.2.3.110")], None, false).unwrap().to_string();
        assert_eq!(
            one,
            "traffic may not arrive for 1.2.3.110; no interface has it (start with --manage-addresses, or run `ip \
             route add local 1.2.3.110 dev lo`)"
        );
        let why = explain(&io::Error::from_raw_os_error(libc::EPERM));
        let two = unrouted(&[ip("1.2.3.110"), ip("fd00::1")], Some(&why), true).unwrap().to_string();
        assert_eq!(
            two,
            "traffic does not arrive for these addresses: 1.2.3.110, fd00::1; no interface has them, and this \
             process may not make a route: it needs CAP_NET_ADMIN (run `ip route add local 1.2.3.110 dev lo; ip \
             route add local fd00::1 dev lo`)"
        );
        let many: Vec<IpAddr> = (0..100).map(|i| IpAddr::from([10, 0, 0, i])).collect();
        let many = unrouted(&many, None, false).unwrap().to_string();
        assert!(many.contains(" and 92 more; ") && many.len() < 1000, "{many}");
    }
}

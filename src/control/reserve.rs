//! Which TCP and UDP ports this process holds, wants and lets go.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use rustix::io::Errno;

use crate::control::owner::Owners;
use crate::net::hold::{Beside, Hold};
use crate::problem::{Problem, Reason};
use crate::route::snapshot::FrontendKey;
use crate::types::{Protocol, ServicePortName};

/// The ports of all frontends, held or wanted.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    held: BTreeMap<FrontendKey, Hold>,
    /// Held ports whose frontend is gone from this generation on (C2).
    leaving: BTreeMap<FrontendKey, (u64, Hold)>,
    failed: BTreeMap<FrontendKey, Failure>,
    /// The addresses of `held` and `leaving`, by port.
    addresses: BTreeMap<(Protocol, u16), BTreeSet<Option<IpAddr>>>,
}

/// A port that could not be held.
#[derive(Debug)]
struct Failure {
    service: ServicePortName,
    /// The last error's number.
    errno: Option<i32>,
    problem: Problem,
}

impl Reservations {
    /// Holds the ports of these frontends, where it does not already. Those that it cannot hold become
    /// `failed`.
    pub(super) fn take(&mut self, wanted: impl Iterator<Item = (FrontendKey, ServicePortName)>) {
        let mut owners = Owners::default();
        for (key, service) in wanted {
            if self.held.contains_key(&key) || self.failed.get(&key).is_some_and(|f| f.service == service) {
                continue;
            }
            self.failed.remove(&key);
            if let Some((_, hold)) = self.leaving.remove(&key) {
                self.held.insert(key, hold);
            } else if let Err(error) = self.try_hold(key) {
                self.failed.insert(key, Failure::new(key, service, &error, &mut owners));
            }
        }
    }

    /// The frontend is gone from this generation on: its hold may go when that is applied.
    pub(super) fn give_up(&mut self, key: FrontendKey, generation: u64) {
        self.failed.remove(&key);
        if let Some(hold) = self.held.remove(&key) {
            self.leaving.insert(key, (generation, hold));
        }
    }

    /// Lets go of what no shard uses any more, as all have applied this generation (C2).
    pub(super) fn release(&mut self, applied: u64) {
        let addresses = &mut self.addresses;
        self.leaving.retain(|key, (generation, _)| {
            let stays = applied < *generation;
            if !stays && let Some(of_port) = addresses.get_mut(&(key.protocol, key.port)) {
                of_port.remove(&key.address);
                if of_port.is_empty() {
                    addresses.remove(&(key.protocol, key.port));
                }
            }
            stays
        });
    }

    /// Tries again what has failed. True when something could be held now.
    pub(super) fn retry(&mut self) -> bool {
        let mut owners = Owners::default();
        let mut any = false;
        for (key, failure) in std::mem::take(&mut self.failed) {
            match self.try_hold(key) {
                Ok(()) => any = true,
                // The same error is not described anew, so that it is told once.
                Err(error) if failure.errno == error.raw_os_error() => {
                    self.failed.insert(key, failure);
                }
                Err(error) => {
                    self.failed.insert(key, Failure::new(key, failure.service, &error, &mut owners));
                }
            }
        }
        any
    }

    /// Whether time may change something: a port is wanted or being let go.
    pub(super) fn waiting(&self) -> bool {
        !self.failed.is_empty() || !self.leaving.is_empty()
    }

    /// Frontends whose port could not be held.
    pub(super) fn failed(&self) -> impl Iterator<Item = &FrontendKey> {
        self.failed.keys()
    }

    /// Why, for each.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.failed.values().map(|failure| &failure.problem)
    }

    fn try_hold(&mut self, key: FrontendKey) -> io::Result<()> {
        let own = self.addresses.get(&(key.protocol, key.port));
        let overlaps = own.is_some_and(|own| own.iter().any(|other| key.overlaps(*other)));
        let beside = if overlaps { Beside::OwnHold } else { Beside::Nothing };
        let hold = Hold::take(key.protocol, key.address, key.port, beside)?;
        self.held.insert(key, hold);
        self.addresses.entry((key.protocol, key.port)).or_default().insert(key.address);
        Ok(())
    }
}

impl Failure {
    fn new(key: FrontendKey, service: ServicePortName, error: &io::Error, owners: &mut Owners) -> Self {
        let (why, hint) = explain(key, error, owners);
        let taken = Errno::from_io_error(error) == Some(Errno::ADDRINUSE);
        let problem = Problem {
            reason: if taken { Reason::PortTaken } else { Reason::PortUnavailable },
            object: Some(format!("Service {}", service.service)),
            hint: Some(hint),
            ..Problem::error(format!("{key} of port {service} cannot be served: {why}"))
        };
        Self { service, errno: error.raw_os_error(), problem }
    }
}

/// Why a port cannot be held, and what to do.
fn explain(key: FrontendKey, error: &io::Error, owners: &mut Owners) -> (String, String) {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => {
            let owner = owners.of_port(key.protocol, key.port).unwrap_or("another socket");
            let hint = "stop it or choose another port; it is tried again every second";
            (format!("the port is taken by {owner}"), hint.to_owned())
        }
        Some(Errno::ACCESS) => (
            "ports this low need a right that this process lacks".to_owned(),
            format!(
                "run `setcap cap_net_bind_service=ep` on the binary, give the container NET_BIND_SERVICE, or run `sysctl \
                 -w net.ipv4.ip_unprivileged_port_start={}`; it is tried again every second",
                key.port
            ),
        ),
        Some(Errno::ADDRNOTAVAIL) => {
            ("the address is not available on this node".to_owned(), "add it to an interface".to_owned())
        }
        Some(Errno::MFILE | Errno::NFILE) => (
            "no file descriptor is free".to_owned(),
            "raise the limit on open files (ulimit -n, LimitNOFILE=)".to_owned(),
        ),
        _ => (error.to_string(), "it is tried again every second".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NamespacedName;

    fn problem(errno: Errno) -> String {
        let key = FrontendKey { protocol: Protocol::Tcp, address: None, port: 80 };
        let service = ServicePortName {
            service: NamespacedName::new("default", "web"),
            port: "http".into(),
            protocol: Protocol::Tcp,
        };
        Failure::new(key, service, &errno.into(), &mut Owners::default()).problem.to_string()
    }

    #[test]
    fn every_reason_says_what_and_what_to_do() {
        let start = "Service default/web: TCP *:80 of port default/web:http cannot be served: ";
        for (errno, says) in [
            (Errno::ACCESS, "ip_unprivileged_port_start=80"),
            (Errno::ADDRNOTAVAIL, "add it to an interface"),
            (Errno::MFILE, "ulimit -n"),
            (Errno::NFILE, "ulimit -n"),
            (Errno::ADDRINUSE, "the port is taken by"),
            (Errno::NOBUFS, "os error"),
        ] {
            let text = problem(errno);
            assert!(text.starts_with(start) && text.contains(says), "{text}");
        }
    }
}

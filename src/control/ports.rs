//! Node ports that the kernel may give to outgoing connections: whoever has one keeps a Service from being served
//! after the next restart. They are reported in one line, or reserved (`--reserve-ports`).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::limits;
use crate::net::port_list::{self, PortList};
use crate::problem::{Problem, Reason};
use crate::route::snapshot::{Frontend, FrontendKey, FrontendKind};

/// See the module. Dropping it takes its reservations back.
pub(super) struct NodePorts {
    reserve: bool,
    served: BTreeSet<FrontendKey>,
    changed: bool,
    /// What this process has put among the reserved ports.
    ours: PortList,
    any_ours: bool,
    problem: Option<Problem>,
}

/// The list of reserved ports as it should be.
struct Plan {
    list: PortList,
    /// What of it this process put there.
    ours: PortList,
    /// Ports that must be in it and were not.
    exposed: Vec<u16>,
}

impl NodePorts {
    pub(super) fn new(reserve: bool) -> Self {
        Self {
            reserve,
            served: BTreeSet::new(),
            changed: false,
            ours: PortList::default(),
            any_ours: false,
            problem: None,
        }
    }

    pub(super) fn serve(&mut self, frontend: &Frontend) {
        if frontend.kind == FrontendKind::NodePort {
            self.changed |= self.served.insert(frontend.key);
        }
    }

    pub(super) fn give_up(&mut self, key: &FrontendKey) {
        self.changed |= self.served.remove(key);
    }

    pub(super) fn settle(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        // Where the kernel does not tell there is nothing to say.
        let (Some(range), Ok(reserved)) = (port_list::local_range(), port_list::reserved()) else { return };
        let wanted = self.served.iter().map(|key| key.port).collect();
        let plan = plan(&reserved, &range, &wanted, &self.ours);
        let change = if self.reserve { self.write(&reserved, &plan) } else { Ok(()) };
        self.problem = match change {
            Ok(()) if self.reserve => None,
            Ok(()) => exposed(&plan, &range, "start with --reserve-ports, or "),
            Err(error) => exposed(&plan, &range, "").map(|problem| Problem {
                message: format!("{}, and --reserve-ports cannot change that: {error}", problem.message),
                ..problem
            }),
        };
    }

    pub(super) fn retry(&mut self) {
        if self.problem.is_some() {
            self.look_again();
        }
    }

    /// Looks what the kernel has now: others change it, too.
    pub(super) fn look_again(&mut self) {
        self.changed = true;
        self.settle();
    }

    pub(super) fn waiting(&self) -> bool {
        self.problem.is_some()
    }

    pub(super) fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    fn write(&mut self, reserved: &PortList, plan: &Plan) -> std::io::Result<()> {
        if *reserved != plan.list {
            port_list::reserve(&plan.list)?;
        }
        self.ours = plan.ours.clone();
        self.any_ours = self.ours != PortList::default();
        Ok(())
    }
}

impl Drop for NodePorts {
    fn drop(&mut self) {
        if !self.any_ours {
            return;
        }
        let Ok(reserved) = port_list::reserved() else { return };
        // Others may have changed it meanwhile.
        let plan = plan(&reserved, &(0..=u16::MAX), &BTreeSet::new(), &self.ours);
        if let Err(error) = port_list::reserve(&plan.list) {
            tracing::warn!(%error, "cannot take node ports out of net.ipv4.ip_local_reserved_ports");
        }
    }
}

/// Adds what is wanted inside `range`, takes out what only we had put there, and keeps all else.
fn plan(reserved: &PortList, range: &RangeInclusive<u16>, wanted: &BTreeSet<u16>, ours: &PortList) -> Plan {
    let mut plan = Plan { list: reserved.clone(), ours: PortList::default(), exposed: Vec::new() };
    for port in 0..=u16::MAX {
        if ours.contains(port) && !wanted.contains(&port) {
            plan.list.set(port, false);
        }
    }
    for &port in wanted.iter().filter(|port| range.contains(port)) {
        if !reserved.contains(port) {
            plan.exposed.push(port);
        }
        if !reserved.contains(port) || ours.contains(port) {
            plan.list.set(port, true);
            plan.ours.set(port, true);
        }
    }
    plan
}

fn exposed(plan: &Plan, range: &RangeInclusive<u16>, option: &str) -> Option<Problem> {
    let named: Vec<String> = plan.exposed.iter().take(limits::PORTS_NAMED).map(u16::to_string).collect();
    if named.is_empty() {
        return None;
    }
    let more = match plan.exposed.len() - named.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let (ports, them) = if plan.exposed.len() == 1 { ("node port", "it") } else { ("node ports", "them") };
    Some(Problem {
        reason: Reason::PortNotReserved,
        hint: Some(format!("{option}run `sysctl -w net.ipv4.ip_local_reserved_ports={}`", plan.list.print())),
        ..Problem::warning(format!(
            "{ports} {}{more}: the kernel may give {them} to outgoing connections, as net.ipv4.ip_local_port_range is \
             {} {}",
            named.join(", "),
            range.start(),
            range.end()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: RangeInclusive<u16> = 32_768..=60_999;

    #[test]
    fn ports_of_the_range_are_added_and_what_others_reserved_stays() {
        let reserved = PortList::parse("8080,40000,50000-50010");
        let wanted = BTreeSet::from([30_080, 40_000, 40_001, 60_999, 61_000]);
        let first = plan(&reserved, &RANGE, &wanted, &PortList::default());
        assert_eq!(first.exposed, [40_001, 60_999]);
        assert_eq!(first.list.print(), "8080,40000-40001,50000-50010,60999");
        assert_eq!(first.ours.print(), "40001,60999");
        // One of them goes; another one was reserved by somebody else meanwhile.
        let reserved = PortList::parse("8080,9090,40000-40001,50000-50010,60999");
        let next = plan(&reserved, &RANGE, &BTreeSet::from([40_000, 60_999]), &first.ours);
        assert_eq!(next.list.print(), "8080,9090,40000,50000-50010,60999");
        assert_eq!((next.ours.print(), next.exposed.len()), ("60999".to_owned(), 0));
        let end = plan(&next.list, &RANGE, &BTreeSet::new(), &next.ours);
        assert_eq!(end.list.print(), "8080,9090,40000,50000-50010");
    }

    #[test]
    fn one_line_says_which_command_helps() {
        let text = |wanted: &[u16]| {
            let wanted = wanted.iter().copied().collect();
            let plan = plan(&PortList::parse("8080"), &RANGE, &wanted, &PortList::default());
            exposed(&plan, &RANGE, "start with --reserve-ports, or ").map(|problem| problem.to_string())
        };
        assert_eq!(text(&[30_080]), None);
        assert_eq!(
            text(&[30_080, 40_000]).unwrap(),
            "node port 40000: the kernel may give it to outgoing connections, as net.ipv4.ip_local_port_range is 32768 \
             60999 (start with --reserve-ports, or run `sysctl -w net.ipv4.ip_local_reserved_ports=8080,40000`)"
        );
        let many: Vec<u16> = (40_000..40_100).collect();
        let many = text(&many).unwrap();
        assert!(many.contains(" and 92 more: ") && many.contains("=8080,40000-40099`"), "{many}");
    }
}

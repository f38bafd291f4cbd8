//! Allocation of nodePorts (pkg/registry/core/service/portallocator, storage/alloc.go).
//!
//! By number, whatever the protocol. The lower band of the range is for ports that people choose;
//! automatic ones come from the upper band while it has any.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use crate::k8s::field::FieldProblem;
use crate::k8s::model::Service;
use crate::k8s::service::ServiceRequest;
use crate::types::NamespacedName;

/// How errors begin that are not about what a user wrote.
pub(super) const INTERNAL: &str = "Internal error occurred: ";

const HEALTH_CHECK: &str = "failed to allocate requested HealthCheck NodePort";

/// Which Service holds which nodePort.
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    holders: BTreeMap<u16, NamespacedName>,
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        Self { range, holders: BTreeMap::new() }
    }

    /// The nodePorts of a Service, as it stands beside the others; `previous` is itself before the
    /// change, `avoid` are numbers that others of the same change ask for.
    pub(super) fn plan(
        &self,
        request: &ServiceRequest,
        previous: Option<&Service>,
        avoid: &BTreeSet<u16>,
    ) -> Result<Vec<Option<u16>>, Vec<FieldProblem>> {
        let key = &request.service.key;
        let mut asked = request.node_ports.clone();
        if request.wants_node_ports {
            keep(&mut asked, request, previous);
        }
        let mut plan = Plan { ports: self, key, avoid, taken: BTreeSet::new(), problems: Vec::new() };
        let mut by_port: HashMap<u16, u16> = HashMap::new();
        let mut node_ports = Vec::with_capacity(asked.len());
        // Numbers that are asked for go first, so that none of the automatic ones takes them.
        for (index, (port, number)) in request.service.ports.iter().zip(&asked).enumerate() {
            let node_port = if *number == 0 { None } else { plan.fixed(index, *number) };
            if let (Some(node_port), None) = (node_port, previous) {
                by_port.entry(port.port).or_insert(node_port);
            }
            node_ports.push(node_port);
        }
        for (index, port) in request.service.ports.iter().enumerate() {
            if !request.wants_node_ports || asked.get(index) != Some(&0) {
                continue;
            }
            // Ports that share a number share their nodePort when the Service is new.
            let twin = by_port.get(&port.port).copied().filter(|_| previous.is_none());
            let node_port = twin.or_else(|| plan.automatic(super::seed(key, &port.name)));
            if let Some(node_port) = node_port {
                by_port.insert(port.port, node_port);
            }
            if let Some(slot) = node_ports.get_mut(index) {
                *slot = node_port;
            }
        }
        if plan.problems.is_empty() { Ok(node_ports) } else { Err(plan.problems) }
    }

    /// The healthCheckNodePort of a Service beside the nodePorts that were planned for it; `previous` is
    /// the one that it has.
    pub(super) fn plan_health_check(
        &self,
        request: &ServiceRequest,
        node_ports: &[Option<u16>],
        previous: Option<u16>,
        avoid: &BTreeSet<u16>,
    ) -> Result<Option<u16>, Vec<FieldProblem>> {
        let Some(asked) = request.health_check else { return Ok(None) };
        let key = &request.service.key;
        let taken = node_ports.iter().flatten().copied().collect();
        let mut plan = Plan { ports: self, key, avoid, taken, problems: Vec::new() };
        let number = if asked == 0 { previous.map_or(0, i32::from) } else { asked };
        let port = match number {
            0 => plan.automatic(super::seed(key, "health check")),
            number if u16::try_from(number).is_ok_and(|port| plan.taken.contains(&port)) => {
                plan.problems.push(FieldProblem::rejected("", "provided port is already allocated"));
                None
            }
            number => plan.fixed(0, number),
        };
        let said = |problem: FieldProblem| {
            if problem.message.starts_with(INTERNAL) {
                return problem;
            }
            let why = problem.message.rsplit(": ").next().unwrap_or_default();
            let message = format!("{INTERNAL}{HEALTH_CHECK} {number}: {why}");
            FieldProblem { field: String::new(), message, ..problem }
        };
        if plan.problems.is_empty() { Ok(port) } else { Err(plan.problems.into_iter().map(said).collect()) }
    }

    /// Gives a Service exactly the ports it has.
    pub(super) fn hold(&mut self, service: &Service, health_check: Option<u16>) {
        for node_port in service.ports.iter().filter_map(|port| port.node_port).chain(health_check) {
            self.holders.insert(node_port, service.key.clone());
        }
    }

    /// Takes its ports back.
    pub(super) fn release(&mut self, service: &Service, health_check: Option<u16>) {
        for node_port in service.ports.iter().filter_map(|port| port.node_port).chain(health_check) {
            if self.holders.get(&node_port) == Some(&service.key) {
                self.holders.remove(&node_port);
            }
        }
    }

    /// A free port: from the automatic band, beginning at a place that the seed decides, then from the
    /// other one.
    fn free(&self, seed: u64, is_free: impl Fn(u16) -> bool) -> Option<u16> {
        let (first, last) = (u32::from(*self.range.start()), u32::from(*self.range.end()));
        let size = (last + 1).checked_sub(first)?;
        let band = static_band(size);
        let dynamic = size - band;
        let start = u32::try_from(seed % u64::from(dynamic.max(1))).unwrap_or(0);
        let upper = (0..dynamic).map(|step| first + band + (start + step) % dynamic);
        let mut candidates = upper.chain(first..first + band).filter_map(|port| u16::try_from(port).ok());
        candidates.find(|port| !self.holders.contains_key(port) && is_free(*port))
    }
}

/// The numbers that a Service has already are kept, matched by port name, unless it now gives them to
/// another of its ports (patchAllocatedValues).
fn keep(asked: &mut [i32], request: &ServiceRequest, previous: Option<&Service>) {
    let Some(previous) = previous else { return };
    let used: BTreeSet<i32> = asked.iter().copied().collect();
    for (number, port) in asked.iter_mut().zip(&request.service.ports) {
        let old = previous.ports.iter().find(|old| old.name == port.name).and_then(|old| old.node_port);
        if let (0, Some(old)) = (*number, old.map(i32::from).filter(|old| !used.contains(old))) {
            *number = old;
        }
    }
}

/// How many ports at the beginning of a range of `size` are left to people (calculateRangeOffset).
fn static_band(size: u32) -> u32 {
    if size <= 16 { 0 } else { (size / 32).clamp(16, 128) }
}

/// The ports of one Service while they are being chosen.
struct Plan<'a> {
    ports: &'a Ports,
    key: &'a NamespacedName,
    avoid: &'a BTreeSet<u16>,
    taken: BTreeSet<u16>,
    problems: Vec<FieldProblem>,
}

impl Plan<'_> {
    fn fixed(&mut self, index: usize, number: i32) -> Option<u16> {
        let field = format!("spec.ports[{index}].nodePort");
        let range = &self.ports.range;
        let Some(port) = u16::try_from(number).ok().filter(|port| range.contains(port)) else {
            let rule = format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.start(),
                range.end()
            );
            self.problems.push(FieldProblem::invalid(field, number, rule));
            return None;
        };
        match self.ports.holders.get(&port).filter(|holder| *holder != self.key) {
            Some(holder) => {
                let problem = FieldProblem::invalid(field, number, "provided port is already allocated");
                self.problems.push(problem.with_hint(format!("Service {holder} has it")));
                None
            }
            None => {
                self.taken.insert(port);
                Some(port)
            }
        }
    }

    fn automatic(&mut self, seed: u64) -> Option<u16> {
        let ports = self.ports;
        let unasked = ports.free(seed, |port| !self.taken.contains(&port) && !self.avoid.contains(&port));
        let port = unasked.or_else(|| ports.free(seed, |port| !self.taken.contains(&port)));
        if port.is_none() && self.problems.is_empty() {
            let message = "Internal error occurred: failed to allocate a nodePort: range is full";
            let problem = FieldProblem::rejected("", message);
            self.problems.push(problem.with_hint("widen --service-node-port-range"));
        }
        self.taken.extend(port);
        port
    }
}

#[cfg(test)]
mod tests;

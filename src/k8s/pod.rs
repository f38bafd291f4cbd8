//! Pods: what makes an endpoint of them (staging/src/k8s.io/endpointslice utils.go podToEndpoint).

use std::net::IpAddr;

use k8s_openapi::api::core::v1;

use super::field::FieldProblem;
use super::ip::{self, Trust};
use super::model::{Pod, PodPort, TargetPort};
use super::service::{Family, protocol};
use super::{meta, names};
use crate::problem::Severity;
use crate::types::Protocol;

/// Validates what endpoints are made of. Without an error among `problems` there is always a Pod.
pub fn read(pod: &v1::Pod, trust: Trust, problems: &mut Vec<FieldProblem>) -> Option<Pod> {
    meta::validate(&pod.metadata, true, names::dns_1123_subdomain, problems);
    let ips = ips(pod, trust, problems);
    let ports = ports(pod, problems);
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return None;
    }
    let pod = Pod {
        key: meta::key(&pod.metadata, true),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        ips,
        ready: condition(pod, "Ready") == Some("True"),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        finished: matches!(phase(pod), Some("Succeeded" | "Failed")),
        node: spec(pod).and_then(|spec| spec.node_name.as_deref()).map(Into::into),
        ports,
    };
    Some(pod)
}

/// What a person who writes a Pod into a file, without a kubelet to fill in its status, forgets.
pub fn doubts(pod: &v1::Pod, problems: &mut Vec<FieldProblem>) {
    let finished = matches!(phase(pod), Some("Succeeded" | "Failed"));
    let status = pod.status.as_ref();
    let has_ip = status.is_some_and(|status| status.pod_ip.is_some() || status.pod_ips.is_some());
    if !has_ip && !finished {
        let doubt = FieldProblem::warning("status.podIP", "the Pod has no address and so is no endpoint");
        problems.push(doubt.with_hint("write status.podIP"));
    } else if condition(pod, "Ready").is_none() && !finished {
        let doubt = FieldProblem::warning("status.conditions", "the Pod has no Ready condition: not ready");
        problems.push(doubt.with_hint("write status.conditions: [{type: Ready, status: \"True\"}]"));
    }
}

impl Pod {
    /// The number of `target` on this Pod (pkg/api/v1/pod FindPort): a name belongs to a port of the
    /// same protocol.
    pub fn resolve(&self, target: &TargetPort, protocol: Protocol) -> Option<u16> {
        match target {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(name) => {
                let port = self.ports.iter().find(|port| port.name == *name && port.protocol == protocol);
                port.map(|port| port.port)
            }
        }
    }

    /// Its address of a family.
    pub fn ip(&self, family: Family) -> Option<IpAddr> {
        self.ips.iter().copied().find(|ip| Family::of(*ip) == family)
    }
}

fn spec(pod: &v1::Pod) -> Option<&v1::PodSpec> {
    pod.spec.as_ref()
}

fn phase(pod: &v1::Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn condition<'a>(pod: &'a v1::Pod, kind: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

/// `status.podIPs`, or `status.podIP` where only that is written.
fn ips(pod: &v1::Pod, trust: Trust, problems: &mut Vec<FieldProblem>) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let first = status.pod_ip.as_deref().filter(|ip| !ip.is_empty());
    let mut texts: Vec<(String, &str)> = Vec::new();
    for (index, pod_ip) in status.pod_ips.iter().flatten().enumerate() {
        texts.push((format!("status.podIPs[{index}].ip"), &pod_ip.ip));
    }
    match (first, texts.first()) {
        (Some(ip), None) => texts.push(("status.podIP".into(), ip)),
        (Some(ip), Some((field, listed))) if ip != *listed => {
            problems.push(FieldProblem::invalid(field, *listed, "must be equal to `podIP`"));
        }
        _ => {}
    }
    let mut ips: Vec<IpAddr> = Vec::new();
    for (field, text) in texts {
        let Some(ip) = ip::read(text, &field, problems) else { continue };
        if let Some(rule) = ip::special(ip, trust) {
            problems.push(FieldProblem::invalid(field, text, rule));
        } else if ips.iter().any(|other| Family::of(*other) == Family::of(ip)) {
            let rule = "may specify no more than one IP for each IP family";
            problems.push(FieldProblem::invalid(field, text, rule));
        } else {
            ips.push(ip);
        }
    }
    ips
}

/// The named ports, in the order of the look-up.
fn ports(pod: &v1::Pod, problems: &mut Vec<FieldProblem>) -> Vec<PodPort> {
    let Some(spec) = spec(pod) else { return Vec::new() };
    let mut found = Vec::new();
    for (index, container) in spec.containers.iter().enumerate() {
        found.extend(container_ports(container, &format!("spec.containers[{index}]"), problems));
    }
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let ports = container_ports(container, &format!("spec.initContainers[{index}]"), problems);
        if container.restart_policy.as_deref() == Some("Always") {
            found.extend(ports);
        }
    }
    found
}

fn container_ports(container: &v1::Container, field: &str, problems: &mut Vec<FieldProblem>) -> Vec<PodPort> {
    const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
    let mut found = Vec::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let field = format!("{field}.ports[{index}]");
        if let Some(rule) = names::port_number(port.container_port) {
            let field = format!("{field}.containerPort");
            problems.push(FieldProblem::invalid(field, port.container_port, rule));
        }
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            meta::add(problems, &format!("{field}.name"), name, names::port_name(name));
        }
        match (protocol(port.protocol.as_deref()), u16::try_from(port.container_port)) {
            (None, _) => {
                let name = port.protocol.as_deref().unwrap_or_default();
                problems.push(FieldProblem::unsupported(format!("{field}.protocol"), name, &PROTOCOLS));
            }
            (Some(protocol), Ok(port)) if !name.is_empty() => {
                found.push(PodPort { name: name.into(), protocol, port });
            }
            _ => {}
        }
    }
    found
}

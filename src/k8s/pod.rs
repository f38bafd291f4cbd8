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
        ready: is_ready(pod, trust),
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
    } else if condition(pod, "Ready").is_none() && !is_ready(pod, Trust::File) && !finished {
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

/// The condition `Ready`. In a file that a person wrote there may be no conditions at all: whoever gives such
/// a Pod an address, and does not say that it is pending, means that it is there.
fn is_ready(pod: &v1::Pod, trust: Trust) -> bool {
    let unsaid = || pod.status.as_ref().is_none_or(|s| s.conditions.as_ref().is_none_or(Vec::is_empty));
    match condition(pod, "Ready") {
        Some(ready) => ready == "True",
        None => trust == Trust::File && unsaid() && phase(pod).is_none_or(|phase| phase == "Running"),
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
            // An API accepts the Pod, and makes no endpoint of such an address.
            problems.push(match trust {
                Trust::File => FieldProblem::invalid(field, text, rule),
                Trust::Api => FieldProblem::warning(field, format!("{text} is no endpoint: it {rule}")),
            });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn try_read(json: &str) -> (Option<Pod>, Vec<String>) {
        let mut problems = Vec::new();
        let pod = serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        doubts(&pod, &mut problems);
        let read = read(&pod, Trust::File, &mut problems);
        (read, problems.into_iter().map(|p| format!("{}: {}", p.field, p.message)).collect())
    }

    fn pod(rest: &str) -> Pod {
        let (pod, problems) = try_read(&format!(r#"{{"metadata": {{"name": "a"}}, {rest}}}"#));
        pod.unwrap_or_else(|| panic!("{problems:?}"))
    }

    /// TestFindPort.
    #[test]
    fn named_ports_are_found_by_name_and_protocol() {
        let containers = r#"[{"name": "a", "ports": [{"containerPort": 11}, {"name": "p", "containerPort": 22}]},
            {"name": "b", "ports": [{"name": "p", "containerPort": 33}, {"name": "q", "containerPort": 44},
             {"name": "p", "containerPort": 55, "protocol": "UDP"}]}]"#;
        let init = r#"[{"name": "i", "ports": [{"name": "once", "containerPort": 66}]},
            {"name": "s", "restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 77},
             {"name": "q", "containerPort": 88}]}]"#;
        let pod = pod(&format!(r#""spec": {{"containers": {containers}, "initContainers": {init}}}"#));
        let name = |name: &str| TargetPort::Name(name.into());
        let table = [
            (TargetPort::Number(93), Protocol::Tcp, Some(93)),
            (TargetPort::Number(93), Protocol::Udp, Some(93)),
            (name("p"), Protocol::Tcp, Some(22)),
            (name("p"), Protocol::Udp, Some(55)),
            (name("p"), Protocol::Sctp, None),
            (name("q"), Protocol::Tcp, Some(44)),
            (name("side"), Protocol::Tcp, Some(77)),
            (name("side"), Protocol::Udp, None),
            (name("once"), Protocol::Tcp, None),
            (name("none"), Protocol::Tcp, None),
        ];
        for (target, protocol, port) in table {
            assert_eq!(pod.resolve(&target, protocol), port, "{target:?} {protocol}");
        }
    }

    #[test]
    fn state() {
        let ready = r#""conditions": [{"type": "Ready", "status": "True"}]"#;
        let p = pod(&format!(r#""status": {{"podIP": "10.0.0.1", {ready}}}"#));
        assert!(p.ready && !p.terminating && !p.finished);
        assert_eq!(p.ips, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(
            !pod(r#""status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "False"}]}"#)
                .ready
        );
        assert!(!pod(r#""status": {"podIP": "10.0.0.1", "conditions": [{"type": "Initialized", "status": "True"}]}"#).ready);
        assert!(pod(r#""status": {"phase": "Succeeded"}"#).finished);
        assert!(pod(r#""status": {"phase": "Failed"}"#).finished);
        assert!(!pod(r#""status": {"phase": "Pending"}"#).finished);
        let (terminating, _) = try_read(
            r#"{"metadata": {"name": "a", "deletionTimestamp": "2026-01-02T03:04:05Z"}, "spec": {"containers": [], "nodeName": "n"}}"#,
        );
        let terminating = terminating.unwrap();
        assert!(terminating.terminating);
        assert_eq!(terminating.node.as_deref(), Some("n"));
    }

    #[test]
    fn addresses() {
        let both =
            pod(r#""status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}"#);
        assert_eq!(both.ip(Family::V4), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(both.ip(Family::V6), Some("fd00::1".parse().unwrap()));
        let v6 = pod(r#""status": {"podIPs": [{"ip": "::1"}]}"#);
        assert_eq!((v6.ip(Family::V4), v6.ip(Family::V6)), (None, Some("::1".parse().unwrap())));
    }

    #[test]
    fn an_api_accepts_an_address_that_makes_no_endpoint() {
        let json = r#"{"metadata": {"name": "a"}, "status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}"#;
        let mut problems = Vec::new();
        let pod = read(&serde_json::from_str(json).unwrap(), Trust::Api, &mut problems).unwrap();
        assert_eq!(pod.ips, [] as [IpAddr; 0]);
        let told: Vec<String> = problems.into_iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
        assert_eq!(
            told,
            [
                "status.podIPs[0].ip: 127.0.0.1 is no endpoint: it may not be in the loopback range (127.0.0.0/8, ::1/128)"
            ]
        );
    }

    #[test]
    fn bad_pods() {
        let table = [
            (
                r#"{"metadata": {"name": "A"}, "status": {"podIP": "x", "conditions": [{"type": "Ready", "status": "True"}]}}"#,
                vec![
                    "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                    "status.podIP: Invalid value: \"x\": must be a valid IP address",
                ],
            ),
            (
                r#"{"metadata": {"name": "a"}, "status": {"phase": "Failed", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.2"}, {"ip": "10.0.0.3"}]}}"#,
                vec![
                    "status.podIPs[0].ip: Invalid value: \"10.0.0.2\": must be equal to `podIP`",
                    "status.podIPs[1].ip: Invalid value: \"10.0.0.3\": may specify no more than one IP for each IP family",
                ],
            ),
            (
                r#"{"metadata": {"name": "a"}, "status": {"phase": "Failed"}, "spec": {"containers": [{"name": "c", "ports":
                [{"containerPort": 0}, {"containerPort": 1, "protocol": "X"}, {"containerPort": 1, "name": "80"}]}]}}"#,
                vec![
                    "spec.containers[0].ports[0].containerPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "spec.containers[0].ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                    "spec.containers[0].ports[2].name: Invalid value: \"80\": must contain at least one letter (a-z)",
                ],
            ),
        ];
        for (json, expected) in table {
            let (pod, problems) = try_read(json);
            assert_eq!(pod, None, "{json}");
            assert_eq!(problems.len(), expected.len(), "{problems:#?}");
            for (problem, expected) in problems.iter().zip(expected) {
                assert!(problem.starts_with(expected), "{problem}");
            }
        }
    }

    #[test]
    fn what_a_person_forgets_is_a_warning() {
        let (pod, problems) = try_read(r#"{"metadata": {"name": "a"}}"#);
        assert!(pod.is_some());
        assert_eq!(problems, ["status.podIP: the Pod has no address and so is no endpoint"]);
        let half = r#"{"metadata": {"name": "a"}, "status": {"podIP": "127.0.0.2", "phase": "Pending"}}"#;
        let (pod, problems) = try_read(half);
        assert!(pod.is_some_and(|pod| !pod.ready));
        assert_eq!(problems, ["status.conditions: the Pod has no Ready condition: not ready"]);
    }

    #[test]
    fn an_address_without_conditions_is_ready_in_a_file_only() {
        for (status, in_a_file) in [
            (r#"{"podIP": "10.0.0.1"}"#, true),
            (r#"{"podIP": "10.0.0.1", "phase": "Running", "conditions": []}"#, true),
            (r#"{"podIP": "10.0.0.1", "phase": "Pending"}"#, false),
            (r#"{"podIP": "10.0.0.1", "conditions": [{"type": "Initialized", "status": "True"}]}"#, false),
            (r#"{"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "False"}]}"#, false),
        ] {
            let pod =
                serde_json::from_str(&format!(r#"{{"metadata": {{"name": "a"}}, "status": {status}}}"#));
            let pod = pod.unwrap();
            for (trust, ready) in [(Trust::File, in_a_file), (Trust::Api, false)] {
                assert_eq!(read(&pod, trust, &mut Vec::new()).unwrap().ready, ready, "{status} {trust:?}");
            }
        }
    }
}

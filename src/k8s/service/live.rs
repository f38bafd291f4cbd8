//! Services of an API server: defaulted, validated and allocated there, so what is read here is read
//! tolerantly (kubernetes pkg/proxy/servicechangetracker.go, serviceport.go).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{affinity, annotations, health_check_node_port, kind, policy, protocol, source_ranges};
use crate::k8s::field::FieldProblem;
use crate::k8s::ip::{self, Trust};
use crate::k8s::meta;
use crate::k8s::model::{Service, ServicePort, TargetPort};

/// Label of a Service: the proxy that serves it, instead of the cluster's own.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// Of `spec.sessionAffinity: ClientIP` without a configuration.
const DEFAULT_AFFINITY: Duration = Duration::from_secs(10_800);

/// A Service of an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// What a proxy serves of it; `None` where that is nothing at all: one that is headless, an
    /// ExternalName, or broken.
    pub service: Option<Service>,
    /// Label [`PROXY_NAME_LABEL`].
    pub proxy_name: Option<Arc<str>>,
}

/// Reads a Service. What is wrong with a part of it is a problem, and that part is left out; where one
/// of its ports is broken that is the whole Service.
pub fn live(service: &v1::Service, problems: &mut Vec<FieldProblem>) -> Live {
    let proxy_name = service.metadata.labels.as_ref().and_then(|labels| labels.get(PROXY_NAME_LABEL));
    let proxy_name = proxy_name.map(|name| name.as_str().into());
    let Some(spec) = service.spec.as_ref().filter(|spec| proxied(spec)) else {
        return Live { service: None, proxy_name };
    };
    let cluster_ips = cluster_ips(spec, problems);
    let external_ips = addresses(spec.external_ips.iter().flatten(), "spec.externalIPs", problems);
    let load_balancer_ips = load_balancer_ips(service.status.as_ref(), problems);
    let wishes = annotations::read(service.metadata.annotations.as_ref(), problems);
    annotations::headers_of_datagrams(&wishes, spec, problems);
    let Some(ports) = ports(spec, problems) else { return Live { service: None, proxy_name } };
    let service = Service {
        key: meta::key(&service.metadata, true),
        uid: service.metadata.uid.as_deref().unwrap_or_default().into(),
        age_rank: meta::created(&service.metadata).unwrap_or(u64::MAX),
        kind: kind(spec),
        ports,
        // Its slices are made by the cluster.
        selector: Default::default(),
        cluster_ips,
        any_family: false,
        external_ips,
        load_balancer_ips,
        load_balancer_source_ranges: source_ranges::read(service),
        source_ranges: wishes.source_ranges,
        trusted: false,
        udp_timeout: wishes.udp_timeout,
        udp_stream_timeout: wishes.udp_stream_timeout,
        proxy_protocol: wishes.proxy_protocol,
        accept_proxy_protocol: wishes.accept_proxy_protocol,
        health_check_node_port: health_check_node_port(spec),
        affinity: match spec.session_affinity.as_deref() {
            Some("ClientIP") => Some(affinity(spec).unwrap_or(DEFAULT_AFFINITY)),
            _ => None,
        },
        external_policy: policy(spec.external_traffic_policy.as_deref()),
        internal_policy: policy(spec.internal_traffic_policy.as_deref()),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        algorithm: wishes.algorithm,
        max_connections: wishes.max_connections,
        max_connections_per_client: wishes.max_connections_per_client,
        idle_timeout: wishes.idle_timeout,
    };
    Live { service: Some(service), proxy_name }
}

/// A Service without a clusterIP is not proxied at all, whatever else it has.
fn proxied(spec: &v1::ServiceSpec) -> bool {
    let has_cluster_ip = !matches!(spec.cluster_ip.as_deref(), None | Some("" | "None"));
    has_cluster_ip && spec.type_.as_deref() != Some("ExternalName")
}

fn cluster_ips(spec: &v1::ServiceSpec, problems: &mut Vec<FieldProblem>) -> Vec<IpAddr> {
    let list = spec.cluster_ips.as_ref().filter(|list| !list.is_empty());
    let texts = list.map_or(spec.cluster_ip.as_slice(), Vec::as_slice);
    addresses(texts.iter(), "spec.clusterIPs", problems)
}

fn load_balancer_ips(status: Option<&v1::ServiceStatus>, problems: &mut Vec<FieldProblem>) -> Vec<IpAddr> {
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let virtual_ips = ingress.iter().filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    let texts = virtual_ips.filter_map(|ingress| ingress.ip.as_ref()).filter(|text| !text.is_empty());
    addresses(texts, "status.loadBalancer.ingress", problems)
}

/// Those that can be read and may be served. That they are written in an old-fashioned way is the
/// concern of whoever wrote them.
fn addresses<'a>(
    texts: impl Iterator<Item = &'a String>,
    list: &str,
    problems: &mut Vec<FieldProblem>,
) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for (index, text) in texts.enumerate() {
        let field = format!("{list}[{index}]");
        let Some(ip) = ip::read(text, &field, &mut Vec::new()) else {
            problems.push(FieldProblem::invalid(field, text, "must be a valid IP address"));
            continue;
        };
        match ip::special(ip, Trust::Api) {
            Some(rule) => problems.push(FieldProblem::invalid(field, text, rule)),
            None => found.push(ip),
        }
    }
    found
}

fn ports(spec: &v1::ServiceSpec, problems: &mut Vec<FieldProblem>) -> Option<Vec<ServicePort>> {
    const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
    const RULE: &str = "must be between 1 and 65535, inclusive";
    let before = problems.len();
    let mut found = Vec::new();
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let field = |name: &str| format!("spec.ports[{index}].{name}");
        let Some(protocol) = protocol(port.protocol.as_deref()) else {
            let name = port.protocol.as_deref().unwrap_or_default();
            problems.push(FieldProblem::unsupported(field("protocol"), name, &PROTOCOLS));
            continue;
        };
        let Some(number) = u16::try_from(port.port).ok().filter(|number| *number != 0) else {
            problems.push(FieldProblem::invalid(field("port"), port.port, RULE));
            continue;
        };
        let node_port = port.node_port.unwrap_or(0);
        let Ok(node_port) = u16::try_from(node_port) else {
            problems.push(FieldProblem::invalid(field("nodePort"), node_port, RULE));
            continue;
        };
        let name: Arc<str> = port.name.as_deref().unwrap_or_default().into();
        let target = target(port, number);
        found.push(ServicePort {
            name,
            protocol,
            port: number,
            node_port: Some(node_port).filter(|n| *n != 0),
            target,
        });
    }
    (problems.len() == before).then_some(found)
}

/// No proxy reads it: the number is the slice's.
fn target(port: &v1::ServicePort, number: u16) -> TargetPort {
    match &port.target_port {
        Some(IntOrString::String(name)) => TargetPort::Name(name.as_str().into()),
        Some(IntOrString::Int(target)) => TargetPort::Number(u16::try_from(*target).unwrap_or(number)),
        None => TargetPort::Number(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"{"metadata": {"name": "web", "namespace": "shop", "uid": "u",
        "creationTimestamp": "1970-01-01T00:00:07Z"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
          "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web", "nodePort": 30080}]}}"#;

    fn read(patch: &str) -> (Live, Vec<String>) {
        let mut object: serde_json::Value = serde_json::from_str(BASE).unwrap();
        json_patch::merge(
            &mut object,
            &serde_json::from_str(patch).unwrap_or_else(|e| panic!("{patch}: {e}")),
        );
        let mut problems = Vec::new();
        let live = live(&serde_json::from_value(object).unwrap(), &mut problems);
        (live, problems.into_iter().map(|p| format!("{}: {}", p.field, p.message)).collect())
    }

    fn served(patch: &str) -> Service {
        let (live, problems) = read(patch);
        assert_eq!(problems, Vec::<String>::new(), "{patch}");
        live.service.unwrap_or_else(|| panic!("{patch}"))
    }

    fn texts(ips: &[IpAddr]) -> Vec<String> {
        ips.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_allocated_service_is_taken_as_it_is() {
        let service = served("{}");
        assert_eq!((service.key.to_string(), &*service.uid, service.age_rank), ("shop/web".into(), "u", 7));
        let port = &service.ports[0];
        assert_eq!((port.port, port.node_port, &*port.name), (80, Some(30080), "http"));
        assert_eq!(texts(&service.cluster_ips), ["10.96.0.7"]);
        assert_eq!(service.affinity, None);
    }

    /// TestBuildServiceMapServiceHeadless, …TypeExternalName.
    #[test]
    fn services_without_a_cluster_ip_are_not_proxied() {
        for patch in [
            r#"{"spec": {"clusterIP": "None", "clusterIPs": ["None"], "externalIPs": ["1.2.3.4"]}}"#,
            r#"{"spec": {"clusterIP": "", "clusterIPs": null}}"#,
            r#"{"spec": {"clusterIP": null, "clusterIPs": null}}"#,
            r#"{"spec": {"type": "ExternalName", "externalName": "a.b"}}"#,
            r#"{"spec": null}"#,
        ] {
            assert_eq!(read(patch), (Live { service: None, proxy_name: None }, vec![]), "{patch}");
        }
    }

    #[test]
    fn the_label_names_another_proxy() {
        let (live, _) =
            read(r#"{"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "other"}}}"#);
        assert_eq!(live.proxy_name.as_deref(), Some("other"));
        assert_eq!(read("{}").0.proxy_name, None);
    }

    /// TestServiceToServiceMap: ipMode; whitespace in ranges.
    #[test]
    fn virtual_addresses_of_a_load_balancer_count() {
        let spec = r#""type": "LoadBalancer", "loadBalancerSourceRanges": [" 10.0.0.0/8 ", "2001:db8::/32"]"#;
        let status = r#""status": {"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}, {"ip": "5.6.7.9", "ipMode": "VIP"},
            {"ip": "5.6.7.10", "ipMode": "Proxy"}, {"hostname": "x"}, {"ip": "2001:db8::8"}]}}"#;
        let service = served(&format!(r#"{{"spec": {{{spec}}}, {status}}}"#));
        assert_eq!(texts(&service.load_balancer_ips), ["5.6.7.8", "5.6.7.9", "2001:db8::8"]);
        assert_eq!(service.load_balancer_source_ranges.len(), 2);
    }

    /// TestBadIPs: leading zeros are decimal.
    #[test]
    fn leading_zeros_are_decimal() {
        let service = served(r#"{"spec": {"externalIPs": ["192.168.099.022"]}}"#);
        assert_eq!(texts(&service.external_ips), ["192.168.99.22"]);
    }

    #[test]
    fn a_health_check_is_for_load_balancers_with_policy_local() {
        let of = |kind: &str, policy: &str| {
            let spec = format!(
                r#""type": "{kind}", "externalTrafficPolicy": "{policy}", "healthCheckNodePort": 32000"#
            );
            served(&format!(r#"{{"spec": {{{spec}}}}}"#)).health_check_node_port
        };
        assert_eq!(of("LoadBalancer", "Local"), Some(32000));
        assert_eq!(of("LoadBalancer", "Cluster"), None);
        assert_eq!(of("NodePort", "Local"), None);
    }

    #[test]
    fn affinity_has_kube_proxys_default() {
        let affinity = |patch: &str| served(patch).affinity.map(|time| time.as_secs());
        assert_eq!(affinity(r#"{"spec": {"sessionAffinity": "ClientIP"}}"#), Some(10_800));
        let configured = r#"{"spec": {"sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 4}}}}"#;
        assert_eq!(affinity(configured), Some(4));
        assert_eq!(affinity(r#"{"spec": {"sessionAffinity": "None"}}"#), None);
    }

    #[test]
    fn a_bad_part_is_left_out_and_a_bad_port_is_the_whole_service() {
        let (live, problems) = read(r#"{"spec": {"externalIPs": ["nonsense", "127.0.0.1", "1.2.3.4"]}}"#);
        assert_eq!(texts(&live.service.unwrap().external_ips), ["1.2.3.4"]);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[1].starts_with("spec.externalIPs[1]: Invalid value: \"127.0.0.1\": may not be"));
        for (port, wanted) in [
            (r#"{"port": 65536}"#, "spec.ports[0].port: Invalid value: 65536"),
            (r#"{"port": 0}"#, "spec.ports[0].port: Invalid value: 0"),
            (r#"{"port": 1, "nodePort": -1}"#, "spec.ports[0].nodePort: Invalid value: -1"),
            (r#"{"port": 1, "protocol": "QUIC"}"#, "spec.ports[0].protocol: Unsupported value"),
        ] {
            let (live, problems) = read(&format!(r#"{{"spec": {{"ports": [{port}]}}}}"#));
            assert_eq!(live.service, None, "{port}");
            assert!(problems.len() == 1 && problems[0].starts_with(wanted), "{problems:?}");
        }
    }
}

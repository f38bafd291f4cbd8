//! Services: defaulting, validation, and what is left to allocate.

mod annotations;
mod cluster_ips;
pub mod defaults;
pub mod families;
mod live;
mod source_ranges;
pub mod status;
pub mod update;
mod validate;
pub mod warnings;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::field::FieldProblem;
use super::ip::{self, Trust};
use super::meta;
use super::model::{Service, ServiceKind, ServicePort, TargetPort, TrafficPolicy};
use crate::problem::Severity;
use crate::types::Protocol;

pub use live::{Live, PROXY_NAME_LABEL, live};
pub use validate::validate;

/// A valid Service as it was written: what remains is to allocate addresses and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRequest {
    /// What needs no allocation; its `cluster_ips` and `node_port`s are empty.
    pub service: Service,
    /// Which nodePort each of `service.ports` asks for by number; zero for any, or none.
    pub node_ports: Vec<i32>,
    /// Whether ports without a number get one.
    pub wants_node_ports: bool,
    /// Which clusterIPs it asks for.
    pub cluster_ips: ClusterIps,
    /// `spec.externalName`, where that is its type: such a Service is DNS and nothing else.
    pub external_name: Option<Arc<str>>,
    /// `spec.trafficDistribution`
    pub distribution: Option<Distribution>,
    /// `spec.ipFamilies` of a headless Service, whose slices are for others than proxies.
    pub headless: Vec<Family>,
    /// `spec.healthCheckNodePort` where the type and the policy want one: zero for any.
    pub health_check: Option<i32>,
    /// `metadata.creationTimestamp`, in seconds since 1970.
    pub created: Option<u64>,
}

/// `spec.clusterIPs` as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterIps {
    /// None at all: headless or ExternalName, and so not proxied.
    None,
    /// One address, or one of each family.
    Wanted {
        /// Those given by number, in order.
        ips: Vec<IpAddr>,
        /// The families named, in order; the first one of the cluster where there is none.
        families: Vec<Family>,
        /// One of each family.
        both: bool,
    },
}

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// `spec.trafficDistribution`: whose endpoints are hinted at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Those of the same zone (`PreferSameZone`, and `PreferClose`, its older name).
    SameZone,
    /// Those of the same node, then those of the same zone.
    SameNode,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    fn named(name: &str) -> Self {
        if name == "IPv6" { Self::V6 } else { Self::V4 }
    }

    /// As `spec.ipFamilies` has it.
    pub fn as_str(self) -> &'static str {
        if self == Self::V4 { "IPv4" } else { "IPv6" }
    }
}

/// Defaults and validates a Service. Without an error among `problems` there is always a request.
pub fn read(
    mut service: v1::Service,
    trust: Trust,
    problems: &mut Vec<FieldProblem>,
) -> Option<ServiceRequest> {
    defaults::set(&mut service);
    validate(&service, trust, problems);
    let mut request = request(&service, problems);
    request.service.trusted = trust == Trust::File;
    request.service.any_family = trust == Trust::File && names_no_family(&service);
    (!problems.iter().any(|problem| problem.severity == Severity::Error)).then_some(request)
}

/// What a defaulted Service asks for; where it is not valid, as far as that can be told.
pub fn request(service: &v1::Service, problems: &mut Vec<FieldProblem>) -> ServiceRequest {
    let wishes = annotations::read(service.metadata.annotations.as_ref(), problems);
    let empty = v1::ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    annotations::headers_of_datagrams(&wishes, spec, problems);
    let ports = spec.ports.as_deref().unwrap_or_default();
    let kind = kind(spec);
    let allocate = kind == ServiceKind::NodePort
        || kind == ServiceKind::LoadBalancer && spec.allocate_load_balancer_node_ports != Some(false);
    ServiceRequest {
        service: Service {
            key: meta::key(&service.metadata, true),
            uid: service.metadata.uid.as_deref().unwrap_or_default().into(),
            trusted: false,
            age_rank: 0,
            kind,
            ports: ports.iter().filter_map(port).collect(),
            selector: spec.selector.clone().unwrap_or_default(),
            cluster_ips: Vec::new(),
            any_family: false,
            external_ips: addresses(spec.external_ips.iter().flatten()),
            load_balancer_ips: load_balancer_ips(service.status.as_ref()),
            load_balancer_source_ranges: source_ranges::read(service),
            source_ranges: wishes.source_ranges,
            health_check_node_port: health_check_node_port(spec),
            affinity: affinity(spec),
            external_policy: policy(spec.external_traffic_policy.as_deref()),
            internal_policy: policy(spec.internal_traffic_policy.as_deref()),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            algorithm: wishes.algorithm,
            max_connections: wishes.max_connections,
            max_connections_per_client: wishes.max_connections_per_client,
            idle_timeout: wishes.idle_timeout,
            udp_timeout: wishes.udp_timeout,
            udp_stream_timeout: wishes.udp_stream_timeout,
            proxy_protocol: wishes.proxy_protocol,
            accept_proxy_protocol: wishes.accept_proxy_protocol,
        },
        node_ports: ports.iter().map(|port| port.node_port.unwrap_or(0)).collect(),
        wants_node_ports: allocate,
        cluster_ips: cluster_ips::read(spec),
        external_name: spec
            .external_name
            .as_deref()
            .filter(|_| spec.type_.as_deref() == Some("ExternalName"))
            .map(Into::into),
        distribution: match spec.traffic_distribution.as_deref() {
            Some("PreferSameNode") => Some(Distribution::SameNode),
            Some(_) => Some(Distribution::SameZone),
            None => None,
        },
        headless: headless_families(spec),
        health_check: update::needs_health_check(spec).then(|| spec.health_check_node_port.unwrap_or(0)),
        created: meta::created(&service.metadata),
    }
}

/// An API fills them in; a file need not.
fn names_no_family(service: &v1::Service) -> bool {
    let Some(spec) = &service.spec else { return true };
    let lists = [&spec.ip_families, &spec.cluster_ips];
    lists.into_iter().flatten().all(Vec::is_empty) && spec.ip_family_policy.is_none()
}

fn headless_families(spec: &v1::ServiceSpec) -> Vec<Family> {
    if spec.cluster_ip.as_deref() != Some("None") {
        return Vec::new();
    }
    let named = spec.ip_families.iter().flatten().map(|name| Family::named(name)).collect::<Vec<_>>();
    if named.is_empty() { vec![Family::V4] } else { named }
}

fn kind(spec: &v1::ServiceSpec) -> ServiceKind {
    match spec.type_.as_deref() {
        Some("NodePort") => ServiceKind::NodePort,
        Some("LoadBalancer") => ServiceKind::LoadBalancer,
        _ => ServiceKind::ClusterIp,
    }
}

fn port(port: &v1::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.as_deref().unwrap_or_default().into(),
        protocol: protocol(port.protocol.as_deref())?,
        port: u16::try_from(port.port).ok()?,
        node_port: None,
        target: match port.target_port.as_ref()? {
            IntOrString::Int(number) => TargetPort::Number(u16::try_from(*number).ok()?),
            IntOrString::String(name) => TargetPort::Name(name.as_str().into()),
        },
    })
}

/// A protocol by name; TCP where there is none.
pub fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

fn affinity(spec: &v1::ServiceSpec) -> Option<Duration> {
    let client = spec.session_affinity_config.as_ref()?.client_ip.as_ref()?;
    let seconds = u64::try_from(client.timeout_seconds?).ok()?;
    (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| Duration::from_secs(seconds))
}

fn policy(name: Option<&str>) -> TrafficPolicy {
    if name == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

fn health_check_node_port(spec: &v1::ServiceSpec) -> Option<u16> {
    let checked = kind(spec) == ServiceKind::LoadBalancer
        && policy(spec.external_traffic_policy.as_deref()) == TrafficPolicy::Local;
    let port = u16::try_from(spec.health_check_node_port?).ok()?;
    (checked && port != 0).then_some(port)
}

fn load_balancer_ips(status: Option<&v1::ServiceStatus>) -> Vec<IpAddr> {
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let virtual_ips = ingress.iter().filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    addresses(virtual_ips.filter_map(|ingress| ingress.ip.as_ref()))
}

/// Addresses that have been validated.
fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    texts.filter_map(|text| ip::read(text, "", &mut Vec::new())).collect()
}

#[cfg(test)]
mod tests;

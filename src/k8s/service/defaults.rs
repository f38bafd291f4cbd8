//! What the API server fills in (pkg/apis/core/v1/defaults.go SetDefaults_Service,
//! pkg/registry/core/service/strategy.go NormalizeClusterIPs).

use k8s_openapi::api::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Seconds for which a client keeps its endpoint unless the Service says otherwise: three hours.
pub const AFFINITY_SECONDS: i32 = 10_800;

/// Fills in what is left out.
pub fn set(service: &mut Service) {
    set_fields(service);
    normalize_cluster_ips(service.spec.get_or_insert_default());
}

/// The same without `spec.clusterIPs`, which an update takes from the Service as it was.
pub fn set_fields(service: &mut Service) {
    let spec = service.spec.get_or_insert_default();
    set_if_empty(&mut spec.type_, "ClusterIP");
    set_if_empty(&mut spec.session_affinity, "None");
    match spec.session_affinity.as_deref() {
        Some("None") => spec.session_affinity_config = None,
        Some("ClientIP") => set_affinity_timeout(spec),
        _ => {}
    }
    spec.ports.iter_mut().flatten().for_each(set_port);
    let kind = spec.type_.clone().unwrap_or_default();
    if externally_accessible(spec) {
        set_if_empty(&mut spec.external_traffic_policy, "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        set_if_empty(&mut spec.internal_traffic_policy, "Cluster");
    }
    if kind == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
    let ingress = service.status.iter_mut().flat_map(|status| &mut status.load_balancer);
    for ingress in ingress.flat_map(|balancer| &mut balancer.ingress).flatten() {
        if ingress.ip.as_deref().is_some_and(|ip| !ip.is_empty()) {
            ingress.ip_mode.get_or_insert_with(|| "VIP".into());
        }
    }
}

/// Whether clients from outside the cluster reach it (pkg/apis/core/helper ExternallyAccessible).
pub fn externally_accessible(spec: &ServiceSpec) -> bool {
    match spec.type_.as_deref() {
        Some("NodePort" | "LoadBalancer") => true,
        Some("ClusterIP") => spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
        _ => false,
    }
}

fn set_port(port: &mut ServicePort) {
    set_if_empty(&mut port.protocol, "TCP");
    let unset = match &port.target_port {
        None | Some(IntOrString::Int(0)) => true,
        Some(IntOrString::String(name)) => name.is_empty(),
        Some(IntOrString::Int(_)) => false,
    };
    if unset {
        port.target_port = Some(IntOrString::Int(port.port));
    }
}

fn set_affinity_timeout(spec: &mut ServiceSpec) {
    let config = spec.session_affinity_config.get_or_insert(SessionAffinityConfig { client_ip: None });
    let client = config.client_ip.get_or_insert(ClientIPConfig { timeout_seconds: None });
    client.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
}

/// `spec.clusterIPs` from `spec.clusterIP` where only that is given.
pub fn normalize_cluster_ips(spec: &mut ServiceSpec) {
    let first = spec.cluster_ip.clone().unwrap_or_default();
    let ips = spec.cluster_ips.get_or_insert_default();
    if ips.is_empty() && !first.is_empty() {
        ips.push(first);
    }
}

fn set_if_empty(field: &mut Option<String>, value: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(value.to_owned());
    }
}

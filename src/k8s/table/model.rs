//! Services that are not objects of an API: those of manifest files, in the table of `kubectl get services`.

use std::time::Duration;

use super::{Layout, Line, columns, human_duration, print};
use crate::k8s::model::{Service, ServiceKind};
use crate::k8s::resource::Resource;

/// One Service and what the table says of it beyond the model.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The Service.
    pub service: &'a Service,
    /// `spec.externalName` of that type.
    pub external_name: Option<&'a str>,
    /// Time since its creation.
    pub age: Duration,
}

/// The table, with a line end after each line; `namespaces` adds that column.
pub fn services<'a>(rows: impl IntoIterator<Item = Row<'a>>, namespaces: bool) -> String {
    let lines: Vec<Line<'_>> = rows.into_iter().map(line).collect();
    print(columns(Resource::Services), &lines, Layout { namespaces, ..Layout::default() })
}

fn line(row: Row<'_>) -> Line<'_> {
    let Row { service, external_name, age } = row;
    let kind = match (external_name, service.kind) {
        (Some(_), _) => "ExternalName",
        (None, ServiceKind::ClusterIp) => "ClusterIP",
        (None, ServiceKind::NodePort) => "NodePort",
        (None, ServiceKind::LoadBalancer) => "LoadBalancer",
    };
    let cluster_ip = match (external_name, service.cluster_ips.first()) {
        (Some(_), _) => "<none>".to_owned(),
        (None, None) => "None".to_owned(),
        (None, Some(ip)) => ip.to_string(),
    };
    let cells = [
        service.key.name.to_string(),
        kind.to_owned(),
        cluster_ip,
        external_name.map_or_else(|| external_ips(service), str::to_owned),
        ports(service),
        human_duration(age),
    ];
    Line { namespace: &service.key.namespace, cells: cells.map(Into::into).into() }
}

/// A LoadBalancer shows its own addresses first, and that they are awaited while there is none.
fn external_ips(service: &Service) -> String {
    let own = &service.load_balancer_ips;
    let all: Vec<String> = own.iter().chain(&service.external_ips).map(ToString::to_string).collect();
    match (all.is_empty(), service.kind) {
        (false, _) => all.join(","),
        (true, ServiceKind::LoadBalancer) => "<pending>".into(),
        (true, _) => "<none>".into(),
    }
}

/// `80:30008/TCP,443/TCP`
fn ports(service: &Service) -> String {
    let ports = service.ports.iter().map(|port| match port.node_port {
        Some(node_port) => format!("{}:{node_port}/{}", port.port, port.protocol),
        None => format!("{}/{}", port.port, port.protocol),
    });
    let text = ports.collect::<Vec<_>>().join(",");
    if text.is_empty() { "<none>".into() } else { text }
}

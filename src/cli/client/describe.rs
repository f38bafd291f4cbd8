//! `describe service`, as kubectl prints it (k8s.io/kubectl/pkg/describe).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Event, LoadBalancerIngress, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api::{Api, JSON};
use super::args::Wanted;
use super::{Failure, get, print};
use crate::k8s::resource::Resource;
use crate::k8s::table::{Tabs, human_duration};

/// Annotations that are longer stand on lines of their own, cut.
const ANNOTATION: usize = 140;

/// Endpoints that are named before it says how many more there are.
const NAMED: usize = 3;

type Lines = Vec<Vec<String>>;

pub(super) async fn describe(api: &Api, wanted: &Wanted) -> Result<(), Failure> {
    if wanted.kinds != [Resource::Services] {
        return Err(Failure::Said(
            "error: only Services are described: ringport describe service NAME".to_owned(),
        ));
    }
    let mut services: Vec<Service> = Vec::new();
    let mut alike: Vec<Service> = Vec::new();
    for (_, path, query) in get::parts(api, wanted) {
        let object = match api.get(&path, &query, JSON).await {
            Ok(object) => object,
            Err(failure) if failure.is_not_found() => {
                let found = named_like(api, path.rsplit('/').next().unwrap_or_default()).await?;
                if found.is_empty() {
                    return Err(failure);
                }
                alike.extend(found);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        match object.get("items") {
            Some(_) => services.extend(items(&object)),
            None => services.extend(serde_json::from_value::<Service>(object).ok()),
        }
    }
    if services.is_empty() && alike.is_empty() {
        super::super::print_error(&format!("No resources found in {} namespace.\n", api.namespace));
    }
    let now = now();
    for (index, service) in services.iter().enumerate() {
        let gap = if index == 0 { "" } else { "\n\n" };
        print(&format!("{gap}{}", one(api, service, now).await?))?;
    }
    for service in &alike {
        print(&format!("{}\n", one(api, service, now).await?))?;
    }
    Ok(())
}

/// Those whose names begin so: what is described need not be written out.
async fn named_like(api: &Api, start: &str) -> Result<Vec<Service>, Failure> {
    let list = api.get(&Api::path(Resource::Services, Some(&api.namespace), None), &[], JSON).await?;
    let mut services: Vec<Service> = items(&list);
    services.retain(|service| service.metadata.name.as_deref().is_some_and(|name| name.starts_with(start)));
    Ok(services)
}

async fn one(api: &Api, service: &Service, now: i64) -> Result<String, Failure> {
    let metadata = &service.metadata;
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref().unwrap_or_default());
    let label = format!("kubernetes.io/service-name={name}");
    let path = Api::path(Resource::EndpointSlices, namespace, None);
    let slices = api.get(&path, &[("labelSelector", &label)], JSON).await?;
    let object = format!(
        "involvedObject.name={name},involvedObject.namespace={},involvedObject.kind=Service,involvedObject.uid={}",
        namespace.unwrap_or_default(),
        metadata.uid.as_deref().unwrap_or_default(),
    );
    let path = Api::path(Resource::Events, namespace, None);
    let events = api.get(&path, &[("fieldSelector", &object)], JSON).await?;
    let mut lines = lines(service, &items(&slices));
    let events: Vec<Event> = items(&events);
    if events.is_empty() {
        lines.push(vec!["Events:".to_owned(), "<none>".to_owned()]);
        return Ok(Tabs::DETAILS.align(&lines));
    }
    Ok(Tabs::DETAILS.align(&lines) + &described_events(events, now))
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

fn items<T: DeserializeOwned>(list: &Value) -> Vec<T> {
    let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| serde_json::from_value(item.clone()).ok()).collect()
}

fn lines(service: &Service, slices: &[EndpointSlice]) -> Lines {
    let mut lines = Lines::new();
    let mut line = |key: &str, value: String| lines.push(vec![format!("{key}:"), value]);
    let metadata = &service.metadata;
    let default = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&default);
    line("Name", metadata.name.clone().unwrap_or_default());
    line("Namespace", metadata.namespace.clone().unwrap_or_default());
    let labels: Vec<String> = pairs(metadata.labels.as_ref(), "=");
    let annotations: Vec<String> = metadata.annotations.iter().flatten().flat_map(annotation).collect();
    several(&mut lines, "Labels", labels);
    several(&mut lines, "Annotations", annotations);
    let mut line = |key: &str, value: String| lines.push(vec![format!("{key}:"), value]);
    let selector = pairs(spec.selector.as_ref(), "=");
    line("Selector", if selector.is_empty() { "<none>".to_owned() } else { selector.join(",") });
    line("Type", spec.type_.clone().unwrap_or_default());
    if let Some(policy) = &spec.ip_family_policy {
        line("IP Family Policy", policy.clone());
    }
    line("IP Families", joined(spec.ip_families.as_ref()));
    line("IP", spec.cluster_ip.clone().unwrap_or_default());
    line("IPs", joined(spec.cluster_ips.as_ref()));
    let texts = [
        ("External IPs", spec.external_ips.as_ref().map(|ips| ips.join(","))),
        ("Desired LoadBalancer IP", spec.load_balancer_ip.clone()),
        ("External Name", spec.external_name.clone()),
        ("LoadBalancer Ingress", ingress(service)),
    ];
    for (key, value) in texts {
        value.filter(|value| !value.is_empty()).into_iter().for_each(|value| line(key, value));
    }
    for port in spec.ports.iter().flatten() {
        lines.extend(port_lines(port, slices));
    }
    let hcnp = spec.health_check_node_port.filter(|port| *port != 0).map(|port| port.to_string());
    let texts = [
        ("Session Affinity", Some(spec.session_affinity.clone().unwrap_or_default())),
        ("External Traffic Policy", spec.external_traffic_policy.clone()),
        ("Internal Traffic Policy", spec.internal_traffic_policy.clone()),
        ("Traffic Distribution", spec.traffic_distribution.clone()),
        ("HealthCheck NodePort", hcnp),
        (
            "LoadBalancer Source Ranges",
            spec.load_balancer_source_ranges.as_ref().map(|ranges| ranges.join(",")),
        ),
    ];
    lines.extend(texts.into_iter().filter_map(|(key, value)| Some(vec![format!("{key}:"), value?])));
    lines
}

fn port_lines(port: &ServicePort, slices: &[EndpointSlice]) -> Lines {
    let name = port.name.as_deref().filter(|name| !name.is_empty()).unwrap_or("<unset>");
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let target = match &port.target_port {
        Some(IntOrString::Int(number)) => number.to_string(),
        Some(IntOrString::String(name)) => name.clone(),
        None => port.port.to_string(),
    };
    let line = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
    let mut lines: Lines = vec![
        line(&["Port:", name, &format!("{}/{protocol}", port.port)]),
        line(&["TargetPort:", &format!("{target}/{protocol}")]),
    ];
    if let Some(number) = port.node_port.filter(|number| *number != 0) {
        lines.push(line(&["NodePort:", name, &format!("{number}/{protocol}")]));
    }
    lines.push(line(&["Endpoints:", &endpoints(slices, port.name.as_deref().unwrap_or_default())]));
    lines
}

/// The ready endpoints of a port.
fn endpoints(slices: &[EndpointSlice], port_name: &str) -> String {
    if slices.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for slice in slices {
        for port in
            slice.ports.iter().flatten().filter(|port| port.name.as_deref().unwrap_or_default() == port_name)
        {
            for endpoint in slice.endpoints.iter().flatten() {
                let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
                if let (true, Some(address)) = (ready.unwrap_or(true), endpoint.addresses.first()) {
                    let address =
                        if address.contains(':') { format!("[{address}]") } else { address.clone() };
                    all.push(format!("{address}:{}", port.port.unwrap_or(0)));
                }
            }
        }
    }
    let named = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(",");
    match all.len().checked_sub(NAMED) {
        None | Some(0) => named,
        Some(more) => format!("{named} + {more} more..."),
    }
}

fn ingress(service: &Service) -> Option<String> {
    let balancer = service.status.as_ref()?.load_balancer.as_ref()?;
    let shown = |ingress: &LoadBalancerIngress| {
        let mode = ingress.ip_mode.as_ref().map(|mode| format!(" ({mode})")).unwrap_or_default();
        match &ingress.ip {
            Some(ip) => format!("{ip}{mode}"),
            None => ingress.hostname.clone().unwrap_or_default(),
        }
    };
    Some(balancer.ingress.iter().flatten().map(shown).collect::<Vec<_>>().join(", "))
}

fn pairs(map: Option<&BTreeMap<String, String>>, between: &str) -> Vec<String> {
    map.into_iter().flatten().map(|(key, value)| format!("{key}{between}{value}")).collect()
}

/// The lines of an annotation; none for what `kubectl apply` keeps there.
fn annotation((key, value): (&String, &String)) -> Vec<String> {
    if key == "kubectl.kubernetes.io/last-applied-configuration" {
        return Vec::new();
    }
    let value = value.strip_suffix('\n').unwrap_or(value);
    if value.len() + key.len() + 2 <= ANNOTATION && !value.contains('\n') {
        return vec![format!("{key}: {value}")];
    }
    let cut = |line: &str| match line.char_indices().nth(ANNOTATION - 2) {
        Some((end, _)) => format!("  {}...", line.get(..end).unwrap_or_default()),
        None => format!("  {line}"),
    };
    std::iter::once(format!("{key}:")).chain(value.split('\n').map(cut)).collect()
}

fn joined(list: Option<&Vec<String>>) -> String {
    list.filter(|list| !list.is_empty()).map_or("<none>".to_owned(), |list| list.join(","))
}

/// One line each, the first behind the key.
fn several(lines: &mut Lines, key: &str, values: Vec<String>) {
    let mut key = format!("{key}:");
    let values = if values.is_empty() { vec!["<none>".to_owned()] } else { values };
    for value in values {
        lines.push(vec![std::mem::take(&mut key), value]);
    }
}

// === events ===

fn described_events(mut events: Vec<Event>, now: i64) -> String {
    events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
    let mut lines = vec![
        row(["  Type", "Reason", "Age", "From", "Message"]),
        row(["  ----", "------", "----", "----", "-------"]),
    ];
    lines.extend(events.iter().map(|event| {
        let kind = format!("  {}", event.type_.as_deref().unwrap_or_default());
        let source = event.source.as_ref().and_then(|source| source.component.as_deref());
        let source = source.or(event.reporting_component.as_deref()).unwrap_or_default();
        let message = event.message.as_deref().unwrap_or_default().trim();
        row([&kind, event.reason.as_deref().unwrap_or_default(), &interval(event, now), source, message])
    }));
    format!("Events:\n{}", Tabs::DETAILS.align(&lines))
}

/// How long ago, and how often since when.
fn interval(event: &Event, now: i64) -> String {
    let since = |seconds: Option<i64>| match seconds {
        Some(seconds) => human_duration(Duration::from_secs(u64::try_from(now - seconds).unwrap_or(0))),
        None => "<unknown>".to_owned(),
    };
    let first = event.event_time.as_ref().map(|time| time.0.as_second());
    let first = since(first.or(event.first_timestamp.as_ref().map(|time| time.0.as_second())));
    if let Some(series) = &event.series {
        let last = since(series.last_observed_time.as_ref().map(|time| time.0.as_second()));
        return format!("{last} (x{} over {first})", series.count.unwrap_or(0));
    }
    match event.count {
        Some(count) if count > 1 => {
            let last = since(event.last_timestamp.as_ref().map(|time| time.0.as_second()));
            format!("{last} (x{count} over {first})")
        }
        _ => first,
    }
}

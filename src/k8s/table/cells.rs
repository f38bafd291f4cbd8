//! The cells of a row, for every kind but Pods.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{human_duration, pod};
use crate::k8s::resource::Resource;

/// The cells of an object, one for each of its columns; `now` in seconds since 1970.
pub fn row(object: &Value, resource: Resource, now: u64) -> Vec<Value> {
    match resource {
        Resource::Services => service(object, now),
        Resource::Pods => pod::row(object, now),
        Resource::Nodes => node(object, now),
        Resource::Namespaces => {
            vec![name(object), text(object, "/status/phase").into(), age(object, now)]
        }
        Resource::Endpoints => vec![name(object), endpoints(object).into(), age(object, now)],
        Resource::Events => event(object, now),
        Resource::EndpointSlices => endpoint_slice(object, now),
    }
}

/// `conditions` of the row: that a Pod has ended.
pub fn conditions(object: &Value, resource: Resource) -> Option<Value> {
    let (reason, message) = match (resource, text(object, "/status/phase")) {
        (Resource::Pods, "Succeeded") => ("Succeeded", "The pod has completed successfully."),
        (Resource::Pods, "Failed") => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

// === what all have in common ===

/// A text, empty if it is not there.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list.
pub(super) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

pub(super) fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

pub(super) fn age(object: &Value, now: u64) -> Value {
    since(text(object, "/metadata/creationTimestamp"), now).into()
}

/// The time since a timestamp.
pub(super) fn since(timestamp: &str, now: u64) -> String {
    let Ok(then) = timestamp.parse::<jiff::Timestamp>() else { return "<unknown>".to_owned() };
    let seconds = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(then.as_second());
    match u64::try_from(seconds) {
        Ok(seconds) => human_duration(Duration::from_secs(seconds)),
        // Clocks may differ a little.
        Err(_) if seconds == -1 => "0s".to_owned(),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// `a=b,c=d`
fn labels(value: Option<&Value>) -> String {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    let pairs = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let all = pairs.collect::<Vec<_>>().join(",");
    or(&all, "<none>").to_owned()
}

/// At most three of them, and how many more there are.
fn first_three(all: impl Iterator<Item = String>, none: &str) -> String {
    const SHOWN: usize = 3;
    let (mut shown, mut count) = (Vec::new(), 0);
    for item in all {
        count += 1;
        if count <= SHOWN {
            shown.push(item);
        }
    }
    let shown = shown.join(",");
    match count {
        count if count > SHOWN => format!("{shown} + {} more...", count - SHOWN),
        _ => or(&shown, none).to_owned(),
    }
}

// === Services ===

fn service(object: &Value, now: u64) -> Vec<Value> {
    let cluster_ip = items(object, "/spec/clusterIPs").first().and_then(Value::as_str);
    vec![
        name(object),
        text(object, "/spec/type").into(),
        cluster_ip.unwrap_or("<none>").into(),
        external_ips(object).into(),
        ports(object).into(),
        age(object, now),
        labels(object.pointer("/spec/selector")).into(),
    ]
}

fn external_ips(object: &Value) -> String {
    let mut all: Vec<&str> = items(object, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match text(object, "/spec/type") {
        "ExternalName" => text(object, "/spec/externalName").to_owned(),
        "ClusterIP" | "NodePort" => or(&all.join(","), "<none>").to_owned(),
        "LoadBalancer" => {
            let ingress = items(object, "/status/loadBalancer/ingress").iter();
            let own: BTreeSet<&str> =
                ingress.map(|ingress| or(text(ingress, "/ip"), text(ingress, "/hostname"))).collect();
            all.splice(0..0, own.into_iter().filter(|ip| !ip.is_empty()));
            or(&all.join(","), "<pending>").to_owned()
        }
        _ => "<unknown>".to_owned(),
    }
}

/// `80:30008/TCP,443/TCP`
fn ports(object: &Value) -> String {
    let port = |port: &Value| {
        let number = |key: &str| port.get(key).and_then(Value::as_i64).unwrap_or_default();
        let protocol = text(port, "/protocol");
        match number("nodePort") {
            node_port if node_port > 0 => format!("{}:{node_port}/{protocol}", number("port")),
            _ => format!("{}/{protocol}", number("port")),
        }
    };
    let all: Vec<String> = items(object, "/spec/ports").iter().map(port).collect();
    or(&all.join(","), "<none>").to_owned()
}

// === Endpoints, EndpointSlices ===

fn endpoints(object: &Value) -> String {
    let subsets = items(object, "/subsets");
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let of_subset = |subset: &Value| {
        let addresses = items(subset, "/addresses").iter().map(|address| text(address, "/ip").to_owned());
        let addresses: Vec<String> = addresses.collect();
        let ports = items(subset, "/ports").iter().filter_map(|port| port.get("port")?.as_i64());
        let ports: Vec<i64> = ports.collect();
        if ports.is_empty() {
            return addresses;
        }
        let with_port = |port: i64| addresses.iter().map(move |address| host_port(address, port));
        ports.into_iter().flat_map(with_port).collect()
    };
    first_three(subsets.iter().flat_map(of_subset), "")
}

fn host_port(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn endpoint_slice(object: &Value, now: u64) -> Vec<Value> {
    let port = |port: &Value| match (port.get("port").and_then(Value::as_i64), port.get("name")) {
        (Some(number), _) => number.to_string(),
        (None, Some(Value::String(name))) => name.clone(),
        _ => "*".to_owned(),
    };
    let addresses = items(object, "/endpoints").iter().flat_map(|endpoint| items(endpoint, "/addresses"));
    let addresses = addresses.filter_map(Value::as_str).map(str::to_owned);
    vec![
        name(object),
        text(object, "/addressType").into(),
        first_three(items(object, "/ports").iter().map(port), "<unset>").into(),
        first_three(addresses, "<unset>").into(),
        age(object, now),
    ]
}

// === Nodes ===

fn node(object: &Value, now: u64) -> Vec<Value> {
    let address = |kind: &str| {
        let found = items(object, "/status/addresses").iter().find(|address| text(address, "/type") == kind);
        Value::from(found.map_or("<none>", |address| text(address, "/address")))
    };
    let info = |key: &str| text(object, &format!("/status/nodeInfo/{key}"));
    vec![
        name(object),
        node_status(object).into(),
        or(&roles(object), "<none>").into(),
        age(object, now),
        info("kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        or(info("osImage"), "<unknown>").into(),
        or(info("kernelVersion"), "<unknown>").into(),
        or(info("containerRuntimeVersion"), "<unknown>").into(),
    ]
}

fn node_status(object: &Value) -> String {
    let mut conditions = items(object, "/status/conditions").iter();
    let ready = conditions.rfind(|condition| text(condition, "/type") == "Ready");
    let ready = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let closed = object.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    if closed { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
}

fn roles(object: &Value) -> String {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let role = |(key, value): (&'_ String, &'_ Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_owned()),
        None if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
        None => None,
    };
    let roles: BTreeSet<String> = labels.filter_map(role).filter(|role| !role.is_empty()).collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

// === Events ===

fn event(object: &Value, now: u64) -> Vec<Value> {
    let time = |pointer: &str| since(text(object, pointer), now);
    let or_time = |pointer: &str, other: &str| match time(pointer).as_str() {
        "<unknown>" => other.to_owned(),
        time => time.to_owned(),
    };
    let first = or_time("/firstTimestamp", &time("/eventTime"));
    let mut last = or_time("/lastTimestamp", &first);
    let mut count = object.get("count").and_then(Value::as_i64).unwrap_or_default().max(1);
    if let Some(series) = object.get("series").filter(|series| series.is_object()) {
        last = time("/series/lastObservedTime");
        count = series.get("count").and_then(Value::as_i64).unwrap_or_default();
    }
    let kind = text(object, "/involvedObject/kind").to_lowercase();
    let target = match text(object, "/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        last.into(),
        text(object, "/type").into(),
        text(object, "/reason").into(),
        target.into(),
        text(object, "/involvedObject/fieldPath").into(),
        event_source(object).into(),
        text(object, "/message").trim().into(),
        first.into(),
        count.into(),
        name(object),
    ]
}

fn event_source(object: &Value) -> String {
    let component = or(text(object, "/source/component"), text(object, "/reportingComponent"));
    match or(text(object, "/source/host"), text(object, "/reportingInstance")) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    }
}

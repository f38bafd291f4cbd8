//! The messages, with the field numbers of k8s.io/api and k8s.io/apimachinery (generated.proto). Fields that are
//! no pointers in Go are always sent, so that an empty one means that there is none.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Map, Value};

/// An object of JSON.
type Json = Map<String, Value>;

/// runtime.Unknown
#[derive(Clone, PartialEq, Message)]
pub(super) struct Unknown {
    #[prost(message, optional, tag = "1")]
    pub(super) type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) raw: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(super) content_encoding: String,
}

/// runtime.TypeMeta
#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeMeta {
    #[prost(string, tag = "1")]
    pub(super) api_version: String,
    #[prost(string, tag = "2")]
    pub(super) kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct ObjectMeta {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    generate_name: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(string, tag = "5")]
    uid: String,
    #[prost(string, tag = "6")]
    resource_version: String,
    #[prost(int64, tag = "7")]
    generation: i64,
    #[prost(message, optional, tag = "8")]
    creation_timestamp: Option<Time>,
    #[prost(btree_map = "string, string", tag = "11")]
    labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "12")]
    annotations: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "13")]
    owner_references: Vec<OwnerReference>,
    #[prost(string, repeated, tag = "14")]
    finalizers: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct OwnerReference {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    uid: String,
    #[prost(string, tag = "5")]
    api_version: String,
    #[prost(bool, optional, tag = "6")]
    controller: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    block_owner_deletion: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Namespace {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    spec: Option<NamespaceSpec>,
    #[prost(message, optional, tag = "3")]
    status: Option<NamespaceStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct NamespaceSpec {
    #[prost(string, repeated, tag = "1")]
    finalizers: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct NamespaceStatus {
    #[prost(string, tag = "1")]
    phase: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Service {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    spec: Option<ServiceSpec>,
    #[prost(message, optional, tag = "3")]
    status: Option<ServiceStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceSpec {
    #[prost(message, repeated, tag = "1")]
    ports: Vec<ServicePort>,
    #[prost(btree_map = "string, string", tag = "2")]
    selector: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    cluster_ip: String,
    #[prost(string, tag = "4")]
    r#type: String,
    #[prost(string, repeated, tag = "5")]
    external_ips: Vec<String>,
    #[prost(string, tag = "7")]
    session_affinity: String,
    #[prost(string, tag = "8")]
    load_balancer_ip: String,
    #[prost(string, repeated, tag = "9")]
    load_balancer_source_ranges: Vec<String>,
    #[prost(string, tag = "10")]
    external_name: String,
    #[prost(string, tag = "11")]
    external_traffic_policy: String,
    #[prost(int32, tag = "12")]
    health_check_node_port: i32,
    #[prost(bool, tag = "13")]
    publish_not_ready_addresses: bool,
    #[prost(message, optional, tag = "14")]
    session_affinity_config: Option<SessionAffinityConfig>,
    #[prost(string, optional, tag = "17")]
    ip_family_policy: Option<String>,
    #[prost(string, repeated, tag = "18")]
    cluster_ips: Vec<String>,
    #[prost(string, repeated, tag = "19")]
    ip_families: Vec<String>,
    #[prost(bool, optional, tag = "20")]
    allocate_load_balancer_node_ports: Option<bool>,
    #[prost(string, optional, tag = "21")]
    load_balancer_class: Option<String>,
    #[prost(string, optional, tag = "22")]
    internal_traffic_policy: Option<String>,
    #[prost(string, optional, tag = "23")]
    traffic_distribution: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ServicePort {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    protocol: String,
    #[prost(int32, tag = "3")]
    port: i32,
    #[prost(message, optional, tag = "4")]
    target_port: Option<IntOrString>,
    #[prost(int32, tag = "5")]
    node_port: i32,
    #[prost(string, optional, tag = "6")]
    app_protocol: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct IntOrString {
    /// Zero for a number, one for a text.
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int32, tag = "2")]
    number: i32,
    #[prost(string, tag = "3")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct SessionAffinityConfig {
    #[prost(message, optional, tag = "1")]
    client_ip: Option<ClientIpConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ClientIpConfig {
    #[prost(int32, optional, tag = "1")]
    timeout_seconds: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceStatus {
    #[prost(message, optional, tag = "1")]
    load_balancer: Option<LoadBalancerStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct LoadBalancerStatus {
    #[prost(message, repeated, tag = "1")]
    ingress: Vec<LoadBalancerIngress>,
}

#[derive(Clone, PartialEq, Message)]
struct LoadBalancerIngress {
    #[prost(string, tag = "1")]
    ip: String,
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(string, optional, tag = "3")]
    ip_mode: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteOptions {
    #[prost(int64, optional, tag = "1")]
    grace_period_seconds: Option<i64>,
    #[prost(message, optional, tag = "2")]
    preconditions: Option<Preconditions>,
    #[prost(bool, optional, tag = "3")]
    orphan_dependents: Option<bool>,
    #[prost(string, optional, tag = "4")]
    propagation_policy: Option<String>,
    #[prost(string, repeated, tag = "5")]
    dry_run: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Preconditions {
    #[prost(string, optional, tag = "1")]
    uid: Option<String>,
    #[prost(string, optional, tag = "2")]
    resource_version: Option<String>,
}

// === to JSON ===

/// An object of the fields that have a value.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Json {
    let is_there = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    let there = fields.into_iter().filter(|(_, value)| is_there(value));
    there.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A number or bool that is no pointer in Go: zero and false are none.
fn plain<T: Default + PartialEq + Into<Value>>(value: T) -> Value {
    if value == T::default() { Value::Null } else { value.into() }
}

fn texts(map: BTreeMap<String, String>) -> Value {
    Value::Object(map.into_iter().map(|(key, value)| (key, value.into())).collect())
}

fn list<T>(items: Vec<T>, json: impl Fn(T) -> Json) -> Value {
    Value::Array(items.into_iter().map(|item| Value::Object(json(item))).collect())
}

fn part<T>(part: Option<T>, json: impl Fn(T) -> Json) -> Value {
    part.map_or(Value::Null, |part| Value::Object(json(part)))
}

impl Service {
    pub(super) fn json(self) -> Json {
        object([
            ("metadata", part(self.metadata, ObjectMeta::json)),
            ("spec", part(self.spec, ServiceSpec::json)),
            ("status", part(self.status, ServiceStatus::json)),
        ])
    }
}

impl Namespace {
    pub(super) fn json(self) -> Json {
        object([
            ("metadata", part(self.metadata, ObjectMeta::json)),
            ("spec", part(self.spec, |spec| object([("finalizers", spec.finalizers.into())]))),
            ("status", part(self.status, |status| object([("phase", status.phase.into())]))),
        ])
    }
}

impl DeleteOptions {
    pub(super) fn json(self) -> Json {
        let preconditions = |preconditions: Preconditions| {
            object([
                ("uid", preconditions.uid.into()),
                ("resourceVersion", preconditions.resource_version.into()),
            ])
        };
        object([
            ("gracePeriodSeconds", self.grace_period_seconds.into()),
            ("preconditions", part(self.preconditions, preconditions)),
            ("orphanDependents", self.orphan_dependents.into()),
            ("propagationPolicy", self.propagation_policy.into()),
            ("dryRun", self.dry_run.into()),
        ])
    }
}

impl ObjectMeta {
    fn json(self) -> Json {
        let time = self.creation_timestamp.filter(|time| (time.seconds, time.nanos) != (0, 0));
        let time = time.and_then(|time| jiff::Timestamp::from_second(time.seconds).ok());
        object([
            ("name", self.name.into()),
            ("generateName", self.generate_name.into()),
            ("namespace", self.namespace.into()),
            ("uid", self.uid.into()),
            ("resourceVersion", self.resource_version.into()),
            ("generation", plain(self.generation)),
            ("creationTimestamp", time.map(|time| time.to_string()).into()),
            ("labels", texts(self.labels)),
            ("annotations", texts(self.annotations)),
            ("ownerReferences", list(self.owner_references, OwnerReference::json)),
            ("finalizers", self.finalizers.into()),
        ])
    }
}

impl OwnerReference {
    fn json(self) -> Json {
        object([
            ("kind", self.kind.into()),
            ("name", self.name.into()),
            ("uid", self.uid.into()),
            ("apiVersion", self.api_version.into()),
            ("controller", self.controller.into()),
            ("blockOwnerDeletion", self.block_owner_deletion.into()),
        ])
    }
}

impl ServiceSpec {
    fn json(self) -> Json {
        object([
            ("ports", list(self.ports, ServicePort::json)),
            ("selector", texts(self.selector)),
            ("clusterIP", self.cluster_ip.into()),
            ("type", self.r#type.into()),
            ("externalIPs", self.external_ips.into()),
            ("sessionAffinity", self.session_affinity.into()),
            ("loadBalancerIP", self.load_balancer_ip.into()),
            ("loadBalancerSourceRanges", self.load_balancer_source_ranges.into()),
            ("externalName", self.external_name.into()),
            ("externalTrafficPolicy", self.external_traffic_policy.into()),
            ("healthCheckNodePort", plain(self.health_check_node_port)),
            ("publishNotReadyAddresses", plain(self.publish_not_ready_addresses)),
            ("sessionAffinityConfig", part(self.session_affinity_config, SessionAffinityConfig::json)),
            ("ipFamilyPolicy", self.ip_family_policy.into()),
            ("clusterIPs", self.cluster_ips.into()),
            ("ipFamilies", self.ip_families.into()),
            ("allocateLoadBalancerNodePorts", self.allocate_load_balancer_node_ports.into()),
            ("loadBalancerClass", self.load_balancer_class.into()),
            ("internalTrafficPolicy", self.internal_traffic_policy.into()),
            ("trafficDistribution", self.traffic_distribution.into()),
        ])
    }
}

impl ServicePort {
    fn json(self) -> Json {
        object([
            ("name", self.name.into()),
            ("protocol", self.protocol.into()),
            ("port", self.port.into()),
            ("targetPort", self.target_port.map_or(Value::Null, IntOrString::json)),
            ("nodePort", plain(self.node_port)),
            ("appProtocol", self.app_protocol.into()),
        ])
    }
}

impl IntOrString {
    fn json(self) -> Value {
        if self.kind == 1 { self.text.into() } else { self.number.into() }
    }
}

impl SessionAffinityConfig {
    fn json(self) -> Json {
        let client_ip = |config: ClientIpConfig| object([("timeoutSeconds", config.timeout_seconds.into())]);
        object([("clientIP", part(self.client_ip, client_ip))])
    }
}

impl ServiceStatus {
    fn json(self) -> Json {
        let ingress = |ingress: LoadBalancerIngress| {
            object([
                ("ip", ingress.ip.into()),
                ("hostname", ingress.hostname.into()),
                ("ipMode", ingress.ip_mode.into()),
            ])
        };
        let status = |status: LoadBalancerStatus| object([("ingress", list(status.ingress, ingress))]);
        object([("loadBalancer", part(self.load_balancer, status))])
    }
}

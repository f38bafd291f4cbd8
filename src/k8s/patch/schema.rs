//! How the lists and maps of each kind are merged: the tags `patchMergeKey` for strategic merge patches, and the
//! list and map types for server-side apply (k8s.io/api, types.go).

use crate::k8s::resource::Resource;

/// A struct of the schema by its Go name, or the empty name for what has no rules of its own.
pub(super) type Record = &'static str;

/// How one field is merged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// The struct that it holds, by itself or in a list.
    pub(super) record: Record,
    /// For a strategic merge patch: the merge key of a list, empty for a list of primitives; without it a list
    /// is replaced.
    pub(super) merge_key: Option<&'static str>,
    /// For server-side apply.
    pub(super) topology: Topology,
}

/// What of a value is owned separately by who applies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    /// Each field of a map; a list as a whole.
    Default,
    /// The whole value.
    Atomic,
    /// Each value of a list.
    Set,
    /// Each item of a list, known by these fields.
    Keyed(&'static [&'static str]),
    /// The same, of items that are owned as a whole.
    KeyedAtomic(&'static [&'static str]),
}

/// Fields of keys that have a value when they are not there.
pub(super) const KEY_DEFAULTS: [(&str, &str); 1] = [("protocol", "TCP")];

/// The struct of a kind.
pub(super) fn root(resource: Resource) -> Record {
    resource.info().kind
}

/// The rule of a field of a struct.
pub(super) fn rule(record: Record, field: &str) -> Rule {
    service(record, field)
        .or_else(|| pod(record, field))
        .or_else(|| container(record, field))
        .or_else(|| others(record, field))
        .unwrap_or(PLAIN)
}

const PLAIN: Rule = Rule { record: "", merge_key: None, topology: Topology::Default };
const ATOMIC: Rule = Rule { topology: Topology::Atomic, ..PLAIN };

const fn of(record: Record) -> Rule {
    Rule { record, ..PLAIN }
}

/// A list whose merge key and only list key are the same field.
const fn keyed(record: Record, key: &'static [&'static str]) -> Rule {
    let merge_key = match key {
        [first, ..] => Some(*first),
        [] => None,
    };
    Rule { record, merge_key, topology: Topology::Keyed(key) }
}

fn service(record: Record, field: &str) -> Option<Rule> {
    Some(match (record, field) {
        ("Service", "spec") => of("ServiceSpec"),
        ("Service", "status") => of("ServiceStatus"),
        ("ServiceSpec", "ports") => keyed("ServicePort", &["port", "protocol"]),
        ("ServiceSpec", "selector") => ATOMIC,
        ("ServiceStatus", "conditions") => keyed("Condition", &["type"]),
        _ => return None,
    })
}

fn pod(record: Record, field: &str) -> Option<Rule> {
    Some(match (record, field) {
        ("Pod", "spec") => of("PodSpec"),
        ("Pod", "status") => of("PodStatus"),
        ("PodSpec", "containers" | "initContainers" | "ephemeralContainers") => keyed("Container", &["name"]),
        ("PodSpec", "volumes") => keyed("Volume", &["name"]),
        ("PodSpec", "imagePullSecrets") => {
            Rule { topology: Topology::KeyedAtomic(&["name"]), ..keyed("", &["name"]) }
        }
        ("PodSpec", "hostAliases") => keyed("", &["ip"]),
        ("PodSpec", "topologySpreadConstraints") => {
            keyed("TopologySpreadConstraint", &["topologyKey", "whenUnsatisfiable"])
        }
        ("PodSpec", "schedulingGates" | "resourceClaims") => keyed("", &["name"]),
        ("PodSpec", "nodeSelector") => ATOMIC,
        ("PodSpec", "affinity") => of("Affinity"),
        ("PodStatus", "conditions") => keyed("", &["type"]),
        ("PodStatus", "podIPs") => keyed("", &["ip"]),
        ("PodStatus", "hostIPs") => Rule { topology: Topology::Atomic, ..keyed("", &["ip"]) },
        ("PodStatus", "resourceClaimStatuses") => keyed("", &["name"]),
        ("TopologySpreadConstraint", "labelSelector") => ATOMIC,
        ("Affinity", "nodeAffinity") => of("NodeAffinity"),
        ("NodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution") => ATOMIC,
        _ => return None,
    })
}

fn container(record: Record, field: &str) -> Option<Rule> {
    Some(match (record, field) {
        ("Container", "ports") => keyed("", &["containerPort", "protocol"]),
        ("Container", "env") => keyed("EnvVar", &["name"]),
        ("Container", "volumeMounts") => keyed("", &["mountPath"]),
        ("Container", "volumeDevices") => keyed("", &["devicePath"]),
        ("Container", "resources") => of("ResourceRequirements"),
        ("ResourceRequirements", "claims") => Rule { merge_key: None, ..keyed("", &["name"]) },
        ("EnvVar", "valueFrom") => of("EnvVarSource"),
        ("EnvVarSource", _) => ATOMIC,
        _ => return None,
    })
}

fn others(record: Record, field: &str) -> Option<Rule> {
    Some(match (record, field) {
        ("Service" | "Pod" | "Node" | "Namespace" | "Endpoints" | "Event" | "EndpointSlice", "metadata") => {
            of("ObjectMeta")
        }
        ("ObjectMeta", "finalizers") => Rule { record: "", merge_key: Some(""), topology: Topology::Set },
        ("ObjectMeta", "ownerReferences") => {
            Rule { topology: Topology::KeyedAtomic(&["uid"]), ..keyed("", &["uid"]) }
        }
        ("Node", "spec") => of("NodeSpec"),
        ("Node", "status") => of("NodeStatus"),
        ("NodeSpec", "podCIDRs") => Rule { record: "", merge_key: Some(""), topology: Topology::Set },
        ("NodeStatus", "addresses" | "conditions") => keyed("", &["type"]),
        ("Namespace", "status") => of("NamespaceStatus"),
        ("NamespaceStatus", "conditions") => keyed("", &["type"]),
        ("Event", "involvedObject" | "related") => ATOMIC,
        _ => return None,
    })
}

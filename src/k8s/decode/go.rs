//! What is known of the Go types: their names, for messages that users know from kubectl, and which of their
//! fields are pointers, because only those keep an empty value.

/// The Go name of a type of the Kubernetes schema: `[]v1.ServicePort`, `map[string]string`.
pub(super) fn type_of<T>() -> String {
    translate(std::any::type_name::<T>())
}

fn translate(rust: &str) -> String {
    let Some((outer, inner)) = rust.strip_suffix('>').and_then(|name| name.split_once('<')) else {
        return match rust.rsplit("::").next() {
            Some("String" | "str") => "string".into(),
            Some("i32") => "int32".into(),
            Some("i64") => "int64".into(),
            Some(name) if name.starts_with(|c: char| c.is_ascii_uppercase()) => format!("v1.{name}"),
            Some(name) => name.into(),
            None => rust.into(),
        };
    };
    match outer.rsplit("::").next() {
        Some("Vec") => format!("[]{}", translate(inner)),
        Some("BTreeMap") => {
            let (key, value) = inner.split_once(", ").unwrap_or((inner, "?"));
            format!("map[{}]{}", translate(key), translate(value))
        }
        Some("Option" | "Box") => translate(inner),
        _ => rust.into(),
    }
}

/// Whether a field that holds a text is a pointer: an empty text is then a value, as the name of a port of an
/// EndpointSlice.
pub(super) fn is_pointer(record: &str, field: &str) -> bool {
    const POINTERS: [&str; 10] = [
        "appProtocol",
        "hostname",
        "loadBalancerClass",
        "nodeName",
        "procMount",
        "setHostnameAsFQDN",
        "storageClassName",
        "subPathExpr",
        "trafficDistribution",
        "zone",
    ];
    // The Pod's spec has fields of these names that are plain texts.
    (record == "EndpointPort" && matches!(field, "name" | "protocol"))
        || (record != "PodSpec" && POINTERS.contains(&field))
}

/// Whether a field that holds a number or a bool is none: zero and false are then not written.
pub(super) fn is_plain(record: &str, field: &str) -> bool {
    match record {
        "ServicePort" => field == "nodePort",
        "ServiceSpec" => matches!(field, "healthCheckNodePort" | "publishNotReadyAddresses"),
        "PodSpec" => matches!(field, "hostNetwork" | "hostPID" | "hostIPC"),
        "Container" => matches!(field, "stdin" | "stdinOnce" | "tty"),
        "ContainerPort" => field == "hostPort",
        "NodeSpec" => field == "unschedulable",
        "Event" => field == "count",
        "ObjectMeta" => field == "generation",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::ServicePort;

    use super::*;

    #[test]
    fn types_as_go_prints_them() {
        assert_eq!(type_of::<Vec<ServicePort>>(), "[]v1.ServicePort");
        assert_eq!(type_of::<Option<Vec<String>>>(), "[]string");
        assert_eq!(type_of::<BTreeMap<String, String>>(), "map[string]string");
        assert_eq!(type_of::<BTreeMap<String, Vec<i32>>>(), "map[string][]int32");
        assert_eq!(type_of::<bool>(), "bool");
    }
}

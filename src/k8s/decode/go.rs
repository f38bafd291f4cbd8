//! Names of Go types, for messages that users know from kubectl.

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

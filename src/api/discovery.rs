//! What there is: groups, versions and kinds, in the old form and in both aggregated ones, the version, and
//! as much of OpenAPI v3 as kubectl asks for before it sends anything.

use serde_json::{Value, json};

use crate::k8s::resource::{Info, RESOURCES, Resource};

/// The version of Kubernetes whose API this is.
const MINOR: &str = "36";

/// `/version`
pub(super) fn version() -> Value {
    json!({
        "major": "1",
        "minor": MINOR,
        "gitVersion": git_version(),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": concat!("linux/", "amd64"),
    })
}

fn git_version() -> String {
    format!("v1.{MINOR}.0+ringport-{}", env!("CARGO_PKG_VERSION"))
}

// === Groups ===

/// `/api` or `/apis` in the aggregated form of this version.
pub(super) fn aggregated(core: bool, version: &str) -> Value {
    let group = if core { "" } else { "discovery.k8s.io" };
    let resources: Vec<Value> = of_group(group).map(aggregated_resource).collect();
    let metadata = if core { json!({}) } else { json!({"name": group}) };
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": [{
            "metadata": metadata,
            "versions": [{"version": "v1", "resources": resources, "freshness": "Current"}],
        }],
    })
}

fn aggregated_resource(info: &Info) -> Value {
    let kind = json!({"group": info.group, "version": "v1", "kind": info.kind});
    let mut resource = json!({
        "resource": info.plural,
        "responseKind": kind,
        "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": info.singular,
        "verbs": verbs(info),
    });
    if let Some(map) = resource.as_object_mut() {
        if !info.short.is_empty() {
            map.insert("shortNames".to_owned(), json!(info.short));
        }
        if !info.categories.is_empty() {
            map.insert("categories".to_owned(), json!(info.categories));
        }
        if info.status {
            let status = json!({"subresource": "status", "responseKind": kind, "verbs": STATUS_VERBS});
            map.insert("subresources".to_owned(), json!([status]));
        }
    }
    resource
}

/// `/api` as it was before.
pub(super) fn core_versions(server: &str) -> Value {
    let address = json!({"clientCIDR": "0.0.0.0/0", "serverAddress": server});
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address]})
}

/// `/apis` as it was before.
pub(super) fn groups() -> Value {
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [members_of_group()]})
}

/// `/apis/discovery.k8s.io`
pub(super) fn group() -> Value {
    let mut group = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Some(group), Value::Object(members)) = (group.as_object_mut(), members_of_group()) {
        group.extend(members);
    }
    group
}

fn members_of_group() -> Value {
    let version = json!({"groupVersion": "discovery.k8s.io/v1", "version": "v1"});
    json!({"name": "discovery.k8s.io", "versions": [version], "preferredVersion": version})
}

/// `/api/v1` or `/apis/discovery.k8s.io/v1`
pub(super) fn kinds(group: &str) -> Value {
    let mut resources = Vec::new();
    for info in of_group(group) {
        let mut resource = json!({
            "name": info.plural,
            "singularName": info.singular,
            "namespaced": info.namespaced,
            "kind": info.kind,
            "verbs": verbs(info),
        });
        if let Some(map) = resource.as_object_mut() {
            if !info.short.is_empty() {
                map.insert("shortNames".to_owned(), json!(info.short));
            }
            if !info.categories.is_empty() {
                map.insert("categories".to_owned(), json!(info.categories));
            }
        }
        resources.push(resource);
        if info.status {
            resources.push(json!({
                "name": format!("{}/status", info.plural),
                "singularName": "",
                "namespaced": info.namespaced,
                "kind": info.kind,
                "verbs": STATUS_VERBS,
            }));
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group), "resources": resources})
}

const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

fn verbs(info: &Info) -> Vec<&'static str> {
    let all = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    all.into_iter().filter(|verb| *verb != "deletecollection" || deletes_collections(info.resource)).collect()
}

/// Whether all objects of a kind may be deleted at once.
pub(super) fn deletes_collections(resource: Resource) -> bool {
    resource != Resource::Namespaces
}

fn of_group(group: &str) -> impl Iterator<Item = &'static Info> {
    RESOURCES.iter().filter(move |info| info.group == group)
}

fn group_version(group: &str) -> &'static str {
    if group.is_empty() { "v1" } else { "discovery.k8s.io/v1" }
}

// === OpenAPI ===

/// `/openapi/v3`
pub(super) fn openapi_index() -> Value {
    let path = |group: &str| {
        let place = root(group);
        // kubectl keeps the document under this hash, so it follows from what the document says.
        let hash = env!("CARGO_PKG_VERSION");
        (
            place.trim_start_matches('/').to_owned(),
            json!({"serverRelativeURL": format!("/openapi/v3{place}?hash={hash}")}),
        )
    };
    let paths: serde_json::Map<String, Value> = ["", "discovery.k8s.io"].into_iter().map(path).collect();
    json!({"paths": paths})
}

/// One document of it: for each kind the operation by which kubectl finds out that this server validates
/// fields. There are no schemas.
pub(super) fn openapi(group: &str) -> Value {
    let paths: serde_json::Map<String, Value> = of_group(group)
        .map(|info| {
            let namespace = if info.namespaced { "/namespaces/{namespace}" } else { "" };
            let path = format!("{}{namespace}/{}/{{name}}", root(group), info.plural);
            let patch = json!({
                "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
                "responses": {},
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": {"group": group, "kind": info.kind, "version": "v1"},
            });
            (path, json!({"patch": patch}))
        })
        .collect();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": git_version()},
        "paths": paths,
    })
}

fn root(group: &str) -> String {
    if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}", group_version(group)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_discovered_in_each_form() {
        for (core, group) in [(true, ""), (false, "discovery.k8s.io")] {
            let wanted: Vec<&str> = of_group(group).map(|info| info.plural).collect();
            let aggregated = aggregated(core, "v2");
            let found = aggregated["items"][0]["versions"][0]["resources"].as_array().unwrap();
            let found: Vec<&str> = found.iter().map(|r| r["resource"].as_str().unwrap()).collect();
            assert_eq!(found, wanted);
            let old = kinds(group);
            let found = old["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap());
            let found: Vec<&str> = found.filter(|name| !name.contains('/')).collect();
            assert_eq!(found, wanted);
            assert_eq!(openapi(group)["paths"].as_object().unwrap().len(), wanted.len());
        }
        assert_eq!(openapi_index()["paths"].as_object().unwrap().len(), 2);
        assert_eq!(group()["preferredVersion"]["groupVersion"], "discovery.k8s.io/v1");
    }
}

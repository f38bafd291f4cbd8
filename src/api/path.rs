//! What a path leads to.

use super::query::percent_decode;
use crate::k8s::resource::Resource;
use crate::types::NamespacedName;

/// The place that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/version`
    Version,
    /// `/healthz`, `/livez`, `/readyz`
    Health,
    /// `/api` and `/apis`: the groups.
    Groups { core: bool },
    /// `/apis/GROUP`
    Group,
    /// `/api/v1` and `/apis/GROUP/VERSION`: its kinds.
    Kinds { group: &'static str },
    /// `/openapi/v3`
    OpenApi,
    /// `/openapi/v3/api/v1` and the like.
    OpenApiOf { group: &'static str },
    /// All objects of a kind, everywhere or in one namespace.
    Collection { resource: Resource, namespace: Option<String> },
    /// One object, or its status.
    Object { resource: Resource, key: NamespacedName, status: bool },
    /// Something inside a known group that there is not.
    UnknownResource,
    /// Nothing.
    Nowhere,
}

const DISCOVERY: &str = "discovery.k8s.io";

/// Reads the path of a request.
pub(super) fn route(path: &str) -> Route {
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(percent_decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["version"] => Route::Version,
        ["healthz" | "livez" | "readyz", ..] => Route::Health,
        ["api"] => Route::Groups { core: true },
        ["apis"] => Route::Groups { core: false },
        ["apis", DISCOVERY] => Route::Group,
        ["api", "v1"] => Route::Kinds { group: "" },
        ["apis", DISCOVERY, "v1"] => Route::Kinds { group: DISCOVERY },
        ["openapi", "v3"] => Route::OpenApi,
        ["openapi", "v3", "api", "v1"] => Route::OpenApiOf { group: "" },
        ["openapi", "v3", "apis", DISCOVERY, "v1"] => Route::OpenApiOf { group: DISCOVERY },
        ["api", "v1", rest @ ..] => objects("", rest),
        ["apis", DISCOVERY, "v1", rest @ ..] => objects(DISCOVERY, rest),
        _ => Route::Nowhere,
    }
}

fn objects(group: &str, parts: &[&str]) -> Route {
    // `namespaces/NAME/status` is a place of the namespace itself, like the namespace alone.
    let (namespace, parts) = match parts {
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, parts),
        ["namespaces", namespace, rest @ ..] => (Some(*namespace), rest),
        _ => (None, parts),
    };
    let Some(resource) = parts.first().and_then(|plural| Resource::named(group, plural)) else {
        return Route::UnknownResource;
    };
    let info = resource.info();
    let object = |name: &str, status| Route::Object {
        resource,
        key: NamespacedName::new(namespace.unwrap_or_default(), name),
        status,
    };
    match parts {
        [_] if namespace.is_none() || info.namespaced => {
            Route::Collection { resource, namespace: namespace.map(str::to_owned) }
        }
        [_, name] if namespace.is_some() == info.namespaced => object(name, false),
        [_, name, "status"] if namespace.is_some() == info.namespaced && info.status => object(name, true),
        _ => Route::UnknownResource,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(resource: Resource, namespace: &str, name: &str, status: bool) -> Route {
        Route::Object { resource, key: NamespacedName::new(namespace, name), status }
    }

    fn collection(resource: Resource, namespace: Option<&str>) -> Route {
        Route::Collection { resource, namespace: namespace.map(str::to_owned) }
    }

    #[test]
    fn paths_lead_where_the_api_server_has_them() {
        use Resource::{EndpointSlices, Namespaces, Nodes, Services};
        let table = [
            ("/version", Route::Version),
            ("/readyz/ping", Route::Health),
            ("/api", Route::Groups { core: true }),
            ("/api/v1/", Route::Kinds { group: "" }),
            ("/apis/discovery.k8s.io", Route::Group),
            ("/openapi/v3/apis/discovery.k8s.io/v1", Route::OpenApiOf { group: DISCOVERY }),
            ("/openapi/v2", Route::Nowhere),
            ("/api/v1/services", collection(Services, None)),
            ("/api/v1/namespaces/a/services", collection(Services, Some("a"))),
            ("/api/v1/namespaces/a/services/w%65b", object(Services, "a", "web", false)),
            ("/api/v1/namespaces/a/services/web/status", object(Services, "a", "web", true)),
            ("/api/v1/namespaces/a/services/web/proxy", Route::UnknownResource),
            ("/api/v1/namespaces", collection(Namespaces, None)),
            ("/api/v1/namespaces/a", object(Namespaces, "", "a", false)),
            ("/api/v1/namespaces/a/nodes", Route::UnknownResource),
            ("/api/v1/nodes/n", object(Nodes, "", "n", false)),
            ("/api/v1/nodes/n/status", object(Nodes, "", "n", true)),
            ("/api/v1/services/web", Route::UnknownResource),
            ("/api/v1/secrets", Route::UnknownResource),
            ("/apis/discovery.k8s.io/v1/endpointslices", collection(EndpointSlices, None)),
            ("/apis/apps/v1/deployments", Route::Nowhere),
            ("/", Route::Nowhere),
        ];
        for (path, wanted) in table {
            assert_eq!(route(path), wanted, "{path}");
        }
    }
}

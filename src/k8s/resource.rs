//! The kinds of objects that an API server of ringport's has, one row each.

/// A kind of object, by the name under which it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// v1 Service
    Services,
    /// v1 Pod
    Pods,
    /// v1 Node
    Nodes,
    /// v1 Namespace
    Namespaces,
    /// v1 Endpoints
    Endpoints,
    /// v1 Event
    Events,
    /// discovery.k8s.io/v1 EndpointSlice
    EndpointSlices,
}

/// What is known of a kind.
#[derive(Debug)]
pub struct Info {
    /// The kind.
    pub resource: Resource,
    /// API group; empty for the core.
    pub group: &'static str,
    /// As in `Service`.
    pub kind: &'static str,
    /// As in `services`: in paths, and in messages about one that is not found.
    pub plural: &'static str,
    /// As in `service`.
    pub singular: &'static str,
    /// As in `svc`.
    pub short: &'static [&'static str],
    /// `all` for what `kubectl get all` lists.
    pub categories: &'static [&'static str],
    /// Whether it lives in a namespace.
    pub namespaced: bool,
    /// Whether it has a status subresource.
    pub status: bool,
}

/// All kinds.
pub static RESOURCES: [Info; 7] = [
    Info {
        resource: Resource::Services,
        group: "",
        kind: "Service",
        plural: "services",
        singular: "service",
        short: &["svc"],
        categories: &["all"],
        namespaced: true,
        status: true,
    },
    Info {
        resource: Resource::Pods,
        group: "",
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short: &["po"],
        categories: &["all"],
        namespaced: true,
        status: true,
    },
    Info {
        resource: Resource::Nodes,
        group: "",
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short: &["no"],
        categories: &[],
        namespaced: false,
        status: true,
    },
    Info {
        resource: Resource::Namespaces,
        group: "",
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short: &["ns"],
        categories: &[],
        namespaced: false,
        status: false,
    },
    Info {
        resource: Resource::Endpoints,
        group: "",
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short: &["ep"],
        categories: &[],
        namespaced: true,
        status: false,
    },
    Info {
        resource: Resource::Events,
        group: "",
        kind: "Event",
        plural: "events",
        singular: "event",
        short: &["ev"],
        categories: &[],
        namespaced: true,
        status: false,
    },
    Info {
        resource: Resource::EndpointSlices,
        group: "discovery.k8s.io",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        short: &[],
        categories: &[],
        namespaced: true,
        status: false,
    },
];

impl Resource {
    /// Its row.
    pub fn info(self) -> &'static Info {
        // Every kind has one: see the test.
        RESOURCES.iter().find(|info| info.resource == self).unwrap_or(&RESOURCES[0])
    }

    /// The kind with this name in this group, as paths have it.
    pub fn named(group: &str, plural: &str) -> Option<Self> {
        RESOURCES.iter().find(|info| info.group == group && info.plural == plural).map(|info| info.resource)
    }
}

impl Info {
    /// As in `v1` or `discovery.k8s.io/v1`.
    pub fn api_version(&self) -> &'static str {
        if self.group.is_empty() { "v1" } else { "discovery.k8s.io/v1" }
    }

    /// As messages name it: `services`, `endpointslices.discovery.k8s.io`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_row() {
        for info in &RESOURCES {
            assert_eq!(info.resource.info().plural, info.plural);
            assert_eq!(Resource::named(info.group, info.plural), Some(info.resource));
        }
        assert_eq!(Resource::EndpointSlices.info().qualified(), "endpointslices.discovery.k8s.io");
        assert_eq!(Resource::named("apps", "deployments"), None);
    }
}

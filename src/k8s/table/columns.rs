//! The columns of each kind.

use crate::k8s::resource::Resource;

/// A column of a table (meta/v1 TableColumnDefinition).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// As in `Cluster-IP`; kubectl prints it in capitals.
    pub name: &'static str,
    /// `string` for all of them: also for what is written as a number.
    pub kind: &'static str,
    /// `name` for the column that holds the name of the object, else empty.
    pub format: &'static str,
    /// Above zero for what only `-o wide` shows.
    pub priority: i32,
}

const fn column(name: &'static str) -> Column {
    Column { name, kind: "string", format: "", priority: 0 }
}

const fn wide(name: &'static str) -> Column {
    Column { priority: 1, ..column(name) }
}

const NAME: Column = Column { format: "name", ..column("Name") };
const AGE: Column = column("Age");

/// The columns of a kind, in order.
pub fn columns(resource: Resource) -> &'static [Column] {
    match resource {
        Resource::Services => &SERVICES,
        Resource::Pods => &PODS,
        Resource::Nodes => &NODES,
        Resource::Namespaces => &NAMESPACES,
        Resource::Endpoints => &ENDPOINTS,
        Resource::Events => &EVENTS,
        Resource::EndpointSlices => &ENDPOINT_SLICES,
    }
}

static SERVICES: [Column; 7] = [
    NAME,
    column("Type"),
    column("Cluster-IP"),
    column("External-IP"),
    column("Port(s)"),
    AGE,
    wide("Selector"),
];

static PODS: [Column; 9] = [
    NAME,
    column("Ready"),
    column("Status"),
    column("Restarts"),
    AGE,
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];

static NODES: [Column; 10] = [
    NAME,
    column("Status"),
    column("Roles"),
    AGE,
    column("Version"),
    wide("Internal-IP"),
    wide("External-IP"),
    wide("OS-Image"),
    wide("Kernel-Version"),
    wide("Container-Runtime"),
];

static NAMESPACES: [Column; 3] = [NAME, column("Status"), AGE];

static ENDPOINTS: [Column; 3] = [NAME, column("Endpoints"), AGE];

static EVENTS: [Column; 10] = [
    column("Last Seen"),
    column("Type"),
    column("Reason"),
    column("Object"),
    wide("Subobject"),
    wide("Source"),
    column("Message"),
    wide("First Seen"),
    wide("Count"),
    Column { priority: 1, ..NAME },
];

static ENDPOINT_SLICES: [Column; 5] =
    [NAME, column("AddressType"), column("Ports"), column("Endpoints"), AGE];

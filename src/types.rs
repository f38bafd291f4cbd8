//! Words that every layer shares: protocols, names, addresses, the ends of a session.
//!
//! Client and endpoint addresses are different types, so that one is never used for the other.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// A transport protocol of a Service port (`spec.ports[].protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Transmission Control Protocol, the default.
    Tcp,
    /// User Datagram Protocol.
    Udp,
    /// Stream Control Transmission Protocol.
    Sctp,
}

impl Protocol {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A version of the PROXY protocol (haproxy.org, doc/proxy-protocol.txt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The name of a namespaced object; printed as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    /// `metadata.namespace`
    pub namespace: Arc<str>,
    /// `metadata.name`
    pub name: Arc<str>,
}

impl NamespacedName {
    /// A name from its two parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One port of one Service: kube-proxy's `ServicePortName`. Printed as `namespace/name:port`, or
/// without `:port` where the port has no name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortName {
    /// The Service.
    pub service: NamespacedName,
    /// `spec.ports[].name`, empty where it has none.
    pub port: Arc<str>,
    /// `spec.ports[].protocol`
    pub protocol: Protocol,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.service.fmt(f)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// Where a client connects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientAddr(pub SocketAddr);

/// Where a pod listens: address and target port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointAddr(pub SocketAddr);

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EndpointAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A direction of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the pod.
    Up,
    /// From the pod to the client.
    Down,
}

/// One of the fixed sets of reasons that metrics and the access log name.
pub trait Label: Copy + 'static {
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// Its place in `ALL`.
    fn index(self) -> usize;
    /// The text of the metric label; never changes meaning.
    fn label(self) -> &'static str;
}

macro_rules! labels {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];
            fn index(self) -> usize { self as usize }
            fn label(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
        }
    };
}

labels! {
    /// How a session that had reached a pod came to its end, and by whose doing.
    EndReason {
        /// Both sides said FIN and everything was delivered.
        Complete = "complete",
        /// The client reset the connection.
        ClientReset = "client_reset",
        /// The pod reset the connection, or refused a datagram (ICMP port unreachable).
        EndpointReset = "endpoint_reset",
        /// The client stopped acknowledging (keepalive or user timeout).
        ClientTimeout = "client_timeout",
        /// The pod, or its node, stopped acknowledging, or is said to be unreachable.
        EndpointTimeout = "endpoint_timeout",
        /// UDP: the pod is not serving any more, or has another address or port now.
        EndpointGone = "endpoint_gone",
        /// UDP: the Service, or this address and port of it, is gone.
        ServiceGone = "service_gone",
        /// UDP: its place was needed for a new flow.
        Evicted = "evicted",
        /// Nothing moved for the idle timeout.
        Idle = "idle_timeout",
        /// One side had said FIN and the other did not within the half-closed timeout.
        HalfClosed = "half_closed_timeout",
        /// Cut at the end of the drain timeout, or by a second signal.
        Drained = "drain_timeout",
        /// An operation of this node failed (memory, descriptors).
        LocalError = "local_error",
        /// The client sent a PROXY header, and is not one of those that its Service trusts.
        ProxyHeader = "proxy_header_untrusted",
    }
}

labels! {
    /// Why a connection was refused before it reached a pod.
    Refusal {
        /// The Service has no usable endpoint.
        NoEndpoints = "no_endpoints",
        /// No candidate could be connected within the connect timeout.
        ConnectFailed = "connect_failed",
        /// `--max-connections` is reached.
        MaxConnections = "max_connections",
        /// The Service's own limit is reached.
        ServiceLimit = "service_limit",
        /// The client's limit is reached.
        ClientLimit = "client_limit",
        /// The client is outside the source ranges of the Service.
        SourceRange = "source_range",
        /// The client left before a pod was connected.
        ClientGone = "client_gone",
        /// The process is draining.
        Draining = "draining",
        /// This node is out of descriptors, memory or local ports.
        LocalError = "local_error",
        /// A peer that has to send a PROXY header sent something else.
        ProxyHeaderMissing = "proxy_header_missing",
        /// It sent one that is not valid, or not whole.
        ProxyHeaderMalformed = "proxy_header_malformed",
        /// It did not send all of it in time.
        ProxyHeaderTimeout = "proxy_header_timeout",
    }
}

labels! {
    /// Why a datagram went no further.
    DropReason {
        /// The kernel had no room left in the buffer of the socket it came to.
        ReceiveBuffer = "receive_buffer",
        /// The kernel had no room left in the buffer of the socket it should leave by.
        SendBuffer = "send_buffer",
        /// Its client has no flow and got none; see the refusals.
        NoFlow = "no_flow",
        /// Its flow's pod cannot be reached.
        Unreachable = "unreachable",
        /// It is too large for the way out.
        TooLarge = "too_large",
        /// It did not fit into a receive buffer.
        Truncated = "truncated",
        /// It was sent to a group, or to all.
        NotUnicast = "not_unicast",
        /// This node could not send it for another reason.
        LocalError = "local_error",
    }
}

labels! {
    /// Why one attempt to connect to a pod failed.
    ConnectFailure {
        /// The pod answered with a reset: nothing listens.
        Refused = "refused",
        /// No answer within the connect timeout.
        Timeout = "timeout",
        /// No route, host or network unreachable.
        Unreachable = "unreachable",
        /// No local port is free towards this pod (EADDRNOTAVAIL).
        NoLocalPort = "no_local_port",
        /// This node is out of descriptors or memory.
        LocalError = "local_error",
        /// Anything else.
        Other = "other",
    }
}

//! Every option, one row each.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Config, ConfigError, LogFormat, Source, value};

/// One option.
pub struct Row {
    /// `--flag`, without the dashes. The environment variable follows from it.
    pub flag: &'static str,
    /// `-f`
    pub short: Option<char>,
    /// The key in the configuration file: kube-proxy's where it has one.
    pub key: &'static str,
    /// The default, as a user would write it.
    pub default: &'static str,
    /// Which commands have it.
    pub scope: Scope,
    /// How its value is written and where it goes.
    pub kind: Kind,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
}

/// Which commands have an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them: it decides what is served.
    All,
    /// Those that serve: `run` and `demo`.
    Serving,
    /// Those that read manifests: `run` and `check`.
    Manifests,
    /// `run` alone.
    Run,
    /// Those that know the embedded API: `run` and `kubeconfig`.
    Api,
}

/// A place in the configuration.
type At<T> = fn(&mut Config) -> &mut T;

/// How a value is written, its range, and where it goes.
pub enum Kind {
    /// A duration as Go writes it.
    Time(At<Duration>, RangeInclusive<Duration>),
    /// A whole number and its unit.
    Count(At<u32>, RangeInclusive<u32>, &'static str),
    /// The same, or `auto` and what that means.
    AutoCount(At<Option<u32>>, RangeInclusive<u32>, &'static str, &'static str),
    /// `true` or `false`.
    Switch(At<bool>),
    /// `IP:PORT`, or nothing for none.
    Address(At<Option<SocketAddr>>),
    /// Any text, or nothing for none; and what the text is.
    Text(At<Option<String>>, &'static str),
    /// Any number of texts.
    Texts(At<Vec<String>>, &'static str),
    /// Anything else, and what is accepted. Several values come joined by commas.
    Parsed(fn(&mut Config, &str) -> Option<()>, &'static str),
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// What TCP_KEEPIDLE and TCP_KEEPINTVL hold.
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);

/// All options, in the order of the help.
pub static ROWS: &[Row] = &[
    Row {
        flag: "filename",
        short: Some('f'),
        key: "filenames",
        default: "",
        scope: Scope::Manifests,
        kind: Kind::Texts(|c| &mut c.filenames, "files, directories, or - for standard input"),
        doc: "Manifests to serve: a file, a directory (its .yaml, .yml and .json files), or - for standard input. \
              May be given several times. Files are watched.",
    },
    Row {
        flag: "config",
        short: None,
        key: "",
        default: "",
        scope: Scope::All,
        kind: Kind::Text(|c| &mut c.file, "the name of a file"),
        doc: "A YAML file of options, by the keys of this table. Flags and environment variables win over it.",
    },
    Row {
        flag: "kubeconfig",
        short: None,
        key: "kubeconfig",
        default: "",
        scope: Scope::Run,
        kind: Kind::Text(|c| &mut c.kubeconfig, "the name of a file"),
        doc: "Serve the Services of a cluster, whose API server this kubeconfig names, instead of manifests.",
    },
    Row {
        flag: "in-cluster",
        short: None,
        key: "inCluster",
        default: "false",
        scope: Scope::Run,
        kind: Kind::Switch(|c| &mut c.in_cluster),
        doc: "Serve the Services of the cluster that this process runs in as a pod, with its service account.",
    },
    Row {
        flag: "service-proxy-name",
        short: None,
        key: "serviceProxyName",
        default: "",
        scope: Scope::Run,
        kind: Kind::Text(|c| &mut c.service_proxy_name, "the value of a label"),
        doc: "On a cluster, serve only Services whose label service.kubernetes.io/service-proxy-name has this value: \
              kube-proxy leaves these alone. Default: only Services without the label, as kube-proxy does.",
    },
    Row {
        flag: "via",
        short: None,
        key: "via",
        default: "pods",
        scope: Scope::Run,
        kind: Kind::Parsed(
            |c, text| {
                c.via_node_port = match text {
                    "pods" => false,
                    "node-port" => true,
                    _ => return None,
                };
                Some(())
            },
            "pods or node-port",
        ),
        doc: "On a cluster, how its endpoints are reached: the pods themselves, or, from outside such as the host of a \
              minikube, the node ports of its nodes. Then external IPs are served here.",
    },
    Row {
        flag: "via-node-ports",
        short: None,
        key: "viaNodePorts",
        default: "false",
        scope: Scope::Run,
        kind: Kind::Switch(|c| &mut c.via_node_ports),
        doc: "With --via node-port, serve the node ports here too, by the same numbers.",
    },
    Row {
        flag: "api",
        short: None,
        key: "api",
        default: "",
        scope: Scope::Api,
        kind: Kind::Parsed(
            |c, text| {
                c.api = if text.is_empty() { None } else { Some(value::api_address(text)?) };
                Some(())
            },
            "IP:PORT as in 127.0.0.1:8080, unix:/PATH of a socket, or nothing",
        ),
        doc: "Serve a Kubernetes API here, so that kubectl works with no cluster; it takes the place of -f, or stands \
              beside it. With 127.0.0.1:8080 kubectl needs no configuration. Beyond loopback it has TLS and a token.",
    },
    Row {
        flag: "state-dir",
        short: None,
        key: "stateDir",
        default: "",
        scope: Scope::Api,
        kind: Kind::Text(|c| &mut c.state_dir, "the name of a folder"),
        doc: "Where the objects of the API are kept over restarts, and its certificate and token. Nothing: in memory.",
    },
    Row {
        flag: "api-tls-cert-file",
        short: None,
        key: "apiTLSCertFile",
        default: "",
        scope: Scope::Api,
        kind: Kind::Text(|c| &mut c.api_tls_cert_file, "the name of a file"),
        doc: "PEM of the certificate that the API shows. Default beyond loopback: one made at the first start.",
    },
    Row {
        flag: "api-tls-private-key-file",
        short: None,
        key: "apiTLSPrivateKeyFile",
        default: "",
        scope: Scope::Api,
        kind: Kind::Text(|c| &mut c.api_tls_private_key_file, "the name of a file"),
        doc: "PEM of its key.",
    },
    Row {
        flag: "api-token-file",
        short: None,
        key: "apiTokenFile",
        default: "",
        scope: Scope::Api,
        kind: Kind::Text(|c| &mut c.api_token_file, "the name of a file"),
        doc: "The bearer token that requests to the API need. Default beyond loopback: one made at the first start.",
    },
    Row {
        flag: "node-name",
        short: None,
        key: "nodeName",
        default: "",
        scope: Scope::All,
        kind: Kind::Text(|c| &mut c.node_name, "the name of a node"),
        doc: "This node's name, which decides what is local to it. Default: the host name.",
    },
    Row {
        flag: "service-node-port-range",
        short: None,
        key: "serviceNodePortRange",
        default: "30000-32767",
        scope: Scope::All,
        kind: Kind::Parsed(
            |c, text| {
                c.service_node_port_range = value::port_range(text)?;
                Some(())
            },
            "two ports, the lower first, as in 30000-32767",
        ),
        doc: "Node ports that a Service may ask for or be given.",
    },
    Row {
        flag: "service-cluster-ip-range",
        short: None,
        key: "serviceClusterIPRange",
        default: "10.96.0.0/16",
        scope: Scope::All,
        kind: Kind::Parsed(
            |c, text| {
                c.service_cluster_ip_range = value::cidr(text)?;
                Some(())
            },
            "a CIDR, as in 10.96.0.0/16",
        ),
        doc: "Where cluster IPs are allocated.",
    },
    Row {
        flag: "nodeport-addresses",
        short: None,
        key: "nodePortAddresses",
        default: "",
        scope: Scope::All,
        kind: Kind::Parsed(
            |c, text| {
                c.nodeport_addresses = value::node_port_addresses(text)?;
                Some(())
            },
            "CIDRs joined by commas, as in 192.0.2.0/24,2001:db8::/64, or primary, or nothing for every address",
        ),
        doc: "Where node ports listen: the node's addresses inside these CIDRs, or `primary` for the addresses of \
              its default routes. As with kube-proxy, an address family without a CIDR keeps all its addresses. \
              Default: every address, in the families of each Service.",
    },
    Row {
        flag: "cluster-ips",
        short: None,
        key: "clusterIPs",
        default: "false",
        scope: Scope::All,
        kind: Kind::Switch(|c| &mut c.cluster_ips),
        doc: "Serve cluster IPs too. They need not be addresses of this node, but clients need a route to it; see \
              --manage-addresses.",
    },
    Row {
        flag: "manage-addresses",
        short: None,
        key: "manageAddresses",
        default: "false",
        scope: Scope::Serving,
        kind: Kind::Switch(|c| &mut c.manage_addresses),
        doc: "Make the traffic of served addresses that no interface has (external IPs, load balancer addresses, cluster \
              IPs) arrive here, by a local route for each; they are removed at the end. Needs CAP_NET_ADMIN.",
    },
    Row {
        flag: "cluster-cidr",
        short: None,
        key: "clusterCIDR",
        default: "",
        scope: Scope::All,
        kind: Kind::Parsed(
            |c, text| {
                c.cluster_cidr = value::cidrs(text)?;
                c.cluster_cidr.iter().all(|cidr| cidr.prefix_len() > 0).then_some(())
            },
            "CIDRs joined by commas, as in 10.244.0.0/16,fd00:244::/56, none of them everything, or nothing",
        ),
        doc: "Where pods have their addresses, besides `spec.podCIDRs` of this node. Under `externalTrafficPolicy: Local` \
              a pod that uses an external address reaches all endpoints, as with kube-proxy, and a client from outside the \
              local ones.",
    },
    Row {
        flag: "external-ip-cidrs",
        short: None,
        key: "externalIPCIDRs",
        default: "",
        scope: Scope::All,
        kind: Kind::Parsed(
            |c, text| {
                c.external_ip_cidrs = value::cidrs(text)?;
                Some(())
            },
            "CIDRs joined by commas, as in 192.0.2.0/24,2001:db8::/64, or nothing for none",
        ),
        doc: "External IPs that are served for Services from an API or a cluster: those inside these CIDRs. Whoever may \
              write a Service could else take the traffic of any address (CVE-2020-8554). An address of this node is served \
              only where one of them is that address alone. Of ringport's own API, load balancer addresses count as \
              well. Services from files are served everywhere.",
    },
    Row {
        flag: "reserve-ports",
        short: None,
        key: "reservePorts",
        default: "false",
        scope: Scope::Serving,
        kind: Kind::Switch(|c| &mut c.reserve_ports),
        doc: "Keep the kernel from giving node ports to outgoing connections: those inside net.ipv4.ip_local_port_range are \
              added to net.ipv4.ip_local_reserved_ports, and taken out at the end.",
    },
    Row {
        flag: "transparent",
        short: None,
        key: "transparent",
        default: "false",
        scope: Scope::Serving,
        kind: Kind::Switch(|c| &mut c.transparent),
        doc: "Under externalTrafficPolicy: Local, connect to pods from the address of the client, as kube-proxy does. \
              Needs CAP_NET_ADMIN, ip and nft; docs/client-address.md says what is set up and removed again.",
    },
    Row {
        flag: "transparent-mark",
        short: None,
        key: "transparentMark",
        default: "0x1000",
        scope: Scope::Serving,
        kind: Kind::Parsed(
            |c, text| {
                c.transparent_mark = value::mark(text)?;
                Some(())
            },
            "bits of a number of 32 bits, as in 0x1000",
        ),
        doc: "The bits that --transparent sets in the marks of answers. No other program of this node may use them.",
    },
    Row {
        flag: "transparent-table",
        short: None,
        key: "transparentTable",
        default: "4096",
        scope: Scope::Serving,
        kind: Kind::Parsed(
            |c, text| {
                c.transparent_table = text.parse().ok().filter(|&table: &u32| table > 255)?;
                Some(())
            },
            "the number of a routing table, from 256 to 4294967295",
        ),
        doc: "The routing table that --transparent fills. Nothing else may be in it.",
    },
    Row {
        flag: "shards",
        short: None,
        key: "shards",
        default: "auto",
        scope: Scope::Serving,
        kind: Kind::AutoCount(|c| &mut c.shards, 1..=1024, "threads", "one for each core"),
        doc: "Threads that carry traffic.",
    },
    Row {
        flag: "pin",
        short: None,
        key: "pin",
        default: "true",
        scope: Scope::Serving,
        kind: Kind::Switch(|c| &mut c.pin),
        doc: "Keep each shard on a core of its own, where there are enough of them.",
    },
    Row {
        flag: "max-connections",
        short: None,
        key: "maxConnections",
        default: "auto",
        scope: Scope::Serving,
        kind: Kind::AutoCount(
            |c| &mut c.max_connections,
            1..=50_000_000,
            "sessions",
            "what the limit on open files allows, with a reserve",
        ),
        doc: "Sessions at a time, all shards together. A connection beyond them is refused at once. UDP flows are sessions, \
              and may be half of them; beyond that the oldest one gives way.",
    },
    Row {
        flag: "max-connections-per-service",
        short: None,
        key: "maxConnectionsPerService",
        default: "auto",
        scope: Scope::Serving,
        kind: Kind::AutoCount(|c| &mut c.max_connections_per_service, 1..=50_000_000, "sessions", "no limit"),
        doc: "Sessions at a time of each port of a Service. The annotation ringport.io/max-connections overrides it.",
    },
    Row {
        flag: "max-connections-per-client",
        short: None,
        key: "maxConnectionsPerClient",
        default: "auto",
        scope: Scope::Serving,
        kind: Kind::AutoCount(|c| &mut c.max_connections_per_client, 1..=50_000_000, "sessions", "no limit"),
        doc: "Sessions at a time of each client address with each port of a Service. The annotation \
              ringport.io/max-connections-per-client overrides it.",
    },
    Row {
        flag: "connect-timeout",
        short: None,
        key: "connectTimeout",
        default: "5s",
        scope: Scope::Serving,
        kind: Kind::Time(|c| &mut c.connect_timeout, Duration::from_millis(10)..=HOUR),
        doc: "The time to reach a pod, all candidates together.",
    },
    Row {
        flag: "idle-timeout",
        short: None,
        key: "idleTimeout",
        default: "0s",
        scope: Scope::Serving,
        kind: Kind::Time(|c| &mut c.idle_timeout, Duration::ZERO..=YEAR),
        doc: "A session in which nothing moves in either direction for this long is cut. 0s: never. A Service's \
              annotation ringport.io/idle-timeout overrides it.",
    },
    Row {
        flag: "half-closed-timeout",
        short: None,
        key: "halfClosedTimeout",
        default: "1h",
        scope: Scope::Serving,
        kind: Kind::Time(|c| &mut c.half_closed_timeout, Duration::ZERO..=YEAR),
        doc: "A session in which one side has said FIN and nothing moves for this long is cut. 0s: never. The \
              default is kube-proxy's for connections in CLOSE_WAIT.",
    },
    Row {
        flag: "conntrack-udp-timeout",
        short: None,
        key: "conntrackUDPTimeout",
        default: "30s",
        scope: Scope::Serving,
        kind: Kind::Time(|c| &mut c.conntrack_udp_timeout, Duration::ZERO..=YEAR),
        doc: "A UDP flow that its pod has not answered is forgotten after this long without a datagram, and so is one \
              whose datagrams all came within two seconds. 0s, kube-proxy's default, means 30s too. A Service's \
              annotation ringport.io/udp-timeout overrides it.",
    },
    Row {
        flag: "conntrack-udp-timeout-stream",
        short: None,
        key: "conntrackUDPTimeoutStream",
        default: "2m",
        scope: Scope::Serving,
        kind: Kind::Time(|c| &mut c.conntrack_udp_timeout_stream, Duration::ZERO..=YEAR),
        doc: "A UDP flow in both directions is forgotten after this long without a datagram. 0s, kube-proxy's default, \
              means 2m too. A Service's annotation ringport.io/udp-stream-timeout overrides it.",
    },
    Row {
        flag: "drain-timeout",
        short: None,
        key: "drainTimeout",
        default: "30s",
        scope: Scope::Serving,
        kind: Kind::Time(|c| &mut c.drain_timeout, Duration::ZERO..=YEAR),
        doc: "The time that sessions have to end after SIGTERM or SIGINT, before they are cut.",
    },
    Row {
        flag: "tcp-nodelay",
        short: None,
        key: "tcpNodelay",
        default: "true",
        scope: Scope::Serving,
        kind: Kind::Switch(|c| &mut c.tcp_nodelay),
        doc: "Send small pieces at once, towards clients and pods, instead of waiting for more to fill a segment.",
    },
    Row {
        flag: "keepalive-time",
        short: None,
        key: "keepaliveTime",
        default: "1m",
        scope: Scope::Serving,
        kind: Kind::Time(|c| &mut c.keepalive_time, Duration::ZERO..=KEEPALIVE_MAX),
        doc: "Silence on a connection before the kernel probes whether the other side is still there, towards \
              clients and pods. 0s: no probes.",
    },
    Row {
        flag: "keepalive-interval",
        short: None,
        key: "keepaliveInterval",
        default: "10s",
        scope: Scope::Serving,
        kind: Kind::Time(|c| &mut c.keepalive_interval, SECOND..=KEEPALIVE_MAX),
        doc: "Time between two probes.",
    },
    Row {
        flag: "keepalive-probes",
        short: None,
        key: "keepaliveProbes",
        default: "6",
        scope: Scope::Serving,
        kind: Kind::Count(|c| &mut c.keepalive_probes, 1..=127, "probes"),
        doc: "Unanswered probes after which a connection is dead.",
    },
    Row {
        flag: "user-timeout",
        short: None,
        key: "userTimeout",
        default: "30s",
        scope: Scope::Serving,
        kind: Kind::Time(|c| &mut c.user_timeout, Duration::ZERO..=HOUR),
        doc: "How long data sent to a pod may stay unacknowledged, or wait for a pod that does not read, before the \
              connection is dead (TCP_USER_TIMEOUT). 0s: the kernel's choice, about 15 minutes.",
    },
    Row {
        flag: "splice",
        short: None,
        key: "splice",
        default: "true",
        scope: Scope::Serving,
        kind: Kind::Switch(|c| &mut c.splice),
        doc: "Move long transfers through kernel pipes instead of copying them.",
    },
    Row {
        flag: "metrics-bind-address",
        short: None,
        key: "metricsBindAddress",
        default: "127.0.0.1:10249",
        scope: Scope::Serving,
        kind: Kind::Address(|c| &mut c.metrics_bind_address),
        doc: "Where /metrics and /statusz are served. Nothing: nowhere.",
    },
    Row {
        flag: "healthz-bind-address",
        short: None,
        key: "healthzBindAddress",
        default: "0.0.0.0:10256",
        scope: Scope::Serving,
        kind: Kind::Address(|c| &mut c.healthz_bind_address),
        doc: "Where /healthz, /livez and /readyz are served. Nothing: nowhere.",
    },
    Row {
        flag: "bind-address-hard-fail",
        short: None,
        key: "bindAddressHardFail",
        default: "false",
        scope: Scope::Serving,
        kind: Kind::Switch(|c| &mut c.bind_address_hard_fail),
        doc: "End the program where one of these two addresses cannot be bound, instead of going on without it.",
    },
    Row {
        flag: "access-log",
        short: None,
        key: "accessLog",
        default: "",
        scope: Scope::Serving,
        kind: Kind::Text(|c| &mut c.access_log, "the name of a file, or - for standard output"),
        doc: "Write one JSON line for each finished session to this file, or - for standard output. SIGHUP opens \
              it again.",
    },
    Row {
        flag: "log-level",
        short: None,
        key: "logLevel",
        default: "info",
        scope: Scope::All,
        kind: Kind::Parsed(
            |c, text| {
                c.log_level = value::level(text)?;
                Some(())
            },
            "error, warn, info, debug or trace",
        ),
        doc: "The least severe message that is logged.",
    },
    Row {
        flag: "log-format",
        short: None,
        key: "logFormat",
        default: "text",
        scope: Scope::All,
        kind: Kind::Parsed(
            |c, text| {
                c.log_format = match text {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => return None,
                };
                Some(())
            },
            "text or json",
        ),
        doc: "The form of the log on standard error.",
    },
];

// === impl Row ===

impl Row {
    /// The environment variable: `RINGPORT_DRAIN_TIMEOUT`.
    pub fn env(&self) -> String {
        format!("RINGPORT_{}", self.flag.to_ascii_uppercase().replace('-', "_"))
    }

    /// Puts values into their place. Only [`Kind::Texts`] and [`Kind::Parsed`] take several.
    pub fn set(
        &self,
        config: &mut Config,
        values: &[String],
        from: impl Fn() -> Source,
    ) -> Result<(), ConfigError> {
        let joined;
        let text = match values {
            [one] => one.as_str(),
            several => {
                joined = several.join(",");
                &joined
            }
        };
        self.put(config, text, values).ok_or_else(|| ConfigError::Value {
            from: from(),
            value: text.to_owned(),
            accepts: self.accepts(),
        })
    }

    fn put(&self, config: &mut Config, text: &str, values: &[String]) -> Option<()> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        match &self.kind {
            Kind::Time(at, range) => *at(config) = value::duration(text).filter(|t| range.contains(t))?,
            Kind::Count(at, range, _) => *at(config) = text.parse().ok().filter(|n| range.contains(n))?,
            Kind::AutoCount(at, ..) if text == "auto" => *at(config) = None,
            Kind::AutoCount(at, range, ..) => {
                *at(config) = Some(text.parse().ok().filter(|n| range.contains(n))?);
            }
            Kind::Switch(at) => *at(config) = value::switch(text)?,
            Kind::Address(at) if text.is_empty() => *at(config) = None,
            Kind::Address(at) => *at(config) = Some(text.parse().ok()?),
            Kind::Text(at, _) => *at(config) = some(text),
            Kind::Texts(at, _) => *at(config) = values.iter().filter_map(|v| some(v)).collect(),
            Kind::Parsed(set, _) => set(config, text)?,
        }
        Some(())
    }

    /// What a value may be, in words that follow "write".
    pub fn accepts(&self) -> String {
        match &self.kind {
            Kind::Time(_, range) => format!(
                "a duration as in 30s, 1m30s or 500ms, from {} to {}",
                value::print_duration(*range.start()),
                value::print_duration(*range.end())
            ),
            Kind::Count(_, range, unit) => {
                format!("a number of {unit} from {} to {}", range.start(), range.end())
            }
            Kind::AutoCount(_, range, unit, auto) => {
                format!("a number of {unit} from {} to {}, or auto: {auto}", range.start(), range.end())
            }
            Kind::Switch(_) => "true or false".to_owned(),
            Kind::Address(_) => "IP:PORT as in 127.0.0.1:10249 or [::1]:10249, or nothing".to_owned(),
            Kind::Text(_, what) | Kind::Texts(_, what) | Kind::Parsed(_, what) => (*what).to_owned(),
        }
    }

    /// The name of its value in the help: `DURATION`.
    pub fn value_name(&self) -> &'static str {
        match &self.kind {
            Kind::Time(..) => "DURATION",
            Kind::Count(..) | Kind::AutoCount(..) => "N",
            Kind::Switch(_) => "BOOL",
            Kind::Address(_) => "IP:PORT",
            Kind::Text(..) | Kind::Texts(..) | Kind::Parsed(..) => match self.flag {
                "filename" | "config" | "access-log" => "FILE",
                "api" => "ADDRESS",
                "state-dir" => "DIRECTORY",
                "api-tls-cert-file" | "api-tls-private-key-file" | "api-token-file" => "FILE",
                "service-node-port-range" => "FIRST-LAST",
                "service-cluster-ip-range" => "CIDR",
                "nodeport-addresses" | "external-ip-cidrs" | "cluster-cidr" => "CIDRS",
                "node-name" => "NAME",
                "kubeconfig" => "FILE",
                "service-proxy-name" => "NAME",
                "via" => "WAY",
                "transparent-mark" => "BITS",
                "transparent-table" => "N",
                "log-level" => "LEVEL",
                _ => "FORMAT",
            },
        }
    }
}

//! The options: one row each, and the typed result.
//!
//! [`table::ROWS`] is the only place that names an option. Flags, environment variables, keys of the
//! `--config` file, defaults, help and `docs/options.md` are all read from it. A flag wins over the
//! environment, that over the file, and that over the default.
#![forbid(unsafe_code)]

mod blank;
mod docs;
mod file;
mod table;
mod value;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use docs::markdown;
pub use table::{Kind, ROWS, Row, Scope};
pub use value::print_duration;

/// Everything that can be set, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Manifests: files, directories, or `-` for standard input.
    pub filenames: Vec<String>,
    /// The configuration file.
    pub file: Option<String>,
    /// The kubeconfig of the cluster that is served.
    pub kubeconfig: Option<String>,
    /// Whether the cluster that this process runs in is served.
    pub in_cluster: bool,
    /// The value of the label of the Services that are served; `None` is those without it.
    pub service_proxy_name: Option<String>,
    /// Whether endpoints are reached through the node ports of the cluster's nodes.
    pub via_node_port: bool,
    /// Whether these node ports are served here too.
    pub via_node_ports: bool,
    /// Where the embedded API is; `None` is nowhere.
    pub api: Option<ApiAddress>,
    /// PEM of the certificates that it shows.
    pub api_tls_cert_file: Option<String>,
    /// PEM of the key of the first one.
    pub api_tls_private_key_file: Option<String>,
    /// The bearer token that requests to it need.
    pub api_token_file: Option<String>,
    /// Where the objects of the API are kept, and what it needs otherwise.
    pub state_dir: Option<String>,
    /// Shards; `None` is one a core.
    pub shards: Option<u32>,
    /// Whether each shard stays on a core of its own.
    pub pin: bool,
    /// Where nodePorts listen.
    pub nodeport_addresses: NodePortAddresses,
    /// `nodePort`s that a Service may ask for or be given.
    pub service_node_port_range: RangeInclusive<u16>,
    /// Where clusterIPs are allocated.
    pub service_cluster_ip_range: IpNet,
    /// Whether clusterIPs are served.
    pub cluster_ips: bool,
    /// Whether traffic for served addresses that no interface has is led here.
    pub manage_addresses: bool,
    /// Where externalIPs that come through an API may be.
    pub external_ip_cidrs: Vec<IpNet>,
    /// Whether node ports are kept from outgoing connections.
    pub reserve_ports: bool,
    /// Where pods have their addresses, besides what the Node says.
    pub cluster_cidr: Vec<IpNet>,
    /// This node's name; `None` is the host's.
    pub node_name: Option<String>,
    /// Whether pods see the addresses of clients under `externalTrafficPolicy: Local`.
    pub transparent: bool,
    /// The bits that this takes of the marks of packets.
    pub transparent_mark: u32,
    /// The routing table that it takes.
    pub transparent_table: u32,
    /// The time to reach a pod, all candidates together.
    pub connect_timeout: Duration,
    /// The time that sessions have to end once the process was told to stop.
    pub drain_timeout: Duration,
    /// A session in which nothing moves for this long is cut; zero is never.
    pub idle_timeout: Duration,
    /// `--conntrack-udp-timeout`; zero is the default.
    pub conntrack_udp_timeout: Duration,
    /// `--conntrack-udp-timeout-stream`; zero is the default.
    pub conntrack_udp_timeout_stream: Duration,
    /// The same once one side has said FIN; zero is never.
    pub half_closed_timeout: Duration,
    /// Silence before the first keepalive probe; zero is none.
    pub keepalive_time: Duration,
    /// Time between probes.
    pub keepalive_interval: Duration,
    /// Unanswered probes before the connection counts as dead.
    pub keepalive_probes: u32,
    /// How long sent data may stay unacknowledged by a pod; zero is the kernel's choice.
    pub user_timeout: Duration,
    /// Sessions at a time; `None` follows from the limit on open files.
    pub max_connections: Option<u32>,
    /// Sessions at a time of each service port; `None` is no limit.
    pub max_connections_per_service: Option<u32>,
    /// Sessions at a time of each client with each service port; `None` is no limit.
    pub max_connections_per_client: Option<u32>,
    /// Whether small pieces are sent at once.
    pub tcp_nodelay: bool,
    /// Whether long transfers go through pipes.
    pub splice: bool,
    /// Where `/metrics` is; `None` is nowhere.
    pub metrics_bind_address: Option<SocketAddr>,
    /// Where `/healthz`, `/livez` and `/readyz` are; `None` is nowhere.
    pub healthz_bind_address: Option<SocketAddr>,
    /// Whether one of these two that cannot be bound ends the program.
    pub bind_address_hard_fail: bool,
    /// Where finished sessions are written: a file or `-`.
    pub access_log: Option<String>,
    /// The least severe message that is logged.
    pub log_level: tracing::Level,
    /// The form of the log.
    pub log_format: LogFormat,
}

/// `--api`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiAddress {
    /// `127.0.0.1:8080`
    Tcp(SocketAddr),
    /// `unix:/run/ringport.sock`
    Unix(PathBuf),
}

impl fmt::Display for ApiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `--nodeport-addresses`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Every address of the node.
    All,
    /// The node's own addresses: the source addresses of its default routes.
    Primary,
    /// Addresses of the node inside one of these.
    Cidrs(Vec<IpNet>),
}

/// `--log-format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// On the command line.
    Flag(&'static str),
    /// In the environment.
    Env(String),
    /// In the configuration file: its name, the line from one, the key.
    File(String, u64, String),
    /// Nowhere: the default.
    Default(&'static str),
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A value that its option does not accept.
    #[error("{from}: {value:?} is not accepted; write {accepts}")]
    Value {
        /// The option, as it was written.
        from: Source,
        /// The value.
        value: String,
        /// What is accepted.
        accepts: String,
    },
    /// A key that the configuration file does not have.
    #[error("{file}:{line}: there is no option {key:?}{}", hint(.nearest))]
    UnknownKey {
        /// The file.
        file: String,
        /// Line, from one.
        line: u64,
        /// The key.
        key: String,
        /// The closest one there is.
        nearest: Option<&'static str>,
    },
    /// The configuration file cannot be read, or is not a mapping of options.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// Why, with line and column where it has them.
        reason: String,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map(|n| format!("; did you mean {n:?}?")).unwrap_or_default()
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Env(name) => f.write_str(name),
            Self::File(file, line, key) => write!(f, "{file}:{line}: {key}"),
            Self::Default(flag) => write!(f, "default of --{flag}"),
        }
    }
}

/// What the command line said: the flag and its values.
pub type Flags = Vec<(&'static Row, Vec<String>)>;

impl Config {
    /// All options at their defaults.
    pub fn defaults() -> Result<Self, ConfigError> {
        let mut config = blank::blank();
        for row in ROWS {
            row.set(&mut config, &[row.default.to_owned()], || Source::Default(row.flag))?;
        }
        Ok(config)
    }

    /// Puts the command line over the environment over the file over the defaults. `env` and `read` are
    /// the environment and the file system.
    pub fn resolve(
        flags: &Flags,
        env: impl Fn(&str) -> Option<String>,
        read: impl Fn(&str) -> std::io::Result<String>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::defaults()?;
        let from_env = ROWS.iter().filter_map(|row| env(&row.env()).map(|value| (row, vec![value])));
        let from_env: Flags = from_env.collect();

        let named = |given: &Flags| {
            given.iter().find(|(row, _)| row.flag == "config").and_then(|(_, values)| values.last().cloned())
        };
        if let Some(name) = named(flags).or_else(|| named(&from_env)).filter(|name| !name.is_empty()) {
            let text = read(&name).map_err(|e| ConfigError::File {
                file: name.clone(),
                reason: format!("cannot be read: {e}"),
            })?;
            for entry in file::parse(&name, &text)? {
                let from = || Source::File(name.clone(), entry.line, entry.row.key.to_owned());
                entry.row.set(&mut config, &entry.values, from)?;
            }
        }
        for (row, values) in &from_env {
            row.set(&mut config, values, || Source::Env(row.env()))?;
        }
        for (row, values) in flags {
            row.set(&mut config, values, || Source::Flag(row.flag))?;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests;

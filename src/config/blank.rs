//! A configuration without its defaults.

use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::{Config, LogFormat, NodePortAddresses};

/// A configuration before its defaults are put in; each value here is overwritten by its row.
pub(super) fn blank() -> Config {
    Config {
        filenames: Vec::new(),
        file: None,
        kubeconfig: None,
        in_cluster: false,
        service_proxy_name: None,
        via_node_port: false,
        via_node_ports: false,
        api: None,
        api_tls_cert_file: None,
        api_tls_private_key_file: None,
        api_token_file: None,
        state_dir: None,
        shards: None,
        pin: false,
        nodeport_addresses: NodePortAddresses::All,
        service_node_port_range: 0..=0,
        service_cluster_ip_range: IpNet::V4(Ipv4Net::default()),
        cluster_ips: false,
        manage_addresses: false,
        external_ip_cidrs: Vec::new(),
        reserve_ports: false,
        cluster_cidr: Vec::new(),
        node_name: None,
        transparent: false,
        transparent_mark: 0,
        transparent_table: 0,
        connect_timeout: Duration::ZERO,
        drain_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
        conntrack_udp_timeout: Duration::ZERO,
        conntrack_udp_timeout_stream: Duration::ZERO,
        half_closed_timeout: Duration::ZERO,
        keepalive_time: Duration::ZERO,
        keepalive_interval: Duration::ZERO,
        keepalive_probes: 0,
        user_timeout: Duration::ZERO,
        max_connections: None,
        max_connections_per_service: None,
        max_connections_per_client: None,
        tcp_nodelay: false,
        splice: false,
        metrics_bind_address: None,
        healthz_bind_address: None,
        bind_address_hard_fail: false,
        access_log: None,
        log_level: tracing::Level::INFO,
        log_format: LogFormat::Text,
    }
}

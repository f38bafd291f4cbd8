//! ringport: a user-space L4 load balancer for Kubernetes Services.
//!
//! In the order that a change travels, from a manifest to a relayed byte:
//!
//! - [`cli`] the commands, [`config`] their options, [`app`] the order of start, drain and stop
//! - [`k8s`] the objects: decoding, defaulting, validation
//! - [`source`] manifest files: read, read again, watched
//! - [`store`] stand-alone mode: allocation of ports and addresses, Pods to EndpointSlices
//! - [`route`] which pod a connection goes to: compile, pick, affinity, the snapshot
//! - [`control`] compile, hold the ports, publish
//! - [`shard`] the data plane: accept, pick, connect, relay
//! - [`ring`] the io_uring of a shard, operations as futures
//! - [`net`] this machine and its sockets: limits, addresses, options, holding a port
//! - [`metrics`] what is counted, and its text
//! - [`admin`] metrics, health and status over HTTP
//! - [`api`] the Kubernetes API over the store, for kubectl without a cluster
//! - [`types`], [`limits`], [`clock`], [`counter`] words, bounds and time that all of them share

pub mod admin;
pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod counter;
pub mod k8s;
pub mod limits;
pub mod metrics;
pub mod net;
pub mod problem;
pub mod ring;
pub mod route;
pub mod shard;
pub mod source;
pub mod store;
pub mod types;

//! ringport: a user-space L4 load balancer for Kubernetes Services.
//!
//! In the order that a change travels, from a manifest to a relayed byte:
//!
//! - [`k8s`] the objects: decoding, defaulting, validation
//! - [`store`] stand-alone mode: allocation of ports and addresses, Pods to EndpointSlices
//! - [`route`] which pod a connection goes to: compile, pick, affinity, the snapshot
//! - [`control`] compile, hold the ports, publish
//! - [`shard`] the data plane: accept, pick, connect, relay
//! - [`ring`] the io_uring of a shard, operations as futures
//! - [`net`] socket options, held ports
//! - [`metrics`] what is counted
//! - [`types`], [`limits`], [`clock`] words, bounds and time that all of them share

pub mod clock;
pub mod control;
pub mod k8s;
pub mod limits;
pub mod metrics;
pub mod net;
pub mod problem;
pub mod ring;
pub mod route;
pub mod shard;
pub mod store;
pub mod types;

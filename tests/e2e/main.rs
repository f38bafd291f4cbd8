//! The real program between misbehaving peers: each test has its own process, folder, addresses and
//! ports, so that any number of them may run at once. What is random prints its seed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says what is wrong by failing"
)]

mod addresses;
mod api;
mod balance;
mod churn;
mod cli;
mod cluster;
mod drain;
mod endpoints;
mod halfclose;
mod harness;
mod limits;
mod namespaces;
mod network;
mod policies;
mod ports;
mod pressure;
mod proxy;
mod proxy_peers;
mod relay;
mod reload;
mod resets;
mod startup;
mod transparent;
mod udp;
mod verbs;

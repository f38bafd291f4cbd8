//! Sockets and the machine's limits, below everything that knows what they are for.

#![allow(unsafe_code)]

pub mod addresses;
pub mod changes;
pub mod hold;
mod hold_udp;
pub mod machine;
pub mod port_list;
pub mod replies;
pub mod routes;
pub mod socket;
pub mod transparent;
pub mod udp;

//! Sockets and the machine's limits, below everything that knows what they are for.

#![allow(unsafe_code)]

pub mod hold;
pub mod socket;

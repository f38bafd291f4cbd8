//! Sockets of the operating system, and this machine: what is asked of them and what they answer.

pub mod addresses;
pub mod hold;
pub mod machine;

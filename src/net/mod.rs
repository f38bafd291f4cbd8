//! Sockets of the operating system: what is asked of it and what it answers.

pub mod hold;

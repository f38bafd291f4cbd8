//! Where objects come from.

pub mod manifests;
mod watch;

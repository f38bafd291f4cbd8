//! This machine's network: what it allows, and its addresses.

pub mod addresses;
pub mod machine;

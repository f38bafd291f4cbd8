//! What the tests are made of: a corner of the machine, the process in it, and its peers.

pub(crate) mod bytes;
pub(crate) mod client;
pub(crate) mod http;
pub(crate) mod kubectl;
pub(crate) mod manifest;
pub(crate) mod metrics;
pub(crate) mod netns;
pub(crate) mod pod;
pub(crate) mod process;
pub(crate) mod rig;
pub(crate) mod wait;
pub(crate) mod world;

//! The embedded API: as a client over HTTP sees it, as kube's watchers do, and as real kubectl does.

mod crash;
mod errors;
mod kube;
mod kubectl;
mod objects;
pub(crate) mod rig;
mod safety;
mod traffic;
mod watch;

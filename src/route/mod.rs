//! Which pod a connection goes to. Pure: no sockets, files, threads, async or wall clock; time and
//! randomness are inputs.
//!
//! From objects to a snapshot: [`usable`] endpoints of a Service, the [`frontends`] it is reached by,
//! [`compile`]; [`permits`] say which of them it may take, [`sources`] who may use them. In the snapshot: a [`port`] with its [`affinity`] ledger, an [`endpoint`] with its
//! [`health`], and the [`pick`], by [`maglev`] or chance.

pub mod affinity;
pub mod compile;
pub mod endpoint;
#[cfg(test)]
pub(crate) mod fixture;
pub mod frontends;
pub mod health;
pub mod maglev;
pub mod permits;
pub mod pick;
pub mod plane;
pub mod port;
pub mod snapshot;
pub mod sources;
pub mod usable;

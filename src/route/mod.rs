//! Which pod a connection goes to. Pure: no sockets, files, threads, async or wall clock; time and
//! randomness are inputs.

pub mod plane;
pub mod snapshot;

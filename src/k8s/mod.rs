//! The Kubernetes objects: pure, no input or output.
//!
//! In the order in which a manifest becomes what the data plane is compiled from:
//!
//! - [`decode`] bytes → located tree → typed objects, strictly
//! - [`service`], [`pod`], [`mod@slice`], [`node`] defaulting and validation of each kind
//! - [`meta`], [`names`], [`ip`], [`field`] the rules and messages that they share
//! - [`model`] what is left of them for a proxy
//! - [`resource`] the kinds as an API names them
//! - [`patch`] changes of a part of an object
//! - [`protobuf`] bodies that are not JSON
//! - [`selector`] which objects a list or a watch is about
//! - [`event`] what is told of an object
//! - [`table`] objects as `kubectl get` prints them

#[cfg(test)]
pub(crate) mod arbitrary;
pub mod decode;
pub mod event;
pub mod field;
pub mod ip;
pub mod meta;
pub mod model;
pub mod names;
pub mod node;
pub mod patch;
pub mod pod;
pub mod protobuf;
pub mod resource;
pub mod selector;
pub mod service;
pub mod slice;
pub mod table;

//! The Kubernetes objects: pure, no input or output.

pub mod model;

//! What is counted: counters that one shard writes and anyone reads.

pub mod counters;

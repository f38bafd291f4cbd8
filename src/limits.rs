//! Every bound of the program, with its unit and its reason. Reaching one is counted.

/// Connections that one shard's listener of one frontend may have waiting (the kernel caps it at
/// `net.core.somaxconn`, 4096 by default).
pub const LISTEN_BACKLOG: i32 = 4096;

/// Entries of the submission queue of a relay ring: what one turn of a busy shard submits at once.
pub const RING_ENTRIES: u32 = 1024;

/// Entries of its completion queue. Multishot operations complete more often than they are
/// submitted; an overflow loses nothing but is slow.
pub const RING_COMPLETIONS: u32 = 16 * 1024;

/// Receive buffers a shard shares among its connections, and their size in bytes.
pub const RECV_BUFFERS: u16 = 256;
/// See [`RECV_BUFFERS`]: larger messages pay for splice instead.
pub const RECV_BUFFER_BYTES: usize = 16 * 1024;

/// Pipes a shard keeps for splicing. Two descriptors each.
pub const PIPES_PER_SHARD: usize = 512;

/// Candidates one connection tries within its connect timeout.
pub const CONNECT_ATTEMPTS: usize = 8;

/// Clients the affinity ledger of one service port remembers. Beyond it Maglev alone answers.
pub const AFFINITY_CLIENTS: usize = 65_536;

/// Bytes of one manifest file.
pub const MANIFEST_BYTES: u64 = 16 << 20;

/// Finished sessions waiting for the access log; when it is full they are counted as dropped.
pub const ACCESS_LOG_QUEUE: usize = 8192;

/// Connections to an endpoint that fail in a row before it is ejected. One lost packet or one restart
/// of a pod's process should not do it.
pub const EJECT_AFTER_FAILURES: u32 = 3;

/// How long the first ejection of an endpoint lasts, and how long a probe of it may take; each
/// ejection that follows lasts twice as long.
pub const EJECT_FIRST: std::time::Duration = std::time::Duration::from_secs(10);

/// The longest ejection, so that a pod that comes back is found.
pub const EJECT_MAX: std::time::Duration = std::time::Duration::from_secs(300);

/// Waiting connections that a shard refuses at once when it is out of descriptors, before it looks again.
pub const SHED_PER_BACKOFF: usize = 256;
/// Nodes of one manifest file after aliases are expanded: about what 16 MiB of Pods hold, and a
/// bound on what a few lines of nested aliases can cost.
pub const MANIFEST_NODES: usize = 2_000_000;

/// Documents of one manifest file.
pub const MANIFEST_DOCUMENTS: usize = 100_000;

/// Nesting of one manifest: the deepest field of the Pod schema is at about 15.
pub const MANIFEST_DEPTH: usize = 48;

/// Mistyped, unknown and repeated fields that are reported of one object.
pub const PROBLEMS_PER_OBJECT: usize = 200;

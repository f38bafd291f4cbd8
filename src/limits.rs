//! Every bound of the program, with its unit and its reason. Reaching one is counted.

use std::time::Duration;

/// Connections that one shard's listener of one frontend may have waiting (the kernel caps it at
/// `net.core.somaxconn`, 4096 by default).
pub const LISTEN_BACKLOG: i32 = 4096;

/// Entries of the submission queue of a relay ring: what one turn of a busy shard submits at once.
pub const RING_ENTRIES: u32 = 1024;

/// Entries of its completion queue. Multishot operations complete more often than they are
/// submitted; an overflow loses nothing but is slow.
pub const RING_COMPLETIONS: u32 = 16 * 1024;

/// Sockets that a shard sends much on and so registers with its ring: some bytes of the kernel's memory each.
pub const RING_FILES: u32 = 4096;

/// Receive buffers a shard shares among its connections: a power of two.
pub const RECV_BUFFERS: u16 = 512;

/// Bytes of a receive buffer. Larger messages are better spliced.
pub const RECV_BUFFER_BYTES: usize = 8 * 1024;

/// Receive buffers for datagrams that a shard shares among its flows once it serves UDP: a power of two.
pub const DATAGRAM_BUFFERS: u16 = 256;

/// Bytes of one: the largest datagram (65,507) and what the kernel writes before it. Not a multiple of a page, or
/// the beginnings of all of them would compete for the same few lines of the cache.
pub const DATAGRAM_BUFFER_BYTES: usize = 65_728;

/// Bytes of datagrams that may wait in a UDP frontend's socket of one shard, as the kernel counts them: about
/// 5,000 small ones. `net.core.rmem_max` caps it without CAP_NET_ADMIN.
pub const UDP_FRONTEND_BUFFER: usize = 4 << 20;

/// Bytes of replies on their way out of such a socket: all flows of the frontend share it.
pub const UDP_SEND_BUFFER: i32 = 2 << 20;

/// The same as [`UDP_FRONTEND_BUFFER`] for the socket of a busy flow. A quiet one keeps the kernel's default.
pub const UDP_FLOW_BUFFER: usize = 1 << 20;

/// Datagrams one way that make a flow a busy one.
pub const UDP_BUSY_FLOW: u64 = 32;

/// Datagrams in a row from which the next ones of their sender may come together (UDP_GRO).
pub const UDP_IN_A_ROW: u32 = 4;

/// Datagrams from its pod after which a flow is asked again what its socket had to drop; it is at its end, too.
pub const UDP_OVERFLOW_LOOK: u64 = 1024;

/// Answered flows this old are streams, with the longer timeout: as nf_conntrack has it, so that the one
/// question and one answer of DNS are not.
pub const UDP_STREAM_AFTER: Duration = Duration::from_secs(2);

/// While draining, a flow that is silent for this long is over.
pub const UDP_DRAIN_SILENCE: Duration = Duration::from_secs(3);

/// Flows of a Service at its limit that are looked through for one to give up for a new one.
pub const UDP_EVICT_LOOK: usize = 64;
/// Bytes that a shard holds for peers that do not read, before its directions receive one buffer at a time. As
/// much as 64 directions that copy have at the most.
pub const BACKLOG_BYTES: u64 = 16 << 20;

/// Pipes a shard keeps for splicing. Two descriptors each.
pub const PIPES_PER_SHARD: usize = 512;

/// Candidates one connection tries within its connect timeout.
pub const CONNECT_ATTEMPTS: usize = 8;

/// Clients the affinity ledger of one service port remembers. Beyond it Maglev alone answers.
pub const AFFINITY_CLIENTS: usize = 65_536;

/// The time that a peer has to send the PROXY header that it has to send. One lost segment fits in.
pub const PROXY_HEADER_TIME: Duration = Duration::from_secs(3);

/// How soon the rest of one is looked for again, when the kernel woke this process for nothing new.
pub const PROXY_HEADER_LOOK: Duration = Duration::from_millis(5);

/// Bytes of a PROXY header of version 2: addresses, and about 4 KiB for what HAProxy tells of TLS. Version 1
/// has a bound of its own, 107.
pub const PROXY_HEADER_BYTES: usize = 4096;

/// How old the list of this node's addresses may be that decides whether a pod can answer to its client.
pub const NETWORKS_AGE: Duration = Duration::from_secs(10);
/// Addresses that one message names; it says how many more there are. With their commands they fill a few lines.
pub const ADDRESSES_NAMED: usize = 8;

/// Ports that one message names.
pub const PORTS_NAMED: usize = 8;

/// Bytes of one manifest file.
pub const MANIFEST_BYTES: u64 = 16 << 20;

/// Finished sessions waiting for the access log; when it is full they are counted as dropped.
pub const ACCESS_LOG_QUEUE: usize = 8192;

/// Connections to each address of the admin server at a time; more wait. A scraper and a kubelet need two.
pub const ADMIN_CONNECTIONS: usize = 32;

/// The time a client of the admin server has to send the head of a request.
pub const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that one of its connections may last: a reader that stalls gives its place back.
pub const ADMIN_CONNECTION_TIME: Duration = Duration::from_secs(60);

/// Bytes of the head of a request.
pub const ADMIN_REQUEST_BYTES: usize = 16 * 1024;

/// How long a change may wait before /healthz says that this proxy is unhealthy: kube-proxy's, two
/// sync periods.
pub const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Problems that the status page lists; it says how many more there are.
pub const STATUS_PROBLEMS: usize = 200;

/// Connections to an endpoint that fail in a row before it is ejected. One lost packet or one restart
/// of a pod's process should not do it.
pub const EJECT_AFTER_FAILURES: u32 = 3;

/// How long the first ejection of an endpoint lasts, and how long a probe of it may take; each
/// ejection that follows lasts twice as long.
pub const EJECT_FIRST: Duration = Duration::from_secs(10);

/// The longest ejection, so that a pod that comes back is found.
pub const EJECT_MAX: Duration = Duration::from_secs(300);

/// Finished sessions written to the access log in one go: about 200 KiB of text.
pub const ACCESS_LOG_BATCH: usize = 512;

/// The same problem is logged at most once in this time.
pub const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// What could not be done is tried again after this time, and only then.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The time that shards have to end once they were told to cut their sessions.
pub const STOP_TIME: Duration = Duration::from_secs(5);

/// Service ports that are named at the start; a screen full.
pub const START_LINES: usize = 20;

/// Waiting connections that a shard refuses at once when it is out of descriptors, before it looks again.
pub const SHED_PER_BACKOFF: usize = 256;

/// Nodes of one manifest file after aliases are expanded: about what 16 MiB of Pods hold, and a
/// bound on what a few lines of nested aliases can cost.
pub const MANIFEST_NODES: usize = 2_000_000;

/// YAML nodes of one manifest file that are kept to be repeated by aliases.
pub const MANIFEST_ALIASED: usize = 50_000;

/// Documents of one manifest file.
pub const MANIFEST_DOCUMENTS: usize = 100_000;

/// Nesting of one manifest: the deepest field of the Pod schema is at about 15.
pub const MANIFEST_DEPTH: usize = 48;

/// Mistyped, unknown and repeated fields that are reported of one object.
pub const PROBLEMS_PER_OBJECT: usize = 200;

/// After a change of a file, the pause without another one that lets it take effect.
pub const CHANGE_PAUSE: Duration = Duration::from_millis(10);

/// Pauses that one change may wait for when others keep coming: a quarter of a second.
pub const CHANGE_PAUSES: u32 = 25;

/// Changes of objects that watchers of the embedded API can still ask for: a relist is dear, and each
/// one holds about 2 KiB.
pub const WATCH_LOG: usize = 20_000;

/// The time that connecting to an API server may take.
pub const API_CONNECT_TIME: Duration = Duration::from_secs(5);

/// The time that it may take to answer, or to send one page of a list: large clusters take seconds.
pub const API_REQUEST_TIME: Duration = Duration::from_secs(60);

/// A watch on which nothing comes for this long is dropped and resumed. An API server sends a bookmark
/// about once a minute.
pub const WATCH_SILENCE: Duration = Duration::from_secs(90);

/// Seconds after which the API server is asked to end a watch: client-go's five minutes, spread so that
/// the nodes of a cluster do not come back at once.
pub const WATCH_SECONDS: std::ops::RangeInclusive<u32> = 200..=290;

/// Before a list that has lost too much is asked for again. A restarted API server fills its caches in less.
pub const LIST_DOUBT: Duration = Duration::from_secs(10);

/// Objects of a kind from which losing more than half of them in one list is too much to be believed.
pub const DOUBT_FROM: usize = 20;

/// Between two whole lists, though no watch has failed: against what no watch can show.
pub const RELIST_INTERVAL: Duration = Duration::from_secs(3600);

/// The first pause after a failure of the API server, and the longest: client-go's.
pub const API_BACKOFF: Duration = Duration::from_millis(800);

/// See [`API_BACKOFF`].
pub const API_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The longest pause that an API server may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Between two looks at the slices of Services whose endpoints keep failing, one Service each.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Services whose slices wait for such a look.
pub const DOUBTS: usize = 256;

/// Objects of one page of a list: client-go's.
pub const LIST_PAGE: u32 = 500;

/// Pages of one list: five million objects.
pub const LIST_PAGES: usize = 10_000;

/// Bytes of one page. A server that answers from its cache sends the whole list as one: 100,000 slices are
/// about this much.
pub const LIST_BYTES: usize = 512 << 20;

/// Bytes of one event of a watch: etcd takes objects of 1.5 MiB.
pub const WATCH_EVENT_BYTES: usize = 8 << 20;

/// Bytes of the API server's reason for not doing what was asked.
pub const API_MESSAGE_BYTES: usize = 64 * 1024;

/// Deleted objects of a kind that are remembered, so that late news does not bring them back.
pub const TOMBSTONES: usize = 4096;
/// Connections to the embedded API at a time; more wait in the backlog. A watch takes one.
pub const API_CONNECTIONS: usize = 1024;

/// Watches of the embedded API at a time; more are refused with 429, so that other requests find a connection.
pub const API_WATCHES: usize = 512;

/// Bytes of the head of a request: the API server's own.
pub const API_HEAD_BYTES: usize = 64 * 1024;

/// The time a client has to send the head of a request, once it has begun, and to finish a TLS handshake.
pub const API_HEAD_TIME: Duration = Duration::from_secs(15);

/// How long a connection may lie idle between requests: longer than clients keep one (90 s), so that it is
/// they who close it.
pub const API_IDLE_TIME: Duration = Duration::from_secs(180);

/// Bytes of the body of a request: the API server's own.
pub const API_BODY_BYTES: usize = 3 << 20;

/// Bodies up to this size are read at once: that many connections of them take 64 MiB.
pub const API_SMALL_BODY_BYTES: u64 = 64 * 1024;

/// Larger bodies that are read at a time; more wait.
pub const API_LARGE_BODIES: usize = 16;

/// The time a client has to send a body.
pub const API_BODY_TIME: Duration = Duration::from_secs(60);

/// How long a client may take nothing of an answer that is ready for it.
pub const API_WRITE_TIME: Duration = Duration::from_secs(60);

/// Objects that are written before other tasks get their turn: less than a millisecond.
pub const API_LIST_PIECE: usize = 64;

/// The longest watch: the API server's own default is half an hour to an hour.
pub const API_WATCH_TIME: Duration = Duration::from_secs(3600);

/// The time between bookmarks: the API server's own.
pub const API_BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// How long the answer to a change waits for the data plane to be told: it takes milliseconds, unless
/// something is wrong, and the change stands anyway.
pub const API_IN_FORCE_TIME: Duration = Duration::from_secs(1);

/// Unknown and repeated fields that a request is told of, as the API server does.
pub const STRICT_PROBLEMS: usize = 100;

/// Operations of one JSON patch, as the API server has it.
pub const JSON_PATCH_OPERATIONS: usize = 10_000;

/// Bytes that the copies of one JSON patch may add, as the API server has it: copies of copies grow exponentially.
pub const JSON_PATCH_COPIED: usize = 3 * 1024 * 1024;

/// Nesting that a JSON patch may reach between two looks at it: one that moves things into each other reaches any, and
/// what is nested too deeply for the stack cannot even be dropped.
pub const JSON_PATCH_DEPTH: usize = 512;
/// The time that bytes have to arrive which a side had sent before it broke; then the other side is reset.
pub const FLUSH_TIME: Duration = Duration::from_secs(5);

/// How often it is looked whether they have arrived: the kernel does not tell.
pub const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// How long a sink may take no bytes before its source is watched for a reset. Rare enough that a fast transfer
/// never pays for it, soon enough that a session without a pod does not stay.
pub const BLOCKED_LOOK: Duration = Duration::from_secs(1);

// === The ring ===

/// Completions of one turn from which the next ones are awaited together.
pub const CROWD: u64 = 4;

/// Completions that are awaited together, at most.
pub const CROWD_AWAITED: u64 = 32;

/// Microseconds after which a single one of them is enough: less than anyone notices, more than it takes the peers
/// of a busy shard to send the next ones.
pub const CROWD_WAIT_MICROS: u32 = 20;

/// How long a crowd may pause before the senders of its datagrams hear that they were taken.
pub const CROWD_PAUSE: Duration = Duration::from_millis(1);

/// Bytes of a shard's glommio executor for its own input and output, of which a shard does none: the least that
/// glommio works with.
pub const EXECUTOR_MEMORY: usize = 256 << 10;

// === Accepting and connecting ===

/// How long a listener leaves its queue alone when the machine is out of descriptors or memory.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The least time that an attempt to connect gets, however many there were before it.
pub const CONNECT_ATTEMPT_LEAST: Duration = Duration::from_millis(20);

/// How often it is looked whether the accept loops of closing listeners have ended.
pub const CLOSE_LOOK: Duration = Duration::from_millis(1);

/// How often a draining shard looks whether its last session has ended.
pub const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// How often control looks whether the shards have applied a snapshot, at first; then ever less often.
pub const APPLY_LOOK: Duration = Duration::from_millis(1);

/// Locks of an affinity ledger: so many that shards seldom meet at one.
pub const AFFINITY_STRIPES: usize = 16;

/// Descriptors besides sessions, listeners and pipes: standard streams, rings, wake-ups, watches, the manifests that
/// are being read, the admin server's connections and the access log.
pub const RESERVED_FILES: u64 = 256;

/// Sessions below which the limit on open files is surely not what anyone wants.
pub const FEW_CONNECTIONS: u32 = 1000;

// === Relaying; docs/performance.md has what was measured ===

/// Points of a copying direction at which it is spliced: two for a large piece, one less for a small one.
pub const SPLICE_FROM: u8 = 4;

/// Bytes from which a piece is large.
pub const LARGE_PIECE: usize = 6 * 1024;

/// Bytes below which a piece is small.
pub const SMALL_PIECE: usize = 2 * 1024;

/// Small bursts in a row after which a splicing direction copies again.
pub const SPLICE_UNTIL: u8 = 8;

/// Bytes below which a burst is not worth a pipe.
pub const SMALL_BURST: usize = 4 * 1024;

/// Bytes asked of one splice(2). A pipe takes what its slots can hold, which with large segments is far more than
/// its nominal capacity.
pub const PIPE_FILL: usize = 1 << 20;

/// Fills of a pipe in a row before other tasks get their turn: about 4 MiB, one or two milliseconds. Between a fast
/// source and a fast sink nothing else would ever make this direction wait. With 16 a byte of sixteen streams cost
/// twice as much.
pub const SPLICE_FILLS: usize = 64;

/// Bytes below which a fill has probably emptied the source: waiting is cheaper than to find out by failing.
pub const SPLICE_LIKELY_ALL: usize = 32 * 1024;

/// The least time between two looks at whether a session is idle: without one, a timeout of a few milliseconds
/// would be waited for in a spin.
pub const IDLE_LOOK_LEAST: Duration = Duration::from_millis(1);

/// After a change of the node's addresses, the pause before they are read: an address comes with its routes, and
/// DHCP exchanges one for another.
pub const ADDRESS_PAUSE: Duration = Duration::from_millis(50);

// === Manifests and the demo ===

/// A change of a file this young may be followed by another one with the same timestamp.
pub const TIMESTAMP_STEP: Duration = Duration::from_millis(20);

/// Endpoints of one slice that is made for a selector: the endpoint slice controller's default.
pub const ENDPOINTS_PER_SLICE: usize = 100;

/// Bytes that one connection may send to a pod of the demo, so that a line without end does not fill the memory.
pub const DEMO_REQUEST_BYTES: u64 = 64 << 20;

/// Node ports that the demo tries where others are taken.
pub const DEMO_PORTS_TRIED: usize = 20;

/// Managers of one object that have changed it by other means than apply, as the API server has it: those before
/// them are put together.
pub const UPDATE_MANAGERS: usize = 10;
/// How long an Event of the embedded API is kept after it last happened: the API server's --event-ttl.
pub const EVENT_TIME: Duration = Duration::from_secs(3600);

/// Events of the embedded API; the oldest go first. Each is about 1 KiB.
pub const EVENTS: usize = 2000;

/// From a change to the Events about what it has brought: changes that come together are told together.
pub const EVENTS_PAUSE: Duration = Duration::from_millis(200);

/// Between two looks at what this process has set up on the node, whatever was heard: a firewall that is loaded anew, or a
/// person, may have taken it away.
pub const NODE_LOOK: Duration = Duration::from_secs(10);

/// A problem that is on for this long is told again, so that its Event does not expire.
pub const EVENT_AGAIN: Duration = Duration::from_secs(600);

/// Problems that a node tells its cluster of.
pub const CLUSTER_EVENTS: usize = 100;

/// Between two Events of a node.
pub const EVENT_GAP: Duration = Duration::from_millis(100);

/// Between two looks at Events, which expire after an hour unless their problem is still there.
pub const EVENTS_INTERVAL: Duration = Duration::from_secs(60);

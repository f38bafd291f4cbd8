//! How ringport does on a large cluster: an API server that exists only for this lists Services and EndpointSlices,
//! then changes endpoints, and the real program says how long everything took.
//!
//! `scripts/scale` builds both and runs it: `scale RINGPORT [SERVICES [ENDPOINTS [NODE_PORTS [CHANGES]]]]`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool: what goes wrong ends it, and it measures time"
)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// How large the cluster is.
#[derive(Clone, Copy)]
struct Size {
    services: usize,
    endpoints: usize,
    node_ports: usize,
    changes: usize,
}

type Watchers = Arc<Mutex<Vec<TcpStream>>>;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default: usize| args.get(place).map_or(default, |arg| arg.parse().unwrap());
    let program = args.first().expect("scale RINGPORT [SERVICES [ENDPOINTS [NODE_PORTS [CHANGES]]]]");
    let size = Size {
        services: number(1, 10_000),
        endpoints: number(2, 10),
        node_ports: number(3, 2_000),
        changes: number(4, 200),
    };
    let lists = Arc::new([services(size), slices(size), nodes()]);
    let bytes: usize = lists.iter().map(String::len).sum();
    let watchers = Watchers::default();
    let server = serve(lists, watchers.clone());
    let kubeconfig = kubeconfig(server);
    let pages = [free_port(), free_port()];

    let start = Instant::now();
    let mut child = Command::new(program)
        .args(["run", "--kubeconfig", kubeconfig.to_str().unwrap(), "--node-name", "node-1"])
        .args(["--healthz-bind-address", &format!("127.0.0.1:{}", pages[0])])
        .args(["--metrics-bind-address", &format!("127.0.0.1:{}", pages[1])])
        .args(["--log-level", "warn"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    while get(pages[0], "/readyz").is_none_or(|page| page != "ok") {
        assert!(start.elapsed() < Duration::from_secs(300), "it is not ready");
        std::thread::sleep(Duration::from_millis(5));
    }
    let ready = start.elapsed();
    let resident = resident_kib(child.id());
    println!(
        "{} Services × {} endpoints, {} of them with a nodePort",
        size.services, size.endpoints, size.node_ports
    );
    println!("lists                    {:.1} MB of JSON", bytes as f64 / 1e6);
    println!("cold start to ready      {:.2} s", ready.as_secs_f64());
    println!("resident memory          {:.1} MiB", resident as f64 / 1024.0);
    println!("  per 1,000 Services     {:.1} MiB", resident as f64 / 1024.0 / size.services as f64 * 1000.0);

    change(size, &watchers, pages[1]);
    println!("resident after that      {:.1} MiB", resident_kib(child.id()) as f64 / 1024.0);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Changes one endpoint at a time, and says how long it took until every shard had it.
fn change(size: Size, watchers: &Watchers, metrics: u16) {
    for number in 0..size.changes {
        // Each one of another Service with a nodePort, which loses its last endpoint.
        let service = number % size.node_ports;
        let version = 2_000_000 + number;
        let event =
            format!("{{\"type\":\"MODIFIED\",\"object\":{}}}\n", slice(size, service, version, false));
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        watchers.lock().unwrap().iter_mut().for_each(|stream| drop(stream.write_all(chunk.as_bytes())));
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(200));
    let page = get(metrics, "/metrics").unwrap();
    let name = "kubeproxy_network_programming_duration_seconds";
    let value = |name: &str| -> f64 {
        let line = page.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let (count, sum) = (value(&format!("{name}_count")), value(&format!("{name}_sum")));
    println!("changes of an endpoint   {count}");
    println!("  event to every shard   {:.2} ms on average", sum / count * 1000.0);
    let applied = "ringport_snapshot_apply_seconds_bucket";
    let buckets: Vec<&str> = page.lines().filter(|line| line.starts_with(applied)).take(8).collect();
    println!("  of that, ours: {}", buckets.join("\n                 "));
}

// === The objects ===

fn meta(kind: &str, name: &str, version: usize, more: &str) -> String {
    format!(
        "\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"shop\",\"uid\":\"{kind}-6f1c0b1e-2d7e-4d0a-9f3c-{version:012}\",\
         \"resourceVersion\":\"{version}\",\"creationTimestamp\":\"2026-01-01T00:00:00Z\"{more}}}"
    )
}

fn services(size: Size) -> String {
    let mut items = String::new();
    for n in 0..size.services {
        let node_port =
            if n < size.node_ports { format!(",\"nodePort\":{}", 30_000 + n) } else { String::new() };
        let kind = if n < size.node_ports { "NodePort" } else { "ClusterIP" };
        let ip = format!("10.{}.{}.{}", 96 + n / 65_536, n / 256 % 256, n % 256);
        let labels = format!(",\"labels\":{{\"app\":\"app-{n}\",\"app.kubernetes.io/managed-by\":\"Helm\"}}");
        let _ = write!(
            items,
            "{}{{{},\"spec\":{{\"type\":\"{kind}\",\"clusterIP\":\"{ip}\",\"clusterIPs\":[\"{ip}\"],\"ipFamilies\":[\"IPv4\"],\
             \"ipFamilyPolicy\":\"SingleStack\",\"internalTrafficPolicy\":\"Cluster\",\"selector\":{{\"app\":\"app-{n}\"}},\
             \"sessionAffinity\":\"None\",\"ports\":[{{\"name\":\"http\",\"protocol\":\"TCP\",\"port\":80,\"targetPort\":8080{node_port}}}]}},\
             \"status\":{{\"loadBalancer\":{{}}}}}}",
            if n == 0 { "" } else { "," },
            meta("svc", &format!("svc-{n}"), 1000 + n, &labels)
        );
    }
    list("ServiceList", "v1", &items)
}

fn slices(size: Size) -> String {
    let items: Vec<String> = (0..size.services).map(|n| slice(size, n, 100_000 + n, true)).collect();
    list("EndpointSliceList", "discovery.k8s.io/v1", &items.join(","))
}

/// The slice of a Service; its last endpoint may be missing.
fn slice(size: Size, n: usize, version: usize, whole: bool) -> String {
    let endpoints = if whole { size.endpoints } else { size.endpoints - 1 };
    let endpoints: Vec<String> = (0..endpoints)
        .map(|e| {
            let number = n * size.endpoints + e;
            let ip = format!("10.{}.{}.{}", 128 + number / 65_536, number / 256 % 256, number % 256);
            format!(
                "{{\"addresses\":[\"{ip}\"],\"conditions\":{{\"ready\":true,\"serving\":true,\"terminating\":false}},\
                 \"nodeName\":\"node-{}\",\"zone\":\"zone-a\",\"targetRef\":{{\"kind\":\"Pod\",\"namespace\":\"shop\",\
                 \"name\":\"app-{n}-5d4f8c7b9d-{e:05}\",\"uid\":\"8c2c9f1e-0000-4000-8000-{number:012}\"}}}}",
                number % 100
            )
        })
        .collect();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let trigger = rfc3339(now);
    let more = format!(
        ",\"labels\":{{\"kubernetes.io/service-name\":\"svc-{n}\",\"endpointslice.kubernetes.io/managed-by\":\"endpointslice-controller.k8s.io\"}},\
         \"annotations\":{{\"endpoints.kubernetes.io/last-change-trigger-time\":\"{trigger}\"}},\"ownerReferences\":[{{\"apiVersion\":\"v1\",\
         \"kind\":\"Service\",\"name\":\"svc-{n}\",\"uid\":\"x\",\"controller\":true}}]"
    );
    format!(
        "{{{},\"addressType\":\"IPv4\",\"ports\":[{{\"name\":\"http\",\"protocol\":\"TCP\",\"port\":8080}}],\"endpoints\":[{}]}}",
        meta("slice", &format!("svc-{n}-abcde"), version, &more),
        endpoints.join(",")
    )
}

fn rfc3339(since_1970: Duration) -> String {
    jiff::Timestamp::from_nanosecond(since_1970.as_nanos() as i128).unwrap().to_string()
}

fn nodes() -> String {
    let labels = ",\"labels\":{\"topology.kubernetes.io/zone\":\"zone-a\"}";
    let meta = meta("node", "node-1", 9, labels).replace("\"namespace\":\"shop\",", "");
    list("NodeList", "v1", &format!("{{{meta},\"spec\":{{}},\"status\":{{}}}}"))
}

fn list(kind: &str, version: &str, items: &str) -> String {
    format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{{\"resourceVersion\":\"1000000\"}},\"items\":[{items}]}}"
    )
}

// === The server ===

fn serve(lists: Arc<[String; 3]>, watchers: Watchers) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let (lists, watchers) = (lists.clone(), watchers.clone());
            std::thread::spawn(move || converse(stream, &lists, &watchers));
        }
    });
    address
}

fn converse(mut stream: TcpStream, lists: &[String; 3], watchers: &Watchers) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut request, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            request.push_str(&line);
        }
        let target = request.split(' ').nth(1).unwrap();
        let kinds = ["/services?", "/endpointslices?", "/nodes?"];
        let kind = kinds.iter().position(|kind| target.contains(kind)).unwrap();
        if target.contains("watch=") {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            if kind == 1 {
                watchers.lock().unwrap().push(stream.try_clone().unwrap());
            }
            continue;
        }
        let body = &lists[kind];
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
    }
}

fn kubeconfig(server: SocketAddr) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("ringport-scale-{}", std::process::id()));
    let text = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"Config\",\"current-context\":\"c\",\"contexts\":[{{\"name\":\"c\",\"context\":{{\"cluster\":\"c\",\
         \"user\":\"u\"}}}}],\"clusters\":[{{\"name\":\"c\",\"cluster\":{{\"server\":\"http://{server}\"}}}}],\"users\":[{{\"name\":\"u\",\"user\":{{}}}}]}}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

//! The source against an API server that does as it is told: a small HTTP server in the same process.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;

mod events;
mod follow;

/// What the server does with requests for one kind.
struct Script {
    /// Answers to lists, in turn; the last one stays.
    lists: VecDeque<(u16, Value)>,
    /// The `resourceVersion` and `resourceVersionMatch` of each list that was asked for.
    listed: Vec<String>,
    /// Each watch that was begun: its version, and the stream.
    watches: Vec<(String, mpsc::UnboundedSender<Option<String>>)>,
    /// Watches are refused like this.
    refuse_watches: Option<(u16, Value)>,
    /// Requests are not answered at all.
    deaf: bool,
}

type Scripts = Rc<RefCell<std::collections::HashMap<&'static str, Script>>>;

struct Server {
    scripts: Scripts,
    address: SocketAddr,
    changed: Arc<Notify>,
}

const SERVICES: &str = "services";
const SLICES: &str = "endpointslices";
const NODES: &str = "nodes";
/// Its answers are those to whatever is written, and its requests are told whole.
const EVENTS: &str = "events";

fn list(version: &str, items: &[Value]) -> (u16, Value) {
    (200, json!({"kind": "List", "metadata": {"resourceVersion": version}, "items": items}))
}

fn service(name: &str, version: u64, port: u16) -> Value {
    json!({"metadata": {"name": name, "namespace": "d", "resourceVersion": version.to_string()},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.1", "ports": [{"port": port, "nodePort": 30080}]}})
}

fn slice(name: &str, service: &str, version: u64, ip: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "d", "resourceVersion": version.to_string(),
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": [{"addresses": [ip]}]})
}

fn node(zone: &str, version: u64) -> Value {
    json!({"metadata": {"name": "us", "resourceVersion": version.to_string(),
        "labels": {"topology.kubernetes.io/zone": zone}}})
}

fn gone() -> (u16, Value) {
    (410, json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}))
}

impl Server {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = |items: &[Value]| Script {
            lists: [list("10", items)].into(),
            listed: Vec::new(),
            watches: Vec::new(),
            refuse_watches: None,
            deaf: false,
        };
        let scripts: Scripts = Rc::new(RefCell::new(
            [
                (SERVICES, script(&[service("web", 5, 80)])),
                (SLICES, script(&[slice("web-1", "web", 6, "10.0.0.1")])),
                (NODES, script(&[node("a", 7)])),
                (EVENTS, script(&[])),
            ]
            .into(),
        ));
        let changed = Arc::new(Notify::new());
        let server = Self { scripts, address, changed };
        let scripts = server.scripts.clone();
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let scripts = scripts.clone();
                tokio::task::spawn_local(async move {
                    let service = service_fn(move |request| respond(request, scripts.clone()));
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        server
    }

    fn link(&self) -> Link {
        let mut config = Config::new(format!("http://{}", self.address).parse().unwrap());
        config.default_retry = false;
        Link::of(Client::try_from(config).unwrap())
    }

    fn follow(&self, settings: Settings) -> Cluster {
        self.follow_until_silent(settings, Duration::from_secs(60))
    }

    /// The same, where a stream on which nothing comes for this long is dropped.
    fn follow_until_silent(&self, settings: Settings, silence: Duration) -> Cluster {
        let link = self.link();
        let timing = Timing {
            request: Duration::from_secs(10),
            silence,
            doubt: Duration::from_millis(50),
            relist: Duration::from_secs(60),
            backoff: Duration::from_millis(5),
            backoff_max: Duration::from_millis(40),
            recheck: Duration::from_millis(1),
            tell_again: Duration::from_millis(700),
        };
        let settings = Settings { node_name: "us".into(), ..settings };
        Cluster::start(link, settings, timing, self.changed.clone())
    }

    fn script<T>(&self, kind: &'static str, change: impl FnOnce(&mut Script) -> T) -> T {
        change(self.scripts.borrow_mut().get_mut(kind).unwrap())
    }

    /// The lists from now on.
    fn will_list(&self, kind: &'static str, lists: impl IntoIterator<Item = (u16, Value)>) {
        self.script(kind, |script| script.lists = lists.into_iter().collect());
    }

    /// Sends a line on the newest watch of a kind.
    async fn send(&self, kind: &'static str, event: &str, object: Value) {
        self.line(kind, &json!({"type": event, "object": object}).to_string()).await;
    }

    async fn line(&self, kind: &'static str, line: &str) {
        until("a watch", || self.script(kind, |script| (!script.watches.is_empty()).then_some(()))).await;
        self.script(kind, |script| {
            let (_, stream) = script.watches.last().unwrap();
            let _ = stream.send(Some(format!("{line}\n")));
        });
    }

    fn watches(&self, kind: &'static str) -> Vec<String> {
        self.script(kind, |script| script.watches.iter().map(|(version, _)| version.clone()).collect())
    }

    /// Ends the newest watch.
    fn cut(&self, kind: &'static str) {
        self.script(kind, |script| drop(script.watches.last().unwrap().1.send(None)));
    }
}

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

async fn respond(request: Request<Incoming>, scripts: Scripts) -> Result<Answer, Infallible> {
    let query: std::collections::HashMap<String, String> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let path = request.uri().path().to_owned();
    if path.contains("/events") {
        return Ok(written(request, &path, &scripts).await);
    }
    let kind = [SERVICES, SLICES, NODES].into_iter().find(|kind| path.ends_with(kind)).unwrap();
    let deaf = scripts.borrow()[kind].deaf;
    if deaf {
        std::future::pending::<()>().await;
    }
    let mut scripts = scripts.borrow_mut();
    let script = scripts.get_mut(kind).unwrap();
    let version = query.get("resourceVersion").cloned().unwrap_or_default();
    if !query.contains_key("watch") {
        let how = query.get("resourceVersionMatch").map(String::as_str).unwrap_or_default();
        let labels = query.get("labelSelector").filter(|labels| labels.contains("service-name%3D"));
        let of = labels.map(|_| format!(" {path}")).unwrap_or_default();
        script.listed.push(format!("{version}{how}{of}"));
        let answer =
            if script.lists.len() > 1 { script.lists.pop_front() } else { script.lists.front().cloned() };
        return Ok(whole(answer.unwrap()));
    }
    assert_eq!(query.get("allowWatchBookmarks").map(String::as_str), Some("true"));
    if let Some(refused) = &script.refuse_watches {
        script.watches.push((version, mpsc::unbounded_channel().0));
        return Ok(whole(refused.clone()));
    }
    let (sender, mut receiver) = mpsc::unbounded_channel::<Option<String>>();
    script.watches.push((version, sender));
    let stream = futures_util::stream::poll_fn(move |context| {
        receiver.poll_recv(context).map(|line| line.flatten().map(|line| Ok(Frame::data(Bytes::from(line)))))
    });
    Ok(Response::new(http_body_util::StreamBody::new(stream).boxed()))
}

/// Takes what is written, and answers as it is told to.
async fn written(request: Request<Incoming>, path: &str, scripts: &Scripts) -> Answer {
    let method = request.method().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let mut scripts = scripts.borrow_mut();
    let script = scripts.get_mut(EVENTS).unwrap();
    script.listed.push(format!("{method} {path} {body}"));
    let answer =
        if script.lists.len() > 1 { script.lists.pop_front() } else { script.lists.front().cloned() };
    whole(answer.unwrap())
}

fn whole((status, body): (u16, Value)) -> Answer {
    let body = http_body_util::Full::new(Bytes::from(body.to_string()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed());
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
    response
}

async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = condition() {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn on_control_thread<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test());
}

/// The world as text: Services with their ports, and the addresses of their endpoints.
fn shown(world: &World) -> String {
    let service = |(name, service): (&NamespacedName, &Arc<crate::k8s::model::Service>)| {
        let ports: Vec<String> = service.ports.iter().map(|port| port.port.to_string()).collect();
        let slices = world.slices.get(name).into_iter().flatten();
        let ips: Vec<String> =
            slices.flat_map(|slice| &slice.endpoints).map(|endpoint| endpoint.address.to_string()).collect();
        format!("{} {} → {}", name.name, ports.join(","), ips.join(","))
    };
    world.services.iter().map(service).collect::<Vec<_>>().join("; ")
}

/// Waits until the world is as wanted.
async fn world(cluster: &Cluster, wanted: &str) -> World {
    let mut last = String::new();
    let start = Instant::now();
    loop {
        if let Some(taken) = cluster.take() {
            last = shown(&taken.world);
            if last == wanted {
                return taken.world;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{last:?} is not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn standing(cluster: &Cluster, kind: Kind) -> Standing {
    cluster.standings().into_iter().find(|standing| standing.kind == kind).unwrap()
}

/// What the server has at first.
const FIRST: &str = "web 80 → 10.0.0.1";

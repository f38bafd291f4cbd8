//! `healthCheckNodePort`: load balancers ask each node whether it has endpoints of a Service with external
//! policy Local (kubernetes pkg/proxy/healthcheck/service_health.go).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::rc::Rc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use socket2::{Domain, Socket, Type};
use tokio::task::JoinHandle;

use super::http;
use super::state::{Seen, State};
use crate::limits;
use crate::problem::{Problem, Reason};
use crate::route::compile::NodePortAddresses;
use crate::route::local::HealthCheck;
use crate::types::NamespacedName;

/// The servers of all Services that load balancers ask about. Lives on the control thread.
pub struct ServiceHealth {
    state: Rc<State>,
    addresses: NodePortAddresses,
    servers: BTreeMap<NamespacedName, Server>,
}

struct Server {
    port: u16,
    local_endpoints: Rc<Cell<usize>>,
    listening: Result<Vec<JoinHandle<io::Result<()>>>, Problem>,
}

impl ServiceHealth {
    /// None yet; they will listen on these addresses.
    pub fn new(state: Rc<State>, addresses: NodePortAddresses) -> Self {
        Self { state, addresses, servers: BTreeMap::new() }
    }

    /// Serves these and no others; what could not be served before is tried again. Gives the problems that
    /// were not there before.
    pub fn sync(&mut self, wanted: &BTreeMap<NamespacedName, HealthCheck>) -> Vec<Problem> {
        // Ports are let go before others are taken.
        self.servers.retain(|name, server| wanted.get(name).is_some_and(|check| check.port == server.port));
        let mut new = Vec::new();
        for (name, check) in wanted {
            if let Some(server) = self.servers.get(name)
                && server.listening.is_ok()
            {
                server.local_endpoints.set(check.local_endpoints);
                continue;
            }
            let before =
                self.servers.remove(name).and_then(|server| server.listening.as_ref().err().cloned());
            let server = self.start(name, *check);
            new.extend(
                server.listening.as_ref().err().filter(|problem| Some(*problem) != before.as_ref()).cloned(),
            );
            self.servers.insert(name.clone(), server);
        }
        new
    }

    /// Listens on these addresses instead, from the next [`ServiceHealth::sync`] on.
    pub fn move_to(&mut self, addresses: NodePortAddresses) {
        self.addresses = addresses;
        self.servers.clear();
    }

    /// Whether something is to be tried again.
    pub fn waiting(&self) -> bool {
        self.servers.values().any(|server| server.listening.is_err())
    }

    /// What could not be served.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.servers.values().filter_map(|server| server.listening.as_ref().err())
    }

    fn start(&self, name: &NamespacedName, check: HealthCheck) -> Server {
        let local_endpoints = Rc::new(Cell::new(check.local_endpoints));
        let listeners = match &self.addresses {
            NodePortAddresses::All => everywhere(check.port).map(|listener| vec![listener]),
            NodePortAddresses::Only(list) => list.iter().map(|ip| listen(*ip, check.port)).collect(),
        };
        let listening = match listeners {
            Ok(listeners) => Ok(listeners
                .into_iter()
                .map(|listener| self.serve(listener, name.clone(), local_endpoints.clone()))
                .collect()),
            Err(error) => Err(Problem {
                object: Some(format!("Service {name}")),
                field: Some("spec.healthCheckNodePort".to_owned()),
                reason: Reason::FailedToStartServiceHealthcheck,
                hint: Some("it is tried again every second".to_owned()),
                ..Problem::warning(format!("failed to start healthcheck on port {}: {error}", check.port))
            }),
        };
        Server { port: check.port, local_endpoints, listening }
    }

    fn serve(
        &self,
        listener: TcpListener,
        name: NamespacedName,
        local_endpoints: Rc<Cell<usize>>,
    ) -> JoinHandle<io::Result<()>> {
        let state = self.state.clone();
        let answer = move |_: &_| answer(&name, local_endpoints.get(), state.health(Seen::now()).healthy);
        tokio::task::spawn_local(http::serve_any(listener, limits::ADMIN_HEADER_TIMEOUT, answer))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.iter().flatten().for_each(JoinHandle::abort);
    }
}

/// Whatever the path and the method are.
fn answer(name: &NamespacedName, local_endpoints: usize, healthy: bool) -> Response<Full<Bytes>> {
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {:?},\n\t\t\"name\": {:?}\n\t}},\n\t\"localEndpoints\": \
         {local_endpoints},\n\t\"serviceProxyHealthy\": {healthy}\n}}",
        &*name.namespace, &*name.name
    );
    let mut response = Response::new(Full::new(Bytes::from(body)));
    if local_endpoints == 0 || !healthy {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("x-load-balancing-endpoint-weight", HeaderValue::from(local_endpoints));
    response
}

/// On every address, of both families where the node has them.
fn everywhere(port: u16) -> io::Result<TcpListener> {
    match listen(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            listen(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
        }
        result => result,
    }
}

fn listen(ip: IpAddr, port: u16) -> io::Result<TcpListener> {
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if ip.is_ipv6() {
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::route::plane::Plane;

    fn on_control_thread<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test());
    }

    async fn ask(port: u16, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request =
            format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A body that nobody reads may end in a reset behind the answer.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    fn wanted(port: u16, local_endpoints: usize) -> BTreeMap<NamespacedName, HealthCheck> {
        [(NamespacedName::new("default", "lb"), HealthCheck { port, local_endpoints })].into()
    }

    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    /// As captured from kube-proxy 1.32.13.
    #[test]
    fn the_answer_is_kube_proxys_for_any_path_and_method() {
        on_control_thread(|| async {
            let state = Rc::new(State::new(Arc::new(Plane::new(1))));
            let only = NodePortAddresses::Only(vec!["127.0.0.1".parse().unwrap()]);
            let mut health = ServiceHealth::new(state, only);
            let port = free_port();
            assert_eq!(health.sync(&wanted(port, 1)), []);
            for request in ["GET /", "POST /any/path?x", "DELETE /healthz"] {
                let answer = ask(port, request).await;
                let (head, body) = answer.split_once("\r\n\r\n").unwrap();
                assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
                for header in [
                    "content-type: application/json",
                    "x-content-type-options: nosniff",
                    "x-load-balancing-endpoint-weight: 1",
                    "content-length: 113",
                ] {
                    assert!(head.contains(header), "{header} in {head}");
                }
                assert_eq!(
                    body,
                    "{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"lb\"\n\t},\n\
                     \t\"localEndpoints\": 1,\n\t\"serviceProxyHealthy\": true\n}"
                );
            }
            // TestServer: the weight follows; without one it is 503.
            health.sync(&wanted(port, 0));
            let answer = ask(port, "GET /").await;
            assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("weight: 0"), "{answer}");
            health.sync(&wanted(port, 7));
            assert!(ask(port, "GET /").await.contains("weight: 7"));
            health.sync(&BTreeMap::new());
            // The listener's task ends when it is its turn.
            tokio::task::yield_now().await;
            assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "nobody asks any more");
        });
    }

    #[test]
    fn a_port_that_is_taken_is_told_once_and_tried_again() {
        on_control_thread(|| async {
            let state = Rc::new(State::new(Arc::new(Plane::new(1))));
            let mut health = ServiceHealth::new(state, NodePortAddresses::All);
            let taken = TcpListener::bind("0.0.0.0:0").unwrap();
            let wanted = wanted(taken.local_addr().unwrap().port(), 1);
            let new = health.sync(&wanted);
            assert!(new.len() == 1 && new[0].to_string().contains("failed to start healthcheck"), "{new:?}");
            assert!(health.waiting());
            assert_eq!(health.sync(&wanted), [], "told once");
            assert_eq!(health.problems().count(), 1);
            drop(taken);
            assert_eq!(health.sync(&wanted), []);
            assert!(!health.waiting() && health.problems().count() == 0);
        });
    }

    #[test]
    fn an_unhealthy_proxy_gets_nothing() {
        let name = NamespacedName::new("a", "b");
        assert_eq!(answer(&name, 1, false).status(), 503);
        assert_eq!(answer(&name, 1, true).status(), 200);
    }
}

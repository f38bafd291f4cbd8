//! Who is let in, and what a hostile client can do to others: nothing.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use rustix::process::Signal;
use serde_json::json;

use super::rig::{self, SERVICES};
use crate::harness::http::{Api, read_answer};
use crate::harness::process::{Ringport, command};
use crate::harness::wait::{PATIENCE, until};
use crate::harness::world::World;

#[test]
fn web_pages_are_kept_out_of_the_plain_server() {
    let rig = rig::start(&[]);
    for (name, value) in
        [("Host", "evil.example:8080"), ("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")]
    {
        let answer = rig.api.send("GET", "/api", &[(name, value)], "");
        assert_eq!((answer.status, &answer.json()["reason"]), (403, &json!("Forbidden")), "{name}");
    }
    assert_eq!(rig.api.send("GET", "/api", &[("Host", "localhost:1")], "").status, 200);
}

#[test]
fn a_token_is_asked_for_where_one_is_given() {
    let world = World::new();
    std::fs::write(world.path("token"), "open-sesame\n").unwrap();
    let api = Api(([127, 0, 0, 1], world.port()).into());
    let token_file = world.path("token");
    let args = ["--api", &api.0.to_string(), "--api-token-file", token_file.to_str().unwrap()];
    let _ringport = Ringport::start(&world, &args);
    let with = |header: &str| api.send("GET", "/api", &[("Authorization", header)], "");
    let refused = until("the API answers", || api.try_send("GET", "/api", &[], b"").ok());
    assert_eq!(
        refused.json(),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
               "message": "Unauthorized", "reason": "Unauthorized", "code": 401})
    );
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert_eq!(with("Bearer open-sesam").status, 401);
    assert_eq!(with("Bearer open-sesame").status, 200);
}

/// An IPv4 loopback address that does not look like one: what is beyond loopback, without leaving the machine.
fn outside(world: &World) -> String {
    format!("[::ffff:127.0.0.1]:{}", world.port())
}

#[test]
fn beyond_loopback_there_is_tls_and_a_token_and_kubeconfig_knows_them() {
    let world = World::new();
    let address = outside(&world);
    let state = world.path("state");
    let state_dir = state.to_str().unwrap();
    let options = ["--api", &address, "--state-dir", state_dir];
    let ringport = Ringport::start(&world, &options);
    until("the API is there", || ringport.log().contains("a Kubernetes API at https://").then_some(()));
    for file in ["api.key", "api.token"] {
        let mode = std::fs::metadata(state.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let printed = command(&[&["kubeconfig"], &options[..]].concat()).output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(text.contains("server: https://[::ffff:127.0.0.1]:"), "{text}");
    let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        let client = kube::Client::try_from(config.clone()).unwrap();
        let version = client.apiserver_version().await.unwrap();
        assert_eq!(version.major, "1");
        config.auth_info = Default::default();
        let stranger = kube::Client::try_from(config).unwrap();
        let error = stranger.apiserver_version().await.unwrap_err();
        assert!(error.to_string().contains("Unauthorized"), "{error}");
    });
}

#[test]
fn beyond_loopback_something_to_keep_the_secrets_in_is_needed() {
    let world = World::new();
    let output = command(&["run", "--api", &outside(&world)]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        said.contains("is not a loopback address, so the API needs TLS and a token: name a folder"),
        "{said}"
    );
}

#[test]
fn a_unix_socket_is_its_owners() {
    let world = World::new();
    let path = world.path("api.sock");
    let address = format!("unix:{}", path.display());
    let ask = || {
        let mut stream = UnixStream::connect(&path).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n").ok()?;
        read_answer(&mut BufReader::new(stream)).ok()
    };
    for _ in 0..2 {
        // The second one finds what the first one left behind.
        let mut ringport = Ringport::start(&world, &["--api", &address]);
        assert_eq!(until("the API answers", ask).body, "ok");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        ringport.signal(Signal::KILL);
        ringport.wait(PATIENCE);
        assert!(path.exists());
    }
    let mut ringport = Ringport::start(&world, &["--api", &address]);
    until("the API answers", ask);
    ringport.signal(Signal::TERM);
    ringport.wait(PATIENCE);
    assert!(!path.exists(), "one that ends in order removes it");
    let none = command(&["kubeconfig", "--api", &address]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
}

#[test]
fn bodies_and_heads_are_bounded() {
    let rig = rig::start(&[]);
    let body = vec![b' '; (3 << 20) + 1];
    let headers = [("Content-Type", "application/json")];
    let answer = rig.api.try_send("POST", SERVICES, &headers, &body).unwrap();
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (413, "Request entity is too large: limit is 3145728")
    );
    assert_eq!(rig.ringport.metrics().sum("ringport_api_answers_total", &["code=\"413\""]), 1);
    let long = "x".repeat(100_000);
    assert_eq!(rig.api.send("GET", "/api", &[("X-Long", &long)], "").status, 431);
    let status = rig.api.send("GET", &format!("/api?{long}"), &[], "").status;
    assert!(matches!(status, 414 | 431), "{status}");
}

#[test]
fn watches_are_bounded_and_give_their_place_back() {
    let rig = rig::start(&[]);
    let path = format!("{SERVICES}?watch=true");
    let watches: Vec<_> = (0..512).map(|_| rig.api.watch(&path)).collect();
    let refused = rig.api.get(&path);
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{}", refused.body);
    assert_eq!(rig.ringport.metrics().sum("ringport_api_answers_total", &["code=\"429\""]), 1);
    assert_eq!(rig.api.get(SERVICES).status, 200);
    drop(watches);
    until("their places are free", || {
        (rig.api.get(&format!("{path}&timeoutSeconds=1")).status == 200).then_some(())
    });
}

#[test]
fn a_head_that_does_not_end_and_an_answer_that_nobody_reads_concern_nobody() {
    let rig = rig::start(&[]);
    let mut slow = TcpStream::connect(rig.api.0).unwrap();
    slow.write_all(b"GET /api HTTP/1.1\r\nHost: loc").unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut deaf: Vec<TcpStream> = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(rig.api.0).unwrap();
        let request = format!("GET {SERVICES}?watch=true HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        deaf.push(stream);
    }
    for i in 0..50 {
        rig.api.post(SERVICES, &rig::plain(&format!("s{i}"))).expect(201);
    }
    let mut rest = Vec::new();
    // 15 s after its first byte.
    let _ = slow.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[test]
fn the_address_of_the_api_is_given_to_no_service() {
    let rig = rig::start(&[]);
    let port = rig.api.0.port();
    rig.api.post(SERVICES, &rig::node_port("web", port, 80)).expect(201);
    rig.ringport.until_metrics("the problem is told", |metrics| metrics.problems() > 0);
    assert_eq!(rig.api.get("/readyz").body, "ok");
    let event = until("an Event tells it", || {
        let events = rig
            .api
            .get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dweb")
            .expect(200);
        events["items"].as_array().unwrap().iter().find(|event| event["reason"] != "NoEndpoints").cloned()
    });
    assert_eq!(
        (&event["type"], &event["reason"]),
        (&json!("Warning"), &json!("AddressNotAllowed")),
        "{event}"
    );
    assert!(event["message"].as_str().unwrap().contains(&port.to_string()), "{event}");
}

#[test]
fn idle_watches_end_when_they_are_told_to() {
    let rig = rig::start(&[]);
    let began = ringport::clock::now();
    let mut watch = rig.api.watch(&format!("{SERVICES}?watch=true&timeoutSeconds=1"));
    assert!(watch.next().is_none());
    assert!(ringport::clock::now().since(began) >= Duration::from_millis(900));
}

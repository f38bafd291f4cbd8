//! The access log: one JSON line for each finished session, off the data path.
//!
//! Shards put records into a bounded queue and never wait. A task on the control thread takes what has
//! gathered, writes it in one go on a thread of its own, and starts again: under load the batches grow.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{Notify, mpsc};

use crate::admin::{Seen, State};
use crate::limits;
use crate::route::plane::{Outcome, Plane, SessionRecord};
use crate::types::{EndReason, Label, Refusal};

/// A log that is being written.
pub(super) struct AccessLog {
    reopen: Rc<Notify>,
    stop: Rc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

/// Where lines go.
enum Target {
    Stdout,
    File(String, Arc<File>),
}

impl AccessLog {
    /// Opens a file, or standard output for `-`, and writes to it from now on.
    pub(super) fn start(path: &str, plane: &Plane, state: Rc<State>) -> io::Result<Self> {
        let target = Target::open(path)?;
        let (sender, receiver) = mpsc::channel(limits::ACCESS_LOG_QUEUE);
        plane.set_on_session(move |record| sender.try_send(record).is_ok());
        let (reopen, stop) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let task = tokio::task::spawn_local(write(target, receiver, reopen.clone(), stop.clone(), state));
        Ok(Self { reopen, stop, task })
    }

    /// Opens the file again, after it was moved away.
    pub(super) fn reopen(&self) {
        self.reopen.notify_one();
    }

    /// Writes what is in the queue and ends.
    pub(super) async fn finish(self) {
        self.stop.notify_one();
        let _ = self.task.await;
    }
}

async fn write(
    mut target: Target,
    mut receiver: mpsc::Receiver<SessionRecord>,
    reopen: Rc<Notify>,
    stop: Rc<Notify>,
    state: Rc<State>,
) {
    let mut failing = false;
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = reopen.notified() => {
                if let Err(error) = target.reopen() {
                    tracing::error!(%error, "the access log cannot be opened again; the old file stays in use");
                }
            }
            // Those in the queue are still received.
            () = stop.notified() => receiver.close(),
            count = receiver.recv_many(&mut batch, limits::ACCESS_LOG_BATCH) => {
                if count == 0 {
                    return;
                }
                let result = target.append(lines(&batch)).await;
                batch.clear();
                let count = count as u64;
                state.on_access_log(if result.is_ok() { count } else { 0 }, if result.is_ok() { 0 } else { count });
                match &result {
                    Err(error) if !failing => tracing::error!(%error, "the access log cannot be written"),
                    Ok(()) if failing => tracing::info!("the access log is written again"),
                    _ => {}
                }
                failing = result.is_err();
            }
        }
    }
}

impl Target {
    fn open(path: &str) -> io::Result<Self> {
        Ok(match path {
            "-" => Self::Stdout,
            path => Self::File(path.to_owned(), Arc::new(append_to(path)?)),
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File(path, file) = self {
            *file = Arc::new(append_to(path)?);
        }
        Ok(())
    }

    /// A disk or a pipe may be slow, so this is done on another thread.
    async fn append(&self, text: String) -> io::Result<()> {
        let file = match self {
            Self::Stdout => None,
            Self::File(_, file) => Some(file.clone()),
        };
        let write = move || match file {
            None => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
            Some(file) => (&*file).write_all(text.as_bytes()),
        };
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

fn append_to(path: &str) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    service: String,
    port: &'a str,
    protocol: &'a str,
    client: String,
    frontend: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    result: &'static str,
    by: &'static str,
    reason: &'static str,
    attempts: u32,
    connect_micros: u64,
    session_micros: u64,
    bytes_up: u64,
    bytes_down: u64,
    bytes_lost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    datagrams_up: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datagrams_down: Option<u64>,
    shard: usize,
}

fn lines(records: &[SessionRecord]) -> String {
    let time = Seen::now().to_string();
    let mut text = String::new();
    for record in records {
        text.push_str(&serde_json::to_string(&line(record, time.clone())).unwrap_or_default());
        text.push('\n');
    }
    text
}

fn line(record: &SessionRecord, time: String) -> Line<'_> {
    let (result, by, reason) = match record.outcome {
        Outcome::Ended(reason) => ("ended", ended_by(reason), reason.label()),
        Outcome::Refused(reason) => ("refused", refused_by(reason), reason.label()),
    };
    Line {
        time,
        service: record.service.service.to_string(),
        port: &record.service.port,
        protocol: record.service.protocol.as_str(),
        client: record.client.to_string(),
        frontend: record.frontend.to_string(),
        endpoint: record.endpoint.map(|endpoint| endpoint.to_string()),
        pod: record.pod.as_deref(),
        result,
        by,
        reason,
        attempts: record.attempts,
        connect_micros: record.connect_micros,
        session_micros: record.session_micros,
        bytes_up: record.bytes_up,
        bytes_down: record.bytes_down,
        bytes_lost: record.bytes_lost,
        datagrams_up: record.datagrams.map(|(up, _)| up),
        datagrams_down: record.datagrams.map(|(_, down)| down),
        shard: record.shard,
    }
}

/// Who ended a session: `both` sides, the `client`, the `endpoint`, this `node`, or what was `configured`.
fn ended_by(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Complete => "both",
        EndReason::ClientReset | EndReason::ClientTimeout => "client",
        EndReason::EndpointReset | EndReason::EndpointTimeout => "endpoint",
        EndReason::EndpointGone | EndReason::ServiceGone | EndReason::Evicted => "configured",
        EndReason::Idle | EndReason::HalfClosed => "configured",
        EndReason::Drained | EndReason::LocalError => "node",
        EndReason::ProxyHeader => "configured",
    }
}

/// Whose doing a refusal was, in the same words.
fn refused_by(reason: Refusal) -> &'static str {
    match reason {
        Refusal::ClientGone => "client",
        Refusal::NoEndpoints | Refusal::ConnectFailed => "endpoint",
        Refusal::MaxConnections | Refusal::ServiceLimit | Refusal::ClientLimit | Refusal::SourceRange => {
            "configured"
        }
        Refusal::Draining | Refusal::LocalError => "node",
        Refusal::ProxyHeaderMissing | Refusal::ProxyHeaderMalformed | Refusal::ProxyHeaderTimeout => "client",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClientAddr, EndpointAddr, NamespacedName, Protocol, ServicePortName};

    fn record(bytes_up: u64) -> SessionRecord {
        SessionRecord {
            service: ServicePortName {
                service: NamespacedName::new("default", "web"),
                port: "http".into(),
                protocol: Protocol::Tcp,
            },
            client: ClientAddr("192.0.2.7:4000".parse().unwrap()),
            frontend: "10.0.0.1:30080".parse().unwrap(),
            endpoint: Some(EndpointAddr("10.0.0.9:8080".parse().unwrap())),
            pod: Some("web-\"1\"".into()),
            outcome: Outcome::Ended(EndReason::EndpointReset),
            attempts: 2,
            connect_micros: 10,
            session_micros: 20,
            bytes_up,
            bytes_down: 4,
            bytes_lost: 0,
            datagrams: None,
            shard: 1,
        }
    }

    #[test]
    fn a_line_says_who_ended_it_and_why() {
        let text = lines(&[record(3)]);
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        let wanted = serde_json::json!({
            "time": line["time"], "service": "default/web", "port": "http", "protocol": "TCP",
            "client": "192.0.2.7:4000", "frontend": "10.0.0.1:30080", "endpoint": "10.0.0.9:8080",
            "pod": "web-\"1\"", "result": "ended", "by": "endpoint", "reason": "endpoint_reset", "attempts": 2,
            "connect_micros": 10, "session_micros": 20, "bytes_up": 3, "bytes_down": 4, "bytes_lost": 0, "shard": 1,
        });
        assert_eq!(line, wanted);
        assert!(line["time"].as_str().unwrap().ends_with('Z'));

        let refused = SessionRecord {
            endpoint: None,
            pod: None,
            outcome: Outcome::Refused(Refusal::NoEndpoints),
            ..record(0)
        };
        let text = lines(&[refused]);
        assert!(text.contains(r#""result":"refused","by":"endpoint","reason":"no_endpoints""#), "{text}");
        assert!(!text.contains(r#""pod""#) && !text.contains(r#""endpoint":"#), "{text}");
    }

    #[test]
    fn lines_are_written_in_order_reopened_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let moved = folder.path().join("access.log.1");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let plane = Arc::new(Plane::new(1));
            let state = Rc::new(State::new(plane.clone()));
            let log = AccessLog::start(path.to_str().unwrap(), &plane, state.clone()).unwrap();
            for n in 0..100 {
                assert!(plane.session(record(n)));
            }
            while std::fs::read_to_string(&path).unwrap().lines().count() < 100 {
                tokio::task::yield_now().await;
            }
            std::fs::rename(&path, &moved).unwrap();
            log.reopen();
            while !path.exists() {
                tokio::task::yield_now().await;
            }
            assert!(plane.session(record(100)));
            log.finish().await;
            let all = std::fs::read_to_string(&moved).unwrap() + &std::fs::read_to_string(&path).unwrap();
            for (n, line) in all.lines().enumerate() {
                assert!(line.contains(&format!("\"bytes_up\":{n},")), "{line}");
            }
            assert_eq!(all.lines().count(), 101);
            assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
            assert!(!plane.session(record(0)), "no room once it has ended");
        });
    }

    #[test]
    fn a_full_queue_never_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let plane = Arc::new(Plane::new(1));
            let state = Rc::new(State::new(plane.clone()));
            let log = AccessLog::start(path.to_str().unwrap(), &plane, state).unwrap();
            // The task does not run before the first await.
            for _ in 0..limits::ACCESS_LOG_QUEUE {
                assert!(plane.session(record(0)));
            }
            assert!(!plane.session(record(0)));
            log.finish().await;
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), limits::ACCESS_LOG_QUEUE);
    }
}

//! The row of a Pod: how many of its containers are ready, and what is the matter with it.

use serde_json::Value;

use super::cells::{age, items, name, or, since, text};

pub(super) fn row(pod: &Value, now: u64) -> Vec<Value> {
    let mut state = State::of(pod);
    let initialized = has_condition(pod, "Initialized");
    if !state.init_containers(pod) || initialized {
        state.containers(pod);
    }
    let restarts = match state.last_restart {
        Some(time) if state.restarts != 0 => format!("{} ({} ago)", state.restarts, since(time, now)),
        _ => state.restarts.to_string(),
    };
    let ip = items(pod, "/status/podIPs").first().map_or("", |ip| text(ip, "/ip"));
    vec![
        name(pod),
        format!("{}/{}", state.ready, state.total).into(),
        final_reason(pod, state.reason).into(),
        restarts.into(),
        age(pod, now),
        or(ip, "<none>").into(),
        or(text(pod, "/spec/nodeName"), "<none>").into(),
        or(text(pod, "/status/nominatedNodeName"), "<none>").into(),
        readiness_gates(pod).into(),
    ]
}

/// What the statuses of the containers add up to.
struct State<'a> {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<&'a str>,
    /// Those of the init containers that run on beside the others.
    sidecar_restarts: i64,
    sidecar_last_restart: Option<&'a str>,
}

impl<'a> State<'a> {
    fn of(pod: &Value) -> Self {
        let gated = |condition: &Value| {
            text(condition, "/type") == "PodScheduled" && text(condition, "/reason") == "SchedulingGated"
        };
        let reason = match items(pod, "/status/conditions").iter().any(gated) {
            true => "SchedulingGated",
            false => or(text(pod, "/status/reason"), text(pod, "/status/phase")),
        };
        let sidecars = items(pod, "/spec/initContainers").iter().filter(|container| is_sidecar(container));
        Self {
            reason: reason.to_owned(),
            ready: 0,
            total: items(pod, "/spec/containers").len() + sidecars.count(),
            restarts: 0,
            last_restart: None,
            sidecar_restarts: 0,
            sidecar_last_restart: None,
        }
    }

    /// Goes through the init containers up to the one that is at work; says whether there is one.
    fn init_containers(&mut self, pod: &'a Value) -> bool {
        let specs = items(pod, "/spec/initContainers");
        for (index, status) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
            let sidecar =
                specs.iter().any(|spec| text(spec, "/name") == text(status, "/name") && is_sidecar(spec));
            self.restarts = self.restarts.saturating_add(number(status, "/restartCount"));
            self.last_restart = self.last_restart.max(last_end(status));
            if sidecar {
                self.sidecar_restarts = self.sidecar_restarts.saturating_add(number(status, "/restartCount"));
                self.sidecar_last_restart = self.sidecar_last_restart.max(last_end(status));
            }
            let terminated = status.pointer("/state/terminated");
            if terminated.is_some_and(|ended| number(ended, "/exitCode") == 0) {
                continue;
            }
            if sidecar && is_true(status, "/started") {
                self.ready += usize::from(is_true(status, "/ready"));
                continue;
            }
            let waiting = text(status, "/state/waiting/reason");
            self.reason = match terminated {
                Some(ended) => format!("Init:{}", ended_because(ended)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", specs.len()),
            };
            return true;
        }
        false
    }

    fn containers(&mut self, pod: &'a Value) {
        self.restarts = self.sidecar_restarts;
        self.last_restart = self.sidecar_last_restart;
        let mut running = false;
        for status in items(pod, "/status/containerStatuses").iter().rev() {
            self.restarts = self.restarts.saturating_add(number(status, "/restartCount"));
            self.last_restart = self.last_restart.max(last_end(status));
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(ended) = status.pointer("/state/terminated") {
                self.reason = ended_because(ended);
            } else if is_true(status, "/ready") && status.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if has_condition(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

fn final_reason(pod: &Value, reason: String) -> String {
    let ended = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    if text(pod, "/metadata/deletionTimestamp").is_empty() {
        reason
    } else if text(pod, "/status/reason") == "NodeLost" {
        "Unknown".to_owned()
    } else if ended {
        reason
    } else {
        "Terminating".to_owned()
    }
}

/// The reason, or the signal or exit code.
fn ended_because(ended: &Value) -> String {
    match (text(ended, "/reason"), number(ended, "/signal")) {
        ("", 0) => format!("ExitCode:{}", number(ended, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// When it ended the last time. Timestamps of one form sort as texts.
fn last_end(status: &Value) -> Option<&str> {
    Some(text(status, "/lastState/terminated/finishedAt")).filter(|time| !time.is_empty())
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(pod, "/spec/readinessGates");
    let open = gates.iter().filter(|gate| has_condition(pod, text(gate, "/conditionType"))).count();
    if gates.is_empty() { "<none>".to_owned() } else { format!("{open}/{}", gates.len()) }
}

fn has_condition(pod: &Value, kind: &str) -> bool {
    let mut conditions = items(pod, "/status/conditions").iter();
    conditions
        .find(|condition| text(condition, "/type") == kind)
        .is_some_and(|condition| text(condition, "/status") == "True")
}

fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

fn is_true(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer) == Some(&Value::Bool(true))
}

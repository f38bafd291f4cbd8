use super::*;
use crate::k8s::ip::Trust;
use crate::k8s::service;

const NONE: BTreeSet<u16> = BTreeSet::new();

/// A NodePort Service with ports given as `name port protocol nodePort`.
fn request(name: &str, kind: &str, ports: &[(&str, i32, &str, i32)]) -> ServiceRequest {
    let ports: Vec<_> = ports
        .iter()
        .map(|(name, port, protocol, node_port)| {
            serde_json::json!({"name": name, "port": port, "protocol": protocol, "nodePort": node_port})
        })
        .collect();
    let json = serde_json::json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": ports}});
    let mut problems = Vec::new();
    let request = service::read(serde_json::from_value(json).unwrap(), Trust::File, &mut problems);
    request.unwrap_or_else(|| panic!("{problems:?}"))
}

/// The Service with the ports that were planned.
fn with(request: &ServiceRequest, node_ports: &[Option<u16>]) -> Service {
    let mut service = request.service.clone();
    for (port, node_port) in service.ports.iter_mut().zip(node_ports) {
        port.node_port = *node_port;
    }
    service
}

fn ports() -> Ports {
    Ports::new(30000..=32767)
}

/// Test_calculateRangeOffset.
#[test]
fn the_static_band() {
    for (size, band) in [
        (2768, 86),
        (10, 0),
        (16, 0),
        (17, 16),
        (128, 16),
        (256, 16),
        (1024, 32),
        (2048, 64),
        (4096, 128),
        (8192, 128),
    ] {
        assert_eq!(static_band(size), band, "{size}");
    }
}

/// TestAllocate, TestAllocateReserved: 201 ports, all of them, once.
#[test]
fn a_range_is_used_up_from_the_upper_band_down() {
    let mut ports = Ports::new(10000..=10200);
    let mut seen = BTreeSet::new();
    for i in 0..201 {
        let request = request(&format!("s{i}"), "NodePort", &[("", 80, "TCP", 0)]);
        let port = ports.plan(&request, None, &NONE).unwrap()[0].unwrap();
        assert!(seen.insert(port) && (10000..=10200).contains(&port), "{port}");
        assert_eq!(port < 10016, seen.len() > 185, "the static band of 16 comes last: {port}");
        ports.hold(&with(&request, &[Some(port)]), None);
    }
    let late = request("late", "NodePort", &[("", 80, "TCP", 0)]);
    let problems = ports.plan(&late, None, &NONE).unwrap_err();
    assert_eq!(problems[0].message, "Internal error occurred: failed to allocate a nodePort: range is full");

    ports.release(&with(&request("s7", "NodePort", &[("", 80, "TCP", 0)]), &[ports.held_by("s7")]), None);
    assert!(ports.plan(&late, None, &NONE).is_ok());
}

impl Ports {
    fn held_by(&self, name: &str) -> Option<u16> {
        self.holders.iter().find(|(_, holder)| &*holder.name == name).map(|(port, _)| *port)
    }
}

#[test]
fn the_choice_depends_on_the_name_only() {
    let web = request("web", "NodePort", &[("a", 80, "TCP", 0), ("b", 81, "TCP", 0)]);
    let first = ports().plan(&web, None, &NONE).unwrap();
    assert_eq!(ports().plan(&web, None, &NONE).unwrap(), first);
    assert_ne!(first[0], first[1]);
    assert!(first.iter().all(|port| port.is_some_and(|port| port >= 30086)), "{first:?}");
}

/// TestCreateInitNodePorts.
#[test]
fn ports_of_one_number_share_their_node_port_when_new() {
    #[allow(clippy::type_complexity, reason = "a table")]
    let table: [(&str, &[(&str, i32, &str, i32)], &[&str]); 9] = [
        ("ClusterIP", &[("", 80, "TCP", 0)], &["none"]),
        ("NodePort", &[("", 80, "TCP", 0)], &["a"]),
        ("NodePort", &[("", 80, "TCP", 30080)], &["30080"]),
        ("NodePort", &[("p", 80, "TCP", 0), ("q", 81, "TCP", 0)], &["a", "b"]),
        ("NodePort", &[("p", 80, "TCP", 30080), ("q", 81, "TCP", 0)], &["30080", "a"]),
        ("NodePort", &[("p", 53, "TCP", 0), ("q", 53, "UDP", 0)], &["a", "a"]),
        ("NodePort", &[("p", 53, "TCP", 30053), ("q", 53, "UDP", 0)], &["30053", "30053"]),
        ("NodePort", &[("p", 53, "TCP", 0), ("q", 53, "UDP", 30053)], &["30053", "30053"]),
        ("NodePort", &[("p", 53, "TCP", 30053), ("q", 53, "UDP", 30054)], &["30053", "30054"]),
    ];
    for (kind, asked, expected) in table {
        let planned = ports().plan(&request("web", kind, asked), None, &NONE).unwrap();
        let mut letters: Vec<(u16, &str)> = Vec::new();
        let named: Vec<String> = planned
            .iter()
            .map(|port| match port {
                None => "none".to_owned(),
                Some(port) if asked.iter().any(|ask| ask.3 == i32::from(*port)) => port.to_string(),
                Some(port) => {
                    let next = ["a", "b"][letters.len().min(1)];
                    match letters.iter().find(|(known, _)| known == port) {
                        Some((_, letter)) => (*letter).to_owned(),
                        None => {
                            letters.push((*port, next));
                            next.to_owned()
                        }
                    }
                }
            })
            .collect();
        assert_eq!(named, expected, "{asked:?}");
    }
}

#[test]
fn a_load_balancer_may_do_without_and_still_ask_for_one() {
    let mut request = request("web", "LoadBalancer", &[("a", 80, "TCP", 0), ("b", 81, "TCP", 30081)]);
    assert!(ports().plan(&request, None, &NONE).unwrap().iter().all(Option::is_some));
    request.wants_node_ports = false;
    assert_eq!(ports().plan(&request, None, &NONE).unwrap(), [None, Some(30081)]);
}

#[test]
fn what_is_refused_and_why() {
    let mut ports = ports();
    let holder = request("holder", "NodePort", &[("", 80, "TCP", 30080)]);
    ports.hold(&with(&holder, &[Some(30080)]), None);

    let other = request(
        "other",
        "NodePort",
        &[("a", 1, "UDP", 30080), ("b", 2, "TCP", 80), ("c", 3, "TCP", 70000), ("d", 4, "TCP", -1)],
    );
    let problems = ports.plan(&other, None, &NONE).unwrap_err();
    let texts: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
    let range = "provided port is not in the valid range. The range of valid ports is 30000-32767";
    assert_eq!(
        texts,
        [
            "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated".to_owned(),
            format!("spec.ports[1].nodePort: Invalid value: 80: {range}"),
            format!("spec.ports[2].nodePort: Invalid value: 70000: {range}"),
            format!("spec.ports[3].nodePort: Invalid value: -1: {range}"),
        ]
    );
    assert_eq!(problems[0].hint.as_deref(), Some("Service default/holder has it"));
    assert!(ports.plan(&holder, None, &NONE).is_ok(), "a Service is not in its own way");
}

/// TestPatchAllocatedValues and updateNodePorts.
#[test]
fn a_changed_service_keeps_its_ports_by_name() {
    let ports = ports();
    let before = request("web", "NodePort", &[("a", 80, "TCP", 0), ("b", 81, "TCP", 30081)]);
    let before = with(&before, &[Some(31111), Some(30081)]);
    let plan = |asked: &[(&str, i32, &str, i32)]| {
        ports.plan(&request("web", "NodePort", asked), Some(&before), &NONE).unwrap()
    };
    assert_eq!(plan(&[("b", 8081, "TCP", 0), ("a", 8080, "TCP", 0)]), [Some(30081), Some(31111)]);
    assert_eq!(plan(&[("a", 80, "TCP", 30500), ("b", 81, "TCP", 0)]), [Some(30500), Some(30081)]);
    let renamed = plan(&[("c", 80, "TCP", 0), ("b", 81, "TCP", 0)]);
    assert!(renamed[0] != Some(31111) && renamed[1] == Some(30081), "{renamed:?}");
    let moved = plan(&[("a", 80, "TCP", 0), ("b", 81, "TCP", 31111)]);
    assert!(moved[0] != Some(31111) && moved[1] == Some(31111), "b takes what a had: {moved:?}");
    let twin = plan(&[("a", 80, "TCP", 0), ("b", 81, "TCP", 0), ("u", 80, "UDP", 0)]);
    assert!(twin[2].is_some() && twin[2] != twin[0], "a twin that comes later has its own: {twin:?}");
    let cluster_ip = request("web", "ClusterIP", &[("a", 80, "TCP", 0)]);
    assert_eq!(ports.plan(&cluster_ip, Some(&before), &NONE).unwrap(), [None]);
}

#[test]
fn automatic_ports_leave_alone_what_others_ask_for() {
    let ports = Ports::new(30000..=30001);
    let web = request("web", "NodePort", &[("", 80, "TCP", 0)]);
    for asked in [30000, 30001] {
        let planned = ports.plan(&web, None, &BTreeSet::from([asked])).unwrap();
        assert_eq!(planned, [Some(60001 - asked)]);
    }
    let all = BTreeSet::from([30000, 30001]);
    assert!(ports.plan(&web, None, &all).is_ok(), "but not at the price of being refused");
}

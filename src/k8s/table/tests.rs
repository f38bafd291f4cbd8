use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::k8s::resource::{RESOURCES, Resource};

/// 2026-01-02T03:04:05Z
const NOW: u64 = 1_767_323_045;

fn cells(resource: Resource, object: &Value) -> Vec<String> {
    let cells = row(object, resource, NOW);
    assert_eq!(cells.len(), columns(resource).len());
    cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect()
}

fn service(spec: Value, status: Value) -> Vec<String> {
    let metadata = json!({"name": "web", "creationTimestamp": "2026-01-02T03:02:00Z"});
    cells(Resource::Services, &json!({"metadata": metadata, "spec": spec, "status": status}))
}

/// After upstream's TestPrintService.
#[test]
fn services_in_rows() {
    let none = json!({});
    assert_eq!(
        service(
            json!({"type": "ClusterIP", "clusterIPs": ["10.9.8.7"], "ports": [{"port": 2233, "protocol": "tcp"}],
                   "selector": {"b": "c", "a": "1"}}),
            none.clone()
        ),
        ["web", "ClusterIP", "10.9.8.7", "<none>", "2233/tcp", "2m5s", "a=1,b=c"]
    );
    assert_eq!(
        service(
            json!({"type": "NodePort", "clusterIPs": ["10.9.8.7"], "externalIPs": ["1.2.3.110", "1.2.3.111"],
                   "ports": [{"port": 80, "nodePort": 30008, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
            none.clone()
        ),
        ["web", "NodePort", "10.9.8.7", "1.2.3.110,1.2.3.111", "80:30008/TCP,53/UDP", "2m5s", "<none>"]
    );
    let external = |spec, status| service(spec, status)[3].clone();
    let balancer = |ips: &[&str]| json!({"type": "LoadBalancer", "externalIPs": ips});
    let ingress = json!({"loadBalancer": {"ingress": [{"ip": "3.4.5.6"}, {"ip": "2.3.4.5", "hostname": "host1"}, {"hostname": "h"}]}});
    assert_eq!(external(balancer(&[]), none.clone()), "<pending>");
    assert_eq!(external(balancer(&[]), ingress.clone()), "2.3.4.5,3.4.5.6,h");
    assert_eq!(external(balancer(&["9.9.9.9"]), ingress), "2.3.4.5,3.4.5.6,h,9.9.9.9");
    assert_eq!(external(balancer(&["9.9.9.9"]), none.clone()), "9.9.9.9");
    assert_eq!(
        service(json!({"type": "ExternalName", "externalName": "my.database.example.com"}), none.clone())
            [1..5],
        ["ExternalName", "<none>", "my.database.example.com", "<none>"]
    );
    assert_eq!(service(json!({"type": "ClusterIP", "clusterIPs": ["None"]}), none)[2], "None");
}

fn pod(spec: Value, status: Value) -> Vec<String> {
    cells(Resource::Pods, &json!({"metadata": {"name": "p"}, "spec": spec, "status": status}))
}

/// Ready, Status and Restarts, after upstream's TestPrintPod and its relatives.
#[test]
fn pods_in_rows() {
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let running = json!({"ready": true, "restartCount": 3, "state": {"running": {}}});
    let restarted = json!({
        "ready": true, "restartCount": 3, "state": {"running": {}},
        "lastState": {"terminated": {"finishedAt": "2026-01-02T03:03:55Z"}}
    });
    let init = json!({
        "initContainers": [{"name": "i"}, {"name": "j"}, {"name": "side", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}]
    });
    let table = [
        (
            two.clone(),
            json!({"phase": "podPhase", "containerStatuses": [running, {"restartCount": 3}]}),
            ["1/2", "podPhase", "6"],
        ),
        (
            two.clone(),
            json!({"phase": "x", "containerStatuses": [restarted, {}]}),
            ["1/2", "x", "3 (10s ago)"],
        ),
        (
            two.clone(),
            json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}, {}]}),
            ["0/2", "ContainerCreating", "0"],
        ),
        (
            two.clone(),
            json!({"phase": "x", "containerStatuses": [{"state": {"terminated": {"signal": 9, "exitCode": 137}}}]}),
            ["0/2", "Signal:9", "0"],
        ),
        (
            two.clone(),
            json!({"phase": "x", "containerStatuses": [{"state": {"terminated": {"exitCode": 2}}}]}),
            ["0/2", "ExitCode:2", "0"],
        ),
        (
            two.clone(),
            json!({"phase": "Running", "containerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}, running],
                   "conditions": [{"type": "Ready", "status": "True"}]}),
            ["1/2", "Running", "3"],
        ),
        (
            two.clone(),
            json!({"phase": "Running", "containerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}, running]}),
            ["1/2", "NotReady", "3"],
        ),
        (two.clone(), json!({"phase": "Failed", "reason": "Evicted"}), ["0/2", "Evicted", "0"]),
        (
            two,
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            ["0/2", "SchedulingGated", "0"],
        ),
        (
            init.clone(),
            json!({"initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "restartCount": 2}]}),
            ["0/2", "Init:1/3", "2"],
        ),
        (
            init.clone(),
            json!({"initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}]}),
            ["0/2", "Init:ErrImagePull", "0"],
        ),
        (
            init.clone(),
            json!({"initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1}}}]}),
            ["0/2", "Init:ExitCode:1", "0"],
        ),
        (
            init,
            json!({"phase": "Running", "initContainerStatuses": [{"name": "i", "restartCount": 4, "state": {"terminated": {"exitCode": 0}}},
                   {"name": "side", "restartCount": 1, "started": true, "ready": true, "state": {"running": {}}}],
                   "containerStatuses": [running]}),
            ["2/2", "Running", "4"],
        ),
    ];
    for (spec, status, expected) in table {
        assert_eq!(pod(spec, status.clone())[1..4], expected, "{status}");
    }
    let wide = pod(
        json!({"nodeName": "n", "readinessGates": [{"conditionType": "g"}, {"conditionType": "h"}]}),
        json!({"podIPs": [{"ip": "1.1.1.1"}], "conditions": [{"type": "g", "status": "True"}]}),
    );
    assert_eq!(wide[4..], ["<unknown>", "1.1.1.1", "n", "<none>", "1/2"]);
}

#[test]
fn pods_that_go_or_have_gone() {
    let deleted = |status: Value| {
        let metadata = json!({"name": "p", "deletionTimestamp": "2026-01-02T03:02:00Z"});
        cells(Resource::Pods, &json!({"metadata": metadata, "status": status}))[2].clone()
    };
    assert_eq!(deleted(json!({"phase": "Running"})), "Terminating");
    assert_eq!(deleted(json!({"phase": "Running", "reason": "NodeLost"})), "Unknown");
    assert_eq!(deleted(json!({"phase": "Succeeded"})), "Succeeded");
    let ended = conditions(&json!({"status": {"phase": "Failed"}}), Resource::Pods).unwrap();
    assert_eq!(ended[0]["message"], "The pod failed.");
    assert_eq!(conditions(&json!({"status": {"phase": "Running"}}), Resource::Pods), None);
}

#[test]
fn nodes_and_namespaces_in_rows() {
    let node = json!({
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.32.0"},
                   "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}
    });
    assert_eq!(
        cells(Resource::Nodes, &node),
        [
            "n",
            "Ready,SchedulingDisabled",
            "edge,worker",
            "<unknown>",
            "v1.32.0",
            "10.0.0.1",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>"
        ]
    );
    let bare =
        json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    assert_eq!(cells(Resource::Nodes, &bare)[1..3], ["NotReady", "<none>"]);
    assert_eq!(cells(Resource::Nodes, &json!({}))[1], "Unknown");
    let namespace = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-02T03:04:06Z"}, "status": {"phase": "Active"}});
    assert_eq!(cells(Resource::Namespaces, &namespace), ["a", "Active", "0s"]);
}

#[test]
fn endpoints_and_slices_in_rows() {
    let endpoints = |subsets: Value| cells(Resource::Endpoints, &json!({"subsets": subsets}))[1].clone();
    assert_eq!(endpoints(json!([])), "<none>");
    assert_eq!(endpoints(json!([{"addresses": [{"ip": "1.1.1.1"}]}])), "1.1.1.1");
    assert_eq!(
        endpoints(
            json!([{"addresses": [{"ip": "1.1.1.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}, {"port": 443}]}])
        ),
        "1.1.1.1:80,[fd00::1]:80,1.1.1.1:443 + 1 more..."
    );
    let slice = json!({
        "metadata": {"name": "s"}, "addressType": "IPv4",
        "ports": [{"port": 80}, {"name": "http"}, {}],
        "endpoints": [{"addresses": ["1.1.1.1", "1.1.1.2"]}, {"addresses": ["1.1.1.3", "1.1.1.4", "1.1.1.5"]}]
    });
    assert_eq!(
        cells(Resource::EndpointSlices, &slice)[1..4],
        ["IPv4", "80,http,*", "1.1.1.1,1.1.1.2,1.1.1.3 + 2 more..."]
    );
    assert_eq!(cells(Resource::EndpointSlices, &json!({}))[2..4], ["<unset>", "<unset>"]);
}

#[test]
fn events_in_rows() {
    let event = json!({
        "metadata": {"name": "event1"}, "type": "Warning", "reason": "Because", "message": " two\nlines ",
        "involvedObject": {"kind": "Service", "name": "web", "fieldPath": "spec.ports[0]"},
        "source": {"component": "ringport", "host": "n"},
        "firstTimestamp": "2026-01-02T02:04:05Z", "lastTimestamp": "2026-01-02T03:03:55Z", "count": 6
    });
    assert_eq!(
        cells(Resource::Events, &event),
        [
            "10s",
            "Warning",
            "Because",
            "service/web",
            "spec.ports[0]",
            "ringport, n",
            "two\nlines",
            "60m",
            "6",
            "event1"
        ]
    );
    let new = json!({"eventTime": "2026-01-02T03:03:55.000000Z", "reportingComponent": "r", "involvedObject": {"kind": "Pod"}});
    let found = cells(Resource::Events, &new);
    assert_eq!(
        (found[0].as_str(), found[3].as_str(), found[5].as_str(), found[8].as_str()),
        ("10s", "pod", "r", "1")
    );
    let series = json!({"series": {"count": 9, "lastObservedTime": "2026-01-02T03:04:00Z"}});
    let found = cells(Resource::Events, &series);
    assert_eq!((found[0].as_str(), found[8].as_str()), ("5s", "9"));
}

#[test]
fn tables_as_kubectl_lays_them_out() {
    let object = json!({
        "metadata": {"name": "web", "creationTimestamp": "2026-01-02T03:04:00Z"},
        "spec": {"type": "NodePort", "clusterIPs": ["10.96.0.10"], "ports": [{"port": 80, "nodePort": 30008, "protocol": "TCP"}]}
    });
    let line = || Line { namespace: "default", cells: row(&object, Resource::Services, NOW) };
    let columns = columns(Resource::Services);
    assert_eq!(
        print(columns, &[line()], Layout::default()),
        "NAME   TYPE       CLUSTER-IP   EXTERNAL-IP   PORT(S)        AGE\n\
         web    NodePort   10.96.0.10   <none>        80:30008/TCP   5s\n"
    );
    assert_eq!(
        print(columns, &[line()], Layout { namespaces: true, wide: true, headers: true }),
        "NAMESPACE   NAME   TYPE       CLUSTER-IP   EXTERNAL-IP   PORT(S)        AGE   SELECTOR\n\
         default     web    NodePort   10.96.0.10   <none>        80:30008/TCP   5s    <none>\n"
    );
    assert_eq!(
        print(columns, &[line()], Layout { headers: false, ..Layout::default() }),
        "web   NodePort   10.96.0.10   <none>   80:30008/TCP   5s\n"
    );
    let odd = Line {
        namespace: "",
        cells: vec![json!("a\nb"), json!(5), Value::Null, json!("\u{1b}[31m"), json!(""), json!("")],
    };
    assert_eq!(
        print(columns, &[odd], Layout { headers: false, ..Layout::default() }),
        "a...   5           ^[[31m         \n"
    );
}

proptest! {
    #[test]
    fn no_object_makes_it_panic(object in crate::k8s::arbitrary::object(), now in any::<u64>()) {
        for info in &RESOURCES {
            let cells = row(&object, info.resource, now);
            prop_assert_eq!(cells.len(), columns(info.resource).len());
            print(columns(info.resource), &[Line { namespace: "a", cells }], Layout::default());
        }
    }
}

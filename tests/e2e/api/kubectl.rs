//! Real kubectl against the embedded API: the four commands of the mission in every version that is installed,
//! and all commands that were recorded against a real cluster in the newest one.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::rig::{self, Rig};
use crate::harness::kubectl::{Kubectl, installed, plainly};
use crate::harness::process::Guarded;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/services/nodeport.yml");

/// kubectl at a prompt.
struct Shell<'a> {
    kubectl: &'a Kubectl,
    rig: &'a Rig,
}

impl Shell<'_> {
    /// What a command prints, if it succeeds.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.args(&line.split(' ').collect::<Vec<_>>())
    }

    #[track_caller]
    fn args(&self, args: &[&str]) -> String {
        let said = self.kubectl.run_args(&self.rig.world, self.rig.api, args);
        assert!(said.success, "kubectl 1.{} {args:?}: {said:?}", self.kubectl.minor);
        said.stdout
    }

    /// What a command prints, with one space between columns.
    #[track_caller]
    fn table(&self, line: &str) -> String {
        plainly(&self.ok(line))
    }

    /// The error of a command that fails.
    #[track_caller]
    fn fails(&self, line: &str) -> String {
        let said = self.kubectl.run(&self.rig.world, self.rig.api, line);
        assert!(!said.success, "kubectl {line}: {said:?}");
        said.stderr
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.rig.world.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn strict_range() -> Rig {
    rig::start(&["--service-node-port-range", "30000-32767"])
}

#[test]
fn the_four_commands_of_the_mission_in_every_version() {
    for kubectl in installed() {
        let rig = strict_range();
        let shell = Shell { kubectl: &kubectl, rig: &rig };
        assert_eq!(shell.ok(&format!("create -f {SAMPLE}")), "service/node-port-service created\n");
        let ip = shell.ok("get service node-port-service -o jsonpath={.spec.clusterIP}");
        assert_eq!(
            shell.table("get services"),
            format!(
                "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE\nnode-port-service NodePort {ip} 1.2.3.110 80:30008/TCP AGE\n"
            )
        );
        let slices = shell.table("get endpointslices");
        let mut lines = slices.lines();
        assert_eq!(lines.next(), Some("NAME ADDRESSTYPE PORTS ENDPOINTS AGE"));
        let slice = lines.next().unwrap();
        assert!(
            slice.starts_with("node-port-service-") && slice.ends_with(" IPv4 <unset> <unset> AGE"),
            "{slice}"
        );
        let described = shell.table("describe svc node-port-service");
        for line in [
            "Name: node-port-service",
            "Namespace: default",
            "Labels: <none>",
            "Annotations: <none>",
            "Selector: app=myapp,type=front-end",
            "Type: NodePort",
            "IP Family Policy: SingleStack",
            "IP Families: IPv4",
            &format!("IP: {ip}"),
            &format!("IPs: {ip}"),
            "Port: <unset> 80/TCP",
            "TargetPort: 80/TCP",
            "NodePort: <unset> 30008/TCP",
            "Session Affinity: None",
            "External Traffic Policy: Cluster",
        ] {
            assert!(described.lines().any(|said| said == line), "{line:?} is missing:\n{described}");
        }
        let deleted = shell.ok(&format!("delete -f {SAMPLE}"));
        assert!(deleted.starts_with("service \"node-port-service\" deleted"), "{deleted}");
        assert_eq!(
            shell.fails("get svc node-port-service"),
            "Error from server (NotFound): services \"node-port-service\" not found\n"
        );
    }
}

#[test]
fn looking_around() {
    let Some(kubectl) = installed().pop() else { return };
    let rig = strict_range();
    let shell = Shell { kubectl: &kubectl, rig: &rig };
    assert!(shell.ok("version").contains("Server Version: v1.36.0+ringport-"));
    assert!(shell.ok("cluster-info").contains("is running at"));
    let resources = shell.table("api-resources");
    assert!(resources.starts_with("NAME SHORTNAMES APIVERSION NAMESPACED KIND\n"), "{resources}");
    for line in [
        "services svc v1 true Service",
        "nodes no v1 false Node",
        "endpointslices discovery.k8s.io/v1 true EndpointSlice",
    ] {
        assert!(resources.lines().any(|said| said == line), "{line:?} is missing:\n{resources}");
    }
    assert_eq!(shell.ok("api-versions"), "discovery.k8s.io/v1\nv1\n");
    assert!(shell.table("get ns").contains("default Active AGE\n"));
    assert!(shell.table("get nodes").contains(" Ready <none> AGE"));
    assert_eq!(shell.fails("get secrets"), "error: the server doesn't have a resource type \"secrets\"\n");
    assert_eq!(shell.ok("get svc"), "");
    assert_eq!(shell.ok("get events"), "");
    shell.ok("events");
}

#[test]
fn changing_a_service_in_every_way() {
    let Some(kubectl) = installed().pop() else { return };
    let rig = strict_range();
    let shell = Shell { kubectl: &kubectl, rig: &rig };
    let field = |path: &str| shell.ok(&format!("get svc web -o jsonpath={{{path}}}"));
    let manifest = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels:\n    app: web\nspec:\n  type: NodePort\n  selector:\n    app: web\n  ports:\n  - name: a\n    port: 80\n    nodePort: 30080\n  - name: b\n    port: 443\n";
    let file = shell.file("web.yml", manifest);

    assert_eq!(
        shell.ok(&format!("create --dry-run=server -f {file}")),
        "service/web created (server dry run)\n"
    );
    assert_eq!(shell.ok(&format!("apply -f {file}")), "service/web created\n");
    assert_eq!(shell.ok(&format!("apply -f {file}")), "service/web unchanged\n");
    shell
        .file("web.yml", &manifest.replace("port: 80\n    nodePort: 30080", "port: 81\n    nodePort: 30081"));
    let diff = shell.fails(&format!("diff -f {file}"));
    assert_eq!(diff, "", "one that only says that something differs");
    assert_eq!(shell.ok(&format!("apply -f {file}")), "service/web configured\n");
    assert_eq!(field(".spec.ports[*].port"), "81 443");
    assert_eq!(field(".spec.ports[0].nodePort"), "30081");
    shell.ok(&format!("diff -f {file}"));

    let patched = ["patch", "svc", "web", "-p", "{\"spec\":{\"ports\":[{\"port\":81,\"targetPort\":8081}]}}"];
    assert_eq!(shell.args(&patched), "service/web patched\n");
    assert_eq!(shell.args(&patched), "service/web patched (no change)\n");
    assert_eq!(field(".spec.ports[*].targetPort"), "8081 443");
    shell.args(&["patch", "svc", "web", "--type=merge", "-p", "{\"metadata\":{\"labels\":{\"x\":\"y\"}}}"]);
    shell.args(&[
        "patch",
        "svc",
        "web",
        "--type=json",
        "-p",
        "[{\"op\":\"remove\",\"path\":\"/metadata/labels/x\"}]",
    ]);
    let status = "{\"status\":{\"loadBalancer\":{}}}";
    shell.args(&["patch", "svc", "web", "--subresource=status", "-p", status]);
    assert_eq!(shell.ok("label svc web tier=front"), "service/web labeled\n");
    assert_eq!(shell.ok("annotate svc web why=because"), "service/web annotated\n");
    assert_eq!(field(".metadata.labels"), "{\"app\":\"web\",\"tier\":\"front\"}");
    assert_eq!(shell.ok(&format!("replace -f {file}")), "service/web replaced\n");
    assert_eq!(field(".metadata.labels"), "{\"app\":\"web\"}");

    let mut edit = kubectl.command(&rig.world, rig.api, &["edit", "svc", "web"]);
    let edited = edit.env("KUBE_EDITOR", "sed -i s/nodePort:.30081/nodePort:\\ 30082/").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&edited.stdout), "service/web edited\n", "{edited:?}");
    assert_eq!(field(".spec.ports[0].nodePort"), "30082");

    assert_eq!(
        shell.ok(&format!("apply --server-side --force-conflicts -f {file}")),
        "service/web serverside-applied\n"
    );
    assert_eq!(field(".spec.ports[0].nodePort"), "30081");
    let deleted = shell.ok("delete svc --all");
    assert!(deleted.starts_with("service \"web\" deleted"), "{deleted}");
}

#[test]
fn reading_in_every_form() {
    let Some(kubectl) = installed().pop() else { return };
    let rig = strict_range();
    let shell = Shell { kubectl: &kubectl, rig: &rig };
    assert_eq!(shell.ok("create service nodeport b --tcp=80:8080 --node-port=30090"), "service/b created\n");
    assert_eq!(shell.ok("create service clusterip a --tcp=5678:8080"), "service/a created\n");
    assert_eq!(shell.ok("create namespace other"), "namespace/other created\n");
    assert_eq!(
        shell.ok("create service externalname c --external-name example.com -n other"),
        "service/c created\n"
    );
    assert_eq!(shell.ok("get svc -o name"), "service/a\nservice/b\n");
    assert_eq!(shell.ok("get svc -l app=b -o name"), "service/b\n");
    assert_eq!(shell.ok("get svc --field-selector metadata.name=a -o name"), "service/a\n");
    assert_eq!(
        shell.ok("get svc -o custom-columns=N:.metadata.name,P:.spec.ports[0].port"),
        "N   P\na   5678\nb   80\n"
    );
    let sorted = shell.table("get svc --sort-by=.spec.ports[0].port");
    assert!(sorted.lines().nth(1).unwrap().starts_with("b NodePort"), "{sorted}");
    let everywhere = shell.table("get svc -A");
    assert!(
        everywhere.starts_with("NAMESPACE NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE\n"),
        "{everywhere}"
    );
    assert!(everywhere.contains("other c ExternalName <none> example.com <none> AGE\n"), "{everywhere}");
    let wide = shell.table("get svc b -o wide");
    assert!(wide.ends_with(" 80:30090/TCP AGE app=b\n"), "{wide}");
    let ip = shell.ok("get svc b -o jsonpath={.spec.clusterIP}");
    let yaml = shell.ok("get svc b -o yaml");
    for line in [
        "apiVersion: v1",
        "kind: Service",
        "  type: NodePort",
        &format!("  clusterIP: {ip}"),
        "    nodePort: 30090",
        "  loadBalancer: {}",
    ] {
        assert!(yaml.lines().any(|said| said == line), "{line:?} is missing:\n{yaml}");
    }
    let all = shell.table("get all");
    assert!(all.contains("service/b NodePort ") && !all.contains("endpoint"), "{all}");
    assert!(shell.table("get ep").contains("b <none> AGE\n"));
    let list: serde_json::Value = serde_json::from_str(&shell.ok("get svc -o json")).unwrap();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&"List".into(), 2));
    assert_eq!(list["items"][0]["kind"], "Service");
    assert!(shell.ok("delete ns other").starts_with("namespace \"other\" deleted"));
    assert_eq!(shell.ok("get svc -A -o name"), "service/a\nservice/b\n");
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p1\n  labels:\n    app: web\nspec:\n  containers:\n  - name: main\n    image: example\n    ports:\n    - containerPort: 8080\nstatus:\n  phase: Running\n  podIP: 192.0.2.10\n  conditions:\n  - type: Ready\n    status: \"True\"\n";

#[test]
fn pods_and_what_follows_from_them() {
    let Some(kubectl) = installed().pop() else { return };
    let rig = strict_range();
    let shell = Shell { kubectl: &kubectl, rig: &rig };
    let file = shell.file("pod.yml", POD);
    assert_eq!(shell.ok(&format!("create -f {file}")), "pod/p1 created\n");
    let pods = shell.table("get pods -o wide");
    assert!(
        pods.starts_with("NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES\np1 "),
        "{pods}"
    );
    assert!(pods.contains(" Running 0 AGE 192.0.2.10 "), "{pods}");
    assert_eq!(shell.ok("expose pod p1 --port=80 --target-port=8080 --name=web"), "service/web exposed\n");
    let slices = shell.table("get endpointslices -l kubernetes.io/service-name=web");
    assert!(slices.contains(" IPv4 8080 192.0.2.10 AGE\n"), "{slices}");
    assert!(shell.table("get ep web").contains("web 192.0.2.10:8080 AGE\n"));
    let described = shell.table("describe svc web");
    assert!(described.contains("Endpoints: 192.0.2.10:8080\n"), "{described}");
    assert_eq!(
        shell.ok("wait --for=jsonpath={.status.phase}=Running pod/p1 --timeout=20s"),
        "pod/p1 condition met\n"
    );
    assert_eq!(shell.ok("wait --for=condition=Ready pod/p1 --timeout=20s"), "pod/p1 condition met\n");
    let deleted = shell.ok("delete pod p1 --force");
    assert!(deleted.starts_with("pod \"p1\" force deleted"), "{deleted}");
    assert!(shell.table("get endpointslices").contains(" <unset> AGE\n"));
}

#[test]
fn watching() {
    let Some(kubectl) = installed().pop() else { return };
    let rig = strict_range();
    let shell = Shell { kubectl: &kubectl, rig: &rig };
    let watching = |args: &[&str]| {
        let mut command = kubectl.command(&rig.world, rig.api, args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (Guarded(child), lines)
    };
    shell.ok("create service nodeport web --tcp=80:8080 --node-port=30100");
    let (_all, mut all) = watching(&["get", "svc", "-w"]);
    let (_one, mut one) = watching(&["get", "svc", "web", "-w"]);
    let mut next = |header: bool| {
        let line = |lines: &mut std::io::Lines<_>| {
            let line: std::io::Result<String> = lines.next().unwrap();
            plainly(&line.unwrap())
        };
        let (all, one) = (line(&mut all), line(&mut one));
        if header {
            assert_eq!(all, "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE\n");
        } else {
            assert!(all.starts_with("web NodePort ") && all.ends_with("/TCP AGE\n"), "{all}");
        }
        assert_eq!(all, one);
        all
    };
    next(true);
    assert!(next(false).contains(" 80:30100/TCP "));
    shell.args(&[
        "patch",
        "svc",
        "web",
        "--type=json",
        "-p",
        "[{\"op\":\"replace\",\"path\":\"/spec/ports/0/nodePort\",\"value\":30101}]",
    ]);
    assert!(next(false).contains(" 80:30101/TCP "));
    shell.ok("delete svc web");
    assert!(next(false).contains(" 80:30101/TCP "));
}

#[test]
fn errors_as_they_are_read() {
    let Some(kubectl) = installed().pop() else { return };
    let rig = strict_range();
    let shell = Shell { kubectl: &kubectl, rig: &rig };
    let file = shell.file("s.yml", "apiVersion: v1\nkind: Service\nmetadata:\n  name: e1\nspec:\n  type: NodePort\n  ports:\n  - port: 80\n    nodePort: 80\n");
    assert_eq!(
        shell.fails(&format!("create -f {file}")),
        "The Service \"e1\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767\n"
    );
    shell.file(
        "s.yml",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: e1\nspec:\n  ports:\n  - port: 0\n",
    );
    assert_eq!(
        shell.fails(&format!("create -f {file}")),
        "The Service \"e1\" is invalid: \n* spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive\n* spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive\n"
    );
    shell.file(
        "s.yml",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: e1\nspec:\n  foo: 1\n  ports:\n  - port: 80\n",
    );
    assert_eq!(
        shell.fails(&format!("create -f {file}")),
        format!(
            "Error from server (BadRequest): error when creating \"{file}\": Service in version \"v1\" cannot be handled as a Service: strict decoding error: unknown field \"spec.foo\"\n"
        )
    );
    assert_eq!(shell.ok(&format!("create --validate=false -f {file}")), "service/e1 created\n");
    assert_eq!(
        shell.fails(&format!("create --validate=false -f {file}")),
        format!(
            "Error from server (AlreadyExists): error when creating \"{file}\": services \"e1\" already exists\n"
        )
    );
    assert_eq!(
        shell.fails("create service clusterip x --tcp=80 -n nowhere"),
        "error: failed to create ClusterIP service: namespaces \"nowhere\" not found\n"
    );
}

//! `deploy/`: the manifests can be read, and the rights that they give are enough.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use seccompiler::{BpfProgram, TargetArch, compile_from_json};
use serde_json::{Value, json};

use crate::harness::client::ask;
use crate::harness::netns::skip;
use crate::harness::pod::{Pod, listen, named};
use crate::harness::process::Ringport;
use crate::harness::rig::{local, web};
use crate::harness::wait::until;
use crate::harness::world::World;
use crate::harness::{manifest, process};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a file.
fn documents(path: &Path) -> Vec<Value> {
    let text = read(path);
    let documents = text.split("\n---\n");
    documents
        .map(|text| serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .collect()
}

fn daemon_set() -> Value {
    documents(&deploy("base/daemonset.yaml")).remove(0)
}

#[test]
fn every_manifest_is_yaml_and_every_file_that_is_named_is_there() {
    for folder in ["base", "beside-kube-proxy", "instead-of-kube-proxy"] {
        let kustomization = documents(&deploy(&format!("{folder}/kustomization.yaml"))).remove(0);
        for resource in kustomization["resources"].as_array().unwrap() {
            let path = deploy(folder).join(resource.as_str().unwrap());
            if path.is_file() {
                assert!(documents(&path).iter().all(|document| document["kind"].is_string()), "{path:?}");
            } else {
                assert!(path.join("kustomization.yaml").is_file(), "{path:?}");
            }
        }
        for patch in kustomization["patches"].as_array().into_iter().flatten() {
            let steps: Value = serde_yaml::from_str(patch["patch"].as_str().unwrap()).unwrap();
            let steps: json_patch::Patch = serde_json::from_value(steps).unwrap();
            json_patch::patch(&mut daemon_set(), &steps).unwrap();
        }
    }
}

/// Where kubectl is installed, it agrees.
#[test]
fn kubectl_builds_every_overlay() {
    for folder in ["base", "beside-kube-proxy", "instead-of-kube-proxy"] {
        let Ok(output) = Command::new("kubectl").arg("kustomize").arg(deploy(folder)).output() else {
            return skip("there is no kubectl");
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let built: Vec<Value> =
            text.split("\n---\n").map(|text| serde_yaml::from_str(text).unwrap()).collect();
        let set = built.iter().find(|document| document["kind"] == "DaemonSet").unwrap();
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        let args: Vec<&str> =
            container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        // The program knows every option; a way to the cluster is all that it lacks.
        let output = process::command(&args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("--in-cluster: this process is not in a pod"), "{args:?}: {said}");
    }
}

/// The profile of the kubelet as one of `seccompiler`. Names that this machine does not have are left out.
fn filter(profile: &Value) -> BpfProgram {
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let names = profile["syscalls"].as_array().unwrap().iter();
    let names = names.inspect(|rule| assert_eq!(rule["action"], "SCMP_ACT_ALLOW"));
    let names = names.flat_map(|rule| rule["names"].as_array().unwrap());
    let compile = |rules: &[Value]| {
        let action = json!({"errno": profile["defaultErrnoRet"]});
        let filter = json!({"mismatch_action": action, "match_action": "allow", "filter": rules});
        compile_from_json(json!({"ringport": filter}).to_string().as_bytes(), arch)
    };
    let rules = names.map(|name| json!({"syscall": name}));
    let known: Vec<Value> = rules.filter(|rule| compile(std::slice::from_ref(rule)).is_ok()).collect();
    assert!(known.len() > 100);
    compile(&known).unwrap().remove("ringport").unwrap()
}

const CONFINED: &str = "RINGPORT_TEST_CONFINED";

/// Not a test: becomes ringport, under the profile. It is run by the test below.
#[test]
#[ignore = "it is the child of another test"]
fn confined_child() {
    let Ok(line) = std::env::var(CONFINED) else { return };
    let args: Vec<String> = serde_json::from_str(&line).unwrap();
    let profile = serde_json::from_str(&read(&deploy("base/seccomp/ringport.json"))).unwrap();
    seccompiler::apply_filter(&filter(&profile)).unwrap();
    let error = Command::new(env!("CARGO_BIN_EXE_ringport")).args(args).env_remove(CONFINED).exec();
    panic!("{error}");
}

/// Under exactly the capabilities and the profile of the DaemonSet, with nothing to write to but its log, the real
/// program serves a privileged port of an address that is on no interface, and relays.
#[test]
fn the_rights_of_the_daemon_set_are_enough() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can give up capabilities");
    }
    let Some(host) = crate::harness::netns::Host::new("node") else { return };
    let security = daemon_set()["spec"]["template"]["spec"]["containers"][0]["securityContext"].clone();
    assert_eq!(security["seccompProfile"]["localhostProfile"], "ringport.json");
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    let added = security["capabilities"]["add"].as_array().unwrap();
    let added = added.iter().map(|name| format!(",+{}", name.as_str().unwrap().to_lowercase()));
    let set = format!("-all{}", added.collect::<String>());

    let world = World::new();
    let ip = world.ip();
    let (target_port, listeners) = host.run(|| listen(&[ip]));
    let _pods: Vec<Pod> = listeners.into_iter().map(|listener| Pod::start(listener, named("pod"))).collect();
    let service = web(world.port(), target_port);
    let node = local(service.node_port);
    let mut service = service.yaml();
    service += "  externalIPs:\n  - 127.9.9.9\n";
    world.apply("service", &service);
    world.apply("pod", &manifest::pod("pod", "web", ip));

    let child = std::env::current_exe().unwrap();
    let child = child.to_str().unwrap();
    let ringport = host.run(|| {
        let through = ["setpriv", "--no-new-privs", "--bounding-set", &set, "--inh-caps", &set, child];
        let ringport =
            Ringport::spawn_confined(&world, &through, CONFINED, "cluster::deployed::confined_child");
        ringport.wait_ready();
        ringport
    });
    for to in [node, "127.9.9.9:80".parse().unwrap()] {
        assert_eq!(host.run(|| ask(to)).unwrap(), "pod", "{to}\n{}", ringport.log());
    }
    let status: BTreeMap<String, String> = ringport.status();
    assert_eq!(status["Seccomp"], "2", "it is confined");
    assert_eq!(status["CapEff"], "0000000000000400", "CAP_NET_BIND_SERVICE and nothing else");
    assert_eq!(status["NoNewPrivs"], "1");
    // A file that changes is seen, and a Service that goes is gone: what the watch of files needs is allowed, too.
    host.run(|| {
        world.apply("pod", &manifest::pod("pod", "other", ip));
        until("it has no endpoint", || (ask(node).is_err()).then_some(()));
    });
}

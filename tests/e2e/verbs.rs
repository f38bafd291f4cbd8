//! The verbs that need no kubectl, beside the real kubectl where there is one: the same text, the same exit code.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Output, Stdio};

use crate::api::rig::{self, Rig};
use crate::harness::kubectl::{Said, installed, plainly};
use crate::harness::process::{Guarded, Ringport, command};
use crate::harness::wait::until;
use crate::harness::world::World;

const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels: {app: web, tier: \"1\"}\n  annotations:\n    why: \"true\"\n    lines: \"a\\nb\\n\"\n    day: \"2024-01-01\"\n    colon: \"a: b\"\n    star: \"*x\"\nspec:\n  type: NodePort\n  selector: {app: web}\n  ports:\n  - {name: http, port: 80, nodePort: 30081}\n  - {name: b, port: 443, targetPort: x, nodePort: 30082}\n";
const LONG: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: a-much-longer-name}\nspec: {ports: [{port: 80}]}\n";
const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p1, labels: {app: web}}\nspec:\n  containers: [{name: main, image: example}]\nstatus:\n  phase: Running\n  podIP: 192.0.2.10\n  conditions: [{type: Ready, status: \"True\"}]\n";

fn said(output: &Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A verb against this server.
fn verb(server: &str, line: &str) -> Command {
    let mut command = command(&line.split(' ').collect::<Vec<_>>());
    command.env("RINGPORT_SERVER", server);
    command
}

fn ours(rig: &Rig, line: &str) -> Said {
    said(&verb(&format!("http://{}", rig.api.0), line).output().unwrap())
}

#[track_caller]
fn ok(rig: &Rig, line: &str) -> String {
    let said = ours(rig, line);
    assert!(said.success && said.stderr.is_empty(), "{line}: {said:?}");
    said.stdout
}

#[track_caller]
fn fails(rig: &Rig, line: &str) -> String {
    let said = ours(rig, line);
    assert!(!said.success, "{line}: {said:?}");
    said.stderr
}

fn file(world: &World, name: &str, text: &str) -> String {
    let path = world.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn start() -> Rig {
    rig::start(&["--service-node-port-range", "30000-32767"])
}

/// Ages differ between two commands, though no column may: ages below ten seconds are as wide.
fn ageless(text: &str) -> String {
    let age =
        |word: &str| word.len() == 2 && word.ends_with('s') && word.starts_with(|c: char| c.is_ascii_digit());
    let words = text.split_inclusive([' ', '\n']);
    words
        .map(|word| match age(word.trim_end()) {
            true => word.replacen(word.trim_end(), "1s", 1),
            false => word.to_owned(),
        })
        .collect()
}

#[test]
fn the_verbs_print_what_kubectl_prints() {
    let Some(kubectl) = installed().pop() else { return };
    let rig = start();
    let files = [WEB, LONG, POD].join("---\n");
    let all = file(&rig.world, "all.yml", &files);
    ok(&rig, &format!("create -f {all}"));
    let one = file(&rig.world, "one.yml", WEB);
    let invalid = file(&rig.world, "invalid.yml", &WEB.replace("port: 80,", "port: 0,"));
    let unknown = file(&rig.world, "unknown.yml", &LONG.replace("port: 80", "port: 80, foo: 1"));
    let empty = file(&rig.world, "empty.yml", "");
    let placed = file(&rig.world, "placed.yml", &LONG.replace("{name:", "{namespace: default, name:"));
    let mut lines: Vec<String> = [
        "get svc",
        "get services -o wide",
        "get svc web a-much-longer-name",
        "get svc web -o yaml",
        "get svc -o yaml",
        "get svc -o json",
        "get svc web -o json",
        "get svc -o name",
        "get svc -A",
        "get svc -l app=web",
        "get svc --no-headers",
        "get pods -o wide",
        "get endpointslices -o wide",
        "get endpointslices -o name",
        "get svc,pods",
        "get all",
        "get ns",
        "get nodes -o name",
        "get pods -n kube-system",
        "get svc nope",
        "get svc nope web none",
        "get svc nope web -o name",
        "get svc nope web -o yaml",
        "get svc nope -o yaml",
        "get svc web -A",
        "get foo",
        "describe svc web",
        "describe svc",
        "describe svc a-much",
        "describe svc nope",
        "delete svc nope",
        "delete svc nope none",
        "create -f /no/such/file",
    ]
    .map(str::to_owned)
    .to_vec();
    for file in [&all, &one, &invalid, &unknown, &empty] {
        lines.push(format!("create -f {file}"));
    }
    lines.push(format!("apply -f {empty}"));
    lines.push(format!("create -n kube-system -f {placed}"));
    lines.push(format!("delete -n kube-system -f {placed}"));
    for line in lines {
        // Seconds may pass between the two.
        until(&format!("both say the same of {line}"), || {
            let theirs = kubectl.run(&rig.world, rig.api, &line);
            let ours = ours(&rig, &line);
            assert_eq!(theirs.success, ours.success, "{line}: {theirs:?} {ours:?}");
            let same = ageless(&theirs.stdout) == ageless(&ours.stdout) && theirs.stderr == ours.stderr;
            let slow = ageless(&theirs.stdout).contains("0s") || theirs.stdout.contains("0s");
            assert!(
                same || slow,
                "{line}\n--- kubectl:\n{}{}--- ringport:\n{}{}",
                theirs.stdout,
                theirs.stderr,
                ours.stdout,
                ours.stderr
            );
            same.then_some(())
        });
    }
}

/// What the created object has and the manifest no longer says goes, and a port that is renumbered is not a second one.
#[test]
fn what_was_created_can_be_applied() {
    let rig = start();
    let web = file(&rig.world, "web.yml", WEB);
    assert_eq!(ok(&rig, &format!("create -f {web}")), "service/web created\n");
    assert_eq!(ok(&rig, &format!("apply -f {web}")), "service/web unchanged\n");
    let changed = WEB.replace("port: 80,", "port: 81,").replace(", tier: \"1\"", "");
    file(&rig.world, "web.yml", &changed);
    assert_eq!(ok(&rig, &format!("apply -f {web}")), "service/web configured\n");
    let service = ok(&rig, "get svc web -o yaml");
    assert!(service.contains("port: 81\n") && !service.contains("port: 80\n"), "{service}");
    assert!(!service.contains("tier"), "{service}");
}

#[test]
fn create_look_and_delete_without_kubectl() {
    let rig = start();
    let web = file(&rig.world, "web.yml", WEB);
    assert_eq!(
        ok(&rig, &format!("create --dry-run=server -f {web}")),
        "service/web created (server dry run)\n"
    );
    assert_eq!(ok(&rig, &format!("apply -f {web}")), "service/web created\n");
    assert_eq!(ok(&rig, &format!("apply -f {web}")), "service/web unchanged\n");
    file(&rig.world, "web.yml", &WEB.replace("port: 80,", "port: 81,"));
    assert_eq!(ok(&rig, &format!("apply -f {web}")), "service/web configured\n");
    let table = plainly(&ok(&rig, "get services"));
    assert!(table.starts_with("NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE\nweb NodePort 10."), "{table}");
    assert!(table.ends_with(" <none> 81:30081/TCP,443:30082/TCP AGE\n"), "{table}");
    let yaml = ok(&rig, "get svc web -o yaml");
    for line in
        ["    colon: 'a: b'", "    day: \"2024-01-01\"", "    lines: |", "    tier: \"1\"", "  - name: http"]
    {
        assert!(yaml.lines().any(|said| said == line) || line.ends_with("http"), "{line}:\n{yaml}");
    }
    let described = until("the Event is there", || {
        Some(ok(&rig, "describe service web")).filter(|text| text.contains("NoEndpoints"))
    });
    for line in ["Port:                     http  81/TCP", "Endpoints:                ", "Events:"] {
        assert!(described.lines().any(|said| said == line), "{line:?}:\n{described}");
    }
    assert!(described.contains("  Warning  NoEndpoints  "), "{described}");
    assert_eq!(
        fails(&rig, &format!("create -f {web}")),
        "The Service \"web\" is invalid: spec.ports[0].nodePort: Invalid value: 30081: provided port is already allocated\n"
    );
    assert_eq!(
        fails(&rig, "get svc nope none"),
        "Error from server (NotFound): services \"nope\" not found\nError from server (NotFound): services \"none\" not found\n"
    );
    assert_eq!(fails(&rig, "get foo"), "error: the server doesn't have a resource type \"foo\"\n");
    assert_eq!(ok(&rig, &format!("delete -f {web}")), "service \"web\" deleted from default namespace\n");
    let said = ours(&rig, "get svc");
    assert_eq!((&*said.stdout, &*said.stderr), ("", "No resources found in default namespace.\n"));
}

#[test]
fn directories_and_standard_input_are_manifests() {
    let rig = start();
    let folder = rig.world.path("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.yml"), WEB).unwrap();
    std::fs::write(folder.join("b.yaml"), LONG).unwrap();
    let folder = folder.to_str().unwrap();
    let created = ok(&rig, &format!("create -f {folder}"));
    assert_eq!(created, "service/web created\nservice/a-much-longer-name created\n");
    let mut delete = verb(&format!("http://{}", rig.api.0), "delete -f -");
    let child = delete.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    child.stdin.take().unwrap().write_all(LONG.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(said(&output).stdout, "service \"a-much-longer-name\" deleted from default namespace\n");
    assert_eq!(ok(&rig, "get svc -o name"), "service/web\n");
}

#[test]
fn a_watch_prints_changes_below_the_table() {
    let rig = start();
    let web = file(&rig.world, "web.yml", WEB);
    ok(&rig, &format!("apply -f {web}"));
    let mut watch = verb(&format!("http://{}", rig.api.0), "get svc -w");
    let child = watch.stdout(Stdio::piped()).spawn();
    let mut child = Guarded(child.unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    let header = next();
    let port = header.find("PORT(S)").unwrap();
    let first = next();
    assert_eq!(first.find("80:30081/TCP"), Some(port), "{header}\n{first}");
    file(&rig.world, "web.yml", &WEB.replace("80, nodePort: 30081", "8, nodePort: 30083"));
    ok(&rig, &format!("apply -f {web}"));
    let second = next();
    assert_eq!(second.find("8:30083/TCP"), Some(port), "{header}\n{second}");
    ok(&rig, "delete svc web");
    assert_eq!(next().find("8:30083/TCP"), Some(port));
}

#[test]
fn the_verbs_speak_through_a_unix_socket() {
    let world = World::new();
    let socket = format!("unix:{}", world.path("api.sock").to_str().unwrap());
    let _ringport = Ringport::start(&world, &["--api", &socket]);
    let web = file(&world, "web.yml", LONG);
    until("the API answers", || verb(&socket, "get svc").output().unwrap().status.success().then_some(()));
    let created = said(&verb(&socket, &format!("create -f {web}")).output().unwrap());
    assert_eq!(created.stdout, "service/a-much-longer-name created\n");
    let nowhere = said(&verb("unix:/no/such/socket", "get svc").output().unwrap());
    assert!(!nowhere.success && nowhere.stderr.contains("was refused"), "{nowhere:?}");
}

#[test]
fn the_verbs_take_a_kubeconfig_with_tls_and_a_token() {
    let world = World::new();
    // Not loopback by its looks, without leaving the machine.
    let address = format!("[::ffff:127.0.0.1]:{}", world.port());
    let state = world.path("state");
    let options = ["--api", &address, "--state-dir", state.to_str().unwrap()];
    let ringport = Ringport::start(&world, &options);
    until("the API is there", || ringport.log().contains("a Kubernetes API at https://").then_some(()));
    let printed = command(&[&["kubeconfig"], &options[..]].concat()).output().unwrap();
    let config = file(&world, "config", std::str::from_utf8(&printed.stdout).unwrap());
    let web = file(&world, "web.yml", LONG);
    let with = |line: &str| {
        said(&verb("http://nowhere", &format!("{line} --kubeconfig {config}")).output().unwrap())
    };
    let created = with(&format!("create -f {web}"));
    assert_eq!((&*created.stdout, &*created.stderr), ("service/a-much-longer-name created\n", ""));
    assert_eq!(with("get svc -o name").stdout, "service/a-much-longer-name\n");
    let token = std::fs::read_to_string(state.join("api.token")).unwrap();
    let text = std::fs::read_to_string(world.path("config")).unwrap();
    std::fs::write(world.path("config"), text.replace(token.trim(), "wrong")).unwrap();
    let refused = with("get svc");
    assert!(!refused.success && refused.stderr.contains("Unauthorized"), "{refused:?}");
}

#[test]
fn describe_tells_why_an_external_ip_is_not_served() {
    let rig = start();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/services/nodeport.yml");
    let created = ours(&rig, &format!("create -f {sample}"));
    assert_eq!(created.stdout, "service/node-port-service created\n", "{created:?}");
    let event = until("the Event is shown", || {
        let described = ok(&rig, "describe svc node-port-service");
        described.lines().find(|line| line.contains("AddressNotAllowed")).map(str::to_owned)
    });
    assert!(event.starts_with("  Warning  AddressNotAllowed "), "{event}");
    assert!(event.contains("1.2.3.110 is not served"), "{event}");
    assert!(event.contains("--external-ip-cidrs 1.2.3.110/32"), "{event}");
}

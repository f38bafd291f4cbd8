//! The watchers of kube-rs, which controllers are made of.

use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config};

use super::rig;
use crate::harness::wait::PATIENCE;

fn service(name: &str) -> Service {
    serde_json::from_str(&rig::plain(name)).unwrap()
}

async fn client(rig: &rig::Rig) -> Client {
    Client::try_from(Config::new(format!("http://{}", rig.api.0).parse().unwrap())).unwrap()
}

/// What a watcher says of a Service that comes, changes and goes, and of one that was there before.
async fn told(config: watcher::Config) -> Vec<String> {
    let rig = rig::start(&[]);
    let api: Api<Service> = Api::default_namespaced(client(&rig).await);
    api.create(&PostParams::default(), &service("before")).await.unwrap();
    let mut events = std::pin::pin!(watcher::watcher(api.clone(), config));
    let mut told = Vec::new();
    loop {
        let event = events.next().await.unwrap().unwrap();
        let name = |service: &Service| service.metadata.name.clone().unwrap_or_default();
        match &event {
            Event::Init => told.push("init".to_owned()),
            Event::InitApply(service) => told.push(format!("has {}", name(service))),
            Event::InitDone => {
                told.push("done".to_owned());
                api.create(&PostParams::default(), &service("later")).await.unwrap();
            }
            Event::Apply(changed) => {
                told.push(format!("apply {}", name(changed)));
                if changed.metadata.labels.as_ref().unwrap().contains_key("x") {
                    api.delete("later", &DeleteParams::default()).await.unwrap();
                } else {
                    let patch = Patch::Merge(serde_json::json!({"metadata": {"labels": {"x": "y"}}}));
                    api.patch("later", &PatchParams::default(), &patch).await.unwrap();
                }
            }
            Event::Delete(service) => {
                told.push(format!("delete {}", name(service)));
                return told;
            }
        }
    }
}

fn within_patience<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE.max(Duration::from_secs(1)), future).await.unwrap() })
}

const WANTED: [&str; 6] = ["init", "has before", "done", "apply later", "apply later", "delete later"];

#[test]
fn a_watcher_that_lists_and_watches() {
    assert_eq!(within_patience(told(watcher::Config::default())), WANTED);
}

#[test]
fn a_watcher_that_streams_its_list() {
    assert_eq!(within_patience(told(watcher::Config::default().streaming_lists())), WANTED);
}

#[test]
fn metadata_alone() {
    within_patience(async {
        let rig = rig::start(&[]);
        let client = client(&rig).await;
        let api: Api<Service> = Api::default_namespaced(client);
        api.create(&PostParams::default(), &service("web")).await.unwrap();
        let list = api.list_metadata(&Default::default()).await.unwrap();
        assert_eq!(list.items[0].metadata.name.as_deref(), Some("web"));
        assert_eq!(api.get_metadata("web").await.unwrap().metadata.name.as_deref(), Some("web"));
    });
}

//! `create`, `apply` and `delete`.

use hyper::Method;
use serde_json::{Value, json};

use super::api::{Api, Content, JSON};
use super::args::{Chosen, Files, Wanted};
use super::files::{self, Sendable};
use super::{Failure, print};
use crate::k8s::resource::{Info, Resource};

/// Who changes the fields, for managedFields.
const MANAGER: (&str, &str) = ("fieldManager", "ringport");
const STRICT: (&str, &str) = ("fieldValidation", "Strict");
const DRY_RUN: (&str, &str) = ("dryRun", "All");

pub(super) async fn create(api: &Api, files: &Files) -> Result<(), Failure> {
    each(&files::read(files, "create")?, async |object| {
        let created = post(api, object, files.dry_run).await?;
        tell(object.resource, &created, "created", files.dry_run)
    })
    .await
}

/// Server-side apply that takes over what other managers have set, as client-side apply does.
pub(super) async fn apply(api: &Api, files: &Files) -> Result<(), Failure> {
    each(&files::read(files, "apply")?, async |object| {
        let Some(name) = &object.manifest.name else {
            return Err(Failure::Said("error: cannot use generate name with apply".to_owned()));
        };
        let namespace = api.namespace_of(object.manifest.namespace.as_deref())?;
        let path = Api::path(object.resource, Some(namespace), Some(name));
        let before = match api.get(&path, &[], JSON).await {
            Ok(object) if files.dry_run => Some(object),
            Ok(object) => Some(own(api, &path, object).await?),
            Err(failure) if failure.is_not_found() => None,
            Err(failure) => return Err(failure),
        };
        let mut query = vec![MANAGER, STRICT, ("force", "true")];
        query.extend(files.dry_run.then_some(DRY_RUN));
        let content = Content { media: "application/apply-patch+yaml", text: &object.manifest.json };
        let after = api.call(Method::PATCH, &path, &query, JSON, Some(content)).await;
        let after =
            after.map_err(|failure| failure.when(format!("error when applying {:?}: ", object.file)))?;
        let outcome = match before {
            None => "created",
            Some(before) if says(&before) == says(&after) => "unchanged",
            Some(_) => "configured",
        };
        tell(object.resource, &after, outcome, files.dry_run)
    })
    .await
}

/// What `create` has set is from now on what `apply` has set: else the server would keep what a manifest no longer
/// says (as kubectl does when it goes from client-side to server-side apply, client-go util/csaupgrade).
async fn own(api: &Api, path: &str, object: Value) -> Result<Value, Failure> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let is = |entry: &Value, operation: &str| {
        entry["manager"] == MANAGER.1 && entry["operation"] == operation && entry.get("subresource").is_none()
    };
    let entries = entries.map_or(&[][..], Vec::as_slice);
    let Some(created) = entries.iter().position(|entry| is(entry, "Update")) else { return Ok(object) };
    if entries.iter().any(|entry| is(entry, "Apply")) {
        return Ok(object);
    }
    let patch = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": version(&object)},
        {"op": "replace", "path": format!("/metadata/managedFields/{created}/operation"), "value": "Apply"},
    ]);
    let content = Content { media: "application/json-patch+json", text: &patch.to_string() };
    api.call(Method::PATCH, path, &[MANAGER], JSON, Some(content)).await
}

pub(super) async fn delete(api: &Api, chosen: &Chosen) -> Result<(), Failure> {
    match chosen {
        Chosen::Files(files) => {
            each(&files::read(files, "delete")?, async |object| {
                let namespace = api.namespace_of(object.manifest.namespace.as_deref())?;
                let name = object.manifest.name.as_deref().unwrap_or_default();
                remove(api, object.resource, namespace, name)
                    .await
                    .map_err(|failure| failure.when(format!("error when deleting {:?}: ", object.file)))
            })
            .await
        }
        Chosen::Named(wanted) => {
            let mut names = Vec::new();
            for kind in &wanted.kinds {
                names.extend(named(api, *kind, wanted).await?.into_iter().map(|name| (*kind, name)));
            }
            if names.is_empty() {
                return print("No resources found\n");
            }
            each(&names, async |(kind, name)| remove(api, *kind, &api.namespace, name).await).await
        }
    }
}

/// Does something for each, as far as it goes: one that fails does not stop those that follow.
async fn each<T>(all: &[T], mut act: impl AsyncFnMut(&T) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for one in all {
        failed.extend(act(one).await.err());
    }
    Failure::all(failed)
}

async fn post(api: &Api, object: &Sendable, dry_run: bool) -> Result<Value, Failure> {
    let namespace = api.namespace_of(object.manifest.namespace.as_deref())?;
    let path = Api::path(object.resource, Some(namespace), None);
    let mut query = vec![MANAGER, STRICT];
    query.extend(dry_run.then_some(DRY_RUN));
    let content = Content { media: JSON, text: &object.manifest.json };
    let created = api.call(Method::POST, &path, &query, JSON, Some(content)).await;
    created.map_err(|failure| failure.when(format!("error when creating {:?}: ", object.file)))
}

/// The names to delete: those given, or all that have the labels.
async fn named(api: &Api, kind: Resource, wanted: &Wanted) -> Result<Vec<String>, Failure> {
    if !wanted.names.is_empty() {
        return Ok(wanted.names.clone());
    }
    let mut query = Vec::new();
    query.extend(wanted.labels.as_deref().map(|labels| ("labelSelector", labels)));
    query.extend(wanted.fields.as_deref().map(|fields| ("fieldSelector", fields)));
    let list = api.get(&Api::path(kind, Some(&api.namespace), None), &query, JSON).await?;
    let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
    Ok(items.map(|item| super::get::name(item).to_owned()).collect())
}

async fn remove(api: &Api, kind: Resource, namespace: &str, name: &str) -> Result<(), Failure> {
    let path = Api::path(kind, Some(namespace), Some(name));
    let options = r#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#;
    let content = Content { media: JSON, text: options };
    api.call(Method::DELETE, &path, &[], JSON, Some(content)).await?;
    let whence = if kind.info().namespaced { format!(" from {namespace} namespace") } else { String::new() };
    print(&format!("{} \"{name}\" deleted{whence}\n", typed(kind.info())))
}

fn tell(kind: Resource, object: &Value, outcome: &str, dry_run: bool) -> Result<(), Failure> {
    let dry = if dry_run { " (server dry run)" } else { "" };
    print(&format!("{}/{} {outcome}{dry}\n", typed(kind.info()), super::get::name(object)))
}

/// As in `service`, `endpointslice.discovery.k8s.io`.
pub(super) fn typed(info: &Info) -> String {
    match info.group {
        "" => info.singular.to_owned(),
        group => format!("{}.{group}", info.singular),
    }
}

/// What an object says, without who has set it and when.
fn says(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.remove("resourceVersion");
    }
    object
}

fn version(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("resourceVersion")?.as_str()
}

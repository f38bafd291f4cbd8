//! Changes: create, replace, patch, delete.
//!
//! What is read from the store and what is written back belong together: between them nothing waits, so no
//! other change comes between, and a patch never has to be tried again.

use std::rc::Rc;
use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::Asked;
use super::body;
use super::failure::{Failure, Subject};
use super::hub::Hub;
use super::list::documents;
use super::query::Validation;
use super::render::{Printer, seconds_since_1970};
use super::reply::{self, Reply};
use super::select::Select;
use crate::k8s::decode::request::Request;
use crate::k8s::field::FieldProblem;
use crate::k8s::patch::apply::{self, Manager};
use crate::k8s::resource::Resource;
use crate::limits;
use crate::store::registry::Document;
use crate::store::{Accepted, Part, Preconditions, Refusal};
use crate::types::NamespacedName;

/// A request to change something.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) hub: &'a Rc<Hub>,
    pub(super) asked: &'a Asked,
    pub(super) target: Target,
    /// How the answer is written; known before anything is changed.
    pub(super) printer: Printer,
}

/// What is to be changed: an object, or with an empty name a collection.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) resource: Resource,
    pub(super) key: NamespacedName,
    pub(super) status: bool,
}

/// A change that was made, or would be.
pub(super) struct Made {
    pub(super) accepted: Accepted,
    pub(super) strict: Vec<String>,
    pub(super) created: bool,
}

impl Change<'_> {
    pub(super) async fn create(self, body: &[u8]) -> Result<Response<Reply>, Failure> {
        const OPTIONS: &str = "CreateOptions";
        let dry_run = self.asked.query.dry_run(OPTIONS)?;
        let mut request = self.read(OPTIONS, body)?;
        self.place(&mut request.object)?;
        self.track(None, &mut request.object);
        let name = name_of(&request.object).to_owned();
        let accepted = self.store_new(&name, request.object, dry_run)?;
        self.finish(Made { accepted, strict: request.strict, created: true }, dry_run).await
    }

    pub(super) async fn replace(self, body: &[u8]) -> Result<Response<Reply>, Failure> {
        const OPTIONS: &str = "UpdateOptions";
        let dry_run = self.asked.query.dry_run(OPTIONS)?;
        let mut request = self.read(OPTIONS, body)?;
        self.place(&mut request.object)?;
        let base = self.found();
        self.track(base.as_deref(), &mut request.object);
        let made = match base {
            None if !self.target.creates_on_put() => return Err(self.refuse(Refusal::NotFound)),
            None => {
                let accepted = self.store_new(&self.target.key.name, request.object, dry_run)?;
                Made { accepted, strict: request.strict, created: true }
            }
            Some(_) => {
                let accepted = self.store_over(request.object, dry_run)?;
                Made { accepted, strict: request.strict, created: false }
            }
        };
        self.finish(made, dry_run).await
    }

    pub(super) async fn patch(self, body: &[u8]) -> Result<Response<Reply>, Failure> {
        let dry_run = self.asked.query.dry_run("PatchOptions")?;
        let made = self.patched(body, dry_run)?;
        self.finish(made, dry_run).await
    }

    pub(super) async fn delete(self, body: &[u8]) -> Result<Response<Reply>, Failure> {
        let (dry_run, preconditions) = self.delete_options(body)?;
        let Target { resource, key, .. } = &self.target;
        let deleted = self.hub.write(|store| store.delete(*resource, key, &preconditions, dry_run));
        let last = deleted.map_err(|refusal| self.refuse(refusal))?;
        self.in_force(dry_run).await;
        // These kinds have nothing left to say; the others answer with their last state.
        let as_status = matches!(
            resource,
            Resource::EndpointSlices | Resource::Endpoints | Resource::Nodes | Resource::Events
        );
        let text = if as_status {
            reply::print(&success(&last), self.printer.pretty)
        } else {
            self.printer.object(&last)
        };
        Ok(reply::json(StatusCode::OK, text))
    }

    /// Deletes what a selector means. Others get their turn in between, so it is no transaction, as with the
    /// API server.
    pub(super) async fn delete_all(self, body: &[u8]) -> Result<Response<Reply>, Failure> {
        let (dry_run, preconditions) = self.delete_options(body)?;
        let resource = self.target.resource;
        let select = Select::parse(resource, &self.asked.query)?;
        let namespace = Some(&*self.target.key.namespace).filter(|namespace| !namespace.is_empty());
        let all = documents(self.hub, resource, namespace);
        let mut items = Vec::new();
        for document in all.iter().filter(|document| select.matches(document)) {
            let deleted =
                self.hub.write(|store| store.delete(resource, &document.key, &preconditions, dry_run));
            match deleted {
                Ok(last) => items.push(self.printer.item(&last)),
                // Somebody else was faster.
                Err(Refusal::NotFound) => {}
                Err(refusal) => {
                    return Err(Failure::refused(Subject { resource, name: &document.key.name }, refusal));
                }
            }
            tokio::task::yield_now().await;
        }
        self.in_force(dry_run).await;
        let (head, tail) = self.printer.frame(resource, self.hub.read(|store| store.version()));
        Ok(reply::json(StatusCode::OK, format!("{head}{}{tail}", items.join(","))))
    }

    // === Steps ===

    /// The object of the body.
    fn read(&self, options: &'static str, body: &[u8]) -> Result<Request, Failure> {
        let validation = self.asked.query.validation(options)?;
        let mut request = body::object(self.target.resource, &self.asked.content_type, body)?;
        match validation {
            Validation::Strict => {
                if let Some(unreadable) = request.refusal(self.target.resource) {
                    return Err(Failure::bad_request(unreadable.0));
                }
            }
            Validation::Ignore => request.strict.clear(),
            Validation::Warn => {}
        }
        Ok(request)
    }

    /// Makes sure that the object is the one that the path names, and gives it what it leaves out.
    pub(super) fn place(&self, object: &mut Value) -> Result<(), Failure> {
        let NamespacedName { namespace, name } = &self.target.key;
        let Some(object) = object.as_object_mut() else {
            return Err(Failure::bad_request("the body is not an object"));
        };
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        let Some(metadata) = metadata.as_object_mut() else {
            return Err(Failure::bad_request("metadata is not an object"));
        };
        let given = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
        let (own_namespace, own_name) = (given("namespace"), given("name"));
        if !own_namespace.is_empty() && own_namespace != &**namespace {
            return Err(Failure::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if !name.is_empty() && !own_name.is_empty() && own_name != &**name {
            return Err(Failure::bad_request(format!(
                "the name of the object ({own_name}) does not match the name on the URL ({name})"
            )));
        }
        for (key, value) in [("namespace", namespace), ("name", name)] {
            if !value.is_empty() {
                metadata.insert(key.to_owned(), (**value).into());
            }
        }
        Ok(())
    }

    pub(super) fn found(&self) -> Option<Arc<Document>> {
        self.hub.read(|store| store.get(self.target.resource, &self.target.key))
    }

    /// Creates an object. `name` is for messages; the object may want one made.
    pub(super) fn store_new(&self, name: &str, object: Value, dry_run: bool) -> Result<Accepted, Failure> {
        let resource = self.target.resource;
        let created = self.hub.write(|store| store.create(resource, object, dry_run));
        created.map_err(|refusal| Failure::refused(Subject { resource, name }, refusal))
    }

    /// Writes over an object that is there.
    pub(super) fn store_over(&self, object: Value, dry_run: bool) -> Result<Accepted, Failure> {
        let Target { resource, key, .. } = &self.target;
        let part = self.target.part();
        let updated = self.hub.write(|store| store.update(*resource, key, part, object, dry_run));
        updated.map_err(|refusal| self.refuse(refusal))
    }

    /// Notes in `after` which fields this client has changed.
    pub(super) fn track(&self, before: Option<&Document>, after: &mut Value) {
        let before = before.map(Document::value);
        self.as_manager(|manager| apply::track(self.target.resource, before.as_ref(), after, manager));
    }

    /// As whom this client owns fields.
    pub(super) fn as_manager<T>(&self, act: impl FnOnce(&Manager<'_>) -> T) -> T {
        let now = i64::try_from(seconds_since_1970()).unwrap_or_default();
        let now = jiff::Timestamp::from_second(now).unwrap_or_default().to_string();
        let subresource = if self.target.status { "status" } else { "" };
        act(&Manager { name: &self.asked.manager(), subresource, now: &now })
    }

    pub(super) fn refuse(&self, refusal: Refusal) -> Failure {
        Failure::refused(Subject { resource: self.target.resource, name: &self.target.key.name }, refusal)
    }

    async fn finish(self, made: Made, dry_run: bool) -> Result<Response<Reply>, Failure> {
        self.in_force(dry_run).await;
        let status = if made.created { StatusCode::CREATED } else { StatusCode::OK };
        let mut response = reply::json(status, self.printer.object(&made.accepted.document));
        reply::warn(&mut response, &made.strict);
        reply::warn(&mut response, &made.accepted.warnings);
        Ok(response)
    }

    /// Whoever has the answer finds the change in force.
    async fn in_force(&self, dry_run: bool) {
        if !dry_run {
            let version = self.hub.read(|store| store.version());
            self.hub.in_force(version, limits::API_IN_FORCE_TIME).await;
        }
    }

    /// `dryRun` and the preconditions, from the query and the body.
    fn delete_options(&self, body: &[u8]) -> Result<(bool, Preconditions), Failure> {
        const OPTIONS: &str = "DeleteOptions";
        let given = body::delete_options(&self.asked.content_type, body)?;
        let mut dry_run = self.asked.query.dry_run(OPTIONS)?;
        for wanted in given.get("dryRun").and_then(Value::as_array).into_iter().flatten() {
            match wanted.as_str() {
                Some("All") => dry_run = true,
                other => {
                    let problem = FieldProblem::unsupported("dryRun", other.unwrap_or_default(), &["All"]);
                    return Err(Failure::invalid_other(OPTIONS, "meta.k8s.io", &[problem]));
                }
            }
        }
        let precondition =
            |key: &str| given.pointer(&format!("/preconditions/{key}")).and_then(Value::as_str);
        let version = precondition("resourceVersion").map(str::parse).transpose();
        let version =
            version.map_err(|_| Failure::bad_request("preconditions.resourceVersion must be a number"))?;
        Ok((dry_run, Preconditions { uid: precondition("uid").map(str::to_owned), version }))
    }
}

impl Target {
    pub(super) fn part(&self) -> Part {
        if self.status { Part::Status } else { Part::Main }
    }

    /// Whether PUT creates what is not there: the kinds whose strategy says AllowCreateOnUpdate.
    fn creates_on_put(&self) -> bool {
        matches!(self.resource, Resource::Services | Resource::Endpoints | Resource::Events) && !self.status
    }
}

fn name_of(object: &Value) -> &str {
    let metadata = |key: &str| object.pointer(&format!("/metadata/{key}")).and_then(Value::as_str);
    metadata("name").filter(|name| !name.is_empty()).or_else(|| metadata("generateName")).unwrap_or_default()
}

/// The `Status` that tells of a deletion.
fn success(document: &Document) -> Value {
    let info = document.resource.info();
    let mut details = json!({"name": &*document.key.name});
    if let Some(map) = details.as_object_mut() {
        if !info.group.is_empty() {
            map.insert("group".to_owned(), info.group.into());
        }
        map.insert("kind".to_owned(), info.plural.into());
        map.insert("uid".to_owned(), (*document.uid).into());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

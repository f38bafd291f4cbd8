//! From a request to its answer: who asks, for what, in which form.

use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::access::Access;
use super::change::{Change, Target};
use super::failure::{Failure, Subject};
use super::hub::Hub;
use super::path::{Route, route};
use super::query::Query;
use super::render::Printer;
use super::reply::{self, Reply};
use super::{body, discovery, list, media, watch};
use crate::k8s::resource::Resource;
use crate::limits;
use crate::types::NamespacedName;

/// All that requests are answered from.
#[derive(Debug)]
pub(super) struct Api {
    hub: Rc<Hub>,
    access: Access,
    /// Its own address, as the old discovery tells it.
    address: String,
    watches: Arc<Semaphore>,
    large_bodies: Semaphore,
}

/// A request, apart from its body.
#[derive(Debug)]
pub(super) struct Asked {
    method: Method,
    pub(super) query: Query,
    accept: Option<String>,
    pub(super) content_type: String,
    user_agent: String,
    pretty: bool,
}

impl Api {
    pub(super) fn new(hub: Rc<Hub>, access: Access, address: String) -> Self {
        let watches = Arc::new(Semaphore::new(limits::API_WATCHES));
        Self { hub, access, address, watches, large_bodies: Semaphore::new(limits::API_LARGE_BODIES) }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Reply> {
        let (parts, body) = request.into_parts();
        let answer = match self.access.check(&parts.headers) {
            Ok(()) => self.serve(&parts, body).await,
            Err(failure) => Err(failure),
        };
        let answer = answer.unwrap_or_else(|failure| reply::failure(&failure));
        self.hub.answered(answer.status().as_u16());
        answer
    }

    async fn serve(&self, parts: &Parts, body: Incoming) -> Result<Response<Reply>, Failure> {
        let asked = Asked::new(parts);
        let page = |value: Value| Ok(reply::json(StatusCode::OK, reply::print(&value, asked.pretty)));
        let route = route(parts.uri.path());
        match route {
            Route::Collection { resource, namespace } => {
                self.collection(&asked, resource, namespace, body).await
            }
            Route::Object { resource, key, status } => self.object(&asked, resource, key, status, body).await,
            Route::UnknownResource => Err(Failure::no_such_resource()),
            Route::Nowhere => Ok(text(StatusCode::NOT_FOUND, "404 page not found\n")),
            _ if asked.method != Method::GET => Err(Failure::method_not_allowed()),
            Route::Version => page(discovery::version()),
            Route::Health => Ok(text(StatusCode::OK, "ok")),
            Route::Groups { core } => Ok(self.groups(&asked, core)),
            Route::Group => page(discovery::group()),
            Route::Kinds { group } => page(discovery::kinds(group)),
            Route::OpenApi => page(discovery::openapi_index()),
            Route::OpenApiOf { group } => page(discovery::openapi(group)),
        }
    }

    fn groups(&self, asked: &Asked, core: bool) -> Response<Reply> {
        let (tree, content_type) = match media::discovery(asked.accept.as_deref()) {
            Some("v2") => (discovery::aggregated(core, "v2"), DISCOVERY_V2),
            Some(version) => (discovery::aggregated(core, version), DISCOVERY_V2BETA1),
            None if core => (discovery::core_versions(&self.address), "application/json"),
            None => (discovery::groups(), "application/json"),
        };
        reply::typed(StatusCode::OK, content_type, reply::print(&tree, asked.pretty))
    }

    async fn collection(
        &self,
        asked: &Asked,
        resource: Resource,
        namespace: Option<String>,
        body: Incoming,
    ) -> Result<Response<Reply>, Failure> {
        let in_place = namespace.is_some() || !resource.info().namespaced;
        match asked.method {
            Method::GET if asked.query.flag("watch") => {
                let printer = asked.printer(false)?;
                watch::watch(&self.hub, &self.watches, resource, namespace.as_deref(), &asked.query, printer)
            }
            Method::GET => {
                let printer = asked.printer(true)?;
                list::list(&self.hub, resource, namespace.as_deref(), &asked.query, printer)
            }
            Method::POST if in_place => {
                let key = NamespacedName::new(namespace.unwrap_or_default(), "");
                let body = body::read(body, &self.large_bodies).await?;
                self.change(asked, resource, key, false, false)?.create(&body).await
            }
            Method::DELETE if in_place && discovery::deletes_collections(resource) => {
                let key = NamespacedName::new(namespace.unwrap_or_default(), "");
                let body = body::read(body, &self.large_bodies).await?;
                self.change(asked, resource, key, false, true)?.delete_all(&body).await
            }
            _ => Err(Failure::method_not_allowed()),
        }
    }

    async fn object(
        &self,
        asked: &Asked,
        resource: Resource,
        key: NamespacedName,
        status: bool,
        body: Incoming,
    ) -> Result<Response<Reply>, Failure> {
        match asked.method {
            Method::GET => {
                let printer = asked.printer(false)?;
                let found = self.hub.read(|store| store.get(resource, &key));
                let document =
                    found.ok_or_else(|| Failure::not_found(Subject { resource, name: &key.name }))?;
                Ok(reply::json(StatusCode::OK, printer.object(&document)))
            }
            Method::PUT => {
                let body = body::read(body, &self.large_bodies).await?;
                self.change(asked, resource, key, status, false)?.replace(&body).await
            }
            Method::PATCH => {
                let body = body::read(body, &self.large_bodies).await?;
                self.change(asked, resource, key, status, false)?.patch(&body).await
            }
            Method::DELETE if !status => {
                let body = body::read(body, &self.large_bodies).await?;
                self.change(asked, resource, key, status, false)?.delete(&body).await
            }
            _ => Err(Failure::method_not_allowed()),
        }
    }

    fn change<'a>(
        &'a self,
        asked: &'a Asked,
        resource: Resource,
        key: NamespacedName,
        status: bool,
        list: bool,
    ) -> Result<Change<'a>, Failure> {
        let printer = asked.printer(list)?;
        Ok(Change { hub: &self.hub, asked, target: Target { resource, key, status }, printer })
    }
}

impl Asked {
    fn new(parts: &Parts) -> Self {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let user_agent = header(USER_AGENT).unwrap_or_default().to_owned();
        // For people who look with their own eyes the API server prints over several lines.
        let person = ["curl", "Wget", "Mozilla/5.0"].iter().any(|start| user_agent.starts_with(start));
        Self {
            method: parts.method.clone(),
            pretty: if query.get("pretty").is_some() { query.flag("pretty") } else { person },
            query,
            accept: header(ACCEPT).map(str::to_owned),
            content_type: media::content_type(header(CONTENT_TYPE)),
            user_agent,
        }
    }

    /// The form of the answer.
    pub(super) fn printer(&self, list: bool) -> Result<Printer, Failure> {
        Printer::new(media::form(self.accept.as_deref(), list)?, &self.query, self.pretty)
    }

    /// Who a change is by (`fieldManager`): without a name, the program that asks.
    pub(super) fn manager(&self) -> String {
        let given = self.query.get("fieldManager").map(str::to_owned);
        given.unwrap_or_else(|| {
            let program = self.user_agent.split('/').next().unwrap_or_default();
            let name: String = program.chars().take(128).collect();
            if name.is_empty() { "unknown".to_owned() } else { name }
        })
    }
}

const DISCOVERY_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const DISCOVERY_V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

fn text(status: StatusCode, text: &'static str) -> Response<Reply> {
    reply::typed(status, "text/plain; charset=utf-8", text)
}

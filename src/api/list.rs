//! Lists: as they are now, in pieces, so that a long one neither fills the memory nor holds up the thread.

use std::rc::Rc;
use std::sync::Arc;

use hyper::Response;
use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::failure::Failure;
use super::hub::Hub;
use super::query::Query;
use super::render::Printer;
use super::reply::{self, Reply};
use super::select::Select;
use crate::k8s::resource::Resource;
use crate::limits;
use crate::store::registry::Document;

/// `GET` of a collection, without `watch`.
pub(super) fn list(
    hub: &Rc<Hub>,
    resource: Resource,
    namespace: Option<&str>,
    query: &Query,
    printer: Printer,
) -> Result<Response<Reply>, Failure> {
    let select = Select::parse(resource, query)?;
    let version = hub.read(|store| store.version());
    check_version(query, version)?;
    let all = documents(hub, resource, namespace);
    let (head, tail) = printer.frame(resource, version);
    if printer.pretty && all.len() <= limits::API_LIST_PIECE {
        let items: Vec<String> =
            all.iter().filter(|document| select.matches(document)).map(|d| printer.item(d)).collect();
        let text = format!("{head}{}{tail}", items.join(","));
        let text = serde_json::from_str(&text).map_or(text, |tree| reply::print(&tree, true));
        return Ok(reply::json(hyper::StatusCode::OK, text));
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_local(write(sender, all, select, printer, head, tail));
    Ok(reply::pieces(receiver))
}

/// The objects of a collection.
pub(super) fn documents(hub: &Hub, resource: Resource, namespace: Option<&str>) -> Vec<Arc<Document>> {
    hub.read(|store| store.list(resource, namespace).cloned().collect())
}

/// Any version up to the present one is answered with the present one.
fn check_version(query: &Query, current: u64) -> Result<(), Failure> {
    if query.get("continue").is_some() {
        return Err(Failure::expired(
            "The provided continue parameter is too old or was not given by this server",
        ));
    }
    match query.version()? {
        Some(wanted) if wanted > current => Err(Failure::too_new(wanted, current)),
        Some(wanted) if wanted < current && query.get("resourceVersionMatch") == Some("Exact") => {
            Err(Failure::expired(format!("The provided resource version {wanted} is no longer known")))
        }
        _ => Ok(()),
    }
}

async fn write(
    sender: mpsc::Sender<Bytes>,
    all: Vec<Arc<Document>>,
    select: Select,
    printer: Printer,
    head: String,
    tail: &'static str,
) {
    let mut piece = head;
    let mut first = true;
    for some in all.chunks(limits::API_LIST_PIECE) {
        for document in some.iter().filter(|document| select.matches(document)) {
            if !std::mem::take(&mut first) {
                piece.push(',');
            }
            piece.push_str(&printer.item(document));
        }
        // The next piece is made when this one is on its way: other tasks get their turn.
        if !piece.is_empty() && sender.send(Bytes::from(std::mem::take(&mut piece))).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    piece.push_str(tail);
    let _ = sender.send(Bytes::from(piece)).await;
}

//! `get`: objects as a table, as YAML or JSON, or by name; and what changes.

use serde_json::{Value, json};

use super::api::{Api, JSON, TABLE};
use super::args::{Get, Output};
use super::tabs;
use super::write::typed;
use super::{Failure, print};
use crate::k8s::resource::Resource;

pub(super) async fn get(api: &Api, get: &Get) -> Result<(), Failure> {
    match get.output {
        Output::Table | Output::Wide => print_tables(api, get).await,
        _ => print_objects(api, get).await,
    }
}

/// `metadata.name`
pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

// === requests ===

/// One request: its path and what is asked for.
type Part<'a> = (Resource, String, Vec<(&'a str, &'a str)>);

/// The requests that a command line comes to: a list of each kind, or one for each name.
pub(super) fn parts<'a>(api: &Api, get: &'a super::args::Wanted) -> Vec<Part<'a>> {
    let namespace = (!get.everywhere).then_some(api.namespace.as_str());
    let mut query = Vec::new();
    query.extend(get.labels.as_deref().map(|labels| ("labelSelector", labels)));
    query.extend(get.fields.as_deref().map(|fields| ("fieldSelector", fields)));
    let mut parts = Vec::new();
    for &kind in &get.kinds {
        if get.names.is_empty() {
            parts.push((kind, Api::path(kind, namespace, None), query.clone()));
        }
        for name in &get.names {
            parts.push((kind, Api::path(kind, Some(&api.namespace), Some(name)), Vec::new()));
        }
    }
    parts
}

/// The watch that follows a list or one object, which was at `version`.
async fn follow(
    api: &Api,
    get: &Get,
    part: &Part<'_>,
    version: &str,
    accept: &str,
    mut on_object: impl FnMut(Value) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (kind, _, query) = part;
    let namespace = (!get.wanted.everywhere).then_some(api.namespace.as_str());
    let path = Api::path(*kind, namespace, None);
    let fields = get.wanted.names.first().map(|name| format!("metadata.name={name}"));
    let mut query = query.clone();
    query.extend([("watch", "true"), ("resourceVersion", version)]);
    query.extend(fields.as_deref().map(|fields| ("fieldSelector", fields)));
    api.watch(&path, &query, accept, |event, object| match event {
        "BOOKMARK" => Ok(()),
        _ => on_object(object),
    })
    .await
}

fn may_watch(get: &Get) -> Result<(), Failure> {
    let one = get.wanted.kinds.len() == 1 && get.wanted.names.len() <= 1;
    match get.watch && !one {
        true => Err(Failure::Said(
            "error: you may only specify a single resource type or name with --watch".into(),
        )),
        false => Ok(()),
    }
}

// === tables ===

async fn print_tables(api: &Api, get: &Get) -> Result<(), Failure> {
    may_watch(get)?;
    let several = get.wanted.kinds.len() > 1;
    let mut failed = None;
    let mut printed = false;
    let mut same_kind: Option<(Resource, Printer)> = None;
    for part in &parts(api, &get.wanted) {
        let table = match api.get(&part.1, &part.2, TABLE).await {
            Ok(table) => table,
            Err(failure) => {
                if let Some(earlier) = failed.replace(failure) {
                    super::super::print_error(&format!("{earlier}\n"));
                }
                continue;
            }
        };
        let rows = rows(&table);
        if rows.is_empty() && !get.watch {
            continue;
        }
        let (kind, mut printer) = match same_kind.take() {
            Some((kind, printer)) if kind == part.0 => (kind, printer),
            _ => {
                if printed {
                    print("\n")?;
                }
                (part.0, Printer::new(get, several.then_some(part.0)))
            }
        };
        printer.print(&table)?;
        printed |= !rows.is_empty();
        if get.watch {
            let version = text(&table, "/metadata/resourceVersion").to_owned();
            follow(api, get, part, &version, TABLE, |table| printer.print(&table)).await?;
        }
        same_kind = Some((kind, printer));
    }
    if !printed && failed.is_none() && !get.watch {
        super::super::print_error(&nothing(api, get));
    }
    failed.map_or(Ok(()), Err)
}

fn nothing(api: &Api, get: &Get) -> String {
    let namespaced = get.wanted.kinds.iter().any(|kind| kind.info().namespaced);
    match namespaced && !get.wanted.everywhere {
        true => format!("No resources found in {} namespace.\n", api.namespace),
        false => "No resources found\n".to_owned(),
    }
}

fn rows(table: &Value) -> &[Value] {
    table.get("rows").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Prints tables one below the other under one header.
struct Printer {
    wide: bool,
    header: bool,
    namespaces: bool,
    /// Names are printed with it, where there are several kinds.
    kind: Option<Resource>,
    /// Which columns; servers send them with the first table of a watch only.
    shown: Vec<(usize, String)>,
}

impl Printer {
    fn new(get: &Get, kind: Option<Resource>) -> Self {
        Self {
            wide: get.output == Output::Wide,
            header: get.headers,
            namespaces: get.wanted.everywhere,
            kind,
            shown: Vec::new(),
        }
    }

    fn print(&mut self, table: &Value) -> Result<(), Failure> {
        let columns = table.get("columnDefinitions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if !columns.is_empty() {
            let priority = |column: &Value| column.get("priority").and_then(Value::as_u64).unwrap_or(0);
            let shown = columns.iter().enumerate().filter(|(_, column)| self.wide || priority(column) == 0);
            self.shown = shown.map(|(index, column)| (index, text(column, "/name").to_uppercase())).collect();
        }
        let mut lines = Vec::new();
        if self.header && !rows(table).is_empty() {
            self.header = false;
            let namespace = self.namespaces.then(|| "NAMESPACE".to_owned());
            lines
                .push(namespace.into_iter().chain(self.shown.iter().map(|(_, name)| name.clone())).collect());
        }
        lines.extend(rows(table).iter().map(|row| self.line(row)));
        print(&tabs::TABLE.align(&lines))
    }

    fn line(&self, row: &Value) -> Vec<String> {
        let cells = row.get("cells").and_then(Value::as_array);
        let namespace = self.namespaces.then(|| text(row, "/object/metadata/namespace").to_owned());
        let shown = self.shown.iter().enumerate().map(|(position, (index, _))| {
            let cell = match cells.and_then(|cells| cells.get(*index)) {
                Some(Value::String(text)) => text.clone(),
                None | Some(Value::Null) => "<none>".to_owned(),
                Some(other) => other.to_string(),
            };
            match self.kind {
                Some(kind) if position == 0 => format!("{}/{cell}", typed(kind.info())),
                _ => cell,
            }
        });
        namespace.into_iter().chain(shown).collect()
    }
}

// === objects ===

async fn print_objects(api: &Api, get: &Get) -> Result<(), Failure> {
    may_watch(get)?;
    let mut objects = Vec::new();
    let parts = parts(api, &get.wanted);
    let mut version = String::new();
    for (kind, path, query) in &parts {
        let object = api.get(path, query, JSON).await?;
        version = text(&object, "/metadata/resourceVersion").to_owned();
        match object.get("items").and_then(Value::as_array) {
            // The items of a list do not say what they are.
            Some(items) => objects.extend(items.iter().cloned().map(|item| typed_item(*kind, item))),
            None => objects.push(object),
        }
    }
    if get.watch {
        objects.iter().try_for_each(|object| print(&render(get.output, object)))?;
        let Some(part) = parts.first() else { return Ok(()) };
        return follow(api, get, part, &version, JSON, |object| print(&render(get.output, &object))).await;
    }
    let single = get.wanted.names.len() == 1 && get.wanted.kinds.len() == 1;
    match (get.output, objects.as_slice()) {
        (Output::Name, objects) => objects.iter().try_for_each(|object| print(&render(Output::Name, object))),
        (output, [one]) if single => print(&render(output, one)),
        (output, objects) => {
            let items: Vec<Value> = objects.iter().cloned().map(without_managed_fields).collect();
            let list = json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}});
            print(&render(output, &list))
        }
    }
}

fn typed_item(kind: Resource, mut item: Value) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.entry("kind").or_insert_with(|| kind.info().kind.into());
        fields.entry("apiVersion").or_insert_with(|| kind.info().api_version().into());
    }
    item
}

/// They are for servers.
fn without_managed_fields(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

fn render(output: Output, object: &Value) -> String {
    let object = without_managed_fields(object.clone());
    match output {
        Output::Name => {
            let kind = text(&object, "/kind").to_lowercase();
            let group = text(&object, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}\n", name(&object))
        }
        Output::Json => {
            let mut bytes = Vec::new();
            let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut writer = serde_json::Serializer::with_formatter(&mut bytes, format);
            // A tree of JSON can always be written.
            let _ = serde::Serialize::serialize(&object, &mut writer);
            format!("{}\n", String::from_utf8_lossy(&bytes))
        }
        _ => serde_yaml::to_string(&object).unwrap_or_else(|error| format!("error: {error}\n")),
    }
}

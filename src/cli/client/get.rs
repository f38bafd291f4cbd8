//! `get`: objects as a table, as YAML or JSON, or by name; and what changes.

use serde_json::{Value, json};

use super::api::{Api, JSON, TABLE};
use super::args::{Get, Output};
use super::write::typed;
use super::{Failure, print, yaml};
use crate::k8s::resource::Resource;
use crate::k8s::table::{Tabs, written};

pub(super) async fn get(api: &Api, get: &Get) -> Result<(), Failure> {
    if get.wanted.everywhere && !get.wanted.names.is_empty() {
        let text = "error: a resource cannot be retrieved by name across all namespaces";
        return Err(Failure::Said(text.to_owned()));
    }
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
    let mut failed = Vec::new();
    let mut printers: Vec<(Resource, Printer)> = Vec::new();
    for part in &parts(api, &get.wanted) {
        let table = match api.get(&part.1, &part.2, TABLE).await {
            Ok(table) => table,
            Err(failure) => {
                failed.push(failure);
                continue;
            }
        };
        if printers.last().is_none_or(|(kind, _)| *kind != part.0) {
            printers.push((part.0, Printer::new(get, several.then_some(part.0))));
        }
        let Some((_, printer)) = printers.last_mut() else { continue };
        printer.add(&table);
        if get.watch {
            print(&printer.take())?;
            let version = text(&table, "/metadata/resourceVersion").to_owned();
            follow(api, get, part, &version, TABLE, |table| {
                printer.add(&table);
                print(&printer.take())
            })
            .await?;
        }
    }
    let tables = printers.iter_mut().map(|(_, printer)| printer.take());
    let tables: Vec<String> = tables.filter(|table| !table.is_empty()).collect();
    print(&tables.join("\n"))?;
    if tables.is_empty() && failed.is_empty() && !get.watch {
        super::super::print_error(&nothing(api, get));
    }
    Failure::all(failed)
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
    /// Lines that are not printed yet.
    lines: Vec<Vec<String>>,
    /// Of the columns so far, so that what comes later stands below.
    widths: Vec<usize>,
}

impl Printer {
    fn new(get: &Get, kind: Option<Resource>) -> Self {
        Self {
            wide: get.output == Output::Wide,
            header: get.headers,
            namespaces: get.wanted.everywhere,
            kind,
            shown: Vec::new(),
            lines: Vec::new(),
            widths: Vec::new(),
        }
    }

    fn add(&mut self, table: &Value) {
        let columns = table.get("columnDefinitions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if !columns.is_empty() {
            let priority = |column: &Value| column.get("priority").and_then(Value::as_u64).unwrap_or(0);
            let shown = columns.iter().enumerate().filter(|(_, column)| self.wide || priority(column) == 0);
            self.shown = shown.map(|(index, column)| (index, text(column, "/name").to_uppercase())).collect();
        }
        if self.header && !rows(table).is_empty() {
            self.header = false;
            let namespace = self.namespaces.then(|| "NAMESPACE".to_owned());
            let names = self.shown.iter().map(|(_, name)| name.clone());
            self.lines.push(namespace.into_iter().chain(names).collect());
        }
        let lines: Vec<_> = rows(table).iter().map(|row| self.line(row)).collect();
        self.lines.extend(lines);
    }

    /// The text of what was added since the last time.
    fn take(&mut self) -> String {
        Tabs::TABLE.align_as_before(&std::mem::take(&mut self.lines), &mut self.widths)
    }

    fn line(&self, row: &Value) -> Vec<String> {
        let cells = row.get("cells").and_then(Value::as_array);
        let namespace = self.namespaces.then(|| text(row, "/object/metadata/namespace").to_owned());
        let shown = self.shown.iter().enumerate().map(|(position, (index, _))| {
            let cell = written(cells.and_then(|cells| cells.get(*index)).unwrap_or(&Value::Null));
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
    let mut failed = Vec::new();
    for (kind, path, query) in &parts {
        let object = match api.get(path, query, JSON).await {
            Ok(object) => object,
            Err(failure) => {
                failed.push(failure);
                continue;
            }
        };
        version = text(&object, "/metadata/resourceVersion").to_owned();
        match object.get("items").and_then(Value::as_array) {
            // The items of a list do not say what they are.
            Some(items) => objects.extend(items.iter().cloned().map(|item| typed_item(*kind, item))),
            None => objects.push(object),
        }
    }
    let single = get.wanted.names.len() == 1 && get.wanted.kinds.len() == 1;
    if single && objects.is_empty() {
        return Failure::all(failed);
    }
    if get.watch {
        let mut between = "";
        let mut show = |object: &Value| {
            let text = print(&format!("{between}{}", render(get.output, object)));
            between = if get.output == Output::Yaml { "---\n" } else { "" };
            text
        };
        objects.iter().try_for_each(&mut show)?;
        let Some(part) = parts.first() else { return Ok(()) };
        return follow(api, get, part, &version, JSON, |object| show(&object)).await;
    }
    match (get.output, objects.as_slice()) {
        (Output::Name, objects) => objects.iter().try_for_each(|object| print(&render(Output::Name, object))),
        (output, [one]) if single => print(&render(output, one)),
        (output, objects) => {
            let items: Vec<Value> = objects.iter().cloned().map(without_managed_fields).collect();
            let list = json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}});
            print(&render(output, &list))
        }
    }?;
    Failure::all(failed)
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
        _ => yaml::write(&object),
    }
}

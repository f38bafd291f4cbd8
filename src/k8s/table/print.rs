//! A table as text, as kubectl lays it out (cli-runtime pkg/printers, Go's text/tabwriter).

use serde_json::Value;

use super::{Column, Tabs};

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// One cell for each column, as [`super::row`] makes them.
    pub cells: Vec<Value>,
}

/// What is shown.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// A column with the namespaces, as with `-A`.
    pub namespaces: bool,
    /// Also the columns of a priority above zero, as with `-o wide`.
    pub wide: bool,
    /// The line with the names of the columns.
    pub headers: bool,
}

impl Default for Layout {
    /// As with no option at all.
    fn default() -> Self {
        Self { namespaces: false, wide: false, headers: true }
    }
}

/// The table, with a line end after each line. Columns are as wide as these lines need.
pub fn print(columns: &[Column], lines: &[Line<'_>], layout: Layout) -> String {
    let shown = |column: &Column| layout.wide || column.priority == 0;
    let namespace = |text: &str| layout.namespaces.then(|| text.to_owned());
    let mut table: Vec<Vec<String>> = Vec::with_capacity(lines.len() + 1);
    if layout.headers {
        let names = columns.iter().filter(|column| shown(column)).map(|column| column.name.to_uppercase());
        table.push(namespace("NAMESPACE").into_iter().chain(names).collect());
    }
    for line in lines {
        let cells = columns.iter().zip(&line.cells).filter(|(column, _)| shown(column));
        let cells = cells.map(|(_, cell)| written(cell));
        table.push(namespace(line.namespace).into_iter().chain(cells).collect());
    }
    Tabs::TABLE.align(&table)
}

/// A cell on one line.
pub fn written(cell: &Value) -> String {
    let text = match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.find(['\u{c}', '\n', '\r']) {
        Some(end) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

//! The Prometheus text format: help, type, samples, escaping.

use std::fmt::Write as _;

use super::Metric;

/// A page that grows.
#[derive(Default)]
pub(super) struct Text {
    page: String,
    name: &'static str,
    /// Help and type of a metric without samples are left out.
    head: Option<String>,
}

impl Text {
    /// The samples that follow are of this metric.
    pub(super) fn metric(&mut self, metric: &Metric) {
        let (name, help, kind) = (metric.name, metric.help.replace('\\', "\\\\"), metric.kind);
        self.name = name;
        self.head = Some(format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One sample of the present metric.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.sample_of("", labels, value);
    }

    /// One sample whose name has an ending: `_bucket`, `_sum`, `_count`.
    pub(super) fn sample_of(&mut self, ending: &str, labels: &[(&str, &str)], value: f64) {
        if let Some(head) = self.head.take() {
            self.page.push_str(&head);
        }
        self.page.push_str(self.name);
        self.page.push_str(ending);
        for (n, (label, text)) in labels.iter().enumerate() {
            self.page.push(if n == 0 { '{' } else { ',' });
            self.page.push_str(label);
            self.page.push_str("=\"");
            self.push_escaped(text);
            self.page.push('"');
        }
        self.page.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = writeln!(self.page, "{value}");
    }

    fn push_escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '\\' => self.page.push_str("\\\\"),
                '"' => self.page.push_str("\\\""),
                '\n' => self.page.push_str("\\n"),
                other => self.page.push(other),
            }
        }
    }

    /// The page.
    pub(super) fn finish(self) -> String {
        self.page
    }
}

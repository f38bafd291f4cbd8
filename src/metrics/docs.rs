//! `docs/metrics.md`, from the rows.

use super::METRICS;

/// The page, whole.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         This page is made from the rows of `src/metrics/table.rs`; `UPDATE_DOCS=1 cargo test --test docs` writes it.\n\n\
         `/metrics` on `--metrics-bind-address` (127.0.0.1:10249) answers in the Prometheus text format. Names that \
         begin with `kubeproxy_` mean what they mean there. A service port or an endpoint that is no longer served \
         leaves the page.\n\n\
         | Metric | Type | Labels | |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels: Vec<String> =
            metric.read.labels().iter().chain(metric.labels).map(|label| format!("`{label}`")).collect();
        page.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            metric.name,
            metric.kind,
            labels.join(", "),
            metric.help
        ));
    }
    page
}

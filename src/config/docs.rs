//! `docs/options.md`, from the rows.

use super::{ROWS, Scope};

/// The page, whole.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Options\n\n\
         This page is made from the rows of `src/config/table.rs`; `UPDATE_DOCS=1 cargo test --test docs` writes it.\n\n\
         A flag wins over its environment variable, that over the key in the `--config` file, and that over the \
         default. Durations are written as in Go: `30s`, `1m30s`, `500ms`.\n\n\
         | Flag | Environment | Key | Default | Commands | |\n|---|---|---|---|---|---|\n",
    );
    for row in ROWS {
        let short = row.short.map(|c| format!("`-{c}`, ")).unwrap_or_default();
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let commands = match row.scope {
            Scope::All => "all",
            Scope::Serving => "run, demo",
            Scope::Manifests => "run, check",
            Scope::Run => "run",
            Scope::Api => "run, kubeconfig",
        };
        page.push_str(&format!(
            "| {short}`--{}` | `{}` | {} | {} | {commands} | {} Accepts {}. |\n",
            row.flag,
            row.env(),
            code(row.key),
            code(row.default),
            row.doc,
            row.accepts().replace('|', "\\|"),
        ));
    }
    page
}

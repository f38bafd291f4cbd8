//! Pages of `docs/` that are made from tables in the code say what the tables say.

use std::path::Path;

#[test]
fn options() {
    assert_page("docs/options.md", &ringport::config::markdown());
}

#[test]
fn metrics() {
    assert_page("docs/metrics.md", &ringport::metrics::markdown());
}

/// Checks that a page is what it should be, or writes it where `UPDATE_DOCS` is set.
fn assert_page(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        assert!(std::fs::write(&file, wanted).is_ok(), "{path} cannot be written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "{path} is out of date; run: UPDATE_DOCS=1 cargo test --test docs");
}

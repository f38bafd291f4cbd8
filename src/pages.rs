//! For tests: pages of `docs/` that are made from tables in the code.

use std::path::Path;

/// Checks that a page is what it should be, or writes it where `UPDATE_DOCS` is set.
pub(crate) fn assert_page(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "{path} is out of date: UPDATE_DOCS=1 cargo test docs");
}

//! Bodies of requests: what is read once is read the same again, and can be printed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringport::k8s::decode::request;
use ringport::k8s::resource::RESOURCES;
use ringport::k8s::table::{self, Layout, Line};

fuzz_target!(|bytes: &[u8]| {
    let _ = request::body(bytes);
    for info in &RESOURCES {
        let Ok(first) = request::read(info.resource, bytes) else { continue };
        let again = request::check(info.resource, first.object.clone()).expect("it was read before");
        assert_eq!(again.object, first.object);
        assert!(again.strict.is_empty(), "{:?}", again.strict);
        let cells = table::row(&first.object, info.resource, 1_767_323_045);
        let line = Line { namespace: "default", cells };
        table::print(table::columns(info.resource), &[line], Layout::default());
    }
});

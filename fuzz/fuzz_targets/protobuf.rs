//! Bodies in protobuf: what is decoded is an object that the API reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringport::k8s::decode::request;
use ringport::k8s::protobuf::decode;
use ringport::k8s::resource::Resource;

fuzz_target!(|bytes: &[u8]| {
    let body = [b"k8s\0", bytes].concat();
    let Ok(object) = decode(&body) else { return };
    if object["kind"] == "Service" {
        let request = request::check(Resource::Services, object).expect("its types are right");
        assert!(request.strict.is_empty(), "{:?}", request.strict);
    }
});

//! Files: any bytes give objects or problems with a place in the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringport::k8s::decode::decode;
use ringport::k8s::ip::Trust;

fuzz_target!(|bytes: &[u8]| {
    // A carriage return alone ends a line of YAML, too.
    let lines = bytes.iter().filter(|byte| b"\n\r".contains(byte)).count() + 1;
    if let Ok(decoded) = decode(&"f".into(), bytes, Trust::File) {
        for problem in decoded.problems {
            let origin = problem.origin.expect("every problem has a place");
            assert!(origin.line as usize <= lines + 1, "{origin}");
        }
    }
});

//! PROXY headers: what is read is there, and only its own bytes decide what it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringport::shard::read_proxy_header as read;

fuzz_target!(|bytes: &[u8]| {
    match read(bytes) {
        Ok(Some((source, len))) => {
            assert!(source.is_none_or(|source| !source.ip().is_unspecified()));
            assert_eq!(read(&bytes[..len]), Ok(Some((source, len))), "what follows it counts");
            assert!(read(&bytes[..len - 1]).is_err_and(|wanted| wanted <= len), "it is whole too early");
        }
        // Whoever waits for these many must not be woken before there are more.
        Err(wanted) => assert!(wanted > bytes.len() && wanted <= 4096, "{wanted} of {}", bytes.len()),
        Ok(None) => {}
    }
});

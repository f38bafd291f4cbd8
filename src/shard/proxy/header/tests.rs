use proptest::prelude::*;

use super::*;

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn both(source: &str, destination: &str) -> Header {
    Header::Proxied { source: socket(source), destination: socket(destination) }
}

/// A header of version 2 with this command and family, these addresses and what follows them.
fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family], &len, payload].concat()
}

const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x0f, 0xa0, 0x75, 0x30];

#[test]
fn what_is_written_is_read_again_from_any_split() {
    let headers = [
        Header::Local,
        both("192.0.2.7:4000", "10.0.0.1:30000"),
        both("[2001:db8::7]:4000", "[2001:db8::1]:30000"),
        both("255.255.255.254:65535", "255.255.255.255:65535"),
        both(
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535",
        ),
    ];
    // Multicast is nobody's address, so the longest one is only a destination.
    for header in headers.into_iter().take(4) {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let mut bytes = write(header, version);
            let len = bytes.len();
            bytes.extend_from_slice(b"\r\nGET / PROXY \n");
            for end in 0..len {
                let more = parse(&bytes[..end]);
                assert!(matches!(more, Parsed::More(n) if n > end && n <= len), "{end} of {len}: {more:?}");
            }
            for end in len..=bytes.len() {
                assert_eq!(parse(&bytes[..end]), Parsed::Whole(header, len));
            }
        }
    }
}

#[test]
fn addresses_of_two_families_are_told_as_ipv6() {
    let header = both("192.0.2.7:4000", "[2001:db8::1]:80");
    assert_eq!(write(header, ProxyVersion::V1), b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 4000 80\r\n");
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let bytes = write(header, version);
        assert_eq!(parse(&bytes), Parsed::Whole(header, bytes.len()));
    }
}

#[test]
fn version_1_is_strict() {
    let local = |n| Parsed::Whole(Header::Local, n);
    for (text, wanted) in [
        ("PROXY UNKNOWN\r\n", local(15)),
        ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\nx", local(43)),
        (
            "PROXY TCP4 192.0.2.7 10.0.0.1 4000 80\r\n",
            Parsed::Whole(both("192.0.2.7:4000", "10.0.0.1:80"), 39),
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:10.0.0.1 4000 80\r\n",
            Parsed::Whole(both("192.0.2.7:4000", "10.0.0.1:80"), 53),
        ),
        ("GET / HTTP/1.1\r\n", Parsed::None),
        ("PROXYTCP4 ", Parsed::None),
        ("proxy TCP4 192.0.2.7 10.0.0.1 4000 80\r\n", Parsed::None),
        (" PROXY TCP4 192.0.2.7 10.0.0.1 4000 80\r\n", Parsed::None),
        ("PROXY \r\n", Parsed::Malformed),
        ("PROXY TCP4\r\n", Parsed::Malformed),
        ("PROXY UDP4 192.0.2.7 10.0.0.1 4000 80\r\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 4000 80\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 4000 80 \r\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 4000 80 1\r\n", Parsed::Malformed),
        ("PROXY TCP4  192.0.2.7 10.0.0.1 4000 80\r\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 4000 \r\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 +4000 80\r\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 04000 80\r\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 65536 80\r\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.07 10.0.0.1 4000 80\r\n", Parsed::Malformed),
        ("PROXY TCP4 2001:db8::7 2001:db8::1 4000 80\r\n", Parsed::Malformed),
        ("PROXY TCP6 192.0.2.7 10.0.0.1 4000 80\r\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.7\r10.0.0.1 4000 80\r\n", Parsed::Malformed),
        ("PROXY TCP4 0.0.0.0 10.0.0.1 4000 80\r\n", Parsed::Malformed),
        ("PROXY TCP4 224.0.0.1 10.0.0.1 4000 80\r\n", Parsed::Malformed),
        ("PROXY TCP6 :: ::1 4000 80\r\n", Parsed::Malformed),
    ] {
        assert_eq!(parse(text.as_bytes()), wanted, "{text:?}");
    }
    // The crate alone would take this one for broken, as its last number is still missing.
    assert_eq!(parse(b"PROXY TCP4 192.0.2.7 10.0.0.1 4000 "), Parsed::More(36));
    let endless = [V1_SIGNATURE, &[b'x'; 200]].concat();
    assert_eq!(parse(&endless[..106]), Parsed::More(107));
    assert_eq!(parse(&endless[..107]), Parsed::Malformed);
    assert_eq!(parse(b"PROXY TCP4 \xff\xfe\r\n"), Parsed::Malformed);
}

#[test]
fn version_2_is_strict() {
    let told = both("192.0.2.7:4000", "10.0.0.1:30000");
    let with = |more: &[u8]| v2(0x21, 0x11, &[&V4[..], more].concat());
    let whole = |header, bytes: &[u8]| Parsed::Whole(header, bytes.len());
    // A no-op of two bytes, and an authority: skipped.
    for tlvs in [&[][..], &[4, 0, 2, 9, 9], &[4, 0, 0, 2, 0, 1, b'a']] {
        let bytes = with(tlvs);
        assert_eq!(parse(&bytes), whole(told, &bytes));
    }
    for bytes in [
        v2(0x20, 0, &[]),
        v2(0x20, 0x11, &V4),
        v2(0x20, 0, &[4, 0, 1, 0]),
        v2(0x21, 0, &[]),
        v2(0x21, 0x31, &[0; 216]),
    ] {
        assert_eq!(parse(&bytes), whole(Header::Local, &bytes), "{bytes:?}");
    }
    for bytes in [
        v2(0x11, 0x11, &V4),
        v2(0x22, 0x11, &V4),
        v2(0x21, 0x41, &V4),
        v2(0x21, 0x13, &V4),
        v2(0x21, 0x12, &V4),
        v2(0x21, 0x10, &V4),
        v2(0x21, 0x01, &[]),
        v2(0x21, 0x11, &V4[..11]),
        v2(0x21, 0x21, &[0; 35]),
        v2(0x21, 0x21, &[0; 36]),
        v2(0x21, 0x31, &[0; 215]),
        with(&[4]),
        with(&[4, 0, 3, 9, 9]),
        v2(0x21, 0x11, &[0; PROXY_HEADER_BYTES - V2_FIXED + 1]),
    ] {
        assert_eq!(parse(&bytes), Parsed::Malformed, "{bytes:?}");
        // And that is known no later than at its end.
        assert!(
            (V2_FIXED..bytes.len())
                .all(|end| matches!(parse(&bytes[..end]), Parsed::Malformed | Parsed::More(_)))
        );
    }
}

#[test]
fn a_signature_is_told_as_early_as_it_can_be() {
    for (first, wanted) in [
        (&b""[..], None),
        (b"P", None),
        (b"PROXY", None),
        (b"PROXY ", Some(true)),
        (b"PROXZ", Some(false)),
        (b"POST / HTTP/1.1", Some(false)),
        (b"\r\n", None),
        (b"\r\n\r\n\0\r\nQUIT", None),
        (b"\r\n\r\n\0\r\nQUIT\n", Some(true)),
        (b"\r\n\r\n\0\r\nQUIT\r", Some(false)),
        (b"\n", Some(false)),
    ] {
        assert_eq!(is_header(first), wanted, "{first:?}");
        assert!(first.len() <= SIGNATURE_BYTES || wanted.is_some());
    }
}

/// Bytes like those of a header, and damaged ones.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let text = "PROXY (TCP4|TCP6|UNKNOWN|[ -~]{0,6})( [0-9a-f:.+]{0,12}){0,5}(\r\n|\n|\r|)";
    let fixed = (any::<u8>(), any::<u8>(), any::<u16>(), proptest::collection::vec(any::<u8>(), 0..300));
    let binary = fixed.prop_map(|(command, family, len, payload)| {
        let command = if command < 200 { 0x20 + (command & 1) } else { command };
        let family = [0x11, 0x21, 0x31, 0, family][usize::from(family) % 5];
        let len = if len < 60_000 { payload.len() as u16 / (1 + (len & 1)) } else { len };
        [V2_SIGNATURE, &[command, family], &len.to_be_bytes(), &payload].concat()
    });
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        proptest::string::string_regex(text).unwrap().prop_map(String::into_bytes),
        binary,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// However the bytes come, the outcome is that of all of them at once; nothing behind a header matters;
    /// nothing waits for ever.
    #[test]
    fn splits_change_nothing(bytes in nearly(), step in 1..40usize) {
        let all = parse(&bytes);
        let mut end = 0;
        let outcome = loop {
            match parse(&bytes[..end]) {
                Parsed::More(wanted) => {
                    prop_assert!(wanted > end && wanted <= PROXY_HEADER_BYTES);
                    if end == bytes.len() {
                        break Parsed::More(wanted);
                    }
                    end = (end + step).min(bytes.len());
                }
                outcome => break outcome,
            }
        };
        match (outcome, all) {
            (Parsed::Whole(_, len), _) => {
                prop_assert!(len <= bytes.len().min(PROXY_HEADER_BYTES));
                prop_assert_eq!(outcome, all);
                prop_assert_eq!(parse(&bytes[..len]), all);
            }
            (outcome, all) => prop_assert_eq!(outcome, all),
        }
    }

    /// What is read and can be written again says the same.
    #[test]
    fn what_is_read_can_be_passed_on(bytes in nearly()) {
        if let Parsed::Whole(header, _) = parse(&bytes) {
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let again = write(header, version);
                prop_assert_eq!(parse(&again), Parsed::Whole(header, again.len()));
            }
        }
    }
}

//! `ringport kubeconfig`: how kubectl and other clients reach the API that `run` serves with these options.

use std::net::{IpAddr, SocketAddr};

use super::{Error, print};
use crate::api::Credentials;
use crate::config::{ApiAddress, Config};
use crate::net::addresses;

pub(super) fn kubeconfig(config: &Config) -> Result<(), Error> {
    let address = match &config.api {
        None => return Err(Error::NoKubeconfig("say with --api where the API is, as for `ringport run`")),
        Some(ApiAddress::Unix(_)) => {
            return Err(Error::NoKubeconfig(
                "a kubeconfig cannot name a unix socket; curl --unix-socket can",
            ));
        }
        Some(ApiAddress::Tcp(address)) => *address,
    };
    let credentials = Credentials::load(config, &ApiAddress::Tcp(address))?;
    print(&text(reachable(address), &credentials))
}

/// Where clients find a server that listens here.
fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let own = addresses::primary().into_iter().find(|ip| ip.is_ipv4() == address.is_ipv4());
    let loopback = match address.ip() {
        IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(own.unwrap_or(loopback), address.port())
}

fn text(address: SocketAddr, credentials: &Credentials) -> String {
    let (scheme, authority) = match credentials.authority() {
        Some(pem) => ("https", format!("    certificate-authority-data: {}\n", base64(pem))),
        None => ("http", String::new()),
    };
    let user = match &credentials.token {
        Some(token) => format!("    token: {token}\n"),
        None => "    {}\n".to_owned(),
    };
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: ringport\n  cluster:\n    server: {scheme}://{address}\n{authority}\
         users:\n- name: ringport\n  user:\n{user}contexts:\n- name: ringport\n  context:\n    cluster: ringport\n    \
         user: ringport\ncurrent-context: ringport\n"
    )
}

/// RFC 4648 §4
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |group: u32, place: u32| {
        ALPHABET.get((group >> (18 - 6 * place) & 63) as usize).map_or('=', |&byte| char::from(byte))
    };
    let encode = |chunk: &[u8]| {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or_default());
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        [0, 1, 2, 3].map(|place| if place as usize <= chunk.len() { digit(group, place) } else { '=' })
    };
    bytes.chunks(3).flat_map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xfe]), "/+/+");
    }

    #[test]
    fn a_plain_server_needs_nothing_but_its_address() {
        let config = Config::defaults().unwrap();
        let address = "127.0.0.1:8080".parse().unwrap();
        let credentials = Credentials::load(&config, &ApiAddress::Tcp(address)).unwrap();
        let text = text(address, &credentials);
        assert!(text.contains("    server: http://127.0.0.1:8080\nusers:"), "{text}");
        assert!(text.contains("  user:\n    {}\ncontexts:"), "{text}");
    }
}

//! Who may talk to the API.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, ORIGIN};

use super::failure::Failure;

/// What a request has to show.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// Nothing: the permissions of a unix socket have decided.
    Socket,
    /// That it does not come from a page in a browser: anyone on this machine may.
    Loopback(SocketAddr),
    /// A bearer token.
    Token(String),
}

impl Access {
    /// Lets a request in, or says why not.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Failure> {
        match self {
            Self::Socket => Ok(()),
            Self::Token(token) => {
                let given = text(headers, AUTHORIZATION.as_str());
                let given = given
                    .and_then(|header| header.split_once(' '))
                    .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
                match given {
                    Some((_, given)) if same(given.trim().as_bytes(), token.as_bytes()) => Ok(()),
                    _ => Err(Failure::unauthorized()),
                }
            }
            Self::Loopback(address) => {
                // A page of any site may send requests to 127.0.0.1, or to a name that it lets point there.
                if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
                    return Err(Failure::forbidden(
                        "requests from web pages are refused: this API has no authentication (give ringport --api-token-file for one)",
                    ));
                }
                let host = text(headers, HOST.as_str());
                if host.is_some_and(|host| is_local(host, address.ip())) {
                    return Ok(());
                }
                let host = host.unwrap_or_default();
                Err(Failure::forbidden(format!(
                    "the host {host:?} is not this machine's loopback: use localhost or {address}, or give ringport --api-token-file"
                )))
            }
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether a Host header names the loopback of this machine.
fn is_local(host: &str, own: IpAddr) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address == own,
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// Compares in a time that does not tell how much of it is the same.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    let different = given.iter().zip(wanted).fold(given.len() ^ wanted.len(), |different, (a, b)| {
        std::hint::black_box(different | usize::from(a ^ b))
    });
    different == 0
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn checked(access: &Access, headers: &[(&'static str, &'static str)]) -> u16 {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers: HeaderMap = headers.iter().map(pair).collect();
        access.check(&headers).map_or_else(|failure| failure.code.as_u16(), |()| 200)
    }

    #[test]
    fn browsers_and_foreign_names_do_not_reach_the_loopback() {
        let access = Access::Loopback("127.0.0.7:8080".parse().unwrap());
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.0.0.7:1", "[::1]:8080", "[::1]"] {
            assert_eq!(checked(&access, &[("host", host)]), 200, "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "10.0.0.1:8080", "", "[::2]:8080"] {
            assert_eq!(checked(&access, &[("host", host)]), 403, "{host}");
        }
        assert_eq!(checked(&access, &[]), 403);
        assert_eq!(checked(&access, &[("host", "localhost"), ("origin", "http://localhost:8080")]), 403);
        assert_eq!(checked(&access, &[("host", "localhost"), ("sec-fetch-site", "cross-site")]), 403);
    }

    #[test]
    fn a_token_is_all_or_nothing() {
        let access = Access::Token("secret".to_owned());
        assert_eq!(checked(&access, &[("authorization", "Bearer secret"), ("origin", "x")]), 200);
        assert_eq!(checked(&access, &[("authorization", "bearer secret")]), 200);
        for wrong in ["Bearer secre", "Bearer secrett", "Bearer ", "Basic secret", "secret", "Bearer secreT"]
        {
            assert_eq!(checked(&access, &[("authorization", wrong)]), 401, "{wrong}");
        }
        assert_eq!(checked(&access, &[]), 401);
        assert_eq!(checked(&Access::Socket, &[]), 200);
    }
}

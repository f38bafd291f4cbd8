//! IP addresses as the API server takes them: leading zeros are tolerated with a warning, special
//! ranges are not (apimachinery pkg/util/validation/ip.go, k8s.io/utils/net ParseIPSloppy).

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::field::FieldProblem;

/// Where an object comes from, and so which addresses it may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A file of whoever runs this process: loopback addresses are fine, it is what one tries first.
    File,
    /// Someone who speaks to the API: loopback addresses would reach into this node.
    Api,
}

/// Reads an address; a problem with it is added. A doubtful one is returned and warned about.
pub fn read(text: &str, field: &str, problems: &mut Vec<FieldProblem>) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return match ip {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                let warning = "IP address was accepted, but will be invalid in a future Kubernetes release: \
                               must not be an IPv4-mapped IPv6 address";
                problems.push(FieldProblem::warning(field, warning));
                v6.to_ipv4_mapped().map(IpAddr::V4)
            }
            ip => Some(ip),
        };
    }
    if let Some(ip) = without_leading_zeros(text) {
        let warning = format!(
            "IP address was accepted, but will be invalid in a future Kubernetes release: \
             ParseAddr({text:?}): IPv4 field has octet with leading zero"
        );
        problems.push(FieldProblem::warning(field, warning).with_hint(format!("write {ip}")));
        return Some(IpAddr::V4(ip));
    }
    let rule = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    problems.push(FieldProblem::invalid(field, text, rule));
    None
}

/// `192.168.099.022`, read as decimal.
fn without_leading_zeros(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let digits = !part.is_empty() && part.len() <= 8 && part.bytes().all(|b| b.is_ascii_digit());
        *octet = digits.then(|| part.parse().ok())??;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// What a [`cidr`] has to be.
pub(super) const CIDR_RULE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// A CIDR as the API server reads it: spaces around it and leading zeros are tolerated, host bits are dropped.
pub fn cidr(text: &str) -> Option<IpNet> {
    let text = text.trim();
    let sloppy = || {
        let (address, bits) = text.split_once('/')?;
        IpNet::new(read(address, "", &mut Vec::new())?, bits.parse().ok()?).ok()
    };
    text.parse().ok().or_else(sloppy).map(|cidr: IpNet| cidr.trunc())
}

/// What forbids `ip` as the address of an endpoint or as an externalIP
/// (pkg/apis/core/validation ValidateEndpointIP).
pub fn special(ip: IpAddr, trust: Trust) -> Option<&'static str> {
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), matches!(v4.octets(), [224, 0, 0, _])),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments().first() == Some(&0xff02)),
    };
    if ip.is_unspecified() {
        Some(match ip {
            IpAddr::V4(_) => "may not be unspecified (0.0.0.0)",
            IpAddr::V6(_) => "may not be unspecified (::)",
        })
    } else if ip.is_loopback() && trust == Trust::Api {
        Some("may not be in the loopback range (127.0.0.0/8, ::1/128)")
    } else if link_local {
        Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    } else if link_local_multicast {
        Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Option<IpAddr>, Vec<String>) {
        let mut problems = Vec::new();
        let ip = read(text, "spec.externalIPs[0]", &mut problems);
        (ip, problems.into_iter().map(|p| p.message).collect())
    }

    #[test]
    fn leading_zeros_are_decimal_and_warned_about() {
        let (ip, messages) = parse("192.168.099.022");
        assert_eq!(ip, Some(IpAddr::from([192, 168, 99, 22])));
        assert_eq!(
            messages,
            ["IP address was accepted, but will be invalid in a future Kubernetes release: \
             ParseAddr(\"192.168.099.022\"): IPv4 field has octet with leading zero"]
        );
    }

    #[test]
    fn addresses_that_are_none() {
        for text in
            ["nonsense", "", "1.2.3", "1.2.3.4.5", "1.2.3.256", "256.0.0.01", "myhost.mydomain", "1.2.3.-4"]
        {
            let (ip, messages) = parse(text);
            assert_eq!(ip, None, "{text}");
            assert_eq!(
                messages,
                [format!(
                    "Invalid value: {text:?}: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
                )]
            );
        }
    }

    #[test]
    fn special_ranges_are_refused_and_loopback_only_from_the_api() {
        let table = [
            ("0.0.0.0", Some("unspecified"), Some("unspecified")),
            ("::", Some("unspecified"), Some("unspecified")),
            ("127.0.0.1", None, Some("loopback")),
            ("::1", None, Some("loopback")),
            ("169.254.1.1", Some("link-local range"), Some("link-local range")),
            ("fe80::1", Some("link-local range"), Some("link-local range")),
            ("224.0.0.1", Some("multicast"), Some("multicast")),
            ("ff02::1", Some("multicast"), Some("multicast")),
            ("224.0.1.1", None, None),
            ("1.2.3.110", None, None),
            ("2001:db8::1", None, None),
        ];
        for (text, file, api) in table {
            let ip: IpAddr = text.parse().unwrap();
            for (trust, expected) in [(Trust::File, file), (Trust::Api, api)] {
                let found = special(ip, trust);
                assert_eq!(found.is_some(), expected.is_some(), "{text} {trust:?}");
                assert!(found.unwrap_or("").contains(expected.unwrap_or("")), "{text} {found:?}");
            }
        }
    }
}

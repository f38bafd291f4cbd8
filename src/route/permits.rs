//! Which addresses a Service may take.
//!
//! An externalIP takes traffic away from whoever has the address (CVE-2020-8554). So one that comes through an
//! API is served only inside `--external-ip-cidrs`, and one of the node itself only where it is named there, alone; a file
//! is written by whoever runs this process. Load balancer addresses are in the status of a Service, which few may
//! write on a cluster; in ringport's own API whoever may write Services may, so there the same holds for them.
//! The addresses that ringport itself is reached at belong to no Service, wherever it comes from.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::k8s::model::{Node, Service};
use crate::problem::{Problem, Reason};
use crate::route::snapshot::{FrontendKey, FrontendKind};
use crate::types::Protocol;

/// What limits the addresses of Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    /// Where externalIPs of Services that are not trusted may be: `--external-ip-cidrs`.
    pub external_ip_cidrs: Vec<IpNet>,
    /// Whether that holds for load balancer addresses, too: whoever may write a Service may write its status.
    pub status_is_open: bool,
    /// Addresses of this node, besides those that its Node has.
    pub node: Vec<IpAddr>,
    /// Where this process itself listens (TCP), and the option that says so.
    pub own: Vec<(SocketAddr, &'static str)>,
}

/// Why a Service may not take an address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Outside `--external-ip-cidrs`, of a Service that is not trusted.
    NotAllowed(IpAddr, FrontendKind),
    /// The node's own, of a Service that is not trusted.
    OfNode(IpAddr),
    /// The Service has no clusterIP of its family.
    OtherFamily(IpAddr),
    /// Ringport's own, by this option.
    Own(&'static str),
}

impl Permits {
    /// Whether a Service may take this address and port.
    pub fn check(
        &self,
        node: &Node,
        service: &Service,
        kind: FrontendKind,
        key: &FrontendKey,
    ) -> Result<(), Refused> {
        if let Some(ip) = key.address
            && !service.is_in_family_of(ip)
        {
            return Err(Refused::OtherFamily(ip));
        }
        let limited = match kind {
            FrontendKind::ExternalIp => !service.trusted,
            FrontendKind::LoadBalancer => !service.trusted && self.status_is_open,
            FrontendKind::NodePort | FrontendKind::ClusterIp => false,
        };
        if let Some(ip) = key.address.filter(|_| limited) {
            if !self.external_ip_cidrs.iter().any(|cidr| cidr.contains(&ip)) {
                return Err(Refused::NotAllowed(ip, kind));
            }
            let of_node = self.node.contains(&ip) || node.addresses.contains(&ip);
            if of_node && !self.external_ip_cidrs.contains(&ip.into()) {
                return Err(Refused::OfNode(ip));
            }
        }
        let meets = |own: &SocketAddr| {
            // Its IPv6 wildcard takes IPv4 with it.
            let ip = Some(own.ip().to_canonical()).filter(|ip| !ip.is_unspecified());
            key.protocol == Protocol::Tcp && own.port() == key.port && key.overlaps(ip)
        };
        match self.own.iter().find(|(own, _)| meets(own)) {
            Some((_, option)) => Err(Refused::Own(option)),
            None => Ok(()),
        }
    }
}

impl Refused {
    /// What the Service is told.
    pub fn problem(self, service: &Service, field: String, key: &FrontendKey) -> Problem {
        let (reason, message, hint) = match self {
            Self::NotAllowed(ip, kind) => {
                let what = match kind {
                    FrontendKind::LoadBalancer => "a load balancer address from ringport's API",
                    _ => "an external IP from an API",
                };
                (
                    Reason::AddressNotAllowed,
                    format!("{ip} is not served: {what} must be inside --external-ip-cidrs"),
                    format!(
                        "whoever runs ringport can allow it with --external-ip-cidrs {}",
                        IpNet::from(ip)
                    ),
                )
            }
            Self::OfNode(ip) => (
                Reason::AddressNotAllowed,
                format!("{ip} is not served: it is an address of this node itself"),
                format!(
                    "whoever runs ringport can give it away by name: --external-ip-cidrs {}",
                    IpNet::from(ip)
                ),
            ),
            Self::OtherFamily(ip) => (
                Reason::AddressNotAllowed,
                format!("{ip} is not served: the Service has no clusterIP of its address family"),
                "set spec.ipFamilyPolicy to PreferDualStack".to_owned(),
            ),
            Self::Own(option) => (
                Reason::AddressNotAllowed,
                format!("{key} is not served: ringport itself listens there (--{option})"),
                format!("choose another port, or another --{option}"),
            ),
        };
        Problem {
            reason,
            object: Some(format!("Service {}", service.key)),
            field: Some(field),
            hint: Some(hint),
            ..Problem::error(message)
        }
    }
}

#[cfg(test)]
mod tests;

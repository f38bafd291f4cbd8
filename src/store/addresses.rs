//! Allocation of clusterIPs (pkg/registry/core/service/ipallocator).

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::k8s::field::FieldProblem;
use crate::k8s::model::Service;
use crate::k8s::service::{ClusterIps, Family, ServiceRequest};
use crate::types::NamespacedName;

const FIELD: &str = "spec.clusterIPs";

/// Which Service holds which clusterIP.
#[derive(Debug)]
pub(super) struct Addresses {
    primary: IpNet,
    /// The range of the other family, for Services that ask for both.
    secondary: IpNet,
    holders: HashMap<IpAddr, NamespacedName>,
}

impl Addresses {
    pub(super) fn new(primary: IpNet) -> Self {
        let secondary = match primary {
            IpNet::V4(_) => {
                Ipv6Net::new(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112).map(IpNet::V6)
            }
            IpNet::V6(_) => Ipv4Net::new(Ipv4Addr::new(10, 96, 0, 0), 16).map(IpNet::V4),
        };
        Self { primary, secondary: secondary.unwrap_or(primary), holders: HashMap::new() }
    }

    /// The family of addresses that a Service gets unless it asks for another one.
    pub(super) fn primary_family(&self) -> Family {
        Family::of(self.primary.addr())
    }

    /// The clusterIPs of a Service beside the others: those it gives, those it had, or free ones.
    pub(super) fn plan(
        &self,
        request: &ServiceRequest,
        previous: Option<&Service>,
        avoid: &BTreeSet<IpAddr>,
    ) -> Result<Vec<IpAddr>, Vec<FieldProblem>> {
        let ClusterIps::Wanted { ips, families, both } = &request.cluster_ips else {
            return Ok(Vec::new());
        };
        let key = &request.service.key;
        let mut families = families.clone();
        if families.is_empty() {
            families.push(Family::of(self.primary.addr()));
        }
        if let (true, [only]) = (*both, families.as_slice()) {
            families.push(only.other());
        }
        let (mut planned, mut problems) = (Vec::new(), Vec::new());
        for (index, family) in families.into_iter().enumerate() {
            let old = previous.into_iter().flat_map(|service| &service.cluster_ips);
            let kept = old.copied().find(|ip| Family::of(*ip) == family);
            let ip = match ips.get(index) {
                Some(given) => self.fixed(*given, key),
                None => kept.map_or_else(|| self.automatic(family, key, avoid), Ok),
            };
            match ip {
                Ok(ip) => planned.push(ip),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(planned) } else { Err(problems) }
    }

    /// Gives a Service exactly the addresses it has.
    pub(super) fn hold(&mut self, service: &Service) {
        self.holders.extend(service.cluster_ips.iter().map(|ip| (*ip, service.key.clone())));
    }

    /// Takes its addresses back.
    pub(super) fn release(&mut self, service: &Service) {
        for ip in &service.cluster_ips {
            if self.holders.get(ip) == Some(&service.key) {
                self.holders.remove(ip);
            }
        }
    }

    fn range(&self, family: Family) -> IpNet {
        if Family::of(self.primary.addr()) == family { self.primary } else { self.secondary }
    }

    fn fixed(&self, ip: IpAddr, key: &NamespacedName) -> Result<IpAddr, FieldProblem> {
        let range = self.range(Family::of(ip));
        let refuse = |why: String| {
            let value = [ip.to_string()];
            FieldProblem::invalid(FIELD, value.as_slice(), format!("failed to allocate IP {ip}: {why}"))
        };
        let ends = [range.network(), range.broadcast()];
        let is_end = ip == ends[0] || ip.is_ipv4() && ip == ends[1];
        if !range.contains(&ip) || is_end {
            let why = format!(
                "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {}",
                range.trunc()
            );
            let hint = "leave clusterIP out, or give the range with --service-cluster-ip-range";
            return Err(refuse(why).with_hint(hint));
        }
        match self.holders.get(&ip).filter(|holder| *holder != key) {
            Some(holder) => {
                let problem = refuse("provided IP is already allocated".into());
                Err(problem.with_hint(format!("Service {holder} has it")))
            }
            None => Ok(ip),
        }
    }

    fn automatic(
        &self,
        family: Family,
        key: &NamespacedName,
        avoid: &BTreeSet<IpAddr>,
    ) -> Result<IpAddr, FieldProblem> {
        let range = self.range(family);
        let seed = super::seed(key, "");
        let unasked = self.free(range, seed, |ip| !avoid.contains(&ip));
        unasked.or_else(|| self.free(range, seed, |_| true)).ok_or_else(|| {
            let message = "Internal error occurred: failed to allocate a serviceIP: range is full";
            FieldProblem::rejected("", message).with_hint("widen --service-cluster-ip-range")
        })
    }

    /// A free address: from the automatic band, beginning at a place that the seed decides, then from
    /// the band that is left to people.
    fn free(&self, range: IpNet, seed: u64, is_free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let host_bits = u32::from(range.max_prefix_len() - range.prefix_len()).min(62);
        let ends = if range.addr().is_ipv4() { 2 } else { 1 };
        let size = (1u64 << host_bits).saturating_sub(ends);
        let band = if size <= 16 { 0 } else { (size / 16).clamp(16, 256) };
        let dynamic = size - band;
        let start = seed % dynamic.max(1);
        let upper = (0..dynamic).map(|step| band + (start + step) % dynamic);
        let mut candidates = upper.chain(0..band).filter_map(|offset| nth(range, offset + 1));
        candidates.find(|ip| !self.holders.contains_key(ip) && is_free(*ip))
    }
}

/// The address at an offset from the beginning of a range.
fn nth(range: IpNet, offset: u64) -> Option<IpAddr> {
    match range.network() {
        IpAddr::V4(v4) => {
            let number = u32::from(v4).checked_add(u32::try_from(offset).ok()?)?;
            Some(IpAddr::V4(number.into()))
        }
        IpAddr::V6(v6) => u128::from(v6).checked_add(offset.into()).map(|n| IpAddr::V6(n.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_addresses_come_from_the_upper_band_first() {
        let addresses = Addresses::new("10.0.0.0/28".parse().unwrap());
        let range = addresses.primary;
        // 14 addresses: too few for two bands.
        let all: BTreeSet<IpAddr> =
            (0..14).filter_map(|seed| addresses.free(range, seed, |_| true)).collect();
        assert_eq!(all.len(), 14);
        assert!(!all.contains(&"10.0.0.0".parse().unwrap()) && !all.contains(&"10.0.0.15".parse().unwrap()));

        let wide = Addresses::new("10.96.0.0/16".parse().unwrap());
        for seed in [0, 1, 65_277, u64::MAX] {
            let ip = wide.free(wide.primary, seed, |_| true).unwrap();
            assert!(ip > "10.96.1.0".parse::<IpAddr>().unwrap(), "{ip}");
        }
        let last = wide.free(wide.primary, 0, |ip| ip < "10.96.0.5".parse::<IpAddr>().unwrap()).unwrap();
        assert_eq!(last, "10.96.0.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn tiny_and_huge_ranges_do_not_fail() {
        for range in ["10.0.0.0/32", "10.0.0.0/31", "10.0.0.0/30", "0.0.0.0/0", "fd00::/8", "fd00::/128"] {
            let addresses = Addresses::new(range.parse().unwrap());
            let ip = addresses.free(addresses.primary, u64::MAX, |_| true);
            assert!(ip.is_none_or(|ip| addresses.primary.contains(&ip)), "{range} {ip:?}");
        }
    }
}

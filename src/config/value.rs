//! How values are written: durations, ranges, addresses. `None` is a value that is not accepted.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::{ApiAddress, NodePortAddresses};

/// A duration as Go's time.ParseDuration reads it, without a sign: `1h30m`, `1.5s`, `300ms`, `0`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_length = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        total = total.checked_add(nanoseconds(number, unit)?)?;
        rest = tail;
    }
    let total = u64::try_from(total).ok().filter(|_| !text.is_empty())?;
    Some(Duration::from_nanos(total))
}

fn nanoseconds(number: &str, unit: &str) -> Option<u128> {
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok() };
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = u128::from(parse(fraction)?).checked_mul(unit)? / scale;
    u128::from(parse(whole)?).checked_mul(unit)?.checked_add(part)
}

/// A duration as a person writes it: `1h30m`, `30s`, `500ms`.
pub fn print_duration(time: Duration) -> String {
    let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
    let mut text = String::new();
    for (amount, unit) in [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(nanos / 1_000_000), "ms"),
        (u64::from(nanos / 1_000 % 1_000), "us"),
        (u64::from(nanos % 1_000), "ns"),
    ] {
        if amount > 0 {
            text.push_str(&format!("{amount}{unit}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A switch, as Go's flags read it, and `on` and `off`.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text {
        "true" | "on" | "1" => Some(true),
        "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// `30000-32767`; kube-apiserver also takes a single port.
pub(super) fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

/// A CIDR; host bits are dropped, as net.ParseCIDR does.
pub(super) fn cidr(text: &str) -> Option<IpNet> {
    text.trim().parse::<IpNet>().ok().map(|net| net.trunc())
}

/// CIDRs joined by commas, `primary`, or nothing. A bare address is the CIDR of itself.
pub(super) fn node_port_addresses(text: &str) -> Option<NodePortAddresses> {
    match text.trim() {
        "" => Some(NodePortAddresses::All),
        "primary" => Some(NodePortAddresses::Primary),
        list => cidrs(list).map(NodePortAddresses::Cidrs),
    }
}

/// Bits of a packet's mark, at least one, in hexadecimal or decimal.
pub(super) fn mark(text: &str) -> Option<u32> {
    let mark = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    mark.ok().filter(|&mark| mark != 0)
}

/// CIDRs joined by commas, or nothing. A bare address is the CIDR of itself.
pub(super) fn cidrs(text: &str) -> Option<Vec<IpNet>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    text.split(',')
        .map(|one| cidr(one).or_else(|| one.trim().parse::<IpAddr>().ok().map(IpNet::from)))
        .collect()
}

/// A level of the log.
pub(super) fn level(text: &str) -> Option<tracing::Level> {
    match text {
        "error" => Some(tracing::Level::ERROR),
        "warn" => Some(tracing::Level::WARN),
        "info" => Some(tracing::Level::INFO),
        "debug" => Some(tracing::Level::DEBUG),
        "trace" => Some(tracing::Level::TRACE),
        _ => None,
    }
}

/// `IP:PORT` or `unix:/PATH`.
pub(super) fn api_address(text: &str) -> Option<ApiAddress> {
    match text.strip_prefix("unix:") {
        Some(path) => path.starts_with('/').then(|| ApiAddress::Unix(path.into())),
        None => text.parse().ok().map(ApiAddress::Tcp),
    }
}

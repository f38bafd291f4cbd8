//! Ports that the kernel may give to outgoing connections, and those that it is told to leave alone
//! (net.ipv4.ip_local_port_range and ip_local_reserved_ports; they count for IPv6, too).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::ops::RangeInclusive;

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Bytes that the kernel takes of one write(2) to this file: a page, on the smallest of machines.
const WRITE_BYTES: usize = 4000;

/// A set of ports.
#[derive(Clone, PartialEq, Eq)]
pub struct PortList(Box<[u64; 1024]>);

impl Default for PortList {
    fn default() -> Self {
        Self(Box::new([0; 1024]))
    }
}

impl PortList {
    /// As the kernel writes it: `8080,30000-30010`. What is no port is left out.
    pub fn parse(text: &str) -> Self {
        let mut list = Self::default();
        for one in text.trim().split(',') {
            let (first, last) = one.split_once('-').unwrap_or((one, one));
            if let (Ok(first), Ok(last)) = (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
                (first..=last).for_each(|port| list.set(port, true));
            }
        }
        list
    }

    /// Whether a port is in it.
    pub fn contains(&self, port: u16) -> bool {
        self.0.get(usize::from(port / 64)).is_some_and(|word| word & (1 << (port % 64)) != 0)
    }

    /// Puts a port in or takes it out.
    pub fn set(&mut self, port: u16, present: bool) {
        if let Some(word) = self.0.get_mut(usize::from(port / 64)) {
            let bit = 1 << (port % 64);
            *word = if present { *word | bit } else { *word & !bit };
        }
    }

    /// As the kernel reads it.
    pub fn print(&self) -> String {
        self.ranges().join(",")
    }

    fn ranges(&self) -> Vec<String> {
        let mut ranges = Vec::new();
        let mut begun: Option<u16> = None;
        for port in 0..=u16::MAX {
            let next_is_in = port != u16::MAX && self.contains(port + 1);
            if !self.contains(port) {
                continue;
            }
            let first = *begun.get_or_insert(port);
            if !next_is_in {
                ranges.push(if first == port { port.to_string() } else { format!("{first}-{port}") });
                begun = None;
            }
        }
        ranges
    }
}

/// The range that the kernel gives to outgoing connections; `None` where it does not tell.
pub fn local_range() -> Option<RangeInclusive<u16>> {
    let text = fs::read_to_string(RANGE).ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

/// The ports that it leaves alone.
///
/// # Errors
/// As read(2).
pub fn reserved() -> io::Result<PortList> {
    Ok(PortList::parse(&fs::read_to_string(RESERVED)?))
}

/// Sets them.
///
/// # Errors
/// As write(2): EACCES without the right, EROFS where /proc/sys may only be read.
pub fn reserve(list: &PortList) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(RESERVED)?;
    // The first write replaces the list, each that follows on the same descriptor adds to it.
    for part in parts(&list.ranges()) {
        file.write_all(part.as_bytes())?;
    }
    Ok(())
}

/// The list in pieces that the kernel takes whole.
fn parts(ranges: &[String]) -> Vec<String> {
    let mut parts = vec![String::new()];
    for range in ranges {
        if parts.last().is_some_and(|part| part.len() + range.len() + 2 > WRITE_BYTES) {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            if !part.is_empty() {
                part.push(',');
            }
            part.push_str(range);
        }
    }
    parts.iter_mut().for_each(|part| part.push('\n'));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for (text, printed) in [
            ("\n", ""),
            ("8080,30000-30002\n", "8080,30000-30002"),
            ("3,1,2,5", "1-3,5"),
            ("0-65535", "0-65535"),
            ("65535", "65535"),
            ("65536,x,7-", ""),
        ] {
            assert_eq!(PortList::parse(text).print(), printed, "{text:?}");
        }
    }

    #[test]
    fn ports_come_and_go() {
        let mut list = PortList::parse("30000-30002");
        list.set(30_001, false);
        list.set(64, true);
        assert_eq!(list.print(), "64,30000,30002");
        assert!(list.contains(64) && !list.contains(63) && !list.contains(30_001));
    }

    #[test]
    fn a_long_list_is_written_in_pieces() {
        let mut list = PortList::default();
        (10_000..=u16::MAX).step_by(2).for_each(|port| list.set(port, true));
        let parts = parts(&list.ranges());
        assert!(parts.len() > 10 && parts.iter().all(|part| part.len() <= WRITE_BYTES));
        let mut joined = String::new();
        parts.iter().for_each(|part| joined.push_str(&part.replace('\n', ",")));
        assert_eq!(PortList::parse(&joined).print(), list.print());
    }

    #[test]
    fn this_machine_tells_its_range() {
        assert!(local_range().is_some_and(|range| range.start() < range.end()));
        reserved().unwrap();
    }
}

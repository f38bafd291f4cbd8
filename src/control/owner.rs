//! Who has a port: for the message that it is taken.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::types::Protocol;

/// TCP listeners and UDP sockets of this network namespace and their processes, as /proc tells; read once, when
/// first asked.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Port to process.
    tcp: Option<HashMap<u16, String>>,
    udp: Option<HashMap<u16, String>>,
}

impl Owners {
    /// The process that has a port, as `nginx (pid 812)`, where that can be told.
    pub(super) fn of_port(&mut self, protocol: Protocol, port: u16) -> Option<&str> {
        let owners = match protocol {
            Protocol::Udp => self
                .udp
                .get_or_insert_with(|| read(["/proc/net/udp", "/proc/net/udp6"], &[UNCONNECTED, CONNECTED])),
            _ => self.tcp.get_or_insert_with(|| read(["/proc/net/tcp", "/proc/net/tcp6"], &[LISTEN])),
        };
        owners.get(&port).map(String::as_str)
    }
}

/// States as /proc/net writes them: of a TCP listener, and of a UDP socket without and with a peer.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";
const CONNECTED: &str = "01";

fn read(tables: [&str; 2], states: &[&str]) -> HashMap<u16, String> {
    let tables = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    let by_inode: HashMap<&str, u16> = tables.iter().flat_map(|table| sockets_in(table, states)).collect();
    let mut owners = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        // Processes are numbers.
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        for port in sockets(&process.path()).filter_map(|inode| by_inode.get(inode.as_str()).copied()) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            owners.entry(port).or_insert_with(|| format!("{} (pid {pid})", command.trim_end()));
        }
    }
    owners
}

/// Inode and port of each socket in one of these states, in the text of /proc/net/tcp or udp (proc(5)): the
/// fields are number, local address, remote address, state, three others, uid, timeout, inode.
fn sockets_in<'a>(table: &'a str, states: &[&str]) -> impl Iterator<Item = (&'a str, u16)> {
    table.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (_, port) = fields.nth(1)?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        states.contains(&state).then_some((inode, u16::from_str_radix(port, 16).ok()?))
    })
}

/// The inodes of the sockets that a process has open; none where this process may not look.
fn sockets(process: &Path) -> impl Iterator<Item = String> + use<> {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|descriptor| {
        let link = fs::read_link(descriptor.path()).ok()?;
        Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found_and_named() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut owners = Owners::default();
        for (protocol, address) in
            [(Protocol::Tcp, socket.local_addr()), (Protocol::Udp, datagrams.local_addr())]
        {
            let owner = owners.of_port(protocol, address.unwrap().port()).unwrap();
            assert!(owner.ends_with(&format!("(pid {})", std::process::id())), "{owner}");
        }
    }

    #[test]
    fn only_listening_lines_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:0050 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n\
             1: 0100007F:5000 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1\n\
             2: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 13 1\n\
             broken\n";
        assert_eq!(sockets_in(table, &[LISTEN]).collect::<Vec<_>>(), [("12", 0x5000), ("13", 0x50)]);
    }
}

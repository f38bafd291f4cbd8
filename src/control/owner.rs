//! Who listens on a port: for the message that it is taken.

use std::fs;
use std::path::{Path, PathBuf};

/// The process that listens on a TCP port of this network namespace, as `nginx (pid 812)`, where /proc
/// tells.
pub(super) fn of_port(port: u16) -> Option<String> {
    let sockets = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inode = sockets.iter().find_map(|path| {
        let table = fs::read_to_string(path).ok()?;
        listener(&table, port).map(str::to_owned)
    })?;
    let target = format!("socket:[{inode}]");
    // Names that are numbers; /proc/self would be found first for this process itself.
    let is_process =
        |p: &PathBuf| p.file_name().is_some_and(|n| n.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    let mut processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path()).filter(is_process);
    let process = processes.find(|process| has_open(&process.join("fd"), &target))?;
    let name = fs::read_to_string(process.join("comm")).ok()?;
    Some(format!("{} (pid {})", name.trim_end(), process.file_name()?.to_str()?))
}

/// The inode of the socket that listens on a port, from the text of /proc/net/tcp (proc(5)): the
/// fields are number, local address, remote address, state, three others, uid, timeout, inode.
fn listener(table: &str, port: u16) -> Option<&str> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>()).find_map(|fields| {
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (local.ends_with(&suffix) && *state == LISTEN).then_some(*inode)
    })
}

fn has_open(descriptors: &Path, target: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(descriptors) else { return false };
    descriptors
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found_and_named() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = of_port(socket.local_addr().unwrap().port()).unwrap();
        assert!(owner.ends_with(&format!("(pid {})", std::process::id())), "{owner}");
    }

    #[test]
    fn only_the_listening_line_of_the_port_counts() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:0050 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n\
             1: 0100007F:5000 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1\n\
             2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1\n";
        assert_eq!(listener(table, 0x50), Some("13"));
        assert_eq!(listener(table, 0x51), None);
        assert_eq!(listener("broken", 0x50), None);
    }
}

//! A corner of the machine that belongs to one test: a folder, addresses of 127.0.0.0/8 and ports.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

/// See the module.
pub(crate) struct World {
    folder: TempDir,
    /// Held so that no other test process takes the same port: names, not ports.
    reserved: Mutex<Vec<UnixDatagram>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("manifests")).unwrap();
        Self { folder, reserved: Mutex::default() }
    }

    /// An address that no other test uses.
    #[allow(
        clippy::unused_self,
        reason = "an address belongs to a world, though nothing has to be kept of it"
    )]
    pub(crate) fn ip(&self) -> Ipv4Addr {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        // Two test processes at a time have different numbers.
        Ipv4Addr::new(127, 1 + (std::process::id() % 250) as u8, high, 1 + low % 250)
    }

    /// A port that is free on every address, and stays free of other tests and of outgoing connections.
    pub(crate) fn port(&self) -> u16 {
        static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
        let range = quiet_ports();
        for _ in 0..10_000 {
            let port = fastrand::u16(range.clone());
            let name = SocketAddr::from_abstract_name(format!("ringport-test-{port}")).unwrap();
            let Ok(reservation) = UnixDatagram::bind_addr(&name) else { continue };
            let free = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok()
                && UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok();
            if free && TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
                self.reserved.lock().unwrap().push(reservation);
                return port;
            }
        }
        panic!("no free port in {range:?}");
    }

    /// The folder that ringport watches.
    pub(crate) fn manifests(&self) -> PathBuf {
        self.path("manifests")
    }

    /// A file beside it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a manifest as a careful program does: a new file, renamed over the old one.
    pub(crate) fn apply(&self, name: &str, text: &str) {
        let draft = self.path("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, self.manifest(name)).unwrap();
    }

    /// Writes a manifest as an editor does: into the file that is there.
    pub(crate) fn overwrite(&self, name: &str, text: &str) {
        std::fs::write(self.manifest(name), text).unwrap();
    }

    /// Removes a manifest.
    pub(crate) fn delete(&self, name: &str) {
        std::fs::remove_file(self.manifest(name)).unwrap();
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.manifests().join(Path::new(name).with_extension("yml"))
    }
}

/// Ports that the kernel does not give to outgoing connections.
fn quiet_ports() -> Range<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first: u16 = text.split_whitespace().next().unwrap().parse().unwrap();
    assert!(first > 12_000, "no room below the ephemeral ports, which begin at {first}");
    10_000..first
}

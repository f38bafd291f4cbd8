//! The demo's pods: tiny HTTP servers on loopback addresses, on a thread of their own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// Pods that are about to serve.
pub(super) struct Pods {
    /// Where they listen: the same port on addresses of 127.0.0.0/8.
    pub(super) port: u16,
    listeners: Vec<TcpListener>,
}

/// The addresses of pods that are tried, one after the other.
const NETWORK: std::ops::Range<u8> = 11..60;

/// What one connection may send, so that a line without end does not fill the memory.
const REQUEST_BYTES: u64 = 64 << 20;

impl Pods {
    /// Opens listeners for so many pods on this port, on the first loopback addresses where it is free.
    pub(super) fn bind(count: usize, port: u16) -> io::Result<Self> {
        let mut listeners = Vec::new();
        let mut failed = None;
        for last in NETWORK {
            match TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)) {
                Ok(listener) => listeners.push(listener),
                // Another program, perhaps another demo.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => failed = Some(error),
                Err(error) => return Err(error),
            }
            if listeners.len() == count {
                for listener in &listeners {
                    listener.set_nonblocking(true)?;
                }
                return Ok(Self { port, listeners });
            }
        }
        Err(failed.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    /// Name and address of each pod.
    pub(super) fn names(&self) -> io::Result<Vec<(String, SocketAddr)>> {
        let name =
            |(n, listener): (usize, &TcpListener)| Ok((format!("myapp-{}", n + 1), listener.local_addr()?));
        self.listeners.iter().enumerate().map(name).collect()
    }

    /// Answers until the process ends.
    pub(super) fn serve(self) -> io::Result<()> {
        let names = self.names()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("pods".to_owned()).spawn(move || {
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                for ((name, _), listener) in names.into_iter().zip(self.listeners) {
                    tokio::task::spawn_local(accept(name, listener));
                }
                std::future::pending::<()>().await;
            });
        })?;
        Ok(())
    }
}

async fn accept(name: String, listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let greeting = format!("Hello from POD {name} at {}, to {client}\n", listener.local_addr()?);
                tokio::task::spawn_local(answer(stream, greeting));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One answer for each empty line, which ends the head of a request without a body.
async fn answer(mut stream: TcpStream, greeting: String) -> io::Result<()> {
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{greeting}",
        greeting.len()
    );
    let (reading, mut writing) = stream.split();
    let mut lines = BufReader::new(reading.take(REQUEST_BYTES)).lines();
    while let Some(line) = lines.next_line().await? {
        if line.is_empty() {
            writing.write_all(response.as_bytes()).await?;
        }
    }
    Ok(())
}

//! The demo's pods: tiny HTTP servers on loopback addresses, on a thread of their own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::limits;

/// Pods that are about to serve.
pub(super) struct Pods {
    /// Where they listen: the same port on addresses of 127.0.0.0/8.
    pub(super) port: u16,
    listeners: Vec<TcpListener>,
}

/// The addresses of pods that are tried, one after the other.
const NETWORK: std::ops::Range<u8> = 11..60;

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
            Err(_) => tokio::time::sleep(limits::ACCEPT_BACKOFF).await,
        }
    }
}

/// One answer for each empty line, which ends the head of a request without a body. The connection stays
/// open unless the client asks for its end, or speaks HTTP/1.0.
async fn answer(mut stream: TcpStream, greeting: String) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut lines = BufReader::new(reading.take(limits::DEMO_REQUEST_BYTES)).lines();
    let mut last = false;
    while let Some(line) = lines.next_line().await? {
        let line = line.to_ascii_lowercase();
        last |= line.ends_with(" http/1.0") || line == "connection: close";
        if !line.is_empty() {
            continue;
        }
        let connection = if last { "close" } else { "keep-alive" };
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{greeting}",
            greeting.len()
        );
        writing.write_all(response.as_bytes()).await?;
        if last {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn pods_say_who_they_are_and_end_when_asked() {
        let pods = Pods::bind(2, 0).unwrap();
        let names = pods.names().unwrap();
        pods.serve().unwrap();
        assert_eq!(names.len(), 2);
        for (name, address) in names {
            assert!(address.ip().is_loopback());
            let answer = ask(address, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains(&format!("\r\n\r\nHello from POD {name} at {address}, to 127.0.0.1:")));
            let two = ask(address, "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n");
            assert_eq!(two.matches("Hello from POD").count(), 2, "{two}");
        }
    }
}

//! A proxy before an API that cuts, delays, duplicates and reorders what watches say, whole events at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use fastrand::Rng;

use crate::harness::netns::Host;

/// What it has done, so that a test can see that it did.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    pub(crate) cut: AtomicUsize,
    pub(crate) swapped: AtomicUsize,
    pub(crate) repeated: AtomicUsize,
    pub(crate) refused: AtomicUsize,
}

impl Deeds {
    /// Whether each has happened that is no accident of the start.
    pub(crate) fn are_all_done(&self) -> bool {
        [&self.cut, &self.swapped, &self.repeated].iter().all(|deed| deed.load(Ordering::Relaxed) > 0)
    }
}

/// A proxy on the loopback interface of a host, before an API on a unix socket. It ends with the tests.
pub(crate) fn start(host: &Host, api: &Path, seed: u64) -> (SocketAddr, Arc<Deeds>) {
    proxy(host, api, Rng::with_seed(seed), true)
}

/// One that spoils nothing.
pub(crate) fn calm(host: &Host, api: &Path) -> SocketAddr {
    proxy(host, api, Rng::with_seed(0), false).0
}

fn proxy(host: &Host, api: &Path, mut seeds: Rng, wild: bool) -> (SocketAddr, Arc<Deeds>) {
    let listener = host.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let deeds = Arc::new(Deeds::default());
    let (api, done) = (api.to_owned(), deeds.clone());
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let (api, deeds, random) = (api.clone(), done.clone(), seeds.fork());
            // A connection that breaks is what this is about.
            std::thread::spawn(move || drop(serve(client, &api, random, wild, &deeds)));
        }
    });
    (address, deeds)
}

fn serve(mut client: TcpStream, api: &PathBuf, mut random: Rng, wild: bool, deeds: &Deeds) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let request = head(&mut reader)?;
    if wild && random.u8(..10) == 0 {
        deeds.refused.fetch_add(1, Ordering::Relaxed);
        return client.write_all(
            b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        );
    }
    let mut upstream = UnixStream::connect(api)?;
    upstream.write_all(request.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
    let length = request
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    io::copy(&mut reader.take(length.unwrap_or(0)), &mut upstream)?;
    if !request.lines().next().is_some_and(|line| line.contains("watch=")) {
        io::copy(&mut upstream, &mut client)?;
        return Ok(());
    }
    let mut upstream = BufReader::new(upstream);
    let answer = head(&mut upstream)?;
    assert!(answer.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{answer}");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    client.write_all(head.as_bytes())?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = Vec::new();
        while let Ok(Some(chunk)) = chunk(&mut upstream) {
            buffer.extend(chunk);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let rest = buffer.split_off(end + 1);
                if sender.send(std::mem::replace(&mut buffer, rest)).is_err() {
                    return;
                }
            }
        }
    });
    if !wild {
        return receiver.iter().try_for_each(|event| client.write_all(&event));
    }
    spoil(&mut client, &receiver, &mut random, deeds)
}

/// Passes events on, each whole, and more or less as they came.
fn spoil(
    client: &mut TcpStream,
    events: &Receiver<Vec<u8>>,
    random: &mut Rng,
    deeds: &Deeds,
) -> io::Result<()> {
    let mut sent: Vec<Vec<u8>> = Vec::new();
    while let Ok(event) = events.recv() {
        match random.u8(..24) {
            0 => {
                // In the middle of an event.
                client.write_all(&event[..event.len() / 2])?;
                deeds.cut.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            1 => {
                deeds.cut.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            2..6 => match events.recv_timeout(Duration::from_millis(random.u64(1..20))) {
                Ok(next) => {
                    deeds.swapped.fetch_add(1, Ordering::Relaxed);
                    client.write_all(&[next, event.clone()].concat())?;
                }
                Err(RecvTimeoutError::Timeout) => client.write_all(&event)?,
                Err(RecvTimeoutError::Disconnected) => return client.write_all(&event),
            },
            6..9 => {
                client.write_all(&event)?;
                if let Some(old) = random.choice(&sent) {
                    deeds.repeated.fetch_add(1, Ordering::Relaxed);
                    client.write_all(old)?;
                }
            }
            _ => client.write_all(&event)?,
        }
        sent.push(event);
    }
    Ok(())
}

/// Up to the empty line, with it.
fn head(stream: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if stream.read_line(&mut text)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(text)
}

fn chunk(stream: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut size = String::new();
    stream.read_line(&mut size)?;
    let Ok(size) = usize::from_str_radix(size.trim(), 16) else { return Ok(None) };
    let mut bytes = vec![0; size + 2];
    stream.read_exact(&mut bytes)?;
    bytes.truncate(size);
    Ok((size > 0).then_some(bytes))
}

/// A request to an API on a unix socket: the status and the body.
pub(crate) fn request(api: &Path, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(api).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    (status, body)
}

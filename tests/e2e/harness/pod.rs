//! Pods that do as they are told.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use super::client::patient;

/// A pod with a thread for each connection. It stops accepting when dropped.
pub(crate) struct Pod {
    accepted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    /// The same socket as the acceptor's, to end it.
    listener: TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

impl Pod {
    pub(crate) fn start(listener: TcpListener, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let accepted = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let serve = Arc::new(serve);
        let (count, stopped) = (accepted.clone(), stop.clone());
        let ours = listener.try_clone().unwrap();
        let acceptor = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let serve = serve.clone();
                std::thread::spawn(move || serve(patient(stream)));
            }
        });
        Self { accepted, stop, listener: ours, acceptor: Some(acceptor) }
    }

    /// How many connections it has had.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Ends accept(2), also where this thread is on another host and could not connect.
        let ended = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take().filter(|_| ended.is_ok()) {
            let _ = acceptor.join();
        }
    }
}

/// Listeners at these addresses on one port that all of them have free.
pub(crate) fn listen(ips: &[Ipv4Addr]) -> (u16, Vec<TcpListener>) {
    loop {
        let first = TcpListener::bind((ips[0], 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let others: Vec<_> = ips[1..].iter().map_while(|&ip| TcpListener::bind((ip, port)).ok()).collect();
        if others.len() + 1 == ips.len() {
            return (port, [first].into_iter().chain(others).collect());
        }
    }
}

/// Sends back what comes, until FIN.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) if stream.write_all(&buffer[..n]).is_ok() => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => return,
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

/// Answers one line with a name, and closes.
pub(crate) fn named(name: &str) -> impl Fn(TcpStream) + Send + Sync + 'static {
    let answer = format!("{name}\n");
    move |mut stream| {
        let mut byte = [0];
        while stream.read(&mut byte).is_ok_and(|n| n == 1) {
            if byte[0] == b'\n' {
                let _ = stream.write_all(answer.as_bytes());
                return;
            }
        }
    }
}

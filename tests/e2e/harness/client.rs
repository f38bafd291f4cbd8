//! Connections as a client or a pod holds them, and how they end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::wait::{PATIENCE, until};

/// How reading came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// A connection, from whatever address. It never blocks for longer than [`PATIENCE`].
pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(to).unwrap_or_else(|error| panic!("connect to {to}: {error}")))
}

/// The same, where failing is one of the answers.
pub(crate) fn try_connect(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, PATIENCE).map(patient)
}

/// How a new connection ends on which neither side says anything. A reset may be there before connect(2) is.
pub(crate) fn end_of_new(node: SocketAddr) -> End {
    match try_connect(node) {
        Ok(mut stream) => end_of(&mut stream),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
        Err(error) => panic!("connect to {node}: {error}"),
    }
}

/// Waits until connections are refused. Those that are not are reset, so that they leave no session.
pub(crate) fn until_refused(node: SocketAddr) {
    until("new connections are refused", || match try_connect(node) {
        Ok(stream) => {
            reset(stream);
            None
        }
        Err(error) => (error.kind() == ErrorKind::ConnectionRefused).then_some(()),
    });
}

/// A connection from an address of choice.
pub(crate) fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    Ok(patient(socket.into()))
}

/// Bounds every read and write, so that a hang is a failure.
pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Closes with a reset instead of a FIN.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Says FIN and goes on reading.
pub(crate) fn finish(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// All that comes, and how it ends.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (bytes, End::Fin),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (bytes, End::Reset),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("read after {} bytes: {error}", bytes.len()),
        }
    }
}

/// How the other side ended the connection; nothing may come before.
pub(crate) fn end_of(stream: &mut TcpStream) -> End {
    let (bytes, end) = read_to_end(stream);
    assert!(bytes.is_empty(), "{} bytes before the end ({end:?})", bytes.len());
    end
}

/// Sends `message` and reads as many bytes as `answer` has, which must be the same.
pub(crate) fn exchange(a: &mut TcpStream, b: &mut TcpStream, message: &[u8]) {
    a.write_all(message).unwrap();
    let mut got = vec![0; message.len()];
    b.read_exact(&mut got).unwrap();
    assert!(got == message, "the message of {} bytes arrived changed", message.len());
}

/// One request to a pod that says its name and closes.
pub(crate) fn ask(to: SocketAddr) -> io::Result<String> {
    read_name(try_connect(to)?)
}

/// The same from an address of choice.
pub(crate) fn ask_from(from: IpAddr, to: SocketAddr) -> io::Result<String> {
    read_name(connect_from(from, to)?)
}

fn read_name(mut stream: TcpStream) -> io::Result<String> {
    stream.write_all(b"who?\n")?;
    let mut name = String::new();
    stream.read_to_string(&mut name)?;
    match name.strip_suffix('\n') {
        Some(name) => Ok(name.to_owned()),
        None => Err(io::Error::new(ErrorKind::UnexpectedEof, format!("only '{name}'"))),
    }
}

/// Waits until the other side's kernel has taken everything that was written.
pub(crate) fn acknowledged(stream: &TcpStream) {
    let port = |address: SocketAddr| format!(":{:04X}", address.port());
    let (local, peer) = (port(stream.local_addr().unwrap()), port(stream.peer_addr().unwrap()));
    until("the other side takes what was sent", || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let row = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|row| row.len() > 4 && row[1].ends_with(&local) && row[2].ends_with(&peer))?;
        row[4].starts_with("00000000:").then_some(())
    });
}

//! A client of the embedded API that sends exactly what it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::wait::PATIENCE;

/// Where the API is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api(pub(crate) SocketAddr);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// `message` of a Status.
    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The `Warning` headers.
    pub(crate) fn warnings(&self) -> Vec<&str> {
        self.headers.iter().filter(|(name, _)| name == "warning").map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body, if the status is the one that is expected.
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.json()
    }
}

impl Api {
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    pub(crate) fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.send("GET", path, &[("Accept", accept)], "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[("Content-Type", "application/json")], body)
    }

    pub(crate) fn put(&self, path: &str, body: &str) -> Answer {
        self.send("PUT", path, &[("Content-Type", "application/json")], body)
    }

    pub(crate) fn patch(&self, path: &str, kind: &str, body: &str) -> Answer {
        let kind = if kind == "apply" { "apply-patch+yaml".to_owned() } else { format!("{kind}-patch+json") };
        self.send("PATCH", path, &[("Content-Type", &format!("application/{kind}"))], body)
    }

    pub(crate) fn delete(&self, path: &str, body: &str) -> Answer {
        self.send("DELETE", path, &[("Content-Type", "application/json")], body)
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.try_send(method, path, headers, body.as_bytes()).unwrap()
    }

    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let mut stream = connect(self.0)?;
        stream.write_all(head(method, path, headers, body.len(), self.0).as_bytes())?;
        // A server that refuses a body may close before it has read all of it.
        let _ = stream.write_all(body);
        read_answer(&mut BufReader::new(stream))
    }

    /// Starts a watch.
    pub(crate) fn watch(&self, path: &str) -> Watch {
        self.watch_as(path, "application/json")
    }

    pub(crate) fn watch_as(&self, path: &str, accept: &str) -> Watch {
        let mut stream = connect(self.0).unwrap();
        stream.write_all(head("GET", path, &[("Accept", accept)], 0, self.0).as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let (status, headers) = read_head(&mut reader).unwrap();
        if status != 200 {
            let mut rest = String::new();
            let _ = reader.read_to_string(&mut rest);
            panic!("{status} {headers:?} {rest}");
        }
        Watch { reader, rest: Vec::new() }
    }
}

/// A watch that is being read.
pub(crate) struct Watch {
    reader: BufReader<TcpStream>,
    rest: Vec<u8>,
}

impl Watch {
    /// The next event; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let piece = read_chunk(&mut self.reader).unwrap();
            if piece.is_empty() {
                return None;
            }
            self.rest.extend(piece);
        }
    }

    /// The next event as `ADDED web`.
    pub(crate) fn told(&mut self) -> String {
        let event = self.next().unwrap_or_else(|| panic!("the watch has ended"));
        format!(
            "{} {}",
            event["type"].as_str().unwrap(),
            event["object"]["metadata"]["name"].as_str().unwrap_or_default()
        )
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize, host: SocketAddr) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head += &format!("Host: {host}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + "\r\n"
}

/// Reads one answer from any stream.
pub(crate) fn read_answer(reader: &mut impl BufRead) -> std::io::Result<Answer> {
    let (status, headers) = read_head(reader)?;
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let mut body = Vec::new();
    if chunked {
        loop {
            let piece = read_chunk(reader)?;
            if piece.is_empty() {
                break;
            }
            body.extend(piece);
        }
    } else {
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    }
    let body = String::from_utf8(body).map_err(std::io::Error::other)?;
    Ok(Answer { status, headers, body })
}

type Head = (u16, Vec<(String, String)>);

fn read_head(reader: &mut impl BufRead) -> std::io::Result<Head> {
    let first = read_line(reader)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no status: {first:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        let Some((name, value)) = line.split_once(':') else { return Ok((status, headers)) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_chunk(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let line = read_line(reader)?;
    let length = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
    let mut piece = vec![0; length];
    reader.read_exact(&mut piece)?;
    read_line(reader)?;
    Ok(piece)
}

fn read_line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

//! A pod to try things on: answers every HTTP request on a connection with a body of so many bytes.
//!
//! `cargo run --example pod -- 127.0.0.1:8080 1024`

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// Enough for one connection, so that thousands of them fit.
const STACK_BYTES: usize = 64 * 1024;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let length: usize = args.next().and_then(|text| text.parse().ok()).unwrap_or(1024);
    let (head, body) = (format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n"), "x".repeat(length));
    let answers = [format!("{head}\r\n{body}"), format!("{head}Connection: close\r\n\r\n{body}")];
    let answers: &'static [String; 2] = Box::leak(Box::new(answers));
    let listener = TcpListener::bind(address)?;
    loop {
        let (stream, _) = listener.accept()?;
        let serve = move || serve(stream, answers);
        std::thread::Builder::new().stack_size(STACK_BYTES).spawn(serve)?;
    }
}

/// Answers until the client leaves, or asks for the connection to be closed.
fn serve(stream: TcpStream, [answer, last_answer]: &[String; 2]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(4096, stream);
    let (mut line, mut close) = (String::new(), false);
    while reader.read_line(&mut line)? > 0 {
        let text = line.trim_end();
        close |= text.eq_ignore_ascii_case("connection: close");
        if text.is_empty() {
            if close {
                return writer.write_all(last_answer.as_bytes());
            }
            writer.write_all(answer.as_bytes())?;
        }
        line.clear();
    }
    Ok(())
}

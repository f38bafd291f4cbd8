//! Streams of bytes that both ends can make, so that what arrives is compared byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Bytes made and compared at a time.
pub(crate) const CHUNK: usize = 64 * 1024;
/// More than all socket buffers on the way hold: 4 MiB to send and 6 MiB to receive, twice, and pipes.
const MAX_IN_FLIGHT: usize = 48 << 20;

/// An endless stream, the same for the same seed.
pub(crate) struct Stream(fastrand::Rng);

impl Stream {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// The next `n` bytes.
    pub(crate) fn next(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.0.fill(&mut bytes);
        bytes
    }
}

/// A seed, told to whoever reads the failure.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("RINGPORT_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed: {seed} (RINGPORT_TEST_SEED={seed} runs the same again)");
    seed
}

/// Writes the first `n` bytes of a stream.
pub(crate) fn send(to: &mut impl Write, seed: u64, n: usize) {
    let mut stream = Stream::new(seed);
    let mut sent = 0;
    while sent < n {
        let chunk = stream.next(CHUNK.min(n - sent));
        to.write_all(&chunk).unwrap_or_else(|error| panic!("write after {sent} of {n} bytes: {error}"));
        sent += chunk.len();
    }
}

/// Reads exactly the first `n` bytes of a stream.
pub(crate) fn expect(from: &mut impl Read, seed: u64, n: usize) {
    let mut stream = Stream::new(seed);
    let mut seen = 0;
    let mut buffer = vec![0; CHUNK];
    while seen < n {
        let wanted = stream.next(CHUNK.min(n - seen));
        let got = &mut buffer[..wanted.len()];
        from.read_exact(got).unwrap_or_else(|error| panic!("read after {seen} of {n} bytes: {error}"));
        if got != wanted {
            let at = got.iter().zip(&wanted).position(|(a, b)| a != b).unwrap_or_default();
            panic!("byte {} of {n} is wrong", seen + at);
        }
        seen += wanted.len();
    }
}

/// Writes until the other side has taken nothing for a while: how many bytes of the stream it took, and the
/// rest of the chunk that it did not take whole.
pub(crate) fn write_until_stuck(to: &mut TcpStream, stream: &mut Stream) -> (usize, Vec<u8>) {
    to.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    let mut sent = 0;
    loop {
        let chunk = stream.next(CHUNK);
        let mut done = 0;
        while done < CHUNK {
            match to.write(&chunk[done..]) {
                Ok(n) => done += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return (sent + done, chunk[done..].to_vec());
                }
                Err(error) => panic!("write: {error}"),
            }
        }
        sent += done;
        assert!(sent < MAX_IN_FLIGHT, "nobody reads, and {sent} bytes were taken");
    }
}

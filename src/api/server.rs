//! The listener of the API and its connections. Runs on the control thread.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::access::Access;
use super::answer::Api;
use super::credentials::{Credentials, CredentialsError};
use super::hub::Hub;
use super::pace::{Pace, Paced};
use crate::config::{ApiAddress, Config};
use crate::limits;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its certificate or token.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The certificate and the key do not work.
    #[error("the certificate of the API cannot be used: {0}")]
    Tls(String),
    /// Its address.
    #[error("--api {address} cannot be bound")]
    Bind {
        /// The address.
        address: ApiAddress,
        /// Why.
        #[source]
        reason: io::Error,
    },
}

/// A listener that nobody is served on yet. It holds its address, so that no Service gets it.
pub struct Server {
    listener: Listener,
    access: Access,
    tls: Option<TlsAcceptor>,
    address: ApiAddress,
}

#[derive(Debug)]
enum Listener {
    Tcp(StdTcpListener),
    Unix(StdUnixListener, Socket),
}

/// The file of a unix socket; it goes with its listener.
#[derive(Debug)]
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Server {
    /// Opens the listener at `address`, with what it needs there.
    pub fn bind(config: &Config, address: &ApiAddress) -> Result<Self, Error> {
        let credentials = Credentials::load(config, address)?;
        let tls = credentials.acceptor().map_err(Error::Tls)?;
        let failed = |reason| Error::Bind { address: address.clone(), reason };
        let (listener, address) = match address {
            ApiAddress::Tcp(wanted) => {
                let listener = bind_tcp(*wanted).map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                (Listener::Tcp(listener), ApiAddress::Tcp(bound))
            }
            ApiAddress::Unix(path) => {
                let listener = bind_unix(path).map_err(failed)?;
                (Listener::Unix(listener, Socket(path.clone())), address.clone())
            }
        };
        let access = match (&credentials.token, &address) {
            (Some(token), _) => Access::Token(token.clone()),
            (None, ApiAddress::Tcp(address)) => Access::Loopback(*address),
            (None, ApiAddress::Unix(_)) => Access::Socket,
        };
        Ok(Self { listener, access, tls, address })
    }

    /// Where it listens: `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        match (&self.address, &self.tls) {
            (ApiAddress::Tcp(address), None) => format!("http://{address}"),
            (ApiAddress::Tcp(address), Some(_)) => format!("https://{address}"),
            (unix, _) => unix.to_string(),
        }
    }

    /// Answers requests over this hub, for ever.
    pub async fn serve(self, hub: Rc<Hub>) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(limits::API_CONNECTIONS));
        let api = Rc::new(Api::new(hub, self.access, self.address.to_string()));
        let tls = self.tls;
        match self.listener {
            Listener::Tcp(listener) => {
                let listener = TcpListener::from_std(listener)?;
                loop {
                    let Ok(place) = room.clone().acquire_owned().await else { return Ok(()) };
                    let Some((stream, _)) = accepted(listener.accept().await).await else { continue };
                    // Events of a watch are small and are wanted at once.
                    let _ = stream.set_nodelay(true);
                    let (api, tls) = (api.clone(), tls.clone());
                    tokio::task::spawn_local(async move {
                        match tls {
                            None => converse(stream, api).await,
                            Some(tls) => {
                                let handshake = tls.accept(stream);
                                if let Ok(Ok(stream)) =
                                    tokio::time::timeout(limits::API_HEAD_TIME, handshake).await
                                {
                                    converse(stream, api).await;
                                }
                            }
                        }
                        drop(place);
                    });
                }
            }
            Listener::Unix(listener, _socket) => {
                let listener = UnixListener::from_std(listener)?;
                loop {
                    let Ok(place) = room.clone().acquire_owned().await else { return Ok(()) };
                    let Some((stream, _)) = accepted(listener.accept().await).await else { continue };
                    let api = api.clone();
                    tokio::task::spawn_local(async move {
                        converse(stream, api).await;
                        drop(place);
                    });
                }
            }
        }
    }
}

async fn accepted<T>(result: io::Result<T>) -> Option<T> {
    match result {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "the API cannot accept a connection; it tries again in a second");
            tokio::time::sleep(Duration::from_secs(1)).await;
            None
        }
    }
}

/// The requests of one connection, one after the other.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, api: Rc<Api>) {
    let pace = Pace::new();
    let stream = Paced::new(stream, pace.clone());
    let service = service_fn(move |request| {
        let (api, request_time) = (api.clone(), pace.request());
        async move { Ok::<_, Infallible>(api.answer(request).await.map(|body| body.until(request_time))) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::API_IDLE_TIME)
        .max_buf_size(limits::API_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // A client that leaves, stalls or speaks no HTTP concerns nobody.
    let _ = connection.await;
}

fn bind_tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    // Sets SO_REUSEADDR, so that a restart does not wait for TIME_WAIT.
    let listener = StdTcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A socket that only its owner may connect to, from the first moment on: nobody can connect before `listen`.
fn bind_unix(path: &Path) -> io::Result<StdUnixListener> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

/// Removes a socket that nobody listens on: one of a process that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match StdUnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            _ => Err(io::ErrorKind::AddrInUse.into()),
        },
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => Ok(()),
    }
}

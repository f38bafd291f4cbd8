//! Which API, and how it is reached.

use std::path::{Path, PathBuf};

use hyper::Request;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::net::UnixStream;

use super::Failure;
use super::args::Target;

/// A client of the API. Nothing is sent yet.
///
/// Only what the command line names is used: not `~/.kube/config`, so that a verb meant for the ringport next
/// door never reaches a production cluster.
pub(super) async fn connect(target: &Target) -> Result<Client, Failure> {
    if let Some(file) = &target.kubeconfig {
        return from_kubeconfig(file).await;
    }
    if let Some(path) = target.server.strip_prefix("unix:") {
        return Ok(over_unix_socket(path.trim_start_matches("//").into()));
    }
    let url = match target.server.contains("://") {
        true => target.server.clone(),
        false => format!("http://{}", target.server),
    };
    let url = url.parse().map_err(|error| Failure::Said(format!("error: --server {url}: {error}")))?;
    client(Config::new(url))
}

async fn from_kubeconfig(file: &Path) -> Result<Client, Failure> {
    let said = |error: &dyn std::fmt::Display| Failure::Said(format!("error: {}: {error}", file.display()));
    let kubeconfig = Kubeconfig::read_from(file).map_err(|error| said(&error))?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| said(&error))?;
    client(config)
}

fn client(mut config: Config) -> Result<Client, Failure> {
    // Whoever waits at a terminal wants to know at once.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| Failure::Said(format!("error: {error}")))
}

/// A connection for each request: a verb sends one or two.
fn over_unix_socket(path: PathBuf) -> Client {
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let path = path.clone();
        async move {
            let stream = UnixStream::connect(&path).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let local = hyper::header::HeaderValue::from_static("localhost");
            request.headers_mut().insert(hyper::header::HOST, local);
            Ok::<_, tower::BoxError>(sender.send_request(request).await?)
        }
    });
    Client::new(service, "default")
}

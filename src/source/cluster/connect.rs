//! How the API server is reached, and with whose rights.

use std::cell::RefCell;
use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::limits;

/// Where address and credentials of the API server come from.
#[derive(Clone, Debug)]
pub enum Access {
    /// A kubeconfig file: its current context.
    Kubeconfig(PathBuf),
    /// The service account of the pod that this process runs in.
    InCluster,
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("--kubeconfig {path} cannot be used")]
    Kubeconfig {
        /// The file.
        path: String,
        /// Why.
        #[source]
        reason: Box<kube::config::KubeconfigError>,
    },
    /// Not in a pod, or without a service account.
    #[error("--in-cluster: this process is not in a pod that may speak to the API server")]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// Certificates or keys cannot be used.
    #[error("the client of the API server cannot be made")]
    Client(#[source] Box<kube::Error>),
}

/// A way to the API server. Tokens and certificate authorities in files are read again by the client
/// itself; everything else is when `renew` is called.
pub struct Link {
    access: Option<Access>,
    client: RefCell<Client>,
}

impl Link {
    /// Reads the credentials. Does not connect yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// Where they cannot be read or used.
    pub async fn new(access: Access) -> Result<Self, ConnectError> {
        let client = RefCell::new(connect(&access).await?);
        Ok(Self { access: Some(access), client })
    }

    /// A client that is already there.
    #[cfg(test)]
    pub(super) fn of(client: Client) -> Self {
        Self { access: None, client: RefCell::new(client) }
    }

    pub(super) fn client(&self) -> Client {
        self.client.borrow().clone()
    }

    /// Reads the credentials again, for when the server has refused them.
    pub(super) async fn renew(&self) {
        let Some(access) = &self.access else { return };
        match connect(access).await {
            Ok(client) => {
                self.client.replace(client);
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "credentials"),
        }
    }
}

async fn connect(access: &Access) -> Result<Client, ConnectError> {
    let mut config = match access {
        Access::Kubeconfig(path) => {
            let error = |reason| ConnectError::Kubeconfig {
                path: path.display().to_string(),
                reason: Box::new(reason),
            };
            let kubeconfig = Kubeconfig::read_from(path).map_err(error)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(error)?
        }
        Access::InCluster => Config::incluster().map_err(|e| ConnectError::InCluster(Box::new(e)))?,
    };
    config.connect_timeout = Some(limits::API_CONNECT_TIME);
    // Failures are waited out here, once, and not a second time below.
    config.default_retry = false;
    Client::try_from(config).map_err(|e| ConnectError::Client(Box::new(e)))
}

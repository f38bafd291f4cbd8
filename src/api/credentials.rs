//! The certificate and the token of the API: from the files that are named, or made once and kept under
//! `--state-dir`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use uuid::Uuid;

use crate::config::{ApiAddress, Config};
use crate::net::{addresses, machine};

/// Why the API cannot be served as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Beyond loopback there is nowhere to keep what has to be made.
    #[error(
        "{0} is not a loopback address, so the API needs TLS and a token: name a folder to keep them in with --state-dir, or \
         give --api-tls-cert-file, --api-tls-private-key-file and --api-token-file"
    )]
    NoPlace(SocketAddr),
    /// One of the two files of TLS.
    #[error("--api-tls-cert-file and --api-tls-private-key-file belong together: give both, or none")]
    Half,
    /// A file.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl CredentialsError {
    fn file(path: &Path, reason: impl ToString) -> Self {
        Self::File { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What the server shows, and what it wants to be shown.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// PEM of the certificates and the key, where there is TLS.
    tls: Option<(Vec<u8>, Vec<u8>)>,
    /// The bearer token that requests need.
    pub token: Option<String>,
}

impl Credentials {
    /// Reads what the options name; makes what is missing and needed.
    pub fn load(config: &Config, address: &ApiAddress) -> Result<Self, CredentialsError> {
        let tls = match (&config.api_tls_cert_file, &config.api_tls_private_key_file) {
            (Some(certificate), Some(key)) => Some((read(Path::new(certificate))?, read(Path::new(key))?)),
            (None, None) => match beyond_loopback(address) {
                Some(address) => Some(own_certificate(&place(config, address)?, address)?),
                None => None,
            },
            _ => return Err(CredentialsError::Half),
        };
        let token = match &config.api_token_file {
            Some(file) => Some(read_token(Path::new(file))?),
            None => match beyond_loopback(address) {
                Some(address) => Some(own_token(&place(config, address)?)?),
                None => None,
            },
        };
        Ok(Self { tls, token })
    }

    /// PEM of the certificates by which clients know the server.
    pub fn authority(&self) -> Option<&[u8]> {
        self.tls.as_ref().map(|(certificate, _)| certificate.as_slice())
    }

    /// What makes a connection a TLS connection.
    pub(super) fn acceptor(&self) -> Result<Option<TlsAcceptor>, String> {
        let Some((certificate, key)) = &self.tls else { return Ok(None) };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|e| e.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }
}

/// Beyond loopback a stranger may listen or talk.
fn beyond_loopback(address: &ApiAddress) -> Option<SocketAddr> {
    match address {
        ApiAddress::Tcp(address) if !address.ip().is_loopback() => Some(*address),
        _ => None,
    }
}

fn place(config: &Config, address: SocketAddr) -> Result<PathBuf, CredentialsError> {
    let folder = PathBuf::from(config.state_dir.as_ref().ok_or(CredentialsError::NoPlace(address))?);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| CredentialsError::file(&folder, error))?;
    Ok(folder)
}

fn own_certificate(folder: &Path, address: SocketAddr) -> Result<(Vec<u8>, Vec<u8>), CredentialsError> {
    let (certificate, key) = (folder.join("api.crt"), folder.join("api.key"));
    if !certificate.exists() || !key.exists() {
        let made = rcgen::generate_simple_self_signed(names(address))
            .map_err(|error| CredentialsError::file(&certificate, error))?;
        write_private(&key, &made.signing_key.serialize_pem())?;
        write_private(&certificate, &made.cert.pem())?;
    }
    Ok((read(&certificate)?, read(&key)?))
}

/// The names and addresses by which clients may know this node.
fn names(address: SocketAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), machine::hostname()];
    let mut own = addresses::all().unwrap_or_default();
    own.push(address.ip());
    own.retain(|address| !address.is_unspecified());
    names.extend(own.iter().map(ToString::to_string));
    names.sort_unstable();
    names.dedup();
    names
}

fn own_token(folder: &Path) -> Result<String, CredentialsError> {
    let path = folder.join("api.token");
    if !path.exists() {
        // 244 bits from the kernel.
        let token = format!("{}{}\n", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        write_private(&path, &token)?;
    }
    read_token(&path)
}

fn read_token(path: &Path) -> Result<String, CredentialsError> {
    let text = String::from_utf8(read(path)?).map_err(|error| CredentialsError::file(path, error))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(CredentialsError::file(path, "it has to hold one token and nothing else"));
    }
    Ok(token.to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|error| CredentialsError::file(path, error))
}

/// Writes a file that only its owner reads; it is there whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<(), CredentialsError> {
    let draft = path.with_extension("new");
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|error| CredentialsError::file(path, error))
}

//! How processes of a cluster connect: plain text, or mutual TLS with certificates of one authority.
//!
//! Owns: reading certificates, the settings of gRPC endpoints (keep-alive, connect time-out). Must never know: what is called.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig,
};

/// Why a connection cannot even be tried.
#[derive(Debug)]
pub enum TransportError {
    /// A certificate or key file cannot be read.
    Read(PathBuf, std::io::Error),
    /// The address is not HOST:PORT.
    Address(String),
    /// The certificates do not make a TLS configuration.
    Tls(String),
}

impl std::fmt::Display for TransportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Address(address) => {
                write!(f, "'{address}' is not an address; expected HOST:PORT")
            }
            Self::Tls(message) => write!(f, "TLS: {message}"),
        }
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(_, error) => Some(error),
            _ => None,
        }
    }
}

/// PEM texts of a process: the authority, its own chain and key.
#[derive(Clone)]
pub struct TlsMaterial {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
    server_name: Option<String>,
}

impl TlsMaterial {
    /// Reads the files. `server_name` is the name that peers' certificates carry; without it, the host that is called.
    pub fn read(
        ca: &Path,
        certificate: &Path,
        key: &Path,
        server_name: Option<String>,
    ) -> Result<Self, TransportError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| TransportError::Read(path.to_owned(), error))
        };
        Ok(Self {
            ca: read(ca)?,
            certificate: read(certificate)?,
            key: read(key)?,
            server_name,
        })
    }

    /// For a server: it shows its certificate and demands one of the same authority.
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.certificate, &self.key))
            .client_ca_root(Certificate::from_pem(&self.ca))
            .client_auth_optional(false)
    }

    fn client(&self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.certificate, &self.key));
        match &self.server_name {
            Some(name) => config.domain_name(name),
            None => config,
        }
    }
}

/// The endpoint at HOST:PORT; it is not connected yet.
pub fn endpoint(address: &str, tls: Option<&TlsMaterial>) -> Result<Endpoint, TransportError> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .ok()
        .filter(|endpoint| endpoint.uri().port_u16().is_some())
        .ok_or_else(|| TransportError::Address(address.to_owned()))?
        .connect_timeout(Duration::from_secs(3))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    match tls {
        Some(tls) => endpoint
            .tls_config(tls.client())
            .map_err(|error| TransportError::Tls(error.to_string())),
        None => Ok(endpoint),
    }
}

/// A channel to HOST:PORT that connects with the first call and again after a failure. Needs a tokio runtime around it.
pub fn connect(address: &str, tls: Option<&TlsMaterial>) -> Result<Channel, TransportError> {
    endpoint(address, tls).map(|endpoint| endpoint.connect_lazy())
}

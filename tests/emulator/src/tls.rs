//! A made-up certificate authority, one leaf for all names of Entra, and a listener that speaks TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

/// The names in the leaf: this machine, and every Entra host that a test may point here.
pub const SERVER_NAMES: &[&str] = &[
    "127.0.0.1",
    "::1",
    "localhost",
    "login.microsoftonline.com",
    "login.windows.net",
    "login.microsoft.com",
    "sts.windows.net",
    "login.microsoftonline.us",
    "login.usgovcloudapi.net",
    "login.chinacloudapi.cn",
    "login.partner.microsoftonline.cn",
];

/// The server's side, and the authority's certificate as PEM. The authority's key is forgotten.
pub(crate) fn make() -> io::Result<(Arc<ServerConfig>, String)> {
    let authority_key = KeyPair::generate().map_err(io::Error::other)?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "Entra ID emulator CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    within_validity(&mut authority);
    let ca_pem = authority.self_signed(&authority_key).map_err(io::Error::other)?.pem();

    let leaf_key = KeyPair::generate().map_err(io::Error::other)?;
    let names: Vec<String> = SERVER_NAMES.iter().map(|&name| name.into()).collect();
    let mut leaf = CertificateParams::new(names).map_err(io::Error::other)?;
    leaf.distinguished_name.push(DnType::CommonName, "Entra ID emulator");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Python 3.13 and newer refuse a leaf without it.
    leaf.use_authority_key_identifier_extension = true;
    within_validity(&mut leaf);
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(authority, authority_key)).map_err(io::Error::other)?;

    let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).map_err(io::Error::other)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), ca_pem))
}

/// Connections of several sockets after their handshakes, for `axum::serve`.
#[derive(Debug)]
pub(crate) struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
}

impl TlsListener {
    pub(crate) fn new(listeners: Vec<TcpListener>, local: SocketAddr, config: Arc<ServerConfig>) -> Self {
        let (sender, ready) = mpsc::channel(64);
        let acceptor = TlsAcceptor::from(config);
        for listener in listeners {
            let (sender, acceptor) = (sender.clone(), acceptor.clone());
            tokio::spawn(async move {
                while let Ok((stream, peer)) = listener.accept().await {
                    let (sender, acceptor) = (sender.clone(), acceptor.clone());
                    // One task per handshake: a silent client must not keep the others out.
                    tokio::spawn(async move {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            let _ = sender.send((stream, peer)).await;
                        }
                    });
                }
            });
        }
        Self { ready, local }
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

fn within_validity(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2045, 1, 1);
}

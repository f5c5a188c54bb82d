//! Where the browser's answer arrives: a port of this machine, in both families of addresses.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::SignInError;
use crate::error::{Error, InvalidArgument, Result};

/// Where the Azure SDKs listen, so that firewalls and habits fit.
const PORTS: RangeInclusive<u16> = 8400..=8999;
/// How many ports of the system's choice to try when all of those are taken.
const OTHER_PORTS: usize = 16;

/// Where the provider sends the browser when the sign-in is over: `http://localhost:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedirectUri {
    host: LoopbackHost,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoopbackHost {
    Localhost,
    V4,
    V6,
}

impl RedirectUri {
    /// Takes an `http` URI of this machine with a port; its path does not count (spec S-B 4.2).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another host or scheme, or without a port.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let refuse = |problem: &str| {
            Error::from(InvalidArgument::new(
                "redirect URI",
                format!("{text:?} {problem}"),
                "give one with a port, such as http://localhost:8400",
            ))
        };
        let uri = Url::parse(text).map_err(|_| refuse("is not a URI"))?;
        if uri.scheme() != "http" {
            return Err(refuse("is not http"));
        }
        let host = match uri.host_str() {
            Some("localhost") => LoopbackHost::Localhost,
            Some("127.0.0.1") => LoopbackHost::V4,
            Some("[::1]") => LoopbackHost::V6,
            _ => return Err(refuse("is not on this machine")),
        };
        let port = uri.port().filter(|port| *port != 0).ok_or_else(|| refuse("has no port"))?;
        Ok(Self { host, port })
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    fn addresses(&self) -> (IpAddr, Option<IpAddr>) {
        let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        match self.host {
            LoopbackHost::Localhost => (v4, Some(v6)),
            LoopbackHost::V4 => (v4, None),
            LoopbackHost::V6 => (v6, None),
        }
    }
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self.host {
            LoopbackHost::Localhost => "localhost",
            LoopbackHost::V4 => "127.0.0.1",
            LoopbackHost::V6 => "[::1]",
        };
        write!(f, "http://{host}:{}", self.port)
    }
}

/// The listening sockets behind one redirect URI.
#[derive(Debug)]
pub(super) struct Sockets {
    redirect_uri: RedirectUri,
    first: TcpListener,
    second: Option<TcpListener>,
}

impl Sockets {
    /// Binds the address given, or else `localhost` with the first free port.
    ///
    /// # Errors
    /// [`SignInError::CannotListen`].
    pub(super) async fn bind(fixed: Option<&RedirectUri>) -> Result<Self, SignInError> {
        let localhost = |port| RedirectUri { host: LoopbackHost::Localhost, port };
        if let Some(redirect_uri) = fixed {
            return Self::bind_to(redirect_uri.clone())
                .await
                .map_err(|source| SignInError::CannotListen { address: redirect_uri.to_string(), source });
        }
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in PORTS.chain(std::iter::repeat_n(0, OTHER_PORTS)) {
            match Self::bind_to(localhost(port)).await {
                Ok(bound) => return Ok(bound),
                Err(error) => last = error,
            }
        }
        Err(SignInError::CannotListen { address: "localhost".to_owned(), source: last })
    }

    /// `localhost` may mean either family to a browser, so both have to be ours, or not be there.
    async fn bind_to(mut redirect_uri: RedirectUri) -> io::Result<Self> {
        let (first, second) = redirect_uri.addresses();
        let first = TcpListener::bind((first, redirect_uri.port)).await?;
        redirect_uri.port = first.local_addr()?.port();
        let second = match second {
            None => None,
            Some(address) => match TcpListener::bind((address, redirect_uri.port)).await {
                Ok(second) => Some(second),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) =>
                {
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(%error, "no IPv6 loopback; listening on IPv4 alone");
                    None
                }
            },
        };
        Ok(Self { redirect_uri, first, second })
    }

    pub(super) const fn redirect_uri(&self) -> &RedirectUri {
        &self.redirect_uri
    }
}

impl Listener for Sockets {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match &mut self.second {
            None => Listener::accept(&mut self.first).await,
            Some(second) => tokio::select! {
                accepted = Listener::accept(&mut self.first) => accepted,
                accepted = Listener::accept(second) => accepted,
            },
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.first.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_of_which_one_family_is_taken_is_not_ours() {
        let Ok(taken) = std::net::TcpListener::bind("[::1]:0") else {
            return;
        };
        let port = taken.local_addr().unwrap().port();
        let fixed = RedirectUri { host: LoopbackHost::Localhost, port };
        let error = Sockets::bind(Some(&fixed)).await.unwrap_err();
        assert!(error.to_string().contains(&format!("http://localhost:{port}")));
        let v4_only = RedirectUri { host: LoopbackHost::V4, port };
        Sockets::bind(Some(&v4_only)).await.unwrap();
    }

    #[test]
    fn a_redirect_uri_is_a_port_of_this_machine() {
        let parse = |text| RedirectUri::parse(text).map(|uri| uri.to_string());
        assert_eq!(parse("http://localhost:8400/path").unwrap(), "http://localhost:8400");
        assert_eq!(parse("http://127.0.0.1:1").unwrap(), "http://127.0.0.1:1");
        assert_eq!(parse("http://[::1]:65535").unwrap(), "http://[::1]:65535");
        for bad in [
            "http://localhost",
            "host",
            "host:42",
            "https://localhost:1",
            "http://x:1",
            "http://0.0.0.0:1",
            "http://localhost:0",
        ] {
            parse(bad).unwrap_err();
        }
    }
}

//! Where a server listens: a port of loopback, or a socket that a container is given.

use std::io;
use std::net::Ipv4Addr;
#[cfg(unix)]
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;

use crate::bounded_http::{Listener, Peer};

use super::gate::Hosts;

/// A connection of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Whoever asks at a door: nothing tells the programs of loopback or of a container apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anybody;

impl Peer for Anybody {
    type Program = ();

    fn program(&self) {}
}

/// An open listener.
#[derive(Debug)]
pub(crate) enum Listening {
    Loopback {
        listener: TcpListener,
        address: String,
    },
    #[cfg(unix)]
    Socket {
        listener: UnixListener,
        path: PathBuf,
    },
}

impl Listening {
    /// Listens on a port of 127.0.0.1; 0 takes a free one.
    ///
    /// # Errors
    /// When the port is taken.
    pub(crate) async fn on_loopback(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?.to_string();
        Ok(Self::Loopback { listener, address })
    }

    /// Listens on a socket of mode 0600. One that a kill left behind is replaced, nothing else is.
    ///
    /// # Errors
    /// When something else is at the path, or another server listens there.
    #[cfg(unix)]
    pub(crate) fn on_socket(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt as _;

        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there"));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there"));
            }
            Ok(_) => std::fs::remove_file(path)?,
            Err(_) => {}
        }
        // nobody else may connect, not even before a mode could be set
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        Ok(Self::Socket { listener: listener?, path: path.to_owned() })
    }

    /// `127.0.0.1:PORT`, if it listens there.
    #[cfg_attr(not(unix), expect(clippy::unnecessary_wraps, reason = "a Unix socket has none"))]
    pub(crate) fn address(&self) -> Option<&str> {
        match self {
            Self::Loopback { address, .. } => Some(address),
            #[cfg(unix)]
            Self::Socket { .. } => None,
        }
    }

    pub(super) fn hosts(&self) -> Hosts {
        match self {
            Self::Loopback { address, .. } => Hosts::Exactly(address.clone()),
            #[cfg(unix)]
            Self::Socket { .. } => Hosts::BehindSocket,
        }
    }
}

impl Listener for Listening {
    type Stream = Box<dyn Stream>;
    type Peer = Anybody;

    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, Anybody)> {
        let stream: Box<dyn Stream> = match self {
            Self::Loopback { listener, .. } => Box::new(listener.accept().await?.0),
            #[cfg(unix)]
            Self::Socket { listener, .. } => Box::new(listener.accept().await?.0),
        };
        Ok((stream, Anybody))
    }
}

#[cfg(unix)]
impl Drop for Listening {
    fn drop(&mut self) {
        if let Self::Socket { path, .. } = self {
            std::fs::remove_file(path).ok();
        }
    }
}

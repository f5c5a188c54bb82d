//! The kernel knows who connected to a socket.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::{UnixListener, UnixStream};

use super::super::counters::Counters;
use super::super::socket::BoundSocket;
use super::Peer;
use crate::agent_client::place::own_uid;
use crate::bounded_http::Listener;
use crate::process;

/// Lets in connections of this very user, whatever the socket's mode.
pub(in super::super) struct Ours {
    listener: UnixListener,
    uid: u32,
    counters: Arc<Counters>,
}

impl Ours {
    pub(in super::super) fn at(socket: &BoundSocket, counters: Arc<Counters>) -> io::Result<Self> {
        Ok(Self { listener: socket.listener()?, uid: own_uid(), counters })
    }
}

impl Listener for Ours {
    type Stream = UnixStream;
    type Peer = Peer;

    async fn accept(&mut self) -> io::Result<(UnixStream, Peer)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == self.uid => {
                    let handle = process::peer_of(stream.as_fd(), peer.pid()).map(Arc::new);
                    return Ok((stream, Peer { pid: peer.pid(), handle }));
                }
                Ok(peer) => {
                    self.counters.strangers.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(uid = peer.uid(), "refused a connection of another user");
                }
                Err(error) => tracing::warn!(%error, "refused a connection of nobody knows whom"),
            }
        }
    }
}

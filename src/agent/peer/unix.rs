//! The kernel knows who connected to a socket.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::super::acquaintances::KNOWN;
use super::super::counters::Counters;
use super::super::socket::BoundSocket;
use super::Peer;
use super::stream::EagerStream;
use crate::agent_client::place::own_uid;
use crate::bounded_http::Listener;
use crate::process::{self, Credentials};

/// Lets in connections of this very user, whatever the socket's mode.
pub(in super::super) struct Ours {
    listener: AsyncFd<UnixListener>,
    uid: u32,
    counters: Arc<Counters>,
}

impl Ours {
    #[expect(unsafe_code, reason = "the runtime cannot know that a listener keeps its descriptor")]
    pub(in super::super) fn at(socket: &BoundSocket, counters: Arc<Counters>) -> io::Result<Self> {
        let listener = socket.listener()?;
        // SAFETY: it owns its descriptor, always the same one, and closes it when it is dropped.
        let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE)? };
        Ok(Self { listener, uid: own_uid(), counters })
    }
}

impl Listener for Ours {
    type Stream = EagerStream;
    type Peer = Peer;

    async fn accept(&mut self) -> io::Result<(EagerStream, Peer)> {
        loop {
            let stream = self.listener.async_io(Interest::READABLE, accept).await?;
            match process::credentials_of(stream.as_fd()) {
                Ok(Credentials { user, pid }) if user == self.uid => {
                    let handle =
                        KNOWN.handle_of(pid).or_else(|| process::peer_of(stream.as_fd(), pid).map(Arc::new));
                    return Ok((EagerStream::new(stream), Peer { pid, handle }));
                }
                Ok(Credentials { user, .. }) => {
                    self.counters.strangers.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(uid = user, "refused a connection of another user");
                }
                Err(error) => tracing::warn!(%error, "refused a connection of nobody knows whom"),
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    use rustix::net::{SocketFlags, accept_with};

    Ok(accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?.into())
}

#[cfg(not(target_os = "linux"))]
fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    let (stream, _) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

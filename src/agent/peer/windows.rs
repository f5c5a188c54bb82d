//! The pipe itself knows who opened it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::select_all;
use tokio::net::windows::named_pipe::NamedPipeServer;

use super::super::counters::Counters;
use super::super::socket::BoundSocket;
use super::Peer;
use crate::bounded_http::Listener;
use crate::process;
use crate::windows::served_pipe;

/// So many clients may come at the same moment; more of them come again.
const WAITING: usize = 8;

/// Lets in connections of this very user, whatever the pipe's rules.
pub(in super::super) struct Ours {
    waiting: Vec<NamedPipeServer>,
    socket: BoundSocket,
    counters: Arc<Counters>,
}

impl Ours {
    pub(in super::super) fn at(socket: &BoundSocket, counters: Arc<Counters>) -> io::Result<Self> {
        let waiting = (0..WAITING).map(|_| socket.instance()).collect::<io::Result<_>>()?;
        Ok(Self { waiting, socket: socket.clone(), counters })
    }

    /// The next one to be opened, and in its place a new one.
    async fn opened(&mut self) -> io::Result<NamedPipeServer> {
        loop {
            let connecting = self.waiting.iter().map(|pipe| Box::pin(pipe.connect()));
            let (connected, at, others) = select_all(connecting).await;
            drop(others);
            let opened = std::mem::replace(&mut self.waiting[at], self.socket.instance()?);
            match connected {
                Ok(()) => return Ok(opened),
                Err(error) => tracing::debug!(%error, "a client was gone before it was let in"),
            }
        }
    }
}

impl Drop for Ours {
    /// The runtime closes them a moment later, and nobody is to come in until then.
    fn drop(&mut self) {
        for pipe in &self.waiting {
            pipe.disconnect().ok();
        }
    }
}

impl Listener for Ours {
    type Stream = NamedPipeServer;
    type Peer = Peer;

    async fn accept(&mut self) -> io::Result<(NamedPipeServer, Peer)> {
        loop {
            let stream = self.opened().await?;
            match served_pipe::client_user(&stream) {
                Ok(user) if user == *self.socket.user() => {
                    let pid =
                        served_pipe::client_process(&stream).ok().and_then(|pid| i32::try_from(pid).ok());
                    let handle = pid.and_then(process::handle_of).map(Arc::new);
                    return Ok((stream, Peer { pid, handle }));
                }
                Ok(user) => {
                    self.counters.strangers.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%user, "refused a connection of another user");
                }
                Err(error) => tracing::warn!(%error, "refused a connection of nobody knows whom"),
            }
        }
    }
}

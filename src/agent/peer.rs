//! Who connects to the agent: programs of its own user, and nobody else.

#[cfg(unix)]
#[path = "peer/unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "peer/windows.rs"]
mod platform;
#[cfg(unix)]
#[path = "peer/stream.rs"]
mod stream;

use std::sync::Arc;

use crate::bounded_http;
use crate::process;

pub(super) use self::platform::Ours;

/// Who is at the other end of a connection, as the system says. Its user is always our own.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Its process when it connected, if the system tells. A number that may be another's by now.
    pub(super) pid: Option<i32>,
    /// What tells it from a later process with the same number, where the system has that.
    pub(super) handle: Option<Arc<process::Handle>>,
}

impl bounded_http::Peer for Peer {
    type Program = Option<i32>;

    fn program(&self) -> Option<i32> {
        self.pid
    }
}

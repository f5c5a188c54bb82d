//! Who connects to the agent: programs of its own user, and nobody else.

#[cfg(unix)]
#[path = "peer/unix.rs"]
mod platform;

use crate::bounded_http;

pub(super) use self::platform::Ours;

/// Who is at the other end of a connection, as the system says. Its user is always our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its process when it connected, if the system tells. A number that may be another's by now.
    pub(super) pid: Option<i32>,
}

impl bounded_http::Peer for Peer {
    type Program = Option<i32>;

    fn program(&self) -> Option<i32> {
        self.pid
    }
}

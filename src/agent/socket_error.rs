//! Why an agent cannot listen, and what to do then.

use std::io;
use std::path::{Path, PathBuf};

use crate::agent_client::PlaceError;

/// Why the agent cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Another agent is there, and keeps its socket.
    #[error("an agent listens at {} already", path.display())]
    AlreadyRunning { path: PathBuf },
    /// Something that is no agent of ours listens there.
    #[error("something else listens at {}", path.display())]
    Taken { path: PathBuf },
    /// The place is not ours to trust.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The operating system said no.
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// What the system handed over is no socket to listen on.
    #[cfg(unix)]
    #[error("the descriptor that was handed over (LISTEN_FDS) is no Unix socket to listen on: {source}")]
    NoListener { source: io::Error },
}

impl SocketError {
    /// What to do next, as one line for a person.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::AlreadyRunning { .. } => "see what it does: tokenkeep agent status".to_owned(),
            #[cfg(windows)]
            Self::Taken { .. } => "end that program, or name another pipe: TOKENKEEP_SOCK".to_owned(),
            #[cfg(unix)]
            Self::Taken { path } => format!("end that program, or remove {}", path.display()),
            Self::Place(error) => error.hint(),
            Self::Io { path, .. } => format!("check that you may use {}", path.display()),
            #[cfg(unix)]
            Self::NoListener { .. } => "set ListenStream= in the socket unit".to_owned(),
        }
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

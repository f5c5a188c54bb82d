//! The agent's own end of the pipe: made where nobody else can be mistaken for it, and kept by a
//! process of its own while the one that serves is replaced.

use std::fs::File;
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::net::windows::named_pipe::NamedPipeServer;
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_PIPE_BUSY};
use windows_sys::Win32::Storage::FileSystem::SECURITY_IDENTIFICATION;

use crate::agent_client::PlaceError;
use crate::agent_client::place;
use crate::windows::{self, Sid, is, pipe, served_pipe};

use super::socket_error::SocketError;

/// How often somebody else may be quicker than we are to open what we have just made.
const TRIES: usize = 20;

/// What an agent leaves to the one that takes its place: nothing here is secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Legacy {
    path: PathBuf,
}

/// The pipe's name, with its rules, as long as this is there. It is one instance that serves nobody:
/// both of its ends are here.
#[derive(Debug)]
pub(crate) struct KeptName {
    _ends: (NamedPipeServer, File),
}

impl KeptName {
    /// Takes a name that nobody has.
    ///
    /// # Errors
    /// A [`SocketError`] for each way in which that is not possible or not safe.
    pub(crate) fn take(path: &Path) -> Result<Self, SocketError> {
        place::check_name(path)?;
        let user = windows::own_user().map_err(SocketError::io("asking whose process this is, for", path))?;
        for _ in 0..TRIES {
            if pipe::exists(path).map_err(|error| PlaceError::of(path, error))? {
                return Err(of_whoever_has(path, &user));
            }
            let server = match served_pipe::create(path, &user, true) {
                Ok(server) => server,
                // Somebody made it since.
                Err(error) if is(&error, ERROR_ACCESS_DENIED) => continue,
                Err(error) => return Err(SocketError::io("making", path)(error)),
            };
            match open(path) {
                Ok(client) => return Ok(Self { _ends: (server, client) }),
                // A client was there before us, and would wait for ever.
                Err(error) if is(&error, ERROR_PIPE_BUSY) => {}
                Err(error) => return Err(SocketError::io("opening", path)(error)),
            }
        }
        Err(SocketError::Taken { path: path.to_owned() })
    }
}

/// A pipe that this process adds its instances to, under a name that is kept.
#[derive(Clone, Debug)]
pub(crate) struct BoundSocket {
    pub(super) path: PathBuf,
    user: Sid,
}

impl BoundSocket {
    /// The pipe whose name the process that started this one keeps.
    ///
    /// # Errors
    /// If the system does not say whose process this is.
    pub(crate) fn open(path: &Path) -> Result<Self, SocketError> {
        place::check_name(path)?;
        let user = windows::own_user().map_err(SocketError::io("asking whose process this is, for", path))?;
        Ok(Self { path: path.to_owned(), user })
    }

    /// Leaves the pipe to the program that takes this one's place. Whoever comes meanwhile finds no
    /// instance free, and comes again.
    #[expect(clippy::unnecessary_wraps, reason = "a descriptor may have to be left open elsewhere")]
    pub(crate) fn bequeath(&self) -> io::Result<Legacy> {
        Ok(Legacy { path: self.path.clone() })
    }

    /// The pipe that the program before this one left.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn inherit(legacy: &Legacy) -> Result<Self, SocketError> {
        Self::open(&legacy.path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whose pipe it is.
    pub(super) const fn user(&self) -> &Sid {
        &self.user
    }

    /// One more place for a client.
    pub(super) fn instance(&self) -> io::Result<NamedPipeServer> {
        served_pipe::create(&self.path, &self.user, false)
    }
}

/// Who has the name: another agent of this user's, by all appearances, or anybody else.
fn of_whoever_has(path: &Path, user: &Sid) -> SocketError {
    match open(path).and_then(|pipe| pipe::owner(&pipe)) {
        Ok(owner) if owner == *user => SocketError::AlreadyRunning { path: path.to_owned() },
        Err(error) if is(&error, ERROR_PIPE_BUSY) => SocketError::AlreadyRunning { path: path.to_owned() },
        Ok(_) | Err(_) => SocketError::Taken { path: path.to_owned() },
    }
}

/// Lets whoever made it know who we are, and not act for us.
fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).security_qos_flags(SECURITY_IDENTIFICATION).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_path() -> PathBuf {
        PathBuf::from(format!(r"\\.\pipe\tokenkeep-test-{}", uuid::Uuid::new_v4()))
    }

    #[tokio::test]
    async fn a_name_is_kept_by_one_and_no_client_gets_what_keeps_it() {
        let path = a_path();
        let kept = KeptName::take(&path).unwrap();
        assert!(matches!(KeptName::take(&path), Err(SocketError::AlreadyRunning { .. })));
        assert!(is(&open(&path).unwrap_err(), ERROR_PIPE_BUSY));
        let socket = BoundSocket::open(&path).unwrap();
        let instance = socket.instance().unwrap();
        drop(open(&path).unwrap());
        drop(instance);
        assert!(pipe::exists(&path).unwrap(), "between two that serve it is kept");
        drop(kept);
        KeptName::take(&path).unwrap();
    }
}

//! The agent's own end of the socket: bound where nobody else can be mistaken for it, or handed over
//! by the system.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use crate::agent_client::PlaceError;
use crate::agent_client::place;
use crate::process;

use super::socket_error::SocketError;

/// The socket of an agent that becomes a new one, in numbers: nothing here is secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Legacy {
    path: PathBuf,
    listener: RawFd,
    lock: Option<RawFd>,
    own_file: Option<(u64, u64)>,
}

/// A socket that this process listens on, and the lock that says so.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    pub(super) path: PathBuf,
    listener: UnixListener,
    /// Held as long as the agent lives; the system lets go of it however the agent ends. A socket
    /// without a file has none.
    lock: Option<File>,
    /// The file to remove at the end; one that was handed over is not ours to remove.
    own_file: Option<(u64, u64)>,
}

impl BoundSocket {
    /// The socket that the system handed over, else one at `path`.
    ///
    /// # Errors
    /// A [`SocketError`] for each way in which that is not possible or not safe.
    pub(crate) fn open(path: &Path) -> Result<Self, SocketError> {
        match inherited()? {
            Some(listener) => Self::handed_over(listener, path),
            None => Self::bind(path),
        }
    }

    /// Leaves the socket to the program that takes this one's place. Whoever connects meanwhile waits.
    ///
    /// # Errors
    /// When the system does not let a descriptor stay open.
    pub(crate) fn bequeath(&self) -> io::Result<Legacy> {
        process::outlive(self.listener.as_fd())?;
        self.lock.iter().try_for_each(|lock| process::outlive(lock.as_fd()))?;
        Ok(Legacy {
            path: self.path.clone(),
            listener: self.listener.as_raw_fd(),
            lock: self.lock.as_ref().map(AsRawFd::as_raw_fd),
            own_file: self.own_file,
        })
    }

    /// The socket that the program before this one left.
    ///
    /// # Errors
    /// [`SocketError::NoListener`] if it left none.
    pub(crate) fn inherit(legacy: &Legacy) -> Result<Self, SocketError> {
        let no_listener = |source| SocketError::NoListener { source };
        let listener = process::take_over(legacy.listener).and_then(listening).map_err(no_listener)?;
        let lock = legacy.lock.map(process::take_over).transpose().map_err(no_listener)?;
        let Legacy { path, own_file, .. } = legacy.clone();
        Ok(Self { path, listener, lock: lock.map(File::from), own_file })
    }

    fn handed_over(listener: UnixListener, path: &Path) -> Result<Self, SocketError> {
        let address = listener.local_addr().map_err(|source| SocketError::NoListener { source })?;
        let path = address.as_pathname().unwrap_or(path).to_owned();
        // The system made the folder, and its socket is where clients look: only the peers count.
        let lock = if address.as_pathname().is_some() { Some(lock(&path)?) } else { None };
        Ok(Self { path, listener, lock, own_file: None })
    }

    fn bind(path: &Path) -> Result<Self, SocketError> {
        let folder = place::folder_of(path)?;
        let make = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        make.map_err(SocketError::io("making the folder", folder))?;
        let metadata = place::look_at(folder)?;
        let metadata = metadata.ok_or_else(|| PlaceError::Io {
            path: folder.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        place::check_folder(path, &metadata)?;
        let lock = lock(path)?;
        if let Some(metadata) = place::look_at(path)? {
            place::check_socket(path, &metadata)?;
            // We have the lock, so no agent owns it; but an older or a foreign program might.
            if UnixStream::connect(path).is_ok() {
                return Err(SocketError::Taken { path: path.to_owned() });
            }
            fs::remove_file(path).map_err(SocketError::io("removing the left-over socket", path))?;
        }
        // A mode set later would leave it open for a moment.
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.map_err(SocketError::io("listening at", path))?;
        let metadata = path.symlink_metadata().map_err(SocketError::io("looking at", path))?;
        Ok(Self {
            path: path.to_owned(),
            listener,
            lock: Some(lock),
            own_file: Some((metadata.dev(), metadata.ino())),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The listener for the runtime, which does not block.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let there = self.path.symlink_metadata().ok().map(|there| (there.dev(), there.ino()));
        if self.own_file.is_some() && there == self.own_file {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// The file beside the socket that a living agent holds.
fn lock(path: &Path) -> Result<File, SocketError> {
    place::lock(path)?.ok_or_else(|| SocketError::AlreadyRunning { path: path.to_owned() })
}

#[cfg(target_os = "linux")]
fn inherited() -> Result<Option<UnixListener>, SocketError> {
    let no_listener = |source| SocketError::NoListener { source };
    // LISTEN_PID is this process, so the descriptor was made for us.
    let Some(number) = sd_notify::listen_fds().map_err(no_listener)?.next() else {
        return Ok(None);
    };
    process::take_over(number).and_then(listening).map(Some).map_err(no_listener)
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux may find something that is no listener")]
fn inherited() -> Result<Option<UnixListener>, SocketError> {
    Ok(None)
}

/// The descriptor as what it has to be.
fn listening(descriptor: OwnedFd) -> io::Result<UnixListener> {
    let listener = UnixListener::from(descriptor);
    // Fails for what is no Unix socket.
    listener.local_addr()?;
    if is_listening(&listener)? { Ok(listener) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

#[cfg(not(target_vendor = "apple"))]
fn is_listening(socket: &UnixListener) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_acceptconn(socket)?)
}

/// macOS does not tell; there only what this program left to itself is taken over.
#[cfg(target_vendor = "apple")]
#[expect(clippy::unnecessary_wraps, reason = "other systems are asked")]
const fn is_listening(_socket: &UnixListener) -> io::Result<bool> {
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn home() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn the_folder_and_the_socket_are_for_this_user_alone() {
        let home = home();
        let path = home.path().join("run").join("agent.sock");
        let socket = BoundSocket::bind(&path).unwrap();
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_second_agent_does_not_take_the_socket_of_a_living_one() {
        let home = home();
        let path = home.path().join("agent.sock");
        let first = BoundSocket::bind(&path).unwrap();
        assert!(matches!(BoundSocket::bind(&path), Err(SocketError::AlreadyRunning { .. })));
        UnixStream::connect(&path).unwrap();
        drop(first);
        BoundSocket::bind(&path).unwrap();
    }

    #[test]
    fn what_a_killed_agent_left_is_replaced_but_nothing_that_somebody_listens_on() {
        let home = home();
        let path = home.path().join("agent.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(BoundSocket::bind(&path).unwrap());

        let _other = UnixListener::bind(&path).unwrap();
        assert!(matches!(BoundSocket::bind(&path), Err(SocketError::Taken { .. })));
    }

    #[test]
    fn links_strange_files_and_open_folders_are_refused() {
        let home = home();
        let path = home.path().join("agent.sock");
        fs::write(&path, "mine").unwrap();
        let refused = BoundSocket::bind(&path);
        assert!(matches!(refused, Err(SocketError::Place(PlaceError::NotASocket { .. }))), "{refused:?}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");

        let elsewhere = home.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let link = home.path().join("link");
        symlink(&elsewhere, &link).unwrap();
        let refused = BoundSocket::bind(&link.join("agent.sock"));
        assert!(matches!(refused, Err(SocketError::Place(PlaceError::LinkedFolder { .. }))), "{refused:?}");

        fs::set_permissions(&elsewhere, Permissions::from_mode(0o775)).unwrap();
        let refused = BoundSocket::bind(&elsewhere.join("agent.sock"));
        assert!(matches!(refused, Err(SocketError::Place(PlaceError::OpenFolder { .. }))), "{refused:?}");

        let linked = home.path().join("other.sock");
        symlink(&path, &linked).unwrap();
        let refused = BoundSocket::bind(&linked);
        assert!(matches!(refused, Err(SocketError::Place(PlaceError::LinkedSocket { .. }))), "{refused:?}");
    }

    #[test]
    fn what_somebody_put_in_its_place_meanwhile_is_not_removed() {
        let home = home();
        let path = home.path().join("agent.sock");
        let socket = BoundSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "not ours").unwrap();
        drop(socket);
        assert!(path.exists());
    }
}

//! Where the agent's socket is, and whether it is one to trust.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

/// `sun_path` has 108 bytes on Linux and 104 elsewhere, the last one zero.
const LONGEST_PATH: usize = 103;

/// Why a socket is not to be used. Each has its own cause and cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// A relative path would mean another socket in every folder.
    #[error("the agent's socket {} is not named by an absolute path", path.display())]
    NotAbsolute {
        /// The path given.
        path: PathBuf,
    },
    /// The system takes no such long path for a socket.
    #[error("the path of the agent's socket, {}, is longer than {LONGEST_PATH} bytes", path.display())]
    TooLong {
        /// The path given.
        path: PathBuf,
    },
    /// The folder is a link, which may lead anywhere.
    #[error("not using the agent's socket {}: its folder is a link", path.display())]
    LinkedFolder {
        /// The socket.
        path: PathBuf,
    },
    /// The folder belongs to somebody else, who may put anything into it.
    #[error("not using the agent's socket {}: its folder belongs to user {uid}", path.display())]
    ForeignFolder {
        /// The socket.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Others may write into the folder, and so put their own socket there.
    #[error("not using the agent's socket {}: others may write into its folder (mode {mode:o})", path.display())]
    OpenFolder {
        /// The socket.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What is there is a link.
    #[error("not using the agent's socket {}: it is a link", path.display())]
    LinkedSocket {
        /// The socket.
        path: PathBuf,
    },
    /// What is there is no socket.
    #[error("not using the agent's socket {}: what is there is no socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else made the socket.
    #[error("not using the agent's socket {}: it belongs to user {uid}", path.display())]
    ForeignSocket {
        /// The socket.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Somebody else listens there.
    #[error("not using the agent's socket {}: user {uid} listens there", path.display())]
    ForeignServer {
        /// The socket.
        path: PathBuf,
        /// Who it is.
        uid: u32,
    },
    /// The operating system said no.
    #[error("looking at the agent's socket {}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl PlaceError {
    /// What to do next, as one line for a person.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NotAbsolute { .. } => "give TOKENKEEP_SOCK an absolute path".to_owned(),
            Self::TooLong { .. } => "give the socket a shorter path: TOKENKEEP_SOCK".to_owned(),
            Self::LinkedFolder { .. } | Self::ForeignFolder { .. } => {
                "name a socket in a folder of your own: TOKENKEEP_SOCK".to_owned()
            }
            Self::OpenFolder { path, .. } => {
                let folder = path.parent().unwrap_or(path);
                format!("make the folder yours alone: chmod 700 {}", folder.display())
            }
            Self::LinkedSocket { path }
            | Self::NotASocket { path }
            | Self::ForeignSocket { path, .. }
            | Self::ForeignServer { path, .. } => {
                format!("see who put it there, and remove {}", path.display())
            }
            Self::Io { path, .. } => format!("check that you may use {}", path.display()),
        }
    }
}

/// Where the agent listens: `TOKENKEEP_SOCK`, else `$XDG_RUNTIME_DIR/tokenkeep/agent.sock`, else a
/// folder of the user's state. Never a folder of everybody's, such as `/tmp`.
#[must_use]
pub fn socket_path(state: &Path) -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("TOKENKEEP_SOCK").unwrap_or_else(|| {
        match variable("XDG_RUNTIME_DIR").filter(|folder| folder.is_absolute()) {
            Some(folder) => folder.join("tokenkeep").join("agent.sock"),
            None => state.join("tokenkeep").join("run").join("agent.sock"),
        }
    })
}

/// The folder and the name of a socket that the system can bind and that means one place only.
pub(crate) fn folder_of(path: &Path) -> Result<&Path, PlaceError> {
    let folder = path.parent().filter(|_| path.is_absolute() && path.file_name().is_some());
    let folder = folder.ok_or_else(|| PlaceError::NotAbsolute { path: path.to_owned() })?;
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(PlaceError::TooLong { path: path.to_owned() });
    }
    Ok(folder)
}

/// Whether there is a socket at the path that only this user can have made.
///
/// # Errors
/// A [`PlaceError`] for each way in which it could be somebody else's.
pub(crate) fn check(path: &Path) -> Result<bool, PlaceError> {
    let folder = folder_of(path)?;
    let Some(metadata) = look_at(folder)? else { return Ok(false) };
    check_folder(path, &metadata)?;
    let Some(metadata) = look_at(path)? else { return Ok(false) };
    check_socket(path, &metadata)?;
    Ok(true)
}

/// Whether only this user can put anything into the socket's folder.
pub(crate) fn check_folder(path: &Path, folder: &Metadata) -> Result<(), PlaceError> {
    let path = path.to_owned();
    if folder.is_symlink() {
        return Err(PlaceError::LinkedFolder { path });
    }
    if folder.uid() != own_uid() {
        return Err(PlaceError::ForeignFolder { path, uid: folder.uid() });
    }
    let mode = folder.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(PlaceError::OpenFolder { path, mode });
    }
    Ok(())
}

/// Whether this is a socket that this user made.
pub(crate) fn check_socket(path: &Path, socket: &Metadata) -> Result<(), PlaceError> {
    let path = path.to_owned();
    if socket.is_symlink() {
        return Err(PlaceError::LinkedSocket { path });
    }
    if !socket.file_type().is_socket() {
        return Err(PlaceError::NotASocket { path });
    }
    if socket.uid() != own_uid() {
        return Err(PlaceError::ForeignSocket { path, uid: socket.uid() });
    }
    Ok(())
}

/// What is at the path itself, links not followed; `None` if nothing is.
pub(crate) fn look_at(path: &Path) -> Result<Option<Metadata>, PlaceError> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(PlaceError::Io { path: path.to_owned(), source }),
    }
}

/// The file beside the socket that an agent holds as long as it lives; `None` if one does now.
///
/// # Errors
/// [`PlaceError::Io`] if the system does not let us.
pub(crate) fn lock(path: &Path) -> Result<Option<File>, PlaceError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |source| PlaceError::Io { path: PathBuf::from(&name), source };
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(&name)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Removes a socket that a killed agent left, and nothing that anybody listens on. Tells whether
/// there was one.
///
/// # Errors
/// As [`check`], and what the system says.
pub(crate) fn remove_left_over(path: &Path) -> Result<bool, PlaceError> {
    let failed = |source| PlaceError::Io { path: path.to_owned(), source };
    if !check(path)? {
        return Ok(false);
    }
    // an agent that is about to listen there has it
    let Some(_lock) = lock(path)? else { return Ok(false) };
    if !check(path)? || !is_left_over(path).map_err(|error| failed(error.into()))? {
        return Ok(false);
    }
    fs::remove_file(path).map_err(failed)?;
    Ok(true)
}

/// Does not wait: whoever has too many callers to take one more listens.
fn is_left_over(path: &Path) -> rustix::io::Result<bool> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    let connected = rustix::net::connect(&socket, &SocketAddrUnix::new(path)?);
    Ok(matches!(connected, Err(Errno::CONNREFUSED)))
}

/// Whom both ends of the socket have to be.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn folder(mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn what_is_not_there_is_no_error_and_what_is_ours_is_used() {
        let folder = folder(0o755);
        let path = folder.path().join("agent.sock");
        assert!(!check(&path).unwrap());
        assert!(!check(&folder.path().join("none").join("agent.sock")).unwrap());
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(check(&path).unwrap());
    }

    #[test]
    fn what_others_could_have_put_there_is_refused_with_its_own_reason() {
        let home = folder(0o700);
        let path = home.path().join("agent.sock");
        fs::write(&path, "").unwrap();
        assert!(matches!(check(&path), Err(PlaceError::NotASocket { .. })));

        let link = home.path().join("link.sock");
        symlink(&path, &link).unwrap();
        assert!(matches!(check(&link), Err(PlaceError::LinkedSocket { .. })));

        let open = folder(0o777);
        let path = open.path().join("agent.sock");
        assert!(matches!(check(&path), Err(PlaceError::OpenFolder { mode: 0o777, .. })));

        let linked = home.path().join("folder");
        symlink(open.path(), &linked).unwrap();
        assert!(matches!(check(&linked.join("agent.sock")), Err(PlaceError::LinkedFolder { .. })));

        assert!(matches!(check(Path::new("agent.sock")), Err(PlaceError::NotAbsolute { .. })));
        let long = Path::new("/").join("x".repeat(200)).join("agent.sock");
        assert!(matches!(check(&long), Err(PlaceError::TooLong { .. })));
    }

    #[test]
    fn a_socket_is_removed_only_if_nobody_listens_and_no_agent_is_about_to() {
        let home = folder(0o700);
        let path = home.path().join("agent.sock");
        assert!(!remove_left_over(&path).unwrap());
        let listener = UnixListener::bind(&path).unwrap();
        assert!(!remove_left_over(&path).unwrap());
        drop(listener);
        let lock = lock(&path).unwrap().unwrap();
        assert!(!remove_left_over(&path).unwrap());
        drop(lock);
        assert!(remove_left_over(&path).unwrap());
        assert!(!path.exists());

        fs::write(&path, "mine").unwrap();
        assert!(matches!(remove_left_over(&path), Err(PlaceError::NotASocket { .. })));
        assert!(path.exists());
    }

    #[test]
    fn root_owns_the_folders_of_everybody() {
        if own_uid() != 0 {
            let path = Path::new("/tmp/agent.sock");
            assert!(matches!(check(path), Err(PlaceError::ForeignFolder { uid: 0, .. })));
        } else {
            let path = Path::new("/tmp/agent.sock");
            assert!(matches!(check(path), Err(PlaceError::OpenFolder { .. })));
        }
    }
}

//! The name of the agent's pipe, and whether it is one to trust.

use std::io;
use std::path::{Path, PathBuf};

use windows_sys::Win32::Foundation::ERROR_ACCESS_DENIED;

use crate::windows::{self, pipe};

/// Pipes of this machine; any other beginning may lead to another one.
const LOCAL: &str = r"\\.\pipe\";

/// Windows takes so many characters for a pipe.
const LONGEST_NAME: usize = 256;

/// Why a pipe is not to be used. Each has its own cause and cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// What is named is no pipe of this machine.
    #[error(r"the agent's pipe {} is not named as \\.\pipe\NAME", path.display())]
    NotAPipe {
        /// The name given.
        path: PathBuf,
    },
    /// The system takes no such long name for a pipe.
    #[error("the name of the agent's pipe, {}, is longer than {LONGEST_NAME} characters", path.display())]
    TooLong {
        /// The name given.
        path: PathBuf,
    },
    /// Somebody who does not let this user in listens there.
    #[error("not using the agent's pipe {}: whoever made it does not let this user in", path.display())]
    Closed {
        /// The pipe.
        path: PathBuf,
    },
    /// Somebody else listens there.
    #[error("not using the agent's pipe {}: user {user} made it", path.display())]
    ForeignServer {
        /// The pipe.
        path: PathBuf,
        /// Who it is, as a security identifier.
        user: String,
    },
    /// The operating system said no.
    #[error("looking at the agent's pipe {}: {source}", path.display())]
    Io {
        /// The pipe.
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
            Self::NotAPipe { .. } => format!("give TOKENKEEP_SOCK a name that begins with {LOCAL}"),
            Self::TooLong { .. } => "give the pipe a shorter name: TOKENKEEP_SOCK".to_owned(),
            Self::Closed { .. } | Self::ForeignServer { .. } => {
                "end the program that made it, or name another pipe: TOKENKEEP_SOCK".to_owned()
            }
            Self::Io { path, .. } => format!("check that you may use {}", path.display()),
        }
    }

    /// What opening the pipe came to.
    pub(crate) fn of(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if windows::is(&source, ERROR_ACCESS_DENIED) {
            Self::Closed { path }
        } else {
            Self::Io { path, source }
        }
    }
}

/// Where the agent listens: `TOKENKEEP_SOCK`, else a pipe that bears the user's number. A user has
/// one agent, whatever folder the state is in.
#[must_use]
pub fn socket_path(_state: &Path) -> PathBuf {
    let variable = std::env::var_os("TOKENKEEP_SOCK").filter(|value| !value.is_empty());
    variable.map_or_else(
        || {
            // Without a number nobody is there, and an agent says why it cannot be.
            let user = windows::own_user().map(|user| user.to_string()).unwrap_or_default();
            PathBuf::from(format!("{LOCAL}tokenkeep-{user}"))
        },
        PathBuf::from,
    )
}

/// Whether there is a pipe of that name; whose it is, only who opens it learns.
///
/// # Errors
/// A [`PlaceError`] if it can be no pipe of an agent.
pub(crate) fn check(path: &Path) -> Result<bool, PlaceError> {
    check_name(path)?;
    pipe::exists(path).map_err(|source| PlaceError::of(path, source))
}

/// Nothing is ever left over: a pipe goes with whoever made it.
#[expect(clippy::unnecessary_wraps, reason = "a socket on Unix may be left over, and refused")]
pub(crate) const fn remove_left_over(_path: &Path) -> Result<bool, PlaceError> {
    Ok(false)
}

/// Whether the name is one of a pipe on this machine.
pub(crate) fn check_name(path: &Path) -> Result<(), PlaceError> {
    let name = path.to_str().and_then(|path| path.split_at_checked(LOCAL.len()));
    match name {
        Some((local, name))
            if local.eq_ignore_ascii_case(LOCAL) && !name.is_empty() && !name.contains(['\\', '/']) =>
        {
            if path.as_os_str().len() > LONGEST_NAME {
                return Err(PlaceError::TooLong { path: path.to_owned() });
            }
            Ok(())
        }
        _ => Err(PlaceError::NotAPipe { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pipes_of_this_machine_are_looked_at() {
        for path in [
            r"\\server\pipe\tokenkeep",
            r"\\?\pipe\tokenkeep",
            r"\\.\pipe\",
            r"\\.\pipe\..\file",
            r"\\.\mailslot\tokenkeep",
            r"C:\Users\user\agent.sock",
            "agent",
            "",
        ] {
            assert!(matches!(check(Path::new(path)), Err(PlaceError::NotAPipe { .. })), "{path}");
        }
        let long = format!("{LOCAL}{}", "x".repeat(250));
        assert!(matches!(check(Path::new(&long)), Err(PlaceError::TooLong { .. })));
        let free = format!(r"\\.\PIPE\tokenkeep-test-{}", uuid::Uuid::new_v4());
        assert!(!check(Path::new(&free)).unwrap());
    }

    #[test]
    fn each_user_has_a_pipe_of_their_own() {
        let path = socket_path(Path::new("ignored"));
        let user = windows::own_user().unwrap();
        assert_eq!(path, Path::new(&format!(r"\\.\pipe\tokenkeep-{user}")));
        check_name(&path).unwrap();
    }
}

//! How a person is asked, and for how long an answer holds.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::time::Length;

/// Whoever waits for a token waits for the person; most programs give up after a minute.
const TIMEOUT: Duration = Duration::from_secs(45);

/// Our own clients wait for an answer no longer than that.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(120);

/// A working day.
const REMEMBER: Duration = Duration::from_secs(8 * 3_600);

/// What the file says about questions, with its defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asking {
    /// Run with the question as its argument; it answers by its exit code, as `ssh-askpass` does.
    pub(crate) program: Option<PathBuf>,
    /// How long a question is open.
    pub(crate) timeout: Duration,
    /// How long a yes holds.
    pub(crate) remember: Duration,
}

impl Asking {
    pub(super) fn new(program: Option<&Program>, timeout: Option<Timeout>, remember: Option<Length>) -> Self {
        Self {
            program: program.map(|Program(path)| path.clone()),
            timeout: timeout.map_or(TIMEOUT, |Timeout(length)| length),
            remember: remember.map_or(REMEMBER, |Length(length)| length),
        }
    }
}

/// A program by its absolute path: what `PATH` would find, others may have put there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub(super) struct Program(PathBuf);

impl TryFrom<PathBuf> for Program {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        if path.is_absolute() {
            Ok(Self(path))
        } else {
            Err(format!("{} is no absolute path", path.display()))
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Length")]
pub(super) struct Timeout(Duration);

impl TryFrom<Length> for Timeout {
    type Error = String;

    fn try_from(Length(length): Length) -> Result<Self, String> {
        if length > LONGEST_TIMEOUT {
            return Err("nobody waits for an answer longer than two minutes".to_owned());
        }
        Ok(Self(length))
    }
}

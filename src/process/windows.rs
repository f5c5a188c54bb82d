//! What Windows has of it. It cannot execute a program in the place of another: the process that
//! keeps this one starts the next.

use std::ffi::OsString;
use std::io::{self, Write as _};

use super::{NotBegun, ending};

pub(crate) use crate::windows::process::{DETACHED, close_stdout, keep_standard_handles, since_boot};

/// What a kept process ends with if another one is to take its place.
pub(crate) const ANEW: i32 = 99;

/// The line by which a kept process tells that it is ready.
pub(crate) const READY: &str = "ready";

/// Closes this process's memory to other programs of the same user, and to crash reports.
///
/// A program that may act on a thread of this one still gets in: it is a fence, not a wall.
pub(crate) fn harden() {
    crate::windows::process::crash_in_silence();
    if let Err(error) = crate::windows::process::close_to_others() {
        tracing::warn!(%error, "other programs of this user may read the memory");
    }
}

/// Becomes the program that it is already, from its start and with nothing of its memory: the one
/// that keeps it starts it again, with `arguments`. Returns only what kept it from that.
pub(crate) fn begin_anew(arguments: impl IntoIterator<Item = OsString>) -> NotBegun {
    let texts = arguments.into_iter().map(OsString::into_string).collect::<Result<Vec<_>, _>>();
    let texts = texts.map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    let told = texts
        .and_then(|texts| Ok(serde_json::to_string(&texts)?))
        .and_then(|texts| writeln!(io::stdout(), "{texts}"));
    match told {
        _ if ending::was_asked_for() => NotBegun::Ending,
        Ok(()) => end(),
        Err(error) => NotBegun::Failed(error),
    }
}

#[expect(clippy::exit, reason = "what follows would be another life of this memory")]
fn end() -> ! {
    std::process::exit(ANEW)
}

/// Windows calls a process by its file.
pub(crate) const fn name_anew(_name: &str) {}

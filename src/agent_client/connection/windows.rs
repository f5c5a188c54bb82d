//! A named pipe, and whether this very user made it.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::windows::named_pipe::ClientOptions;
use tokio::time::sleep;
use windows_sys::Win32::Foundation::{ERROR_PIPE_BUSY, ERROR_PIPE_NOT_CONNECTED};

pub(super) use tokio::net::windows::named_pipe::NamedPipeClient as Stream;

use super::super::place::PlaceError;
use super::{CallError, absent, silent};
use crate::windows::{self, Sid, is, pipe};

/// A pipe has no queue: whoever finds every instance taken comes again.
const AGAIN: Duration = Duration::from_millis(10);

pub(super) async fn open(path: &Path) -> Result<Stream, CallError> {
    let (stream, server) = when_free(path).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => absent(path),
        _ => PlaceError::of(path, error).into(),
    })?;
    let own = windows::own_user().map_err(|error| silent(path, &error.to_string()))?;
    if server != own {
        return Err(PlaceError::ForeignServer { path: path.to_owned(), user: server.to_string() }.into());
    }
    Ok(stream)
}

/// The pipe, and whose it is. It lets whoever made it know who we are, and not act for us.
async fn when_free(path: &Path) -> io::Result<(Stream, Sid)> {
    loop {
        match ClientOptions::new().open(path).and_then(|stream| Ok((pipe::owner(&stream)?, stream))) {
            Ok((owner, stream)) => return Ok((stream, owner)),
            // It was let go of before anybody came to it.
            Err(error) if is(&error, ERROR_PIPE_BUSY) || is(&error, ERROR_PIPE_NOT_CONNECTED) => {
                sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The process at the other end, if the system tells.
pub(super) fn process_of(stream: &Stream) -> Option<i32> {
    pipe::server_process(stream).ok()?.try_into().ok()
}

//! A Unix socket, and whether this very user listens there.

use std::io;
use std::path::Path;

pub(super) use tokio::net::UnixStream as Stream;

use super::super::place::{self, PlaceError};
use super::{CallError, absent, silent};

pub(super) async fn open(path: &Path) -> Result<Stream, CallError> {
    let stream = Stream::connect(path).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => absent(path),
        _ => silent(path, &error.to_string()),
    })?;
    let server = stream.peer_cred().map_err(|error| silent(path, &error.to_string()))?.uid();
    if server != place::own_uid() {
        return Err(PlaceError::ForeignServer { path: path.to_owned(), uid: server }.into());
    }
    Ok(stream)
}

/// The process at the other end, if the system tells.
pub(super) fn process_of(stream: &Stream) -> Option<i32> {
    stream.peer_cred().ok()?.pid()
}

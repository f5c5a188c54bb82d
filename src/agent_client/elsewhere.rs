//! Platforms that the agent does not run on: nobody is ever there.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{CallError, Method, Reply};

/// Where the agent would listen.
#[must_use]
pub fn socket_path(state: &Path) -> PathBuf {
    state.join("tokenkeep").join("agent")
}

#[expect(clippy::unnecessary_wraps, reason = "a socket on Unix may be refused")]
pub(super) const fn is_there(_path: &Path) -> Result<bool, CallError> {
    Ok(false)
}

#[expect(clippy::unnecessary_wraps, reason = "a socket on Unix may be refused")]
pub(super) const fn remove_left_over(_path: &Path) -> Result<bool, CallError> {
    Ok(false)
}

pub(super) async fn listener(_path: &Path) -> Option<i32> {
    std::future::ready(None).await
}

pub(super) async fn call(
    _path: &Path,
    _method: Method,
    _target: &str,
    _body: Zeroizing<Vec<u8>>,
) -> Result<Reply, CallError> {
    std::future::ready(Err(CallError::Unsupported)).await
}

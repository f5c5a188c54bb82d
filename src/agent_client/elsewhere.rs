//! Platforms that the agent does not run on: nobody is ever there.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{CallError, Method, Reply};

/// Where the agent would listen.
#[must_use]
pub fn socket_path(state: &Path) -> PathBuf {
    state.join("tokenkeep").join("agent")
}

pub(super) async fn call(
    path: &Path,
    _method: Method,
    _target: &str,
    _body: Zeroizing<Vec<u8>>,
) -> Result<Reply, CallError> {
    std::future::ready(Err(CallError::Absent { path: path.to_owned() })).await
}

//! The one runtime of a command, which Ctrl-C ends early.

use std::convert::Infallible;

use tokio::runtime::Runtime;

use super::failure::Failure;
use crate::error::Error;
use crate::process::ending;

/// Does the work on this thread. Ctrl-C drops it, which leaves the cache sound and its lock free.
pub(super) fn wait_for<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    Ok(finish(work)??)
}

/// The same for work of any outcome.
pub(super) fn finish<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    start()?.block_on(async {
        tokio::select! {
            // A cached token is there at once, and nothing is set up for signals.
            biased;
            done = work => Ok(done),
            () = async { ending::interrupted().await } => Err(Failure::Cancelled),
        }
    })
}

/// Does the work on this thread until Ctrl-C, or a polite request to end: that is how it is ended.
pub(super) fn until_interrupted(
    work: impl Future<Output = Result<Infallible, Failure>>,
) -> Result<(), Failure> {
    start()?.block_on(async {
        tokio::select! {
            biased;
            () = ending::asked_for() => Ok(()),
            failed = work => match failed? {},
        }
    })
}

/// The runtime alone, for work that has its own way with signals.
pub(super) fn start() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::file("starting", "the runtime"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::AuthenticationFailed;

    #[test]
    fn work_ends_with_its_own_result() {
        assert_eq!(wait_for(async { Ok(7) }).unwrap(), 7);
        let failed = wait_for::<()>(async { Err(AuthenticationFailed::new("x").into()) });
        assert_eq!(failed.unwrap_err().exit_code(), 1);
    }
}

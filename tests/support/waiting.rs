//! Waiting for what another process does: in vain for a minute is a failure, not a test that hangs.

use std::time::{Duration, Instant};

const IN_VAIN: Duration = Duration::from_secs(60);

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    found(what, || is_so().then_some(()));
}

/// Waits until something is there.
#[track_caller]
pub(crate) fn found<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let given_up = Instant::now() + IN_VAIN;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < given_up, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

//! Work that is tried on the spot, before anybody waits for it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Waker};

thread_local! {
    static IS_ATTEMPT: Cell<bool> = Cell::default();
}

/// Whether what is polled now is only tried: if it has to wait it is polled again by somebody who
/// does, so there is no need to have anybody woken.
#[cfg(any(unix, test))]
pub(crate) fn is_attempt() -> bool {
    IS_ATTEMPT.get()
}

/// Whether this ended without having to wait. Its panic is its own.
pub(crate) fn is_done_now(mut work: Pin<&mut impl Future<Output = ()>>) -> bool {
    let mut nobody = Context::from_waker(Waker::noop());
    IS_ATTEMPT.set(true);
    let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut nobody)));
    IS_ATTEMPT.set(false);
    polled.map_or(true, |polled| polled.is_ready())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[test]
    fn work_that_waits_or_panics_harms_nobody() {
        assert!(is_done_now(pin!(async { assert!(is_attempt()) })));
        assert!(!is_done_now(pin!(std::future::pending())));
        assert!(is_done_now(pin!(async { panic!("as asked") })));
        assert!(!is_attempt());
    }
}

//! Asking somebody who may never answer: a keyring that shows a prompt which nobody sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How long a keyring may take for one answer, all calls that it needs together.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The thread ended without one.
    Never,
    /// There may be one later; nobody will see it.
    TooLate,
}

/// Asks on a thread of its own, which is left to itself once patience has run out.
///
/// The question is told when that has happened, so that it can stop between two steps: nothing may
/// be written behind the back of a caller who has been told of a timeout.
pub(super) fn ask_within<T: Send + 'static>(
    patience: Duration,
    question: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> Result<T, Unanswered> {
    let (sender, receiver) = mpsc::channel();
    let given_up = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&given_up);
    let thread = thread::Builder::new().name("keyring".to_owned());
    let spawned = thread.spawn(move || {
        let _listened = sender.send(question(&seen));
    });
    if spawned.is_err() {
        return Err(Unanswered::Never);
    }
    receiver.recv_timeout(patience).map_err(|error| match error {
        RecvTimeoutError::Disconnected => Unanswered::Never,
        RecvTimeoutError::Timeout => {
            given_up.store(true, Ordering::SeqCst);
            Unanswered::TooLate
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_answers_too_late_is_told_to_stop() {
        let (told, was_told) = mpsc::channel();
        let answer = ask_within(Duration::ZERO, move |given_up| {
            while !given_up.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            told.send(()).unwrap();
        });
        assert_eq!(answer, Err(Unanswered::TooLate));
        was_told.recv().unwrap();
    }

    #[test]
    fn an_answer_comes_back_and_a_panic_is_none() {
        assert_eq!(ask_within(PATIENCE, |_| 7), Ok(7));
        assert_eq!(ask_within(PATIENCE, |_| panic!("as it should")), Err::<(), _>(Unanswered::Never));
    }
}

//! How fast secrets may be tried on a locked agent.

use std::time::Duration;

/// A person mistypes now and then.
const FREE: u32 = 3;

/// The wait after one failure more, doubled by each that follows,
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// up to so long.
const LONGEST_WAIT: Duration = Duration::from_secs(900);

/// Failures in a row. Moments are times since the machine was started.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failures: u32,
    next_at: Duration,
}

impl Attempts {
    /// Whether the next attempt may be made now.
    ///
    /// # Errors
    /// How long to wait first.
    pub(super) fn may_try(&self, now: Duration) -> Result<(), Duration> {
        let left = self.next_at.saturating_sub(now);
        if left.is_zero() { Ok(()) } else { Err(left) }
    }

    pub(super) fn failed(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        if let Some(doublings) = self.failures.checked_sub(FREE) {
            let wait = FIRST_WAIT * 2_u32.saturating_pow(doublings.min(16));
            self.next_at = now + wait.min(LONGEST_WAIT);
        }
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_after_the_first_few_waits_twice_as_long_and_a_success_forgets_them() {
        let mut attempts = Attempts::default();
        let mut now = Duration::from_secs(1_000);
        let mut waits = Vec::new();
        for _ in 0..16 {
            attempts.failed(now);
            let wait = attempts.may_try(now).err().unwrap_or_default();
            waits.push(wait.as_secs());
            now += wait;
            attempts.may_try(now).unwrap();
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
        attempts.failed(now);
        assert!(attempts.may_try(now + Duration::from_secs(899)).is_err());
        attempts.succeeded();
        assert_eq!(attempts.may_try(now), Ok(()));
    }
}

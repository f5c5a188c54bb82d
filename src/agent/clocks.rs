//! When the agent locks by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent_client::protocol::LockReason;

/// How long the agent stays unlocked. Without a limit it does until somebody locks it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct LockAfter {
    /// Since the last time that somebody asked for a token or an account.
    pub(crate) idle: Option<Duration>,
    /// Since it was unlocked.
    pub(crate) whole: Option<Duration>,
}

/// The two clocks of an unlocked agent. Moments are times since the machine was started, sleep
/// included, and come in from outside.
#[derive(Debug)]
pub(super) struct Clocks {
    limits: LockAfter,
    unlocked_at: Duration,
    used_at: Duration,
}

impl Clocks {
    pub(super) const fn started(limits: LockAfter, now: Duration) -> Self {
        Self { limits, unlocked_at: now, used_at: now }
    }

    /// Other limits hold from now on, for the time that has gone by as well.
    pub(super) const fn limit(&mut self, limits: LockAfter) {
        self.limits = limits;
    }

    /// Somebody was there. Renewals ahead and looks at the status are no use of it.
    pub(super) fn used(&mut self, now: Duration) {
        self.used_at = self.used_at.max(now);
    }

    /// How long it is until the agent locks; zero if it is to lock now.
    pub(super) fn left(&self, now: Duration) -> Option<Duration> {
        Some(self.end()?.0.saturating_sub(now))
    }

    /// Which clock has run down, if one has.
    pub(super) fn over(&self, now: Duration) -> Option<LockReason> {
        let (end, reason) = self.end()?;
        (end <= now).then_some(reason)
    }

    fn end(&self) -> Option<(Duration, LockReason)> {
        let idle = self.limits.idle.map(|limit| (self.used_at + limit, LockReason::Idle));
        let whole = self.limits.whole.map(|limit| (self.unlocked_at + limit, LockReason::Limit));
        idle.into_iter().chain(whole).min_by_key(|(end, _)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn clocks(idle: Option<u64>, whole: Option<u64>) -> Clocks {
        Clocks::started(LockAfter { idle: idle.map(at), whole: whole.map(at) }, at(1_000))
    }

    #[test]
    fn without_a_limit_it_stays_unlocked() {
        let clocks = clocks(None, None);
        assert_eq!(clocks.left(at(1_000_000_000)), None);
        assert_eq!(clocks.over(at(1_000_000_000)), None);
    }

    #[test]
    fn use_puts_off_the_idle_clock_and_never_the_absolute_one() {
        let mut clocks = clocks(Some(60), Some(100));
        assert_eq!(clocks.left(at(1_030)), Some(at(30)));
        clocks.used(at(1_059));
        assert_eq!(clocks.over(at(1_060)), None, "it was used");
        assert_eq!(clocks.left(at(1_060)), Some(at(40)), "the absolute one comes first now");
        clocks.used(at(1_099));
        assert_eq!(clocks.over(at(1_099)), None);
        assert_eq!(clocks.over(at(1_100)), Some(LockReason::Limit));
    }

    #[test]
    fn another_limit_counts_from_when_the_old_one_did() {
        let mut clocks = clocks(None, Some(8 * 3_600));
        clocks.used(at(1_100));
        clocks.limit(LockAfter { idle: Some(at(60)), whole: None });
        assert_eq!(clocks.left(at(1_110)), Some(at(50)), "since it was last used");
        clocks.limit(LockAfter { idle: None, whole: Some(at(90)) });
        assert_eq!(clocks.over(at(1_110)), Some(LockReason::Limit), "since it was unlocked");
        clocks.limit(LockAfter::default());
        assert_eq!(clocks.over(at(1_000_000_000)), None);
    }

    #[test]
    fn a_night_asleep_counts() {
        let idle = (clocks(Some(3_600), None), LockReason::Idle);
        let whole = (clocks(None, Some(3_600)), LockReason::Limit);
        for (clocks, reason) in [idle, whole] {
            assert_eq!(clocks.over(at(1_000 + 3_599)), None);
            assert_eq!(clocks.over(at(1_000 + 8 * 3_600)), Some(reason));
        }
    }

    #[test]
    fn a_late_word_of_use_does_not_turn_the_clock_back() {
        let mut clocks = clocks(Some(60), None);
        clocks.used(at(1_050));
        clocks.used(at(1_010));
        assert_eq!(clocks.left(at(1_050)), Some(at(60)));
    }
}

//! When to renew tokens that nobody has asked for yet: before they expire, spread over time, less
//! and less often while that fails, and only what somebody asked this agent for.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::time::UnixTime;

/// A token whose provider names no better moment is renewed so long before it expires: early enough
/// for clients that want the usual five minutes.
const LEAD: Duration = Duration::from_secs(600);

/// Renewals are spread over so long, so that many agents do not come together.
const SPREAD: Duration = Duration::from_secs(120);

/// The wait after the first failure, doubled by each one more,
const FIRST_WAIT: Duration = Duration::from_secs(30);

/// up to so long.
const LONGEST_WAIT: Duration = Duration::from_secs(900);

/// What nobody asked for in so long is left to expire.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(8 * 3600);

/// A machine's user has a few accounts and a few dozen scopes.
const MAX_KEYS: usize = 256;

/// What is to be renewed, and when. It knows no clock and asks nobody.
#[derive(Debug)]
pub(super) struct Ahead<K>(HashMap<K, Plan>);

/// When one token is to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) asked_at: UnixTime,
    pub(super) at: UnixTime,
    pub(super) expires_on: UnixTime,
    pub(super) failures: u32,
    under_way: bool,
}

/// Until when a token is good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) expires_on: UnixTime,
    pub(super) refresh_on: Option<UnixTime>,
}

impl<K> Default for Ahead<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Clone + Eq + Hash> Ahead<K> {
    /// Notes that somebody was given this token. Whether that changed when to wake up next; only then
    /// is a jitter drawn, which costs a system call.
    pub(super) fn asked(&mut self, key: &K, life: Life, now: UnixTime, jitter: impl FnOnce() -> u8) -> bool {
        if let Some(plan) = self.0.get_mut(key) {
            plan.asked_at = now;
            if plan.expires_on == life.expires_on || plan.under_way {
                return false;
            }
            *plan = Plan::new(life, LEAD, now, now, jitter());
            return true;
        }
        if self.0.len() >= MAX_KEYS {
            let oldest = self.0.iter().min_by_key(|(_, plan)| plan.asked_at).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.0.remove(&key));
        }
        self.0.insert(key.clone(), Plan::new(life, LEAD, now, now, jitter()));
        true
    }

    /// What is to be renewed now, each with the end of its present token. It is under way until one
    /// of the calls below says how it ended.
    pub(super) fn take_due(&mut self, now: UnixTime) -> Vec<(K, UnixTime)> {
        self.0.retain(|_, plan| plan.under_way || plan.asked_at.until(now) < FORGOTTEN_AFTER);
        let due = self.0.iter_mut().filter(|(_, plan)| !plan.under_way && plan.at <= now);
        let taken = due.map(|(key, plan)| {
            plan.under_way = true;
            (key.clone(), plan.expires_on)
        });
        taken.collect()
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<UnixTime> {
        self.0.values().filter(|plan| !plan.under_way).map(|plan| plan.at).min()
    }

    pub(super) fn renewed(&mut self, key: &K, life: Life, now: UnixTime, jitter: u8) {
        if let Some(plan) = self.0.get_mut(key) {
            // A short-lived one is renewed at half its life, not again and again.
            let lead = LEAD.min(now.until(life.expires_on) / 2);
            *plan = Plan::new(life, lead, plan.asked_at, now, jitter);
        }
    }

    /// It did not work, and may later. Not tried any more once the token has expired: then whoever
    /// needs one asks for it.
    pub(super) fn failed(&mut self, key: &K, retry_after: Option<Duration>, now: UnixTime, jitter: u8) {
        let Some(plan) = self.0.get_mut(key) else { return };
        let wait = LONGEST_WAIT.min(FIRST_WAIT * 2_u32.saturating_pow(plan.failures.min(16)));
        let wait = wait.max(retry_after.unwrap_or_default());
        plan.failures += 1;
        plan.at = now.after(wait + spread(wait / 4, jitter));
        plan.under_way = false;
        if plan.at >= plan.expires_on {
            self.0.remove(key);
        }
    }

    /// It will not work before a person has done something.
    pub(super) fn forget(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Everything planned, the next first.
    pub(super) fn plans(&self) -> Vec<(&K, &Plan)> {
        let mut plans: Vec<_> = self.0.iter().collect();
        plans.sort_by_key(|(_, plan)| plan.at);
        plans
    }
}

impl Plan {
    fn new(life: Life, lead: Duration, asked_at: UnixTime, now: UnixTime, jitter: u8) -> Self {
        let Life { expires_on, refresh_on } = life;
        let lead = lead + spread(SPREAD.min(lead / 4), jitter);
        let latest = UnixTime::from_seconds(expires_on.seconds().saturating_sub(seconds(lead)));
        // The provider's own moment comes with everybody's tokens, so it is spread as well.
        let wished = refresh_on.map(|moment| moment.after(spread(SPREAD, jitter)));
        let at = wished.map_or(latest, |wished| wished.min(latest)).max(now);
        Self { asked_at, at, expires_on, failures: 0, under_way: false }
    }
}

fn spread(width: Duration, jitter: u8) -> Duration {
    width * u32::from(jitter) / 255
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    fn life(expires_on: i64) -> Life {
        Life { expires_on: at(expires_on), refresh_on: None }
    }

    fn asked(life: Life, jitter: u8) -> Ahead<&'static str> {
        let mut ahead = Ahead::default();
        assert!(ahead.asked(&"key", life, at(1_000), || jitter));
        ahead
    }

    #[test]
    fn a_token_is_renewed_before_a_client_would_have_to_wait_for_it() {
        assert_eq!(asked(life(5_000), 0).next(), Some(at(4_400)));
        assert_eq!(asked(life(5_000), 255).next(), Some(at(4_280)), "spread towards earlier");
        let wished = Life { refresh_on: Some(at(3_000)), ..life(5_000) };
        assert_eq!(asked(wished, 0).next(), Some(at(3_000)));
        assert_eq!(asked(life(1_100), 0).next(), Some(at(1_000)), "at once");
    }

    #[test]
    fn each_is_under_way_once_and_planned_anew_afterwards() {
        let mut ahead = asked(life(5_000), 0);
        assert!(ahead.take_due(at(4_399)).is_empty());
        assert_eq!(ahead.take_due(at(4_400)), [("key", at(5_000))]);
        assert!(ahead.take_due(at(4_400)).is_empty());
        assert_eq!(ahead.next(), None);
        assert!(!ahead.asked(&"key", life(5_000), at(4_401), || panic!("not needed")), "it is under way");
        ahead.renewed(&"key", life(9_000), at(4_402), 0);
        assert_eq!(ahead.next(), Some(at(8_400)));
        ahead.take_due(at(8_400));
        ahead.renewed(&"key", life(8_500), at(8_400), 0);
        assert_eq!(ahead.next(), Some(at(8_450)), "half of a short life");
    }

    #[test]
    fn failures_wait_longer_and_longer_and_end_with_the_token() {
        let mut ahead = asked(Life { refresh_on: Some(at(2_000)), ..life(5_000) }, 0);
        let mut now = at(2_000);
        let mut waits = Vec::new();
        while !ahead.take_due(now).is_empty() {
            ahead.failed(&"key", None, now, 0);
            let Some(next) = ahead.next() else { break };
            waits.push(now.until(next).as_secs());
            now = next;
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 900, 900], "then it expires");
        assert!(ahead.plans().is_empty());

        let mut ahead = asked(life(1_500), 0);
        ahead.take_due(at(1_000));
        ahead.failed(&"key", Some(Duration::from_secs(77)), at(1_000), 0);
        assert_eq!(ahead.next(), Some(at(1_077)), "the provider said when");
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_left_to_expire() {
        let mut ahead = asked(life(5_000), 0);
        let renewed = |ahead: &mut Ahead<_>, now: i64| ahead.renewed(&"key", life(now + 4_000), at(now), 0);
        for _ in 0..2 {
            ahead.take_due(at(20_000));
            renewed(&mut ahead, 20_000);
        }
        assert_eq!(ahead.take_due(at(1_000 + 8 * 3_600 - 1)).len(), 1);
        renewed(&mut ahead, 1_000 + 8 * 3_600 - 1);
        assert!(ahead.take_due(at(100_000)).is_empty());
        assert!(ahead.plans().is_empty());
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_the_latest_stay() {
        let mut ahead = Ahead::default();
        for number in 0..1_000_i64 {
            ahead.asked(&number, life(5_000), at(number), || 0);
        }
        assert_eq!(ahead.plans().len(), MAX_KEYS);
        assert!(ahead.plans().iter().all(|(key, _)| **key >= 1_000 - 256));
    }
}

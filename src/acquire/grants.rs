//! What this process learned about refresh tokens that are neither clearly alive nor clearly dead.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::ProviderError;
use crate::time::UnixTime;
use crate::token::Scopes;

/// A refresh token that is refused again after so long, still with no reason given, is dead
/// (spec S-B 7.1, rule 8).
const UNCLEAR_FOR: Duration = Duration::from_secs(60);

/// Stands for a refresh token without being one: a hash under a key of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct GrantKey(u64);

/// Refusals that are no reason to remove a refresh token yet.
#[derive(Debug, Default)]
pub(super) struct GrantMemory {
    hasher: RandomState,
    by_resource: Mutex<HashMap<GrantKey, HashMap<String, Box<ProviderError>>>>,
    unclear_since: Mutex<HashMap<GrantKey, UnixTime>>,
}

impl GrantMemory {
    pub(super) fn key_of(&self, secret: &str) -> GrantKey {
        GrantKey(self.hasher.hash_one(secret))
    }

    /// What the provider said when this refresh token was tried for this resource.
    pub(super) fn known_refusal(&self, key: GrantKey, scopes: &Scopes) -> Option<Box<ProviderError>> {
        let refusals = self.by_resource.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.get(&key)?.get(resource_of(scopes)).cloned()
    }

    /// Notes that the sign-in is too old for this resource; a second resource that says so means
    /// that the token is dead (spec S-B 7.1, rule 6).
    pub(super) fn failed_for(&self, key: GrantKey, scopes: &Scopes, answer: &ProviderError) -> bool {
        let mut refusals = self.by_resource.lock().unwrap_or_else(PoisonError::into_inner);
        let of_token = refusals.entry(key).or_default();
        of_token.insert(resource_of(scopes).to_owned(), Box::new(answer.clone()));
        of_token.len() > 1
    }

    /// Notes a refusal without a reason; tells whether it has gone on for too long.
    pub(super) fn failed_unclearly(&self, key: GrantKey, now: UnixTime) -> bool {
        let mut unclear = self.unclear_since.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *unclear.entry(key).or_insert(now);
        now >= since.after(UNCLEAR_FOR)
    }
}

/// What stands before the last slash of a scope names its resource.
fn resource_of(scopes: &Scopes) -> &str {
    let first = scopes.iter().next().unwrap_or_default();
    first.rsplit_once('/').map_or("", |(resource, _)| resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> Scopes {
        Scopes::new([text]).unwrap()
    }

    #[test]
    fn a_second_resource_makes_a_soft_refusal_final() {
        let memory = GrantMemory::default();
        let key = memory.key_of("secret");
        let answer = ProviderError::default();
        let (vault, graph) = (scopes("https://vault/.default"), scopes("https://graph/Mail.Read"));
        assert!(!memory.failed_for(key, &vault, &answer));
        assert!(!memory.failed_for(key, &vault, &answer));
        assert!(memory.known_refusal(key, &vault).is_some());
        assert!(memory.known_refusal(key, &graph).is_none());
        assert!(memory.failed_for(key, &graph, &answer));
    }

    #[test]
    fn a_refusal_without_reason_is_final_after_a_minute() {
        let memory = GrantMemory::default();
        let (key, start) = (memory.key_of("secret"), UnixTime::from_seconds(1_000));
        assert!(!memory.failed_unclearly(key, start));
        assert!(!memory.failed_unclearly(key, start.after(Duration::from_secs(59))));
        assert!(memory.failed_unclearly(key, start.after(Duration::from_secs(60))));
    }
}

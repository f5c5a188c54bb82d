//! Entries that can do nothing any more.

use std::collections::{HashMap, HashSet};

use crate::cloud::preferred_cache;
use crate::time::{UnixTime, in_words};

use super::TokenCacheDocument;
use super::entity::{Entity, Section};
use super::find::newest_first;

/// An entry that can do nothing any more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StaleEntry {
    /// Which section it stands in.
    pub section: String,
    /// Its key there.
    pub key: String,
    /// Whose it is, for people to read; empty for an app's own.
    pub username: String,
    /// Which client's.
    pub client_id: String,
    /// Why it is stale, for people to read.
    pub why: String,
}

impl TokenCacheDocument {
    /// What can do nothing any more at this moment: expired access tokens, and refresh tokens
    /// that a newer one of the same account and client has replaced (spec S-C 1.7).
    #[must_use]
    pub fn stale_entries(&self, now: UnixTime) -> Vec<StaleEntry> {
        let usernames = self.usernames();
        let report = |section: Section, key: &str, entity: Entity<'_>, why: String| {
            let home_account_id = entity.home_account_id().unwrap_or_default();
            let environment = preferred_cache(entity.environment().unwrap_or_default());
            let username = usernames.get(&(home_account_id.to_owned(), environment));
            StaleEntry {
                section: section.as_str().to_owned(),
                key: key.to_owned(),
                username: username.map_or(home_account_id, String::as_str).to_owned(),
                client_id: entity.client_id().unwrap_or_default().to_owned(),
                why,
            }
        };
        let expired = self.entities(Section::AccessToken).filter_map(|(key, entity)| {
            let expires_on = entity.time("expires_on").filter(|time| *time <= now)?;
            let why = format!("expired {} ago", in_words(expires_on.until(now)));
            Some(report(Section::AccessToken, key, entity, why))
        });
        let superseded = self.superseded_refresh_tokens().into_iter().map(|(key, entity)| {
            let why = "replaced by a newer refresh token of the same client".to_owned();
            report(Section::RefreshToken, key, entity, why)
        });
        expired.chain(superseded).collect()
    }

    /// Removes what [`Self::stale_entries`] lists.
    pub(super) fn remove_stale(&mut self, now: UnixTime) -> bool {
        let stale: HashSet<(String, String)> =
            self.stale_entries(now).into_iter().map(|entry| (entry.section, entry.key)).collect();
        let mut changed = false;
        for section in [Section::AccessToken, Section::RefreshToken] {
            changed |= self.remove_where(section, |key, _| {
                stale.contains(&(section.as_str().to_owned(), key.to_owned()))
            });
        }
        changed
    }

    fn superseded_refresh_tokens(&self) -> Vec<(&str, Entity<'_>)> {
        let older = |group: Vec<_>| group.into_iter().skip(1);
        let mut superseded: Vec<_> = self.refresh_tokens_by_client().into_iter().flat_map(older).collect();
        superseded.sort_by_key(|(place, ..)| *place);
        superseded.into_iter().map(|(_, key, entity)| (key, entity)).collect()
    }

    /// The refresh tokens of each client of each account with their places, the newest first.
    pub(super) fn refresh_tokens_by_client(&self) -> Vec<Vec<(usize, &str, Entity<'_>)>> {
        let mut groups: HashMap<_, Vec<_>> = HashMap::new();
        for (place, (key, entity)) in self.entities(Section::RefreshToken).enumerate() {
            if !entity.is_plain_refresh_token() {
                continue;
            }
            let home_account_id = entity.home_account_id();
            let environment = entity.environment().map(preferred_cache);
            let client_id = entity.client_id().map(str::to_ascii_lowercase);
            let group = groups.entry((home_account_id, environment, client_id)).or_default();
            group.push((place, key, entity));
        }
        let mut groups: Vec<_> =
            groups.into_values().map(|group| newest_first(group, |(_, _, entity)| *entity)).collect();
        groups.sort_by_key(|group| group.iter().map(|(place, ..)| *place).min());
        groups
    }

    pub(super) fn usernames(&self) -> HashMap<(String, String), String> {
        self.accounts()
            .into_iter()
            .filter(|account| !account.username.is_empty())
            .map(|account| {
                ((account.home_account_id, preferred_cache(&account.environment)), account.username)
            })
            .collect()
    }
}

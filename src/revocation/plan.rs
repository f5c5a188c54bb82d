//! What would go from a cache, and why.

use std::collections::HashMap;

use secrecy::{ExposeSecret as _, SecretString};

use crate::document::{Change, ChangeSet, TokenCacheDocument};

use super::known::{Cause, Known};

/// A refresh token that is known to be dead, where it stands. `Debug` does not show it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadEntry {
    /// Its key in the section of refresh tokens.
    pub key: String,
    /// Whose it is: `uid.utid`.
    pub home_account_id: String,
    /// Whose it is, for people to read; empty if the cache does not know.
    pub username: String,
    /// A host of the cloud it was issued by.
    pub environment: String,
    /// The client it was issued to.
    pub client_id: String,
    /// Why it is dead.
    pub cause: Cause,
    secret: SecretString,
}

impl DeadEntry {
    /// What removes it: only if it is still this very token by then.
    #[must_use]
    pub fn removal(&self) -> Change {
        Change::RemoveRefreshToken {
            home_account_id: self.home_account_id.clone(),
            client_id: self.client_id.clone(),
            secret: self.secret.clone(),
        }
    }

    /// Whether it stands in this document.
    #[must_use]
    pub fn is_in(&self, document: &TokenCacheDocument) -> bool {
        document.held_refresh_tokens().iter().any(|held| {
            held.token.home_account_id() == self.home_account_id
                && held.token.client_id() == self.client_id
                && held.token.secret() == self.secret.expose_secret()
        })
    }
}

/// The refresh tokens of a cache that are known to be dead.
#[must_use]
pub fn dead_entries(document: &TokenCacheDocument, known: &Known) -> Vec<DeadEntry> {
    if known.is_empty() {
        return Vec::new();
    }
    let usernames: HashMap<String, String> = document
        .accounts()
        .into_iter()
        .filter(|account| !account.username.is_empty())
        .map(|account| (account.home_account_id, account.username))
        .collect();
    let held = document.held_refresh_tokens().into_iter();
    held.filter_map(|held| {
        let cause = known.cause_of(&held)?;
        let home_account_id = held.token.home_account_id().to_owned();
        Some(DeadEntry {
            key: held.key.to_owned(),
            username: usernames.get(&home_account_id).cloned().unwrap_or_default(),
            environment: held.token.environment().to_owned(),
            client_id: held.token.client_id().to_owned(),
            secret: held.token.secret().into(),
            home_account_id,
            cause,
        })
    })
    .collect()
}

/// What removes them all.
#[must_use]
pub fn removal_of(dead: &[DeadEntry]) -> ChangeSet {
    dead.iter().map(DeadEntry::removal).collect()
}

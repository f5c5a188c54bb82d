//! Clients of a cache, with what is known of their families and the age of their refresh tokens.

use std::collections::HashMap;

use super::TokenCacheDocument;
use super::entity::Section;
use crate::cloud::preferred_cache;
use crate::time::UnixTime;

/// What a cache says of a client and the family whose refresh tokens it may use (spec S-C 1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is of a family.
    Member,
    /// It is of none.
    NotMember,
    /// Nobody wrote it down.
    Unknown,
}

/// A refresh token without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefreshTokenSummary {
    /// Whose.
    pub home_account_id: String,
    /// The name of whose it is; empty if no entry knows it.
    pub username: String,
    /// The family that may redeem it.
    pub family_id: Option<String>,
    /// When it was written; `None` if its writer does not note that.
    pub written: Option<UnixTime>,
}

/// A client of one cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientSummary {
    /// Which.
    pub client_id: String,
    /// The cloud, by the name that caches prefer.
    pub environment: String,
    /// Whether it is of a family.
    pub membership: Membership,
    /// Its refresh tokens, in the order of the file.
    pub refresh_tokens: Vec<RefreshTokenSummary>,
}

impl TokenCacheDocument {
    /// Every client that has a refresh token or an entry of its own, in the order of the file.
    #[must_use]
    pub fn client_summaries(&self) -> Vec<ClientSummary> {
        let usernames = self.usernames();
        let mut clients: Vec<ClientSummary> = Vec::new();
        let mut places: HashMap<(String, String), usize> = HashMap::new();
        for section in [Section::RefreshToken, Section::AppMetadata] {
            for (_, entity) in self.entities(section) {
                let (Some(client_id), Some(environment)) = (entity.client_id(), entity.environment()) else {
                    continue;
                };
                let environment = preferred_cache(environment);
                let place = *places
                    .entry((environment.clone(), client_id.to_ascii_lowercase()))
                    .or_insert_with(|| {
                        clients.push(ClientSummary {
                            client_id: client_id.to_owned(),
                            environment: environment.clone(),
                            membership: Membership::Unknown,
                            refresh_tokens: Vec::new(),
                        });
                        clients.len() - 1
                    });
                let client = &mut clients[place];
                if section == Section::AppMetadata {
                    client.membership = match (client.membership, entity.family_id()) {
                        (Membership::Member, _) | (_, Some(_)) => Membership::Member,
                        _ => Membership::NotMember,
                    };
                } else if entity.is_plain_refresh_token() {
                    let home_account_id = entity.home_account_id().unwrap_or_default().to_owned();
                    let owner = (home_account_id, environment);
                    client.refresh_tokens.push(RefreshTokenSummary {
                        username: usernames.get(&owner).cloned().unwrap_or_default(),
                        home_account_id: owner.0,
                        family_id: entity.family_id().map(str::to_owned),
                        written: entity.time("last_modification_time"),
                    });
                }
            }
        }
        clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_one_under_all_aliases_and_its_family_is_what_any_entry_says() {
        let json = br#"{
            "Account": {"a": {"home_account_id": "u.t", "environment": "login.windows.net", "username": "n"}},
            "RefreshToken": {
                "b": {"credential_type": "RefreshToken", "home_account_id": "u.t", "secret": "canary",
                    "environment": "login.microsoftonline.com", "client_id": "C", "family_id": "1",
                    "last_modification_time": "7"},
                "c": {"credential_type": "RefreshToken", "home_account_id": "u.t", "secret": "canary",
                    "environment": "login.microsoftonline.us", "client_id": "c"}
            },
            "AppMetadata": {
                "d": {"client_id": "c", "environment": "login.windows.net", "family_id": "1"},
                "e": {"client_id": "c", "environment": "sts.windows.net"},
                "f": {"client_id": "other", "environment": "sts.windows.net"}
            }
        }"#;
        let clients = TokenCacheDocument::parse(json).unwrap().client_summaries();
        let seen: Vec<_> = clients
            .iter()
            .map(|client| (&*client.client_id, client.membership, client.refresh_tokens.len()))
            .collect();
        assert_eq!(
            seen,
            [
                ("C", Membership::Member, 1),
                ("c", Membership::Unknown, 1),
                ("other", Membership::NotMember, 0)
            ]
        );
        let token = &clients[0].refresh_tokens[0];
        assert_eq!((token.username.as_str(), token.written), ("n", Some(UnixTime::from_seconds(7))));
        assert!(!format!("{clients:?}").contains("canary"));
    }
}

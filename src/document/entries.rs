//! Entries as people may see them: everything but what is secret.

use crate::cloud::preferred_cache;

use super::TokenCacheDocument;
use super::entity::Section;

/// An entry without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedEntry {
    /// Which section it stands in.
    pub section: String,
    /// Its key there.
    pub key: String,
    /// Whose it is; empty for what belongs to nobody.
    pub home_account_id: String,
    /// The name of whose it is; empty if no entry knows it.
    pub username: String,
    /// Which client's; empty for an account.
    pub client_id: String,
    /// Which tenant it is for; empty for what is for all of them.
    pub realm: String,
    /// The scopes of an access token.
    pub target: String,
}

impl TokenCacheDocument {
    /// How many access tokens there are, of whatever kind and age.
    #[must_use]
    pub fn access_token_count(&self) -> usize {
        self.entities(Section::AccessToken).count()
    }

    /// Every entry of the known sections, without its secret.
    #[must_use]
    pub fn entries(&self) -> Vec<CachedEntry> {
        let usernames = self.usernames();
        let in_section = |section: Section| {
            let usernames = &usernames;
            self.entities(section).map(move |(key, entity)| {
                let home_account_id = entity.home_account_id().unwrap_or_default().to_owned();
                let cloud = preferred_cache(entity.environment().unwrap_or_default());
                let owner = (home_account_id, cloud);
                let username = usernames.get(&owner).cloned().unwrap_or_default();
                CachedEntry {
                    section: section.as_str().to_owned(),
                    key: key.to_owned(),
                    home_account_id: owner.0,
                    username,
                    client_id: entity.client_id().unwrap_or_default().to_owned(),
                    realm: entity.realm().unwrap_or_default().to_owned(),
                    target: entity.text("target").unwrap_or_default().to_owned(),
                }
            })
        };
        Section::ALL.into_iter().flat_map(in_section).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_seen_and_no_secret() {
        let json = br#"{
            "AccessToken": {"a": {"home_account_id": "u.t", "environment": "login.windows.net",
                "client_id": "c", "realm": "t", "target": "x y", "secret": "canary"}},
            "Account": {"b": {"home_account_id": "u.t", "environment": "sts.windows.net",
                "realm": "t", "username": "user.one@contoso.example"}, "damaged": 7},
            "AppMetadata": {"d": {"client_id": "c", "environment": "login.windows.net"}}
        }"#;
        let entries = TokenCacheDocument::parse(json).unwrap().entries();
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| (&*entry.section, &*entry.key, &*entry.username, &*entry.target))
            .collect();
        assert_eq!(
            seen,
            [
                ("AccessToken", "a", "user.one@contoso.example", "x y"),
                ("Account", "b", "user.one@contoso.example", ""),
                ("AppMetadata", "d", "", ""),
            ]
        );
        assert!(!format!("{entries:?}").contains("canary"));
        assert_eq!(TokenCacheDocument::parse(json).unwrap().access_token_count(), 1);
    }
}

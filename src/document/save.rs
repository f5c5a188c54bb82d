//! The polite writer: tokens merged so that no other library loses, misses or doubles anything
//! (spec S-C 1.8).

use secrecy::ExposeSecret as _;

use crate::cloud::{preferred_cache, same_cloud};

use super::edit::{inherit, members, set};
use super::entity::{Entity, Section};
use super::find::{is_oidc, newest_first};
use super::realm::{self, same_realm};
use super::{IssuedAccount, IssuedTokens, Origin, TokenCacheDocument, key};

/// Members that a rotated refresh token does not inherit from the one before it: it has its own,
/// or, like `target`, may not have any (spec S-C 1.3).
pub(super) const NOT_INHERITED: [&str; 8] = [
    "client_id",
    "credential_type",
    "environment",
    "family_id",
    "home_account_id",
    "last_modification_time",
    "secret",
    "target",
];

impl TokenCacheDocument {
    pub(super) fn save(&mut self, tokens: &IssuedTokens) -> bool {
        let known_as = self.environment_of(tokens);
        let is_refresh = matches!(tokens.origin, Origin::Refresh);
        if is_refresh && known_as.is_none() && !tokens.home_account_id.is_empty() {
            tracing::debug!("tokens dropped: the account was signed out meanwhile");
            return false;
        }
        let environment = known_as.unwrap_or_else(|| preferred_cache(&tokens.host));

        let mut changed = self.save_access_token(tokens, &environment);
        if let Some(account) = &tokens.account {
            changed |= self.save_account(tokens, account, &environment);
        }
        changed |= self.save_id_token(tokens, &environment);
        changed |= self.save_refresh_token(tokens, &environment);
        changed | self.save_app_metadata(tokens, &environment)
    }

    /// The spelling that the account's entry uses. Of several the one of this realm, then the
    /// authority's own host: Python computes its keys from that (spec S-C 1.5).
    fn environment_of(&self, tokens: &IssuedTokens) -> Option<String> {
        let realm = realm::of_sign_in(tokens);
        self.entities(Section::Account)
            .map(|(_, entity)| entity)
            .filter(|entity| tokens.owns(*entity) && entity.is_account())
            .min_by_key(|entity| {
                let own = entity.realm().unwrap_or_default();
                let is_this_realm = same_realm(&tokens.home_account_id, own, realm);
                let is_this_host = entity.environment() == Some(tokens.host.as_str());
                (!is_this_realm, !is_this_host)
            })?
            .environment()
            .map(str::to_owned)
    }

    /// Overlapping tokens go, because .NET and Node fail on two that match (spec S-C 1.6).
    fn save_access_token(&mut self, tokens: &IssuedTokens, environment: &str) -> bool {
        let realm = realm::of_access_token(tokens);
        let target = target(&tokens.scopes);
        let mut fields = vec![
            ("credential_type", "AccessToken".to_owned()),
            ("secret", tokens.access_token.expose_secret().to_owned()),
            ("home_account_id", tokens.home_account_id.clone()),
            ("environment", environment.to_owned()),
            ("client_id", tokens.client_id.clone()),
            ("target", target.clone()),
            ("realm", realm.to_owned()),
            ("token_type", tokens.token_type.clone()),
            ("cached_at", tokens.issued_at.to_string()),
            ("expires_on", tokens.expires_on.to_string()),
            ("extended_expires_on", tokens.extended_expires_on.to_string()),
        ];
        fields.extend(tokens.refresh_on.map(|time| ("refresh_on", time.to_string())));

        let overlaps = |entity: Entity<'_>| {
            tokens.owns(entity)
                && entity.is_for_client(&tokens.client_id)
                && entity.token_type().eq_ignore_ascii_case(&tokens.token_type)
                && entity.realm().is_some_and(|own| same_realm(&tokens.home_account_id, own, realm))
                && intersect(entity, &tokens.scopes)
                && entity.is_plain_access_token()
        };
        let key = key::access_token(&tokens.home_account_id, environment, &tokens.client_id, realm, &target);
        self.replace(Section::AccessToken, key, members(fields), overlaps)
    }

    /// One entry per realm group, under the spelling it has; what others wrote into it stays.
    fn save_account(&mut self, tokens: &IssuedTokens, account: &IssuedAccount, environment: &str) -> bool {
        let IssuedAccount { local_account_id, username, name, authority_type, client_info } = account;
        let realm = realm::of_sign_in(tokens);
        let is_this = |entity: Entity<'_>| {
            tokens.owns(entity)
                && entity.is_account()
                && entity.realm().is_some_and(|own| same_realm(&tokens.home_account_id, own, realm))
        };
        let source = match tokens.origin {
            Origin::Refresh => None,
            Origin::SignIn { grant_type } => Some(grant_type),
        };

        let (kept, mut changed) = self.keep_one(Section::Account, environment, is_this);
        let Some(entry) = kept.as_deref().and_then(|key| self.entry_mut(Section::Account, key)) else {
            let mut fields = vec![
                ("home_account_id", tokens.home_account_id.clone()),
                ("environment", environment.to_owned()),
                ("realm", realm.to_owned()),
                ("local_account_id", local_account_id.clone()),
                ("username", username.clone().unwrap_or_default()),
                ("authority_type", (*authority_type).to_owned()),
            ];
            fields.extend(source.map(|source| ("account_source", source.to_owned())));
            fields.extend(name.clone().map(|name| ("name", name)));
            let key = key::account(&tokens.home_account_id, environment, realm);
            return self.append(Section::Account, key, members(fields)) | changed;
        };
        changed |= set(entry, "local_account_id", local_account_id);
        for (field, value) in
            [("username", username.as_deref()), ("name", name.as_deref()), ("account_source", source)]
        {
            changed |= value.is_some_and(|value| set(entry, field, value));
        }
        if entry.contains_key("client_info") {
            changed |= client_info.as_deref().is_some_and(|info| set(entry, "client_info", info));
        }
        if !entry.contains_key("authority_type") {
            changed |= set(entry, "authority_type", authority_type);
        }
        changed
    }

    /// Exactly one per client and realm group: Node deletes both of two.
    fn save_id_token(&mut self, tokens: &IssuedTokens, environment: &str) -> bool {
        let Some(id_token) = &tokens.id_token else {
            return false;
        };
        let realm = realm::of_sign_in(tokens);
        let is_this = |entity: Entity<'_>| {
            tokens.owns(entity)
                && entity.is_for_client(&tokens.client_id)
                && entity.realm().is_some_and(|own| same_realm(&tokens.home_account_id, own, realm))
                && entity.is_id_token()
        };
        let (kept, changed) = self.keep_one(Section::IdToken, environment, is_this);
        if let Some(entry) = kept.as_deref().and_then(|key| self.entry_mut(Section::IdToken, key)) {
            return set(entry, "secret", id_token.expose_secret()) | changed;
        }
        let entry = members(vec![
            ("credential_type", "IdToken".to_owned()),
            ("secret", id_token.expose_secret().to_owned()),
            ("home_account_id", tokens.home_account_id.clone()),
            ("environment", environment.to_owned()),
            ("realm", realm.to_owned()),
            ("client_id", tokens.client_id.clone()),
        ]);
        let key = key::id_token(&tokens.home_account_id, environment, &tokens.client_id, realm);
        self.append(Section::IdToken, key, entry) | changed
    }

    /// One per client, the new one last in the file; other clients' stay, because Node needs a
    /// family's token for each of its clients (spec S-C 1.7).
    fn save_refresh_token(&mut self, tokens: &IssuedTokens, environment: &str) -> bool {
        let Some(secret) = &tokens.refresh_token else {
            return false;
        };
        let is_earlier = |entity: Entity<'_>| {
            tokens.owns(entity) && entity.is_for_client(&tokens.client_id) && entity.is_plain_refresh_token()
        };
        let mut fields = vec![
            ("credential_type", "RefreshToken".to_owned()),
            ("secret", secret.expose_secret().to_owned()),
            ("home_account_id", tokens.home_account_id.clone()),
            ("environment", environment.to_owned()),
            ("client_id", tokens.client_id.clone()),
            ("last_modification_time", tokens.issued_at.to_string()),
        ];
        fields.extend(tokens.family_id.clone().map(|family| ("family_id", family)));
        let mut entry = members(fields);

        let earlier: Vec<_> = self
            .entities(Section::RefreshToken)
            .map(|(_, entity)| entity)
            .filter(|entity| is_earlier(*entity))
            .collect();
        for entity in newest_first(earlier, |entity| *entity) {
            inherit(&mut entry, entity.0, &NOT_INHERITED);
        }
        let key = key::refresh_token(&tokens.home_account_id, environment, &tokens.client_id);
        self.replace(Section::RefreshToken, key, entry, is_earlier)
    }

    /// Exactly one per client, since two make every refresh of Node's fail (spec S-C 1.7).
    fn save_app_metadata(&mut self, tokens: &IssuedTokens, environment: &str) -> bool {
        let is_this = |entity: Entity<'_>| {
            entity.is_for_client(&tokens.client_id) && entity.is_in_cloud_of(&tokens.host)
        };
        let (kept, changed) = self.keep_one(Section::AppMetadata, environment, is_this);
        let Some(entry) = kept.as_deref().and_then(|key| self.entry_mut(Section::AppMetadata, key)) else {
            let mut fields =
                vec![("client_id", tokens.client_id.clone()), ("environment", environment.to_owned())];
            fields.extend(tokens.family_id.clone().map(|family| ("family_id", family)));
            let key = key::app_metadata(environment, &tokens.client_id);
            return self.append(Section::AppMetadata, key, members(fields)) | changed;
        };
        match &tokens.family_id {
            Some(family) => set(entry, "family_id", family) | changed,
            // Only a reply with a refresh token says whether that is the family's.
            None if tokens.refresh_token.is_some() => entry.shift_remove("family_id").is_some() | changed,
            None => changed,
        }
    }
}

impl IssuedTokens {
    /// Whether an entry is of the same account, in the same cloud.
    fn owns(&self, entity: Entity<'_>) -> bool {
        entity.is_of(&self.home_account_id)
            && entity.environment().is_some_and(|own| same_cloud(own, &self.host))
    }
}

/// Scopes as granted, in .NET's order (spec S-C 1.4).
fn target(scopes: &[String]) -> String {
    let mut sorted: Vec<&str> = scopes.iter().map(String::as_str).collect();
    sorted.sort_by_cached_key(|scope| (scope.to_lowercase(), *scope));
    sorted.join(" ")
}

/// Whether two tokens could both answer one request; scopes of the sign-in itself do not count.
fn intersect(entity: Entity<'_>, scopes: &[String]) -> bool {
    let nothing_else = scopes.iter().all(|scope| is_oidc(scope));
    scopes
        .iter()
        .filter(|scope| nothing_else || !is_oidc(scope))
        .any(|scope| entity.scopes().any(|granted| granted.eq_ignore_ascii_case(scope)))
}

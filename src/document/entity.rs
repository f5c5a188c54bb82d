//! Entries as they stand, seen by their fields (spec S-C 1.3).

use std::fmt;

use serde_json::{Map, Value};

use crate::cloud::same_cloud;
use crate::time::UnixTime;

/// The sections of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Section {
    AccessToken,
    Account,
    AppMetadata,
    IdToken,
    RefreshToken,
}

impl Section {
    pub(super) const ALL: [Self; 5] =
        [Self::AccessToken, Self::Account, Self::AppMetadata, Self::IdToken, Self::RefreshToken];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "AccessToken",
            Self::Account => "Account",
            Self::AppMetadata => "AppMetadata",
            Self::IdToken => "IdToken",
            Self::RefreshToken => "RefreshToken",
        }
    }
}

/// An entry of any section. A field of an unexpected type counts as missing.
#[derive(Clone, Copy)]
pub(super) struct Entity<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Entity<'a> {
    pub(super) fn text(self, field: &str) -> Option<&'a str> {
        self.0.get(field)?.as_str()
    }

    /// Seconds since the epoch: a decimal string, or a number as some writers leave it.
    pub(super) fn time(self, field: &str) -> Option<UnixTime> {
        let seconds = match self.0.get(field)? {
            Value::String(text) => text.parse().ok()?,
            // `as` saturates, and a time out of range is absurd at either end.
            Value::Number(number) => number.as_i64().or_else(|| Some(number.as_f64()? as i64))?,
            _ => return None,
        };
        Some(UnixTime::from_seconds(seconds))
    }

    /// Whose it is. An app's own token has none, which Python writes as null and .NET not at all.
    pub(super) fn home_account_id(self) -> Option<&'a str> {
        match self.0.get("home_account_id") {
            None | Some(Value::Null) => Some(""),
            Some(other) => other.as_str(),
        }
    }

    pub(super) fn is_of(self, home_account_id: &str) -> bool {
        self.home_account_id() == Some(home_account_id)
    }

    pub(super) fn client_id(self) -> Option<&'a str> {
        self.text("client_id")
    }

    pub(super) fn is_for_client(self, client_id: &str) -> bool {
        self.client_id().is_some_and(|own| own.eq_ignore_ascii_case(client_id))
    }

    pub(super) fn environment(self) -> Option<&'a str> {
        self.text("environment")
    }

    pub(super) fn is_in_cloud_of(self, host: &str) -> bool {
        self.environment().is_some_and(|own| same_cloud(own, host))
    }

    pub(super) fn realm(self) -> Option<&'a str> {
        self.text("realm")
    }

    pub(super) fn secret(self) -> Option<&'a str> {
        self.text("secret").filter(|secret| !secret.is_empty())
    }

    pub(super) fn family_id(self) -> Option<&'a str> {
        self.text("family_id").filter(|family| !family.is_empty())
    }

    pub(super) fn scopes(self) -> impl Iterator<Item = &'a str> {
        self.text("target").unwrap_or_default().split_ascii_whitespace()
    }

    pub(super) fn token_type(self) -> &'a str {
        self.text("token_type").unwrap_or("Bearer")
    }

    /// Whether a service holds it on behalf of somebody; never for an ordinary request
    /// (spec S-C 1.9).
    pub(super) fn is_on_behalf_of(self) -> bool {
        self.has_any(&["user_assertion_hash", "userAssertionHash"])
            || self.client_id().is_some_and(|client| client.contains(":obo:"))
    }

    /// Whether all is there that an ordinary bearer token needs, and nothing that restricts it:
    /// no key it is bound to, no extra parameters it was asked for with.
    pub(super) fn is_plain_access_token(self) -> bool {
        self.text("credential_type") == Some("AccessToken")
            && self.secret().is_some()
            && self.environment().is_some()
            && self.client_id().is_some()
            && self.realm().is_some()
            && self.text("target").is_some()
            && self.time("cached_at").is_some()
            && self.time("expires_on").is_some()
            && self.token_type().eq_ignore_ascii_case("Bearer")
            && !self.is_on_behalf_of()
            && !self.has_any(&["key_id", "kid", "keyid"])
            && !self.has_any(&["ext_cache_key", "additionalCacheKeyComponents"])
    }

    /// Whether all is there that a person's refresh token needs.
    pub(super) fn is_plain_refresh_token(self) -> bool {
        self.text("credential_type") == Some("RefreshToken")
            && self.secret().is_some()
            && self.environment().is_some()
            && self.client_id().is_some()
            && self.home_account_id().is_some_and(|home| !home.is_empty())
            && !self.is_on_behalf_of()
    }

    pub(super) fn is_id_token(self) -> bool {
        self.text("credential_type") == Some("IdToken")
            && self.secret().is_some()
            && self.environment().is_some()
            && self.client_id().is_some()
            && self.realm().is_some()
            && self.home_account_id().is_some_and(|home| !home.is_empty())
    }

    pub(super) fn is_account(self) -> bool {
        self.environment().is_some() && self.home_account_id().is_some_and(|home| !home.is_empty())
    }

    fn has_any(self, fields: &[&str]) -> bool {
        fields.iter().any(|field| match self.0.get(*field) {
            None | Some(Value::Null) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        })
    }
}

/// An access token where it stands. `Debug` does not show it.
#[derive(Clone, Copy)]
pub struct AccessTokenView<'a>(pub(super) Entity<'a>);

impl<'a> AccessTokenView<'a> {
    /// The token itself.
    #[must_use]
    pub fn secret(&self) -> &'a str {
        self.0.secret().unwrap_or_default()
    }

    /// `Bearer` unless the entry says otherwise.
    #[must_use]
    pub fn token_type(&self) -> &'a str {
        self.0.token_type()
    }

    /// Which client it was issued to.
    #[must_use]
    pub fn client_id(&self) -> &'a str {
        self.0.client_id().unwrap_or_default()
    }

    /// The tenant it is for, as the entry spells it.
    #[must_use]
    pub fn realm(&self) -> &'a str {
        self.0.realm().unwrap_or_default()
    }

    /// The scopes granted.
    pub fn scopes(&self) -> impl Iterator<Item = &'a str> {
        self.0.scopes()
    }

    /// Until when it is good.
    #[must_use]
    pub fn expires_on(&self) -> UnixTime {
        self.0.time("expires_on").unwrap_or_default()
    }

    /// When the provider would like it renewed.
    #[must_use]
    pub fn refresh_on(&self) -> Option<UnixTime> {
        self.0.time("refresh_on")
    }
}

impl fmt::Debug for AccessTokenView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokenView")
            .field("client_id", &self.client_id())
            .field("realm", &self.realm())
            .field("expires_on", &self.expires_on())
            .finish_non_exhaustive()
    }
}

/// A refresh token where it stands. `Debug` does not show it.
#[derive(Clone, Copy)]
pub struct RefreshTokenView<'a>(pub(super) Entity<'a>);

impl<'a> RefreshTokenView<'a> {
    /// The token itself.
    #[must_use]
    pub fn secret(&self) -> &'a str {
        self.0.secret().unwrap_or_default()
    }

    /// Whose it is: `uid.utid`.
    #[must_use]
    pub fn home_account_id(&self) -> &'a str {
        self.0.home_account_id().unwrap_or_default()
    }

    /// The client it was issued to.
    #[must_use]
    pub fn client_id(&self) -> &'a str {
        self.0.client_id().unwrap_or_default()
    }

    /// The family that may redeem it.
    #[must_use]
    pub fn family_id(&self) -> Option<&'a str> {
        self.0.family_id()
    }

    /// The host it was issued by, as the entry spells it.
    #[must_use]
    pub fn environment(&self) -> &'a str {
        self.0.environment().unwrap_or_default()
    }
}

impl fmt::Debug for RefreshTokenView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshTokenView")
            .field("client_id", &self.client_id())
            .field("environment", &self.environment())
            .field("family_id", &self.family_id())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_as_text_and_as_numbers() {
        let value = json!({"a": "1767225600", "b": 1_767_225_600, "c": 1_767_225_600.9,
            "d": "soon", "e": null, "f": "", "g": 1e300});
        let entity = Entity(value.as_object().unwrap());
        let now = Some(UnixTime::from_seconds(1_767_225_600));
        assert_eq!(["a", "b", "c"].map(|field| entity.time(field)), [now; 3]);
        assert_eq!(["d", "e", "f", "x"].map(|field| entity.time(field)), [None; 4]);
        assert_eq!(entity.time("g"), Some(UnixTime::from_seconds(i64::MAX)));
    }
}

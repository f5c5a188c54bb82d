//! What is asked for, and what comes back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use crate::cloud::TenantId;
use crate::error::{Error, InvalidArgument, Result};
use crate::time::UnixTime;

/// Scopes that every sign-in by a person asks for anyway, so a caller may not (spec S-B 2.1).
const RESERVED: [&str; 3] = ["offline_access", "openid", "profile"];

/// One or more scopes of one resource, such as `https://graph.microsoft.com/.default`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scopes(Vec<String>);

impl Scopes {
    /// Takes the scopes in the order given; one that stands twice counts once.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for none at all, an empty one, one with white space or quotes
    /// in it, or one that sign-in adds by itself (`openid`, `profile`, `offline_access`).
    pub fn new<S: Into<String>>(scopes: impl IntoIterator<Item = S>) -> Result<Self> {
        let refuse = |problem: String| {
            Error::from(InvalidArgument::new(
                "scope",
                problem,
                "give at least one scope, such as https://management.azure.com/.default",
            ))
        };
        let mut kept: Vec<String> = Vec::new();
        for scope in scopes {
            let scope = scope.into();
            // RFC 6749, section 3.3: printable ASCII without space, quote and backslash.
            let printable = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
            if scope.is_empty() {
                return Err(refuse("a scope is empty".to_owned()));
            }
            if !scope.chars().all(printable) {
                return Err(refuse(format!("{scope:?} is not one scope")));
            }
            if RESERVED.contains(&scope.as_str()) {
                return Err(refuse(format!("{scope:?} is asked for at every sign-in by itself")));
            }
            if !kept.contains(&scope) {
                kept.push(scope);
            }
        }
        if kept.is_empty() {
            return Err(refuse("no scope was given".to_owned()));
        }
        Ok(Self(kept))
    }

    /// The scopes in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The scopes as a request for a person's token carries them, with those every sign-in needs.
    #[must_use]
    pub fn decorated(&self) -> String {
        let mut all: Vec<&str> = self.iter().chain(RESERVED).collect();
        all.sort_unstable();
        all.join(" ")
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// A claims request (OpenID Connect Core 5.5), or the claims challenge that a resource answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claims(String);

impl Claims {
    /// Takes a JSON object.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for anything else.
    pub fn parse(json: &str) -> Result<Self> {
        match serde_json::from_str(json) {
            Ok(Value::Object(_)) => Ok(Self(json.trim().to_owned())),
            Ok(_) => Err(Self::refuse("it is JSON, but not an object")),
            Err(error) => Err(Self::refuse(&format!("it is not JSON ({error})"))),
        }
    }

    /// Takes a JSON object, its base64, or a whole `WWW-Authenticate` header with `claims="…"`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when none of the three fits.
    pub fn from_challenge(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.starts_with('{') {
            return Self::parse(text);
        }
        let encoded = match claims_parameter(text) {
            Some(value) => value,
            None if text.contains([' ', '"', '=']) && decode_base64(text).is_none() => {
                return Err(Self::refuse("it is a header without claims=\"…\""));
            }
            None => text.to_owned(),
        };
        if encoded.starts_with('{') {
            return Self::parse(&encoded);
        }
        let bytes = decode_base64(&encoded)
            .ok_or_else(|| Self::refuse("it is neither JSON, nor base64, nor a header"))?;
        let json = String::from_utf8(bytes).map_err(|_| Self::refuse("what its base64 holds is not text"))?;
        Self::parse(&json)
    }

    fn refuse(problem: &str) -> Error {
        InvalidArgument::new(
            "claims",
            problem,
            "give the claims challenge as JSON, as base64, or as the whole WWW-Authenticate header",
        )
        .into()
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a request carries: the claims asked for, and with continuous access evaluation the
    /// client capability `CP1` among them (spec S-B 2.7).
    #[must_use]
    pub fn on_the_wire(claims: Option<&Self>, enable_cae: bool) -> Option<String> {
        let Some(claims) = claims else {
            return enable_cae.then(|| json!({"access_token": {"xms_cc": {"values": ["CP1"]}}}).to_string());
        };
        if !enable_cae {
            return Some(claims.0.clone());
        }
        let mut merged: Map<String, Value> = serde_json::from_str(&claims.0).unwrap_or_default();
        let access_token = merged.entry("access_token").or_insert_with(|| json!({}));
        if !access_token.is_object() {
            *access_token = json!({});
        }
        access_token["xms_cc"] = json!({"values": ["CP1"]});
        Some(Value::Object(merged).to_string())
    }
}

/// The value of `claims` in a `WWW-Authenticate` header, quoted or not (RFC 9110, section 11.2).
fn claims_parameter(header: &str) -> Option<String> {
    let lower = header.to_ascii_lowercase();
    let (start, _) = lower.match_indices("claims").find(|(at, _)| {
        let before = lower[..*at].chars().next_back();
        let after = lower[at + "claims".len()..].trim_start();
        after.starts_with('=') && before.is_none_or(|c| c == ' ' || c == ',')
    })?;
    let rest = header[start + "claims".len()..].trim_start();
    let rest = rest.strip_prefix('=')?.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', ' ']).unwrap_or(rest.len());
        return Some(rest[..end].to_owned());
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => return Some(value),
            '\\' => value.extend(characters.next()),
            c => value.push(c),
        }
    }
    None
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
}

/// A request for an access token.
///
/// ```
/// use tokenkeep::{Scopes, TokenRequest};
/// # fn main() -> tokenkeep::Result<()> {
/// let request = TokenRequest::new(Scopes::new(["https://graph.microsoft.com/.default"])?)
///     .enable_cae(true);
/// # assert!(request.enable_cae);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TokenRequest {
    /// What the token is to be good for.
    pub scopes: Scopes,
    /// A claims challenge to satisfy. With one, no cached access token will do.
    pub claims: Option<Claims>,
    /// A tenant other than the credential's own.
    pub tenant: Option<TenantId>,
    /// Whether the caller can handle claims challenges (continuous access evaluation); such
    /// tokens live longer and rest in a cache of their own.
    pub enable_cae: bool,
    /// How long a cached token must still be valid; 300 seconds unless set.
    pub min_validity: Duration,
    /// Asks the provider even if a cached token would do.
    pub force_refresh: bool,
}

impl TokenRequest {
    /// Asks for a token that is good for these scopes.
    #[must_use]
    pub const fn new(scopes: Scopes) -> Self {
        Self {
            scopes,
            claims: None,
            tenant: None,
            enable_cae: false,
            min_validity: Duration::from_secs(300),
            force_refresh: false,
        }
    }

    /// Answers a claims challenge.
    #[must_use]
    pub fn claims(mut self, claims: impl Into<Option<Claims>>) -> Self {
        self.claims = claims.into();
        self
    }

    /// Asks for a token of this tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<Option<TenantId>>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Says that the caller can handle claims challenges.
    #[must_use]
    pub const fn enable_cae(mut self, enable: bool) -> Self {
        self.enable_cae = enable;
        self
    }

    /// Refreshes a token that would expire sooner than this.
    #[must_use]
    pub const fn min_validity(mut self, validity: Duration) -> Self {
        self.min_validity = validity;
        self
    }

    /// Asks the provider even if a cached token would do.
    #[must_use]
    pub const fn force_refresh(mut self, force: bool) -> Self {
        self.force_refresh = force;
        self
    }
}

/// Who an access token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenAccount {
    /// The name a person signs in with.
    pub username: String,
    /// `uid.utid`, which stays when the name changes.
    pub home_account_id: String,
}

impl TokenAccount {
    pub(crate) const fn new(username: String, home_account_id: String) -> Self {
        Self { username, home_account_id }
    }
}

/// Where a token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenSource {
    /// The user's agent gave it.
    Agent,
    /// The cache had it, and nobody was asked.
    Cache,
    /// The provider issued it just now, by a refresh token or a sign-in.
    Refresh,
}

impl TokenSource {
    /// The word that `tokenkeep token --json` uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Cache => "cache",
            Self::Refresh => "refresh",
        }
    }
}

/// What is known about an access token beside the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenDetails {
    /// `Bearer`, unless the provider bound the token to a key.
    pub token_type: String,
    /// The scopes granted.
    pub scopes: Vec<String>,
    /// The tenant that issued it.
    pub tenant: String,
    /// The client it was issued to.
    pub client_id: String,
    /// Who it speaks for.
    pub account: Option<TokenAccount>,
}

impl TokenDetails {
    pub(crate) const fn new(
        token_type: String,
        scopes: Vec<String>,
        tenant: String,
        client_id: String,
        account: Option<TokenAccount>,
    ) -> Self {
        Self { token_type, scopes, tenant, client_id, account }
    }
}

/// An access token and until when it is good. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccessToken {
    /// The secret itself.
    pub token: SecretString,
    /// When it stops being valid.
    pub expires_on: UnixTime,
    /// When the provider would like it renewed, if it said so.
    pub refresh_on: Option<UnixTime>,
    /// Where it came from.
    pub source: TokenSource,
    /// Everything else that is known about it; shared, so that cloning a token stays cheap.
    pub details: Arc<TokenDetails>,
}

impl AccessToken {
    pub(crate) const fn new(
        token: SecretString,
        expires_on: UnixTime,
        refresh_on: Option<UnixTime>,
        source: TokenSource,
        details: Arc<TokenDetails>,
    ) -> Self {
        Self { token, expires_on, refresh_on, source, details }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1767225600"}}}"#;

    #[test]
    fn scopes_are_checked_and_decorated() {
        let scopes = Scopes::new(["b/.default", "a", "a"]).unwrap();
        assert_eq!(scopes.to_string(), "b/.default a");
        assert_eq!(scopes.decorated(), "a b/.default offline_access openid profile");
        for bad in [vec![], vec![""], vec![" "], vec!["a b"], vec!["openid"], vec!["a\n"]] {
            Scopes::new(bad).unwrap_err();
        }
    }

    #[test]
    fn a_challenge_is_read_in_all_three_forms() {
        let plain = Claims::parse(CHALLENGE).unwrap();
        for engine in [&STANDARD, &URL_SAFE_NO_PAD] {
            let encoded = engine.encode(CHALLENGE);
            let header = format!(
                r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="insufficient_claims", claims="{encoded}""#
            );
            for text in [CHALLENGE, &encoded, &header] {
                assert_eq!(Claims::from_challenge(text).unwrap(), plain, "{text}");
            }
        }
        for bad in
            ["", "[]", "no claims", "Bearer realm=\"\"", "{", "!!", "claims=\"x", &STANDARD.encode("[1]")]
        {
            Claims::from_challenge(bad).unwrap_err();
        }
    }

    #[test]
    fn the_client_capability_joins_what_was_asked() {
        assert_eq!(Claims::on_the_wire(None, false), None);
        let plain = Claims::parse(CHALLENGE).unwrap();
        assert_eq!(Claims::on_the_wire(Some(&plain), false).unwrap(), CHALLENGE);
        let merged: Value = serde_json::from_str(&Claims::on_the_wire(Some(&plain), true).unwrap()).unwrap();
        assert_eq!(merged["access_token"]["xms_cc"]["values"], json!(["CP1"]));
        assert_eq!(merged["access_token"]["nbf"]["essential"], json!(true));
    }
}

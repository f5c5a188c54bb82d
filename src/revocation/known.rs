//! What is known to be dead: single refresh tokens, and whole accounts up to a moment.
//!
//! Holds no secret and no name: tokens and accounts are told apart by a keyed hash of them, and the
//! key is as old as the memory.

use std::fmt;
use std::io;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use secrecy::ExposeSecret as _;

use crate::acquire::DeadGrant;
use crate::cloud::preferred_cache;
use crate::document::HeldRefreshToken;
use crate::error::CacheError;
use crate::time::UnixTime;

/// A token counts as older than a revocation only if it is older by so much: clocks differ, and
/// Entra ID dates an ID token five minutes before it issues it.
const DOUBT: Duration = Duration::from_secs(10 * 60);

/// Nothing that is dead comes back after so long: a refresh token lives for 90 days unused.
const KEPT_FOR: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// No person has so many.
const MOST_ACCOUNTS: usize = 256;
const MOST_GRANTS: usize = 1024;

/// Why a refresh token is known to be dead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The provider called this very token dead.
    Refused {
        /// With this code, such as `AADSTS50173`.
        code: String,
        /// At this moment.
        at: UnixTime,
    },
    /// It is older than the moment from which on the account's tokens are valid.
    Revoked {
        /// The code of the refusal that named the moment.
        code: String,
        /// That moment.
        valid_from: UnixTime,
    },
}

impl Cause {
    /// The provider's code, such as `AADSTS50173`.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } | Self::Revoked { code, .. } => code,
        }
    }
}

/// What was learned from the provider's refusals.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    version: u32,
    /// Keys the hashes; base64 would be no shorter to read.
    salt: Salt,
    /// The newest last.
    accounts: Vec<RevokedAccount>,
    /// The newest last.
    grants: Vec<RefusedGrant>,
}

type Salt = [u8; 32];

/// Stands for a token or an account without being one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fingerprint(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RevokedAccount {
    account: Fingerprint,
    valid_from: i64,
    code: String,
    noticed: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RefusedGrant {
    token: Fingerprint,
    code: String,
    noticed: i64,
}

/// The version of what [`Known::to_bytes`] writes.
const VERSION: u32 = 1;

impl Known {
    /// Nothing yet.
    ///
    /// # Errors
    /// [`CacheError::Io`] if the system has no random numbers.
    pub(crate) fn nothing() -> Result<Self, CacheError> {
        let mut salt = Salt::default();
        getrandom::fill(&mut salt)
            .map_err(|error| CacheError::io("make a key for", "revocations.json")(io::Error::other(error)))?;
        Ok(Self { version: VERSION, salt, accounts: Vec::new(), grants: Vec::new() })
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NotKnown> {
        let known: Self = serde_json::from_slice(bytes)
            .map_err(|error| NotKnown::Damaged { line: error.line(), column: error.column() })?;
        if known.version > VERSION { Err(NotKnown::Newer { version: known.version }) } else { Ok(known) }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Notes what the provider called dead. What is too old to matter is forgotten.
    pub(crate) fn note(&mut self, dead: &DeadGrant) {
        let noticed = dead.at.seconds();
        let token = self.token(dead.secret.expose_secret());
        self.grants.retain(|known| known.token != token);
        self.grants.push(RefusedGrant { token, code: dead.code.clone(), noticed });
        if let Some(valid_from) = dead.valid_from {
            let account = self.account(&dead.home_account_id, &dead.environment);
            let valid_from = valid_from.seconds();
            let is_newer = |known: &RevokedAccount| known.account == account && known.valid_from > valid_from;
            if !self.accounts.iter().any(is_newer) {
                self.accounts.retain(|known| known.account != account);
                let code = dead.code.clone();
                self.accounts.push(RevokedAccount { account, valid_from, code, noticed });
            }
        }
        let old = |noticed: i64| UnixTime::from_seconds(noticed).after(KEPT_FOR) < dead.at;
        self.grants.retain(|known| !old(known.noticed));
        self.accounts.retain(|known| !old(known.noticed));
        self.grants.drain(..self.grants.len().saturating_sub(MOST_GRANTS));
        self.accounts.drain(..self.accounts.len().saturating_sub(MOST_ACCOUNTS));
    }

    /// Whether nothing is known to be dead.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.grants.is_empty()
    }

    /// Why this token is dead, if that is known.
    ///
    /// A token that nothing dates, or that was issued about when the account was revoked, is not
    /// known to be dead: the next refusal will tell.
    #[must_use]
    pub fn cause_of(&self, held: &HeldRefreshToken<'_>) -> Option<Cause> {
        let token = self.token(held.token.secret());
        if let Some(refused) = self.grants.iter().find(|known| known.token == token) {
            let at = UnixTime::from_seconds(refused.noticed);
            return Some(Cause::Refused { code: refused.code.clone(), at });
        }
        let issued_by = held.issued_by?;
        let account = self.account(held.token.home_account_id(), held.token.environment());
        let revoked = self.accounts.iter().find(|known| known.account == account)?;
        let valid_from = UnixTime::from_seconds(revoked.valid_from);
        let code = revoked.code.clone();
        (issued_by.after(DOUBT) < valid_from).then_some(Cause::Revoked { code, valid_from })
    }

    fn token(&self, secret: &str) -> Fingerprint {
        self.fingerprint(&["token", secret])
    }

    fn account(&self, home_account_id: &str, environment: &str) -> Fingerprint {
        self.fingerprint(&["account", home_account_id, &preferred_cache(environment)])
    }

    fn fingerprint(&self, parts: &[&str]) -> Fingerprint {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.salt) else {
            unreachable!("HMAC takes a key of any length");
        };
        for part in parts {
            // with its length, so that no two lists of parts are one text
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        let hash = mac.finalize().into_bytes();
        Fingerprint(hash[..16].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known")
            .field("accounts", &self.accounts.len())
            .field("grants", &self.grants.len())
            .finish_non_exhaustive()
    }
}

/// Why bytes are not what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotKnown {
    #[error("it is not the JSON of this file; the first error is at line {line}, column {column}")]
    Damaged { line: usize, column: usize },
    #[error("it is of version {version}, which a later tokenkeep writes")]
    Newer { version: u32 },
}

#[cfg(test)]
pub(super) mod tests {
    use secrecy::SecretString;
    use serde_json::json;

    use super::*;
    use crate::document::TokenCacheDocument;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    pub(in super::super) fn dead(secret: &str, valid_from: Option<i64>) -> DeadGrant {
        DeadGrant {
            home_account_id: "u.t".to_owned(),
            username: "user.one@contoso.example".to_owned(),
            environment: "login.microsoftonline.com".to_owned(),
            client_id: "c".to_owned(),
            secret: SecretString::from(secret),
            code: "AADSTS50173".to_owned(),
            valid_from: valid_from.map(at),
            at: at(NOW),
        }
    }

    fn cause(known: &Known, home_account_id: &str, environment: &str, issued: Option<i64>) -> Option<Cause> {
        let mut token = json!({"credential_type": "RefreshToken", "secret": "another", "client_id": "other",
            "home_account_id": home_account_id, "environment": environment});
        if let Some(issued) = issued {
            token["last_modification_time"] = issued.to_string().into();
        }
        let document = json!({"RefreshToken": {"k": token}}).to_string();
        let document = TokenCacheDocument::parse(document.as_bytes()).unwrap();
        known.cause_of(&document.held_refresh_tokens()[0])
    }

    #[test]
    fn what_was_issued_before_the_accounts_revocation_is_dead_under_any_client_and_alias() {
        let mut known = Known::nothing().unwrap();
        known.note(&dead("s", Some(NOW - 3_600)));
        let dead_at = |issued| cause(&known, "u.t", "sts.windows.net", issued).is_some();
        assert!(dead_at(Some(NOW - 86_400)));
        assert!(dead_at(Some(NOW - 3_600 - 601)));
        assert!(!dead_at(Some(NOW - 3_600 - 600)), "too close to be sure");
        assert!(!dead_at(Some(NOW - 3_600)) && !dead_at(Some(NOW)));
        assert!(!dead_at(None), "nothing dates it");
        assert_eq!(cause(&known, "v.t", "sts.windows.net", Some(1)), None);
        assert_eq!(cause(&known, "u.t", "login.microsoftonline.us", Some(1)), None);
    }

    #[test]
    fn the_very_token_is_dead_wherever_it_turns_up_again() {
        let mut known = Known::nothing().unwrap();
        assert!(known.is_empty());
        known.note(&dead("another", None));
        let found = cause(&known, "u.t", "a.example", Some(NOW + 1_000_000));
        assert_eq!(found, Some(Cause::Refused { code: "AADSTS50173".to_owned(), at: at(NOW) }));
        assert!(!known.is_empty());
    }

    #[test]
    fn an_older_moment_does_not_take_a_newer_ones_place() {
        let mut known = Known::nothing().unwrap();
        for moment in [NOW - 100, NOW - 100_000] {
            known.note(&dead("s", Some(moment)));
        }
        assert!(cause(&known, "u.t", "login.windows.net", Some(NOW - 10_000)).is_some());
        assert_eq!((known.accounts.len(), known.grants.len()), (1, 1), "each once");
    }

    #[test]
    fn it_is_bounded_and_forgets_what_is_long_gone() {
        let mut known = Known::nothing().unwrap();
        for number in 0..MOST_GRANTS + 10 {
            known.note(&dead(&number.to_string(), None));
        }
        assert_eq!(known.grants.len(), MOST_GRANTS);
        let mut later = dead("later", Some(NOW));
        later.at = at(NOW).after(KEPT_FOR + Duration::from_secs(1));
        known.note(&later);
        assert_eq!((known.accounts.len(), known.grants.len()), (1, 1));
    }

    #[test]
    fn what_is_written_is_read_again_and_holds_no_secret_and_no_name() {
        let mut known = Known::nothing().unwrap();
        known.note(&dead("canary-secret", Some(NOW)));
        let bytes = known.to_bytes();
        assert!(Known::parse(&bytes).unwrap() == known);
        let text = format!("{}{known:?}", String::from_utf8(bytes).unwrap());
        for hidden in ["canary", "u.t", "user.one", "microsoftonline"] {
            assert!(!text.contains(hidden), "{text}");
        }
        // with another salt the same things have other names
        let mut other = Known::nothing().unwrap();
        other.note(&dead("canary-secret", Some(NOW)));
        assert_ne!(other.grants[0].token, known.grants[0].token);
    }

    #[test]
    fn what_is_no_memory_is_told_from_one_of_a_later_version() {
        for damaged in [
            "",
            "{",
            "[]",
            "null",
            r#"{"version":1}"#,
            r#"{"version":1,"salt":[1],"accounts":[],"grants":[]}"#,
        ] {
            assert!(matches!(Known::parse(damaged.as_bytes()), Err(NotKnown::Damaged { .. })), "{damaged}");
        }
        let mut later = Known::nothing().unwrap();
        later.version = 2;
        assert_eq!(Known::parse(&later.to_bytes()), Err(NotKnown::Newer { version: 2 }));
    }
}

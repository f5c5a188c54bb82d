//! An error on its way over the border, and back into one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cloud::TenantId;
#[cfg(any(feature = "cli", test))]
use crate::error::with_causes;
use crate::error::{
    AuthenticationFailed, Candidate, DENIED, Denied, Error, InteractionReason, InteractionRequired,
    NetworkError, ProviderError, RelayedError, RemovedGrant,
};
use crate::time::UnixTime;
use crate::token::{Claims, Scopes};

/// A refusal: what `--json` prints of a failure, and what else a program needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ErrorAnswer {
    /// The refusal.
    pub error: Refusal,
}

/// Why there is no answer. The first ten members are those of `tokenkeep --json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Refusal {
    /// What programs tell failures apart by.
    pub kind: String,
    /// The provider's code, such as `AADSTS50173`.
    pub code: Option<String>,
    /// What happened, and why.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
    /// Claims for the sign-in.
    pub claims: Option<String>,
    /// The tenant for the sign-in.
    pub tenant: Option<String>,
    /// The scopes for the sign-in.
    pub scopes: Option<Vec<String>>,
    /// Refresh tokens that the provider called dead.
    pub removed: Vec<Removed>,
    /// Accounts that might have been meant.
    pub candidates: Vec<Meant>,
    /// For Microsoft's support.
    pub correlation_id: Option<String>,
    /// What the members above leave out.
    pub detail: Option<Box<Detail>>,
}

/// What a program's own error type holds beside what is shown to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Detail {
    /// Why a person has to sign in.
    pub reason: Reason,
    /// Who has to.
    pub username: Option<String>,
    /// The claims that were asked for.
    pub requested_claims: Option<String>,
    /// Whether continuous access evaluation was asked for.
    pub enable_cae: bool,
    /// The status of the provider's answer.
    pub status: Option<u16>,
    /// How many seconds the provider told us to wait.
    pub retry_after: Option<u64>,
    /// What the provider answered.
    pub provider: Option<Provider>,
}

/// Why a person has to sign in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The refresh token was dead.
    GrantDead,
    /// The cache holds no refresh token of use.
    NoGrant,
    /// Nobody has signed in yet.
    NotSignedIn,
    /// The provider wants something only a person can give.
    ProviderAsks,
    /// A reason of another version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What the provider answered instead of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Provider {
    /// OAuth's error code.
    pub error: String,
    /// Entra's own text.
    pub description: String,
    /// Entra's numbers.
    pub codes: Vec<u32>,
    /// A refinement of `error`.
    pub suberror: Option<String>,
    /// Claims that the next sign-in has to satisfy.
    pub claims: Option<String>,
    /// For Microsoft's support.
    pub correlation_id: Option<String>,
    /// For Microsoft's support.
    pub trace_id: Option<String>,
    /// When the provider said so.
    pub timestamp: Option<String>,
    /// Since when grants are good, in seconds since 1970, if the provider told.
    pub valid_from: Option<i64>,
}

/// A refresh token that the provider called dead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Removed {
    /// Whose it was.
    pub username: String,
    /// Whose it was, by the id that stays.
    pub home_account_id: String,
    /// Which client it was issued to.
    pub client_id: String,
    /// Which cache it stood in.
    pub cache: String,
    /// The provider's code.
    pub code: String,
}

/// An account that might have been meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Meant {
    /// The name a person signs in with.
    pub username: String,
    /// `uid.utid`.
    pub home_account_id: String,
    /// The tenant it is at home in.
    pub home_tenant: String,
}

#[cfg(any(feature = "cli", test))]
impl ErrorAnswer {
    /// Tells an error of the library.
    pub(crate) fn of(error: &Error) -> Self {
        let required = match error {
            Error::InteractionRequired(required) => Some(&**required),
            _ => None,
        };
        let candidates = match error {
            Error::Unavailable(unavailable) => unavailable.candidates(),
            Error::Relayed(relayed) => &relayed.candidates,
            _ => &[],
        };
        let provider = error.provider();
        let texts = |claims: Option<&Claims>| claims.map(|claims| claims.as_str().to_owned());
        Self::new(Refusal {
            kind: error.kind().to_owned(),
            code: provider.map(ProviderError::code),
            message: with_causes(error),
            hint: error.hint(),
            claims: texts(required.and_then(InteractionRequired::next_claims)),
            tenant: required.map(|required| required.tenant.to_string()),
            scopes: required.map(|required| required.scopes.iter().map(str::to_owned).collect()),
            removed: error.removed().iter().map(Removed::of).collect(),
            candidates: Meant::all(candidates),
            correlation_id: provider.and_then(|provider| provider.correlation_id.clone()),
            detail: Detail::of(error).map(Box::new),
        })
    }

    /// Tells something that is no error of the library.
    #[cfg(feature = "cli")]
    pub(crate) fn told(kind: &str, message: impl Into<String>, hint: Option<String>) -> Self {
        Self::new(Refusal { kind: kind.to_owned(), message: message.into(), hint, ..Refusal::default() })
    }

    /// The same, to be asked again after so many seconds.
    #[cfg(feature = "cli")]
    pub(crate) fn after(mut self, seconds: u64) -> Self {
        self.error.detail = Some(Box::new(Detail { retry_after: Some(seconds), ..Detail::default() }));
        self
    }

    /// The same, with the accounts that might have been meant.
    #[cfg(feature = "cli")]
    pub(crate) fn among(mut self, candidates: &[Candidate]) -> Self {
        self.error.candidates = Meant::all(candidates);
        self
    }

    const fn new(error: Refusal) -> Self {
        Self { error }
    }
}

impl Refusal {
    /// What a locked agent answers.
    pub(crate) fn locked() -> Self {
        Self {
            kind: super::protocol::LOCKED.to_owned(),
            message: "the agent is locked".to_owned(),
            hint: Some("unlock it: tokenkeep agent unlock".to_owned()),
            ..Self::default()
        }
    }

    /// Whether a client may do by itself what this agent cannot: of another version or home, busy,
    /// in trouble of its own, or without a way into the cache that the client may have.
    #[cfg(any(feature = "cli", test))]
    pub(crate) fn leaves_it_to_the_client(&self) -> bool {
        // Waiting for them once more would end no better.
        let waited = ["cache_lock_timeout", "cache_timeout", "vault_busy", "vault_keyring_timeout"];
        match self.kind.as_str() {
            "busy" | "ending" | "internal" | "malformed" | "other_home" | "unsupported" => true,
            kind if waited.contains(&kind) => false,
            kind => kind.starts_with("cache_") || kind.starts_with("vault_"),
        }
    }

    /// The error that it was, as far as programs act on the difference; else one that tells it in
    /// the agent's words.
    pub(crate) fn into_error(self) -> Error {
        let detail = self.detail.as_deref().cloned().unwrap_or_default();
        match self.kind.as_str() {
            "interaction_required" => self.interaction_required(detail),
            "network" => NetworkError {
                message: self.message,
                status: detail.status,
                retry_after: detail.retry_after.map(Duration::from_secs),
                provider: detail.provider.map(Provider::into_error),
            }
            .into(),
            "authentication_failed" | "declined" => {
                let mut failed = AuthenticationFailed::new(self.message);
                failed.hint = self.hint;
                failed.provider = detail.provider.map(Provider::into_error);
                failed.declined = self.kind == "declined";
                failed.into()
            }
            DENIED => Denied::new(self.message, self.hint).into(),
            _ => self.relayed(),
        }
    }

    fn interaction_required(self, detail: Detail) -> Error {
        let claims = |text: Option<String>| text.and_then(|text| Claims::parse(&text).ok());
        let scopes = self.scopes.clone().and_then(|scopes| Scopes::new(scopes).ok());
        let tenant = self.tenant.as_deref().and_then(|tenant| TenantId::parse(tenant).ok());
        let (Some(scopes), Some(tenant)) = (scopes, tenant) else {
            return self.relayed();
        };
        let requested = claims(detail.requested_claims);
        InteractionRequired {
            message: self.message,
            scopes,
            provider_claims: claims(self.claims).filter(|next| Some(next) != requested.as_ref()),
            claims: requested,
            tenant,
            enable_cae: detail.enable_cae,
            reason: detail.reason.into(),
            username: detail.username,
            provider: detail.provider.map(Provider::into_error),
            removed: self.removed.into_iter().map(Removed::into_grant).collect(),
        }
        .into()
    }

    fn relayed(self) -> Error {
        let candidates = self.candidates.into_iter().map(Meant::into_candidate).collect();
        RelayedError { kind: self.kind, message: self.message, hint: self.hint, candidates }.into()
    }
}

#[cfg(any(feature = "cli", test))]
impl Detail {
    fn of(error: &Error) -> Option<Self> {
        let provider = error.provider().map(Provider::of);
        match error {
            Error::InteractionRequired(required) => Some(Self {
                reason: required.reason.into(),
                username: required.username.clone(),
                requested_claims: required.claims.as_ref().map(|claims| claims.as_str().to_owned()),
                enable_cae: required.enable_cae,
                provider,
                ..Self::default()
            }),
            Error::Network(network) => Some(Self {
                status: network.status,
                retry_after: network.retry_after.map(|wait| wait.as_secs()),
                provider,
                ..Self::default()
            }),
            Error::AuthenticationFailed(_) => Some(Self { provider, ..Self::default() }),
            Error::Cache(_)
            | Error::Chain(_)
            | Error::Denied(_)
            | Error::InvalidArgument(_)
            | Error::Relayed(_)
            | Error::Unavailable(_) => None,
        }
    }
}

#[cfg(any(feature = "cli", test))]
impl From<InteractionReason> for Reason {
    fn from(reason: InteractionReason) -> Self {
        match reason {
            InteractionReason::GrantDead => Self::GrantDead,
            InteractionReason::NoGrant => Self::NoGrant,
            InteractionReason::NotSignedIn => Self::NotSignedIn,
            InteractionReason::ProviderAsks => Self::ProviderAsks,
        }
    }
}

impl From<Reason> for InteractionReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::GrantDead => Self::GrantDead,
            Reason::NoGrant => Self::NoGrant,
            Reason::NotSignedIn => Self::NotSignedIn,
            // A person can mend more than we can.
            Reason::ProviderAsks | Reason::Unknown => Self::ProviderAsks,
        }
    }
}

impl Provider {
    #[cfg(any(feature = "cli", test))]
    fn of(answer: &ProviderError) -> Self {
        let ProviderError {
            error,
            description,
            codes,
            suberror,
            claims,
            correlation_id,
            trace_id,
            timestamp,
            valid_from,
        } = answer.clone();
        Self {
            error,
            description,
            codes,
            suberror,
            claims: claims.map(|claims| claims.as_str().to_owned()),
            correlation_id,
            trace_id,
            timestamp,
            valid_from: valid_from.map(UnixTime::seconds),
        }
    }

    fn into_error(self) -> Box<ProviderError> {
        Box::new(ProviderError {
            error: self.error,
            description: self.description,
            codes: self.codes,
            suberror: self.suberror,
            claims: self.claims.and_then(|claims| Claims::parse(&claims).ok()),
            correlation_id: self.correlation_id,
            trace_id: self.trace_id,
            timestamp: self.timestamp,
            valid_from: self.valid_from.map(UnixTime::from_seconds),
        })
    }
}

impl Removed {
    #[cfg(any(feature = "cli", test))]
    fn of(grant: &RemovedGrant) -> Self {
        let RemovedGrant { username, home_account_id, client_id, cache, code } = grant.clone();
        Self { username, home_account_id, client_id, cache, code }
    }

    fn into_grant(self) -> RemovedGrant {
        RemovedGrant::new(self.username, self.home_account_id, self.client_id, self.cache, self.code)
    }
}

impl Meant {
    #[cfg(any(feature = "cli", test))]
    fn all(candidates: &[Candidate]) -> Vec<Self> {
        let one = |candidate: &Candidate| Self {
            username: candidate.username.clone(),
            home_account_id: candidate.home_account_id.clone(),
            home_tenant: candidate.home_tenant.clone(),
        };
        candidates.iter().map(one).collect()
    }

    fn into_candidate(self) -> Candidate {
        Candidate::new(self.username, self.home_account_id, self.home_tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{CacheError, InvalidArgument, Unavailable};

    fn claims(text: &str) -> Claims {
        Claims::parse(text).unwrap()
    }

    fn provider() -> Box<ProviderError> {
        Box::new(ProviderError {
            error: "invalid_grant".to_owned(),
            description: "AADSTS50173: …".to_owned(),
            codes: vec![50173, 7],
            suberror: Some("bad_token".to_owned()),
            claims: Some(claims(r#"{"b":1}"#)),
            correlation_id: Some("c".to_owned()),
            trace_id: Some("t".to_owned()),
            timestamp: Some("now".to_owned()),
            valid_from: Some(UnixTime::from_seconds(7)),
        })
    }

    fn required(provider_claims: Option<Claims>) -> InteractionRequired {
        InteractionRequired {
            message: "sign in".to_owned(),
            scopes: Scopes::new(["b", "a"]).unwrap(),
            claims: Some(claims(r#"{"a":1}"#)),
            provider_claims,
            tenant: TenantId::parse("contoso.example").unwrap(),
            enable_cae: true,
            reason: InteractionReason::GrantDead,
            username: Some("one".to_owned()),
            provider: Some(provider()),
            removed: vec![RemovedGrant::new(
                "one".into(),
                "u.t".into(),
                "c".into(),
                "cache".into(),
                "x".into(),
            )],
        }
    }

    fn over_the_border(error: &Error) -> Error {
        let text = serde_json::to_string(&ErrorAnswer::of(error)).unwrap();
        serde_json::from_str::<ErrorAnswer>(&text).unwrap().error.into_error()
    }

    #[test]
    fn what_programs_act_on_arrives_as_it_was() {
        let errors: [Error; 5] = [
            required(Some(claims(r#"{"b":1}"#))).into(),
            required(None).into(),
            NetworkError {
                message: "later".to_owned(),
                status: Some(429),
                retry_after: Some(Duration::from_secs(7)),
                provider: Some(provider()),
            }
            .into(),
            AuthenticationFailed::new("refused").hint("look").provider(provider()).into(),
            AuthenticationFailed::new("no").declined().into(),
        ];
        for error in errors {
            assert_eq!(format!("{:?}", over_the_border(&error)), format!("{error:?}"));
        }
    }

    #[test]
    fn everything_else_is_told_in_the_agents_words() {
        let candidates = vec![Candidate::new("one".into(), "u.t".into(), "t".into())];
        let errors: [Error; 3] = [
            CacheError::Locked { place: "the cache".to_owned() }.into(),
            InvalidArgument::new("scope", "it is empty", "give one").into(),
            Unavailable::SeveralAccounts { credential: "C", cache: "x".to_owned(), candidates }.into(),
        ];
        for error in errors {
            let arrived = over_the_border(&error);
            assert_eq!(arrived.kind(), error.kind());
            assert_eq!(arrived.to_string(), error.to_string());
            assert_eq!(arrived.hint(), error.hint());
            assert_eq!(arrived.moves_chain_on(), error.moves_chain_on());
            assert_eq!(ErrorAnswer::of(&arrived).error.candidates, ErrorAnswer::of(&error).error.candidates);
        }
    }

    #[test]
    fn a_refusal_of_tomorrow_is_understood_as_far_as_it_goes() {
        let text = r#"{"error": {"kind": "interaction_required", "message": "m", "scopes": ["a"],
            "tenant": "t", "tomorrow": {}, "detail": {"reason": "of_tomorrow"}}, "more": 1}"#;
        let error = serde_json::from_str::<ErrorAnswer>(text).unwrap().error.into_error();
        assert!(matches!(error, Error::InteractionRequired(_)), "{error:?}");
        let error = serde_json::from_str::<ErrorAnswer>(r#"{"error": {"kind": "odd"}}"#).unwrap();
        assert_eq!(error.error.into_error().kind(), "odd");
    }

    #[test]
    fn a_client_does_by_itself_what_the_agent_has_no_way_to_but_never_goes_round_a_lock() {
        for (kind, may) in [
            ("busy", true),
            ("ending", true),
            ("internal", true),
            ("malformed", true),
            ("other_home", true),
            ("unsupported", true),
            ("vault_locked", true),
            ("cache_locked", true),
            ("cache_timeout", false),
            ("locked", false),
            ("interaction_required", false),
            ("network", false),
            ("of_tomorrow", false),
        ] {
            let refusal = Refusal { kind: kind.to_owned(), ..Refusal::default() };
            assert_eq!(refusal.leaves_it_to_the_client(), may, "{kind}");
        }
    }
}

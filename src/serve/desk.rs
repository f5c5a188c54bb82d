//! What is behind every door: the grant is checked, and then the credential is asked.

use std::fmt::Write as _;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use crate::cloud::TenantId;
use crate::credential::TokenCredential;
use crate::error::{Error, Unavailable};
use crate::time::Clock;
use crate::token::{AccessToken, Scopes, TokenRequest};

use super::grant::Grant;
use super::registry::Registration;

/// What a door made out of a request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) scopes: Scopes,
    pub(super) tenant: Option<TenantId>,
    /// The hash of a token that was refused somewhere, so that it is not given out again.
    pub(super) refused_token: Option<String>,
}

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this is not the secret of the grant")]
    WrongSecret,
    #[error("the grant was revoked (start the program anew: tokenkeep exec)")]
    Revoked,
    #[error("the grant has expired (start the program anew: tokenkeep exec)")]
    Expired,
    #[error("the grant does not allow the scope {0} (allow it: --scope-allow {0})")]
    Scope(String),
    #[error("the grant does not allow tenant {0} (allow it: --tenant-allow {0})")]
    Tenant(TenantId),
    #[error("{0}")]
    BadRequest(String),
    #[error("{}", with_hint(.0))]
    NoToken(Error),
}

fn with_hint(error: &Error) -> String {
    error.hint().map_or_else(|| error.to_string(), |hint| format!("{error} ({hint})"))
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidArgument(argument) => Self::BadRequest(argument.to_string()),
            error => Self::NoToken(error),
        }
    }
}

impl Refusal {
    /// A word for the log.
    const fn reason(&self) -> &'static str {
        match self {
            Self::WrongSecret => "wrong secret",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Scope(_) => "scope",
            Self::Tenant(_) => "tenant",
            Self::BadRequest(_) => "bad request",
            Self::NoToken(_) => "no token",
        }
    }

    /// Whether a person has to sign in, or choose an account, before there can be a token.
    pub(super) const fn is_not_signed_in(&self) -> bool {
        match self {
            Self::NoToken(Error::InteractionRequired(_)) => true,
            Self::NoToken(Error::Unavailable(unavailable)) => {
                !matches!(**unavailable, Unavailable::Other { .. })
            }
            _ => false,
        }
    }
}

/// A grant, and the credential that stands behind it.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(super) grant: Arc<Grant>,
    credential: Arc<dyn TokenCredential>,
    clock: Arc<dyn Clock>,
    registration: Registration,
}

impl Desk {
    pub(crate) fn new(
        grant: Arc<Grant>,
        credential: Arc<dyn TokenCredential>,
        clock: Arc<dyn Clock>,
        registration: Registration,
    ) -> Self {
        Self { grant, credential, clock, registration }
    }

    /// Whether the grant is good at all.
    pub(super) fn stands(&self) -> Result<(), Refusal> {
        if !self.registration.stands() {
            return Err(Refusal::Revoked);
        }
        match self.grant.terms().expires_on {
            Some(end) if end <= self.clock.now() => Err(Refusal::Expired),
            _ => Ok(()),
        }
    }

    /// Whether the grant has come to its end, so that there is nothing more to serve.
    pub(crate) fn has_ended(&self) -> bool {
        self.stands().is_err()
    }

    /// Gets the token, if the grant allows it.
    pub(super) async fn token(&self, asked: &Asked) -> Result<AccessToken, Refusal> {
        self.stands()?;
        let terms = self.grant.terms();
        if let Some(scope) = asked.scopes.iter().find(|scope| !terms.scopes.allows(scope)) {
            return Err(Refusal::Scope(scope.to_owned()));
        }
        // `organizations` and the like name no tenant, so the account's own is meant
        let tenant = asked.tenant.as_ref().filter(|tenant| !tenant.is_placeholder());
        if let Some(tenant) = tenant.filter(|tenant| !terms.tenants.allows(tenant)) {
            return Err(Refusal::Tenant(tenant.clone()));
        }
        let request = TokenRequest::new(asked.scopes.clone()).tenant(tenant.cloned());
        let token = self.credential.get_token(&request).await?;
        if asked.refused_token.as_ref().is_some_and(|hash| is_hash_of(hash, &token)) {
            return Ok(self.credential.get_token(&request.force_refresh(true)).await?);
        }
        Ok(token)
    }

    /// Notes in the log and in the list of grants what came of a request.
    pub(super) fn note(&self, door: &str, outcome: Result<&AccessToken, &Refusal>) {
        let grant = self.grant.id();
        match outcome {
            Ok(token) => tracing::info!(door, grant, scopes = ?token.details.scopes, "a token was given out"),
            Err(refusal) => tracing::warn!(door, grant, reason = refusal.reason(), "a request was refused"),
        }
        self.count(outcome.is_ok());
    }

    pub(super) fn count(&self, served: bool) {
        self.grant.uses().count(served);
        self.registration.note(self.grant.uses());
    }
}

fn is_hash_of(hash: &str, token: &AccessToken) -> bool {
    let digest = Sha256::digest(token.token.expose_secret().as_bytes());
    let mut hex = String::with_capacity(64);
    for byte in digest {
        let _ = write!(hex, "{byte:02x}");
    }
    hash.eq_ignore_ascii_case(&hex)
}

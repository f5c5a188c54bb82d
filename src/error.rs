//! What can go wrong: what happened, why, and the next command.

mod cache;
mod chain;
mod vault;

use std::fmt;
use std::time::Duration;

use crate::cloud::TenantId;
use crate::time::UnixTime;
use crate::token::{Claims, Scopes};

pub use self::cache::{CacheError, EncryptionLayer};
pub use self::chain::{Attempt, ChainFailed};
pub use self::vault::{ProtectorError, VaultError};

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no token.
///
/// Chains of credentials go on after [`Error::moves_chain_on`] and stop at everything else.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The provider was asked and refused, and asking a person would not change that.
    #[error(transparent)]
    AuthenticationFailed(Box<AuthenticationFailed>),
    /// The cache could not be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// No credential of a chain brought a token.
    #[error(transparent)]
    Chain(Box<ChainFailed>),
    /// The user's own policy denies it.
    #[error(transparent)]
    Denied(Box<Denied>),
    /// A person has to sign in, and that was not allowed here.
    #[error(transparent)]
    InteractionRequired(Box<InteractionRequired>),
    /// The caller gave something that cannot be used; nothing was asked or changed.
    #[error(transparent)]
    InvalidArgument(#[from] InvalidArgument),
    /// The provider could not be reached, or told us to come back later.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The agent could not do it, for a reason that it tells in its own words.
    #[error(transparent)]
    Relayed(Box<RelayedError>),
    /// The credential has nothing to try with.
    #[error(transparent)]
    Unavailable(Box<Unavailable>),
}

impl Error {
    /// Whether a chain of credentials should ask its next one (spec S-B 6.1).
    ///
    /// The credential has nothing to try with, or its cache cannot be used, or only a person could
    /// help it further and it may not ask one: a dead grant in a shared cache, a second factor that
    /// policy wants. Everything else is an answer that the next credential could only hide.
    #[must_use]
    pub fn moves_chain_on(&self) -> bool {
        match self {
            Self::Cache(_) | Self::InteractionRequired(_) | Self::Unavailable(_) => true,
            Self::Chain(failed) => failed.attempts.iter().all(|attempt| attempt.error.moves_chain_on()),
            Self::Relayed(error) => error.is_unavailable() || self.is_of_cache(),
            Self::AuthenticationFailed(_) | Self::Denied(_) | Self::InvalidArgument(_) | Self::Network(_) => {
                false
            }
        }
    }

    /// Whether it is a cache that could not be read or written, here or at the agent.
    pub(crate) fn is_of_cache(&self) -> bool {
        ["cache_", "vault_"].iter().any(|cause| self.kind().starts_with(cause))
    }

    /// What programs tell failures apart by, such as `interaction_required`.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::AuthenticationFailed(failed) if failed.declined => "declined",
            Self::AuthenticationFailed(_) => "authentication_failed",
            Self::Cache(error) => error.kind(),
            Self::Chain(failed) => failed.decisive().map_or("authentication_failed", Self::kind),
            Self::Denied(_) => DENIED,
            Self::InteractionRequired(_) => "interaction_required",
            Self::InvalidArgument(_) => "invalid_argument",
            Self::Network(_) => "network",
            Self::Relayed(error) => &error.kind,
            Self::Unavailable(unavailable) => unavailable.kind(),
        }
    }

    /// What to do next, as one line for a person.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::AuthenticationFailed(failed) => failed.hint.clone(),
            Self::Cache(error) => Some(error.hint()),
            Self::Chain(failed) => failed.decisive().and_then(Self::hint),
            Self::Denied(denied) => denied.hint.clone(),
            Self::InteractionRequired(required) => Some(required.hint()),
            Self::InvalidArgument(argument) => Some(argument.hint.clone()),
            Self::Network(error) => Some(error.hint()),
            Self::Relayed(error) => error.hint.clone(),
            Self::Unavailable(unavailable) => Some(unavailable.hint()),
        }
    }

    /// Refresh tokens that were removed on the way here, because the provider called them dead.
    #[must_use]
    pub fn removed(&self) -> &[RemovedGrant] {
        match self {
            Self::Chain(failed) => &failed.removed,
            Self::InteractionRequired(required) => &required.removed,
            _ => &[],
        }
    }

    /// What the provider answered, if it was asked.
    #[must_use]
    pub fn provider(&self) -> Option<&ProviderError> {
        match self {
            Self::AuthenticationFailed(failed) => failed.provider.as_deref(),
            Self::Chain(failed) => failed.decisive()?.provider(),
            Self::InteractionRequired(required) => required.provider.as_deref(),
            Self::Network(error) => error.provider.as_deref(),
            Self::Cache(_)
            | Self::Denied(_)
            | Self::InvalidArgument(_)
            | Self::Relayed(_)
            | Self::Unavailable(_) => None,
        }
    }
}

/// The error's text, with every cause that it does not name already.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

impl From<AuthenticationFailed> for Error {
    fn from(failed: AuthenticationFailed) -> Self {
        Self::AuthenticationFailed(Box::new(failed))
    }
}

impl From<ChainFailed> for Error {
    fn from(failed: ChainFailed) -> Self {
        Self::Chain(Box::new(failed))
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        Self::Denied(Box::new(denied))
    }
}

impl From<InteractionRequired> for Error {
    fn from(required: InteractionRequired) -> Self {
        Self::InteractionRequired(Box::new(required))
    }
}

impl From<RelayedError> for Error {
    fn from(error: RelayedError) -> Self {
        Self::Relayed(Box::new(error))
    }
}

impl From<Unavailable> for Error {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(Box::new(unavailable))
    }
}

/// Something the caller gave that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what}: {problem}")]
#[non_exhaustive]
pub struct InvalidArgument {
    /// Which argument.
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub hint: String,
}

impl InvalidArgument {
    pub(crate) fn new(what: &'static str, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what, problem: problem.into(), hint: hint.into() }
    }
}

/// What the provider answered instead of a token (RFC 6749, section 5.2, and Entra's additions).
///
/// Its text is safe to show: whatever looked like a token was cut out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderError {
    /// OAuth's error code, such as `invalid_grant`.
    pub error: String,
    /// Entra's own text, which begins with `AADSTS…`.
    pub description: String,
    /// Entra's numbers, such as 50173.
    pub codes: Vec<u32>,
    /// A refinement of `error`, such as `bad_token`.
    pub suberror: Option<String>,
    /// Claims that the next sign-in has to satisfy.
    pub claims: Option<Claims>,
    /// For Microsoft's support.
    pub correlation_id: Option<String>,
    /// For Microsoft's support.
    pub trace_id: Option<String>,
    /// When the provider said so, in its own words.
    pub timestamp: Option<String>,
    /// With a dead grant: every grant of this user from before this moment is dead, too. The
    /// password was changed then, or the sessions were revoked (AADSTS50173).
    pub valid_from: Option<UnixTime>,
}

impl ProviderError {
    /// `AADSTS50173` and the like: the first number, else OAuth's code.
    #[must_use]
    pub fn code(&self) -> String {
        self.codes.first().map_or_else(|| self.error.clone(), |code| format!("AADSTS{code}"))
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.description.is_empty() {
            f.write_str(&self.error)
        } else {
            write!(f, "{} ({})", self.description, self.error)
        }
    }
}

/// The provider was asked and refused for good.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct AuthenticationFailed {
    /// What happened, and why.
    pub message: String,
    /// The next step, where one is known.
    pub hint: Option<String>,
    /// What the provider answered, if it did.
    pub provider: Option<Box<ProviderError>>,
    /// Whether the person said no or went away, rather than the provider.
    pub declined: bool,
}

impl AuthenticationFailed {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, provider: None, declined: false }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn provider(mut self, provider: Box<ProviderError>) -> Self {
        self.provider = Some(provider);
        self
    }

    pub(crate) const fn declined(mut self) -> Self {
        self.declined = true;
        self
    }
}

/// A refresh token that was removed from a cache because the provider called it dead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedGrant {
    /// Whose it was.
    pub username: String,
    /// Whose it was, by the id that stays.
    pub home_account_id: String,
    /// Which client it was issued to.
    pub client_id: String,
    /// Which cache it stood in.
    pub cache: String,
    /// Why: the provider's code, such as `AADSTS50173`.
    pub code: String,
}

impl RemovedGrant {
    pub(crate) const fn new(
        username: String,
        home_account_id: String,
        client_id: String,
        cache: String,
        code: String,
    ) -> Self {
        Self { username, home_account_id, client_id, cache, code }
    }
}

/// Why a person has to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InteractionReason {
    /// The provider wants something only a person can give: a second factor, consent, a device.
    ProviderAsks,
    /// The refresh token was dead: expired, revoked, or older than the last password change.
    GrantDead,
    /// The cache holds no refresh token for this account and client.
    NoGrant,
    /// Nobody has signed in with this credential yet.
    NotSignedIn,
}

/// A person has to sign in, and that was not allowed here.
///
/// Carries everything that the sign-in needs: pass `scopes`, [`Self::next_claims`], `tenant` and
/// `enable_cae` on to `authenticate`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct InteractionRequired {
    /// What happened, and why.
    pub message: String,
    /// The scopes that were asked for.
    pub scopes: Scopes,
    /// The claims that were asked for.
    pub claims: Option<Claims>,
    /// The claims that the provider answered with.
    pub provider_claims: Option<Claims>,
    /// The tenant that was asked for.
    pub tenant: TenantId,
    /// Whether continuous access evaluation was asked for.
    pub enable_cae: bool,
    /// Why it is needed.
    pub reason: InteractionReason,
    /// The account that has to sign in, if one was meant.
    pub username: Option<String>,
    /// What the provider answered, if it was asked.
    pub provider: Option<Box<ProviderError>>,
    /// Refresh tokens that were removed on the way.
    pub removed: Vec<RemovedGrant>,
}

impl InteractionRequired {
    /// The claims for the sign-in: the provider's if it sent some, else the caller's.
    #[must_use]
    pub fn next_claims(&self) -> Option<&Claims> {
        self.provider_claims.as_ref().or(self.claims.as_ref())
    }

    fn hint(&self) -> String {
        use fmt::Write as _;
        let mut command = String::from("sign in again: tokenkeep login");
        if !self.tenant.is_placeholder() {
            let _ = write!(command, " --tenant {}", self.tenant);
        }
        for scope in self.scopes.iter() {
            let _ = write!(command, " --scope {scope}");
        }
        if self.enable_cae {
            command.push_str(" --enable-cae");
        }
        if let Some(claims) = self.next_claims() {
            let _ = write!(command, " --claims '{}'", claims.as_str().replace('\'', "'\\''"));
        }
        command
    }
}

/// An account of the shared cache that might have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// The name a person signs in with.
    pub username: String,
    /// `uid.utid`.
    pub home_account_id: String,
    /// The tenant it is at home in.
    pub home_tenant: String,
}

impl Candidate {
    pub(crate) const fn new(username: String, home_account_id: String, home_tenant: String) -> Self {
        Self { username, home_account_id, home_tenant }
    }
}

fn listed(candidates: &[Candidate]) -> String {
    let lines = candidates.iter().map(|c| format!("\n  {} (tenant {})", c.username, c.home_tenant));
    lines.collect()
}

/// Why a credential has nothing to try with. Each is its own case, because each is mended
/// differently (spec S-B 3.1).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The shared cache holds nobody.
    #[error("{credential} is unavailable: no account was found in {cache}")]
    NoAccounts {
        /// Which credential.
        credential: &'static str,
        /// Which cache was looked into.
        cache: String,
    },
    /// Nobody in the shared cache fits what was asked for.
    #[error(
        "{credential} is unavailable: no account in {cache} matches {wanted}; it has:{}",
        listed(candidates)
    )]
    NoMatchingAccount {
        /// Which credential.
        credential: &'static str,
        /// Which cache was looked into.
        cache: String,
        /// What was asked for.
        wanted: String,
        /// Who is there.
        candidates: Vec<Candidate>,
    },
    /// Nothing was asked for, and several are there.
    #[error("{credential} is unavailable: {cache} has several accounts:{}", listed(candidates))]
    SeveralAccounts {
        /// Which credential.
        credential: &'static str,
        /// Which cache was looked into.
        cache: String,
        /// Who is there.
        candidates: Vec<Candidate>,
    },
    /// What was asked for fits several.
    #[error("{credential} is unavailable: several accounts in {cache} match {wanted}:{}", listed(candidates))]
    SeveralMatchingAccounts {
        /// Which credential.
        credential: &'static str,
        /// Which cache was looked into.
        cache: String,
        /// What was asked for.
        wanted: String,
        /// Who fits.
        candidates: Vec<Candidate>,
    },
    /// The credential cannot work here at all.
    #[error("{credential} is unavailable: {problem}")]
    Other {
        /// Which credential.
        credential: &'static str,
        /// What is missing.
        problem: String,
        /// How to mend it.
        hint: String,
    },
}

impl Unavailable {
    const fn kind(&self) -> &'static str {
        match self {
            Self::NoAccounts { .. } => "no_accounts",
            Self::NoMatchingAccount { .. } => "no_matching_account",
            Self::Other { .. } => "unavailable",
            Self::SeveralAccounts { .. } => "several_accounts",
            Self::SeveralMatchingAccounts { .. } => "several_matching_accounts",
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::NoAccounts { .. } | Self::NoMatchingAccount { .. } => "sign in: tokenkeep login".to_owned(),
            Self::SeveralAccounts { .. } | Self::SeveralMatchingAccounts { .. } => {
                "name one: --account USERNAME, or set a default: tokenkeep accounts default USERNAME"
                    .to_owned()
            }
            Self::Other { hint, .. } => hint.clone(),
        }
    }

    /// Who might have been meant.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        match self {
            Self::NoMatchingAccount { candidates, .. }
            | Self::SeveralAccounts { candidates, .. }
            | Self::SeveralMatchingAccounts { candidates, .. } => candidates,
            Self::NoAccounts { .. } | Self::Other { .. } => &[],
        }
    }
}

/// The kind of [`Error::Denied`].
pub(crate) const DENIED: &str = "denied_by_policy";

/// The user's own policy, `config.toml`, does not let this program have this token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Denied {
    /// What was denied to whom, and by which rule.
    pub message: String,
    /// The next step, where one is known.
    pub hint: Option<String>,
}

impl Denied {
    pub(crate) const fn new(message: String, hint: Option<String>) -> Self {
        Self { message, hint }
    }
}

/// What went wrong in the agent's process, as it told it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct RelayedError {
    /// What programs tell failures apart by, such as `locked` or `no_accounts`.
    pub kind: String,
    /// What happened, and why.
    pub message: String,
    /// The next step, where one is known.
    pub hint: Option<String>,
    /// Accounts that might have been meant.
    pub candidates: Vec<Candidate>,
}

impl RelayedError {
    /// Whether there was nothing to try with, as [`Unavailable`] says of a credential.
    fn is_unavailable(&self) -> bool {
        let kinds = ["no_accounts", "no_matching_account", "several_accounts", "several_matching_accounts"];
        kinds.contains(&self.kind.as_str())
    }
}

/// The provider could not be reached, or told us to come back later.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct NetworkError {
    /// What happened, and why.
    pub message: String,
    /// The answer's status, if there was one.
    pub status: Option<u16>,
    /// How long the provider told us to wait.
    pub retry_after: Option<Duration>,
    /// What the provider answered, if it did.
    pub provider: Option<Box<ProviderError>>,
}

impl NetworkError {
    fn hint(&self) -> String {
        match (self.retry_after, self.status) {
            (Some(wait), _) => format!("try again in {} s", wait.as_secs()),
            (None, Some(_)) => "the provider is in trouble; try again in a minute".to_owned(),
            (None, None) => {
                "check the network, HTTPS_PROXY and NO_PROXY, and SSL_CERT_FILE for a private CA".to_owned()
            }
        }
    }
}

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
    pub(super) fn is_not_signed_in(&self) -> bool {
        match self {
            Self::NoToken(Error::Unavailable(unavailable)) => {
                !matches!(**unavailable, Unavailable::Other { .. })
            }
            Self::NoToken(error) => error.moves_chain_on() && !error.is_of_cache(),
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use crate::credential::BoxFuture;
    use crate::error::{AuthenticationFailed, CacheError, Result};
    use crate::time::{ManualClock, UnixTime};
    use crate::token::{TokenDetails, TokenSource};

    use super::super::grant::{AllowedScopes, AllowedTenants, Terms};
    use super::super::registry::{Registry, tests::entry};
    use super::*;

    /// Gives out numbered tokens, and remembers what it was asked.
    #[derive(Debug, Default)]
    struct Numbered {
        asked: Mutex<Vec<TokenRequest>>,
        fails: bool,
    }

    impl TokenCredential for Numbered {
        fn get_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<AccessToken>> {
            let mut asked = self.asked.lock().unwrap();
            asked.push(request.clone());
            let fresh = asked.iter().filter(|request| request.force_refresh).count();
            let details =
                TokenDetails::new("Bearer".to_owned(), Vec::new(), "t".to_owned(), "c".to_owned(), None);
            let token = AccessToken::new(
                format!("token-{fresh}").into(),
                UnixTime::from_seconds(9_000_000_000),
                None,
                TokenSource::Cache,
                Arc::new(details),
            );
            let fails = self.fails;
            Box::pin(
                async move { if fails { Err(AuthenticationFailed::new("no").into()) } else { Ok(token) } },
            )
        }
    }

    struct Fixture {
        desk: Desk,
        credential: Arc<Numbered>,
        clock: Arc<ManualClock>,
        registry: Registry,
        _folder: tempfile::TempDir,
    }

    fn fixture(scopes: &[&str], expires_on: Option<i64>, fails: bool) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::below(&folder.path().join("tokenkeep"));
        let given: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let own = TenantId::parse("own").unwrap();
        let terms = Terms {
            scopes: AllowedScopes::parse(&given).unwrap(),
            tenants: AllowedTenants::parse(&own, &["also".to_owned()]).unwrap(),
            expires_on: expires_on.map(UnixTime::from_seconds),
        };
        let grant = Arc::new(Grant::new(terms).unwrap());
        let registration = registry.register(&entry(grant.id())).unwrap();
        let credential = Arc::new(Numbered { fails, ..Numbered::default() });
        let clock = Arc::new(ManualClock::at(UnixTime::from_seconds(1_000)));
        let desk = Desk::new(grant, Arc::clone(&credential) as _, Arc::clone(&clock) as _, registration);
        Fixture { desk, credential, clock, registry, _folder: folder }
    }

    fn asked(scopes: &[&str], tenant: Option<&str>) -> Asked {
        Asked {
            scopes: Scopes::new(scopes.iter().copied()).unwrap(),
            tenant: tenant.map(|tenant| TenantId::parse(tenant).unwrap()),
            refused_token: None,
        }
    }

    #[tokio::test]
    async fn a_grant_ends_at_its_second_and_by_its_removal() {
        let of = fixture(&[], Some(1_060), false);
        let ask = asked(&["a/b"], None);
        of.desk.token(&ask).await.unwrap();
        of.clock.advance(Duration::from_secs(59));
        of.desk.token(&ask).await.unwrap();
        of.clock.advance(Duration::from_secs(1));
        assert!(matches!(of.desk.token(&ask).await, Err(Refusal::Expired)));
        assert!(of.desk.has_ended());

        let of = fixture(&[], None, false);
        of.clock.advance(Duration::from_secs(1_000_000_000));
        of.desk.token(&ask).await.unwrap();
        of.registry.list().unwrap()[0].revoke().unwrap();
        assert!(matches!(of.desk.token(&ask).await, Err(Refusal::Revoked)));
        assert_eq!(of.credential.asked.lock().unwrap().len(), 1, "the credential was not asked again");
    }

    #[tokio::test]
    async fn one_scope_too_many_or_another_tenant_is_refused_before_anybody_is_asked() {
        let of = fixture(&["https://a", "https://b/read"], None, false);
        for refused in [
            asked(&["https://c/.default"], None),
            asked(&["https://a/.default", "https://c/.default"], None),
            asked(&["https://b/.default"], None),
            asked(&["https://a/.default"], Some("other")),
        ] {
            of.desk.token(&refused).await.unwrap_err();
        }
        assert!(of.credential.asked.lock().unwrap().is_empty());
        for (tenant, expected) in [
            (None, None),
            (Some("OWN"), Some("OWN")),
            (Some("also"), Some("also")),
            (Some("organizations"), None),
        ] {
            of.desk.token(&asked(&["https://a/.default", "https://b/read"], tenant)).await.unwrap();
            let request = of.credential.asked.lock().unwrap().pop().unwrap();
            assert_eq!(request.tenant.as_ref().map(TenantId::as_str), expected);
            assert!(!request.force_refresh);
        }
    }

    #[tokio::test]
    async fn a_token_that_was_refused_elsewhere_is_renewed_once() {
        let of = fixture(&[], None, false);
        let hash = "30c3a1a4c8b1b5d1a2b9a0d3b0e9c6d8f0f5d0a5c2f1e4b7a6d9c8b7a6f5e4d3";
        let mut ask = asked(&["a/b"], None);
        ask.refused_token = Some(hash.to_owned());
        let token = of.desk.token(&ask).await.unwrap();
        assert_eq!(token.token.expose_secret(), "token-0", "the hash of another token");
        let digest: String = Sha256::digest(b"token-0").iter().map(|byte| format!("{byte:02X}")).collect();
        ask.refused_token = Some(digest);
        assert_eq!(of.desk.token(&ask).await.unwrap().token.expose_secret(), "token-1");
        assert_eq!(of.desk.token(&ask).await.unwrap().token.expose_secret(), "token-1");
    }

    #[tokio::test]
    async fn what_came_of_requests_is_counted_for_everybody_to_see() {
        let of = fixture(&[], None, true);
        let outcome = of.desk.token(&asked(&["a/b"], None)).await;
        of.desk.note("door", outcome.as_ref());
        of.desk.count(false);
        of.desk.count(true);
        let listed = of.registry.list().unwrap().remove(0);
        assert_eq!((listed.served, listed.denied), (1, 2));
    }

    #[test]
    fn a_cache_that_cannot_be_used_is_no_sign_out() {
        let locked = CacheError::Locked { place: "the cache".to_owned() };
        assert!(!Refusal::NoToken(locked.into()).is_not_signed_in());
        let nobody = Unavailable::NoAccounts { credential: "C", cache: "the cache".to_owned() };
        assert!(Refusal::NoToken(nobody.into()).is_not_signed_in());
    }
}

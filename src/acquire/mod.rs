//! The silent engine: find → refresh → classify → record the change. No prompts, no UI.
//!
//! The only place where the provider and the store meet. A token's way: the document in memory if
//! a `stat` says that it is current; else the store's; else each refresh token in turn, with no
//! lock held; and what came of it becomes a [`ChangeSet`] for the store.

mod absorb;
mod caches;
mod flight;
mod grants;
mod observer;
#[cfg(feature = "cli")]
mod probe;
mod recent;
mod refused;
mod throttle;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::cloud::TenantId;
use crate::document::{
    AccessTokenQuery, AccessTokenView, Change, ChangeSet, Origin, RefreshTokenQuery, TokenCacheDocument,
};
use crate::entra::{self, RefreshGrant, Refusal, Verdict};
use crate::error::Result;
use crate::store::StoreDescription;
use crate::time::{Clock, UnixTime};
use crate::token::{AccessToken, Claims, TokenAccount, TokenDetails, TokenRequest, TokenSource};

use self::caches::Cache;
use self::flight::Flights;
use self::grants::{GrantKey, GrantMemory};
use self::observer::tell;
use self::recent::RecentAnswers;
use self::refused::Refused;
use self::throttle::Throttle;

pub(crate) use self::absorb::Absorbed;
pub(crate) use self::caches::Caches;
pub use self::observer::{DeadGrant, DeadGrantObserver};
#[cfg(feature = "cli")]
pub(crate) use self::probe::{Probed, ProbedToken, probe};
pub(crate) use self::refused::sign_in_error;

/// How long a caller whose token is still valid waits for its early renewal.
const EARLY_RENEWAL_WAIT: Duration = Duration::from_secs(5);

/// Who a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AccountChoice {
    pub(crate) home_account_id: String,
    pub(crate) username: String,
    /// Whether a token that another client of the family holds will do (spec S-B 3.2).
    pub(crate) any_family_client: bool,
}

/// What one flight is for: who, where, and what.
#[derive(Clone, Debug)]
struct Wanted {
    account: AccountChoice,
    tenant: TenantId,
    request: TokenRequest,
    /// Whether the caller has a valid token, so that there is one attempt and no waiting.
    early: bool,
}

/// What makes two flights the same: any fresh token of the kind serves both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FlightKey {
    account: AccountChoice,
    tenant: TenantId,
    scopes: String,
    claims: Option<Claims>,
    enable_cae: bool,
    early: bool,
}

/// Gets tokens without asking anybody.
#[derive(Clone, Debug)]
pub(crate) struct Acquirer(Arc<Engine>);

#[derive(Debug)]
struct Engine {
    client: entra::Client,
    caches: Arc<Caches>,
    clock: Arc<dyn Clock>,
    early_renewal_wait: Duration,
    flights: Flights<FlightKey, Result<AccessToken>>,
    grants: GrantMemory,
    observer: Option<Arc<dyn DeadGrantObserver>>,
    recent: RecentAnswers,
    throttle: Throttle,
}

/// A cached token, and whether the provider would like it renewed by now.
struct Hit {
    token: AccessToken,
    renewal_is_due: bool,
}

/// A refresh token to try.
struct Candidate {
    key: GrantKey,
    secret: SecretString,
    client_id: String,
}

impl Acquirer {
    pub(crate) fn new(
        client: entra::Client,
        caches: Arc<Caches>,
        clock: Arc<dyn Clock>,
        observer: Option<Arc<dyn DeadGrantObserver>>,
    ) -> Self {
        Self::waiting(client, caches, clock, observer, EARLY_RENEWAL_WAIT)
    }

    /// For a process that others wait for: whoever has a valid token gets it at once, and a renewal
    /// that is due goes on behind.
    #[cfg(feature = "cli")]
    pub(crate) fn for_an_agent(
        client: entra::Client,
        caches: Arc<Caches>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn DeadGrantObserver>,
    ) -> Self {
        Self::waiting(client, caches, clock, Some(observer), Duration::ZERO)
    }

    fn waiting(
        client: entra::Client,
        caches: Arc<Caches>,
        clock: Arc<dyn Clock>,
        observer: Option<Arc<dyn DeadGrantObserver>>,
        early_renewal_wait: Duration,
    ) -> Self {
        Self(Arc::new(Engine {
            client,
            caches,
            clock,
            early_renewal_wait,
            flights: Flights::default(),
            grants: GrantMemory::default(),
            observer,
            recent: RecentAnswers::default(),
            throttle: Throttle::default(),
        }))
    }

    pub(crate) fn client(&self) -> &entra::Client {
        &self.0.client
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.0.clock.as_ref()
    }

    /// The cache's document. Asked for early, it makes an unusable store fail before a person is
    /// bothered.
    pub(crate) async fn document(&self, cae: bool) -> Result<Arc<TokenCacheDocument>> {
        self.0.caches.document(cae).await
    }

    pub(crate) async fn describe(&self, cae: bool) -> Result<StoreDescription> {
        self.0.caches.describe(cae).await
    }

    /// A token for the account: cached, or by one of its refresh tokens.
    pub(crate) async fn silent(
        &self,
        account: &AccountChoice,
        tenant: &TenantId,
        request: &TokenRequest,
    ) -> Result<AccessToken> {
        let caches = &self.0.caches;
        let opened = caches.opened(request.enable_cae);
        let document = match opened.and_then(|cache| cache.unchanged_for(&account.home_account_id)) {
            Some(document) => document,
            None => caches.cache(request.enable_cae).await?.document_for(&account.home_account_id).await?,
        };
        self.silent_in(&document, account, tenant, request).await
    }

    /// As [`Self::silent`], by a document that was read a moment ago.
    pub(crate) async fn silent_in(
        &self,
        document: &Arc<TokenCacheDocument>,
        account: &AccountChoice,
        tenant: &TenantId,
        request: &TokenRequest,
    ) -> Result<AccessToken> {
        let engine = &self.0;
        let now = engine.clock.now();
        if let Some(token) = engine.recent.find(document, account, tenant, request, now) {
            return Ok(token);
        }
        match engine.find(document, account, tenant, request) {
            Some(hit) if !hit.renewal_is_due => {
                engine.recent.remember(document, account, tenant, request, &hit.token, now);
                Ok(hit.token)
            }
            Some(hit) => Ok(engine.renew_early(hit.token, account, tenant, request).await),
            None => engine.fly(Wanted::new(account, tenant, request)).await,
        }
    }

    /// Renews a token before it expires, unless the cache has one by now that will do, or that was
    /// tried a moment ago (`None`).
    #[cfg(feature = "cli")]
    pub(crate) async fn renew(
        &self,
        account: &AccountChoice,
        tenant: &TenantId,
        request: &TokenRequest,
    ) -> Option<Result<AccessToken>> {
        match self.document(request.enable_cae).await {
            Ok(document) => match self.0.find(&document, account, tenant, request) {
                Some(hit) if !hit.renewal_is_due => return Some(Ok(hit.token)),
                _ => {}
            },
            Err(error) => return Some(Err(error)),
        }
        let wanted = Wanted::early(account, tenant, request);
        if !self.0.throttle.may_renew(&wanted.key(), self.0.clock.now()) {
            return None;
        }
        Some(self.0.fly(wanted).await)
    }

    /// Waits until every answer that the provider still owes is saved.
    #[cfg(feature = "cli")]
    pub(crate) async fn settled(&self) {
        self.0.flights.all_landed().await;
    }

    /// Whether nobody else holds this engine, not even a flight.
    #[cfg(feature = "cli")]
    pub(crate) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Writes what a person's sign-in brought.
    pub(crate) async fn absorb(
        &self,
        reply: entra::TokenReply,
        tenant: &TenantId,
        request: &TokenRequest,
        grant_type: &'static str,
    ) -> Result<Absorbed> {
        let cache = self.0.caches.cache(request.enable_cae).await?;
        let origin = Origin::SignIn { grant_type };
        absorb::absorb(&self.0.client, &cache, reply, tenant, origin, None).await
    }
}

impl Wanted {
    fn new(account: &AccountChoice, tenant: &TenantId, request: &TokenRequest) -> Self {
        Self { account: account.clone(), tenant: tenant.clone(), request: request.clone(), early: false }
    }

    /// Asks the provider although the cache has a valid token.
    fn early(account: &AccountChoice, tenant: &TenantId, request: &TokenRequest) -> Self {
        let request = request.clone().force_refresh(true);
        Self { early: true, ..Self::new(account, tenant, &request) }
    }

    fn key(&self) -> FlightKey {
        FlightKey {
            account: self.account.clone(),
            tenant: self.tenant.clone(),
            scopes: self.request.scopes.decorated(),
            claims: self.request.claims.clone(),
            enable_cae: self.request.enable_cae,
            early: self.early,
        }
    }

    /// The same question, whether a person waits for its answer or not.
    fn question(&self) -> FlightKey {
        FlightKey { early: false, ..self.key() }
    }

    /// Whether a token that came of a flight of this key is what this caller asked for: one that
    /// others began may have found a token in the cache that is too old for us.
    fn is_met_by(&self, token: &AccessToken, now: UnixTime) -> bool {
        let request = &self.request;
        let forced = request.force_refresh || request.claims.is_some();
        token.source == TokenSource::Refresh
            || (!forced && now.until(token.expires_on) >= request.min_validity)
    }
}

impl Engine {
    fn find(
        &self,
        document: &TokenCacheDocument,
        account: &AccountChoice,
        tenant: &TenantId,
        request: &TokenRequest,
    ) -> Option<Hit> {
        // With a claims challenge no cached access token will do (spec S-B 2.2).
        if request.claims.is_some() || request.force_refresh {
            return None;
        }
        let now = self.clock.now();
        let query = AccessTokenQuery {
            home_account_id: &account.home_account_id,
            environment: self.client.environment(),
            client_id: self.client.client_id(),
            any_family_client: account.any_family_client,
            realm: tenant.as_str(),
            scopes: &request.scopes,
            min_validity: request.min_validity,
        };
        let view = document.access_token(&query, now)?;
        Some(Hit {
            renewal_is_due: view.refresh_on().is_some_and(|moment| moment <= now),
            token: cached_token(&view, account),
        })
    }

    /// Renews a token that is still good. Whatever goes wrong, the caller has a valid token
    /// (spec S-B 2.2), and the provider is left alone for a while.
    async fn renew_early(
        self: &Arc<Self>,
        valid: AccessToken,
        account: &AccountChoice,
        tenant: &TenantId,
        request: &TokenRequest,
    ) -> AccessToken {
        let wanted = Wanted::early(account, tenant, request);
        if !self.throttle.may_renew(&wanted.key(), self.clock.now()) {
            return valid;
        }
        match tokio::time::timeout(self.early_renewal_wait, self.fly(wanted)).await {
            Ok(Ok(renewed)) => renewed,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a token was not renewed early; the cached one is still valid");
                valid
            }
            Err(_) => {
                tracing::debug!("an early renewal goes on; the cached token is still valid");
                valid
            }
        }
    }

    async fn fly(self: &Arc<Self>, wanted: Wanted) -> Result<AccessToken> {
        let launch = || {
            let (engine, wanted) = (Arc::clone(self), wanted.clone());
            self.flights.join(wanted.key(), || async move { engine.redeem(&wanted).await }.boxed())
        };
        let token = launch().await?;
        if wanted.is_met_by(&token, self.clock.now()) { Ok(token) } else { launch().await }
    }

    /// Tries the account's refresh tokens in turn, and lets the observer know which were dead.
    async fn redeem(&self, wanted: &Wanted) -> Result<AccessToken> {
        let mut dead = Vec::new();
        let answer = self.try_each(wanted, &mut dead).await;
        if let (false, Some(observer)) = (dead.is_empty(), &self.observer) {
            // a program may end right after its answer, so there is a moment for this
            tell(observer, dead).await;
        }
        answer
    }

    async fn try_each(&self, wanted: &Wanted, dead: &mut Vec<DeadGrant>) -> Result<AccessToken> {
        let Wanted { account, tenant, request, early } = wanted;
        let cache = self.caches.cache(request.enable_cae).await?;
        let mut document = cache.document_for(&account.home_account_id).await?;
        if let Some(error) = self.throttle.answer(&wanted.question(), &document, self.clock.now()) {
            return Err(error);
        }
        let mut refused = Refused::default();
        let mut tried = HashSet::new();
        loop {
            // Another process may have renewed the token meanwhile.
            if let Some(hit) = self.find(&document, account, tenant, request) {
                return Ok(hit.token);
            }
            let Some(candidate) = self.next_candidate(&document, wanted, &tried) else {
                if let (false, Some(observer)) = (dead.is_empty(), &self.observer) {
                    refused.removed_elsewhere(tell(observer, std::mem::take(dead)).await);
                }
                let error = refused.into_error(wanted, &cache.describe());
                self.throttle.remember(&wanted.question(), document, &error, self.clock.now());
                return Err(error);
            };
            tried.insert(candidate.key);
            if let Some(known) = self.grants.known_refusal(candidate.key, &request.scopes) {
                refused.by_provider(&Verdict::DeadForResource, known);
                continue;
            }
            let grant = RefreshGrant {
                tenant,
                refresh_token: candidate.secret.expose_secret(),
                home_account_id: &account.home_account_id,
                scopes: &request.scopes,
                claims: request.claims.as_ref(),
                enable_cae: request.enable_cae,
                asked_at: self.clock.now(),
            };
            let answer = if *early {
                self.client.refresh_once(&grant).await
            } else {
                self.client.refresh(&grant).await
            };
            document = match answer {
                Ok(reply) => return self.renewed(&cache, reply, wanted).await,
                Err(refusal) => {
                    let (document, died) =
                        self.refused(&cache, &candidate, refusal, wanted, &mut refused).await?;
                    dead.extend(died);
                    document
                }
            };
        }
    }

    fn next_candidate(
        &self,
        document: &TokenCacheDocument,
        wanted: &Wanted,
        tried: &HashSet<GrantKey>,
    ) -> Option<Candidate> {
        let query = RefreshTokenQuery {
            home_account_id: &wanted.account.home_account_id,
            environment: self.client.environment(),
            client_id: self.client.client_id(),
        };
        let candidates = document.refresh_tokens(&query).into_iter().map(|view| Candidate {
            key: self.grants.key_of(view.secret()),
            secret: view.secret().into(),
            client_id: view.client_id().to_owned(),
        });
        candidates.into_iter().find(|candidate| !tried.contains(&candidate.key))
    }

    async fn renewed(
        &self,
        cache: &Arc<Cache>,
        reply: entra::TokenReply,
        wanted: &Wanted,
    ) -> Result<AccessToken> {
        let account = Some(&wanted.account);
        let absorbed =
            absorb::absorb(&self.client, cache, reply, &wanted.tenant, Origin::Refresh, account).await?;
        if let Err(error) = &absorbed.saved {
            tracing::warn!(%error, "a renewed token could not be saved; it is used all the same");
        }
        Ok(absorbed.token)
    }

    /// Decides what a refusal means for the refresh token and whether to go on with the next
    /// (spec S-B 7.1); returns the document in which to look for that, and what was dead.
    async fn refused(
        &self,
        cache: &Arc<Cache>,
        candidate: &Candidate,
        refusal: Refusal,
        wanted: &Wanted,
        refused: &mut Refused,
    ) -> Result<(Arc<TokenCacheDocument>, Option<DeadGrant>)> {
        let now = self.clock.now();
        let verdict = entra::classify(&refusal);
        tracing::info!(?verdict, %refusal, client_id = candidate.client_id, "a refresh token was refused");
        let Refusal::Answered { error: answer, .. } = &refusal else {
            let document = cache.document().await?;
            let error = refused::error_of(refusal);
            // A page in place of an answer may still say when to come back.
            self.throttle.remember(&wanted.question(), document, &error, now);
            return Err(error);
        };
        let dead = match verdict {
            Verdict::Configuration | Verdict::Transient { .. } => {
                let document = cache.document_for(&wanted.account.home_account_id).await?;
                let error = refused::error_of(refusal);
                self.throttle.remember(&wanted.question(), document, &error, now);
                return Err(error);
            }
            Verdict::Dead => true,
            Verdict::DeadForResource => self.grants.failed_for(candidate.key, &wanted.request.scopes, answer),
            Verdict::Unclear => self.grants.failed_unclearly(candidate.key, now),
            Verdict::ClientMismatch | Verdict::Interaction => false,
        };
        refused.by_provider(&verdict, answer.clone());
        if !dead {
            return Ok((cache.document_for(&wanted.account.home_account_id).await?, None));
        }
        let died = DeadGrant {
            home_account_id: wanted.account.home_account_id.clone(),
            username: wanted.account.username.clone(),
            environment: self.client.environment().to_owned(),
            client_id: candidate.client_id.clone(),
            secret: candidate.secret.clone(),
            code: answer.code(),
            // a moment that is still to come would kill the next sign-in, too
            valid_from: answer.valid_from.map(|moment| moment.min(now)),
            at: now,
        };
        let removal = ChangeSet::of(Change::RemoveRefreshToken {
            home_account_id: wanted.account.home_account_id.clone(),
            client_id: candidate.client_id.clone(),
            secret: candidate.secret.clone(),
        });
        match cache.apply(removal).await {
            Ok(applied) => {
                if applied.changed {
                    refused.removed(wanted, &candidate.client_id, &cache.describe(), answer);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a dead refresh token could not be removed");
            }
        }
        Ok((cache.document_for(&wanted.account.home_account_id).await?, Some(died)))
    }
}

fn cached_token(view: &AccessTokenView<'_>, account: &AccountChoice) -> AccessToken {
    let details = TokenDetails::new(
        view.token_type().to_owned(),
        view.scopes().map(str::to_owned).collect(),
        view.realm().to_owned(),
        view.client_id().to_owned(),
        Some(TokenAccount::new(account.username.clone(), account.home_account_id.clone())),
    );
    AccessToken::new(
        view.secret().into(),
        view.expires_on(),
        view.refresh_on(),
        TokenSource::Cache,
        Arc::new(details),
    )
}

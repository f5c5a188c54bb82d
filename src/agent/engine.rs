//! The silent engine for many: documents in memory, one flight for all clients, renewal ahead.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::acquire::Caches;
use crate::agent_client::ErrorAnswer;
use crate::agent_client::protocol::{
    self, AccountsAnswer, AskAccounts, AskToken, HeldCache, NextRefresh, Source, TokenAnswer, Whereabouts,
    Who,
};
use crate::cloud::TenantId;
use crate::credential::DEVELOPER_SIGN_ON_CLIENT_ID;
use crate::credential::account::{self, AccountError};
use crate::document::TokenCacheDocument;
use crate::error::{Error, Result};
use crate::options::{self, TokenCachePersistenceOptions};
use crate::record::AuthenticationRecord;
use crate::store::{Places, Watcher};
use crate::time::{Clock, UnixTime};
use crate::token::{AccessToken, Claims, TokenAccount, TokenRequest, TokenSource};

use super::chosen::Chosen;
use super::counters::Counters;
use super::permit::{Petition, Wanted};
use super::renewals::{Renewals, Upkeep};
use super::shelf::{CacheKey, Line, Shelf};
use super::target::{Choices, Question, Target, authority_of, cache_of, scopes_for};

/// Who is meant when nobody is named.
pub(crate) trait DefaultAccounts: std::fmt::Debug + Send + Sync {
    /// The home account id of the default account of this host's cloud. May block.
    ///
    /// # Errors
    /// When the choice is kept where it cannot be read.
    fn default_account(&self, cache: &TokenCachePersistenceOptions, host: &str) -> Result<Option<String>>;
}

/// What an engine works with.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// The cache that has to open before a locked agent serves again.
    pub(crate) cache: TokenCachePersistenceOptions,
    /// When it locks by itself, and who may have which token.
    pub(crate) chosen: Arc<Chosen>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) defaults: Arc<dyn DefaultAccounts>,
    pub(crate) places: Places,
}

/// Everything that is decrypted, and everything that goes on because of it.
#[derive(Debug)]
pub(super) struct Engine {
    surroundings: Surroundings,
    counters: Arc<Counters>,
    shelf: Arc<Shelf>,
    choices: Choices,
    renewals: Arc<Renewals>,
    drivers: [JoinHandle<()>; 2],
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    Account(AccountError),
    Library(Error),
    /// The client means other caches of the same name.
    OtherHome,
}

impl Engine {
    /// Starts the work that goes on by itself; it ends with the engine.
    pub(super) fn start(surroundings: Surroundings, counters: Arc<Counters>) -> Arc<Self> {
        let hints = Arc::new(Notify::new());
        let hint = Arc::clone(&hints);
        let watcher = Watcher::new(move || hint.notify_one());
        if let Err(error) = &watcher {
            tracing::warn!(%error, "caches are not watched; their stamps are looked at all the same");
        }
        let clock = Arc::clone(&surroundings.clock);
        let shelf = Shelf::new(Arc::clone(&clock), surroundings.places.clone(), watcher.ok().map(Arc::new));
        let shelf = Arc::new(shelf);
        let renewals = Arc::new(Renewals::new(Arc::clone(&shelf), clock, Arc::clone(&counters)));
        let drivers = [tokio::spawn(keep_up(Arc::downgrade(&shelf), hints)), renewals.drive()];
        Arc::new(Self { surroundings, counters, shelf, choices: Choices::default(), renewals, drivers })
    }

    pub(super) async fn token(
        self: &Arc<Self>,
        ask: AskToken,
        petition: &Petition<'_>,
    ) -> Result<TokenAnswer, NoAnswer> {
        let answered = self.find_token(ask, petition).await;
        match &answered {
            Ok(answer) => self.counters.token(answer.found),
            Err(_) => self.counters.no_token(),
        }
        answered
    }

    async fn find_token(
        self: &Arc<Self>,
        ask: AskToken,
        petition: &Petition<'_>,
    ) -> Result<TokenAnswer, NoAnswer> {
        let AskToken {
            from,
            scopes,
            account,
            record,
            tenant,
            claims,
            enable_cae,
            min_validity,
            force_refresh,
            behind: _,
        } = ask;
        self.is_ours(&from)?;
        let claims = claims.as_deref().map(Claims::from_challenge).transpose()?;
        let tenant = tenant.as_deref().map(TenantId::parse).transpose()?;
        let record =
            record.map(|record| AuthenticationRecord::deserialize(&record.to_string())).transpose()?;
        let cache = cache_of(&from)?;
        let authority = match &record {
            Some(record) => record.authority().clone(),
            None => authority_of(&from)?,
        };
        let client_id = from.client_id.as_deref().map(options::client_id).transpose()?;
        let scopes = scopes_for(scopes, &authority)?;
        let request = TokenRequest::new(scopes)
            .claims(claims)
            .enable_cae(enable_cae)
            .min_validity(Duration::from_secs(min_validity.unwrap_or(300).into()))
            .force_refresh(force_refresh);

        let caches = self.shelf.caches(&cache);
        let document = caches.document(enable_cae).await?;
        let target = match record {
            Some(record) => Target::of_record(&record, tenant, client_id)?,
            None => {
                let question = Question { cache: cache.clone(), authority, hint: account, tenant, client_id };
                self.choose(question, &caches, &document, enable_cae).await?
            }
        };
        petition
            .decide(Wanted {
                cache: cache.name.as_str().to_owned(),
                client_id: target.client_id.clone(),
                home_account_id: target.account.home_account_id.clone(),
                scopes: request.scopes.clone(),
                tenant: target.tenant.clone(),
                username: target.account.username.clone(),
            })
            .await?;
        let line = Line {
            cache: CacheKey::of(&cache),
            authority: target.authority,
            client_id: target.client_id,
            disable_instance_discovery: from.disable_instance_discovery,
        };
        let acquirer = self.shelf.line(&line, &caches)?;
        let token = acquirer.silent_in(&document, &target.account, &target.tenant, &request).await?;
        if request.claims.is_none() {
            let TokenRequest { scopes, .. } = request;
            let upkeep = Upkeep { line, account: target.account, tenant: target.tenant, scopes, enable_cae };
            self.renewals.keep_fresh(&upkeep, &token);
        }
        Ok(answer(&token))
    }

    pub(super) async fn accounts(&self, ask: AskAccounts) -> Result<AccountsAnswer, NoAnswer> {
        let AskAccounts { from } = ask;
        self.is_ours(&from)?;
        let cache = cache_of(&from)?;
        let caches = self.shelf.caches(&cache);
        let mut documents = Vec::new();
        for cae in [false, true] {
            let document = caches.document(cae).await?;
            documents.push((caches.describe(cae).await?.cache, document));
        }
        let listed = account::list(documents.iter().map(|(name, document)| (&**name, &**document)));
        let mut answer = AccountsAnswer { version: 1, accounts: Vec::new() };
        for account::ListedAccount { account, caches } in listed {
            let default = self.default_account(&cache, &account.environment).await?;
            let is_default = default.as_deref() == Some(&*account.home_account_id);
            answer.accounts.push(protocol::Account::new(account, caches, is_default));
        }
        Ok(answer)
    }

    /// Waits until every answer that providers still owe is saved.
    pub(super) async fn settled(&self) {
        for line in self.shelf.all_lines() {
            line.settled().await;
        }
    }

    pub(super) fn held(&self) -> Vec<HeldCache> {
        let caches = self.shelf.all_caches();
        let held = caches.iter().flat_map(|caches| caches.held()).map(|(store, document)| {
            let accounts = document.accounts().into_iter();
            HeldCache {
                accounts: accounts
                    .map(|account| Who::new(account.username, account.home_account_id))
                    .collect(),
                cache: store.cache,
                place: store.place,
                encrypted: store.encrypted,
            }
        });
        held.collect()
    }

    pub(super) fn next_refreshes(&self) -> Vec<NextRefresh> {
        self.renewals.next()
    }

    /// Whether the client means the caches that this process would open under their names.
    fn is_ours(&self, from: &Whereabouts) -> Result<(), NoAnswer> {
        let places = &self.surroundings.places;
        let same = |given: &Option<PathBuf>, ours| given.as_ref().is_none_or(|given| given == ours);
        if same(&from.home, &places.home) && same(&from.state, &places.state) {
            Ok(())
        } else {
            Err(NoAnswer::OtherHome)
        }
    }

    async fn choose(
        &self,
        question: Question,
        caches: &Caches,
        document: &Arc<TokenCacheDocument>,
        cae: bool,
    ) -> Result<Target, NoAnswer> {
        if let Some(target) = self.choices.find(&question, document) {
            return Ok(target);
        }
        let host = question.authority.host();
        let accounts = account::of_cloud(document.accounts(), host);
        // The choice of a default may change while the document stays.
        let asks_default = question.hint.is_none() && accounts.len() > 1;
        let default = if asks_default { self.default_account(&question.cache, host).await? } else { None };
        let name = caches.describe(cae).await?.cache;
        let wanted_client = question.client_id.as_deref().unwrap_or(DEVELOPER_SIGN_ON_CLIENT_ID);
        let account =
            account::choose(&accounts, question.hint.as_deref(), default.as_deref(), wanted_client, &name)
                .map_err(NoAnswer::Account)?;
        let record = account::record(
            account,
            &question.authority,
            question.tenant.as_ref(),
            question.client_id.as_deref(),
        );
        let target = Target::recorded(&record);
        if !asks_default {
            self.choices.remember(question, document, &target);
        }
        Ok(target)
    }

    async fn default_account(
        &self,
        cache: &TokenCachePersistenceOptions,
        host: &str,
    ) -> Result<Option<String>> {
        let (defaults, cache, host) =
            (Arc::clone(&self.surroundings.defaults), cache.clone(), host.to_owned());
        let look_up = tokio::task::spawn_blocking(move || defaults.default_account(&cache, &host));
        match look_up.await {
            Ok(found) => found,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and nobody waits for this.
                Err(_) => Ok(None),
            },
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.drivers.iter().for_each(JoinHandle::abort);
    }
}

/// Reads caches again when others changed them.
async fn keep_up(shelf: Weak<Shelf>, hints: Arc<Notify>) {
    loop {
        hints.notified().await;
        let Some(shelf) = shelf.upgrade() else { return };
        for caches in shelf.all_caches() {
            caches.catch_up().await;
        }
    }
}

impl NoAnswer {
    pub(super) fn boxed(self) -> Box<ErrorAnswer> {
        Box::new(self.told())
    }

    pub(super) fn told(&self) -> ErrorAnswer {
        match self {
            Self::Account(error) => ErrorAnswer::told(error.kind(), error.to_string(), Some(error.hint()))
                .among(error.candidates()),
            Self::Library(error) => ErrorAnswer::of(error),
            Self::OtherHome => ErrorAnswer::told(
                "other_home",
                "this agent has the caches of another home folder",
                Some(
                    "leave HOME and XDG_STATE_HOME as the agent has them, or start one of your own"
                        .to_owned(),
                ),
            ),
        }
    }
}

impl From<Error> for NoAnswer {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

fn answer(token: &AccessToken) -> TokenAnswer {
    let details = &token.details;
    let found = match token.source {
        TokenSource::Agent => Source::Agent,
        TokenSource::Cache => Source::Cache,
        TokenSource::Refresh => Source::Refresh,
    };
    let who = |account: &TokenAccount| Who::new(account.username.clone(), account.home_account_id.clone());
    TokenAnswer {
        token: token.token.clone(),
        token_type: details.token_type.clone(),
        expires_on: token.expires_on.seconds(),
        refresh_on: token.refresh_on.map(UnixTime::seconds),
        scopes: details.scopes.clone(),
        tenant: details.tenant.clone(),
        account: details.account.as_ref().map(who),
        client_id: details.client_id.clone(),
        source: Source::Agent,
        found,
    }
}

//! The silent engine for many: documents in memory, one flight for all clients, renewal ahead.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::acquire::{AccountChoice, Acquirer, Caches, DeadGrant, DeadGrantObserver};
use crate::agent_client::ErrorAnswer;
use crate::agent_client::protocol::{
    self, AccountsAnswer, AskAccounts, AskToken, HeldCache, NextRefresh, Source, StoreName, TokenAnswer,
    Whereabouts, Who,
};
use crate::cloud::{Authority, TenantId};
use crate::credential::account::{self, AccountError};
use crate::credential::{CredentialOptions, DEVELOPER_SIGN_ON_CLIENT_ID};
use crate::document::TokenCacheDocument;
use crate::entra::{self, ClientOptions};
use crate::error::{Error, InvalidArgument, RemovedGrant, Result};
use crate::options::{self, CacheName, Storage, TokenCachePersistenceOptions};
use crate::record::AuthenticationRecord;
use crate::revocation::Everywhere;
use crate::store::{self, ChosenStorage, Places, Watcher};
use crate::time::{Clock, UnixTime};
use crate::token::{AccessToken, Claims, Scopes, TokenRequest, TokenSource};

use super::ahead::{Ahead, Life};
use super::clocks::LockAfter;
use super::counters::Counters;

/// A user has a cache or two; what was not used for the longest goes first.
const MAX_CACHES: usize = 8;

/// Lines to providers: one for each application and authority.
const MAX_LINES: usize = 32;

/// Choices of an account that need not be made again.
const MAX_CHOICES: usize = 64;

/// How many renewals ahead may ask providers at a time.
const AHEAD_AT_A_TIME: usize = 4;

/// The wall clock may be set, and a sleeping machine's timers stand still: never sleep longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How long retries at the provider may wait in all, as on the command line.
const RETRY_BUDGET: Duration = Duration::from_secs(10);

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
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) defaults: Arc<dyn DefaultAccounts>,
    pub(crate) lock_after: LockAfter,
    pub(crate) places: Places,
}

/// Everything that is decrypted, and everything that goes on because of it.
#[derive(Debug)]
pub(super) struct Engine {
    surroundings: Surroundings,
    counters: Arc<Counters>,
    shelf: Mutex<Shelf>,
    watcher: Option<Arc<Watcher>>,
    choices: Mutex<Vec<Chosen>>,
    ahead: Mutex<Ahead<Upkeep>>,
    replanned: Arc<Notify>,
    drivers: Mutex<Vec<JoinHandle<()>>>,
}

/// What was opened, the latest used last.
#[derive(Debug, Default)]
struct Shelf {
    caches: Vec<(TokenCachePersistenceOptions, Arc<Caches>)>,
    lines: Vec<(Line, Acquirer)>,
}

/// One application at one authority, with one cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line {
    cache: CacheKey,
    authority: Authority,
    client_id: String,
    disable_instance_discovery: bool,
}

/// [`TokenCachePersistenceOptions`] as a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CacheKey {
    name: CacheName,
    storage: u8,
    allow_unencrypted_storage: bool,
}

/// A token that is kept fresh.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Upkeep {
    line: Line,
    account: AccountChoice,
    tenant: TenantId,
    scopes: Scopes,
    enable_cae: bool,
}

/// Which account a question meant, as long as the document is the same.
#[derive(Debug)]
struct Chosen {
    document: Weak<TokenCacheDocument>,
    question: Question,
    target: Target,
}

/// What an account is chosen by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    cache: TokenCachePersistenceOptions,
    authority: Authority,
    hint: Option<String>,
    tenant: Option<TenantId>,
    client_id: Option<String>,
}

/// Whose token, of which tenant, for which application.
#[derive(Clone, Debug)]
struct Target {
    account: AccountChoice,
    authority: Authority,
    client_id: String,
    tenant: TenantId,
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
        let engine = Arc::new(Self {
            surroundings,
            counters,
            shelf: Mutex::default(),
            watcher: watcher.ok().map(Arc::new),
            choices: Mutex::default(),
            ahead: Mutex::default(),
            replanned: Arc::default(),
            drivers: Mutex::default(),
        });
        let drivers = [
            tokio::spawn(keep_up(Arc::downgrade(&engine), hints)),
            tokio::spawn(renew_ahead(Arc::downgrade(&engine), Arc::clone(&engine.replanned))),
        ];
        engine.drivers.lock().unwrap_or_else(PoisonError::into_inner).extend(drivers);
        engine
    }

    pub(super) async fn token(self: &Arc<Self>, ask: AskToken) -> Result<TokenAnswer, NoAnswer> {
        let answered = self.find_token(ask).await;
        match &answered {
            Ok(answer) => self.counters.token(answer.found),
            Err(_) => self.counters.no_token(),
        }
        answered
    }

    async fn find_token(self: &Arc<Self>, ask: AskToken) -> Result<TokenAnswer, NoAnswer> {
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

        let caches = self.caches(&cache);
        let document = caches.document(enable_cae).await?;
        let target = match record {
            Some(record) => of_record(&record, tenant, client_id)?,
            None => {
                let question = Question { cache: cache.clone(), authority, hint: account, tenant, client_id };
                self.choose(question, &caches, &document, enable_cae).await?
            }
        };
        let line = Line {
            cache: CacheKey::of(&cache),
            authority: target.authority,
            client_id: target.client_id,
            disable_instance_discovery: from.disable_instance_discovery,
        };
        let acquirer = self.line(&line, &caches)?;
        let token = acquirer.silent_in(&document, &target.account, &target.tenant, &request).await?;
        if request.claims.is_none() {
            let TokenRequest { scopes, .. } = request;
            let upkeep = Upkeep { line, account: target.account, tenant: target.tenant, scopes, enable_cae };
            self.keep_fresh(&upkeep, &token);
        }
        Ok(answer(&token))
    }

    pub(super) async fn accounts(&self, ask: AskAccounts) -> Result<AccountsAnswer, NoAnswer> {
        let AskAccounts { from } = ask;
        self.is_ours(&from)?;
        let cache = cache_of(&from)?;
        let caches = self.caches(&cache);
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
        let lines: Vec<Acquirer> = self.shelf().lines.iter().map(|(_, line)| line.clone()).collect();
        for line in lines {
            line.settled().await;
        }
    }

    pub(super) fn held(&self) -> Vec<HeldCache> {
        let caches: Vec<_> = self.shelf().caches.iter().map(|(_, caches)| Arc::clone(caches)).collect();
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
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let planned = ahead.plans().into_iter().map(|(key, plan)| NextRefresh {
            username: key.account.username.clone(),
            cache: key.line.cache.name.to_string(),
            tenant: key.tenant.to_string(),
            scopes: key.scopes.iter().map(str::to_owned).collect(),
            enable_cae: key.enable_cae,
            at: plan.at.seconds(),
            expires_on: plan.expires_on.seconds(),
            failures: plan.failures,
        });
        planned.collect()
    }

    /// Whether the client means the caches that this process would open under their names.
    fn is_ours(&self, from: &Whereabouts) -> Result<(), NoAnswer> {
        let places = &self.surroundings.places;
        let same =
            |given: &Option<std::path::PathBuf>, ours| given.as_ref().is_none_or(|given| given == ours);
        if same(&from.home, &places.home) && same(&from.state, &places.state) {
            Ok(())
        } else {
            Err(NoAnswer::OtherHome)
        }
    }

    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn caches(&self, options: &TokenCachePersistenceOptions) -> Arc<Caches> {
        let mut shelf = self.shelf();
        let caches = take(&mut shelf.caches, options).unwrap_or_else(|| {
            let caches =
                Caches::persistent(options.clone(), Some(Box::new(self.surroundings.places.clone())));
            Arc::new(caches.watched_by(self.watcher.clone()))
        });
        // A line holds its caches, and goes first.
        make_room(&mut shelf.caches, MAX_CACHES, |caches| Arc::strong_count(caches) == 1);
        shelf.caches.push((options.clone(), Arc::clone(&caches)));
        caches
    }

    fn line(&self, line: &Line, caches: &Arc<Caches>) -> Result<Acquirer> {
        let mut shelf = self.shelf();
        let acquirer = match take(&mut shelf.lines, line) {
            Some(acquirer) => acquirer,
            None => {
                let options = ClientOptions {
                    authority: line.authority.clone(),
                    client_id: line.client_id.clone(),
                    disable_instance_discovery: line.disable_instance_discovery,
                    retry_budget: RETRY_BUDGET,
                    root_certificates: None,
                };
                let client = match shelf.lines.last() {
                    Some((_, other)) => other.client().beside(options)?,
                    None => entra::Client::new(options)?,
                };
                let clock = Arc::clone(&self.surroundings.clock);
                let clearing =
                    Clearing { cache: line.cache.options(), places: self.surroundings.places.clone() };
                Acquirer::for_an_agent(client, Arc::clone(caches), clock, Arc::new(clearing))
            }
        };
        make_room(&mut shelf.lines, MAX_LINES, Acquirer::is_unused);
        shelf.lines.push((line.clone(), acquirer.clone()));
        Ok(acquirer)
    }

    async fn choose(
        &self,
        question: Question,
        caches: &Caches,
        document: &Arc<TokenCacheDocument>,
        cae: bool,
    ) -> Result<Target, NoAnswer> {
        if let Some(target) = self.chosen_before(&question, document) {
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
        let target = Target {
            account: AccountChoice {
                home_account_id: record.home_account_id().to_owned(),
                username: record.username().to_owned(),
                any_family_client: record.client_id() == DEVELOPER_SIGN_ON_CLIENT_ID,
            },
            authority: record.authority().clone(),
            client_id: record.client_id().to_owned(),
            tenant: record.tenant_id().clone(),
        };
        if !asks_default {
            let mut choices = self.choices.lock().unwrap_or_else(PoisonError::into_inner);
            choices.retain(|known| known.document.strong_count() > 0);
            if choices.len() >= MAX_CHOICES {
                choices.remove(0);
            }
            let document = Arc::downgrade(document);
            choices.push(Chosen { document, question, target: target.clone() });
        }
        Ok(target)
    }

    fn chosen_before(&self, question: &Question, document: &Arc<TokenCacheDocument>) -> Option<Target> {
        let choices = self.choices.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &&Chosen| {
            std::ptr::eq(known.document.as_ptr(), Arc::as_ptr(document)) && known.question == *question
        };
        choices.iter().find(same).map(|known| known.target.clone())
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

    fn keep_fresh(&self, upkeep: &Upkeep, token: &AccessToken) {
        let now = self.surroundings.clock.now();
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if ahead.asked(upkeep, life(token), now, jitter()) {
            drop(ahead);
            self.replanned.notify_one();
        }
    }

    fn take_due(&self, now: UnixTime) -> Vec<(Upkeep, UnixTime)> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take_due(now)
    }

    fn next_due(&self) -> Option<UnixTime> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    async fn renew(&self, upkeep: &Upkeep, expires_on: UnixTime) {
        let clock = &self.surroundings.clock;
        let now = clock.now();
        // Only a token that lives longer than the one there is counts as fresh.
        let fresh = now.until(expires_on) + Duration::from_secs(1);
        let request =
            TokenRequest::new(upkeep.scopes.clone()).enable_cae(upkeep.enable_cae).min_validity(fresh);
        let line = {
            let options = upkeep.line.cache.options();
            self.line(&upkeep.line, &self.caches(&options))
        };
        let renewed = match line {
            Ok(line) => line.renew(&upkeep.account, &upkeep.tenant, &request).await,
            Err(error) => Some(Err(error)),
        };
        let now = clock.now();
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        match renewed {
            Some(Ok(token)) => {
                self.counters.ahead(true);
                ahead.renewed(upkeep, life(&token), now, jitter());
            }
            Some(Err(error)) => {
                self.counters.ahead(false);
                tracing::info!(%error, "a token was not renewed ahead of its expiry");
                match error {
                    Error::Network(network) => ahead.failed(upkeep, network.retry_after, now, jitter()),
                    Error::Cache(_) => ahead.failed(upkeep, None, now, jitter()),
                    _ => ahead.forget(upkeep),
                }
            }
            // Somebody else's request tried it a moment ago.
            None => ahead.failed(upkeep, None, now, jitter()),
        }
    }
}

/// Clears every tool's cache of what the provider called dead, as commands do.
#[derive(Debug)]
struct Clearing {
    cache: TokenCachePersistenceOptions,
    places: Places,
}

impl DeadGrantObserver for Clearing {
    fn grants_died(&self, dead: &[DeadGrant]) -> Vec<RemovedGrant> {
        let everywhere = Everywhere::new(self.places.clone());
        // A vault is no other tool's, so it is not among those.
        let stores = match store::choose(&self.cache, &self.places) {
            Ok(ChosenStorage::Vault(_)) => [false, true]
                .into_iter()
                .filter_map(|cae| store::open(&self.cache, cae, &self.places).ok())
                .collect(),
            _ => Vec::new(),
        };
        everywhere.and_stores(stores).grants_died(dead)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for driver in self.drivers.get_mut().unwrap_or_else(PoisonError::into_inner) {
            driver.abort();
        }
    }
}

/// Reads caches again when others changed them.
async fn keep_up(engine: Weak<Engine>, hints: Arc<Notify>) {
    loop {
        hints.notified().await;
        let Some(engine) = engine.upgrade() else { return };
        let caches: Vec<_> = engine.shelf().caches.iter().map(|(_, caches)| Arc::clone(caches)).collect();
        for caches in caches {
            caches.catch_up().await;
        }
    }
}

/// Renews what is due, a few at a time.
async fn renew_ahead(engine: Weak<Engine>, replanned: Arc<Notify>) {
    let turns = Arc::new(Semaphore::new(AHEAD_AT_A_TIME));
    loop {
        let Some(strong) = engine.upgrade() else { return };
        let now = strong.surroundings.clock.now();
        for (upkeep, expires_on) in strong.take_due(now) {
            let (turns, engine) = (Arc::clone(&turns), Weak::clone(&engine));
            tokio::spawn(async move {
                let _turn = turns.acquire().await;
                if let Some(engine) = engine.upgrade() {
                    engine.renew(&upkeep, expires_on).await;
                    engine.replanned.notify_one();
                }
            });
        }
        let next = strong.next_due();
        // Held while it sleeps, it would never end.
        drop(strong);
        let Some(next) = next else {
            replanned.notified().await;
            continue;
        };
        let sleep = tokio::time::sleep(now.until(next).clamp(Duration::from_secs(1), LONGEST_SLEEP));
        tokio::select! {
            () = sleep => {}
            () = replanned.notified() => {}
        }
    }
}

impl CacheKey {
    fn of(options: &TokenCachePersistenceOptions) -> Self {
        let storage = STORAGES.iter().position(|known| *known == options.storage).unwrap_or(0);
        Self {
            name: options.name.clone(),
            storage: storage as u8,
            allow_unencrypted_storage: options.allow_unencrypted_storage,
        }
    }

    fn options(&self) -> TokenCachePersistenceOptions {
        TokenCachePersistenceOptions::default()
            .name(self.name.clone())
            .storage(STORAGES[usize::from(self.storage)])
            .allow_unencrypted_storage(self.allow_unencrypted_storage)
    }
}

const STORAGES: [Storage; 4] = [Storage::Auto, Storage::Platform, Storage::Plaintext, Storage::Vault];

impl NoAnswer {
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

fn cache_of(from: &Whereabouts) -> Result<TokenCachePersistenceOptions> {
    let storage = match from.store {
        StoreName::Auto => Storage::Auto,
        StoreName::Plaintext => Storage::Plaintext,
        StoreName::Platform => Storage::Platform,
        StoreName::Vault => Storage::Vault,
        StoreName::Unknown => {
            return Err(InvalidArgument::new(
                "store",
                "it is none that this agent knows",
                "choose one of auto, platform, vault, plaintext",
            )
            .into());
        }
    };
    let name = from.cache.as_deref().map_or_else(|| Ok(CacheName::default()), CacheName::new)?;
    Ok(TokenCachePersistenceOptions::default()
        .name(name)
        .storage(storage)
        .allow_unencrypted_storage(from.allow_unencrypted_storage))
}

fn authority_of(from: &Whereabouts) -> Result<Authority> {
    from.authority.as_deref().map_or_else(|| Ok(Authority::public()), Authority::parse)
}

fn scopes_for(given: Vec<String>, authority: &Authority) -> Result<Scopes> {
    match authority.default_scope() {
        Some(default) if given.is_empty() => Scopes::new([default]),
        _ => Scopes::new(given),
    }
}

/// The account that a record names, and nothing else.
fn of_record(
    record: &AuthenticationRecord,
    tenant: Option<TenantId>,
    client_id: Option<String>,
) -> Result<Target> {
    let mut options = CredentialOptions::default().authentication_record(record.clone());
    if let Some(client_id) = client_id {
        options = options.client_id(client_id);
    }
    Ok(Target {
        account: AccountChoice {
            home_account_id: record.home_account_id().to_owned(),
            username: record.username().to_owned(),
            any_family_client: false,
        },
        authority: record.authority().for_network(),
        client_id: options.resolved_client_id()?,
        tenant: tenant.unwrap_or_else(|| record.tenant_id().clone()),
    })
}

fn answer(token: &AccessToken) -> TokenAnswer {
    let details = &token.details;
    let found = match token.source {
        TokenSource::Agent => Source::Agent,
        TokenSource::Cache => Source::Cache,
        TokenSource::Refresh => Source::Refresh,
    };
    let who = |account: &crate::token::TokenAccount| {
        Who::new(account.username.clone(), account.home_account_id.clone())
    };
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

const fn life(token: &AccessToken) -> Life {
    Life { expires_on: token.expires_on, refresh_on: token.refresh_on }
}

fn jitter() -> u8 {
    let mut byte = [0];
    // Without randomness the moment is only not spread.
    getrandom::fill(&mut byte).ok();
    byte[0]
}

/// Takes the entry out, to be put back as the latest used.
fn take<K: PartialEq, V>(shelf: &mut Vec<(K, V)>, key: &K) -> Option<V> {
    let at = shelf.iter().position(|(known, _)| known == key)?;
    Some(shelf.remove(at).1)
}

/// Drops what was not used for the longest, but nothing that is in use.
fn make_room<K, V>(shelf: &mut Vec<(K, V)>, most: usize, is_unused: impl Fn(&V) -> bool) {
    while shelf.len() >= most {
        let Some(at) = shelf.iter().position(|(_, value)| is_unused(value)) else { return };
        shelf.remove(at);
    }
}

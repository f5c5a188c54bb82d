//! What `exec` and `serve` share: an account, a grant, and the doors in front of them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::tz::TimeZone;

use super::account;
use super::arguments::GrantOptions;
use super::caches::OpenCache;
use super::failure::Failure;
use super::output::Output;
use super::settings::Settings;
use super::{record, token, via_agent};
use crate::agent_client::AgentClient;
use crate::agent_client::protocol::{self, Account};
use crate::cloud::{self, TenantId};
use crate::credential::{BoxFuture, SharedTokenCacheCredential, TokenCredential};
use crate::document::CachedAccount;
use crate::error::{CacheError, Error};
use crate::policy::{self, Action, LocalTime, Policy, Subject};
use crate::process;
use crate::record::AuthenticationRecord;
use crate::serve::{AllowedScopes, AllowedTenants, Desk, Entry, Grant, Listening, Registry, Server, Terms};
use crate::store::Store;
use crate::store::vault::{Attempts, ProtectorKind, Unattended, Unlocking};
use crate::time::{self, Clock as _, SystemClock, UnixTime};
use crate::token::{AccessToken, TokenRequest};

/// Whose tokens a grant is about.
pub(super) struct Behind {
    credential: Arc<AgentFirst>,
    prompts: Arc<AtomicBool>,
}

impl Behind {
    /// Chooses the account: by the agent if there is one, else by the cache. Then a person may be
    /// asked to unlock a vault, but only now and never in the middle of another program's work.
    pub(super) fn open(options: &GrantOptions, settings: &Settings, output: Output) -> Result<Self, Failure> {
        let prompts = Arc::new(AtomicBool::new(true));
        let unlocking = UntilServing {
            person: Arc::clone(&settings.unlocking),
            alone: Unattended::of_environment(&settings.places),
            prompts: Arc::clone(&prompts),
        };
        let settings = settings.with_unlocking(Arc::new(unlocking));
        let policy = settings.config_file.read()?.policy;
        let hint = options.account.as_deref();
        let agent = via_agent::client(&settings);
        let told = match &agent {
            Some(agent) => via_agent::ask(agent, agent.ask_accounts(), output)?,
            None => None,
        };
        let (record, store) = match told {
            Some(accounts) => (of_agents_account(accounts, hint, &settings)?, None),
            None => {
                let cache = OpenCache::open(&settings, false)?;
                (token::of_account(hint, &cache, &settings)?, Some(cache.store))
            }
        };
        let agent = agent.map(|agent| agent.account(record.home_account_id()));
        let alone =
            Alone { settings, policy: Mutex::new(Arc::new(policy)), record, credential: OnceLock::new() };
        if let Some(store) = store {
            alone.on(store)?;
        }
        let asked_for = OnceLock::new();
        Ok(Self { credential: Arc::new(AgentFirst { agent, alone, asked_for }), prompts })
    }

    pub(super) fn record(&self) -> &AuthenticationRecord {
        &self.credential.alone.record
    }

    pub(super) fn tenant(&self) -> &TenantId {
        self.record().tenant_id()
    }
}

/// The record of the account that the hint means, among those that the agent knows.
fn of_agents_account(
    accounts: Vec<Account>,
    hint: Option<&str>,
    settings: &Settings,
) -> Result<AuthenticationRecord, Failure> {
    let host = settings.authority.host();
    // a login for continuous access evaluation alone gives no token here
    let fits = |account: &Account| {
        cloud::same_cloud(&account.environment, host)
            && account.caches.iter().any(|cache| !cache.ends_with(".cae"))
    };
    let (mut default, mut known) = (None, Vec::new());
    for account in accounts.into_iter().filter(fits) {
        if account.default {
            default = Some(account.home_account_id.clone());
        }
        known.push(CachedAccount::from(account));
    }
    let cache = settings.cache.name.as_str();
    let chosen = account::choose(&known, hint, default.as_deref(), settings.client_id(), cache)?;
    Ok(record::of_account(chosen, settings))
}

/// The agent's tokens while there is an agent, and otherwise our own.
#[derive(Debug)]
struct AgentFirst {
    agent: Option<AgentClient>,
    alone: Alone,
    /// For whom the tokens are, once that has begun.
    asked_for: OnceLock<protocol::Behind>,
}

impl AgentFirst {
    async fn token(&self, request: &TokenRequest) -> Result<AccessToken, Error> {
        let behind = self.asked_for.get();
        if let Some(agent) = &self.agent {
            let agent = behind.map_or_else(|| agent.clone(), |behind| agent.clone().behind(behind.clone()));
            if let Some(token) = via_agent::token(&agent, request).await? {
                return Ok(token);
            }
        }
        // With an agent the policy is its affair.
        self.alone.permit(behind.and_then(|behind| behind.pid), request).await?;
        self.alone.credential().await?.get_token(request).await
    }
}

impl TokenCredential for AgentFirst {
    fn get_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<AccessToken, Error>> {
        Box::pin(self.token(request))
    }
}

/// Our own engine, opened when it is first needed.
#[derive(Debug)]
struct Alone {
    settings: Settings,
    /// As the file was when it could be used the last time.
    policy: Mutex<Arc<Policy>>,
    record: AuthenticationRecord,
    credential: OnceLock<SharedTokenCacheCredential>,
}

impl Alone {
    /// Whether the policy lets the child, or else this program, have the token.
    async fn permit(&self, child: Option<u32>, request: &TokenRequest) -> Result<(), Error> {
        let policy = self.policy_now().await;
        if policy.allows_all() {
            return Ok(());
        }
        let look_at = |pid: Option<i32>| process::look_at(pid?, None);
        let own = i32::try_from(std::process::id()).ok();
        let program = look_at(child.and_then(|pid| i32::try_from(pid).ok()).or(own));
        let parent = look_at(program.as_ref().and_then(|program| program.parent));
        let tenant = request.tenant.as_ref().unwrap_or_else(|| self.record.tenant_id());
        let scopes: Vec<&str> = request.scopes.iter().collect();
        let asked = policy::Request {
            executable: Subject::of(program.as_ref()),
            parent: Subject::of(parent.as_ref()),
            scopes: &scopes,
            tenant: policy::named_tenant(tenant, self.record.home_account_id()),
            account: [self.record.username(), self.record.home_account_id()],
            client_id: self.record.client_id(),
        };
        let now = || LocalTime::at(SystemClock.now(), &TimeZone::system());
        let verdict = policy.verdict(&asked, now);
        match verdict.action {
            Action::Allow => Ok(()),
            // Only an agent asks.
            Action::Ask | Action::Deny => {
                let path = program.and_then(|program| program.path);
                let program =
                    path.map_or_else(|| "an unknown program".to_owned(), |path| path.display().to_string());
                Err(verdict.denied(&program, &request.scopes.to_string()).into())
            }
        }
    }

    /// The user may have changed it since.
    async fn policy_now(&self) -> Arc<Policy> {
        let known = || self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        match self.settings.config_file.read_anew(|config| config.policy != **known()).await {
            Some(Ok(config)) => *known() = Arc::new(config.policy),
            Some(Err(error)) => {
                tracing::warn!(%error, "what config.toml said before holds until that is corrected");
            }
            None => {}
        }
        Arc::clone(&known())
    }

    fn on(&self, store: Arc<dyn Store>) -> Result<&SharedTokenCacheCredential, Error> {
        let options = self
            .settings
            .credential(store)
            .authentication_record(self.record.clone())
            // which ones it may be is the grant's affair
            .additionally_allowed_tenants(["*"]);
        let credential = SharedTokenCacheCredential::new(options)?;
        Ok(self.credential.get_or_init(|| credential))
    }

    async fn credential(&self) -> Result<&SharedTokenCacheCredential, Error> {
        if let Some(credential) = self.credential.get() {
            return Ok(credential);
        }
        let settings = self.settings.clone();
        // a keyring may take its time
        let opened = tokio::task::spawn_blocking(move || settings.open_store(false)).await;
        let store = opened.map_err(|error| {
            let path = self.settings.places.home.clone();
            CacheError::Io { action: "open the cache below", path, source: Arc::new(error.into()) }
        })??;
        self.on(store)
    }
}

/// What the options say about the grant.
pub(super) fn terms(options: &GrantOptions, own_tenant: &TenantId, now: UnixTime) -> Result<Terms, Failure> {
    Ok(Terms {
        scopes: AllowedScopes::parse(&options.scopes)?,
        tenants: AllowedTenants::parse(own_tenant, &options.tenants)?,
        expires_on: options.expires.as_deref().map(time::length).transpose()?.map(|length| now.after(length)),
    })
}

/// Checks what can be checked before the cache is opened.
pub(super) fn check(options: &GrantOptions) -> Result<(), Failure> {
    terms(options, &TenantId::organizations(), UnixTime::default()).map(drop)
}

/// A server with its grant, on the list of grants until it is dropped.
pub(super) struct Doors {
    pub(super) desk: Arc<Desk>,
    way: &'static str,
    credential: Arc<AgentFirst>,
    pub(super) grant: Arc<Grant>,
    pub(super) server: Server,
}

/// For whom a grant is, as the list of grants shows it.
pub(super) struct Purpose<'a> {
    pub(super) way: &'static str,
    pub(super) command: Option<&'a Path>,
    pub(super) socket: Option<&'a Path>,
}

impl Doors {
    /// Makes a grant, puts it on the list, and is ready to serve it.
    pub(super) fn open(
        options: &GrantOptions,
        behind: Behind,
        listening: Listening,
        purpose: &Purpose<'_>,
        settings: &Settings,
    ) -> Result<Self, Failure> {
        let now = SystemClock.now();
        let terms = terms(options, behind.tenant(), now)?;
        let grant = Grant::new(terms).map_err(|error| {
            Failure::file("asking for random bytes", "the system")(std::io::Error::other(error))
        })?;
        let entry = Entry {
            version: Entry::VERSION,
            id: grant.id().to_owned(),
            pid: std::process::id(),
            way: purpose.way.to_owned(),
            command: purpose
                .command
                .and_then(Path::file_name)
                .map(|name| name.to_string_lossy().into_owned()),
            username: behind.record().username().to_owned(),
            home_account_id: behind.record().home_account_id().to_owned(),
            tenants: grant.terms().tenants.as_slice().to_vec(),
            scopes: grant.terms().scopes.as_slice().to_vec(),
            started: now.seconds(),
            expires_on: grant.terms().expires_on.map(UnixTime::seconds),
            socket: purpose.socket.map(Path::to_owned),
        };
        let registry = registry(settings);
        let registration =
            registry.register(&entry).map_err(Failure::file("listing a grant in", registry.folder()))?;
        behind.prompts.store(false, Ordering::Relaxed);
        let grant = Arc::new(grant);
        let credential = behind.credential;
        let desk =
            Arc::new(Desk::new(Arc::clone(&grant), credential.clone(), Arc::new(SystemClock), registration));
        let server = Server::new(listening, Arc::clone(&desk));
        Ok(Self { desk, way: purpose.way, credential, grant, server })
    }

    /// Says for which child this is, if there is one, before anything is served.
    pub(super) fn are_for(&self, child: Option<u32>) {
        let behind = protocol::Behind::new(self.grant.id(), self.way, child);
        self.credential.asked_for.set(behind).ok();
    }
}

/// The list of this user's grants.
pub(super) fn registry(settings: &Settings) -> Registry {
    Registry::below(&settings.places.running())
}

/// Unlocks with a person's help until the doors are open, and alone from then on.
#[derive(Debug)]
struct UntilServing {
    person: Arc<dyn Unlocking>,
    alone: Unattended,
    prompts: Arc<AtomicBool>,
}

impl Unlocking for UntilServing {
    fn attempts<'a>(&'a self, kinds: &'a [ProtectorKind]) -> Attempts<'a> {
        if self.prompts.load(Ordering::Relaxed) {
            self.person.attempts(kinds)
        } else {
            self.alone.attempts(kinds)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::error::ProtectorError;

    use super::*;

    #[derive(Debug)]
    struct Person;

    impl Unlocking for Person {
        fn attempts<'a>(&'a self, _kinds: &'a [ProtectorKind]) -> Attempts<'a> {
            Box::new(std::iter::once(Err(ProtectorError::PromptRefused)))
        }
    }

    #[test]
    fn nobody_is_asked_once_the_doors_are_open() {
        let prompts = Arc::new(AtomicBool::new(true));
        let unlocking = UntilServing {
            person: Arc::new(Person),
            alone: Unattended::default(),
            prompts: Arc::clone(&prompts),
        };
        let asked = || unlocking.attempts(&[ProtectorKind::Passphrase]).count();
        assert_eq!(asked(), 1);
        prompts.store(false, Ordering::Relaxed);
        assert_eq!(asked(), 0);
    }
}

//! What the agent and its clients say to each other: types only. `docs/agent-protocol.md` is the
//! reference.
//!
//! Within a version members may be added, never changed or taken away. Unknown members do not
//! matter, and unknown words of a set are `Unknown`: an older program understands a newer one.

mod consent;

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

#[cfg(feature = "cli")]
use crate::document::{CachedAccount, CachedClient};

pub use self::consent::{
    ANSWER, AskAnswer, AskForget, CONSENTS, Consent, Consents, DoneAnswer, FORGET, Question,
};

/// The version of this protocol, which stands in every path.
pub const VERSION: u32 = 1;

/// `GET`: who is there, without any work.
pub const HELLO: &str = "/v1/hello";
/// `GET`: what the agent holds and does.
pub const STATUS: &str = "/v1/status";
/// `POST` [`AskToken`]: an access token.
pub const TOKEN: &str = "/v1/token";
/// `POST` [`AskAccounts`]: who is signed in.
pub const ACCOUNTS: &str = "/v1/accounts";
/// `POST`: forgets what was decrypted, begins anew, and answers `locked` from then on.
pub const LOCK: &str = "/v1/lock";
/// `POST` [`AskUnlock`]: serves again.
pub const UNLOCK: &str = "/v1/unlock";
/// `POST`: ends the agent as SIGTERM does.
pub const SHUTDOWN: &str = "/v1/shutdown";

/// The kind of a refusal that is final: the agent was locked, and nobody goes round it.
pub const LOCKED: &str = "locked";

/// The kind of a refusal after too many wrong passphrases.
pub const TOO_SOON: &str = "unlock_too_soon";

/// Asks for an access token. What is left out is what the command line takes without options and
/// environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AskToken {
    /// Where the login is.
    #[serde(flatten)]
    pub from: Whereabouts,
    /// What the token is to be good for; nothing means the management of the authority's cloud.
    pub scopes: Vec<String>,
    /// Whose: a username, a home account id, or the beginning of either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Whose: an authentication record, which also tells authority, client and tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Value>,
    /// Of which tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// A claims challenge: JSON, base64 of it, or a whole `WWW-Authenticate` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<String>,
    /// Whether the caller handles claims challenges.
    pub enable_cae: bool,
    /// How many seconds a cached token must still be valid; 300 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_validity: Option<u32>,
    /// Asks the provider anyway.
    pub force_refresh: bool,
    /// For whom a front door of ours asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<Behind>,
}

/// For whom a front door asks. The agent believes it of its own program only, and of its own child only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Behind {
    /// The grant, as `tokenkeep grants` lists it.
    pub grant: String,
    /// `exec` or `serve`.
    pub way: String,
    /// The child that the grant was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

#[cfg(feature = "cli")]
impl Behind {
    pub(crate) fn new(grant: &str, way: &str, pid: Option<u32>) -> Self {
        Self { grant: grant.to_owned(), way: way.to_owned(), pid }
    }
}

/// Asks who is signed in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AskAccounts {
    /// Where the logins are.
    #[serde(flatten)]
    pub from: Whereabouts,
}

/// Asks the agent to serve again.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AskUnlock {
    /// The vault's passphrase or recovery key; without it, what opens by itself does.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "expose_some")]
    pub passphrase: Option<SecretString>,
}

/// Which logins are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Whereabouts {
    /// The cache's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Where the cache rests.
    pub store: StoreName,
    /// Whether plaintext will do where `auto` finds nothing that encrypts.
    pub allow_unencrypted_storage: bool,
    /// The provider's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Whether to trust an authority that is no cloud of Microsoft's.
    pub disable_instance_discovery: bool,
    /// The application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The client's home folder: an agent of another home answers `other_home`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<PathBuf>,
    /// The client's state folder, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
}

/// Where a cache rests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StoreName {
    /// The platform's store, or the vault where that cannot work.
    #[default]
    Auto,
    /// A file that only its mode protects.
    Plaintext,
    /// The platform's store and nothing else.
    Platform,
    /// The vault.
    Vault,
    /// One of another version.
    #[serde(other)]
    Unknown,
}

/// An access token. Its members are those of `tokenkeep token --json`, and some more.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct TokenAnswer {
    /// The secret itself.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// `Bearer`, unless the provider bound the token to a key.
    pub token_type: String,
    /// When it stops being valid, in seconds since 1970.
    pub expires_on: i64,
    /// When the provider would like it renewed, if it said so.
    #[serde(default)]
    pub refresh_on: Option<i64>,
    /// The scopes granted.
    pub scopes: Vec<String>,
    /// The tenant that issued it.
    pub tenant: String,
    /// Who it speaks for.
    pub account: Option<Who>,
    /// The client it was issued to.
    pub client_id: String,
    /// Always `agent`.
    pub source: Source,
    /// Where the agent had it from.
    #[serde(default)]
    pub found: Source,
}

/// The one way by which a passphrase leaves the process in a question.
fn expose_some<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(ExposeSecret::expose_secret).serialize(serializer)
}

/// The one way by which a token leaves the process in an answer.
fn expose<S: Serializer>(token: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose_secret())
}

/// An account by its two names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Who {
    /// The name a person signs in with.
    pub username: String,
    /// `uid.utid`.
    pub home_account_id: String,
}

#[cfg(feature = "cli")]
impl Who {
    pub(crate) const fn new(username: String, home_account_id: String) -> Self {
        Self { username, home_account_id }
    }
}

/// Where a token came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Source {
    /// The agent.
    Agent,
    /// A cache.
    Cache,
    /// The provider, just now.
    Refresh,
    /// A source of another version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Who is signed in: what `tokenkeep accounts --json` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct AccountsAnswer {
    /// The version of this form.
    pub version: u32,
    /// Everybody, once.
    pub accounts: Vec<Account>,
}

/// An account of the caches of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Account {
    /// The name a person signs in with.
    pub username: String,
    /// `uid.utid`.
    pub home_account_id: String,
    /// The tenant it is at home in.
    pub home_tenant: Option<String>,
    /// The cloud, as the cache calls it.
    pub environment: String,
    /// Tenants that it has tokens of.
    pub tenants: Vec<String>,
    /// Clients that it has refresh tokens of.
    pub clients: Vec<AccountClient>,
    /// The caches that know it.
    pub caches: Vec<String>,
    /// Whether it is meant when nobody is named.
    pub default: bool,
}

impl Account {
    #[cfg(feature = "cli")]
    pub(crate) fn new(account: CachedAccount, caches: Vec<String>, default: bool) -> Self {
        let client =
            |client: CachedClient| AccountClient { client_id: client.client_id, family_id: client.family_id };
        Self {
            username: account.username,
            home_account_id: account.home_account_id,
            home_tenant: account.home_tenant,
            environment: account.environment,
            tenants: account.realms,
            clients: account.clients.into_iter().map(client).collect(),
            caches,
            default,
        }
    }
}

#[cfg(feature = "cli")]
impl From<Account> for CachedAccount {
    fn from(account: Account) -> Self {
        let client =
            |client: AccountClient| CachedClient { client_id: client.client_id, family_id: client.family_id };
        Self {
            home_account_id: account.home_account_id,
            environment: account.environment,
            username: account.username,
            home_tenant: account.home_tenant,
            realms: account.tenants,
            clients: account.clients.into_iter().map(client).collect(),
        }
    }
}

/// A client that an account has a refresh token of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct AccountClient {
    /// The application.
    pub client_id: String,
    /// The family whose members share the refresh token.
    pub family_id: Option<String>,
}

/// Who is there.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Hello {
    /// The newest version of this protocol that the agent speaks.
    pub protocol: u32,
    /// The program and its version.
    pub agent: String,
    /// Its process.
    pub pid: u32,
    /// Whether it serves.
    pub state: State,
}

/// Whether the agent serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// It answers `locked`.
    Locked,
    /// It serves.
    Unlocked,
    /// A state of another version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Why the agent was locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LockReason {
    /// Somebody asked for it.
    Asked,
    /// Nobody had asked for a token for as long as was allowed.
    Idle,
    /// It had been unlocked for as long as was allowed.
    Limit,
    /// The user's session was locked.
    SessionLock,
    /// The machine was about to sleep.
    Suspend,
    /// A reason of another version.
    #[serde(other)]
    Unknown,
}

/// What the agent holds and does. No member holds a secret.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Status {
    /// The version of this form.
    pub version: u32,
    /// The newest version of the protocol that the agent speaks.
    pub protocol: u32,
    /// The program and its version.
    pub agent: String,
    /// Its process.
    pub pid: u32,
    /// Whether it serves.
    pub state: State,
    /// Why it is locked; `null` while it is not.
    pub locked_because: Option<LockReason>,
    /// Where it listens.
    pub socket: String,
    /// Since when, in seconds since 1970.
    pub started_at: i64,
    /// For how long.
    pub uptime_seconds: u64,
    /// In how many seconds it locks by itself, unless somebody uses it; `null` if it does not.
    pub locks_in_seconds: Option<u64>,
    /// The user's file that it goes by.
    pub config: ConfigStatus,
    /// Caches whose documents it holds.
    pub caches: Vec<HeldCache>,
    /// What it will renew by itself, the next one first.
    pub next_refreshes: Vec<NextRefresh>,
    /// Programs that asked lately, the latest first.
    pub clients: Vec<Client>,
    /// Connections that are open now.
    pub connections: u64,
    /// What happened since it started.
    pub counters: Counters,
}

/// The file of a user's choices, `config.toml`, and whether the agent goes by it as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ConfigStatus {
    /// Where it is, or would be.
    pub path: String,
    /// When the agent read what it goes by, in seconds since 1970.
    pub read_at: i64,
    /// Whether the system tells the agent of changes; else SIGHUP has to.
    pub is_watched: bool,
    /// Why it does not go by what is there now, but by what was there before; `null` if it does.
    pub problem: Option<String>,
    /// The next step then.
    pub hint: Option<String>,
}

/// A cache whose document the agent holds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HeldCache {
    /// Its full name, such as `msal.cache.nocae`.
    pub cache: String,
    /// What keeps it.
    pub place: String,
    /// Whether it is encrypted at rest.
    pub encrypted: bool,
    /// Who is in it.
    pub accounts: Vec<Who>,
}

/// A token that the agent will renew by itself.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct NextRefresh {
    /// Whose.
    pub username: String,
    /// Of which cache's name.
    pub cache: String,
    /// Of which tenant.
    pub tenant: String,
    /// What it is good for.
    pub scopes: Vec<String>,
    /// Whether it is for continuous access evaluation.
    pub enable_cae: bool,
    /// When it will be tried, in seconds since 1970.
    pub at: i64,
    /// When the present one expires.
    pub expires_on: i64,
    /// How often it failed in a row.
    pub failures: u32,
}

/// A program that asked.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Client {
    /// Its process, if the system told.
    pub pid: Option<i32>,
    /// What it calls itself, which proves nothing.
    pub claimed_name: Option<String>,
    /// Its program's file, and what is odd about that; empty before it asked for a token.
    pub executable: String,
    /// The program that started it.
    pub started_by: Option<String>,
    /// The grant through which it asks at a front door.
    pub grant: Option<String>,
    /// How often it asked.
    pub requests: u64,
    /// How often it asked for a token and got none.
    pub refused: u64,
    /// When it last did, in seconds since 1970.
    pub last_request_at: i64,
}

/// What happened since the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Counters {
    /// Requests for a token.
    pub token_requests: u64,
    /// Of them, answered from a cache.
    pub cache_hits: u64,
    /// Of them, answered by the provider.
    pub refreshes: u64,
    /// Tokens renewed ahead of their expiry.
    pub renewed_ahead: u64,
    /// Attempts at that which failed.
    pub ahead_failures: u64,
    /// Refusals of any request by their kind.
    pub refusals: std::collections::BTreeMap<String, u64>,
    /// Denials by what denied: a rule of the policy, by its name or line.
    pub denials: std::collections::BTreeMap<String, u64>,
    /// Connections that were closed to make room, or because nothing came over them.
    pub evictions: u64,
    /// Connections of other users, refused.
    pub strangers: u64,
    /// Requests that ended in a bug of the agent's.
    pub panics: u64,
}

/// Whether the agent serves now.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct StateAnswer {
    /// The version of this form.
    pub version: u32,
    /// Whether the agent serves.
    pub state: State,
}

#[cfg(feature = "cli")]
impl StateAnswer {
    pub(crate) const fn new(state: State) -> Self {
        Self { version: 1, state }
    }
}

//! Asking the user's agent, `tokenkeep agent`, which does the work once for every process.
//!
//! [`AgentClient`] is a [`TokenCredential`](crate::credential::TokenCredential): alone, or in a chain
//! before a credential that does without an agent. The [`protocol`] is HTTP over a Unix socket
//! or, on Windows, a named pipe.

pub mod protocol;

mod connection;
#[cfg(unix)]
pub(crate) mod place;
#[cfg(windows)]
#[path = "place/windows.rs"]
pub(crate) mod place;
mod refusal;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::cloud::{Authority, TenantId};
use crate::error::{Error, Result, Unavailable};
use crate::options::{Storage, TokenCachePersistenceOptions};
use crate::record::AuthenticationRecord;
use crate::store::Places;
use crate::time::UnixTime;
use crate::token::{AccessToken, TokenAccount, TokenDetails, TokenRequest, TokenSource};

#[cfg(feature = "cli")]
use self::protocol::Behind;
use self::protocol::{
    AskAccounts, AskToken, AskUnlock, Hello, State, StateAnswer, Status, StoreName, TokenAnswer,
};

pub use self::place::{PlaceError, socket_path};
pub use self::refusal::{Detail, ErrorAnswer, Meant, Provider, Reason, Refusal, Removed};

const CREDENTIAL: &str = "AgentClient";

/// A pipe may still let in whom nobody will answer: so often does the client come again,
const TRIES: usize = 50;

/// after so long.
const AGAIN: Duration = Duration::from_millis(20);

/// Gets tokens from the user's agent and never asks anybody.
///
/// Before anything is sent it is checked that the socket and its folder are this user's, and that
/// this user listens there. Without an agent it is [`Unavailable`], so a chain goes on.
///
/// ```no_run
/// use tokenkeep::agent_client::AgentClient;
/// use tokenkeep::credential::TokenCredential;
/// use tokenkeep::{Scopes, TokenRequest};
///
/// # async fn run() -> tokenkeep::Result<()> {
/// let agent = AgentClient::new()?.account("user@contoso.com");
/// let scopes = Scopes::new(["https://graph.microsoft.com/.default"])?;
/// let token = agent.get_token(&TokenRequest::new(scopes)).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct AgentClient {
    socket: PathBuf,
    ask: AskToken,
}

/// Why the agent gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It was not reached, or what it said was not understood.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It refused.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens there.
    #[error("no agent listens at {}", path.display())]
    Absent { path: PathBuf },
    /// The socket may be somebody else's.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The agent let go of the connection before it answered.
    #[error("the agent at {} broke off: {detail}", path.display())]
    Broken { path: PathBuf, detail: String },
    /// The agent does not answer, stopped doing so, or says what nobody understands.
    #[error("the agent at {} does not answer: {detail}", path.display())]
    Silent { path: PathBuf, detail: String },
}

/// An answer of whatever kind.
#[derive(Debug)]
struct Reply {
    is_success: bool,
    body: Bytes,
}

impl AgentClient {
    /// The agent of this process's user: `TOKENKEEP_SOCK`, else `$XDG_RUNTIME_DIR/tokenkeep/agent.sock`,
    /// else below the user's state. Nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Cache`] if neither the environment nor the system names a home folder.
    pub fn new() -> Result<Self> {
        let places = Places::of_current_user()?;
        Ok(Self::at(socket_path(&places.state)).of_home(&places))
    }

    /// The agent that listens at this socket.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), ask: AskToken::default() }
    }

    /// Wants an agent of this home only: another one has other caches.
    #[must_use]
    pub(crate) fn of_home(mut self, places: &Places) -> Self {
        self.ask.from.home = Some(places.home.clone());
        self.ask.from.state = Some(places.state.clone());
        self
    }

    /// Whose tokens: a username, a home account id, or the beginning of either. Without it the only
    /// account, else the default one.
    #[must_use]
    pub fn account(mut self, hint: impl Into<String>) -> Self {
        self.ask.account = Some(hint.into());
        self
    }

    /// The account of this record, with its client, tenant and authority.
    #[must_use]
    pub fn authentication_record(mut self, record: &AuthenticationRecord) -> Self {
        self.ask.record = serde_json::from_str(&record.serialize()).ok();
        self.ask.from.authority = Some(record.authority().to_string());
        self
    }

    /// The provider; the public cloud unless set.
    #[must_use]
    pub fn authority(mut self, authority: &Authority) -> Self {
        self.ask.from.authority = Some(authority.to_string());
        self
    }

    /// The cache that has the logins.
    #[must_use]
    pub fn cache_persistence_options(mut self, options: &TokenCachePersistenceOptions) -> Self {
        let from = &mut self.ask.from;
        from.cache = Some(options.name.as_str().to_owned());
        from.allow_unencrypted_storage = options.allow_unencrypted_storage;
        from.store = match options.storage {
            Storage::Auto => StoreName::Auto,
            Storage::Plaintext => StoreName::Plaintext,
            Storage::Platform => StoreName::Platform,
            Storage::Vault => StoreName::Vault,
        };
        self
    }

    /// The application; the Azure CLI's unless set.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.ask.from.client_id = Some(client_id.into());
        self
    }

    /// Takes an authority that is no cloud of Microsoft's as it is.
    #[must_use]
    pub const fn disable_instance_discovery(mut self, disable: bool) -> Self {
        self.ask.from.disable_instance_discovery = disable;
        self
    }

    /// The tenant, unless a request names one; the account's home tenant unless set.
    #[must_use]
    pub fn tenant_id(mut self, tenant: &TenantId) -> Self {
        self.ask.tenant = Some(tenant.to_string());
        self
    }

    /// Says for whom this program asks, which the agent believes of its own front doors.
    #[cfg(feature = "cli")]
    #[must_use]
    pub(crate) fn behind(mut self, behind: Behind) -> Self {
        self.ask.behind = Some(behind);
        self
    }

    /// Where the agent is expected.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who is there.
    ///
    /// # Errors
    /// [`Unavailable`] without an agent.
    pub async fn hello(&self) -> Result<Hello> {
        Ok(self.ask(Method::GET, protocol::HELLO, &()).await?)
    }

    /// What the agent holds and does.
    ///
    /// # Errors
    /// [`Unavailable`] without an agent.
    pub async fn status(&self) -> Result<Status> {
        Ok(self.ask(Method::GET, protocol::STATUS, &()).await?)
    }

    /// Who is signed in to the cache.
    ///
    /// # Errors
    /// [`Unavailable`] without an agent, and what the agent says of the cache.
    pub async fn accounts(&self) -> Result<Vec<protocol::Account>> {
        Ok(self.ask_accounts().await?)
    }

    /// Has the agent forget everything that it decrypted, and answer `locked` until [`Self::unlock`].
    /// When this returns it has begun anew, and nothing is in its memory.
    ///
    /// # Errors
    /// [`Unavailable`] without an agent.
    pub async fn lock(&self) -> Result<()> {
        let _state: StateAnswer = self.ask(Method::POST, protocol::LOCK, &()).await?;
        // It answers no connection before it begins anew, so this is answered by what comes after.
        match self.ask::<Hello>(Method::GET, protocol::HELLO, &()).await {
            Err(AskError::Refused(refusal)) if refusal.kind == protocol::LOCKED => Ok(()),
            answer => Ok(answer.map(drop)?),
        }
    }

    /// Has the agent serve again, by the vault's passphrase or recovery key. Without one it serves if
    /// its cache opens by itself: the platform's keyring, a key file, the kernel's keyring.
    ///
    /// # Errors
    /// [`Unavailable`] without an agent; [`Error::Relayed`] with what keeps the cache closed, or with
    /// the kind `unlock_too_soon` after several wrong passphrases.
    pub async fn unlock(&self, passphrase: Option<SecretString>) -> Result<()> {
        let ask = AskUnlock { passphrase };
        let _state: StateAnswer = self.ask(Method::POST, protocol::UNLOCK, &ask).await?;
        Ok(())
    }

    /// Ends the agent, once it has saved what the provider still owes.
    ///
    /// # Errors
    /// [`Unavailable`] without an agent.
    pub async fn shut_down(&self) -> Result<()> {
        let _state: StateAnswer = self.ask(Method::POST, protocol::SHUTDOWN, &()).await?;
        Ok(())
    }

    /// Who waits for a person's word, and what was said before.
    #[cfg(feature = "cli")]
    pub(crate) async fn consents(&self) -> Result<protocol::Consents> {
        Ok(self.ask(Method::GET, protocol::CONSENTS, &()).await?)
    }

    /// A person's word; it holds as `config.toml` says, or for so long.
    #[cfg(feature = "cli")]
    pub(crate) async fn answer_question(&self, id: &str, allow: bool, holds: Option<Duration>) -> Result<()> {
        let holds_seconds = holds.map(|holds| holds.as_secs());
        let ask = protocol::AskAnswer { id: id.to_owned(), allow, holds_seconds };
        let _done: protocol::DoneAnswer = self.ask(Method::POST, protocol::ANSWER, &ask).await?;
        Ok(())
    }

    /// Takes one word back, or all; how many that were.
    #[cfg(feature = "cli")]
    pub(crate) async fn forget_consent(&self, id: Option<&str>) -> Result<usize> {
        let ask = protocol::AskForget { id: id.map(str::to_owned) };
        let done: protocol::DoneAnswer = self.ask(Method::POST, protocol::FORGET, &ask).await?;
        Ok(done.count)
    }

    /// Whether there is a socket that is worth a question: a look at the file, and no more.
    pub(crate) fn is_there(&self) -> Result<bool, CallError> {
        connection::is_there(&self.socket)
    }

    /// The process that listens there, if the system tells; it may be one that answers nothing.
    pub(crate) async fn listener(&self) -> Option<i32> {
        connection::listener(&self.socket).await
    }

    /// Removes a socket that nobody listens on any more; tells whether there was one.
    ///
    /// # Errors
    /// What the place is, if it is not one of this user's, or what the file system says.
    pub(crate) fn remove_left_over(&self) -> Result<bool, CallError> {
        connection::remove_left_over(&self.socket)
    }

    pub(crate) async fn ask_hello(&self) -> Result<Hello, AskError> {
        self.ask(Method::GET, protocol::HELLO, &()).await
    }

    pub(crate) async fn ask_accounts(&self) -> Result<Vec<protocol::Account>, AskError> {
        let ask = AskAccounts { from: self.ask.from.clone() };
        let answer: protocol::AccountsAnswer = self.ask(Method::POST, protocol::ACCOUNTS, &ask).await?;
        Ok(answer.accounts)
    }

    pub(crate) async fn ask_token(&self, request: &TokenRequest) -> Result<AccessToken, AskError> {
        let mut ask = self.ask.clone();
        ask.scopes = request.scopes.iter().map(str::to_owned).collect();
        ask.claims = request.claims.as_ref().map(|claims| claims.as_str().to_owned());
        ask.tenant = request.tenant.as_ref().map(ToString::to_string).or(ask.tenant);
        ask.enable_cae = request.enable_cae;
        ask.min_validity = Some(request.min_validity.as_secs().try_into().unwrap_or(u32::MAX));
        ask.force_refresh = request.force_refresh;
        let answer: TokenAnswer = self.ask(Method::POST, protocol::TOKEN, &ask).await?;
        Ok(access_token(answer))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        question: &(impl Serialize + Sync),
    ) -> Result<T, AskError> {
        let odd = |detail: String| CallError::Silent { path: self.socket.clone(), detail };
        // Room enough that no half of a passphrase is left behind by growing.
        let mut body = Zeroizing::new(Vec::with_capacity(16 * 1024));
        serde_json::to_writer(&mut *body, question).map_err(|error| odd(error.to_string()))?;
        let mut may_repeat = matches!(target, protocol::TOKEN | protocol::ACCOUNTS);
        let Reply { is_success, body } = loop {
            match connection::call(&self.socket, method.clone(), target, body.clone()).await {
                Err(broken @ CallError::Broken { .. }) => match self.state().await {
                    // It lets go of whoever waits when it is locked. That is no reason to go round it.
                    Some(State::Locked) => return Err(AskError::Refused(Box::new(Refusal::locked()))),
                    // By all appearances it was unlocked since.
                    Some(State::Unlocked) if may_repeat => may_repeat = false,
                    _ => return Err(broken.into()),
                },
                reply => break reply?,
            }
        };
        if is_success {
            // The text itself may hold a token, so only where it went wrong is told.
            return serde_json::from_slice(&body)
                .map_err(|error| odd(format!("its answer breaks off at column {}", error.column())).into());
        }
        match serde_json::from_slice::<ErrorAnswer>(&body) {
            Ok(answer) if !answer.error.kind.is_empty() => Err(AskError::Refused(Box::new(answer.error))),
            _ => Err(odd("it refused without a reason".to_owned()).into()),
        }
    }
}

impl AgentClient {
    /// How whoever comes after the one that broke off is, if anybody does.
    async fn state(&self) -> Option<State> {
        for _ in 0..TRIES {
            let hello =
                connection::call(&self.socket, Method::GET, protocol::HELLO, Zeroizing::default()).await;
            if !matches!(hello, Err(CallError::Broken { .. })) {
                return Some(serde_json::from_slice::<Hello>(&hello.ok()?.body).ok()?.state);
            }
            tokio::time::sleep(AGAIN).await;
        }
        None
    }
}

impl CallError {
    /// Whether nobody listens.
    pub(crate) const fn is_absence(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// Whether somebody else may be behind it, which a person should know.
    pub(crate) const fn is_distrust(&self) -> bool {
        matches!(self, Self::Place(_))
    }

    /// What happened, without the place.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Broken { detail, .. } => format!("it broke off: {detail}"),
            Self::Silent { detail, .. } => detail.clone(),
            other => other.to_string(),
        }
    }

    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Absent { .. } => "start it: tokenkeep agent start".to_owned(),
            Self::Place(error) => error.hint(),
            Self::Broken { .. } => "see how it is: tokenkeep agent status".to_owned(),
            Self::Silent { .. } => {
                "start it anew: tokenkeep agent stop, then tokenkeep agent start".to_owned()
            }
        }
    }
}

impl From<AskError> for Error {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused(refusal) => refusal.into_error(),
            AskError::Call(error) => {
                Unavailable::Other { credential: CREDENTIAL, problem: error.to_string(), hint: error.hint() }
                    .into()
            }
        }
    }
}

fn access_token(answer: TokenAnswer) -> AccessToken {
    let account = answer.account.map(|who| TokenAccount::new(who.username, who.home_account_id));
    let details =
        TokenDetails::new(answer.token_type, answer.scopes, answer.tenant, answer.client_id, account);
    AccessToken::new(
        answer.token,
        UnixTime::from_seconds(answer.expires_on),
        answer.refresh_on.map(UnixTime::from_seconds),
        TokenSource::Agent,
        Arc::new(details),
    )
}

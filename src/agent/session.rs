//! Whether the agent serves, or answers `locked`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::agent_client::protocol::State;
use crate::error::{CacheError, Error, ProtectorError, VaultError};
use crate::process::since_boot;
use crate::store::Store;

use super::attempts::Attempts;
use super::clocks::Clocks;
use super::counters::Counters;
use super::engine::{Engine, Surroundings};
use super::unlock;

/// How long an end waits for answers that providers still owe.
pub(super) const SETTLE: Duration = Duration::from_secs(15);

/// Timers stand still while the machine sleeps, so the clocks are looked at again after so long.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);

/// The one place that holds what is decrypted.
#[derive(Debug)]
pub(super) struct Session {
    now: Mutex<Now>,
    surroundings: Surroundings,
    counters: Arc<Counters>,
    /// One lock at a time; the others wait until it is done.
    locking: tokio::sync::Mutex<()>,
    /// One attempt at a time, and how many went wrong.
    unlocking: tokio::sync::Mutex<Attempts>,
    unlocked: Notify,
    over: Notify,
    stop: watch::Sender<bool>,
}

/// Locked, there is no engine: nothing can be answered by mistake.
#[derive(Debug)]
enum Now {
    Unlocked(Held),
    /// Everything was let go of, and this process is about to begin anew. It is not unlocked any more.
    Leaving,
    Locked,
}

#[derive(Debug)]
struct Held {
    engine: Arc<Engine>,
    clocks: Clocks,
    /// Keeps open what a secret opened.
    opened: Option<Arc<dyn Store>>,
}

/// Why the agent stays locked.
#[derive(Debug)]
pub(super) enum NotUnlocked {
    /// What was given does not open the cache, or nothing does by itself.
    Cache(CacheError),
    /// The agent is on its way out of memory.
    Leaving,
    /// There were too many wrong secrets.
    TooSoon { wait: Duration },
}

impl Session {
    pub(super) fn new(
        is_locked: bool,
        surroundings: Surroundings,
        counters: Arc<Counters>,
        stop: watch::Sender<bool>,
    ) -> Self {
        let session = Self {
            now: Mutex::new(Now::Locked),
            surroundings,
            counters,
            locking: tokio::sync::Mutex::default(),
            unlocking: tokio::sync::Mutex::default(),
            unlocked: Notify::new(),
            over: Notify::new(),
            stop,
        };
        if !is_locked {
            *session.now() = Now::Unlocked(session.hold(None));
        }
        session
    }

    /// What answers somebody who has to do with secrets; `None` while locked.
    pub(super) fn engine(&self) -> Option<Arc<Engine>> {
        match &mut *self.now() {
            Now::Unlocked(held) => {
                let now = since_boot();
                if held.clocks.is_over(now) {
                    // After a sleep a client may be here before the timer is.
                    self.over.notify_one();
                    return None;
                }
                held.clocks.used(now);
                Some(Arc::clone(&held.engine))
            }
            Now::Leaving | Now::Locked => None,
        }
    }

    /// The engine to look at, which is no use of it.
    pub(super) fn look(&self) -> Option<Arc<Engine>> {
        match &*self.now() {
            Now::Unlocked(held) => Some(Arc::clone(&held.engine)),
            Now::Leaving | Now::Locked => None,
        }
    }

    pub(super) fn state(&self) -> State {
        match &*self.now() {
            Now::Unlocked(_) => State::Unlocked,
            Now::Leaving | Now::Locked => State::Locked,
        }
    }

    /// Whether this process has something in memory that it shall not have any more.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(*self.now(), Now::Leaving)
    }

    /// How long it is until the agent locks by itself.
    pub(super) fn left(&self) -> Option<Duration> {
        match &*self.now() {
            Now::Unlocked(held) => held.clocks.left(since_boot()),
            Now::Leaving | Now::Locked => None,
        }
    }

    /// Lets go of everything and has the server stop, so that the process can begin anew. What
    /// providers still owe is saved first, so that no renewed refresh token is lost.
    ///
    /// To be run to its end, whoever wanted it.
    pub(super) async fn lock(&self) {
        let _turn = self.locking.lock().await;
        let before = {
            let mut now = self.now();
            if !matches!(*now, Now::Unlocked(_)) {
                return;
            }
            std::mem::replace(&mut *now, Now::Leaving)
        };
        if let Now::Unlocked(held) = before
            && timeout(SETTLE, held.engine.settled()).await.is_err()
        {
            tracing::warn!("a provider did not answer before the agent was locked");
        }
        self.stop.send_replace(true);
    }

    /// Locks when a clock has run down. Ends with that, as this process does.
    pub(super) async fn lock_in_time(&self) {
        loop {
            let wait = match self.left() {
                Some(left) if left.is_zero() => return self.lock().await,
                Some(left) => left.min(LONGEST_SLEEP),
                None => Duration::MAX,
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.unlocked.notified() => {}
                () = self.over.notified() => {}
            }
        }
    }

    /// Serves again, with everything read anew, if the agent's own cache opens: the vault by the
    /// secret, or whatever it is as it does for any program of this user.
    ///
    /// To be run to its end, whoever wanted it: each failure counts.
    pub(super) async fn unlock(&self, secret: Option<SecretString>) -> Result<(), NotUnlocked> {
        let mut attempts = self.unlocking.lock().await;
        if self.is_leaving() {
            return Err(NotUnlocked::Leaving);
        }
        if secret.is_some() {
            attempts.may_try(since_boot()).map_err(|wait| NotUnlocked::TooSoon { wait })?;
        }
        let (own, places) = (self.surroundings.cache.clone(), self.surroundings.places.clone());
        let is_attempt = secret.is_some();
        let opening = tokio::task::spawn_blocking(move || unlock::open(&own, &places, secret));
        let opened = match opening.await {
            Ok(opened) => opened,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(NotUnlocked::Leaving),
            },
        };
        let opened = opened.map_err(|error| {
            if is_attempt && is_wrong_secret(&error) {
                attempts.failed(since_boot());
            }
            NotUnlocked::Cache(error)
        })?;
        attempts.succeeded();
        let mut now = self.now();
        match &mut *now {
            Now::Leaving => return Err(NotUnlocked::Leaving),
            Now::Locked => *now = Now::Unlocked(self.hold(opened)),
            // It had no way into the vault, or not into the vault as it is now.
            Now::Unlocked(held) => held.opened = opened.or_else(|| held.opened.take()),
        }
        drop(now);
        self.unlocked.notify_one();
        Ok(())
    }

    /// Waits until every answer that providers still owe is saved.
    pub(super) async fn settled(&self) {
        if let Some(engine) = self.look() {
            engine.settled().await;
        }
    }

    fn hold(&self, opened: Option<Arc<dyn Store>>) -> Held {
        Held {
            engine: Engine::start(self.surroundings.clone(), Arc::clone(&self.counters)),
            clocks: Clocks::started(self.surroundings.lock_after, since_boot()),
            opened,
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NotUnlocked {
    pub(super) fn told(self) -> crate::agent_client::ErrorAnswer {
        use crate::agent_client::{ErrorAnswer, protocol};
        match self {
            Self::Cache(error) => ErrorAnswer::of(&Error::Cache(error)),
            Self::Leaving => {
                let hint = "try again".to_owned();
                ErrorAnswer::told(protocol::LOCKED, "the agent is being locked just now", Some(hint))
            }
            Self::TooSoon { wait } => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                ErrorAnswer::told(
                    protocol::TOO_SOON,
                    "too many wrong passphrases were given",
                    Some(format!("try again in {}", crate::time::in_words(Duration::from_secs(seconds)))),
                )
                .after(seconds)
            }
        }
    }
}

fn is_wrong_secret(error: &CacheError) -> bool {
    matches!(
        error,
        CacheError::Vault(VaultError::Protector { source: ProtectorError::WrongSecret { .. }, .. })
    )
}

//! Whether the agent serves, or answers `locked`.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::agent_client::protocol::{LockReason, State};
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

/// How long a lock does. Before a suspend the machine waits five seconds for all of it.
pub(super) const fn patience_before(because: LockReason) -> Duration {
    match because {
        LockReason::Suspend => Duration::from_secs(2),
        _ => SETTLE,
    }
}

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
    /// Whether it is unlocked, for whoever has work only then.
    unlocked: watch::Sender<bool>,
    over: Notify,
    /// A lock that waits for providers has to be done soon.
    hurry: Notify,
    stop: watch::Sender<bool>,
}

/// Locked, there is no engine: nothing can be answered by mistake.
#[derive(Debug)]
enum Now {
    Unlocked(Held),
    /// Everything was let go of, and this process is about to begin anew. It is not unlocked any more.
    Leaving(LockReason),
    Locked(LockReason),
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
        locked_because: Option<LockReason>,
        surroundings: Surroundings,
        counters: Arc<Counters>,
        stop: watch::Sender<bool>,
    ) -> Self {
        let session = Self {
            now: Mutex::new(Now::Locked(locked_because.unwrap_or(LockReason::Unknown))),
            surroundings,
            counters,
            locking: tokio::sync::Mutex::default(),
            unlocking: tokio::sync::Mutex::default(),
            unlocked: watch::Sender::new(locked_because.is_none()),
            over: Notify::new(),
            hurry: Notify::new(),
            stop,
        };
        if locked_because.is_none() {
            *session.now() = Now::Unlocked(session.hold(None));
        }
        session
    }

    /// What answers somebody who has to do with secrets; `None` while locked.
    pub(super) fn engine(&self) -> Option<Arc<Engine>> {
        match &mut *self.now() {
            Now::Unlocked(held) => {
                let now = since_boot();
                if held.clocks.over(now).is_some() {
                    // After a sleep a client may be here before the timer is.
                    self.over.notify_one();
                    return None;
                }
                held.clocks.used(now);
                Some(Arc::clone(&held.engine))
            }
            Now::Leaving(_) | Now::Locked(_) => None,
        }
    }

    /// The engine to look at, which is no use of it.
    pub(super) fn look(&self) -> Option<Arc<Engine>> {
        match &*self.now() {
            Now::Unlocked(held) => Some(Arc::clone(&held.engine)),
            Now::Leaving(_) | Now::Locked(_) => None,
        }
    }

    pub(super) fn state(&self) -> State {
        if self.locked_because().is_none() { State::Unlocked } else { State::Locked }
    }

    /// Why it is locked; `None` while it is not.
    pub(super) fn locked_because(&self) -> Option<LockReason> {
        match *self.now() {
            Now::Unlocked(_) => None,
            Now::Leaving(reason) | Now::Locked(reason) => Some(reason),
        }
    }

    /// Why this process has something in memory that it shall not have any more, if it does.
    pub(super) fn leaves_because(&self) -> Option<LockReason> {
        match *self.now() {
            Now::Leaving(reason) => Some(reason),
            Now::Unlocked(_) | Now::Locked(_) => None,
        }
    }

    /// Waits until it is unlocked.
    #[cfg(target_os = "linux")]
    pub(super) async fn unlocked(&self) {
        // It ends with this session only.
        self.unlocked.subscribe().wait_for(|unlocked| *unlocked).await.ok();
    }

    /// How long it is until the agent locks by itself.
    pub(super) fn left(&self) -> Option<Duration> {
        match &*self.now() {
            Now::Unlocked(held) => held.clocks.left(since_boot()),
            Now::Leaving(_) | Now::Locked(_) => None,
        }
    }

    fn over(&self) -> Option<LockReason> {
        match &*self.now() {
            Now::Unlocked(held) => held.clocks.over(since_boot()),
            Now::Leaving(_) | Now::Locked(_) => None,
        }
    }

    /// Lets go of everything and has the server stop, so that the process can begin anew. What
    /// providers still owe is saved first, so that no renewed refresh token is lost.
    ///
    /// To be run to its end, whoever wanted it.
    pub(super) async fn lock(&self, because: LockReason) {
        let patience = patience_before(because);
        let _turn = tokio::select! {
            biased;
            turn = self.locking.lock() => turn,
            never = self.hurry_after(patience) => match never {},
        };
        let before = {
            let mut now = self.now();
            if !matches!(*now, Now::Unlocked(_)) {
                return;
            }
            std::mem::replace(&mut *now, Now::Leaving(because))
        };
        tracing::info!(?because, "locking");
        if let Now::Unlocked(held) = before {
            tokio::select! {
                biased;
                () = held.engine.settled() => {}
                () = sleep(patience) => tracing::warn!("a provider did not answer in {patience:?}"),
                () = self.hurry.notified() => tracing::warn!("the machine did not wait for a provider"),
            }
        }
        self.stop.send_replace(true);
    }

    /// Has a lock that is under way come to its end.
    async fn hurry_after(&self, patience: Duration) -> Infallible {
        sleep(patience).await;
        self.hurry.notify_one();
        std::future::pending().await
    }

    /// Locks when a clock has run down. Ends with that, as this process does.
    pub(super) async fn lock_in_time(&self) {
        let mut unlocked = self.unlocked.subscribe();
        let mut chosen = self.surroundings.chosen.subscribe();
        loop {
            if let Now::Unlocked(held) = &mut *self.now() {
                held.clocks.limit(chosen.borrow_and_update().lock_after);
            }
            if let Some(reason) = self.over() {
                return self.lock(reason).await;
            }
            let wait = self.left().map_or(Duration::MAX, |left| left.min(LONGEST_SLEEP));
            tokio::select! {
                () = sleep(wait) => {}
                Ok(()) = unlocked.changed() => {}
                Ok(()) = chosen.changed() => {}
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
        if self.leaves_because().is_some() {
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
            Now::Leaving(_) => return Err(NotUnlocked::Leaving),
            Now::Locked(_) => *now = Now::Unlocked(self.hold(opened)),
            // It had no way into the vault, or not into the vault as it is now.
            Now::Unlocked(held) => held.opened = opened.or_else(|| held.opened.take()),
        }
        drop(now);
        self.unlocked.send_replace(true);
        Ok(())
    }

    /// Waits until every answer that providers still owe is saved.
    pub(super) async fn settled(&self) {
        match self.look() {
            Some(engine) => engine.settled().await,
            // A lock that is under way waits for them, and has the engine.
            None => drop(self.locking.lock().await),
        }
    }

    fn hold(&self, opened: Option<Arc<dyn Store>>) -> Held {
        Held {
            engine: Engine::start(self.surroundings.clone(), Arc::clone(&self.counters)),
            clocks: Clocks::started(self.surroundings.chosen.now().lock_after, since_boot()),
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

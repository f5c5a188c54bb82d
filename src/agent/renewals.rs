//! Renews what clients asked for before it expires, a few at a time, for as long as the engine lives.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::acquire::AccountChoice;
use crate::agent_client::protocol::NextRefresh;
use crate::cloud::TenantId;
use crate::error::Error;
use crate::time::{Clock, UnixTime};
use crate::token::{AccessToken, Scopes, TokenRequest};

use super::ahead::{Ahead, Life};
use super::counters::Counters;
use super::shelf::{Line, Shelf};

/// How many renewals ahead may ask providers at a time.
const AT_A_TIME: usize = 4;

/// The wall clock may be set, and a sleeping machine's timers stand still: never sleep longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// A token that is kept fresh.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Upkeep {
    pub(super) line: Line,
    pub(super) account: AccountChoice,
    pub(super) tenant: TenantId,
    pub(super) scopes: Scopes,
    pub(super) enable_cae: bool,
}

/// Everything that is kept fresh.
#[derive(Debug)]
pub(super) struct Renewals {
    ahead: Mutex<Ahead<Upkeep>>,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
    replanned: Arc<Notify>,
    shelf: Arc<Shelf>,
}

impl Renewals {
    pub(super) fn new(shelf: Arc<Shelf>, clock: Arc<dyn Clock>, counters: Arc<Counters>) -> Self {
        Self { ahead: Mutex::default(), clock, counters, replanned: Arc::default(), shelf }
    }

    /// The work that goes on by itself. It holds nothing that is decrypted while it waits.
    pub(super) fn drive(self: &Arc<Self>) -> JoinHandle<()> {
        tokio::spawn(renew_what_is_due(Arc::downgrade(self), Arc::clone(&self.replanned)))
    }

    /// Notes that somebody was given this token, and will want the next one.
    pub(super) fn keep_fresh(&self, upkeep: &Upkeep, token: &AccessToken) {
        let now = self.clock.now();
        if self.ahead().asked(upkeep, life(token), now, jitter) {
            self.replanned.notify_one();
        }
    }

    pub(super) fn next(&self) -> Vec<NextRefresh> {
        let ahead = self.ahead();
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

    async fn renew(&self, upkeep: &Upkeep, expires_on: UnixTime) {
        let now = self.clock.now();
        // Only a token that lives longer than the one there is counts as fresh.
        let fresh = now.until(expires_on) + Duration::from_secs(1);
        let request =
            TokenRequest::new(upkeep.scopes.clone()).enable_cae(upkeep.enable_cae).min_validity(fresh);
        let caches = self.shelf.caches(&upkeep.line.cache.options());
        let renewed = match self.shelf.line(&upkeep.line, &caches) {
            Ok(line) => line.renew(&upkeep.account, &upkeep.tenant, &request).await,
            Err(error) => Some(Err(error)),
        };
        let now = self.clock.now();
        let mut ahead = self.ahead();
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

    fn ahead(&self) -> MutexGuard<'_, Ahead<Upkeep>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn renew_what_is_due(renewals: Weak<Renewals>, replanned: Arc<Notify>) {
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    loop {
        let Some(strong) = renewals.upgrade() else { return };
        let now = strong.clock.now();
        let due = strong.ahead().take_due(now);
        for (upkeep, expires_on) in due {
            let (turns, renewals) = (Arc::clone(&turns), Weak::clone(&renewals));
            tokio::spawn(async move {
                let _turn = turns.acquire().await;
                if let Some(renewals) = renewals.upgrade() {
                    renewals.renew(&upkeep, expires_on).await;
                    renewals.replanned.notify_one();
                }
            });
        }
        let next = strong.ahead().next();
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

const fn life(token: &AccessToken) -> Life {
    Life { expires_on: token.expires_on, refresh_on: token.refresh_on }
}

fn jitter() -> u8 {
    let mut byte = [0];
    // Without randomness the moment is only not spread.
    getrandom::fill(&mut byte).ok();
    byte[0]
}

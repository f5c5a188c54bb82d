//! Requests that need not be made again just yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::document::TokenCacheDocument;
use crate::error::Error;
use crate::time::UnixTime;

use super::FlightKey;

/// An identical request that the provider refused is answered from memory for so long
/// (spec S-B 2.7).
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// A token that is still valid is not tried to be renewed more often than this (spec S-B 2.2).
const BETWEEN_RENEWALS: Duration = Duration::from_secs(30);

/// What this process knows of requests that went wrong.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    refused: Mutex<HashMap<FlightKey, Refusal>>,
    renewals: Mutex<HashMap<FlightKey, UnixTime>>,
}

#[derive(Debug)]
struct Refusal {
    error: Error,
    until: UnixTime,
    /// The cache at that time: once it changed, the answer may be another.
    document: Arc<TokenCacheDocument>,
}

impl Throttle {
    /// The error that this very request got a moment ago, if nothing has changed since.
    pub(super) fn answer(
        &self,
        wanted: &FlightKey,
        document: &Arc<TokenCacheDocument>,
        now: UnixTime,
    ) -> Option<Error> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = refused.get(wanted)?;
        let still = now < refusal.until && Arc::ptr_eq(&refusal.document, document);
        still.then(|| refusal.error.clone())
    }

    /// Remembers an answer that the provider gave: its refusal, or when to come back.
    pub(super) fn remember(
        &self,
        wanted: &FlightKey,
        document: Arc<TokenCacheDocument>,
        error: &Error,
        now: UnixTime,
    ) {
        let wait = match error {
            Error::Network(network) => network.retry_after,
            _ => error.provider().map(|_| REFUSED_FOR),
        };
        let Some(wait) = wait else { return };
        let refusal = Refusal { error: error.clone(), until: now.after(wait), document };
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, old| now < old.until);
        refused.insert(wanted.clone(), refusal);
    }

    /// Whether a valid token may be tried to be renewed now; if so, not again for a while.
    pub(super) fn may_renew(&self, wanted: &FlightKey, now: UnixTime) -> bool {
        let mut renewals = self.renewals.lock().unwrap_or_else(PoisonError::into_inner);
        renewals.retain(|_, next| now < *next);
        let may = !renewals.contains_key(wanted);
        if may {
            renewals.insert(wanted.clone(), now.after(BETWEEN_RENEWALS));
        }
        may
    }
}

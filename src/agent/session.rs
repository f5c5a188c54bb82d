//! Whether the agent serves, or answers `locked`.

use std::sync::{Arc, Mutex, PoisonError};

use crate::agent_client::protocol::State;

use super::counters::Counters;
use super::engine::{Engine, Surroundings};

/// The one place that holds what is decrypted.
#[derive(Debug)]
pub(super) struct Session {
    now: Mutex<Now>,
    surroundings: Surroundings,
    counters: Arc<Counters>,
}

/// Locked, there is no engine: nothing can be answered by mistake.
#[derive(Debug)]
enum Now {
    Unlocked(Arc<Engine>),
    Locked,
}

impl Session {
    pub(super) fn unlocked(surroundings: Surroundings, counters: Arc<Counters>) -> Self {
        let engine = Engine::start(surroundings.clone(), Arc::clone(&counters));
        Self { now: Mutex::new(Now::Unlocked(engine)), surroundings, counters }
    }

    /// What answers; `None` while locked.
    pub(super) fn engine(&self) -> Option<Arc<Engine>> {
        match &*self.now.lock().unwrap_or_else(PoisonError::into_inner) {
            Now::Unlocked(engine) => Some(Arc::clone(engine)),
            Now::Locked => None,
        }
    }

    pub(super) fn state(&self) -> State {
        match &*self.now.lock().unwrap_or_else(PoisonError::into_inner) {
            Now::Unlocked(_) => State::Unlocked,
            Now::Locked => State::Locked,
        }
    }

    /// Lets go of everything. What the provider still owes is saved first, so that no renewed refresh
    /// token is lost.
    pub(super) async fn lock(&self) {
        let before =
            std::mem::replace(&mut *self.now.lock().unwrap_or_else(PoisonError::into_inner), Now::Locked);
        if let Now::Unlocked(engine) = before {
            engine.settled().await;
        }
    }

    /// Waits until every answer that providers still owe is saved.
    pub(super) async fn settled(&self) {
        if let Some(engine) = self.engine() {
            engine.settled().await;
        }
    }

    /// Serves again, with everything read anew.
    pub(super) fn unlock(&self) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*now, Now::Locked) {
            *now = Now::Unlocked(Engine::start(self.surroundings.clone(), Arc::clone(&self.counters)));
        }
    }
}

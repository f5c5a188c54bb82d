//! What logind announces: that the machine is about to sleep, and that a session is locked.
//!
//! Only while the agent is unlocked, and only where there is a logind. A sleep is put off until
//! nothing is left in memory: the system takes the [`Inhibitor`] back from the program that ends.
//!
//! Every session of the user counts, because the agent serves all of them.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::chosen::InForce;
use super::session::Session;

#[cfg(target_os = "linux")]
mod bus;

#[cfg(target_os = "linux")]
pub(crate) use self::bus::Inhibitor;

/// Which announcements lock the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct LockOn {
    pub(crate) session_lock: bool,
    pub(crate) suspend: bool,
}

impl Default for LockOn {
    fn default() -> Self {
        Self { session_lock: true, suspend: true }
    }
}

/// As long as it is kept the machine does not sleep, for some seconds.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) enum Inhibitor {}

/// Where the inhibitor is that is held now.
#[derive(Debug, Default)]
pub(super) struct Delay(Mutex<Option<Inhibitor>>);

impl Delay {
    pub(super) fn take(&self) -> Option<Inhibitor> {
        self.replace(None)
    }

    fn replace(&self, now: Option<Inhibitor>) -> Option<Inhibitor> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

/// Locks the session when logind announces what it is to be locked on, as that is chosen at the time.
pub(super) async fn watch(session: Arc<Session>, chosen: watch::Receiver<Arc<InForce>>, delay: Arc<Delay>) {
    #[cfg(target_os = "linux")]
    bus::watch(session, chosen, &delay).await;
    #[cfg(not(target_os = "linux"))]
    drop((session, chosen, delay));
}

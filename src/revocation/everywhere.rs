//! Every cache of the user is cleared of what the provider called dead.

use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{DeadGrant, DeadGrantObserver};
use crate::error::{CacheError, RemovedGrant};
use crate::store::{self, Places, Store, Writing};
use crate::time::Deadline;

use super::known::Known;
use super::memory::Memory;
use super::plan::{DeadEntry, dead_entries, removal_of};

/// How long it may take in all. What was not reached by then is found by the next refusal, or by
/// `tokenkeep clear --stale`.
const ALL: Duration = Duration::from_secs(10);
/// How long one cache's own programs may keep us from it.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Removes dead refresh tokens from the caches of every tool on this machine, as a
/// [`DeadGrantObserver`].
///
/// What cannot be read or written is left alone, with a line in the log. Nobody is asked for a
/// password: a locked keyring stays locked.
///
/// ```
/// use std::sync::Arc;
/// use tokenkeep::credential::CredentialOptions;
/// use tokenkeep::revocation::Everywhere;
/// use tokenkeep::store::Places;
///
/// # fn main() -> tokenkeep::Result<()> {
/// let everywhere = Everywhere::new(Places::of_current_user()?);
/// let options = CredentialOptions::default().dead_grant_observer(Arc::new(everywhere));
/// # let _ = options;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Everywhere {
    places: Places,
    stores: Vec<Arc<dyn Store>>,
}

impl Everywhere {
    /// The caches of the user whose folders these are.
    #[must_use]
    pub const fn new(places: Places) -> Self {
        Self { places, stores: Vec::new() }
    }

    /// These stores as well, such as a vault's.
    #[must_use]
    pub fn and_stores(mut self, stores: impl IntoIterator<Item = Arc<dyn Store>>) -> Self {
        self.stores.extend(stores);
        self
    }

    fn stores(&self) -> impl Iterator<Item = Arc<dyn Store>> {
        let silos = store::silos(&self.places).into_iter();
        let writable = silos.filter(|silo| !matches!(silo.writing(), Writing::ReadOnly { .. }));
        self.stores.clone().into_iter().chain(writable.map(|silo| silo.open()))
    }
}

impl DeadGrantObserver for Everywhere {
    fn grants_died(&self, dead: &[DeadGrant]) -> Vec<RemovedGrant> {
        let Some(first) = dead.first() else { return Vec::new() };
        let known = Memory::of(&self.places).remember(dead, first.at).or_else(|error| {
            tracing::warn!(%error, "dead refresh tokens could not be noted; they are removed all the same");
            let mut known = Known::nothing()?;
            dead.iter().for_each(|grant| known.note(grant));
            Ok::<_, CacheError>(known)
        });
        let Ok(known) = known.inspect_err(|error| tracing::warn!(%error, "dead refresh tokens stay")) else {
            return Vec::new();
        };
        let deadline = Deadline::within(ALL);
        let mut removed = Vec::new();
        for store in self.stores() {
            if deadline.has_passed() {
                tracing::warn!("not every cache was cleared of dead refresh tokens; there was no time");
                break;
            }
            match clear(store.as_ref(), &known) {
                Ok(gone) => removed.extend(gone.into_iter().map(|entry| grant(entry, store.as_ref(), first))),
                Err(error) => tracing::debug!(%error, "a cache was not cleared of dead refresh tokens"),
            }
        }
        removed
    }
}

/// Removes what is known to be dead from one cache, and tells what went.
fn clear(store: &dyn Store, known: &Known) -> Result<Vec<DeadEntry>, CacheError> {
    let dead = dead_entries(&store.load()?.document, known);
    if dead.is_empty() {
        return Ok(dead);
    }
    let applied = store.apply(&removal_of(&dead), Deadline::within(LOCK_WAIT)).inspect_err(|error| {
        tracing::warn!(%error, "dead refresh tokens could not be removed");
    })?;
    let document = &applied.snapshot.document;
    Ok(dead.into_iter().filter(|entry| applied.changed && !entry.is_in(document)).collect())
}

fn grant(entry: DeadEntry, store: &dyn Store, first: &DeadGrant) -> RemovedGrant {
    let is_first = entry.username.is_empty() && entry.home_account_id == first.home_account_id;
    let username = if is_first { first.username.clone() } else { entry.username };
    let (cache, code) = (store.describe().to_string(), entry.cause.code().to_owned());
    RemovedGrant::new(username, entry.home_account_id, entry.client_id, cache, code)
}

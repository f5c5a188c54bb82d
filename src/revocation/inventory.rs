//! Every cache on the machine as it is now.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::error::{CacheError, VaultError};
use crate::store::vault::{LockedVault, ProtectorSummary};
use crate::store::{Content, Place, Places, Silo, SiloFacts, damaged_copies, silos};

/// Enough to have all caches read while one of them is slow.
const MOST_THREADS: usize = 8;

/// A cache, and what was found of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Survey {
    /// Which.
    pub silo: Silo,
    /// What it is and holds.
    pub facts: SiloFacts,
    /// The file that a killed write of ours left beside it.
    pub temporary: Option<PathBuf>,
    /// What stands in the place of its locks and is no file.
    pub odd_locks: Vec<PathBuf>,
}

impl Survey {
    fn of(silo: Silo) -> Self {
        let mut facts = silo.facts();
        // somebody may be writing it in place at this very moment; the store has the patience
        if matches!(
            (&facts.content, silo.place()),
            (Content::Unreadable(CacheError::Damaged { .. }), Place::File(_))
        ) && silo.open().load().is_ok()
        {
            facts = silo.facts();
        }
        let (temporary, odd_locks) = (silo.temporary_left_behind(), silo.odd_locks());
        Self { silo, facts, temporary, odd_locks }
    }

    /// Whether there is anything to tell. A keyring that does not answer is told once, not for
    /// each cache that could be in it.
    fn is_something(&self) -> bool {
        self.facts.exists || !self.facts.locks.is_empty() || self.temporary.is_some()
    }
}

/// Looks at every place in which a tool may keep a cache, several at a time, and lists those where
/// there is something, and what was set aside beside them in its time. Changes nothing; a keyring
/// gets one connection for all that is asked of it.
#[must_use]
pub fn survey(places: &Places) -> (Vec<Survey>, Vec<PathBuf>) {
    let silos = silos(places);
    let folders: BTreeSet<&Path> = silos.iter().filter_map(Silo::folder).collect();
    let copies = folders.into_iter().flat_map(damaged_copies).collect();
    let waiting: Vec<Mutex<Option<Silo>>> = silos.into_iter().map(|silo| Mutex::new(Some(silo))).collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::with_capacity(waiting.len()));
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(slot) = waiting.get(place) else { return };
            let silo = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            let surveyed = silo.map(Survey::of).filter(Survey::is_something);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(surveyed.map(|survey| (place, survey)));
        }
    };
    thread::scope(|scope| {
        for _ in 1..waiting.len().min(MOST_THREADS) {
            scope.spawn(work);
        }
        work();
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(place, _)| *place);
    (found.into_iter().map(|(_, survey)| survey).collect(), copies)
}

/// The user's vault, as far as it shows itself without a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum VaultSurvey {
    /// There is none.
    Absent,
    /// It is sound as far as one can see, and locked until somebody opens it.
    Sealed {
        /// Its file.
        path: PathBuf,
        /// In bytes.
        size: u64,
        /// The ways to open it.
        protectors: Vec<ProtectorSummary>,
    },
    /// It cannot be used.
    Unusable {
        /// Its file.
        path: PathBuf,
        /// Why.
        error: VaultError,
    },
}

impl VaultSurvey {
    pub(super) fn of(path: &Path) -> Self {
        let path = path.to_owned();
        match LockedVault::open(&path) {
            Ok(vault) => Self::Sealed {
                size: path.metadata().map_or(0, |metadata| metadata.len()),
                protectors: vault.protectors(),
                path,
            },
            Err(VaultError::Absent { .. }) => Self::Absent,
            Err(error) => Self::Unusable { path, error },
        }
    }
}

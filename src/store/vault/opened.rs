//! A cache of the user's vault, which is unlocked when it is first needed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::document::ChangeSet;
use crate::error::{CacheError, VaultError};
use crate::store::{Applied, Signal, Snapshot, Stamp, Store, StoreDescription};
use crate::time::Deadline;

use super::VaultStore;
use super::file;
use super::unlocking::{self, Unlocking};

/// Unlocks again when another process gave the vault a new data key or restored a backup.
pub(in crate::store) struct OpenedStore {
    path: PathBuf,
    cache: String,
    unlocking: Arc<dyn Unlocking>,
    store: Mutex<Option<Arc<VaultStore>>>,
}

impl OpenedStore {
    pub(in crate::store) fn new(path: &Path, cache: &str, unlocking: Arc<dyn Unlocking>) -> Self {
        Self { path: path.to_owned(), cache: cache.to_owned(), unlocking, store: Mutex::new(None) }
    }

    fn store(&self) -> Result<Arc<VaultStore>, CacheError> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = store.as_ref() {
            return Ok(Arc::clone(store));
        }
        let vault = unlocking::open(&self.path, self.unlocking.as_ref())?;
        Ok(Arc::clone(store.insert(Arc::new(vault.store(&self.cache)))))
    }

    fn work<T>(&self, work: impl Fn(&VaultStore) -> Result<T, CacheError>) -> Result<T, CacheError> {
        match work(&*self.store()?) {
            Err(CacheError::Vault(VaultError::Rekeyed { .. } | VaultError::StaleHandle { .. })) => {
                *self.store.lock().unwrap_or_else(PoisonError::into_inner) = None;
                work(&*self.store()?)
            }
            done => done,
        }
    }
}

impl Store for OpenedStore {
    fn describe(&self) -> StoreDescription {
        StoreDescription {
            cache: self.cache.clone(),
            place: format!("vault {}", self.path.display()),
            encrypted: true,
        }
    }

    fn stamp(&self) -> Result<Stamp, CacheError> {
        self.work(Store::stamp)
    }

    fn signals(&self) -> Vec<Signal> {
        file::signals(&self.path)
    }

    fn load(&self) -> Result<Snapshot, CacheError> {
        self.work(Store::load)
    }

    fn load_account(&self, home_account_id: &str) -> Result<Snapshot, CacheError> {
        self.work(|store| store.load_account(home_account_id))
    }

    fn apply(&self, changes: &ChangeSet, deadline: Deadline) -> Result<Applied, CacheError> {
        self.work(|store| store.apply(changes, deadline))
    }

    fn discard(&self, deadline: Deadline) -> Result<Option<String>, CacheError> {
        self.work(|store| store.discard(deadline))
    }
}

impl fmt::Debug for OpenedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedStore")
            .field("path", &self.path)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::unlocking::Unattended;
    use super::super::{KeyFile, Vault};
    use super::*;

    #[test]
    fn a_long_running_program_goes_on_after_a_rekey_and_a_restore_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let (path, key) = (folder.path().join("state").join("vault.db"), folder.path().join("key"));
        let wait = || Deadline::within(Duration::from_secs(5));
        let vault = Vault::create(&path, &KeyFile::new(&key)).unwrap();
        let unlocking = Unattended { key_file: Some(key.clone()), ..Unattended::default() };
        let store = OpenedStore::new(&path, "msal.cache.nocae", Arc::new(unlocking));
        store.load().unwrap();

        let _outcome = vault.rekey(wait(), |_| {}).unwrap();
        store.load().unwrap();
        drop(vault);

        let aside = folder.path().join("aside");
        std::fs::rename(&path, aside).unwrap();
        assert!(store.load().is_err(), "it is gone");
        Vault::create(&path, &KeyFile::new(&key)).unwrap();
        assert!(store.load().unwrap().document.is_empty());
    }
}

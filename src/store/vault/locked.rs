//! A vault without its keys: what can be seen of it, and the way in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use crate::error::{ProtectorError, VaultError};
use crate::time::{Clock, Deadline, SystemClock};

use super::file::{self, sql};
use super::header::{Header, Slot};
use super::keys::{EpochKeys, SecretKey};
use super::protector::Protector;
use super::root::{self, Root};
use super::session::Shared;
use super::slots::ProtectorSummary;
use super::verify::integrity;
use super::{Vault, schema};

/// A vault that nobody has opened yet.
pub struct LockedVault {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) header: Header,
    pub(super) clock: Arc<dyn Clock>,
}

impl LockedVault {
    /// Opens the file and believes nothing of it: owner, mode, header, tables and checksums come
    /// first. An older format is brought up to date.
    ///
    /// # Errors
    /// [`VaultError::Absent`], [`VaultError::Empty`], [`VaultError::Damaged`],
    /// [`VaultError::NewerFormat`], [`VaultError::Unsafe`], and what the disk says. The file is
    /// left as it is.
    pub fn open(path: &Path) -> Result<Self, VaultError> {
        file::check(path)?;
        let mut connection = file::connect(path)?;
        schema::bring_up_to_date(&mut connection, path)?;
        let header = Header::read(&connection, path)?;
        Ok(Self { path: path.to_owned(), connection, header, clock: Arc::new(SystemClock) })
    }

    /// Takes the time from there.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which data key is in use, counted from 1: each rekey makes a new one.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.header.epoch
    }

    /// The ways to open it.
    #[must_use]
    pub fn protectors(&self) -> Vec<ProtectorSummary> {
        self.header.slots.iter().map(ProtectorSummary::of).collect()
    }

    /// Opens it by one of its protectors.
    ///
    /// # Errors
    /// [`VaultError::Protector`] naming why it stays locked, [`VaultError::NoSuchProtector`] if it
    /// has none of this kind, [`VaultError::Damaged`]. The vault comes back, to try another.
    pub fn unlock(mut self, with: &dyn Protector) -> Result<Vault, (Box<Self>, VaultError)> {
        match self.try_unlock(with) {
            Ok(keys) => self.into_vault(keys),
            Err(error) => Err((Box::new(self), error)),
        }
    }

    pub(super) fn try_unlock(&mut self, with: &dyn Protector) -> Result<Vec<EpochKeys>, VaultError> {
        self.header = Header::read(&self.connection, &self.path)?;
        let context = Slot::protector_context(&self.header.vault_id);
        let mut refusal = None;
        for slot in self.header.slots.iter().filter(|slot| slot.kind == with.kind()) {
            match with.unwrap(&slot.wrapped, &context) {
                Ok(secret) => return self.keys(slot, secret),
                // of several, the last word has who knew the secret but was refused
                Err(error @ ProtectorError::WrongSecret { .. }) => refusal = Some(error),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        let path = self.path.clone();
        Err(match refusal {
            Some(source) => VaultError::Protector { path, source },
            None => VaultError::NoSuchProtector { path, wanted: format!("of kind {}", with.kind()) },
        })
    }

    fn keys(&self, slot: &Slot, secret: SecretKey) -> Result<Vec<EpochKeys>, VaultError> {
        let damaged =
            |detail: &str| VaultError::Damaged { path: self.path.clone(), detail: detail.to_owned() };
        let transaction = self.connection.unchecked_transaction().map_err(sql(&self.path))?;
        // unwrapping took its time: another process may have made a new data key meanwhile
        let header = Header::read(&transaction, &self.path)?;
        let slot = header
            .slots
            .iter()
            .find(|now| now.public == slot.public)
            .ok_or_else(|| VaultError::Rekeyed { path: self.path.clone() })?;
        let data = slot
            .open(&header.vault_id, secret)
            .ok_or_else(|| damaged("a protector does not open the data key that it should"))?;
        let current = EpochKeys::new(header.vault_id, header.epoch, data);
        let root = Root::read(&transaction, &self.path, &current)?;
        if !root.lists_protectors(&header.protectors()) {
            return Err(damaged("its protectors are not the ones that were sealed"));
        }
        let expected: Vec<u64> = root.previous.into_iter().chain([header.epoch]).collect();
        if root::epochs(&transaction, &self.path)? != expected {
            return Err(damaged("the keys of an unfinished rekey are missing or too many"));
        }
        let previous = root
            .previous
            .map(|epoch| root::open_previous(&transaction, &self.path, &current, epoch))
            .transpose()?;
        if let Some(previous) = &previous {
            Root::read(&transaction, &self.path, previous)?;
        }
        Ok(std::iter::once(current).chain(previous).collect())
    }

    pub(super) fn into_vault(self, keys: Vec<EpochKeys>) -> Result<Vault, (Box<Self>, VaultError)> {
        let Self { path, connection, header, clock } = self;
        let shared = Shared::new(&path, connection, keys, clock);
        let vault = match shared {
            Ok(shared) => Vault { shared: Arc::new(shared), actor: "tokenkeep".to_owned() },
            Err(failed) => {
                let (error, connection) = *failed;
                let clock: Arc<dyn Clock> = Arc::new(SystemClock);
                return Err((Box::new(Self { path, connection, header, clock }), error));
            }
        };
        match vault.fold_pending(Deadline::within(file::PATIENCE)) {
            Err(error) if error.is_damage() => match vault.lock() {
                Ok(locked) => Err((Box::new(locked), error)),
                Err(_) => unreachable!("nobody else has this vault yet"),
            },
            // notes can wait, and a full disk must not keep anybody from reading
            Err(error) => {
                tracing::debug!(%error, "notes of the locked vault stay where they are");
                Ok(vault)
            }
            Ok(()) => Ok(vault),
        }
    }

    /// Every page as it should be: for a copy that is about to become the vault.
    pub(super) fn check_whole(&self) -> Result<(), VaultError> {
        integrity(&self.connection, &self.path)
    }
}

impl fmt::Debug for LockedVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedVault").field("path", &self.path).finish_non_exhaustive()
    }
}

//! The vault: encrypted without a desktop, crash-proof, one row per token.
//!
//! The state is the type: a [`LockedVault`] shows what can be seen without a key; unlocking it
//! by a [`Protector`] gives a [`Vault`], whose [`VaultStore`]s are stores like any other. The file
//! is explained in `docs/vault-format.md`.

mod audit;
mod backup;
mod create;
mod file;
mod header;
mod keys;
mod locked;
mod opened;
mod protector;
mod records;
mod rekey;
mod root;
mod rows;
mod schema;
mod seal;
mod seen;
mod session;
mod slots;
mod space;
#[cfg(test)]
mod tests;
mod unlocking;
mod verify;

use std::path::Path;
use std::sync::Arc;

use crate::error::VaultError;

pub use self::audit::{AuditEntry, AuditEvent};
pub use self::keys::SecretKey;
pub use self::locked::LockedVault;
#[cfg(target_os = "linux")]
pub use self::protector::Kernel;
pub use self::protector::{
    KeyFile, Keyring, Passphrase, PassphraseCost, Protector, ProtectorKind, RecoveryKey, SlotContext, Wrapped,
};
pub use self::rekey::{RekeyOutcome, RekeyProgress};
pub use self::rows::VaultStore;
pub use self::slots::{AfterRemoval, ProtectorSummary};
pub use self::unlocking::{Attempts, Unattended, Unlocking, by_text, open, passphrase_file, unlock};
pub use self::verify::VaultReport;

pub(in crate::store) use self::opened::OpenedStore;

use self::header::Header;
use self::session::Shared;
use self::verify::spaces;

const CACHES: &str = "cache ";

/// An open vault. Clones share it.
#[derive(Clone, Debug)]
pub struct Vault {
    shared: Arc<Shared>,
    actor: String,
}

impl Vault {
    /// Says who acts, for the audit trail.
    #[must_use]
    pub fn acting_as(mut self, actor: impl Into<String>) -> Self {
        self.actor = actor.into();
        self
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The cache of this full name, such as `msal.cache.nocae`, whether it exists yet or not.
    #[must_use]
    pub fn store(&self, cache: &str) -> VaultStore {
        VaultStore::new(Arc::clone(&self.shared), cache, &self.actor)
    }

    /// The full names of all caches in it.
    ///
    /// # Errors
    /// [`VaultError::Damaged`], and what the disk says.
    pub fn caches(&self) -> Result<Vec<String>, VaultError> {
        self.shared.read(|session| {
            let names = spaces(session)?;
            Ok(names.iter().filter_map(|name| name.strip_prefix(CACHES)).map(str::to_owned).collect())
        })
    }

    /// Forgets the keys. Stores that came from this vault keep theirs until they are dropped.
    ///
    /// # Errors
    /// Gives the vault back while clones or stores of it are still there.
    pub fn lock(self) -> Result<LockedVault, Self> {
        let Self { shared, actor } = self;
        let shared = Arc::try_unwrap(shared).map_err(|shared| Self { shared, actor })?;
        let (path, clock) = (shared.path.clone(), Arc::clone(&shared.clock));
        let connection = shared.into_connection();
        let header = Header::read(&connection, &path);
        Ok(LockedVault { header: header.unwrap_or_else(|_| Header::unknown()), path, connection, clock })
    }

    fn event(&self, action: &str) -> AuditEvent {
        audit::by_us(self.shared.clock.as_ref(), &self.actor, action)
    }
}

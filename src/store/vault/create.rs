//! A new vault: whole before it has its name.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use crate::error::VaultError;
use crate::time::{Clock, SystemClock, UnixTime};

use super::backup::Staged;
use super::file::{self, sql};
use super::header::Header;
use super::keys::{EpochKeys, SecretKey};
use super::protector::Protector;
use super::root::Root;
use super::session::Session;
use super::slots::{new_slot, no_key};
use super::{LockedVault, Vault, audit, schema};

const PAGE_SIZE: u32 = 4096;

impl Vault {
    /// Makes a vault that this protector opens.
    ///
    /// # Errors
    /// [`VaultError::AlreadyExists`], [`VaultError::Unsafe`], [`VaultError::Protector`], and what
    /// the disk says. There is a whole vault afterwards, or none.
    pub fn create(path: &Path, first: &dyn Protector) -> Result<Self, VaultError> {
        Self::create_with(path, first, PAGE_SIZE, Arc::new(SystemClock))
    }

    pub(super) fn create_with(
        path: &Path,
        first: &dyn Protector,
        page_size: u32,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, VaultError> {
        file::prepare_folder(path)?;
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(VaultError::AlreadyExists { path: path.to_owned() });
        }
        let staged = Staged::beside(path)?;
        let keys = initialise(&staged.0, first, page_size, clock.now()).map_err(|error| match error {
            VaultError::Protector { source, .. } => VaultError::Protector { path: path.to_owned(), source },
            other => other,
        })?;
        staged.publish(path)?;
        LockedVault::open(path)?.clock(clock).into_vault(vec![keys]).map_err(|(_, error)| error)
    }
}

fn initialise(
    path: &Path,
    first: &dyn Protector,
    page_size: u32,
    now: UnixTime,
) -> Result<EpochKeys, VaultError> {
    drop(file::create_private(path)?);
    let mut connection = Connection::open(path).map_err(sql(path))?;
    file::prepare(&connection).map_err(sql(path))?;
    connection.pragma_update(None, "page_size", page_size).map_err(sql(path))?;
    schema::create(&mut connection, path)?;

    let mut vault_id = [0; 16];
    vault_id.copy_from_slice(&SecretKey::generate().expose()[..16]);
    let keys = EpochKeys::new(vault_id, 1, SecretKey::generate());
    let mut slot = new_slot(path, &vault_id, first, now)?;
    slot.slot = 1;
    slot.reseal(&vault_id, keys.epoch, &keys.data).ok_or_else(|| no_key(path))?;
    let header = Header { vault_id, epoch: keys.epoch, slots: vec![slot] };

    let transaction = connection.transaction().map_err(sql(path))?;
    header.write(&transaction).map_err(sql(path))?;
    let mut root = Root::new();
    root.set_protectors(&header.protectors());
    let ring = [keys];
    let session = Session { connection: &transaction, path, keys: &ring, seen: None };
    audit::make_key(&session, root)?;
    let event = audit::by_us(&At(now), "tokenkeep", "vault_created");
    audit::append(&session, &[event])?;
    transaction.commit().map_err(sql(path))?;
    // closing empties the log and removes it: the file is all there is to publish
    connection.close().map_err(|(_, error)| sql(path)(error))?;
    let [keys] = ring;
    Ok(keys)
}

/// A clock that has stopped, for what happens at one moment.
#[derive(Debug)]
struct At(UnixTime);

impl Clock for At {
    fn now(&self) -> UnixTime {
        self.0
    }
}

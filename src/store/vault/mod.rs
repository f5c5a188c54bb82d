//! The vault: encrypted without a desktop, crash-proof, one row per token.
//!
//! The state is the type: a [`LockedVault`] shows what can be seen without a key; unlocking it
//! by a [`Protector`] gives a [`Vault`], whose [`VaultStore`]s are stores like any other. The file
//! is explained in `docs/vault-format.md`.

mod audit;
mod backup;
mod file;
mod header;
mod keys;
mod opened;
mod protector;
mod records;
mod rekey;
mod root;
mod rows;
mod schema;
mod seal;
mod session;
mod space;
#[cfg(test)]
mod tests;
mod unlocking;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use crate::error::{ProtectorError, VaultError};
use crate::time::{Clock, Deadline, SystemClock, UnixTime};

pub use self::audit::{AuditEntry, AuditEvent};
pub use self::keys::SecretKey;
#[cfg(target_os = "linux")]
pub use self::protector::Kernel;
pub use self::protector::{
    KeyFile, Keyring, Passphrase, PassphraseCost, Protector, ProtectorKind, RecoveryKey, SlotContext, Wrapped,
};
pub use self::rekey::{RekeyOutcome, RekeyProgress};
pub use self::rows::VaultStore;
pub use self::unlocking::{Attempts, Unattended, Unlocking, by_text, open, passphrase_file, unlock};

pub(in crate::store) use self::opened::OpenedStore;

use self::backup::Staged;
use self::file::sql;
use self::header::{Header, Slot};
use self::keys::EpochKeys;
use self::root::Root;
use self::seal::KeyPair;
use self::session::{Session, Shared};
use self::space::Space;

const PAGE_SIZE: u32 = 4096;
const CACHES: &str = "cache ";

/// A vault that nobody has opened yet.
pub struct LockedVault {
    path: PathBuf,
    connection: Connection,
    header: Header,
    clock: Arc<dyn Clock>,
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

    fn try_unlock(&mut self, with: &dyn Protector) -> Result<Vec<EpochKeys>, VaultError> {
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

    fn into_vault(self, keys: Vec<EpochKeys>) -> Result<Vault, (Box<Self>, VaultError)> {
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
    fn check_whole(&self) -> Result<(), VaultError> {
        integrity(&self.connection, &self.path)
    }
}

impl fmt::Debug for LockedVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedVault").field("path", &self.path).finish_non_exhaustive()
    }
}

/// One way to open a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtectorSummary {
    /// Its number, by which it is removed.
    pub slot: u32,
    /// What it is.
    pub kind: ProtectorKind,
    /// Since when it is there.
    pub created: UnixTime,
}

impl ProtectorSummary {
    const fn of(slot: &Slot) -> Self {
        Self { slot: slot.slot, kind: slot.kind, created: slot.created }
    }
}

/// What becomes of the data key when a protector goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterRemoval {
    /// A new one, because an old copy of the file still opens to who had the protector.
    #[default]
    Rekey,
    /// It stays: what the protector kept is destroyed, as the kernel's key is when it forgets.
    KeepKey,
}

/// An open vault. Clones share it.
#[derive(Clone, Debug)]
pub struct Vault {
    shared: Arc<Shared>,
    actor: String,
}

impl Vault {
    /// Makes a vault that this protector opens.
    ///
    /// # Errors
    /// [`VaultError::AlreadyExists`], [`VaultError::Unsafe`], [`VaultError::Protector`], and what
    /// the disk says. There is a whole vault afterwards, or none.
    pub fn create(path: &Path, first: &dyn Protector) -> Result<Self, VaultError> {
        Self::create_with(path, first, PAGE_SIZE, Arc::new(SystemClock))
    }

    fn create_with(
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

    /// The ways to open it.
    ///
    /// # Errors
    /// [`VaultError::Damaged`], and what the disk says.
    pub fn protectors(&self) -> Result<Vec<ProtectorSummary>, VaultError> {
        let header = self.shared.read(|session| Header::read(session.connection, session.path))?;
        Ok(header.slots.iter().map(ProtectorSummary::of).collect())
    }

    /// Adds a way to open it; gives its number.
    ///
    /// # Errors
    /// [`VaultError::Protector`], and what the disk says.
    pub fn add_protector(&self, protector: &dyn Protector, deadline: Deadline) -> Result<u32, VaultError> {
        let mut made =
            new_slot(&self.shared.path, &self.shared.vault_id, protector, self.shared.clock.now())?;
        let added = self.shared.write(deadline, |session| {
            let mut header = Header::read(session.connection, session.path)?;
            check_listed(session, &header)?;
            made.slot = header.next_slot();
            made.reseal(&header.vault_id, header.epoch, &session.current().data)
                .ok_or_else(|| session.damaged("a protector's public key is none"))?;
            header.slots.push(made.clone());
            header.write(session.connection).map_err(session.sql())?;
            seal_protectors(session, &header)?;
            let event = self.event("protector_added").subject(format!("{} {}", made.slot, made.kind));
            audit::append(session, &[event])?;
            Ok(made.slot)
        });
        added.inspect_err(|_| {
            if let Err(error) = protector.forget(&made.wrapped) {
                tracing::warn!(%error, "what was made for a protector that was not added is left");
            }
        })
    }

    /// Removes a way to open it, and destroys what it kept in a keyring.
    ///
    /// With [`AfterRemoval::Rekey`] everything else gets a new data key: an interrupted one is
    /// finished by [`Self::finish_rekey`], and the protector is gone from its first instant on.
    ///
    /// # Errors
    /// [`VaultError::LastProtector`], [`VaultError::NoSuchProtector`], and what the disk says.
    pub fn remove_protector(
        &self,
        slot: u32,
        after: AfterRemoval,
        deadline: Deadline,
        progress: impl FnMut(RekeyProgress),
    ) -> Result<Option<RekeyOutcome>, VaultError> {
        let path = &self.shared.path;
        let mut removed = None;
        let mut take_out = |header: &mut Header| {
            let at = header.slots.iter().position(|known| known.slot == slot);
            let at = at.ok_or_else(|| VaultError::NoSuchProtector {
                path: path.clone(),
                wanted: slot.to_string(),
            })?;
            if header.slots.len() == 1 {
                return Err(VaultError::LastProtector { path: path.clone(), slot });
            }
            removed = Some(header.slots.remove(at));
            Ok(())
        };
        let is_finished = !self.has_unfinished_rekey();
        let outcome = match after {
            AfterRemoval::Rekey => {
                if !is_finished {
                    let _compacted_later = self.finish_rekey(deadline, |_| {})?;
                }
                self.begin_rekey(deadline, |session, header| {
                    check_listed(session, header)?;
                    take_out(header)
                })?;
                Some(self.finish_rekey(deadline, progress)?)
            }
            AfterRemoval::KeepKey => {
                self.shared.write(deadline, |session| {
                    let mut header = Header::read(session.connection, session.path)?;
                    check_listed(session, &header)?;
                    take_out(&mut header)?;
                    header.write(session.connection).map_err(session.sql())?;
                    seal_protectors(session, &header)
                })?;
                None
            }
        };
        if let Some(removed) = removed {
            let event = self.event("protector_removed").subject(format!("{slot} {}", removed.kind));
            self.record_event(&event, deadline)?;
            protector::forget(removed.kind, &removed.wrapped);
        }
        Ok(outcome)
    }

    /// Reads and checks everything there is: pages, rows, heads, the audit trail.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] naming the first thing that is wrong.
    pub fn verify(&self) -> Result<VaultReport, VaultError> {
        let mut report = self.shared.read(|session| {
            integrity(session.connection, session.path)?;
            let header = Header::read(session.connection, session.path)?;
            check_listed(session, &header)?;
            let mut report = VaultReport { caches: 0, rows: 0, events: 0 };
            for name in spaces(session)? {
                report.rows += Space::open(session, &name)?.all()?.len() as u64;
                report.caches += u64::from(name.starts_with(CACHES));
            }
            let in_table: i64 = session
                .connection
                .query_row("SELECT count(*) FROM entry", [], |row| row.get(0))
                .map_err(session.sql())?;
            if in_table.cast_unsigned() != report.rows {
                return Err(session.damaged("it has rows of no document"));
            }
            Ok(report)
        })?;
        report.events = self.audit()?.len() as u64;
        Ok(report)
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

/// What [`Vault::verify`] found in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VaultReport {
    /// How many caches.
    pub caches: u64,
    /// How many rows, of caches and of everything else.
    pub rows: u64,
    /// How many events of the audit trail.
    pub events: u64,
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
    let session = Session { connection: &transaction, path, keys: &ring };
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

fn new_slot(
    path: &Path,
    vault_id: &[u8; 16],
    protector: &dyn Protector,
    now: UnixTime,
) -> Result<Slot, VaultError> {
    let pair = KeyPair::generate().ok_or_else(|| no_key(path))?;
    let wrapped = protector
        .wrap(&pair.secret, &Slot::protector_context(vault_id))
        .map_err(|source| VaultError::Protector { path: path.to_owned(), source })?;
    Ok(Slot {
        slot: 0,
        kind: protector.kind(),
        created: now,
        wrapped,
        public: pair.public,
        epoch: 0,
        sealed_key: Vec::new(),
    })
}

fn no_key(path: &Path) -> VaultError {
    VaultError::io("make a key for", path)(std::io::Error::other("the cryptographic library refused"))
}

/// The slots' public keys are in the clear: before anything is sealed to them, they must be the
/// ones that whoever last had the key has sealed.
fn check_listed(session: &Session<'_>, header: &Header) -> Result<(), VaultError> {
    let root = Root::read(session.connection, session.path, session.current())?;
    if root.lists_protectors(&header.protectors()) {
        Ok(())
    } else {
        Err(session.damaged("its protectors are not the ones that were sealed"))
    }
}

fn seal_protectors(session: &Session<'_>, header: &Header) -> Result<(), VaultError> {
    let mut root = Root::read(session.connection, session.path, session.current())?;
    root.set_protectors(&header.protectors());
    root.write(session.connection, session.current()).map_err(session.sql())
}

fn spaces(session: &Session<'_>) -> Result<Vec<String>, VaultError> {
    let mut names = Vec::new();
    for keys in session.keys {
        for name in Root::read(session.connection, session.path, keys)?.spaces {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

fn integrity(connection: &Connection, path: &Path) -> Result<(), VaultError> {
    let found: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(sql(path))?;
    if found == "ok" {
        return Ok(());
    }
    Err(VaultError::Damaged { path: path.to_owned(), detail: found })
}

//! Transactions: every look at a vault is one, and every change.

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rusqlite::Connection;

use crate::error::VaultError;
use crate::time::{Clock, Deadline};

use super::file::{self, sql};
use super::keys::EpochKeys;
use super::root::{self, Root};
use super::seen::Seen;

/// What one transaction works with.
pub(super) struct Session<'s> {
    pub(super) connection: &'s Connection,
    pub(super) path: &'s Path,
    /// The current epoch's, then those of the one before while a rekey is unfinished.
    pub(super) keys: &'s [EpochKeys],
    /// What this reader has checked before; writers check everything themselves.
    pub(super) seen: Option<&'s RefCell<Seen>>,
}

impl<'s> Session<'s> {
    pub(super) fn sql(&self) -> impl Fn(rusqlite::Error) -> VaultError + use<'s> {
        sql(self.path)
    }

    pub(super) fn damaged(&self, detail: &str) -> VaultError {
        VaultError::Damaged { path: self.path.to_owned(), detail: detail.to_owned() }
    }

    pub(super) const fn current(&self) -> &'s EpochKeys {
        &self.keys[0]
    }

    /// The keys must be those of the file as it is now: another process may have changed them.
    fn check_epochs(&self) -> Result<Epochs, VaultError> {
        let vault_id: [u8; 16] = self
            .connection
            .prepare_cached("SELECT vault_id FROM vault WHERE id = 1")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(self.sql())?;
        if vault_id != self.current().vault_id {
            // another vault was restored into this file
            return Err(VaultError::StaleHandle { path: self.path.to_owned() });
        }
        let found = root::epochs(self.connection, self.path)?;
        let ours = self.keys.iter().rev().map(|keys| keys.epoch);
        if ours.clone().eq(found.iter().copied()) {
            return Ok(Epochs::Same);
        }
        let current = self.current();
        if found.last() != Some(&current.epoch) {
            return Err(VaultError::Rekeyed { path: self.path.to_owned() });
        }
        let is_finished =
            found.len() == 1 && Root::read(self.connection, self.path, current)?.previous.is_none();
        if is_finished { Ok(Epochs::Finished) } else { Err(self.damaged("the key of an epoch is missing")) }
    }
}

enum Epochs {
    Same,
    /// Another process moved the last rows of the older epoch.
    Finished,
}

struct Reader {
    connection: Connection,
    seen: RefCell<Seen>,
}

/// An open vault: connections and keys. Shared by all stores that came from it.
pub(super) struct Shared {
    pub(super) path: std::path::PathBuf,
    file: (u64, u64),
    pub(super) vault_id: [u8; 16],
    reader: Mutex<Reader>,
    /// Opened by the first change, so that a reader never waits for this process's own writer.
    writer: Mutex<Option<Connection>>,
    keys: RwLock<Arc<Vec<EpochKeys>>>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Shared {
    pub(super) fn new(
        path: &Path,
        connection: Connection,
        keys: Vec<EpochKeys>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Box<(VaultError, Connection)>> {
        let file = match file::identity(path) {
            Ok(file) => file,
            Err(error) => return Err(Box::new((VaultError::io("look at", path)(error), connection))),
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            vault_id: keys[0].vault_id,
            reader: Mutex::new(Reader { connection, seen: RefCell::default() }),
            writer: Mutex::new(None),
            keys: RwLock::new(Arc::new(keys)),
            clock,
        })
    }

    pub(super) fn keys(&self) -> Arc<Vec<EpochKeys>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_keys(&self, keys: &[EpochKeys]) {
        let keys = Arc::new(keys.iter().map(EpochKeys::again).collect());
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// A look at one state of the vault. Waits for nobody.
    pub(super) fn read<T>(
        &self,
        look: impl Fn(&Session<'_>) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let looked = self.look(&look);
        match looked {
            Err(VaultError::Rekeyed { .. }) => {
                // if it is this process that changes the key, its next step is known in a moment
                drop(lock(&self.writer));
                self.look(&look)
            }
            looked => looked,
        }
    }

    fn look<T>(&self, look: impl Fn(&Session<'_>) -> Result<T, VaultError>) -> Result<T, VaultError> {
        let reader = lock(&self.reader);
        self.transaction(&reader.connection, Some(&reader.seen), "BEGIN DEFERRED", look)
    }

    /// A change: all of it is on the disk when this returns, or none of it ever will be.
    pub(super) fn write<T>(
        &self,
        deadline: Deadline,
        change: impl FnOnce(&Session<'_>) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        self.write_and(deadline, change, |_| {})
    }

    /// A change, and what follows from it before anybody else of this process may change more.
    pub(super) fn write_and<T>(
        &self,
        deadline: Deadline,
        change: impl FnOnce(&Session<'_>) -> Result<T, VaultError>,
        after: impl FnOnce(&T),
    ) -> Result<T, VaultError> {
        self.with_writer(|connection| {
            let wait = deadline.remaining().max(Duration::from_millis(1));
            connection.busy_timeout(wait).map_err(sql(&self.path))?;
            let changed = self.transaction(connection, None, "BEGIN IMMEDIATE", change);
            let changed = changed.map_err(|error| match error {
                VaultError::Busy { path, .. } => VaultError::Busy { path, waited: deadline.whole() },
                other => other,
            })?;
            after(&changed);
            Ok(changed)
        })
    }

    /// The connection for changes, outside of any transaction.
    pub(super) fn with_writer<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let mut writer = lock(&self.writer);
        let connection = match writer.take() {
            Some(connection) => connection,
            None => file::connect(&self.path)?,
        };
        work(writer.insert(connection))
    }

    /// The first connection: what a locked vault goes on with.
    pub(super) fn into_connection(self) -> Connection {
        self.reader.into_inner().unwrap_or_else(PoisonError::into_inner).connection
    }

    fn transaction<T>(
        &self,
        connection: &Connection,
        seen: Option<&RefCell<Seen>>,
        begin: &str,
        work: impl FnOnce(&Session<'_>) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        // a write into a file that was replaced or removed would be lost without a word
        match file::identity(&self.path) {
            Ok(found) if found == self.file => {}
            Ok(_) => return Err(VaultError::StaleHandle { path: self.path.clone() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(VaultError::StaleHandle { path: self.path.clone() });
            }
            Err(error) => return Err(VaultError::io("look at", &self.path)(error)),
        }
        connection.prepare_cached(begin).and_then(|mut begin| begin.execute([])).map_err(sql(&self.path))?;
        let undo = Rollback(connection);
        let keys = self.keys();
        let mut session = Session { connection, path: &self.path, keys: &keys, seen };
        if let Epochs::Finished = session.check_epochs()? {
            session.keys = &keys[..1];
        }
        let outcome = work(&session)?;
        connection
            .prepare_cached("COMMIT")
            .and_then(|mut commit| commit.execute([]))
            .map_err(sql(&self.path))?;
        drop(undo);
        Ok(outcome)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Ends a transaction that was not committed, on every way out.
struct Rollback<'c>(&'c Connection);

impl Drop for Rollback<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit() {
            let _ended = self.0.execute_batch("ROLLBACK");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // SQLite undoes what a panic left behind
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

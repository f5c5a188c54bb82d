//! Copies of the whole file, locked as it is, and the way back from one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::error::VaultError;
use crate::time::UnixTime;

use super::file::{self, companions, sql};
use super::session::Shared;
use super::{LockedVault, Vault};

impl Vault {
    /// Writes a copy to a new file of mode 0600. It opens by the protectors of this moment.
    ///
    /// # Errors
    /// [`VaultError::AlreadyExists`], and what either disk says.
    pub fn backup(&self, to: &Path) -> Result<(), VaultError> {
        self.shared.with_writer(|connection| copy(connection, &self.shared.path, to))
    }
}

impl LockedVault {
    /// Writes a copy to a new file of mode 0600. It opens by the protectors of this moment.
    ///
    /// # Errors
    /// [`VaultError::AlreadyExists`], and what either disk says.
    pub fn backup(&self, to: &Path) -> Result<(), VaultError> {
        copy(&self.connection, &self.path, to)
    }

    /// Puts a copy in the vault's place. What is there is set aside first, and the answer names
    /// where it went.
    ///
    /// # Errors
    /// As [`LockedVault::open`] for the copy, which must be whole; nothing is changed then.
    pub fn restore(from: &Path, path: &Path, now: UnixTime) -> Result<(Self, Option<PathBuf>), VaultError> {
        file::prepare_folder(path)?;
        let staged = Staged::beside(path)?;
        let mut target = file::create_private(&staged.0)?;
        let mut source = File::open(from).map_err(VaultError::io("open", from))?;
        io::copy(&mut source, &mut target).map_err(VaultError::io("copy to", &staged.0))?;
        target.sync_all().map_err(VaultError::io("sync", &staged.0))?;
        // its own messages speak of a file that nobody knows
        let copy = Self::open(&staged.0).map_err(|error| rename(error, from))?;
        copy.check_whole().map_err(|error| rename(error, from))?;

        let aside = sibling(path, &format!(".replaced-{now}"));
        let aside = match Self::open(path) {
            Ok(current) => {
                current.backup(&aside)?;
                overwrite(&copy.connection, current, path)?;
                Some(aside)
            }
            Err(VaultError::Absent { .. }) => {
                drop(copy);
                staged.publish(path)?;
                None
            }
            Err(VaultError::Damaged { .. } | VaultError::Empty { .. } | VaultError::NewerFormat { .. }) => {
                drop(copy);
                move_aside(path, &aside)?;
                staged.publish(path)?;
                Some(aside)
            }
            Err(error) => return Err(error),
        };
        Ok((Self::open(path)?, aside))
    }
}

/// A copy of a damaged vault, made before something is removed from it.
pub(super) fn set_aside_copy(shared: &Shared) -> Result<PathBuf, VaultError> {
    let aside = sibling(&shared.path, &format!(".damaged-{}", shared.clock.now()));
    // page by page, because a rebuilt copy would not have the damage
    shared.with_writer(|connection| {
        let path = &shared.path;
        drop(file::create_private(&aside)?);
        let mut target = Connection::open(&aside).map_err(sql(&aside))?;
        copy_pages(connection, &mut target).map_err(sql(path))?;
        Ok(aside)
    })
}

/// A file that becomes the vault once it is whole; gone again if it does not.
pub(super) struct Staged(pub(super) PathBuf);

impl Staged {
    pub(super) fn beside(path: &Path) -> Result<Self, VaultError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| {
            VaultError::io("name a file beside", path)(io::Error::other(error.to_string()))
        })?;
        Ok(Self(sibling(path, &format!(".new-{:016x}", u64::from_le_bytes(random)))))
    }

    /// Gives the file its name, unless something has that name already.
    pub(super) fn publish(self, path: &Path) -> Result<(), VaultError> {
        for orphan in companions(path) {
            // a log whose database is gone would be played into the new one
            if fs::symlink_metadata(&orphan).is_ok() {
                let away = sibling(&orphan, ".orphan");
                fs::rename(&orphan, away).map_err(VaultError::io("move away", &orphan))?;
            }
        }
        fs::hard_link(&self.0, path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => VaultError::AlreadyExists { path: path.to_owned() },
            _ => VaultError::io("create", path)(error),
        })?;
        drop(self);
        file::sync_folder(path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let [log, index] = companions(&self.0);
        for path in [&self.0, &log, &index] {
            let _gone = fs::remove_file(path);
        }
    }
}

fn copy(connection: &Connection, path: &Path, to: &Path) -> Result<(), VaultError> {
    let made = file::create_private(to)?;
    let copied = connection
        .execute("VACUUM INTO ?1", [to.to_string_lossy()])
        .map_err(sql(path))
        .and_then(|_| made.sync_all().map_err(VaultError::io("sync", to)))
        .and_then(|()| file::sync_folder(to));
    copied.inspect_err(|_| {
        let _gone = fs::remove_file(to);
    })
}

/// Replaces the content in one transaction, so that programs that have the file open see one
/// state or the other.
fn overwrite(from: &Connection, target: LockedVault, path: &Path) -> Result<(), VaultError> {
    let mut connection = target.connection;
    copy_pages(from, &mut connection).map_err(sql(path))
}

fn copy_pages(from: &Connection, to: &mut Connection) -> rusqlite::Result<()> {
    let copying = Backup::new(from, to)?;
    match copying.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)),
    }
}

fn move_aside(path: &Path, aside: &Path) -> Result<(), VaultError> {
    // the log first: without its database it is nothing, beside another one it would be poison
    for (from, to) in companions(path).iter().zip(companions(aside)) {
        match fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(VaultError::io("move away", from)(error));
            }
            _ => {}
        }
    }
    fs::rename(path, aside).map_err(VaultError::io("move away", path))
}

fn rename(error: VaultError, from: &Path) -> VaultError {
    let path = from.to_owned();
    match error {
        VaultError::Damaged { detail, .. } => VaultError::Damaged { path, detail },
        VaultError::Empty { .. } => VaultError::Empty { path },
        VaultError::NewerFormat { found, known, .. } => VaultError::NewerFormat { path, found, known },
        other => other,
    }
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

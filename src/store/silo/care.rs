//! Putting a silo's files in order, each under the silo's own lock and only if it is still needed.

use std::fs;
use std::path::{Path, PathBuf};

use super::facts::{FileFacts, FileKind};
use super::{Place, Silo, Writing};
use crate::error::CacheError;
use crate::store::lock::CacheLock;
use crate::store::replace::{LARGEST, temporary_of};
use crate::store::watch::is_absence;
use crate::time::{Deadline, UnixTime};

/// What others must not do to a cache's file.
const OTHERS: u32 = 0o077;
/// What others must not do to its folder: files there would change under our hands.
const OTHERS_WRITE: u32 = 0o022;

impl FileFacts {
    /// Whether others may read or write it.
    #[must_use]
    pub fn is_open_to_others(&self) -> bool {
        self.mode.is_some_and(|mode| mode & OTHERS != 0)
    }

    /// Whether others may put files into its folder, or take some out.
    #[must_use]
    pub fn is_folder_open_to_others(&self) -> bool {
        self.folder_mode.is_some_and(|mode| mode & OTHERS_WRITE != 0)
    }

    /// Whether it can be no cache, whatever is in it: a pipe, a link to nothing, something huge.
    #[must_use]
    pub fn is_no_cache(&self) -> bool {
        self.kind != FileKind::Regular || self.size > LARGEST
    }
}

impl Silo {
    /// The file that our own writes leave beside this one if they are killed.
    #[must_use]
    pub fn temporary_left_behind(&self) -> Option<PathBuf> {
        let Place::File(path) = self.place() else { return None };
        temporary_of(path).filter(|temporary| temporary.symlink_metadata().is_ok())
    }

    /// The folder in which its file lies; `None` for an item of a keyring.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        let Place::File(path) = self.place() else { return None };
        path.parent()
    }

    /// What stands in a lock's place and is no file: nobody can take such a lock.
    #[must_use]
    pub fn odd_locks(&self) -> Vec<PathBuf> {
        let locks = self.site.files.lock.iter().filter(|path| is_odd(path));
        locks.map(Path::to_owned).collect()
    }

    /// Renames what stands in this lock's place and is no file, and says to what. No lock is taken
    /// for that: there is none to be had.
    ///
    /// # Errors
    /// [`CacheError::ReadOnly`], and what the system says.
    pub fn set_odd_lock_aside(&self, lock: &Path, now: UnixTime) -> Result<Option<PathBuf>, CacheError> {
        self.may_write()?;
        let is_ours = self.site.files.lock.iter().any(|own| own == lock);
        if is_ours && is_odd(lock) { rename_aside(lock, now).map(Some) } else { Ok(None) }
    }

    /// Makes the file private; `false` if it is already, or gone.
    ///
    /// # Errors
    /// [`CacheError::LockTimeout`], [`CacheError::ReadOnly`], and what the system says.
    pub fn make_file_private(&self, deadline: Deadline) -> Result<bool, CacheError> {
        self.with_file(deadline, |facts| {
            let is_needed = facts.kind == FileKind::Regular && facts.is_ours && facts.is_open_to_others();
            Ok(is_needed && tighten(&facts.path, facts.mode, OTHERS)?)
        })
    }

    /// Takes from others what they may do to the file's folder; `false` if that is little enough.
    ///
    /// # Errors
    /// As [`Self::make_file_private`].
    pub fn make_folder_private(&self, deadline: Deadline) -> Result<bool, CacheError> {
        self.with_file(deadline, |facts| match facts.path.parent() {
            Some(folder) if facts.is_folder_open_to_others() => {
                tighten(folder, facts.folder_mode, OTHERS_WRITE)
            }
            _ => Ok(false),
        })
    }

    /// Renames what stands in the cache's place and can be no cache, and says to what.
    ///
    /// # Errors
    /// As [`Self::make_file_private`].
    pub fn set_odd_file_aside(
        &self,
        now: UnixTime,
        deadline: Deadline,
    ) -> Result<Option<PathBuf>, CacheError> {
        self.with_file(deadline, |facts| {
            if !facts.is_no_cache() {
                return Ok(None);
            }
            rename_aside(&facts.path, now).map(Some)
        })
    }

    /// Removes what a killed write left behind, as the next write would; `false` if nothing did.
    ///
    /// # Errors
    /// As [`Self::make_file_private`].
    pub fn remove_temporary(&self, deadline: Deadline) -> Result<bool, CacheError> {
        let Some(temporary) = self.temporary_left_behind() else { return Ok(false) };
        let _held = self.lock(deadline)?;
        match fs::remove_file(&temporary) {
            Ok(()) => Ok(true),
            Err(error) if is_absence(&error) => Ok(false),
            Err(error) => Err(CacheError::io("remove", &temporary)(error)),
        }
    }

    /// Takes over every lock file that a dead process left, and lets it go.
    ///
    /// # Errors
    /// [`CacheError::LockTimeout`] if somebody alive holds one after all; [`CacheError::ReadOnly`].
    pub fn free_stale_locks(&self, deadline: Deadline) -> Result<(), CacheError> {
        self.lock(deadline).map(drop)
    }

    fn lock(&self, deadline: Deadline) -> Result<CacheLock, CacheError> {
        self.may_write()?;
        CacheLock::acquire(&self.site.files.lock, deadline)
    }

    fn may_write(&self) -> Result<(), CacheError> {
        match self.writing() {
            Writing::Guarded(_) | Writing::Writable => Ok(()),
            Writing::ReadOnly { why, instead } => {
                Err(CacheError::ReadOnly { place: self.describe().to_string(), why, instead })
            }
        }
    }

    /// Looks at the file once more with the lock held.
    fn with_file<T: Default>(
        &self,
        deadline: Deadline,
        work: impl FnOnce(&FileFacts) -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        let _held = self.lock(deadline)?;
        FileFacts::of(&self.site.files.path).map_or_else(|| Ok(T::default()), |facts| work(&facts))
    }
}

/// What was set aside in its time, and still lies in this folder.
#[must_use]
pub fn damaged_copies(folder: &Path) -> Vec<PathBuf> {
    let is_copy = |name: &str| {
        let time = name.rsplit_once(".damaged-").map(|(_, time)| time);
        time.is_some_and(|time| !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let entries = fs::read_dir(folder).into_iter().flatten().take(4096).flatten();
    let copies = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_copy));
    let mut copies: Vec<_> = copies.map(|entry| entry.path()).collect();
    copies.sort();
    copies
}

fn is_odd(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file())
}

fn rename_aside(path: &Path, now: UnixTime) -> Result<PathBuf, CacheError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".damaged-{now}"));
    let aside = path.with_file_name(name);
    fs::rename(path, &aside).map_err(CacheError::io("rename", path))?;
    Ok(aside)
}

#[cfg(unix)]
fn tighten(path: &Path, mode: Option<u32>, others: u32) -> Result<bool, CacheError> {
    use std::os::unix::fs::PermissionsExt as _;

    let Some(mode) = mode else { return Ok(false) };
    let private = fs::Permissions::from_mode(mode & !others);
    fs::set_permissions(path, private).map_err(CacheError::io("change the mode of", path))?;
    Ok(true)
}

#[cfg(not(unix))]
fn tighten(path: &Path, _mode: Option<u32>, _others: u32) -> Result<bool, CacheError> {
    let unknown = std::io::Error::from(std::io::ErrorKind::Unsupported);
    Err(CacheError::io("change the mode of", path)(unknown))
}

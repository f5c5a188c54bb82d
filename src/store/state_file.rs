//! Small files of ours beside the vault: read without a lock, replaced whole under one.

use std::fs;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::CacheError;
use crate::time::{Deadline, UnixTime};

use super::lock::{CacheLock, LockPaths, Mechanism};
use super::replace::{self, Modes};

/// A file of mode 0600 in the state folder, in which programs of one user note things together.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    lock: LockPaths,
}

impl StateFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        let lock_file = path.with_extension("lock");
        Self { lock: LockPaths::new((Mechanism::Flock, lock_file), []), path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The content; `None` if there is no such file.
    ///
    /// # Errors
    /// [`CacheError::Unsafe`] if it is not ours to trust; [`CacheError::Io`] otherwise.
    pub(crate) fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CacheError> {
        replace::read(&self.path, Modes::Tighten)
    }

    /// Replaces the content by what `change` makes of it, under the lock.
    ///
    /// # Errors
    /// [`CacheError::LockTimeout`] once the deadline has passed, else as [`Self::read`], or
    /// whatever `change` fails with; the content is as it was then.
    pub(crate) fn update<T>(
        &self,
        deadline: Deadline,
        change: impl Fn(Option<&[u8]>) -> Result<(Vec<u8>, T), CacheError>,
    ) -> Result<T, CacheError> {
        self.make_folders()?;
        loop {
            let held = CacheLock::acquire(&self.lock, deadline)?;
            let before = self.read()?;
            let (bytes, value) = change(before.as_ref().map(|bytes| bytes.as_slice()))?;
            // whoever took the lock away may have written, so again
            if replace::replace(&self.path, &bytes, Modes::Tighten, &held)? {
                return Ok(value);
            }
            if deadline.has_passed() {
                let (path, waited) = (self.path.clone(), deadline.whole());
                return Err(CacheError::LockTimeout { path, holder: "somebody".to_owned(), waited });
            }
        }
    }

    /// The state folder itself may not be there either.
    fn make_folders(&self) -> Result<(), CacheError> {
        let Some(above) = self.path.parent().and_then(Path::parent) else { return Ok(()) };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(above).map_err(CacheError::io("create", above))
    }

    /// Renames content that nobody can read out of the way, and says to what.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub(crate) fn set_aside(&self, now: UnixTime, deadline: Deadline) -> Result<String, CacheError> {
        let held = CacheLock::acquire(&self.lock, deadline)?;
        replace::set_aside(&self.path, now, &held)
    }
}

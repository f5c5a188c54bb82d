//! Exclusive creation, and `flock` or a record lock on the same inode.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt as _, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fs4::TryLockError;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use super::{Mechanism, age_of, content_of, is_stale, signature};
use crate::error::CacheError;

/// A lock file that is ours until dropped.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    path: PathBuf,
    stays: bool,
}

impl LockFile {
    /// `None` if somebody else has it.
    pub(super) fn try_acquire(path: &Path, mechanism: Mechanism) -> Result<Option<Self>, CacheError> {
        let stays = mechanism == Mechanism::KeptFlock;
        let opened = no_follow().create_new(true).mode(0o600).open(path);
        let (file, is_new) = match opened {
            Ok(file) => (file, true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match existing(path)? {
                Some(file) => (file, false),
                None => return Ok(None),
            },
            Err(error) => return Err(CacheError::io("create", path)(error)),
        };
        // whoever is quicker than we are to lock a file that we created has it: it stays
        let grant = match mechanism {
            Mechanism::Flock | Mechanism::KeptFlock => flock(&file),
            Mechanism::RecordLock => record_lock(&file),
        };
        let grant = grant.map_err(CacheError::io("lock", path))?;
        if grant == Grant::Denied || !is_at(&file, path) {
            return Ok(None);
        }
        if stays {
            return Ok(Some(Self { file, path: path.to_owned(), stays }));
        }
        if !is_new {
            let content = content_of(&file).map_err(CacheError::io("read", path))?;
            if !is_stale(&content, age_of(&file), grant == Grant::Granted) {
                return Ok(None);
            }
            tracing::warn!(
                "taking over {}, which was left behind by process {:?}",
                path.display(),
                content.trim()
            );
        }
        // the same inode is used on: to remove and create again would race with the next one
        let lock = Self { file, path: path.to_owned(), stays };
        sign(&lock.file).map_err(CacheError::io("write", path))?;
        Ok(Some(lock))
    }

    pub(super) fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.path)
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // while still locked, so that nobody locks a file that is about to vanish
        if !self.stays
            && self.is_in_place()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Grant {
    Denied,
    Granted,
    /// The file system knows no such locks; then existence is all there is, for everybody.
    Unsupported,
}

fn existing(path: &Path) -> Result<Option<File>, CacheError> {
    match no_follow().open(path) {
        Ok(file) => Ok(Some(file)),
        // gone again, or another user's: busy
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(None)
        }
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Err(CacheError::Unsafe {
            path: path.to_owned(),
            detail: "a lock file must not be a link".to_owned(),
        }),
        Err(error) => Err(CacheError::io("open", path)(error)),
    }
}

fn no_follow() -> OpenOptions {
    let mut options = File::options();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.read(true).write(true).custom_flags(flags.bits().cast_signed());
    options
}

/// A pipe would wait for a writer, and a device may do something.
pub(super) fn open_to_look(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn flock(file: &File) -> io::Result<Grant> {
    match fs4::FileExt::try_lock(file) {
        Ok(()) => Ok(Grant::Granted),
        Err(TryLockError::WouldBlock) => Ok(Grant::Denied),
        Err(TryLockError::Error(error)) => unsupported(error),
    }
}

/// A plain record lock belongs to the process: enough, as our threads take turns.
fn record_lock(file: &File) -> io::Result<Grant> {
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Grant::Granted),
        Err(Errno::ACCESS | Errno::AGAIN) => Ok(Grant::Denied),
        Err(error) => unsupported(error.into()),
    }
}

fn unsupported(error: io::Error) -> io::Result<Grant> {
    match Errno::from_io_error(&error) {
        Some(Errno::NOLCK | Errno::NOSYS | Errno::NOTSUP | Errno::INVAL) => Ok(Grant::Unsupported),
        _ => Err(error),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => ours.dev() == there.dev() && ours.ino() == there.ino(),
        _ => false,
    }
}

/// In this order, so that the file is never empty: an empty one says nothing of its maker.
fn sign(file: &File) -> io::Result<()> {
    let signature = signature();
    file.write_all_at(signature.as_bytes(), 0)?;
    file.set_len(signature.len() as u64)
}

pub(super) fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    rustix::process::test_kill_process(pid) != Err(Errno::SRCH)
}

pub(super) fn create_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

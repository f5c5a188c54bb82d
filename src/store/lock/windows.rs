//! One handle does it all: creating it is exclusive, its share mode keeps others from writing, and
//! the file goes with it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;

use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_ACCESS_DENIED, ERROR_INVALID_PARAMETER, ERROR_SHARING_VIOLATION, WAIT_OBJECT_0,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_DELETE_ON_CLOSE, FILE_SHARE_DELETE, FILE_SHARE_READ,
};
use windows_sys::Win32::System::Threading::{OpenProcess, PROCESS_SYNCHRONIZE, WaitForSingleObject};

use super::{Mechanism, age_of, content_of, is_stale, signature};
use crate::error::CacheError;

/// A lock file that is ours until dropped.
#[derive(Debug)]
pub(super) struct LockFile {
    _file: File,
}

impl LockFile {
    /// `None` if somebody else has it.
    pub(super) fn try_acquire(path: &Path, mechanism: Mechanism) -> Result<Option<Self>, CacheError> {
        if mechanism == Mechanism::KeptFlock {
            return try_kept(path).map_err(CacheError::io("lock", path));
        }
        let opened = exclusive().open(path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                remove_stale(path);
                return Ok(None);
            }
            // a file that is being deleted answers so
            Err(error) if is_busy(&error) => return Ok(None),
            Err(error) => return Err(CacheError::io("create", path)(error)),
        };
        let signed = file.write_all(signature().as_bytes());
        signed.map_err(CacheError::io("write", path))?;
        Ok(Some(Self { _file: file }))
    }

    /// Nobody can remove a file that is open without `FILE_SHARE_DELETE`.
    #[expect(clippy::unused_self, reason = "the Unix file has to look")]
    pub(super) const fn is_in_place(&self) -> bool {
        true
    }
}

/// A lock on the file's range, and a file that stays.
fn try_kept(path: &Path) -> io::Result<Option<LockFile>> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(LockFile { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn exclusive() -> OpenOptions {
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .create_new(true)
        .share_mode(FILE_SHARE_READ)
        .custom_flags(FILE_FLAG_DELETE_ON_CLOSE);
    options
}

pub(super) fn open_to_look(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Python and Node leave a file behind when they are killed; ours goes with the process.
fn remove_stale(path: &Path) {
    // opens only if nobody writes to it; shares deletion so that the removal below works
    let opened = File::options().read(true).share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE).open(path);
    let Ok(file) = opened else { return };
    let Ok(content) = content_of(&file) else {
        return;
    };
    if is_stale(&content, age_of(&file), true) && std::fs::remove_file(path).is_ok() {
        tracing::warn!("removed {}, which was left behind by process {:?}", path.display(), content.trim());
    }
}

fn is_busy(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| [ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION].contains(&code.cast_unsigned()))
}

#[expect(unsafe_code, reason = "std cannot ask after a process that is not its child")]
pub(super) fn is_alive(pid: u32) -> bool {
    // SAFETY: takes numbers only, and answers with a handle or null.
    let process = unsafe { OpenProcess(PROCESS_SYNCHRONIZE, 0, pid) };
    if process.is_null() {
        let error = io::Error::last_os_error();
        return error.raw_os_error().map(i32::cast_unsigned) != Some(ERROR_INVALID_PARAMETER);
    }
    // SAFETY: the handle is open, and nothing is waited for.
    let ended = unsafe { WaitForSingleObject(process, 0) } == WAIT_OBJECT_0;
    // SAFETY: the handle is open and closed once.
    unsafe { CloseHandle(process) };
    !ended
}

pub(super) fn create_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(folder)
}

//! The list of grants on Windows, whose folder only its user may enter anyway.

use std::fs::{self, File};
use std::io;
use std::os::windows::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use windows_sys::Win32::Foundation::ERROR_SHARING_VIOLATION;
use windows_sys::Win32::Storage::FileSystem::{FILE_SHARE_DELETE, FILE_SHARE_READ};

/// As long as this is open, nobody else opens the file for writing: that is how it is held.
pub(super) fn create(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE)
        .open(path)
}

pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
pub(super) fn hold(_file: &File) -> io::Result<()> {
    Ok(())
}

pub(super) fn is_held(_file: &File, path: &Path) -> io::Result<bool> {
    let violation = i32::try_from(ERROR_SHARING_VIOLATION).ok();
    match File::options().write(true).open(path) {
        Ok(_) => Ok(false),
        Err(error) if error.raw_os_error() == violation => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.seek_write(bytes, offset).map(drop)
}

pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

//! A user's folders are closed to others by their access lists; what differs is renaming.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION};

use super::super::watch::is_absence;
use super::Modes;
use crate::error::CacheError;

pub(super) fn open_trusted(path: &Path, _modes: Modes) -> Result<Option<File>, CacheError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(CacheError::io("open", path)(error)),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "on Unix a path can be refused")]
pub(super) fn trusted_target(path: &Path, _modes: Modes) -> Result<PathBuf, CacheError> {
    Ok(path.to_owned())
}

pub(super) fn create_or_reuse_private(path: &Path) -> io::Result<File> {
    File::create(path)
}

pub(super) fn create_private(path: &Path) -> io::Result<File> {
    File::create_new(path)
}

pub(super) fn open_to_touch(path: &Path) -> io::Result<Option<File>> {
    match File::options().write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A reader that does not share deletion, as Python's does not, is gone in a moment.
pub(super) fn rename_over(from: &Path, to: &Path) -> io::Result<()> {
    for _ in 0..10 {
        match fs::rename(from, to) {
            Err(error) if is_not_replaceable(&error) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
    fs::rename(from, to)
}

pub(super) fn is_not_replaceable(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| [ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION].contains(&code.cast_unsigned()))
}

#[expect(clippy::unnecessary_wraps, reason = "on Unix a folder is synced")]
pub(super) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

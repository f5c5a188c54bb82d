//! The plaintext file: for those who said that its mode is protection enough (spec S-C 2.6).

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::error::CacheError;
use crate::time::UnixTime;

use super::StoreDescription;
use super::blob::Blob;
use super::lock::CacheLock;
use super::profile::CacheFiles;
use super::replace;

/// A cache in a file of mode 0600 in a folder of mode 0700.
#[derive(Debug)]
pub(super) struct PlaintextFile {
    name: String,
    path: PathBuf,
}

impl PlaintextFile {
    pub(super) fn new(name: &str, files: &CacheFiles) -> Self {
        Self { name: name.to_owned(), path: files.path.clone() }
    }
}

impl Blob for PlaintextFile {
    const IS_FILE: bool = true;

    fn describe(&self) -> StoreDescription {
        StoreDescription {
            cache: self.name.clone(),
            place: self.path.display().to_string(),
            encrypted: false,
        }
    }

    fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CacheError> {
        replace::read(&self.path)
    }

    fn write(&self, bytes: &[u8], held: &CacheLock) -> Result<bool, CacheError> {
        replace::replace(&self.path, bytes, held)
    }

    fn remove(&self, held: &CacheLock) -> Result<(), CacheError> {
        replace::remove(&self.path, held)
    }

    fn set_aside(&self, now: UnixTime, held: &CacheLock) -> Result<String, CacheError> {
        replace::set_aside(&self.path, now, held)
    }
}

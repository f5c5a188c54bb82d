//! A cache in a file: in plaintext for those who said that its mode is protection enough
//! (spec S-C 2.6), or in whatever encoding its tool writes.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::error::CacheError;
use crate::time::UnixTime;

use super::StoreDescription;
use super::blob::Blob;
use super::encoding::{Codec, Encoding, Opened};
use super::lock::CacheLock;
use super::profile::CacheFiles;
use super::replace::{self, Modes};

/// A cache in a file of mode 0600 in a folder of mode 0700.
#[derive(Debug)]
pub(super) struct CacheFile {
    name: String,
    path: PathBuf,
    codec: Codec,
    modes: Modes,
}

impl CacheFile {
    /// Our own, which holds nothing but this encoding.
    pub(super) fn own(name: &str, files: &CacheFiles, encoding: Encoding) -> Self {
        let codec = Codec::only(encoding);
        Self { name: name.to_owned(), path: files.path.clone(), codec, modes: Modes::Tighten }
    }

    /// Some tool's, in its folder.
    pub(super) fn of_tool(name: &str, files: &CacheFiles, encoding: Encoding) -> Self {
        let codec = Codec::lenient(encoding, name);
        Self { name: name.to_owned(), path: files.path.clone(), codec, modes: Modes::Leave }
    }

    /// What the file holds, and how that is encoded.
    pub(super) fn look(&self) -> Result<Option<Opened>, CacheError> {
        let Some(kept) = replace::read(&self.path, self.modes)? else {
            return Ok(None);
        };
        self.codec.look(kept, &self.describe().to_string()).map(Some)
    }
}

impl Blob for CacheFile {
    const IS_FILE: bool = true;

    fn describe(&self) -> StoreDescription {
        StoreDescription {
            cache: self.name.clone(),
            place: self.path.display().to_string(),
            encrypted: self.codec.encoding().encrypts(),
        }
    }

    fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CacheError> {
        Ok(self.look()?.map(|opened| opened.bytes))
    }

    fn write(&self, bytes: &[u8], held: &CacheLock) -> Result<bool, CacheError> {
        let replaced = replace::read(&self.path, self.modes)?;
        let kept = replaced.as_deref().map(Vec::as_slice);
        let sealed = self.codec.seal(bytes, kept, &self.describe().to_string())?;
        replace::replace(&self.path, &sealed, self.modes, held)
    }

    fn remove(&self, held: &CacheLock) -> Result<(), CacheError> {
        replace::remove(&self.path, held)
    }

    fn set_aside(&self, now: UnixTime, held: &CacheLock) -> Result<String, CacheError> {
        replace::set_aside(&self.path, now, held)
    }
}

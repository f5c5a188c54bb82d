//! The file that every SDK of Windows shares: DPAPI of the user, no entropy (spec S-C 2.2).

use std::path::PathBuf;
use std::{io, ptr, slice};

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Cryptography::{
    CRYPT_INTEGER_BLOB, CRYPTPROTECT_UI_FORBIDDEN, CryptProtectData, CryptUnprotectData,
};
use zeroize::{Zeroize, Zeroizing};

use crate::error::CacheError;
use crate::time::UnixTime;

use super::StoreDescription;
use super::blob::Blob;
use super::lock::CacheLock;
use super::profile::CacheFiles;
use super::replace;

/// A cache in a file that only this user of this machine can decrypt.
#[derive(Debug)]
pub(super) struct DpapiFile {
    name: String,
    path: PathBuf,
}

impl DpapiFile {
    pub(super) fn new(name: &str, files: &CacheFiles) -> Self {
        Self { name: name.to_owned(), path: files.path.clone() }
    }
}

impl Blob for DpapiFile {
    const IS_FILE: bool = true;

    fn describe(&self) -> StoreDescription {
        StoreDescription { cache: self.name.clone(), place: self.path.display().to_string(), encrypted: true }
    }

    fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CacheError> {
        match replace::read(&self.path)? {
            // of no length: a cache in which nothing was ever kept
            Some(sealed) if !sealed.is_empty() => {
                let opened = crypt(Direction::Open, &sealed);
                opened.map(Some).map_err(|error| CacheError::KeyUnavailable {
                    place: self.describe().to_string(),
                    detail: error.to_string(),
                })
            }
            other => Ok(other),
        }
    }

    fn write(&self, bytes: &[u8], held: &CacheLock) -> Result<bool, CacheError> {
        let sealed = crypt(Direction::Seal, bytes);
        let sealed = sealed.map_err(CacheError::io("encrypt", &self.path))?;
        replace::replace(&self.path, &sealed, held)
    }

    fn remove(&self, held: &CacheLock) -> Result<(), CacheError> {
        replace::remove(&self.path, held)
    }

    fn set_aside(&self, now: UnixTime, held: &CacheLock) -> Result<String, CacheError> {
        replace::set_aside(&self.path, now, held)
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Open,
    Seal,
}

#[expect(unsafe_code, reason = "DPAPI is a C interface")]
fn crypt(direction: Direction, input: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = u32::try_from(input.len()).map_err(io::Error::other)?;
    let given = CRYPT_INTEGER_BLOB { cbData: size, pbData: input.as_ptr().cast_mut() };
    let mut made = CRYPT_INTEGER_BLOB { cbData: 0, pbData: ptr::null_mut() };
    let (no_entropy, reserved, no_prompt) = (ptr::null(), ptr::null(), ptr::null());
    let flags = CRYPTPROTECT_UI_FORBIDDEN;
    let succeeded = match direction {
        // SAFETY: both blobs outlive the call, which only reads `given`, and all else may be null.
        Direction::Seal => unsafe {
            CryptProtectData(&given, ptr::null(), no_entropy, reserved, no_prompt, flags, &mut made)
        },
        // SAFETY: as above; null means that the description is not wanted.
        Direction::Open => unsafe {
            let no_description = ptr::null_mut();
            CryptUnprotectData(&given, no_description, no_entropy, reserved, no_prompt, flags, &mut made)
        },
    };
    if succeeded == 0 {
        return Err(io::Error::last_os_error());
    }
    if made.pbData.is_null() {
        return Ok(Zeroizing::default());
    }
    // SAFETY: on success the blob is a buffer of that size which is ours until it is freed below.
    let output = unsafe { slice::from_raw_parts_mut(made.pbData, made.cbData as usize) };
    let copy = Zeroizing::new(output.to_vec());
    output.zeroize();
    // SAFETY: the documentation asks for exactly this, once; `output` is not used after it.
    unsafe { LocalFree(made.pbData.cast()) };
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::super::profile::AZURE_IDENTITY;
    use super::*;
    use crate::time::Deadline;

    struct Cache {
        _home: tempfile::TempDir,
        file: DpapiFile,
        held: CacheLock,
    }

    impl Cache {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let files = AZURE_IDENTITY.files(home.path(), "msal.cache.nocae");
            let held = CacheLock::acquire(&files.lock, Deadline::within(Duration::ZERO)).unwrap();
            Self { file: DpapiFile::new("msal.cache.nocae", &files), held, _home: home }
        }
    }

    #[test]
    fn what_is_written_is_sealed_and_comes_back() {
        let cache = Cache::new();
        assert!(cache.file.read().unwrap().is_none());
        for content in [b"{\"Account\":{}}".as_slice(), b"{}"] {
            cache.file.write(content, &cache.held).unwrap();
            assert_eq!(cache.file.read().unwrap().unwrap().as_slice(), content);
            let sealed = fs::read(&cache.file.path).unwrap();
            assert!(!sealed.windows(content.len()).any(|window| window == content));
        }
        cache.file.remove(&cache.held).unwrap();
        assert!(cache.file.read().unwrap().is_none());
    }

    #[test]
    fn an_empty_file_is_an_empty_cache() {
        let cache = Cache::new();
        fs::write(&cache.file.path, "").unwrap();
        assert_eq!(cache.file.read().unwrap().unwrap().as_slice(), b"");
    }

    #[test]
    fn what_cannot_be_opened_is_named_so_and_stays() {
        let cache = Cache::new();
        cache.file.write(b"{}", &cache.held).unwrap();
        let mut sealed = fs::read(&cache.file.path).unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        fs::write(&cache.file.path, &sealed).unwrap();
        let error = cache.file.read().unwrap_err();
        assert!(matches!(error, CacheError::KeyUnavailable { .. }), "{error}");
        assert_eq!(fs::read(&cache.file.path).unwrap(), sealed);
    }
}

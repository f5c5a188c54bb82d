//! The user's DPAPI, no entropy: what every SDK of Windows encrypts its file with (spec S-C 2.2).

use std::{io, ptr, slice};

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Cryptography::{
    CRYPT_INTEGER_BLOB, CRYPTPROTECT_UI_FORBIDDEN, CryptProtectData, CryptUnprotectData,
};
use zeroize::{Zeroize, Zeroizing};

/// Decrypts what this user of this machine encrypted.
pub(super) fn open(sealed: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    crypt(Direction::Open, sealed)
}

/// Encrypts so that only this user of this machine can decrypt it.
pub(super) fn seal(content: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    crypt(Direction::Seal, content)
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
    use std::path::PathBuf;
    use std::time::Duration;

    use super::super::blob::Blob;
    use super::super::encoding::Encoding;
    use super::super::file::CacheFile;
    use super::super::lock::CacheLock;
    use super::super::profile::AZURE_IDENTITY;
    use crate::error::CacheError;
    use crate::time::Deadline;

    struct Cache {
        _home: tempfile::TempDir,
        path: PathBuf,
        file: CacheFile,
        held: CacheLock,
    }

    impl Cache {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let files = AZURE_IDENTITY.files(home.path(), "msal.cache.nocae");
            let held = CacheLock::acquire(&files.lock, Deadline::within(Duration::ZERO)).unwrap();
            let file = CacheFile::own("msal.cache.nocae", &files, Encoding::Dpapi);
            Self { path: files.path, file, held, _home: home }
        }
    }

    #[test]
    fn what_is_written_is_sealed_and_comes_back() {
        let cache = Cache::new();
        assert!(cache.file.read().unwrap().is_none());
        for content in [b"{\"Account\":{}}".as_slice(), b"{}"] {
            cache.file.write(content, &cache.held).unwrap();
            assert_eq!(cache.file.read().unwrap().unwrap().as_slice(), content);
            let sealed = fs::read(&cache.path).unwrap();
            assert!(!sealed.windows(content.len()).any(|window| window == content));
        }
        cache.file.remove(&cache.held).unwrap();
        assert!(cache.file.read().unwrap().is_none());
    }

    #[test]
    fn an_empty_file_is_an_empty_cache() {
        let cache = Cache::new();
        fs::write(&cache.path, "").unwrap();
        assert_eq!(cache.file.read().unwrap().unwrap().as_slice(), b"");
    }

    #[test]
    fn what_cannot_be_opened_is_named_so_and_stays() {
        let cache = Cache::new();
        cache.file.write(b"{}", &cache.held).unwrap();
        let mut sealed = fs::read(&cache.path).unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        fs::write(&cache.path, &sealed).unwrap();
        let error = cache.file.read().unwrap_err();
        assert!(matches!(error, CacheError::KeyUnavailable { .. }), "{error}");
        assert_eq!(fs::read(&cache.path).unwrap(), sealed);
    }
}

//! A file of 32 random bytes that we made, such as on a removable disk or a mounted secret.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{ProtectorError, VaultError};

use super::super::file;
use super::super::keys::{SecretKey, derive};
use super::{Protector, ProtectorKind, SlotContext, Wrapped};
use super::{from_hex, parameters, random_hex, unwrap_with, wrap_with};

/// A key file.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The file at this path; the first wrap makes it if it is not there yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn read(&self) -> Result<Zeroizing<[u8; 32]>, ProtectorError> {
        let link = std::fs::symlink_metadata(&self.path).map_err(|error| self.gone(&error))?;
        let mut opened = File::open(&self.path).map_err(|error| self.gone(&error))?;
        let metadata = opened.metadata().map_err(|error| self.gone(&error))?;
        file::trust_file(&self.path, &link).map_err(|error| self.refuse(&error))?;
        file::trust_file(&self.path, &metadata).map_err(|error| self.refuse(&error))?;
        if metadata.len() != 32 {
            let detail = format!("it has {} bytes; a key file that we made has 32", metadata.len());
            return Err(ProtectorError::UnsafeKeyFile { path: self.path.clone(), detail });
        }
        let mut bytes = Zeroizing::new([0; 32]);
        opened.read_exact(&mut *bytes).map_err(|error| self.gone(&error))?;
        Ok(bytes)
    }

    fn make(&self) -> Result<(), ProtectorError> {
        let mut made = file::create_private(&self.path).map_err(|error| self.refuse(&error))?;
        let mut write = || -> io::Result<()> {
            made.write_all(SecretKey::generate().expose())?;
            made.sync_all()
        };
        let written = write().map_err(|error| self.gone(&error));
        let synced = file::sync_folder(&self.path).map_err(|error| self.refuse(&error));
        written.and(synced).inspect_err(|_| {
            // a short key file would be refused ever after
            let _gone = std::fs::remove_file(&self.path);
        })
    }

    fn key(&self, salt: &str) -> Result<SecretKey, ProtectorError> {
        Ok(derive(self.read()?.as_slice(), &from_hex(salt)?, b"tokenkeep vault key file"))
    }

    fn gone(&self, error: &io::Error) -> ProtectorError {
        ProtectorError::Gone { keeper: "key file", detail: format!("{}: {error}", self.path.display()) }
    }

    fn refuse(&self, error: &VaultError) -> ProtectorError {
        let detail = match error {
            VaultError::Unsafe { detail, .. } => detail.clone(),
            other => other.to_string(),
        };
        ProtectorError::UnsafeKeyFile { path: self.path.clone(), detail }
    }
}

impl Protector for KeyFile {
    fn kind(&self) -> ProtectorKind {
        ProtectorKind::KeyFile
    }

    fn wrap(&self, key: &SecretKey, slot: &SlotContext<'_>) -> Result<Wrapped, ProtectorError> {
        if !exists(&self.path) {
            self.make()?;
        }
        let parameters = Parameters { salt: random_hex() };
        Ok(wrap_with(&self.key(&parameters.salt)?, key, self.kind(), &parameters, slot))
    }

    fn unwrap(&self, wrapped: &Wrapped, slot: &SlotContext<'_>) -> Result<SecretKey, ProtectorError> {
        let Parameters { salt } = parameters(wrapped)?;
        unwrap_with(&self.key(&salt)?, self.kind(), wrapped, slot)
            .ok_or(ProtectorError::WrongSecret { what: "key file" })
    }
}

#[derive(Serialize, Deserialize)]
struct Parameters {
    salt: String,
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    #[test]
    fn the_file_is_made_once_and_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let wrapped = round_trip(&KeyFile::new(&path));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 32);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        round_trip(&KeyFile::new(&path));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);

        let slot = SlotContext { vault_id: &[1; 16] };
        let other = KeyFile::new(dir.path().join("other"));
        round_trip(&other);
        let error = other.unwrap(&wrapped, &slot).unwrap_err();
        assert_eq!(error.to_string(), "wrong key file");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_not_ours_alone_is_refused() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let wrapped = round_trip(&KeyFile::new(&path));
        let slot = SlotContext { vault_id: &[1; 16] };
        let refusal = |path: &Path| KeyFile::new(path).unwrap(&wrapped, &slot).unwrap_err().to_string();

        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(refusal(&link).contains("not a plain file"), "{}", refusal(&link));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(refusal(&path).contains("mode is 640"));
        let short = dir.path().join("short");
        file::create_private(&short).unwrap().write_all(b"short").unwrap();
        assert!(refusal(&short).contains("5 bytes"));
        assert!(refusal(&dir.path().join("none")).contains("gone"));
    }
}

//! Where a document rests, and how it is changed without losing anybody's work.
//!
//! A platform brings a `Blob`, which reads and writes bytes. `BlobStore` makes a [`Store`] of it:
//! lock, reload, apply, write, signal, unlock, once for all of them. [`open()`] chooses.

mod blob;
#[cfg(windows)]
mod dpapi;
mod file;
#[cfg(target_os = "macos")]
mod keychain;
mod lock;
mod memory;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod patience;
mod profile;
mod replace;
#[cfg(target_os = "linux")]
mod secret_service;
mod watch;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::document::{ChangeSet, TokenCacheDocument};
use crate::error::{CacheError, EncryptionLayer};
use crate::options::{Storage, TokenCachePersistenceOptions};
use crate::time::Deadline;

pub use self::memory::MemoryStore;
pub use self::watch::Stamp;

use self::blob::BlobStore;
use self::file::PlaintextFile;
use self::profile::AZURE_IDENTITY;

/// Keeps one document. Blocking on purpose: files, D-Bus, Keychain and DPAPI all are.
pub trait Store: fmt::Debug + Send + Sync {
    /// What to call it.
    fn describe(&self) -> StoreDescription;

    /// The current stamp: a `stat`, never a read, never a call to a keyring.
    ///
    /// # Errors
    /// [`CacheError::Io`] if the system does not tell.
    fn stamp(&self) -> Result<Stamp, CacheError>;

    /// The current document; an empty one if there is none yet. Takes no lock.
    ///
    /// # Errors
    /// [`CacheError::Damaged`] for content that is no document, and what the back end says.
    fn load(&self) -> Result<Snapshot, CacheError>;

    /// Locks, reloads, applies, writes if that made a difference, signals, unlocks.
    ///
    /// # Errors
    /// [`CacheError::LockTimeout`] once the deadline has passed, [`CacheError::Damaged`] for
    /// content that is no document (it is left as it is), and what the back end says.
    fn apply(&self, changes: &ChangeSet, deadline: Deadline) -> Result<Applied, CacheError>;

    /// Removes the whole cache. Content that is not a document is set aside, not deleted; the
    /// answer names where it went.
    ///
    /// # Errors
    /// [`CacheError::LockTimeout`] once the deadline has passed, and what the back end says.
    fn discard(&self, deadline: Deadline) -> Result<Option<String>, CacheError>;
}

/// A document, and the stamp of the moment it was read.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What was there.
    pub document: Arc<TokenCacheDocument>,
    /// When that was.
    pub stamp: Stamp,
}

/// What applying changes came to.
#[derive(Clone, Debug)]
pub struct Applied {
    /// What is in the store now.
    pub snapshot: Snapshot,
    /// Whether the changes made a difference to what was in the store by then.
    pub changed: bool,
}

/// What to call a store when talking to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreDescription {
    /// The cache's full name, such as `msal.cache.nocae`.
    pub cache: String,
    /// What keeps it, such as `Secret Service` or a path.
    pub place: String,
    /// Whether it is encrypted at rest.
    pub encrypted: bool,
}

impl fmt::Display for StoreDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.cache, self.place)
    }
}

/// The folders that caches are found in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Places {
    /// `~`.
    pub home: PathBuf,
    /// `%LOCALAPPDATA%`; on Unix the same as `home`, unused.
    pub local_data: PathBuf,
}

impl Places {
    /// The folders of the user who runs this process: `HOME`, on Windows also `LOCALAPPDATA`,
    /// or what the system knows of the user if they are not set.
    ///
    /// # Errors
    /// [`CacheError::Io`] if neither the environment nor the system names a folder.
    pub fn of_current_user() -> Result<Self, CacheError> {
        let unknown = || {
            let said = "neither the environment nor the system names one";
            CacheError::io("find the home folder", "~")(io::Error::new(io::ErrorKind::NotFound, said))
        };
        let folders = directories::BaseDirs::new().ok_or_else(unknown)?;
        let home = folders.home_dir().to_owned();
        let local_data = if cfg!(windows) {
            // Python reads the variable, so it must win over the system's answer
            std::env::var_os("LOCALAPPDATA")
                .map_or_else(|| folders.data_local_dir().to_owned(), PathBuf::from)
        } else {
            home.clone()
        };
        if !home.is_absolute() || !local_data.is_absolute() {
            return Err(unknown());
        }
        Ok(Self { home, local_data })
    }

    /// A home of the caller's choosing, with everything below it.
    #[must_use]
    pub fn below(home: impl Into<PathBuf>) -> Self {
        let home = home.into();
        Self { local_data: home.clone(), home }
    }
}

/// Opens the cache that the options name, or the one beside it for continuous access evaluation
/// (spec S-B 2.5).
///
/// Nothing is read yet, except that with `allow_unencrypted_storage` Linux is asked whether its
/// Secret Service works; that connection then serves the first load.
///
/// # Errors
/// [`CacheError::EncryptionUnavailable`] where this platform has no encrypted store and plaintext
/// was not allowed. [`CacheError::Locked`] and [`CacheError::Timeout`] even where it was: falling
/// back would hide the logins that are in the keyring.
pub fn open(
    options: &TokenCachePersistenceOptions,
    cae: bool,
    places: &Places,
) -> Result<Arc<dyn Store>, CacheError> {
    let name = AZURE_IDENTITY.full_name(&options.name, cae);
    let plaintext = || -> Arc<dyn Store> {
        let files = AZURE_IDENTITY.files(&places.home, &name);
        Arc::new(BlobStore::new(PlaintextFile::new(&name, &files), files))
    };
    match options.storage {
        Storage::Plaintext => Ok(plaintext()),
        Storage::Platform => platform(&name, places, false),
        Storage::Auto => match platform(&name, places, options.allow_unencrypted_storage) {
            Err(error) if falls_back(&error, options) => {
                say_once_that_it_is_not_encrypted(&error);
                Ok(plaintext())
            }
            other => other,
        },
    }
}

#[cfg(target_os = "linux")]
fn platform(name: &str, places: &Places, probe: bool) -> Result<Arc<dyn Store>, CacheError> {
    let files = AZURE_IDENTITY.files(&places.home, name);
    let item = secret_service::SecretServiceItem::new(name);
    if probe {
        item.probe()?;
    }
    Ok(Arc::new(BlobStore::new(item, files)))
}

#[cfg(target_os = "macos")]
#[expect(clippy::unnecessary_wraps, reason = "Linux asks its service, which may refuse")]
fn platform(name: &str, places: &Places, _probe: bool) -> Result<Arc<dyn Store>, CacheError> {
    let files = AZURE_IDENTITY.files(&places.home, name);
    let item = keychain::KeychainItem::new(name);
    Ok(Arc::new(BlobStore::new(item, files)))
}

#[cfg(windows)]
#[expect(clippy::unnecessary_wraps, reason = "Linux asks its service, which may refuse")]
fn platform(name: &str, places: &Places, _probe: bool) -> Result<Arc<dyn Store>, CacheError> {
    let files = AZURE_IDENTITY.files(&places.local_data, name);
    let file = dpapi::DpapiFile::new(name, &files);
    Ok(Arc::new(BlobStore::new(file, files)))
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
fn platform(name: &str, _places: &Places, _probe: bool) -> Result<Arc<dyn Store>, CacheError> {
    Err(CacheError::EncryptionUnavailable {
        place: name.to_owned(),
        layer: EncryptionLayer::Platform,
        detail: "this platform has no encrypted store that we know".to_owned(),
    })
}

fn falls_back(error: &CacheError, options: &TokenCachePersistenceOptions) -> bool {
    match error {
        CacheError::EncryptionUnavailable { layer, .. } => match layer {
            EncryptionLayer::Bus
            | EncryptionLayer::Collection
            | EncryptionLayer::Platform
            | EncryptionLayer::Service => options.allow_unencrypted_storage,
        },
        _ => false,
    }
}

fn say_once_that_it_is_not_encrypted(error: &CacheError) {
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| {
        tracing::warn!("{error}; keeping tokens in a plaintext file, as allow_unencrypted_storage allows");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_opened_where_the_options_say_so_and_says_so_itself() {
        let options = TokenCachePersistenceOptions::default().storage(Storage::Plaintext);
        let store = open(&options, true, &Places::below("home")).unwrap();
        let described = store.describe();
        assert_eq!((described.cache.as_str(), described.encrypted), ("msal.cache.cae", false));
        assert!(described.place.ends_with("msal.cache.cae"), "{described}");
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "macos", windows))]
    fn by_default_the_platform_encrypts_and_nothing_is_asked_yet() {
        let options = TokenCachePersistenceOptions::default();
        let store = open(&options, false, &Places::below("home")).unwrap();
        let described = store.describe();
        assert_eq!((described.cache.as_str(), described.encrypted), ("msal.cache.nocae", true));
    }

    #[test]
    fn only_missing_encryption_falls_back_and_only_if_that_was_allowed() {
        let place = String::new;
        let missing = CacheError::EncryptionUnavailable {
            place: place(),
            layer: EncryptionLayer::Bus,
            detail: String::new(),
        };
        let locked = CacheError::Locked { place: place() };
        let denied = TokenCachePersistenceOptions::default();
        let allowed = denied.clone().allow_unencrypted_storage(true);
        assert!(falls_back(&missing, &allowed));
        assert!(!falls_back(&missing, &denied));
        assert!(!falls_back(&locked, &allowed));
    }
}

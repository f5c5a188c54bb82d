//! Where a document rests, and how it is changed without losing anybody's work.
//!
//! A platform brings a `Blob`, which reads and writes bytes. `BlobStore` makes a [`Store`] of it:
//! lock, reload, apply, write, signal, unlock, once for all of them. The [`vault`] is a store of
//! its own kind, row by row. [`open()`] chooses. [`silos`] finds what other tools keep, by the rows
//! of [`PROFILES`].

mod blob;
#[cfg(windows)]
mod dpapi;
mod encoding;
mod file;
mod jwe;
#[cfg(target_os = "linux")]
mod kernel_key;
#[cfg(target_os = "macos")]
mod keychain;
mod keyring_state;
mod lock;
mod memory;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod patience;
mod profile;
mod replace;
#[cfg(target_os = "linux")]
mod secret_service;
mod silo;
mod state_file;
#[cfg(test)]
mod suite;
pub mod vault;
mod watch;
mod watcher;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::document::{ChangeSet, TokenCacheDocument};
use crate::error::{CacheError, EncryptionLayer};
use crate::options::{Storage, TokenCachePersistenceOptions};
use crate::time::Deadline;

pub use self::encoding::Encoding;
pub use self::keyring_state::{KeyringState, check_keyring};
pub use self::memory::MemoryStore;
pub use self::profile::{PROFILES, Profile};
pub use self::silo::{
    Content, FileFacts, FileKind, ItemFacts, LockFacts, Place, Silo, SiloFacts, Writing, damaged_copies,
    silos, silos_of,
};
pub(crate) use self::state_file::StateFile;
pub use self::watch::Stamp;
pub use self::watcher::{Signal, Watcher};

use self::blob::BlobStore;
use self::file::CacheFile;
use self::profile::AZURE_IDENTITY;
use self::vault::{OpenedStore, Unattended, Unlocking};

/// Keeps one document. Blocking on purpose: files, D-Bus, Keychain and DPAPI all are.
pub trait Store: fmt::Debug + Send + Sync {
    /// What to call it.
    fn describe(&self) -> StoreDescription;

    /// The current stamp: a `stat`, never a read, never a call to a keyring.
    ///
    /// # Errors
    /// [`CacheError::Io`] if the system does not tell.
    fn stamp(&self) -> Result<Stamp, CacheError>;

    /// The files that a [`Watcher`] has to look at: whenever the stamp changes, one of them has
    /// changed just before. None for a store that nobody else can change.
    fn signals(&self) -> Vec<Signal> {
        Vec::new()
    }

    /// The current document; an empty one if there is none yet. Takes no lock.
    ///
    /// # Errors
    /// [`CacheError::Damaged`] for content that is no document, and what the back end says.
    fn load(&self) -> Result<Snapshot, CacheError>;

    /// What a request for one account can need: the account's entries, and what is known of their
    /// clients. A store that keeps its document in one piece reads the whole; in one that does not,
    /// this costs the same however many other accounts there are.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn load_account(&self, _home_account_id: &str) -> Result<Snapshot, CacheError> {
        self.load()
    }

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
    /// How much of it was read.
    pub extent: Extent,
}

/// How much of a store's document a [`Snapshot`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What a request for one account can need, or less.
    Account,
    /// All of it.
    Whole,
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
    /// What programs keep between runs: `$XDG_STATE_HOME`; elsewhere the folder of local data.
    pub state: PathBuf,
    /// What people choose: `$XDG_CONFIG_HOME`.
    pub config: PathBuf,
    /// What is gone with the session: `$XDG_RUNTIME_DIR`, where there is one.
    pub runtime: Option<PathBuf>,
    /// What programs keep for the user: `$XDG_DATA_HOME`; elsewhere the folder of local data.
    pub data: PathBuf,
    /// What programs could make again: `$XDG_CACHE_HOME`.
    pub cache: PathBuf,
    /// The Azure CLI's: `$AZURE_CONFIG_DIR`.
    pub azure_config: PathBuf,
    /// The Azure Developer CLI's: `$AZD_CONFIG_DIR`.
    pub azd_config: PathBuf,
}

impl Places {
    /// The folders of the user who runs this process: `HOME`, `XDG_*`, on Windows also
    /// `LOCALAPPDATA`, or what the system knows of the user if they are not set; `AZURE_CONFIG_DIR`
    /// and `AZD_CONFIG_DIR`, or their defaults.
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
        let named = |variable: &str, otherwise: &str| {
            let value = std::env::var_os(variable).filter(|value| !value.is_empty());
            value.map_or_else(|| home.join(otherwise), PathBuf::from)
        };
        Ok(Self {
            local_data,
            state: folders.state_dir().unwrap_or_else(|| folders.data_local_dir()).to_owned(),
            config: folders.config_dir().to_owned(),
            data: folders.data_local_dir().to_owned(),
            cache: folders.cache_dir().to_owned(),
            azure_config: named("AZURE_CONFIG_DIR", ".azure"),
            azd_config: named("AZD_CONFIG_DIR", ".azd"),
            runtime: folders.runtime_dir().map(Path::to_owned),
            home,
        })
    }

    /// A home of the caller's choosing, with everything below it.
    #[must_use]
    pub fn below(home: impl Into<PathBuf>) -> Self {
        let home = home.into();
        Self {
            local_data: home.clone(),
            state: home.join(".local").join("state"),
            config: home.join(".config"),
            runtime: None,
            data: home.join(".local").join("share"),
            cache: home.join(".cache"),
            azure_config: home.join(".azure"),
            azd_config: home.join(".azd"),
            home,
        }
    }

    /// The user's vault, whether there is one or not.
    #[must_use]
    pub fn vault(&self) -> PathBuf {
        self.state.join("tokenkeep").join("vault.db")
    }

    /// The folder of sockets and of files about running processes: never below `/tmp`, where others
    /// could be first.
    #[must_use]
    pub fn running(&self) -> PathBuf {
        match &self.runtime {
            Some(runtime) => runtime.join("tokenkeep"),
            None => self.state.join("tokenkeep").join("run"),
        }
    }

    /// The key file that opens the vault unless another is named. Not beside it: who copies the
    /// one folder should not have the other.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.config.join("tokenkeep").join("vault.key")
    }
}

/// What [`Storage`] comes to on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChosenStorage {
    /// The platform's encrypted store.
    Platform,
    /// The plaintext file.
    Plaintext,
    /// The vault at this path.
    Vault(PathBuf),
}

/// Opens the cache that the options name, or the one beside it for continuous access evaluation
/// (spec S-B 2.5). A vault is unlocked as [`Unattended::of_environment`] says.
///
/// Nothing is read yet, except that Linux is asked whether its Secret Service works if there is
/// something else to fall back to; that connection then serves the first load.
///
/// # Errors
/// [`CacheError::EncryptionUnavailable`] where this platform has no encrypted store, the user has
/// no vault, and plaintext was not allowed. [`CacheError::Locked`] and [`CacheError::Timeout`] even
/// where it was: falling back would hide the logins that are in the keyring.
pub fn open(
    options: &TokenCachePersistenceOptions,
    cae: bool,
    places: &Places,
) -> Result<Arc<dyn Store>, CacheError> {
    let chosen = choose(options, places)?;
    Ok(open_chosen(&chosen, options, cae, places, &|| Arc::new(Unattended::of_environment(places))))
}

/// The same with another way to unlock a vault, such as by asking a person.
///
/// # Errors
/// As [`open()`].
pub fn open_with(
    options: &TokenCachePersistenceOptions,
    cae: bool,
    places: &Places,
    unlocking: &Arc<dyn Unlocking>,
) -> Result<Arc<dyn Store>, CacheError> {
    let chosen = choose(options, places)?;
    Ok(open_chosen(&chosen, options, cae, places, &|| Arc::clone(unlocking)))
}

/// Where the options lead on this machine. Of a vault, only whether its file is there is looked at.
///
/// # Errors
/// As [`open()`].
pub fn choose(options: &TokenCachePersistenceOptions, places: &Places) -> Result<ChosenStorage, CacheError> {
    match options.storage {
        Storage::Plaintext => Ok(ChosenStorage::Plaintext),
        Storage::Platform => supported().map(|()| ChosenStorage::Platform),
        Storage::Vault => Ok(ChosenStorage::Vault(places.vault())),
        Storage::Auto => {
            let vault = Some(places.vault()).filter(|path| path.symlink_metadata().is_ok());
            let works = supported().and_then(|()| {
                let may_fall_back = vault.is_some() || options.allow_unencrypted_storage;
                if may_fall_back { probe(options, places) } else { Ok(()) }
            });
            match works {
                Ok(()) => Ok(ChosenStorage::Platform),
                Err(error) => fall_back(error, vault, options.allow_unencrypted_storage),
            }
        }
    }
}

/// A vault beats plaintext: what is in it, somebody wanted to be encrypted.
fn fall_back(
    error: CacheError,
    vault: Option<PathBuf>,
    allow_unencrypted_storage: bool,
) -> Result<ChosenStorage, CacheError> {
    match (&error, vault) {
        (CacheError::EncryptionUnavailable { .. }, Some(path)) => {
            tracing::debug!(%error, "keeping tokens in the vault");
            Ok(ChosenStorage::Vault(path))
        }
        (CacheError::EncryptionUnavailable { .. }, None) if allow_unencrypted_storage => {
            say_once_that_it_is_not_encrypted(&error);
            Ok(ChosenStorage::Plaintext)
        }
        _ => Err(error),
    }
}

/// Where [`open()`] would keep the cache on this machine, to be compared with a [`Silo`]'s place; a
/// vault is in none.
#[must_use]
pub fn place(
    chosen: &ChosenStorage,
    options: &TokenCachePersistenceOptions,
    cae: bool,
    places: &Places,
) -> Option<Place> {
    let name = AZURE_IDENTITY.full_name(&options.name, cae);
    match chosen {
        ChosenStorage::Platform => AZURE_IDENTITY.encrypted_site(places, &name).map(|site| site.place),
        ChosenStorage::Plaintext => Some(Place::File(AZURE_IDENTITY.files(&places.home, &name).path)),
        ChosenStorage::Vault(_) => None,
    }
}

/// Opens a cache where [`choose`] led to.
fn open_chosen(
    chosen: &ChosenStorage,
    options: &TokenCachePersistenceOptions,
    cae: bool,
    places: &Places,
    unlocking: &dyn Fn() -> Arc<dyn Unlocking>,
) -> Arc<dyn Store> {
    let name = AZURE_IDENTITY.full_name(&options.name, cae);
    match chosen {
        ChosenStorage::Platform => platform(&name, places),
        ChosenStorage::Plaintext => {
            let files = AZURE_IDENTITY.files(&places.home, &name);
            Arc::new(BlobStore::new(CacheFile::own(&name, &files, Encoding::Json), files))
        }
        ChosenStorage::Vault(path) => Arc::new(OpenedStore::new(path, &name, unlocking())),
    }
}

#[cfg(target_os = "linux")]
fn platform(name: &str, places: &Places) -> Arc<dyn Store> {
    let files = AZURE_IDENTITY.files(&places.home, name);
    Arc::new(BlobStore::new(platform_item(name, places), files))
}

#[cfg(target_os = "linux")]
fn platform_item(name: &str, places: &Places) -> secret_service::SecretServiceItem {
    let site = AZURE_IDENTITY.encrypted_site(places, name);
    let Some(Place::SecretService { label, attributes }) = site.map(|site| site.place) else {
        unreachable!("Linux keeps our cache in the Secret Service");
    };
    let shape = secret_service::ItemShape { label, attributes };
    secret_service::SecretServiceItem::new(name, "Secret Service".to_owned(), shape, Encoding::Json)
}

#[cfg(target_os = "macos")]
fn platform(name: &str, places: &Places) -> Arc<dyn Store> {
    let files = AZURE_IDENTITY.files(&places.home, name);
    let site = AZURE_IDENTITY.encrypted_site(places, name);
    let Some(Place::Keychain { service, account }) = site.map(|site| site.place) else {
        unreachable!("macOS keeps our cache in the Keychain");
    };
    Arc::new(BlobStore::new(keychain::KeychainItem::new(name, &service, &account), files))
}

#[cfg(windows)]
fn platform(name: &str, places: &Places) -> Arc<dyn Store> {
    let files = AZURE_IDENTITY.files(&places.local_data, name);
    let file = CacheFile::own(name, &files, Encoding::Dpapi);
    Arc::new(BlobStore::new(file, files))
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
fn platform(name: &str, places: &Places) -> Arc<dyn Store> {
    unreachable!("{name} below {}: not supported, as was said before", places.home.display())
}

/// Whether the platform's store works right now.
#[cfg(target_os = "linux")]
fn probe(options: &TokenCachePersistenceOptions, places: &Places) -> Result<(), CacheError> {
    platform_item(&AZURE_IDENTITY.full_name(&options.name, false), places).probe()
}

/// The Keychain and DPAPI are always there.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux asks its service, which may refuse")]
fn probe(_options: &TokenCachePersistenceOptions, _places: &Places) -> Result<(), CacheError> {
    Ok(())
}

/// Whether this platform has an encrypted store that we know.
fn supported() -> Result<(), CacheError> {
    if cfg!(any(target_os = "linux", target_os = "macos", windows)) {
        return Ok(());
    }
    Err(CacheError::EncryptionUnavailable {
        place: "this machine".to_owned(),
        layer: EncryptionLayer::Platform,
        detail: "this platform has no encrypted store that we know".to_owned(),
    })
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
    fn only_missing_encryption_falls_back_and_a_vault_beats_plaintext() {
        let missing = || CacheError::EncryptionUnavailable {
            place: String::new(),
            layer: EncryptionLayer::Bus,
            detail: String::new(),
        };
        let vault = || Some(PathBuf::from("vault.db"));
        for allowed in [false, true] {
            let chosen = fall_back(missing(), vault(), allowed).unwrap();
            assert_eq!(chosen, ChosenStorage::Vault("vault.db".into()));
            let locked = CacheError::Locked { place: String::new() };
            fall_back(locked, vault(), allowed).unwrap_err();
        }
        assert_eq!(fall_back(missing(), None, true).unwrap(), ChosenStorage::Plaintext);
        fall_back(missing(), None, false).unwrap_err();
    }

    #[test]
    fn a_vault_is_found_in_the_state_folder_and_not_touched_yet() {
        let options = TokenCachePersistenceOptions::default().storage(Storage::Vault);
        let described = open(&options, true, &Places::below("home")).unwrap().describe();
        assert_eq!((described.cache.as_str(), described.encrypted), ("msal.cache.cae", true));
        let end: PathBuf = [".local", "state", "tokenkeep", "vault.db"].iter().collect();
        assert!(described.place.ends_with(&*end.to_string_lossy()), "{described}");
    }
}

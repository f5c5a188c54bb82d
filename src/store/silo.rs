//! Every cache on this machine, whichever tool keeps it: found, described, opened.
//!
//! ```no_run
//! use tokenkeep::store::{Content, Places, silos};
//!
//! # fn main() -> Result<(), tokenkeep::error::CacheError> {
//! for silo in silos(&Places::of_current_user()?) {
//!     let facts = silo.facts();
//!     if let Content::Cache { document, .. } = &facts.content {
//!         println!("{}: {} accounts", silo.describe(), document.accounts().len());
//!     }
//! }
//! # Ok(()) }
//! ```

mod care;
mod facts;
mod find;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::CacheError;

use super::blob::{Blob as _, BlobStore};
use super::encoding::Encoding;
use super::file::CacheFile;
#[cfg(target_os = "macos")]
use super::keychain::KeychainItem;
use super::profile::{Profile, Site};
#[cfg(target_os = "linux")]
use super::secret_service::{ItemShape, SecretServiceItem};
use super::{Store, StoreDescription};

pub use self::care::damaged_copies;
pub use self::facts::{Content, FileFacts, FileKind, ItemFacts, LockFacts, SiloFacts};
pub use self::find::{silos, silos_of};

/// One concrete cache on this machine: the tools that keep it, its name, its place.
///
/// Several tools may share one place; that is one silo with several profiles, so that nothing is
/// shown or written twice. A silo only names a place; whether there is anything, [`Self::facts`]
/// and [`Self::open`] find out.
#[derive(Debug)]
pub struct Silo {
    profiles: Vec<&'static Profile>,
    site: Site,
    /// Why the keyring could not be asked when the silos were looked for.
    keyring: Option<CacheError>,
}

impl Silo {
    /// The tools that keep it; none if no tool that we know uses such a name.
    #[must_use]
    pub fn profiles(&self) -> &[&'static Profile] {
        &self.profiles
    }

    /// Whether the tool of this [`Profile::id`] keeps it.
    #[must_use]
    pub fn is_of(&self, id: &str) -> bool {
        self.profiles.iter().any(|profile| profile.id == id)
    }

    /// What its tools are called, for people to read.
    #[must_use]
    pub fn title(&self) -> String {
        let titles: Vec<_> = self.profiles.iter().map(|profile| profile.title).collect();
        if titles.is_empty() { "an unknown tool".to_owned() } else { titles.join(", ") }
    }

    /// Its full name, such as `msal.cache.nocae`; an item shared by several names has the first.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.site.name
    }

    /// Whether it is the cache for continuous access evaluation, or the one without; `None` if
    /// its tools keep both in one. Access tokens must not cross that line (spec S-C 2.1).
    #[must_use]
    pub const fn cae(&self) -> Option<bool> {
        self.site.cae
    }

    /// Where it is. No two silos have the same place.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.site.place
    }

    /// How its tools write it; what is there may differ, see [`Content::Cache`].
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.site.encoding
    }

    /// Whether [`Store::apply`] may change it.
    #[must_use]
    pub const fn writing(&self) -> Writing {
        self.site.writing
    }

    /// Cache, place, and whether that is encrypted, for messages.
    #[must_use]
    pub fn describe(&self) -> StoreDescription {
        match self.blob() {
            SiloBlob::File(file) => file.describe(),
            #[cfg(target_os = "linux")]
            SiloBlob::Item(item) => item.describe(),
            #[cfg(target_os = "macos")]
            SiloBlob::Keychain(item) => item.describe(),
        }
    }

    /// The store: it reads what its tools write, takes every lock that they take, keeps the
    /// encoding that it finds, and signals the change to all of them.
    ///
    /// One that must not be written answers [`Store::apply`] and [`Store::discard`] with
    /// [`CacheError::ReadOnly`], which says why. Nothing is read yet. Modes of files and folders
    /// stay as they are, because they are other tools'; a new file is private.
    #[must_use]
    pub fn open(&self) -> Arc<dyn Store> {
        let (files, writing) = (self.site.files.clone(), self.site.writing);
        match self.blob() {
            SiloBlob::File(file) => Arc::new(BlobStore::new(file, files).writing(writing)),
            #[cfg(target_os = "linux")]
            SiloBlob::Item(item) => Arc::new(BlobStore::new(item, files).writing(writing)),
            #[cfg(target_os = "macos")]
            SiloBlob::Keychain(item) => Arc::new(BlobStore::new(item, files).writing(writing)),
        }
    }

    fn blob(&self) -> SiloBlob {
        let Site { name, place, encoding, files, .. } = &self.site;
        match place {
            Place::File(_) => SiloBlob::File(CacheFile::of_tool(name, files, *encoding)),
            #[cfg(target_os = "linux")]
            Place::SecretService { label, attributes } => {
                let shape = ItemShape { label: label.clone(), attributes: attributes.clone() };
                SiloBlob::Item(SecretServiceItem::new(name, self.place_of_item(), shape, *encoding))
            }
            #[cfg(target_os = "macos")]
            Place::Keychain { service, account } => {
                SiloBlob::Keychain(KeychainItem::new(name, service, account))
            }
            #[cfg(not(target_os = "macos"))]
            Place::Keychain { .. } => unreachable!("no row of another system is looked at"),
            #[cfg(not(target_os = "linux"))]
            Place::SecretService { .. } => unreachable!("no row of another system is looked at"),
        }
    }

    #[cfg(target_os = "linux")]
    fn place_of_item(&self) -> String {
        let title = self.profiles.first().map_or("an unknown tool", |profile| profile.title);
        format!("Secret Service, item of {title}")
    }
}

/// What keeps a silo's bytes.
enum SiloBlob {
    File(CacheFile),
    #[cfg(target_os = "linux")]
    Item(SecretServiceItem),
    #[cfg(target_os = "macos")]
    Keychain(KeychainItem),
}

/// Where a cache rests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// A generic password of the macOS Keychain.
    Keychain {
        /// Its service.
        service: String,
        /// Its account.
        account: String,
    },
    /// An item of the Secret Service's default collection.
    SecretService {
        /// What a new one is called; those that are there may be called otherwise.
        label: String,
        /// What tells it from all others: the whole set, `xdg:schema` among them.
        attributes: BTreeMap<String, String>,
    },
}

impl Place {
    /// Whether both are one place. Labels tell nothing apart.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::SecretService { attributes: one, .. }, Self::SecretService { attributes: other, .. }) => {
                one == other
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Keychain { service, account } => write!(f, "Keychain item {service} of {account}"),
            Self::SecretService { attributes, .. } => {
                f.write_str("Secret Service item with")?;
                let mut separator = " ";
                for (name, value) in attributes {
                    write!(f, "{separator}{name}={value}")?;
                    separator = ", ";
                }
                Ok(())
            }
        }
    }
}

/// Whether we may change a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Writing {
    /// On this condition, which is looked at before each write.
    Guarded(&'static str),
    /// Never.
    ReadOnly {
        /// Why not.
        why: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// As its own tools do.
    Writable,
}

#[cfg(test)]
mod tests;

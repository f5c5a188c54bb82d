//! What there is to know of a silo without its secrets: the outside, and whether it can be read.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::document::TokenCacheDocument;
use crate::error::CacheError;
use crate::time::UnixTime;

use super::super::encoding::{Encoding, Opened};
use super::super::lock;
#[cfg(target_os = "macos")]
use super::Place;
use super::{Silo, SiloBlob};

/// A silo as it is now. Nothing in it is secret but the document, which does not show itself.
#[derive(Debug)]
#[non_exhaustive]
pub struct SiloFacts {
    /// Whether there is a file or an item.
    pub exists: bool,
    /// The file that holds it, or that signals its changes; `None` if there is none.
    pub file: Option<FileFacts>,
    /// The keyring's item; `None` if there is none, or none is to be.
    pub item: Option<ItemFacts>,
    /// The lock files that are there.
    pub locks: Vec<LockFacts>,
    /// Whether it can be read, and what it holds.
    pub content: Content,
}

/// What a silo holds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Content {
    /// Nothing: there is no file and no item.
    Absent,
    /// Nothing yet, or no more: white space. Beside a keyring such a file is a signal.
    Blank,
    /// A cache; one without any entry also where a file is only a signal.
    Cache {
        /// The cache. Its `Debug` shows no more than how many entries there are.
        document: Arc<TokenCacheDocument>,
        /// How it is written, which may be another way than its tools would.
        encoding: Encoding,
    },
    /// It was not looked at.
    Unread {
        /// Why not.
        why: &'static str,
    },
    /// It cannot be read, and why.
    Unreadable(CacheError),
}

/// A file, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileFacts {
    /// Which.
    pub path: PathBuf,
    /// What it is, links followed.
    pub kind: FileKind,
    /// Where the path leads, if it is a link.
    pub link: Option<PathBuf>,
    /// Whether it is ours, and every link on the way.
    pub is_ours: bool,
    /// The owner's number; `None` on Windows.
    pub owner: Option<u32>,
    /// The permissions, such as 0600; `None` on Windows.
    pub mode: Option<u32>,
    /// The folder's permissions; `None` on Windows.
    pub folder_mode: Option<u32>,
    /// In bytes.
    pub size: u64,
    /// When it was changed last, if the system knows.
    pub modified: Option<UnixTime>,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A link to nothing, or to itself.
    BrokenLink,
    /// A disk, a terminal, `/dev/zero`.
    Device,
    /// A folder.
    Folder,
    /// A pipe: who reads it waits for a writer.
    Pipe,
    /// A file, as a cache has to be.
    Regular,
    /// A socket.
    Socket,
}

/// An item of the keyring, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ItemFacts {
    /// What it is called.
    pub label: String,
    /// All its attributes.
    pub attributes: BTreeMap<String, String>,
    /// When it was changed last, if the keyring tells.
    pub modified: Option<UnixTime>,
    /// How many items have these very attributes; more than one is a mistake.
    pub count: usize,
}

/// A lock file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockFacts {
    /// Which.
    pub path: PathBuf,
    /// What it says of its holder, fit for one line of text.
    pub holder: String,
    /// The holder's process number, if the file says it.
    pub pid: Option<u32>,
    /// Whether that process lives; `None` without a number.
    pub is_alive: Option<bool>,
    /// When it was written, if the system knows.
    pub modified: Option<UnixTime>,
}

impl Silo {
    /// Looks at everything once: file, item, locks, content. Waits for nobody but a keyring, and
    /// for that only so long; changes nothing.
    ///
    /// A cache that somebody is writing at this moment may look damaged: [`Silo::open`] and
    /// [`super::super::Store::load`] have the patience to look again.
    #[must_use]
    pub fn facts(&self) -> SiloFacts {
        let file = FileFacts::of(&self.site.files.path);
        let locks = self.site.files.lock.iter().filter_map(LockFacts::of).collect();
        if let Some(error) = &self.keyring {
            let content = Content::Unreadable(error.clone());
            return SiloFacts { exists: false, file, item: None, locks, content };
        }
        let (exists, item, content) = match self.blob() {
            SiloBlob::File(blob) => {
                let content = file.as_ref().map_or(Content::Absent, |_| self.content(blob.look()));
                (file.is_some(), None, content)
            }
            #[cfg(target_os = "linux")]
            SiloBlob::Item(blob) => match blob.facts() {
                Ok(Some(facts)) => {
                    let item = ItemFacts {
                        label: facts.label,
                        attributes: facts.attributes,
                        modified: Some(facts.modified),
                        count: facts.count,
                    };
                    (true, Some(item), self.content(blob.look()))
                }
                Ok(None) => (false, None, Content::Absent),
                Err(error) => (false, None, Content::Unreadable(error)),
            },
            #[cfg(target_os = "macos")]
            SiloBlob::Keychain(blob) => match blob.exists() {
                Ok(true) => {
                    let Place::Keychain { service, account } = &self.site.place else {
                        unreachable!("a Keychain's item has a Keychain's place")
                    };
                    let attributes = [("service", service), ("account", account)];
                    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.clone())).into();
                    let label = service.clone();
                    let item = ItemFacts { label, attributes, modified: None, count: 1 };
                    let why = "macOS would ask whether we may read another program's item";
                    (true, Some(item), Content::Unread { why })
                }
                Ok(false) => (false, None, Content::Absent),
                Err(error) => (false, None, Content::Unreadable(error)),
            },
        };
        SiloFacts { exists, file, item, locks, content }
    }

    fn content(&self, looked: Result<Option<Opened>, CacheError>) -> Content {
        let Opened { bytes, encoding } = match looked {
            Ok(Some(found)) => found,
            Ok(None) => return Content::Absent,
            Err(error) => return Content::Unreadable(error),
        };
        if bytes.trim_ascii().is_empty() {
            return Content::Blank;
        }
        match TokenCacheDocument::parse(&bytes) {
            Ok(document) => Content::Cache { document: Arc::new(document), encoding },
            Err(error) => Content::Unreadable(CacheError::Damaged {
                place: self.describe().to_string(),
                detail: error.to_string(),
            }),
        }
    }
}

impl FileFacts {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let itself = fs::symlink_metadata(path).ok()?;
        let behind = if itself.is_symlink() { fs::metadata(path).ok() } else { Some(itself.clone()) };
        let folder = path.parent().and_then(|folder| fs::metadata(folder).ok());
        let seen = behind.as_ref().unwrap_or(&itself);
        Some(Self {
            path: path.to_owned(),
            kind: behind.as_ref().map_or(FileKind::BrokenLink, kind_of),
            link: if itself.is_symlink() { fs::read_link(path).ok() } else { None },
            is_ours: is_ours(&itself) && is_ours(seen),
            owner: owner_of(seen),
            mode: mode_of(seen),
            folder_mode: folder.as_ref().and_then(mode_of),
            size: seen.len(),
            modified: modified_of(seen),
        })
    }
}

impl LockFacts {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let content = lock::content_at(path).unwrap_or_default();
        let pid = content.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        Some(Self {
            path: path.to_owned(),
            holder: lock::printable(&content),
            pid,
            is_alive: pid.map(lock::is_alive),
            modified: modified_of(&metadata),
        })
    }
}

fn modified_of(metadata: &Metadata) -> Option<UnixTime> {
    let seconds = |time: SystemTime| Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs());
    let seconds = metadata.modified().ok().and_then(seconds)?;
    i64::try_from(seconds).ok().map(UnixTime::from_seconds)
}

#[cfg(unix)]
fn kind_of(metadata: &Metadata) -> FileKind {
    use std::os::unix::fs::FileTypeExt as _;

    let kind = metadata.file_type();
    if kind.is_file() {
        FileKind::Regular
    } else if kind.is_dir() {
        FileKind::Folder
    } else if kind.is_fifo() {
        FileKind::Pipe
    } else if kind.is_socket() {
        FileKind::Socket
    } else {
        FileKind::Device
    }
}

#[cfg(unix)]
fn is_ours(metadata: &Metadata) -> bool {
    owner_of(metadata) == Some(rustix::process::geteuid().as_raw())
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "Windows has none")]
fn owner_of(metadata: &Metadata) -> Option<u32> {
    Some(std::os::unix::fs::MetadataExt::uid(metadata))
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "Windows has none")]
fn mode_of(metadata: &Metadata) -> Option<u32> {
    Some(std::os::unix::fs::MetadataExt::mode(metadata) & 0o7777)
}

#[cfg(not(unix))]
fn kind_of(metadata: &Metadata) -> FileKind {
    if metadata.is_dir() { FileKind::Folder } else { FileKind::Regular }
}

#[cfg(not(unix))]
fn is_ours(_metadata: &Metadata) -> bool {
    true // access lists keep others out of the folder
}

#[cfg(not(unix))]
fn owner_of(_metadata: &Metadata) -> Option<u32> {
    None
}

#[cfg(not(unix))]
fn mode_of(_metadata: &Metadata) -> Option<u32> {
    None
}

//! Why a cache could not be read or written.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::VaultError;

/// Which part of encrypted storage did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncryptionLayer {
    /// There is no D-Bus session to ask on.
    Bus,
    /// There is no default collection to keep an item in.
    Collection,
    /// The platform has no store that we know.
    Platform,
    /// Nobody on the bus offers a Secret Service.
    Service,
}

/// Why a cache could not be read or written. Whatever was in it is still in it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// Somebody else's item would have been destroyed by writing ours (spec S-C 2.4).
    #[error("not writing {place}: {detail}")]
    Conflict {
        /// Which cache.
        place: String,
        /// Whose item is in the way.
        detail: String,
    },
    /// The content is not an MSAL cache. It was left as it is.
    #[error("{place} is damaged: {detail}; it was left as it is")]
    Damaged {
        /// Which cache.
        place: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Encrypted storage cannot work here.
    #[error("no encrypted storage for {place}: {detail}")]
    EncryptionUnavailable {
        /// Which cache.
        place: String,
        /// Which part failed.
        layer: EncryptionLayer,
        /// How it failed.
        detail: String,
    },
    /// The operating system said no.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        source: Arc<io::Error>,
    },
    /// The key that the content was encrypted with is no more: the kernel forgets it when the
    /// machine is started again. Its own tool takes such a cache for an empty one (spec S-C 2.5).
    #[error("{place} can no longer be decrypted: {detail}; it was left as it is")]
    KeyGone {
        /// Which cache.
        place: String,
        /// What is missing.
        detail: String,
    },
    /// The content is encrypted, and its key is not to be had.
    #[error("{place} cannot be decrypted: {detail}; it was left as it is")]
    KeyUnavailable {
        /// Which cache.
        place: String,
        /// What the key's keeper said.
        detail: String,
    },
    /// Another program kept the cache's lock for too long.
    #[error("{path} is held by {holder} and was not released within {} s", waited.as_secs_f32(), path = path.display())]
    LockTimeout {
        /// The lock's file.
        path: PathBuf,
        /// What the file says of its holder.
        holder: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The keyring is there, but locked, and unlocking it would ask a person.
    #[error("{place} is in a locked keyring")]
    Locked {
        /// Which cache.
        place: String,
    },
    /// The content is of a format that this version does not know.
    #[error("{place} was written by a newer version: {detail}")]
    NewerFormat {
        /// Which cache.
        place: String,
        /// What it says of itself.
        detail: String,
    },
    /// The cache is another tool's, and only that may change it.
    #[error("not writing {place}: {why}")]
    ReadOnly {
        /// Which cache.
        place: String,
        /// Why nobody else may.
        why: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// The keyring did not answer in time.
    #[error("{place}: the keyring did not answer within {} s", waited.as_secs_f32())]
    Timeout {
        /// Which cache.
        place: String,
        /// How long we waited.
        waited: Duration,
    },
    /// There is more in it than a cache can hold, so it was not read.
    #[error("{place} is larger than {} MiB, so it is no cache; it was left as it is", limit >> 20)]
    TooLarge {
        /// Which cache.
        place: String,
        /// How many bytes there may be.
        limit: u64,
    },
    /// The file is not ours to trust: a link, or somebody else's.
    #[error("not using {path}: {detail}", path = path.display())]
    Unsafe {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The vault's own trouble, with its own advice.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl CacheError {
    /// What programs tell failures apart by.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "cache_conflict",
            Self::Damaged { .. } => "cache_damaged",
            Self::EncryptionUnavailable { .. } => "cache_encryption_unavailable",
            Self::Io { .. } => "cache_io",
            Self::KeyGone { .. } => "cache_key_gone",
            Self::KeyUnavailable { .. } => "cache_key_unavailable",
            Self::LockTimeout { .. } => "cache_lock_timeout",
            Self::Locked { .. } => "cache_locked",
            Self::NewerFormat { .. } => "cache_newer_format",
            Self::ReadOnly { .. } => "cache_read_only",
            Self::Timeout { .. } => "cache_timeout",
            Self::TooLarge { .. } => "cache_too_large",
            Self::Unsafe { .. } => "cache_unsafe",
            Self::Vault(error) => error.kind(),
        }
    }

    /// What to do next, as one line for a person.
    #[must_use]
    pub fn hint(&self) -> String {
        const THREE_WAYS: &str = "make a vault, which needs no desktop: tokenkeep vault init; or start a Secret Service \
             (gnome-keyring, KWallet or KeePassXC) in a D-Bus session, or accept plaintext: --store plaintext";
        match self {
            Self::Conflict { .. } => {
                "use a cache of your own: --cache NAME, or remove the other item with your keyring's manager".to_owned()
            }
            Self::Damaged { .. } => {
                "move it aside and sign in again: tokenkeep clear --all, then tokenkeep login".to_owned()
            }
            Self::EncryptionUnavailable { layer, .. } => match layer {
                EncryptionLayer::Bus => format!("there is no D-Bus session; {THREE_WAYS}"),
                EncryptionLayer::Collection => format!(
                    "create a default keyring with your keyring's manager; or {THREE_WAYS}"
                ),
                EncryptionLayer::Platform => {
                    "make a vault: tokenkeep vault init, and use it: --store vault".to_owned()
                }
                EncryptionLayer::Service => format!("nothing offers a Secret Service; {THREE_WAYS}"),
            },
            Self::Io { path, .. } => format!("check that you may read and write {}", path.display()),
            Self::KeyGone { .. } => {
                "sign in again with that tool: it starts a new cache in this one's place".to_owned()
            }
            Self::KeyUnavailable { .. } => {
                "it was encrypted by another user or machine; move it aside and sign in again: tokenkeep clear --all".to_owned()
            }
            Self::LockTimeout { path, .. } => format!(
                "wait for that program, or end it; if it is gone, remove {}",
                path.display()
            ),
            Self::Locked { .. } => {
                "unlock your keyring (sign in to the desktop, or open your keyring's manager) and try again".to_owned()
            }
            Self::NewerFormat { .. } => "use the newer tokenkeep".to_owned(),
            Self::ReadOnly { instead, .. } => (*instead).to_owned(),
            Self::Timeout { .. } => {
                "see whether your keyring is waiting for you on another screen; or use a vault: tokenkeep vault init, then --store vault".to_owned()
            }
            Self::Vault(error) => error.hint(),
            Self::TooLarge { .. } => "see what it is, and move it aside".to_owned(),
            Self::Unsafe { path, .. } => format!(
                "make {} a file of your own, not a link: mode 0600 in a folder of mode 0700",
                path.display()
            ),
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source: Arc::new(source) }
    }
}

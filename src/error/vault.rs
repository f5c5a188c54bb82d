//! Why a vault does not give what was asked for.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a vault could not be opened, read or written. Whatever is in it is still in it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// There is no vault.
    #[error("there is no vault at {path}", path = path.display())]
    Absent {
        /// Where it would be.
        path: PathBuf,
    },
    /// A vault is there already, and would have been overwritten.
    #[error("{path} exists already", path = path.display())]
    AlreadyExists {
        /// The file in the way.
        path: PathBuf,
    },
    /// Another program kept writing for too long.
    #[error("{path} is being written by another program, which did not finish within {} s", waited.as_secs_f32(), path = path.display())]
    Busy {
        /// The vault.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// The content is not what was written. It was left as it is.
    #[error("the vault {path} is damaged: {detail}; it was left as it is", path = path.display())]
    Damaged {
        /// The vault.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// There is no room for the change. The content is as it was before.
    #[error("no space left on the device of {path}; nothing was changed", path = path.display())]
    DiskFull {
        /// The vault.
        path: PathBuf,
    },
    /// The file has no content at all, which no vault ever has.
    #[error("the vault {path} is empty: 0 bytes, where at least its own header was written", path = path.display())]
    Empty {
        /// The vault.
        path: PathBuf,
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
    /// The last way to open the vault would have gone.
    #[error("protector {slot} is the last one that opens {path}; it was kept", path = path.display())]
    LastProtector {
        /// The vault.
        path: PathBuf,
        /// Its number.
        slot: u32,
    },
    /// The vault is locked, and nothing that opens it was at hand.
    #[error("the vault {path} is locked", path = path.display())]
    Locked {
        /// The vault.
        path: PathBuf,
    },
    /// The file is of a format that this version does not know.
    #[error("the vault {path} has format {found}; this version knows formats up to {known}", path = path.display())]
    NewerFormat {
        /// The vault.
        path: PathBuf,
        /// What it says of itself.
        found: i64,
        /// The newest we know.
        known: i64,
    },
    /// The vault has no protector of that number or kind.
    #[error("{path} has no protector {wanted}", path = path.display())]
    NoSuchProtector {
        /// The vault.
        path: PathBuf,
        /// A number or a kind.
        wanted: String,
    },
    /// A protector does not open the vault.
    #[error("the vault {path} stays locked: {source}", path = path.display())]
    Protector {
        /// The vault.
        path: PathBuf,
        /// Why.
        source: ProtectorError,
    },
    /// The disk or the file cannot be written.
    #[error("{path} is on a read-only disk, or is itself read-only; nothing was changed", path = path.display())]
    ReadOnly {
        /// The vault.
        path: PathBuf,
    },
    /// Another process changed the data key since this one unlocked the vault.
    #[error("the vault {path} was given a new data key by another process", path = path.display())]
    Rekeyed {
        /// The vault.
        path: PathBuf,
    },
    /// The file was replaced or removed while it was open, or its server forgot it.
    #[error("{path} is no longer the file that was opened; nothing was changed", path = path.display())]
    StaleHandle {
        /// The vault.
        path: PathBuf,
    },
    /// The file is not ours to trust: a link, or somebody else's.
    #[error("not using {path}: {detail}", path = path.display())]
    Unsafe {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl VaultError {
    /// Whether the content is the trouble, rather than its key or its place: exit code 6, not 7.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::Empty { .. }
                | Self::NewerFormat { .. }
                | Self::Protector { source: ProtectorError::Damaged { .. }, .. }
        )
    }

    /// What programs tell failures apart by.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "vault_absent",
            Self::AlreadyExists { .. } => "vault_already_exists",
            Self::Busy { .. } => "vault_busy",
            Self::Damaged { .. } => "vault_damaged",
            Self::DiskFull { .. } => "vault_disk_full",
            Self::Empty { .. } => "vault_empty",
            Self::Io { .. } => "vault_io",
            Self::LastProtector { .. } => "vault_last_protector",
            Self::Locked { .. } => "vault_locked",
            Self::NewerFormat { .. } => "vault_newer_format",
            Self::NoSuchProtector { .. } => "vault_no_such_protector",
            Self::Protector { source, .. } => source.kind(),
            Self::ReadOnly { .. } => "vault_read_only",
            Self::Rekeyed { .. } => "vault_rekeyed",
            Self::StaleHandle { .. } => "vault_stale_handle",
            Self::Unsafe { .. } => "vault_unsafe",
        }
    }

    /// What to do next, as one line for a person.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Absent { .. } => "make one: tokenkeep vault init".to_owned(),
            Self::AlreadyExists { .. } => {
                "use it as it is, or move it aside first".to_owned()
            }
            Self::Busy { .. } => "wait for that program, or end it, and try again".to_owned(),
            Self::Damaged { .. } => {
                "restore a backup: tokenkeep vault restore FILE; or move it aside and sign in again: tokenkeep vault init".to_owned()
            }
            Self::DiskFull { .. } => "free some space and try again".to_owned(),
            Self::Empty { .. } => {
                "restore a backup: tokenkeep vault restore FILE; or remove the empty file and start anew: tokenkeep vault init".to_owned()
            }
            Self::Io { path, .. } => format!("check that you may read and write {}", path.display()),
            Self::LastProtector { .. } => {
                "add another one first: tokenkeep vault protector add passphrase".to_owned()
            }
            Self::Locked { .. } | Self::Rekeyed { .. } => {
                "unlock it: tokenkeep vault unlock".to_owned()
            }
            Self::NewerFormat { .. } => "use the newer tokenkeep".to_owned(),
            Self::NoSuchProtector { .. } => "see which there are: tokenkeep vault protector list".to_owned(),
            Self::Protector { source, .. } => source.hint().to_owned(),
            Self::ReadOnly { path } => format!("make {} writable and try again", path.display()),
            Self::StaleHandle { .. } => "run the command again; it opens the file anew".to_owned(),
            Self::Unsafe { path, .. } => format!(
                "make {} yours alone, not a link: files of mode 0600 in a folder of mode 0700",
                path.display()
            ),
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::StaleNetworkFileHandle => Self::StaleHandle { path },
            _ => Self::Io { action, path, source: Arc::new(source) },
        }
    }
}

/// Why a protector does not give the key it keeps.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectorError {
    /// The protector's row is not what was written, or asks for absurd costs.
    #[error("its protector is damaged: {detail}")]
    Damaged {
        /// What is wrong with it.
        detail: String,
    },
    /// The key's keeper is not there, or no longer has it.
    #[error("its key is gone from the {keeper}: {detail}")]
    Gone {
        /// Such as `keyring`.
        keeper: &'static str,
        /// What it said.
        detail: String,
    },
    /// The keyring is there, but locked, and unlocking it would ask a person.
    #[error("the keyring that has its key is locked")]
    KeyringLocked,
    /// The person closed the keyring's prompt.
    #[error("the keyring's prompt was dismissed")]
    PromptRefused,
    /// The keyring did not answer in time.
    #[error("the keyring did not answer within {} s", waited.as_secs_f32())]
    Timeout {
        /// How long we waited.
        waited: Duration,
    },
    /// The key file is a link, somebody else's, readable by others, or not one that we made.
    #[error("not using the key file {path}: {detail}", path = path.display())]
    UnsafeKeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The secret is not the one that the vault was protected with.
    #[error("wrong {what}")]
    WrongSecret {
        /// Such as `passphrase`.
        what: &'static str,
    },
}

impl ProtectorError {
    /// What programs tell failures apart by.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "vault_protector_damaged",
            Self::Gone { .. } => "vault_key_gone",
            Self::KeyringLocked => "vault_keyring_locked",
            Self::PromptRefused => "vault_prompt_refused",
            Self::Timeout { .. } => "vault_keyring_timeout",
            Self::UnsafeKeyFile { .. } => "vault_key_file_unsafe",
            Self::WrongSecret { .. } => "vault_wrong_secret",
        }
    }

    /// What to do next, as one line for a person.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => {
                "open it by another protector, or restore a backup: tokenkeep vault restore FILE"
            }
            Self::Gone { .. } => {
                "open it by another protector, such as the passphrase: tokenkeep vault unlock"
            }
            Self::KeyringLocked => {
                "unlock your keyring, or open the vault by another protector: tokenkeep vault unlock"
            }
            Self::PromptRefused => "try again and answer it, or open the vault by another protector",
            Self::Timeout { .. } => {
                "see whether your keyring is waiting for you on another screen, or use another protector"
            }
            Self::UnsafeKeyFile { .. } => "make it a file of your own of mode 0600, not a link",
            Self::WrongSecret { .. } => "try again; the recovery key opens it, too",
        }
    }
}

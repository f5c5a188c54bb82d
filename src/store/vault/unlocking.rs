//! Which protectors to try on a locked vault, and the vaults that this process has open already.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::error::{ProtectorError, VaultError};
use crate::store::Places;

#[cfg(target_os = "linux")]
use super::Kernel;
use super::session::Shared;
use super::{KeyFile, Keyring, LockedVault, Passphrase, Protector, ProtectorKind, RecoveryKey, Vault};

/// Longer passphrases are files that somebody named by mistake.
const LONGEST_PASSPHRASE: u64 = 4096;

/// Protectors to try one after the other. Each is made when its turn comes, so that a person is
/// asked only after everything else has failed.
pub type Attempts<'a> = Box<dyn Iterator<Item = Result<Box<dyn Protector>, ProtectorError>> + 'a>;

/// How a program opens a vault.
pub trait Unlocking: fmt::Debug + Send + Sync {
    /// What to try on a vault that has protectors of these kinds.
    fn attempts<'a>(&'a self, kinds: &'a [ProtectorKind]) -> Attempts<'a>;
}

/// Unlocking without a person: the kernel's keyring, the platform's keyring if it needs no prompt,
/// a key file, and files that hold a passphrase or the recovery key; in this order.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Unattended {
    /// The key file.
    pub key_file: Option<PathBuf>,
    /// Files whose content, but for one new line at its end, is a passphrase.
    pub passphrase_files: Vec<PathBuf>,
}

impl Unattended {
    /// As the environment says: the key file of `TOKENKEEP_KEY_FILE` or of the user's
    /// configuration, `TOKENKEEP_PASSPHRASE_FILE`, and the credential `tokenkeep-passphrase` that
    /// systemd put into `CREDENTIALS_DIRECTORY`.
    #[must_use]
    pub fn of_environment(places: &Places) -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let credential = path("CREDENTIALS_DIRECTORY").map(|folder| folder.join("tokenkeep-passphrase"));
        // systemd sets the variable for any credential
        let credential = credential.filter(|file| file.exists());
        Self {
            key_file: Some(path("TOKENKEEP_KEY_FILE").unwrap_or_else(|| places.key_file())),
            passphrase_files: path("TOKENKEEP_PASSPHRASE_FILE").into_iter().chain(credential).collect(),
        }
    }
}

impl Unlocking for Unattended {
    fn attempts<'a>(&'a self, kinds: &'a [ProtectorKind]) -> Attempts<'a> {
        let has = |kind| kinds.contains(&kind);
        #[cfg(target_os = "linux")]
        let kernel = has(ProtectorKind::Kernel).then(|| boxed(Kernel::new()));
        #[cfg(not(target_os = "linux"))]
        let kernel = None;
        let keyring = has(ProtectorKind::Keyring).then(|| boxed(Keyring::new(false)));
        let key_file = self.key_file.as_ref().filter(|_| has(ProtectorKind::KeyFile));
        let key_file = key_file.map(|path| boxed(KeyFile::new(path)));
        let takes_text = has(ProtectorKind::Passphrase) || has(ProtectorKind::Recovery);
        let files = self.passphrase_files.iter().filter(move |_| takes_text);
        let texts = files.filter_map(move |file| match passphrase_file(file) {
            Ok(text) => by_text(text, kinds).map(Ok),
            Err(error) => Some(Err(error)),
        });
        Box::new(kernel.into_iter().chain(keyring).chain(key_file).map(Ok).chain(texts))
    }
}

/// What a text opens: the recovery key has a check, so it is not mistaken for a passphrase.
#[must_use]
pub fn by_text(text: SecretString, kinds: &[ProtectorKind]) -> Option<Box<dyn Protector>> {
    if kinds.contains(&ProtectorKind::Recovery)
        && let Ok(key) = RecoveryKey::parse(&text)
    {
        return Some(boxed(key));
    }
    kinds.contains(&ProtectorKind::Passphrase).then(|| boxed(Passphrase::new(text)))
}

/// Reads a passphrase from a file; one new line at its end is not part of it.
///
/// # Errors
/// [`ProtectorError::Gone`] if the file cannot be read, is empty, too long, or no text.
pub fn passphrase_file(path: &Path) -> Result<SecretString, ProtectorError> {
    let gone = |detail: String| ProtectorError::Gone {
        keeper: "passphrase file",
        detail: format!("{}: {detail}", path.display()),
    };
    let read = || -> io::Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_PASSPHRASE as usize + 1));
        std::fs::File::open(path)?.take(LONGEST_PASSPHRASE + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| gone(error.to_string()))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| gone("it is not UTF-8".to_owned()))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(gone("it is empty".to_owned()));
    }
    if bytes.len() as u64 > LONGEST_PASSPHRASE {
        return Err(gone(format!("it is longer than {LONGEST_PASSPHRASE} bytes")));
    }
    Ok(SecretString::from(text))
}

/// Opens the vault, or finds that this process has it open already.
///
/// # Errors
/// As [`LockedVault::open`]; [`VaultError::Protector`] with the most telling refusal, and
/// [`VaultError::Locked`] if there was nothing to try.
pub fn open(path: &Path, unlocking: &dyn Unlocking) -> Result<Vault, VaultError> {
    // held meanwhile, so that two threads do not ask a person twice
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.retain(|known| known.strong_count() > 0);
    for shared in opened.iter().filter_map(Weak::upgrade) {
        if shared.path == path && shared.read(|_| Ok(())).is_ok() {
            return Ok(Vault { shared, actor: ACTOR.to_owned() });
        }
    }
    let vault = unlock(LockedVault::open(path)?, unlocking).map_err(|(_, error)| error)?;
    opened.push(Arc::downgrade(&vault.shared));
    Ok(vault)
}

/// Tries what there is to try.
///
/// # Errors
/// As [`open()`]; the vault comes back.
pub fn unlock(
    mut locked: LockedVault,
    unlocking: &dyn Unlocking,
) -> Result<Vault, (Box<LockedVault>, VaultError)> {
    let kinds: Vec<ProtectorKind> = locked.protectors().iter().map(|slot| slot.kind).collect();
    let mut refusal: Option<ProtectorError> = None;
    let mut refused = |error: ProtectorError| {
        let is_more_telling = refusal.as_ref().is_none_or(|known| weight(&error) > weight(known));
        if is_more_telling {
            refusal = Some(error);
        }
    };
    for attempt in unlocking.attempts(&kinds) {
        let tried = attempt.and_then(|protector| match locked.try_unlock(protector.as_ref()) {
            Ok(keys) => Ok(Ok(keys)),
            Err(VaultError::Protector { source, .. }) => Err(source),
            Err(other) => Ok(Err(other)),
        });
        match tried {
            Ok(Ok(keys)) => return locked.into_vault(keys),
            Ok(Err(VaultError::NoSuchProtector { .. })) => {}
            Ok(Err(error)) => return Err((Box::new(locked), error)),
            Err(error) => {
                tracing::debug!(%error, "a protector did not open the vault");
                refused(error);
            }
        }
    }
    let path = locked.path().to_owned();
    let error = match refusal {
        Some(source) => VaultError::Protector { path, source },
        None => VaultError::Locked { path },
    };
    Err((Box::new(locked), error))
}

/// What a person can do most about weighs most.
const fn weight(error: &ProtectorError) -> u8 {
    match error {
        ProtectorError::Gone { .. } => 0,
        ProtectorError::Timeout { .. } => 1,
        ProtectorError::KeyringLocked => 2,
        ProtectorError::UnsafeKeyFile { .. } => 3,
        ProtectorError::Damaged { .. } => 4,
        ProtectorError::PromptRefused => 5,
        ProtectorError::WrongSecret { .. } => 6,
    }
}

fn boxed(protector: impl Protector + 'static) -> Box<dyn Protector> {
    Box::new(protector)
}

const ACTOR: &str = "tokenkeep";

/// Not kept open by this list: keys are forgotten when the last store goes.
static OPENED: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::super::PassphraseCost;
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.into()).cost(PassphraseCost::LOWEST)
    }

    fn by_file(folder: &Path, text: &str) -> Unattended {
        let file = folder.join("passphrase");
        std::fs::write(&file, text).unwrap();
        Unattended { key_file: Some(folder.join("none.key")), passphrase_files: vec![file] }
    }

    #[test]
    fn a_passphrase_file_ends_with_at_most_one_new_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passphrase");
        for (content, text) in [("a b", "a b"), ("a b\n", "a b"), ("a b\r\n", "a b"), (" a\n\n", " a\n")] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(passphrase_file(&file).unwrap().expose_secret(), text);
        }
        for bad in [&b""[..], b"\n", b"\xff", &[b'x'; 4097]] {
            std::fs::write(&file, bad).unwrap();
            let error = passphrase_file(&file).unwrap_err();
            assert!(matches!(error, ProtectorError::Gone { keeper: "passphrase file", .. }), "{error}");
        }
    }

    #[test]
    fn a_vault_is_unlocked_once_per_process_and_forgotten_with_its_last_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state").join("vault.db");
        drop(Vault::create(&path, &passphrase("right")).unwrap());
        let right = by_file(folder.path(), "right\n");
        let nothing = Unattended::default();

        let first = open(&path, &right).unwrap();
        let second = open(&path, &nothing).unwrap();
        assert!(Arc::ptr_eq(&first.shared, &second.shared));
        drop((first, second));
        assert!(matches!(open(&path, &nothing).unwrap_err(), VaultError::Locked { .. }));
    }

    #[test]
    fn of_several_refusals_the_most_telling_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state").join("vault.db");
        let vault = Vault::create(&path, &passphrase("right")).unwrap();
        let wait = crate::time::Deadline::within(std::time::Duration::from_secs(5));
        vault.add_protector(&KeyFile::new(folder.path().join("key")), wait).unwrap();
        drop(vault);
        let told = |unlocking: &Unattended| match open(&path, unlocking).unwrap_err() {
            VaultError::Protector { source, .. } => source.kind(),
            other => other.kind(),
        };
        assert_eq!(told(&by_file(folder.path(), "wrong")), "vault_wrong_secret");
        let missing = Unattended { passphrase_files: vec![], ..by_file(folder.path(), "x") };
        assert_eq!(told(&missing), "vault_key_gone");
        let by_key =
            Unattended { key_file: Some(folder.path().join("key")), ..by_file(folder.path(), "wrong") };
        open(&path, &by_key).unwrap();
    }

    #[test]
    fn a_recovery_key_is_told_from_a_passphrase_by_its_check() {
        let key = RecoveryKey::generate();
        let kinds = [ProtectorKind::Passphrase, ProtectorKind::Recovery];
        let kind = |text: SecretString, kinds| by_text(text, kinds).map(|protector| protector.kind());
        assert_eq!(kind(key.to_text(), &kinds), Some(ProtectorKind::Recovery));
        assert_eq!(kind("anything".into(), &kinds), Some(ProtectorKind::Passphrase));
        assert_eq!(kind("anything".into(), &kinds[1..]), None);
    }
}

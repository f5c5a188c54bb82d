//! Opening a vault for a person: first as without one, then by asking on the terminal.

use std::io;

use secrecy::{ExposeSecret as _, SecretString};

use super::failure::Failure;
use super::hidden_input;
use super::output::Output;
use crate::error::{CacheError, ProtectorError, VaultError};
use crate::store::Places;
use crate::store::vault::{
    Attempts, KeyFile, Keyring, Passphrase, Protector, ProtectorKind, Unattended, Unlocking, by_text,
    passphrase_file,
};

/// How often a person may mistype a passphrase.
const PROMPTS: usize = 3;

/// What can be tried without a person, and then a prompt if one is there.
#[derive(Debug)]
pub(super) struct AtTheTerminal {
    pub(super) unattended: Unattended,
    output: Output,
}

impl AtTheTerminal {
    pub(super) fn new(places: &Places, output: Output) -> Self {
        Self { unattended: Unattended::of_environment(places), output }
    }
}

impl Unlocking for AtTheTerminal {
    fn attempts<'a>(&'a self, kinds: &'a [ProtectorKind]) -> Attempts<'a> {
        let alone = self.unattended.attempts(kinds);
        if !self.output.has_person() {
            return alone;
        }
        let takes_text =
            [ProtectorKind::Passphrase, ProtectorKind::Recovery].iter().any(|kind| kinds.contains(kind));
        let question =
            match (kinds.contains(&ProtectorKind::Passphrase), kinds.contains(&ProtectorKind::Recovery)) {
                (true, true) => "Passphrase of the vault (or its recovery key): ",
                (true, false) => "Passphrase of the vault: ",
                (false, _) => "Recovery key of the vault: ",
            };
        let mut left = if takes_text { PROMPTS } else { 0 };
        let prompts = std::iter::from_fn(move || {
            let is_first = left == PROMPTS;
            left = left.checked_sub(1)?;
            if !is_first {
                self.output.say("That does not open the vault").ok()?;
            }
            match hidden_input::ask(question) {
                Ok(text) if !text.expose_secret().is_empty() => {
                    by_text(text, kinds).map(Ok).or(Some(Err(wrong_recovery_key())))
                }
                // an empty answer gives up, and so do Ctrl-C and Ctrl-D
                _ => {
                    left = 0;
                    Some(Err(ProtectorError::PromptRefused))
                }
            }
        });
        let keyring = kinds.contains(&ProtectorKind::Keyring).then(|| {
            let keyring: Box<dyn Protector> = Box::new(Keyring::new(true));
            Ok(keyring)
        });
        Box::new(alone.chain(keyring).chain(prompts))
    }
}

const fn wrong_recovery_key() -> ProtectorError {
    ProtectorError::WrongSecret { what: "recovery key: it is mistyped" }
}

/// A new protector of this kind, its secret taken from where it will be looked for.
pub(super) fn new_protector(
    kind: ProtectorKind,
    places: &Places,
    output: Output,
) -> Result<Box<dyn Protector>, Failure> {
    let unattended = Unattended::of_environment(places);
    match kind {
        ProtectorKind::Keyring => Ok(Box::new(Keyring::new(output.has_person()))),
        ProtectorKind::KeyFile => {
            let path = unattended.key_file.unwrap_or_else(|| places.key_file());
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                super::private_file::make_folder(folder)?;
            }
            Ok(Box::new(KeyFile::new(path)))
        }
        ProtectorKind::Passphrase => {
            let text = match unattended.passphrase_files.first() {
                Some(file) => passphrase_file(file).map_err(|source| {
                    CacheError::from(VaultError::Protector { path: places.vault(), source })
                })?,
                None => new_passphrase(output)?,
            };
            Ok(Box::new(Passphrase::new(text)))
        }
        #[cfg(target_os = "linux")]
        ProtectorKind::Kernel => Ok(Box::new(crate::store::vault::Kernel::new())),
        other => Err(Failure::usage(
            format!("this platform has no protector {other}"),
            "choose another: passphrase, key-file, keyring",
        )),
    }
}

fn new_passphrase(output: Output) -> Result<SecretString, Failure> {
    if !output.has_person() {
        return Err(Failure::usage(
            "nobody is here to ask for a passphrase",
            "put it into a file and name that in TOKENKEEP_PASSPHRASE_FILE, or choose --protector key-file",
        ));
    }
    let ask = |question| {
        hidden_input::ask(question).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => Failure::Cancelled,
            _ => Failure::file("reading", "the terminal")(error),
        })
    };
    for _ in 0..PROMPTS {
        let first = ask("New passphrase of the vault: ")?;
        if first.expose_secret().is_empty() {
            return Err(Failure::Cancelled);
        }
        if ask("The same again: ")?.expose_secret() == first.expose_secret() {
            return Ok(first);
        }
        output.say("They are not the same").map_err(Failure::Output)?;
    }
    Err(Failure::Cancelled)
}

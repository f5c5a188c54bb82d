//! The ways to open a vault, each in a slot of its own, as LUKS has them.
//!
//! A slot has a pair of keys. Its protector wraps the secret one; the data key of the current
//! epoch is sealed to the public one. So a new data key reaches every slot without asking
//! anybody for a passphrase, and an old data key opens none of them.

#[cfg(target_os = "linux")]
mod kernel;
mod key_file;
mod keyring;
mod passphrase;
mod recovery;

use std::fmt;

use aes_gcm::{Aes256Gcm, KeyInit as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ProtectorError;

use super::keys::SecretKey;
use super::seal::{self, Context};

#[cfg(target_os = "linux")]
pub use self::kernel::Kernel;
pub use self::key_file::KeyFile;
pub use self::keyring::Keyring;
pub use self::passphrase::{Passphrase, PassphraseCost};
pub use self::recovery::RecoveryKey;

/// Keeps the secret key of a slot, or what opens it.
pub trait Protector: fmt::Debug + Send + Sync {
    /// Which kind of slot it makes and opens.
    fn kind(&self) -> ProtectorKind;

    /// Wraps the key for a new slot; what the wrapping key is made of may be put away meanwhile.
    ///
    /// # Errors
    /// What the key's keeper says.
    fn wrap(&self, key: &SecretKey, slot: &SlotContext<'_>) -> Result<Wrapped, ProtectorError>;

    /// Gives back what [`Self::wrap`] was given.
    ///
    /// # Errors
    /// [`ProtectorError::WrongSecret`] if the slot is undamaged and opens to another secret;
    /// what the key's keeper says.
    fn unwrap(&self, wrapped: &Wrapped, slot: &SlotContext<'_>) -> Result<SecretKey, ProtectorError>;

    /// Destroys what only this slot needed, after it was removed.
    ///
    /// # Errors
    /// What the key's keeper says; the slot is gone nevertheless.
    fn forget(&self, _wrapped: &Wrapped) -> Result<(), ProtectorError> {
        Ok(())
    }
}

/// What opens a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtectorKind {
    /// The kernel's keyring, until the machine is started again.
    Kernel,
    /// A file of 32 random bytes that we made.
    KeyFile,
    /// The platform's keyring.
    Keyring,
    /// Something that a person remembers.
    Passphrase,
    /// Something that a person wrote down when the vault was made.
    Recovery,
}

impl ProtectorKind {
    const ALL: [Self; 5] = [Self::Kernel, Self::KeyFile, Self::Keyring, Self::Passphrase, Self::Recovery];

    /// The name in the file and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::KeyFile => "key-file",
            Self::Keyring => "keyring",
            Self::Passphrase => "passphrase",
            Self::Recovery => "recovery",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for ProtectorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which vault a slot is of.
#[derive(Clone, Copy, Debug)]
pub struct SlotContext<'a> {
    /// The vault's random id.
    pub vault_id: &'a [u8; 16],
}

/// A wrapped key as it stands in its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// What the protector has to know to unwrap it; JSON, not secret.
    pub parameters: String,
    /// Nonce, ciphertext and tag.
    pub sealed: Vec<u8>,
}

/// Destroys what a removed slot had in a keyring. The slot is gone in any case.
pub(super) fn forget(kind: ProtectorKind, wrapped: &Wrapped) {
    let forgotten = match kind {
        #[cfg(target_os = "linux")]
        ProtectorKind::Kernel => Kernel::new().forget(wrapped),
        ProtectorKind::Keyring => Keyring::new(false).forget(wrapped),
        _ => Ok(()),
    };
    if let Err(error) = forgotten {
        tracing::warn!(%kind, %error, "the key of a removed protector is still in its keyring");
    }
}

/// Wraps with a key that the protector made; parameters and kind are bound to it.
fn wrap_with<P: Serialize>(
    wrapping: &SecretKey,
    key: &SecretKey,
    kind: ProtectorKind,
    parameters: &P,
    slot: &SlotContext<'_>,
) -> Wrapped {
    let parameters = serde_json::to_string(parameters).unwrap_or_default();
    let sealed = seal::seal(&cipher(wrapping), context(slot, kind, &parameters), key.expose());
    Wrapped { parameters, sealed }
}

/// `None` if the wrapping key is not the one.
fn unwrap_with(
    wrapping: &SecretKey,
    kind: ProtectorKind,
    wrapped: &Wrapped,
    slot: &SlotContext<'_>,
) -> Option<SecretKey> {
    let context = context(slot, kind, &wrapped.parameters);
    SecretKey::from_bytes(&seal::open(&cipher(wrapping), context, &wrapped.sealed)?)
}

fn cipher(key: &SecretKey) -> Aes256Gcm {
    Aes256Gcm::new(key.expose().into())
}

fn context<'a>(slot: &SlotContext<'a>, kind: ProtectorKind, parameters: &'a str) -> Context<'a> {
    Context {
        vault_id: slot.vault_id,
        epoch: 0,
        table: "protector",
        space: kind.as_str(),
        identity: parameters.as_bytes(),
    }
}

fn parameters<P: DeserializeOwned>(wrapped: &Wrapped) -> Result<P, ProtectorError> {
    serde_json::from_str(&wrapped.parameters)
        .map_err(|error| damaged(&format!("its parameters cannot be read: {error}")))
}

fn damaged(detail: &str) -> ProtectorError {
    ProtectorError::Damaged { detail: detail.to_owned() }
}

/// Sixteen random bytes in hexadecimal, for salts and names.
fn random_hex() -> String {
    hex(&SecretKey::generate().expose()[..16])
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes of exactly 32 hexadecimal digits.
fn from_hex(text: &str) -> Result<[u8; 16], ProtectorError> {
    let mut bytes = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return Err(damaged("a salt is not 16 bytes"));
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16)
            .map_err(|_| damaged("a salt is not hexadecimal"))?;
    }
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn round_trip(protector: &dyn Protector) -> Wrapped {
        let (key, slot) = (SecretKey::generate(), SlotContext { vault_id: &[1; 16] });
        let wrapped = protector.wrap(&key, &slot).unwrap();
        assert_eq!(protector.unwrap(&wrapped, &slot).unwrap().expose(), key.expose());

        let other = SlotContext { vault_id: &[2; 16] };
        let moved = protector.unwrap(&wrapped, &other).unwrap_err();
        assert!(matches!(moved, ProtectorError::WrongSecret { .. } | ProtectorError::Gone { .. }), "{moved}");
        wrapped
    }

    #[test]
    fn a_kind_has_one_name() {
        for kind in ProtectorKind::ALL {
            assert_eq!(ProtectorKind::from_name(kind.as_str()), Some(kind));
        }
    }
}

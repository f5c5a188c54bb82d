//! The Linux kernel's keyring: opens the vault until the machine is started again.
//!
//! The user's persistent keyring outlives logins and needs no session; it forgets after three
//! days unused (`/proc/sys/kernel/keys/persistent_keyring_expiry`). Where the kernel has none,
//! the user keyring does, which ends with the user's last process.

use linux_keyutils::{Key, KeyError, KeyRing, KeyRingIdentifier};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::ProtectorError;

use super::super::keys::SecretKey;
use super::{Protector, ProtectorKind, SlotContext, Wrapped};
use super::{parameters, random_hex, unwrap_with, wrap_with};

/// The kernel's keyring of the user who runs this process.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Kernel;

impl Kernel {
    /// The one there is.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Protector for Kernel {
    fn kind(&self) -> ProtectorKind {
        ProtectorKind::Kernel
    }

    fn wrap(&self, key: &SecretKey, slot: &SlotContext<'_>) -> Result<Wrapped, ProtectorError> {
        let parameters = Parameters { key: format!("tokenkeep:{}", random_hex()) };
        let wrapping = SecretKey::generate();
        keyring().and_then(|ring| ring.add_key(&parameters.key, wrapping.expose())).map_err(gone)?;
        Ok(wrap_with(&wrapping, key, self.kind(), &parameters, slot))
    }

    fn unwrap(&self, wrapped: &Wrapped, slot: &SlotContext<'_>) -> Result<SecretKey, ProtectorError> {
        let mut bytes = Zeroizing::new([0; 32]);
        let length = find(wrapped)?.read(&mut *bytes).map_err(gone)?;
        let wrapping = SecretKey::from_bytes(&bytes[..length.min(32)]);
        wrapping
            .and_then(|wrapping| unwrap_with(&wrapping, self.kind(), wrapped, slot))
            .ok_or(ProtectorError::WrongSecret { what: "key in the kernel's keyring" })
    }

    fn forget(&self, wrapped: &Wrapped) -> Result<(), ProtectorError> {
        match find(wrapped).and_then(|key| key.invalidate().map_err(gone)) {
            // it is what we want
            Err(ProtectorError::Gone { .. }) => Ok(()),
            other => other,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Parameters {
    key: String,
}

fn find(wrapped: &Wrapped) -> Result<Key, ProtectorError> {
    let Parameters { key } = parameters(wrapped)?;
    keyring().and_then(|ring| ring.search(&key)).map_err(gone)
}

/// Linked to this process, because a key may be read only by who possesses it.
fn keyring() -> Result<KeyRing, KeyError> {
    KeyRing::get_persistent(KeyRingIdentifier::Process).or_else(|_| {
        let user = KeyRing::from_special_id(KeyRingIdentifier::User, true)?;
        KeyRing::from_special_id(KeyRingIdentifier::Process, true)?.link_keyring(user)?;
        Ok(user)
    })
}

fn gone(error: KeyError) -> ProtectorError {
    ProtectorError::Gone { keeper: "kernel's keyring", detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    #[test]
    fn the_kernel_keeps_a_key_until_it_is_told_to_forget_it() {
        if keyring().is_err() {
            // this kernel, or a sandbox around it, has none
            return;
        }
        let wrapped = round_trip(&Kernel::new());
        Kernel.forget(&wrapped).unwrap();
        let slot = SlotContext { vault_id: &[1; 16] };
        let error = Kernel.unwrap(&wrapped, &slot).unwrap_err();
        assert!(matches!(error, ProtectorError::Gone { .. }), "{error}");
        Kernel.forget(&wrapped).unwrap();
    }
}

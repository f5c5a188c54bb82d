//! The key of Go's cache, which the kernel keeps (spec S-C 2.5).

use linux_keyutils::{KeyError, KeyRing, KeyRingIdentifier};
use zeroize::Zeroizing;

/// A key, and the number by which the kernel knows it.
pub(super) struct KernelKey {
    pub(super) id: String,
    pub(super) bytes: Zeroizing<[u8; 32]>,
}

/// The key of this description: in the user's persistent keyring, else in the user keyring, as Go
/// looks for it.
pub(super) fn find(description: &str) -> Result<KernelKey, KeyError> {
    let found =
        [persistent, user].into_iter().find_map(|ring| ring().and_then(|ring| ring.search(description)).ok());
    let key = found.ok_or(KeyError::KeyDoesNotExist)?;
    // Go adds a byte, because it takes payloads for C strings
    let mut payload = Zeroizing::new([0; 33]);
    let length = key.read(&mut *payload)?;
    if !(32..=33).contains(&length) {
        return Err(KeyError::InvalidArguments);
    }
    let mut bytes = Zeroizing::new([0; 32]);
    bytes.copy_from_slice(&payload[..32]);
    Ok(KernelKey { id: key.get_id().as_raw_id().to_string(), bytes })
}

/// Linked to this process, because a key may be read only by who possesses it.
fn persistent() -> Result<KeyRing, KeyError> {
    KeyRing::get_persistent(KeyRingIdentifier::Process)
}

fn user() -> Result<KeyRing, KeyError> {
    let user = KeyRing::from_special_id(KeyRingIdentifier::User, false)?;
    KeyRing::from_special_id(KeyRingIdentifier::Process, true)?.link_keyring(user)?;
    Ok(user)
}

//! The data key, what is derived from it, and the blind indexes.

use std::fmt;

use aes_gcm::{Aes256Gcm, KeyInit as _};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

use crate::process::keep_out_of_swap;

/// 16 bytes that a look-up column holds instead of a name.
pub(super) type Blind = [u8; 16];

/// 32 secret bytes, kept out of the swap where that is allowed and overwritten when dropped.
#[derive(Clone)]
pub struct SecretKey(Box<[u8; 32]>);

impl SecretKey {
    /// Fresh ones from the system.
    ///
    /// # Panics
    /// When the operating system has no randomness to give: nothing can be kept secret then.
    #[must_use]
    pub fn generate() -> Self {
        Self::filled_by(|bytes| {
            getrandom::fill(bytes).expect("the operating system gives random bytes");
        })
    }

    /// Copies them; `None` if there are not exactly 32.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == 32).then(|| Self::filled_by(|own| own.copy_from_slice(bytes)))
    }

    /// The bytes, to be used and not kept.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn filled_by(fill: impl FnOnce(&mut [u8; 32])) -> Self {
        let mut bytes = Box::new([0; 32]);
        keep_out_of_swap(&mut *bytes);
        fill(&mut bytes);
        Self(bytes)
    }

    /// HKDF-SHA256 (RFC 5869) of these bytes.
    pub(super) fn derive(&self, salt: &[u8], info: &[u8]) -> Self {
        derive(self.0.as_slice(), salt, info)
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey([REDACTED])")
    }
}

/// HKDF-SHA256 of a secret of any length.
pub(super) fn derive(secret: &[u8], salt: &[u8], info: &[u8]) -> SecretKey {
    SecretKey::filled_by(|out| {
        Hkdf::<Sha256>::new(Some(salt), secret).expand(info, out).expect("32 bytes are within HKDF's limit");
    })
}

/// All keys of one epoch.
pub(super) struct EpochKeys {
    pub(super) epoch: u64,
    pub(super) vault_id: [u8; 16],
    pub(super) data: SecretKey,
    pub(super) sealing: Aes256Gcm,
    index: SecretKey,
    totals: SecretKey,
    audit: SecretKey,
}

impl EpochKeys {
    pub(super) fn new(vault_id: [u8; 16], epoch: u64, data: SecretKey) -> Self {
        let derive = |purpose: &str| {
            let info = length_prefixed(&[b"tokenkeep vault", purpose.as_bytes(), &epoch.to_le_bytes()]);
            data.derive(&vault_id, &info)
        };
        Self {
            epoch,
            vault_id,
            sealing: Aes256Gcm::new(derive("sealing").expose().into()),
            index: derive("index"),
            totals: derive("totals"),
            audit: derive("audit"),
            data,
        }
    }

    /// The same keys in memory of their own.
    pub(super) fn again(&self) -> Self {
        Self::new(self.vault_id, self.epoch, self.data.clone())
    }

    /// What stands in a look-up column for these names.
    pub(super) fn blind(&self, parts: &[&[u8]]) -> Blind {
        let mac = mac(&self.index, &length_prefixed(parts));
        *mac.first_chunk().expect("32 bytes begin with 16")
    }

    /// What a bucket's rows add up to.
    pub(super) fn total(&self, rows: &[u8]) -> Blind {
        *mac(&self.totals, rows).first_chunk().expect("32 bytes begin with 16")
    }

    /// The next link of the audit chain.
    pub(super) fn link(&self, before: &[u8; 32], seq: u64, sealed: &[u8]) -> [u8; 32] {
        mac(&self.audit, &length_prefixed(&[before, &seq.to_le_bytes(), sealed]))
    }
}

impl fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochKeys").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// Each part behind its length, so that no two lists of parts give the same bytes.
pub(super) fn length_prefixed(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length = parts.iter().map(|part| 4 + part.len()).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    for part in parts {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

fn mac(key: &SecretKey, message: &[u8]) -> [u8; 32] {
    let mut mac =
        <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_prints() {
        let keys = EpochKeys::new([1; 16], 1, SecretKey::from_bytes(&[7; 32]).unwrap());
        assert_eq!(format!("{:?}", keys.data), "SecretKey([REDACTED])");
        assert_eq!(format!("{keys:?}"), "EpochKeys { epoch: 1, .. }");
    }

    #[test]
    fn blind_indexes_differ_by_epoch_vault_and_every_part() {
        let data = SecretKey::from_bytes(&[7; 32]).unwrap();
        let keys = |id, epoch| EpochKeys::new([id; 16], epoch, data.clone());
        let all = [
            keys(1, 1).blind(&[b"a", b"bc"]),
            keys(1, 1).blind(&[b"ab", b"c"]),
            keys(1, 1).blind(&[b"abc"]),
            keys(1, 2).blind(&[b"a", b"bc"]),
            keys(2, 1).blind(&[b"a", b"bc"]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one), "{at}");
        }
    }
}

//! Authenticated encryption: to a key that we have (AES-256-GCM) and to a public key (X25519).

use aes_gcm::aead::{Aead as _, Generate as _, Nonce, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::encoding::{AsBigEndian as _, Curve25519SeedBin};
use serde::Serialize;
use zeroize::Zeroizing;

use super::keys::{SecretKey, derive, length_prefixed};

/// Stands in every associated data, so that a later format's rows are not taken for ours.
pub(super) const SEAL_VERSION: u32 = 1;

pub(super) const NONCE_LENGTH: usize = 12;
pub(super) const TAG_LENGTH: usize = 16;

/// Where a sealed value belongs. It opens nowhere else.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) vault_id: &'a [u8; 16],
    pub(super) epoch: u64,
    pub(super) table: &'static str,
    pub(super) space: &'a str,
    pub(super) identity: &'a [u8],
}

impl Context<'_> {
    /// The associated data.
    pub(super) fn to_bytes(self) -> Zeroizing<Vec<u8>> {
        length_prefixed(&[
            b"tokenkeep vault",
            &SEAL_VERSION.to_le_bytes(),
            self.vault_id,
            &self.epoch.to_le_bytes(),
            self.table.as_bytes(),
            self.space.as_bytes(),
            self.identity,
        ])
    }
}

/// Nonce, ciphertext and tag. The nonce is fresh from the system for each call.
pub(super) fn seal(cipher: &Aes256Gcm, context: Context<'_>, plain: &[u8]) -> Vec<u8> {
    seal_with_nonce(cipher, &fresh_nonce(), context, plain)
}

/// The plain text, if this is what was sealed, whole, and for this context.
pub(super) fn open(cipher: &Aes256Gcm, context: Context<'_>, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LENGTH>()?;
    let payload = Payload { msg: sealed, aad: &context.to_bytes() };
    cipher.decrypt(nonce.into(), payload).ok().map(Zeroizing::new)
}

/// For the test vectors only: everybody else takes the nonce that [`seal`] makes.
pub(super) fn seal_with_nonce(
    cipher: &Aes256Gcm,
    nonce: &[u8; NONCE_LENGTH],
    context: Context<'_>,
    plain: &[u8],
) -> Vec<u8> {
    let payload = Payload { msg: plain, aad: &context.to_bytes() };
    let sealed = cipher.encrypt(nonce.into(), payload).expect("a row is within AES-GCM's limits");
    [nonce.as_slice(), &sealed].concat()
}

/// A pair of keys: what is sealed to the public one opens with the secret one alone.
pub(super) struct KeyPair {
    pub(super) secret: SecretKey,
    pub(super) public: [u8; 32],
}

impl KeyPair {
    pub(super) fn generate() -> Option<Self> {
        Self::of(SecretKey::generate())
    }

    pub(super) fn of(secret: SecretKey) -> Option<Self> {
        let key = PrivateKey::from_private_key(&X25519, secret.expose()).ok()?;
        let public = key.compute_public_key().ok()?.as_ref().try_into().ok()?;
        Some(Self { secret, public })
    }
}

/// The sender's one-time public key, nonce, ciphertext and tag; `None` for a public key that no
/// secret one belongs to.
pub(super) fn seal_to(public: &[u8; 32], context: Context<'_>, plain: &[u8]) -> Option<Vec<u8>> {
    let sender = PrivateKey::generate(&X25519).ok()?;
    let seed: Curve25519SeedBin<'_> = sender.as_be_bytes().ok()?;
    let sender = KeyPair::of(SecretKey::from_bytes(seed.as_ref())?)?;
    seal_to_from(&sender, public, &fresh_nonce(), context, plain)
}

/// For [`seal_to`] and the test vectors.
pub(super) fn seal_to_from(
    sender: &KeyPair,
    public: &[u8; 32],
    nonce: &[u8; NONCE_LENGTH],
    context: Context<'_>,
    plain: &[u8],
) -> Option<Vec<u8>> {
    let cipher = agreed(&sender.secret, public, &sender.public, public)?;
    let sealed = seal_with_nonce(&cipher, nonce, context, plain);
    Some([sender.public.as_slice(), &sealed].concat())
}

/// The plain text of what [`seal_to`] made for this pair and context.
pub(super) fn open_from(pair: &KeyPair, context: Context<'_>, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (sender, sealed) = sealed.split_first_chunk::<32>()?;
    let cipher = agreed(&pair.secret, sender, sender, &pair.public)?;
    open(&cipher, context, sealed)
}

/// X25519, then HKDF over both public keys, so that neither can be exchanged for another.
fn agreed(secret: &SecretKey, other: &[u8; 32], sender: &[u8; 32], receiver: &[u8; 32]) -> Option<Aes256Gcm> {
    let own = PrivateKey::from_private_key(&X25519, secret.expose()).ok()?;
    let salt = [sender.as_slice(), receiver].concat();
    let other = UnparsedPublicKey::new(&X25519, other.as_slice());
    let key =
        agree(&own, other, (), |shared| Ok(derive(shared, &salt, b"tokenkeep vault sealed to a public key")))
            .ok()?;
    Some(Aes256Gcm::new(key.expose().into()))
}

fn fresh_nonce() -> [u8; NONCE_LENGTH] {
    Nonce::<Aes256Gcm>::generate().into()
}

/// JSON without a copy left behind by a buffer that grew.
pub(super) fn to_json<T: Serialize>(value: &T) -> Zeroizing<Vec<u8>> {
    let mut length = Counter(0);
    serde_json::to_writer(&mut length, value).expect("our own rows are JSON");
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *bytes, value).expect("our own rows are JSON");
    bytes
}

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context<'a>(vault_id: &'a [u8; 16], space: &'a str, identity: &'a [u8]) -> Context<'a> {
        Context { vault_id, epoch: 3, table: "entry", space, identity }
    }

    #[test]
    fn a_value_opens_only_where_it_belongs() {
        let key = SecretKey::generate();
        let cipher = Aes256Gcm::new(key.expose().into());
        let home = context(&[1; 16], "a", b"i");
        let sealed = seal(&cipher, home, b"secret");
        assert_eq!(open(&cipher, home, &sealed).unwrap().as_slice(), b"secret");

        let elsewhere = [
            context(&[2; 16], "a", b"i"),
            context(&[1; 16], "b", b"i"),
            context(&[1; 16], "a", b"j"),
            context(&[1; 16], "ai", b""),
            Context { epoch: 4, ..home },
            Context { table: "space", ..home },
        ];
        for (at, place) in elsewhere.into_iter().enumerate() {
            assert!(open(&cipher, place, &sealed).is_none(), "{at}");
        }
        assert_ne!(sealed, seal(&cipher, home, b"secret"), "a nonce is never used again");
    }

    #[test]
    fn no_flipped_bit_and_no_shorter_value_opens() {
        let cipher = Aes256Gcm::new(SecretKey::generate().expose().into());
        let home = context(&[1; 16], "a", b"i");
        let sealed = seal(&cipher, home, b"secret");
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(open(&cipher, home, &bad).is_none(), "flip at {at}");
            assert!(open(&cipher, home, &sealed[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn what_is_sealed_to_a_public_key_opens_with_its_secret_key_alone() {
        let (ours, theirs) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let home = context(&[1; 16], "", b"1");
        let sealed = seal_to(&ours.public, home, b"event").unwrap();
        assert_eq!(open_from(&ours, home, &sealed).unwrap().as_slice(), b"event");
        assert!(open_from(&theirs, home, &sealed).is_none());
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            let opened = open_from(&ours, home, &bad);
            // X25519 ignores the top bit of a public key, but HKDF does not
            assert!(opened.is_none(), "flip at {at}");
        }
    }
}

//! The recovery key: shown once when a vault is made, to be written down.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::ProtectorError;

use super::super::keys::{SecretKey, derive};
use super::{Protector, ProtectorKind, SlotContext, Wrapped};
use super::{from_hex, parameters, random_hex, unwrap_with, wrap_with};

/// Crockford's: without I, L, O and U, which people mistake for others.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const BYTES: usize = 20;
const CHECK: usize = 4;
const GROUP: usize = 4;

/// 160 random bits as nine groups of four letters, the last of which is a check.
#[derive(Clone)]
pub struct RecoveryKey(Zeroizing<[u8; BYTES]>);

impl RecoveryKey {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; BYTES]);
        bytes.copy_from_slice(&SecretKey::generate().expose()[..BYTES]);
        Self(bytes)
    }

    /// Reads what a person typed: case, spaces and dashes do not count, O is 0, I and L are 1.
    ///
    /// # Errors
    /// [`ProtectorError::WrongSecret`] if the check says that it was mistyped.
    pub fn parse(text: &SecretString) -> Result<Self, ProtectorError> {
        const MISTYPED: ProtectorError = ProtectorError::WrongSecret { what: "recovery key: it is mistyped" };
        let mut letters = Zeroizing::new(Vec::with_capacity(BYTES * 8 / 5 + CHECK));
        for letter in text.expose_secret().bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'-')
        {
            let letter = match letter.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            let value = ALPHABET.iter().position(|known| *known == letter).ok_or(MISTYPED)?;
            letters.push(u8::try_from(value).unwrap_or(0));
            if letters.len() > BYTES * 8 / 5 + CHECK {
                return Err(MISTYPED);
            }
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        let (key, _) = letters.split_at_checked(BYTES * 8 / 5).ok_or(MISTYPED)?;
        for (five, group) in bytes.chunks_exact_mut(5).zip(key.chunks_exact(8)) {
            let bits = group.iter().fold(0_u64, |bits, letter| bits << 5 | u64::from(*letter));
            five.copy_from_slice(&bits.to_be_bytes()[3..]);
        }
        let parsed = Self(bytes);
        if *parsed.letters() == *letters { Ok(parsed) } else { Err(MISTYPED) }
    }

    /// What to show, once.
    #[must_use]
    pub fn to_text(&self) -> SecretString {
        let letters = self.letters();
        let mut text = String::with_capacity(letters.len() + letters.len() / GROUP);
        for (at, letter) in letters.iter().enumerate() {
            if at > 0 && at % GROUP == 0 {
                text.push('-');
            }
            text.push(char::from(ALPHABET[usize::from(*letter)]));
        }
        SecretString::from(text)
    }

    /// Numbers below 32: the key, then the check.
    fn letters(&self) -> Zeroizing<Vec<u8>> {
        let mut letters = Zeroizing::new(Vec::with_capacity(BYTES * 8 / 5 + CHECK));
        for five in self.0.chunks_exact(5) {
            let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            letters.extend((0..8).rev().map(|at| (bits >> (at * 5)) as u8 & 31));
        }
        let check = Sha256::digest(self.0.as_slice());
        letters.extend(check.iter().take(CHECK).map(|byte| byte & 31));
        letters
    }

    fn key(&self, salt: &str) -> Result<SecretKey, ProtectorError> {
        Ok(derive(self.0.as_slice(), &from_hex(salt)?, b"tokenkeep vault recovery key"))
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey([REDACTED])")
    }
}

impl Protector for RecoveryKey {
    fn kind(&self) -> ProtectorKind {
        ProtectorKind::Recovery
    }

    fn wrap(&self, key: &SecretKey, slot: &SlotContext<'_>) -> Result<Wrapped, ProtectorError> {
        let parameters = Parameters { salt: random_hex() };
        Ok(wrap_with(&self.key(&parameters.salt)?, key, self.kind(), &parameters, slot))
    }

    fn unwrap(&self, wrapped: &Wrapped, slot: &SlotContext<'_>) -> Result<SecretKey, ProtectorError> {
        let Parameters { salt } = parameters(wrapped)?;
        unwrap_with(&self.key(&salt)?, self.kind(), wrapped, slot)
            .ok_or(ProtectorError::WrongSecret { what: "recovery key" })
    }
}

#[derive(Serialize, Deserialize)]
struct Parameters {
    salt: String,
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    #[test]
    fn it_is_read_back_however_it_is_typed() {
        let key = RecoveryKey::generate();
        let text = key.to_text();
        let text = text.expose_secret();
        assert_eq!(text.len(), 9 * 4 + 8);
        let sloppy = text.to_lowercase().replace('-', "  ").replace('0', "o").replace('1', "l");
        for typed in [text.to_owned(), sloppy, text.replace('-', "")] {
            assert_eq!(*RecoveryKey::parse(&typed.into()).unwrap().0, *key.0);
        }
        round_trip(&key);
    }

    #[test]
    fn a_typing_mistake_is_told_from_a_wrong_key() {
        let text = RecoveryKey(Zeroizing::new([7; BYTES])).to_text().expose_secret().to_owned();
        for at in (0..text.len()).filter(|at| &text[*at..=*at] != "-") {
            let other = if &text[at..=at] == "Z" { "Y" } else { "Z" };
            let mistyped = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            RecoveryKey::parse(&mistyped.into()).unwrap_err();
        }
        for odd in [String::new(), text[1..].to_owned(), format!("{text}A"), "é".repeat(36)] {
            RecoveryKey::parse(&odd.into()).unwrap_err();
        }
        assert_eq!(format!("{:?}", RecoveryKey::generate()), "RecoveryKey([REDACTED])");
    }
}

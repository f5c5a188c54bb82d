//! MSAL for Go's file on Linux: a compact JWE, `dir` with A128CBC-HS256 (RFC 7516, RFC 7518 5.2.3;
//! spec S-C 2.5). Go leaves the header out of what it authenticates.

use aes::Aes128;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Encrypted content, not opened yet.
#[derive(Debug)]
pub(super) struct Jwe {
    iv: [u8; 16],
    ciphertext: Vec<u8>,
    tag: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    alg: &'a str,
    enc: &'a str,
    kid: &'a str,
}

const ALGORITHM: &str = "dir";
const ENCRYPTION: &str = "A128CBC-HS256";

/// Whether somebody meant it to be one: five parts and the beginning of a JSON header.
pub(super) fn is_like_one(text: &[u8]) -> bool {
    text.starts_with(b"ey") && text.iter().filter(|byte| **byte == b'.').take(5).count() == 4
}

impl Jwe {
    /// Takes the parts apart; says what is wrong with them otherwise.
    pub(super) fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let mut parts = text.split(|byte| *byte == b'.');
        let mut next = || -> Result<Vec<u8>, &'static str> {
            let part = parts.next().ok_or("it is a JWE with too few parts")?;
            URL_SAFE_NO_PAD.decode(part).map_err(|_| "it is a JWE, and a part is not base64url")
        };
        let [header, key, iv, ciphertext, tag] = [next()?, next()?, next()?, next()?, next()?];
        if parts.next().is_some() {
            return Err("it is a JWE with too many parts");
        }
        let header: Header<'_> =
            serde_json::from_slice(&header).map_err(|_| "it is a JWE, and its header is not Go's")?;
        if header.alg != ALGORITHM || header.enc != ENCRYPTION || !key.is_empty() {
            return Err("it is a JWE of another kind than MSAL for Go's");
        }
        let iv =
            iv.try_into().map_err(|_| "it is a JWE, and its initialisation vector has a wrong length")?;
        Ok(Self { iv, ciphertext, tag })
    }

    /// The content; `None` if another key made it, or it was changed since.
    pub(super) fn open(&self, key: &[u8; 32]) -> Option<Zeroizing<Vec<u8>>> {
        let (authentication, encryption) = halves(key);
        let tag = tag(authentication, &[], &self.iv, &self.ciphertext);
        if !bool::from(tag.ct_eq(&self.tag)) {
            return None;
        }
        let mut content = Zeroizing::new(self.ciphertext.clone());
        let cipher = cbc::Decryptor::<Aes128>::new(encryption.into(), (&self.iv).into());
        let length = cipher.decrypt_padded::<Pkcs7>(&mut content).ok()?.len();
        content.truncate(length);
        Some(content)
    }

    /// Encrypts under a fresh initialisation vector, in the compact form.
    pub(super) fn seal(content: &[u8], key: &[u8; 32], key_id: &str) -> Zeroizing<Vec<u8>> {
        let mut iv = [0; 16];
        getrandom::fill(&mut iv).expect("the system has random numbers");
        let (authentication, encryption) = halves(key);
        let cipher = cbc::Encryptor::<Aes128>::new(encryption.into(), (&iv).into());
        let mut room = Zeroizing::new(vec![0; content.len() + 16]);
        room[..content.len()].copy_from_slice(content);
        let ciphertext =
            cipher.encrypt_padded::<Pkcs7>(&mut room, content.len()).expect("there is room for the padding");
        let tag = tag(authentication, &[], &iv, ciphertext);
        let header = Header { alg: ALGORITHM, enc: ENCRYPTION, kid: key_id };
        let header = serde_json::to_vec(&header).expect("three texts are always written to memory");
        let [header, iv, ciphertext, tag] =
            [&header, &iv[..], ciphertext, &tag].map(|part| URL_SAFE_NO_PAD.encode(part));
        Zeroizing::new(format!("{header}..{iv}.{ciphertext}.{tag}").into_bytes())
    }
}

/// RFC 7518 5.2.2.1: the first half authenticates, the second encrypts.
fn halves(key: &[u8; 32]) -> (&[u8; 16], &[u8; 16]) {
    let (first, second) = key.split_at(16);
    (first.try_into().expect("half of 32"), second.try_into().expect("half of 32"))
}

fn tag(key: &[u8; 16], associated: &[u8], iv: &[u8; 16], ciphertext: &[u8]) -> [u8; 16] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(associated);
    mac.update(iv);
    mac.update(ciphertext);
    mac.update(&(associated.len() as u64 * 8).to_be_bytes());
    let whole = mac.finalize().into_bytes();
    whole[..16].try_into().expect("half of 32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_alone() {
        for content in [&b""[..], b"{}", &[b'x'; 1000]] {
            let sealed = Jwe::seal(content, &[7; 32], "12345");
            assert!(is_like_one(&sealed));
            let sealed = Jwe::parse(&sealed).unwrap();
            assert_eq!(*sealed.open(&[7; 32]).unwrap(), content);
            assert!(sealed.open(&[8; 32]).is_none());
        }
    }

    #[test]
    fn two_seals_of_one_content_differ() {
        assert_ne!(Jwe::seal(b"{}", &[7; 32], "1"), Jwe::seal(b"{}", &[7; 32], "1"));
    }

    #[test]
    fn the_header_is_gos() {
        let sealed = Jwe::seal(b"{}", &[7; 32], "12345");
        let text = String::from_utf8(sealed.to_vec()).unwrap();
        let header = URL_SAFE_NO_PAD.decode(text.split('.').next().unwrap()).unwrap();
        assert_eq!(header, br#"{"alg":"dir","enc":"A128CBC-HS256","kid":"12345"}"#);
        assert_eq!(text.split('.').nth(1), Some(""), "no key is wrapped");
    }

    #[test]
    fn any_change_is_noticed_and_no_garbage_trips_it() {
        let sealed = Jwe::seal(b"{\"a\":{}}", &[7; 32], "1");
        let header_end = sealed.iter().position(|byte| *byte == b'.').unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let opened = Jwe::parse(&changed).ok().and_then(|jwe| jwe.open(&[7; 32]));
            // the header is not authenticated: what parses may open
            assert!(opened.is_none() || at < header_end, "byte {at}");
        }
        for garbage in ["", "ey", "ey....", "e30....", "ey.ey.ey.ey.ey.ey", "ey\u{0}....", "....."] {
            Jwe::parse(garbage.as_bytes()).unwrap_err();
        }
    }

    /// RFC 7518, appendix B.1: the tag and the first and last block, with associated data.
    #[test]
    fn the_rfcs_own_vector_comes_out() {
        let key: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let iv =
            [0x1a, 0xf3, 0x8c, 0x2d, 0xc2, 0xb9, 0x6f, 0xfd, 0xd8, 0x66, 0x94, 0x09, 0x23, 0x41, 0xbc, 0x04];
        let content = b"A cipher system must not be required to be secret, and it must be able to fall \
            into the hands of the enemy without inconvenience";
        let associated = b"The second principle of Auguste Kerckhoffs";
        let (authentication, encryption) = halves(&key);
        let cipher = cbc::Encryptor::<Aes128>::new(encryption.into(), (&iv).into());
        let ciphertext = cipher.encrypt_padded_vec::<Pkcs7>(content);
        assert_eq!(ciphertext[..4], [0xc8, 0x0e, 0xdf, 0xa3]);
        let expected =
            [0x65, 0x2c, 0x3f, 0xa3, 0x6b, 0x0a, 0x7c, 0x5b, 0x32, 0x19, 0xfa, 0xb3, 0xa3, 0x0b, 0xc1, 0xc4];
        assert_eq!(tag(authentication, associated, &iv, &ciphertext), expected);
    }
}

//! From the bytes that a tool keeps to the JSON in them, and back (spec S-C 2.2 to 2.7).
//!
//! What is read is recognised by its content, because several tools write to one place; what is
//! written keeps the encoding of what it replaces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::CacheError;

use super::jwe::{self, Jwe};

/// How a tool writes a cache's JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// azd's on Windows: JSON with the base64 of what DPAPI made of it.
    AzdEnvelope,
    /// Base64, as .NET and Java keep their item of the Secret Service.
    Base64,
    /// Windows' encryption for the user.
    Dpapi,
    /// As it is.
    Json,
    /// Go's on Linux: encrypted by a key that the kernel keeps.
    Jwe,
}

impl Encoding {
    /// Whether it keeps a secret by itself.
    #[must_use]
    pub const fn encrypts(self) -> bool {
        match self {
            Self::AzdEnvelope | Self::Dpapi | Self::Jwe => true,
            Self::Base64 | Self::Json => false,
        }
    }
}

/// The encoding of one cache.
#[derive(Clone, Debug)]
pub(super) struct Codec {
    /// What its tool writes.
    encoding: Encoding,
    /// Whether other encodings are recognised, too.
    is_lenient: bool,
    /// What Go calls the key: the cache's full name.
    key_name: String,
}

/// Bytes of a document, or of what should be one.
type Bytes = Zeroizing<Vec<u8>>;

/// What was kept, decoded.
pub(super) struct Opened {
    /// The JSON, or what stands in its place.
    pub(super) bytes: Bytes,
    /// How it was written.
    pub(super) encoding: Encoding,
}

impl Codec {
    /// For a place that only this encoding can be in.
    pub(super) const fn only(encoding: Encoding) -> Self {
        Self { encoding, is_lenient: false, key_name: String::new() }
    }

    /// For a place that others may have written to.
    pub(super) fn lenient(encoding: Encoding, key_name: &str) -> Self {
        Self { encoding, is_lenient: true, key_name: key_name.to_owned() }
    }

    /// What its tool writes.
    pub(super) const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// What these bytes are, by their content where that may differ.
    fn encoding_of(&self, kept: &[u8]) -> Encoding {
        let text = kept.trim_ascii();
        match self.encoding {
            own @ (Encoding::AzdEnvelope | Encoding::Dpapi) => own,
            own if !self.is_lenient || text.is_empty() => own,
            _ if jwe::is_like_one(text) => Encoding::Jwe,
            _ if !text.starts_with(b"{") && is_base64_of_json(text) => Encoding::Base64,
            // what it is not, the parser says
            _ => Encoding::Json,
        }
    }

    /// The same as [`Self::open`], and what the encoding was.
    pub(super) fn look(&self, kept: Bytes, place: &str) -> Result<Opened, CacheError> {
        let encoding = self.encoding_of(&kept);
        Ok(Opened { bytes: self.open(kept, place)?, encoding })
    }

    /// The JSON in these bytes. Bytes that cannot be decoded are given back as they are where the
    /// parser can say what is wrong with them.
    fn open(&self, kept: Bytes, place: &str) -> Result<Bytes, CacheError> {
        if kept.trim_ascii().is_empty() {
            // a cache in which nothing was ever kept
            return Ok(kept);
        }
        match self.encoding_of(&kept) {
            Encoding::AzdEnvelope => open_dpapi(&Envelope::open(&kept, place)?, place),
            Encoding::Base64 => Ok(STANDARD.decode(kept.trim_ascii()).map_or(kept, Zeroizing::new)),
            Encoding::Dpapi => open_dpapi(&kept, place),
            Encoding::Json => Ok(kept),
            Encoding::Jwe => self.open_jwe(&kept, place),
        }
    }

    /// The JSON as it is to be kept in the place of `replaced`.
    pub(super) fn seal(
        &self,
        json: &[u8],
        replaced: Option<&[u8]>,
        place: &str,
    ) -> Result<Bytes, CacheError> {
        let encoding = replaced.map_or(self.encoding, |kept| self.encoding_of(kept));
        match encoding {
            Encoding::AzdEnvelope => Ok(Envelope::seal(&seal_dpapi(json, place)?)),
            Encoding::Base64 => Ok(Zeroizing::new(STANDARD.encode(json).into_bytes())),
            Encoding::Dpapi => seal_dpapi(json, place),
            Encoding::Json => Ok(Zeroizing::new(json.to_vec())),
            Encoding::Jwe => {
                let key = self.key(place)?;
                Ok(Jwe::seal(json, &key.bytes, &key.id))
            }
        }
    }

    fn open_jwe(&self, kept: &[u8], place: &str) -> Result<Bytes, CacheError> {
        let damaged =
            |detail: &str| CacheError::Damaged { place: place.to_owned(), detail: detail.to_owned() };
        let sealed = Jwe::parse(kept.trim_ascii()).map_err(damaged)?;
        let key = self.key(place)?;
        // Go makes a new key where the old one is gone, and then cannot read its file, either
        sealed.open(&key.bytes).ok_or_else(|| CacheError::KeyGone {
            place: place.to_owned(),
            detail: format!(
                "the key {:?} in the kernel's keyring is not the one that it was encrypted with",
                self.key_name
            ),
        })
    }

    #[cfg(target_os = "linux")]
    fn key(&self, place: &str) -> Result<super::kernel_key::KernelKey, CacheError> {
        super::kernel_key::find(&self.key_name).map_err(|error| CacheError::KeyGone {
            place: place.to_owned(),
            detail: format!(
                "no key {:?} is in the kernel's keyring, which forgets at every restart: {error}",
                self.key_name
            ),
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn key(&self, place: &str) -> Result<KernelKey, CacheError> {
        Err(CacheError::KeyGone {
            place: place.to_owned(),
            detail: format!("its key {:?} is in the keyring of a Linux kernel", self.key_name),
        })
    }
}

/// Where no kernel keeps any: never made.
#[cfg(not(target_os = "linux"))]
struct KernelKey {
    id: String,
    bytes: Zeroizing<[u8; 32]>,
}

/// azd's file on Windows (spec S-C 2.7).
#[derive(Serialize, Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    data: String,
}

const CRYPT_PROTECT_DATA: &str = "CryptProtectData";

impl Envelope {
    fn open(kept: &[u8], place: &str) -> Result<Bytes, CacheError> {
        let damaged = |detail: String| CacheError::Damaged { place: place.to_owned(), detail };
        let envelope: Self = serde_json::from_slice(kept)
            .map_err(|error| damaged(format!("it is no envelope of azd's: line {}", error.line())))?;
        if envelope.kind != CRYPT_PROTECT_DATA {
            return Err(CacheError::NewerFormat {
                place: place.to_owned(),
                detail: "its envelope names an encryption that we do not know".to_owned(),
            });
        }
        let sealed = STANDARD.decode(envelope.data.as_bytes());
        sealed.map(Zeroizing::new).map_err(|_| damaged("its envelope does not hold base64".to_owned()))
    }

    fn seal(sealed: &[u8]) -> Bytes {
        let envelope = Self { kind: CRYPT_PROTECT_DATA.to_owned(), data: STANDARD.encode(sealed) };
        Zeroizing::new(serde_json::to_vec(&envelope).expect("two texts are always written to memory"))
    }
}

#[cfg(windows)]
fn open_dpapi(sealed: &[u8], place: &str) -> Result<Bytes, CacheError> {
    super::dpapi::open(sealed)
        .map_err(|error| CacheError::KeyUnavailable { place: place.to_owned(), detail: error.to_string() })
}

#[cfg(windows)]
fn seal_dpapi(json: &[u8], place: &str) -> Result<Bytes, CacheError> {
    super::dpapi::seal(json).map_err(CacheError::io("encrypt", place))
}

#[cfg(not(windows))]
fn open_dpapi(_sealed: &[u8], place: &str) -> Result<Bytes, CacheError> {
    Err(only_on_windows(place))
}

#[cfg(not(windows))]
fn seal_dpapi(_json: &[u8], place: &str) -> Result<Bytes, CacheError> {
    Err(only_on_windows(place))
}

#[cfg(not(windows))]
fn only_on_windows(place: &str) -> CacheError {
    CacheError::KeyUnavailable {
        place: place.to_owned(),
        detail: "Windows encrypted it for one of its users (DPAPI), and only it can open that".to_owned(),
    }
}

fn is_base64_of_json(text: &[u8]) -> bool {
    // the beginning is enough to tell, and everything is not decoded twice
    let beginning = &text[..text.len().min(64) / 4 * 4];
    let decoded = STANDARD.decode(beginning).map(Zeroizing::new);
    decoded.is_ok_and(|decoded| decoded.trim_ascii_start().starts_with(b"{"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    fn opened(codec: &Codec, text: &str) -> String {
        String::from_utf8(codec.open(bytes(text), "x").unwrap().to_vec()).unwrap()
    }

    #[test]
    fn content_is_recognised_and_what_is_no_cache_is_given_back() {
        let codec = Codec::lenient(Encoding::Base64, "msal.cache");
        for (kept, json) in [
            (" {}\n", " {}\n"),
            ("e30=\n", "{}"),
            ("bm8=", "bm8="),         // base64 of something else
            ("ZTMwPQ==", "ZTMwPQ=="), // base64 of base64
            ("e30=!", "e30=!"),
            ("", ""),
            ("[]", "[]"),
        ] {
            assert_eq!(opened(&codec, kept), json, "{kept:?}");
        }
    }

    #[test]
    fn what_is_written_keeps_the_encoding_of_what_it_replaces() {
        let codec = Codec::lenient(Encoding::Base64, "msal.cache");
        for (replaced, kept) in
            [(None, "e30="), (Some("{\"a\":{}}"), "{}"), (Some("e30="), "e30="), (Some(""), "e30=")]
        {
            let sealed = codec.seal(b"{}", replaced.map(str::as_bytes), "x").unwrap();
            assert_eq!(*sealed, kept.as_bytes(), "{replaced:?}");
        }
    }

    #[test]
    fn a_place_for_one_encoding_takes_no_other_for_its_own() {
        let codec = Codec::only(Encoding::Json);
        assert_eq!(opened(&codec, "e30="), "e30=");
    }

    #[test]
    fn azds_envelope_is_taken_apart_and_put_together() {
        let sealed = Envelope::seal(b"sealed");
        assert_eq!(*sealed, br#"{"type":"CryptProtectData","data":"c2VhbGVk"}"#);
        assert_eq!(*Envelope::open(&sealed, "x").unwrap(), b"sealed");
        for (kept, is_newer) in [
            ("{}", false),
            ("[]", false),
            (r#"{"type":7,"data":""}"#, false),
            (r#"{"type":"CryptProtectData","data":"?"}"#, false),
            (r#"{"type":"Another","data":""}"#, true),
        ] {
            let error = Envelope::open(kept.as_bytes(), "x").unwrap_err();
            assert_eq!(matches!(error, CacheError::NewerFormat { .. }), is_newer, "{kept}: {error}");
        }
    }

    #[test]
    #[cfg(not(windows))]
    fn what_windows_encrypted_says_so_elsewhere() {
        for encoding in [Encoding::Dpapi, Encoding::AzdEnvelope] {
            let kept = Envelope::seal(b"sealed");
            let error = Codec::lenient(encoding, "x").open(kept, "x").unwrap_err();
            assert!(matches!(error, CacheError::KeyUnavailable { .. }), "{error}");
        }
    }
}

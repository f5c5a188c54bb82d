//! The MSAL cache document: pure data, no I/O, and time comes in as a parameter (spec S-C 1).
//!
//! The parsed JSON is kept as it was found, with key order and everything unknown, and edited in
//! place; entries are looked at through views. Nothing is ever looked up by an entry's key, since
//! every language builds those differently (spec S-C 1.4).

mod accounts;
mod apply;
mod change;
mod clients;
mod defect;
mod diagnosis;
mod edit;
mod entity;
mod entries;
mod find;
mod held;
mod json;
mod key;
mod login;
mod merge;
mod realm;
mod remedy;
mod save;
mod stale;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use self::entity::{Entity, Section};

pub use self::accounts::{CachedAccount, CachedClient};
pub(crate) use self::change::Reach;
pub use self::change::{Change, ChangeSet, IssuedAccount, IssuedTokens, Origin};
pub use self::clients::{ClientSummary, Membership, RefreshTokenSummary};
pub use self::defect::{Defect, DefectKind, EntryPlace};
pub use self::entity::{AccessTokenView, RefreshTokenView};
pub use self::entries::CachedEntry;
pub use self::find::{AccessTokenQuery, RefreshTokenQuery};
pub use self::held::HeldRefreshToken;
pub use self::key::Dialect;
pub use self::login::Login;
pub use self::stale::StaleEntry;

/// An MSAL cache, with key order and everything unknown kept.
///
/// `Debug` shows no more than how many entries there are, and secrets are overwritten in memory
/// when it is dropped. Two documents are equal if their JSON is: the order of members does not
/// count.
#[derive(Clone, Default)]
pub struct TokenCacheDocument {
    root: Map<String, Value>,
    /// Whether it began with a byte order mark, which is no part of it and never written.
    is_marked: bool,
}

impl TokenCacheDocument {
    /// Reads a document; nothing but white space is an empty one (spec S-C 1.11).
    ///
    /// A byte order mark is tolerated. Sections and entries that do not have the expected shape
    /// are kept, and skipped by every look-up.
    ///
    /// # Errors
    /// [`DocumentError`], which tells what the bytes are instead of a JSON object. It never
    /// quotes them, because they may hold secrets.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        json::parse(bytes).map(|root| Self { root, is_marked: json::is_marked(bytes) })
    }

    /// Writes the document as Python does: indented by four, ASCII only, without a byte order
    /// mark (spec S-C 1.1).
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        json::to_bytes(&self.root)
    }

    /// Whether there is nothing in it: no entry, and no unknown content either.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.values().all(|section| section.as_object().is_some_and(Map::is_empty))
    }

    /// An entry as it stands, to be compared.
    #[cfg(feature = "cli")]
    pub(crate) fn entry(&self, section: &str, key: &str) -> Option<&Value> {
        self.root.get(section)?.get(key)
    }

    /// The members as they stand, for a store that keeps them one by one.
    pub(crate) const fn root(&self) -> &Map<String, Value> {
        &self.root
    }

    /// The document of such members.
    pub(crate) const fn from_root(root: Map<String, Value>) -> Self {
        Self { root, is_marked: false }
    }

    const fn root_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.root
    }

    const fn is_marked(&self) -> bool {
        self.is_marked
    }

    const fn unmark(&mut self) -> bool {
        std::mem::replace(&mut self.is_marked, false)
    }

    /// A section's entries in the order of the file, the ones that are no objects left out.
    fn entities(&self, section: Section) -> impl Iterator<Item = (&str, Entity<'_>)> {
        self.root
            .get(section.as_str())
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), Entity(value.as_object()?))))
    }
}

impl PartialEq for TokenCacheDocument {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

impl Drop for TokenCacheDocument {
    fn drop(&mut self) {
        self.root.values_mut().for_each(json::wipe);
    }
}

impl fmt::Debug for TokenCacheDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = f.debug_struct("TokenCacheDocument");
        for section in Section::ALL {
            counts.field(section.as_str(), &self.entities(section).count());
        }
        counts.finish_non_exhaustive()
    }
}

/// What bytes are when they are not a document. Says where, never what stands there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// MSAL.NET keeps its Linux item like that (spec S-C 6).
    #[error("it is base64 of JSON, as MSAL.NET keeps a cache, not JSON")]
    Base64,
    /// MSAL for Go keeps its file like that (spec S-C 2.5).
    #[error("it is an encrypted JWE, as MSAL for Go keeps a cache, not JSON")]
    Jwe,
    /// JSON, but its top level is something else than an object.
    #[error("it is JSON, but not an object: the top level is {found}")]
    NotAnObject {
        /// What the top level is, such as `an array`.
        found: &'static str,
    },
    /// Something that is no JSON at all.
    #[error("it is not JSON: the first error is at line {line}, column {column}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted in bytes.
        column: usize,
    },
    /// More in it than any cache has: whoever made it wants to use up our memory.
    #[error("it has more than {limit} values, so it is no cache")]
    TooManyValues {
        /// How many there may be.
        limit: usize,
    },
    /// Bytes that are no text.
    #[error("it is not UTF-8 text: the first bad byte is at offset {offset}")]
    NotUtf8 {
        /// How many bytes before it are good.
        offset: usize,
    },
    /// JSON that stops in the middle, as it does while somebody is still writing it in place.
    #[error("it is JSON that ends in the middle, at line {line}, column {column}")]
    Truncated {
        /// Counted from 1.
        line: usize,
        /// Counted in bytes.
        column: usize,
    },
}

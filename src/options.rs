//! Which cache to use, and how it may be kept.

use std::fmt;

use crate::error::{InvalidArgument, Result};

/// The name of a cache, as other SDKs know it: `msal.cache` unless chosen otherwise.
///
/// It becomes part of a file's name, so it cannot be a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheName(String);

impl CacheName {
    /// Takes a name of 1 to 100 characters without path separators or control characters.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] for any other text.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let has_bad = name
            .chars()
            .any(|c| c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|'));
        if name.is_empty() || name.len() > 100 || has_bad || name.starts_with('.') || name.trim() != name {
            return Err(InvalidArgument::new(
                "cache name",
                format!("{name:?} cannot be part of a file's name"),
                "use letters, digits, dots and dashes, such as msal.cache",
            )
            .into());
        }
        Ok(Self(name))
    }

    /// The name without the suffix that tells continuous access evaluation (spec S-C 2.1).
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for CacheName {
    fn default() -> Self {
        Self("msal.cache".to_owned())
    }
}

impl fmt::Display for CacheName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Asks for a cache that outlives the process and is shared with every tool that uses its name.
///
/// Encrypted by the platform (DPAPI, Keychain, Secret Service) or, on Linux without a working
/// Secret Service, by the user's vault; unencrypted only if [`allow_unencrypted_storage`] says that
/// plaintext will do where neither can work. The defaults are those of
/// azure-identity, so tools in other languages find the same cache (spec S-B 2.5).
///
/// ```
/// use tokenkeep::{CacheName, TokenCachePersistenceOptions};
/// # fn main() -> tokenkeep::Result<()> {
/// let shared = TokenCachePersistenceOptions::default();
/// assert_eq!(shared.name.as_str(), "msal.cache");
///
/// let ours = TokenCachePersistenceOptions::default().name(CacheName::new("contoso-tools")?);
/// assert!(!ours.allow_unencrypted_storage);
/// # Ok(()) }
/// ```
///
/// [`allow_unencrypted_storage`]: Self::allow_unencrypted_storage
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenCachePersistenceOptions {
    /// Which cache; tools that name the same one share it.
    pub name: CacheName,
    /// Whether a file that only its mode protects will do on Linux when no Secret Service works.
    pub allow_unencrypted_storage: bool,
    /// Where to keep it, for programs that do not leave that to what the machine has.
    pub storage: Storage,
}

impl TokenCachePersistenceOptions {
    /// Uses the cache of this name.
    #[must_use]
    pub fn name(mut self, name: CacheName) -> Self {
        self.name = name;
        self
    }

    /// Accepts plaintext (mode 0600) on Linux where the Secret Service cannot work.
    #[must_use]
    pub const fn allow_unencrypted_storage(mut self, allow: bool) -> Self {
        self.allow_unencrypted_storage = allow;
        self
    }

    /// Insists on one kind of storage.
    #[must_use]
    pub const fn storage(mut self, storage: Storage) -> Self {
        self.storage = storage;
        self
    }
}

/// Where a persistent cache rests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// The platform's encrypted store; if it cannot work on Linux, the user's vault; plaintext only
    /// if there is none *and* that was allowed.
    #[default]
    Auto,
    /// The platform's encrypted store, whatever else is allowed.
    Platform,
    /// The plaintext file. Choosing it is the permission.
    Plaintext,
    /// The user's vault: a file encrypted by a key of its own, which needs no desktop.
    Vault,
}

/// The id of an application, as far as that can be told without asking.
#[cfg(feature = "cli")]
pub(crate) fn client_id(text: &str) -> Result<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:/".contains(c);
    if text.is_empty() || !text.chars().all(fits) {
        return Err(InvalidArgument::new(
            "client id",
            format!("{text:?} is not the id of an application"),
            "give the application's (client) id, usually a GUID",
        )
        .into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_name_is_never_a_path() {
        for bad in ["", ".", "..", "a/b", "a\\b", "a\nb", ".hidden", " a", &"x".repeat(101)] {
            CacheName::new(bad).unwrap_err();
        }
        assert_eq!(CacheName::new("mg.msal.cache").unwrap().as_str(), "mg.msal.cache");
    }
}

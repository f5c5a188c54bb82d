//! Each SDK's names: files, attributes, locks. A profile is data, not a subclass (spec S-C 2, 3.3).

use std::path::{Path, PathBuf};

use crate::options::CacheName;

use super::lock::LockPaths;

/// How one family of SDKs names the things that it keeps.
#[derive(Debug)]
pub(super) struct Profile {
    /// What is added to a cache's name without, and with, continuous access evaluation.
    suffixes: [&'static str; 2],
    /// The folder of data, signal and lock files.
    folder: &'static str,
    /// What is added to a file's name to make its lock's.
    lock_suffix: &'static str,
    /// The lock that Java takes for all caches of the folder.
    folder_lock: &'static str,
    /// The Secret Service attribute that says whose item it is, and its value.
    #[cfg(target_os = "linux")]
    owner_attribute: (&'static str, &'static str),
    /// The Secret Service item's label.
    #[cfg(target_os = "linux")]
    pub(super) label: &'static str,
    /// The Keychain item's service.
    #[cfg(any(target_os = "macos", test))]
    pub(super) keychain_service: &'static str,
    /// The one full name that has a Keychain account of another name, and that account.
    #[cfg(any(target_os = "macos", test))]
    keychain_account: (&'static str, &'static str),
}

/// azure-identity for Python since 1.27, which the other SDKs follow in most places.
pub(super) const AZURE_IDENTITY: Profile = Profile {
    suffixes: [".nocae", ".cae"],
    folder: ".IdentityService",
    lock_suffix: ".lockfile",
    folder_lock: ".lockfile",
    #[cfg(target_os = "linux")]
    owner_attribute: ("MsalClientID", "Microsoft.Developer.IdentityService"),
    #[cfg(target_os = "linux")]
    label: "MSALCache",
    #[cfg(any(target_os = "macos", test))]
    keychain_service: "Microsoft.Developer.IdentityService",
    #[cfg(any(target_os = "macos", test))]
    keychain_account: ("msal.cache.nocae", "MSALCache"),
};

impl Profile {
    pub(super) fn full_name(&self, name: &CacheName, cae: bool) -> String {
        format!("{name}{}", self.suffixes[usize::from(cae)])
    }

    pub(super) fn files(&self, base: &Path, full_name: &str) -> CacheFiles {
        let folder = base.join(self.folder);
        CacheFiles {
            path: folder.join(full_name),
            lock: LockPaths {
                cache: folder.join(format!("{full_name}{}", self.lock_suffix)),
                folder: folder.join(self.folder_lock),
            },
        }
    }

    /// The item's whole attribute set. libsecret keeps the schema's name as `xdg:schema`.
    #[cfg(target_os = "linux")]
    pub(super) fn attributes<'a>(&self, full_name: &'a str) -> [(&'static str, &'a str); 2] {
        let (owner, value) = self.owner_attribute;
        [("xdg:schema", full_name), (owner, value)]
    }

    #[cfg(any(target_os = "macos", test))]
    pub(super) fn keychain_account<'a>(&self, full_name: &'a str) -> &'a str {
        let (name, account) = self.keychain_account;
        if full_name == name { account } else { full_name }
    }
}

/// The files that belong to one cache.
#[derive(Clone, Debug)]
pub(super) struct CacheFiles {
    /// The data; with a keyring, the signal: its time tells other programs of a change.
    pub(super) path: PathBuf,
    /// The locks.
    pub(super) lock: LockPaths,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_those_of_azure_identity() {
        let name = CacheName::default();
        assert_eq!(AZURE_IDENTITY.full_name(&name, false), "msal.cache.nocae");
        assert_eq!(AZURE_IDENTITY.full_name(&name, true), "msal.cache.cae");

        let files = AZURE_IDENTITY.files(Path::new("home"), "msal.cache.cae");
        let folder = Path::new("home").join(".IdentityService");
        assert_eq!(files.path, folder.join("msal.cache.cae"));
        assert_eq!(files.lock.cache, folder.join("msal.cache.cae.lockfile"));
        assert_eq!(files.lock.folder, folder.join(".lockfile"));
    }

    #[test]
    fn only_the_default_non_cae_cache_has_the_historical_keychain_account() {
        assert_eq!(AZURE_IDENTITY.keychain_service, "Microsoft.Developer.IdentityService");
        assert_eq!(AZURE_IDENTITY.keychain_account("msal.cache.nocae"), "MSALCache");
        assert_eq!(AZURE_IDENTITY.keychain_account("msal.cache.cae"), "msal.cache.cae");
        assert_eq!(AZURE_IDENTITY.keychain_account("other.nocae"), "other.nocae");
    }
}

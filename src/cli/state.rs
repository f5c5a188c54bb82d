//! The default accounts, one per cloud: in the vault if that is where the cache rests, else in
//! `$XDG_STATE_HOME/tokenkeep/accounts.json`.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::caches::deadline;
use super::failure::Failure;
use super::private_file;
use super::settings::Settings;
use crate::cloud;
use crate::error::CacheError;
use crate::store::vault::Vault;

const MEMBER: &str = "default_accounts";
const MAX_LENGTH: u64 = 64 * 1024;

/// Which account to use when none is named. Only `tokenkeep accounts default` sets one.
#[derive(Debug)]
pub(super) enum DefaultAccounts {
    File(DefaultsFile),
    Vault(Vault),
}

impl DefaultAccounts {
    /// Those that go with the cache; there may be none.
    pub(super) fn of(settings: &Settings) -> Result<Self, Failure> {
        match settings.vault_in_use()? {
            Some(vault) => Ok(Self::Vault(vault.clone())),
            None => {
                let path = settings.places.state.join("tokenkeep").join("accounts.json");
                DefaultsFile::read(&path).map(Self::File)
            }
        }
    }

    /// The home account id of the default account of this host's cloud.
    pub(super) fn get(&self, host: &str) -> Result<Option<String>, Failure> {
        match self {
            Self::File(file) => Ok(file.of(host).map(str::to_owned)),
            Self::Vault(vault) => {
                Ok(vault.default_account(&cloud::preferred_cache(host)).map_err(CacheError::from)?)
            }
        }
    }

    /// Sets or unsets the default account of this host's cloud.
    pub(super) fn set(&mut self, host: &str, home_account_id: Option<&str>) -> Result<(), Failure> {
        match self {
            Self::File(file) => file.set(host, home_account_id),
            Self::Vault(vault) => {
                let cloud = cloud::preferred_cache(host);
                Ok(vault
                    .set_default_account(&cloud, home_account_id, deadline())
                    .map_err(CacheError::from)?)
            }
        }
    }
}

/// The file of those whose cache is in no vault.
#[derive(Debug)]
pub(super) struct DefaultsFile {
    path: PathBuf,
    /// Kept whole, so that members of a later version stay.
    root: Map<String, Value>,
}

impl DefaultsFile {
    fn read(path: &Path) -> Result<Self, Failure> {
        let root = match private_file::read(path, MAX_LENGTH) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let problem =
                    format!("it is damaged ({error}); remove it and choose the default account again");
                Failure::file("reading", path)(io::Error::other(problem))
            })?,
            Err(Failure::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(failure) => return Err(failure),
        };
        Ok(Self { path: path.to_owned(), root })
    }

    fn of(&self, host: &str) -> Option<&str> {
        self.root.get(MEMBER)?.get(cloud::preferred_cache(host))?.as_str()
    }

    fn set(&mut self, host: &str, home_account_id: Option<&str>) -> Result<(), Failure> {
        let accounts = self.root.entry(MEMBER).or_insert_with(|| json!({}));
        if !accounts.is_object() {
            *accounts = json!({});
        }
        if let Some(accounts) = accounts.as_object_mut() {
            let cloud = cloud::preferred_cache(host);
            match home_account_id {
                Some(id) => accounts.insert(cloud, id.into()),
                None => accounts.shift_remove(&cloud),
            };
        }
        if let Some(folder) = self.path.parent() {
            private_file::make_folder(folder)?;
        }
        let text = Value::Object(self.root.clone()).to_string();
        private_file::write(&self.path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_has_its_own_default_under_any_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenkeep").join("accounts.json");
        let mut accounts = DefaultsFile::read(&path).unwrap();
        assert_eq!(accounts.of("login.microsoftonline.com"), None);
        accounts.set("login.microsoftonline.com", Some("a.1")).unwrap();
        accounts.set("login.microsoftonline.us", Some("b.2")).unwrap();

        let mut again = DefaultsFile::read(&path).unwrap();
        assert_eq!(again.of("sts.windows.net"), Some("a.1"));
        assert_eq!(again.of("login.usgovcloudapi.net"), Some("b.2"));
        again.set("login.windows.net", None).unwrap();
        assert_eq!(DefaultsFile::read(&path).unwrap().of("login.windows.net"), None);
    }

    #[test]
    fn what_a_later_version_wrote_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts.json");
        std::fs::write(&path, r#"{"later": [1], "default_accounts": 7}"#).unwrap();
        DefaultsFile::read(&path).unwrap().set("a.example", Some("a.1")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, r#"{"later":[1],"default_accounts":{"a.example":"a.1"}}"#);
    }

    #[test]
    fn a_damaged_file_is_told_and_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts.json");
        std::fs::write(&path, "{").unwrap();
        let error = DefaultsFile::read(&path).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
    }
}

//! What a vault promises, tried on small ones in a folder of their own.

#![expect(clippy::print_stdout, reason = "the proofs say how many they were")]

mod damage;
mod disk;
mod keyring;
mod kills;
mod life;
mod rekey;
mod store;
mod vectors;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tempfile::TempDir;

use crate::document::{Change, ChangeSet, IssuedAccount, IssuedTokens, Origin};
use crate::store::Store as _;
use crate::time::{Deadline, ManualClock, UnixTime};

use super::{KeyFile, LockedVault, Passphrase, PassphraseCost, Vault};

const NOW: UnixTime = UnixTime::from_seconds(1_767_225_600);
const CACHE: &str = "msal.cache.nocae";

/// A folder with a vault and its key file.
struct Room {
    dir: TempDir,
}

impl Room {
    fn new() -> Self {
        // memory, where the machine has such a disk: thousands of vaults are written
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("state").join("vault.db")
    }

    fn key_file(&self) -> KeyFile {
        KeyFile::new(self.dir.path().join("key"))
    }

    fn create(&self) -> Vault {
        self.create_with_pages(4096)
    }

    fn create_with_pages(&self, page_size: u32) -> Vault {
        let clock = Arc::new(ManualClock::at(NOW));
        Vault::create_with(&self.path(), &self.key_file(), page_size, clock).unwrap()
    }

    fn open(&self) -> Vault {
        open(&self.path(), &self.key_file())
    }
}

fn open(path: &Path, with: &dyn super::Protector) -> Vault {
    LockedVault::open(path).unwrap().unlock(with).map_err(|(_, error)| error).unwrap()
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(SecretString::from(text)).cost(PassphraseCost::LOWEST)
}

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(30))
}

/// A sign-in of one of many users, for one of many resources.
fn sign_in(user: usize, resource: usize) -> ChangeSet {
    ChangeSet::of(Change::Save(Box::new(tokens(
        user,
        resource,
        Origin::SignIn { grant_type: "device_code" },
    ))))
}

fn tokens(user: usize, resource: usize, origin: Origin) -> IssuedTokens {
    IssuedTokens {
        home_account_id: home_account_id(user),
        host: "login.microsoftonline.com".to_owned(),
        client_id: "canary-client".to_owned(),
        requested_tenant: "organizations".to_owned(),
        token_tenant: Some("canary-tenant".to_owned()),
        scopes: vec![format!("https://resource{resource}.example/canary.scope")],
        access_token: SecretString::from(format!("canary-access-{user}-{resource}-{}", "a".repeat(1200))),
        token_type: "Bearer".to_owned(),
        issued_at: NOW,
        expires_on: NOW.after(Duration::from_secs(3600)),
        extended_expires_on: NOW.after(Duration::from_secs(3600)),
        refresh_on: None,
        refresh_token: Some(SecretString::from(format!("canary-refresh-{user}-{resource}"))),
        family_id: Some("1".to_owned()),
        id_token: Some(SecretString::from(format!("canary-id-{user}"))),
        account: Some(IssuedAccount {
            local_account_id: format!("canary-local-{user}"),
            username: Some(format!("canary.user{user}@contoso.example")),
            name: None,
            authority_type: "MSSTS",
            client_info: None,
        }),
        origin,
    }
}

fn home_account_id(user: usize) -> String {
    format!("canary-user-{user}.canary-tenant")
}

fn put(vault: &Vault, user: usize, resource: usize) {
    vault.store(CACHE).apply(&sign_in(user, resource), soon()).unwrap();
}

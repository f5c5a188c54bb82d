//! The generic passwords that tools keep in the login keychain (spec S-C 2.3).
//!
//! macOS may ask the user whether we may read what another program wrote; that is its own way of
//! giving permission, and the wait for it has an end.

use security_framework::base::Error;
use security_framework::item::{ItemClass, ItemSearchOptions};
use security_framework::os::macos::keychain::{SecKeychain, SecPreferencesDomain};
use zeroize::Zeroizing;

use crate::error::{CacheError, EncryptionLayer};
use crate::time::UnixTime;

use super::StoreDescription;
use super::blob::Blob;
use super::lock::CacheLock;
use super::patience::{PATIENCE, Unanswered, ask_within};

/// A cache in one item of the login keychain.
#[derive(Debug)]
pub(super) struct KeychainItem {
    name: String,
    service: String,
    account: String,
}

impl KeychainItem {
    pub(super) fn new(name: &str, service: &str, account: &str) -> Self {
        let [name, service, account] = [name, service, account].map(str::to_owned);
        Self { name, service, account }
    }

    /// Whether there is such an item. Asks for no secret, so macOS asks nobody.
    pub(super) fn exists(&self) -> Result<bool, CacheError> {
        self.ask(|keychain, service, account| {
            let found = ItemSearchOptions::new()
                .keychains(std::slice::from_ref(keychain))
                .class(ItemClass::generic_password())
                .service(service)
                .account(account)
                .load_attributes(true)
                .search();
            match found {
                Ok(found) => Ok(!found.is_empty()),
                Err(error) if error.code() == NOT_FOUND => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    /// Asks the keychain, but waits only so long.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&SecKeychain, &str, &str) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, CacheError> {
        let (service, account) = (self.service.clone(), self.account.clone());
        let answer = ask_within(PATIENCE, move |_| {
            question(&SecKeychain::default_for_domain(SecPreferencesDomain::User)?, &service, &account)
        });
        let place = self.describe().to_string();
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(refused(place, error)),
            Err(Unanswered::TooLate) => Err(CacheError::Timeout { place, waited: PATIENCE }),
            Err(Unanswered::Never) => Err(CacheError::EncryptionUnavailable {
                place,
                layer: EncryptionLayer::Platform,
                detail: "the keychain was not asked: no thread".to_owned(),
            }),
        }
    }
}

impl Blob for KeychainItem {
    const IS_FILE: bool = false;

    fn describe(&self) -> StoreDescription {
        StoreDescription { cache: self.name.clone(), place: "Keychain".to_owned(), encrypted: true }
    }

    fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CacheError> {
        self.ask(read)
    }

    fn write(&self, bytes: &[u8], _held: &CacheLock) -> Result<bool, CacheError> {
        let bytes = Zeroizing::new(bytes.to_vec());
        self.ask(move |keychain, service, account| write(keychain, service, account, &bytes)).map(|()| true)
    }

    fn remove(&self, _held: &CacheLock) -> Result<(), CacheError> {
        self.ask(remove)
    }

    fn set_aside(&self, now: UnixTime, _held: &CacheLock) -> Result<String, CacheError> {
        let aside = format!("{}.damaged-{now}", self.name);
        let place = format!("the Keychain item of account {aside}");
        self.ask(move |keychain, service, account| {
            if let Some(secret) = read(keychain, service, account)? {
                write(keychain, service, &aside, &secret)?;
            }
            remove(keychain, service, account)
        })?;
        Ok(place)
    }
}

fn read(keychain: &SecKeychain, service: &str, account: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    match keychain.find_generic_password(service, account) {
        Ok((secret, _item)) => Ok(Some(Zeroizing::new(secret.to_vec()))),
        Err(error) if error.code() == NOT_FOUND => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(keychain: &SecKeychain, service: &str, account: &str, bytes: &[u8]) -> Result<(), Error> {
    keychain.set_generic_password(service, account, bytes)
}

fn remove(keychain: &SecKeychain, service: &str, account: &str) -> Result<(), Error> {
    let removed = ItemSearchOptions::new()
        .keychains(std::slice::from_ref(keychain))
        .class(ItemClass::generic_password())
        .service(service)
        .account(account)
        .delete();
    match removed {
        Err(error) if error.code() != NOT_FOUND => Err(error),
        _ => Ok(()),
    }
}

fn refused(place: String, error: Error) -> CacheError {
    match error.code() {
        USER_CANCELED | AUTH_FAILED | INTERACTION_NOT_ALLOWED | INTERACTION_REQUIRED => {
            tracing::debug!("{place}: {error}");
            CacheError::Locked { place }
        }
        code => CacheError::EncryptionUnavailable {
            place,
            layer: EncryptionLayer::Platform,
            detail: format!("the Keychain answered {code}: {error}"),
        },
    }
}

// SecBase.h
const USER_CANCELED: i32 = -128;
const AUTH_FAILED: i32 = -25293;
const NOT_FOUND: i32 = -25300;
const INTERACTION_NOT_ALLOWED: i32 = -25308; // a session over SSH
const INTERACTION_REQUIRED: i32 = -25315;

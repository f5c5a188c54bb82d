//! The item that Python's azure-identity keeps in the Secret Service (spec S-C 2.4).
//!
//! Nothing here ever asks the service to unlock anything: that would show a prompt, and wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secret_service::blocking::{Collection, Item, SecretService};
use secret_service::{EncryptionType, Error};
use zeroize::Zeroizing;

use crate::error::{CacheError, EncryptionLayer};
use crate::time::UnixTime;

use super::StoreDescription;
use super::blob::Blob;
use super::lock::CacheLock;
use super::patience::{PATIENCE, Unanswered, ask_within};
use super::profile::AZURE_IDENTITY;

/// A cache in one item of the default collection.
#[derive(Debug)]
pub(super) struct SecretServiceItem {
    name: String,
    patience: Duration,
}

impl SecretServiceItem {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), patience: PATIENCE }
    }

    /// Finds out whether the keyring can be used, and keeps the connection for the first load.
    pub(super) fn probe(&self) -> Result<(), CacheError> {
        self.ask(|keyring| keyring.default_collection().map(drop))
    }

    /// Asks the keyring, but waits only so long.
    fn ask<T, F>(&self, question: F) -> Result<T, CacheError>
    where
        T: Send + 'static,
        F: Fn(&Keyring<'_>) -> Result<T, Refusal> + Send + 'static,
    {
        let answer = ask_within(self.patience, move |given_up| {
            with_connection(|service| question(&Keyring { service, given_up }))
        });
        match answer {
            Ok(answer) => answer.map_err(|refusal| self.error(refusal)),
            Err(Unanswered::TooLate) => {
                *connection() = None;
                Err(self.error(Refusal::GivenUp))
            }
            Err(Unanswered::Never) => Err(self.error(Refusal::Failed(Error::Unavailable))),
        }
    }

    fn error(&self, refusal: Refusal) -> CacheError {
        let place = self.describe().to_string();
        let (layer, detail) = match refusal {
            Refusal::Conflict(detail) => return CacheError::Conflict { place, detail },
            Refusal::GivenUp => {
                return CacheError::Timeout { place, waited: self.patience };
            }
            Refusal::Locked => return CacheError::Locked { place },
            Refusal::NoBus(error) => (EncryptionLayer::Bus, error.to_string()),
            Refusal::NoCollection => {
                let detail = "the Secret Service has no default collection";
                (EncryptionLayer::Collection, detail.to_owned())
            }
            Refusal::Failed(error) => (EncryptionLayer::Service, error.to_string()),
        };
        CacheError::EncryptionUnavailable { place, layer, detail }
    }
}

impl Blob for SecretServiceItem {
    const IS_FILE: bool = false;

    fn describe(&self) -> StoreDescription {
        StoreDescription { cache: self.name.clone(), place: "Secret Service".to_owned(), encrypted: true }
    }

    fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CacheError> {
        let name = self.name.clone();
        self.ask(move |keyring| keyring.read(&name)).map(|secret| secret.map(decode))
    }

    fn write(&self, bytes: &[u8], _held: &CacheLock) -> Result<bool, CacheError> {
        let (name, bytes) = (self.name.clone(), Zeroizing::new(bytes.to_vec()));
        self.ask(move |keyring| keyring.write(&name, &bytes)).map(|()| true)
    }

    fn remove(&self, _held: &CacheLock) -> Result<(), CacheError> {
        let name = self.name.clone();
        self.ask(move |keyring| keyring.remove(&name))
    }

    fn set_aside(&self, now: UnixTime, _held: &CacheLock) -> Result<String, CacheError> {
        let (name, aside) = (self.name.clone(), format!("{}.damaged-{now}", self.name));
        let place = format!("the item {aside} in the Secret Service");
        self.ask(move |keyring| {
            if let Some(secret) = keyring.read(&name)? {
                keyring.write(&aside, &secret)?;
            }
            keyring.remove(&name)
        })?;
        Ok(place)
    }
}

/// What the keyring said, before it is known which cache it was about.
enum Refusal {
    Conflict(String),
    Failed(Error),
    GivenUp,
    Locked,
    NoBus(zbus::Error),
    NoCollection,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Locked | Error::Prompt | Error::PromptDisconnected => Self::Locked,
            Error::NoResult => Self::NoCollection,
            Error::Zbus(zbus::Error::MethodError(name, detail, message)) => {
                match name.as_str().strip_prefix("org.freedesktop.Secret.Error.") {
                    Some("IsLocked") => Self::Locked,
                    _ => Self::Failed(Error::Zbus(zbus::Error::MethodError(name, detail, message))),
                }
            }
            other => Self::Failed(other),
        }
    }
}

/// The service, and whether anybody still waits for what it says.
struct Keyring<'a> {
    service: &'a SecretService<'a>,
    given_up: &'a AtomicBool,
}

impl<'a> Keyring<'a> {
    /// A locked collection answers searches as an empty one does, so this comes first.
    fn default_collection(&self) -> Result<Collection<'a>, Refusal> {
        let collection = self.service.get_default_collection()?;
        if collection.is_locked()? { Err(Refusal::Locked) } else { Ok(collection) }
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Refusal> {
        let collection = self.default_collection()?;
        match self.items(name, &collection)?.exact.first() {
            Some(item) => Ok(Some(Zeroizing::new(item.get_secret()?))),
            None => Ok(None),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
        let collection = self.default_collection()?;
        let items = self.items(name, &collection)?;
        self.is_awaited()?;
        if let Some(item) = items.exact.first() {
            return Ok(item.set_secret(bytes, "text/plain")?);
        }
        // "replace" would replace it: the service takes any item that has at least our attributes
        if let Some(stranger) = items.wider.into_iter().next() {
            return Err(Refusal::Conflict(stranger));
        }
        let attributes = AZURE_IDENTITY.attributes(name).into();
        collection.create_item(AZURE_IDENTITY.label, attributes, bytes, true, "text/plain")?;
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), Refusal> {
        let collection = self.default_collection()?;
        for item in self.items(name, &collection)?.exact {
            self.is_awaited()?;
            item.delete()?;
        }
        Ok(())
    }

    /// A search finds every item that has our attributes, among others or not, in any collection.
    fn items(&self, name: &str, collection: &Collection<'_>) -> Result<Items<'a>, Refusal> {
        let ours = AZURE_IDENTITY.attributes(name);
        let found = self.service.search_items(ours.into())?;
        let mut items = Items { exact: Vec::new(), wider: Vec::new() };
        for item in found.unlocked {
            let extra = extra_attributes(&item, &ours)?;
            let is_in_default = item.item_path.starts_with(collection.collection_path.as_str());
            if extra.is_empty() {
                // libsecret's writers use the default collection, so its item is the current one
                let at = if is_in_default { 0 } else { items.exact.len() };
                items.exact.insert(at, item);
            } else if is_in_default {
                let label = item.get_label()?;
                items.wider.push(format!(
                    "the item {label:?} of another program has the same attributes and {}",
                    extra.join(", ")
                ));
            }
        }
        if items.exact.is_empty() {
            for item in found.locked {
                if extra_attributes(&item, &ours)?.is_empty() {
                    return Err(Refusal::Locked);
                }
            }
        }
        Ok(items)
    }

    /// Nothing may be written behind the back of a caller who has been told of a timeout.
    fn is_awaited(&self) -> Result<(), Refusal> {
        if self.given_up.load(Ordering::SeqCst) { Err(Refusal::GivenUp) } else { Ok(()) }
    }
}

struct Items<'a> {
    /// With our attributes and no others.
    exact: Vec<Item<'a>>,
    /// With others, too: whose they are.
    wider: Vec<String>,
}

/// Names only: of a locked item the service shows no values.
fn extra_attributes(item: &Item<'_>, ours: &[(&str, &str)]) -> Result<Vec<String>, Refusal> {
    let mut extra: Vec<_> = item.get_attributes()?.into_keys().collect();
    extra.retain(|name| !ours.iter().any(|(our, _)| our == name) && !name.starts_with("gkr:"));
    extra.sort();
    Ok(extra)
}

/// One connection for the process: making it costs more than all that follows.
static CONNECTION: Mutex<Option<Arc<SecretService<'static>>>> = Mutex::new(None);

fn connection() -> MutexGuard<'static, Option<Arc<SecretService<'static>>>> {
    CONNECTION.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with_connection<T>(question: impl Fn(&SecretService<'_>) -> Result<T, Refusal>) -> Result<T, Refusal> {
    let kept = connection().clone();
    if let Some(service) = kept {
        match question(&service) {
            // the bus or the keyring may have been started anew since
            Err(Refusal::Failed(_)) => *connection() = None,
            answer => return answer,
        }
    }
    let service = Arc::new(connect()?);
    *connection() = Some(Arc::clone(&service));
    question(&service)
}

fn connect() -> Result<SecretService<'static>, Refusal> {
    let bus = zbus::blocking::connection::Builder::session()
        // ends the threads of those who gave up
        .and_then(|builder| builder.method_timeout(PATIENCE).build())
        .map_err(Refusal::NoBus)?;
    Ok(SecretService::connect_with_existing(EncryptionType::Dh, bus)?)
}

/// Python writes JSON, others base64 of it.
fn decode(secret: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let text = secret.trim_ascii();
    if text.starts_with(b"{") {
        return secret;
    }
    match STANDARD.decode(text).map(Zeroizing::new) {
        Ok(decoded) if decoded.trim_ascii_start().starts_with(b"{") => decoded,
        _ => secret,
    }
}

#[cfg(test)]
mod tests;

//! The items that tools keep in the Secret Service (spec S-C 2.4).
//!
//! Nothing here ever asks the service to unlock anything: that would show a prompt, and wait.

mod check;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secret_service::blocking::{Collection, Item, SecretService};
use secret_service::{EncryptionType, Error};
use zeroize::Zeroizing;

use crate::error::{CacheError, EncryptionLayer};
use crate::time::UnixTime;

use super::StoreDescription;
use super::blob::Blob;
use super::encoding::{Codec, Encoding, Opened};
use super::lock::CacheLock;
use super::patience::{PATIENCE, Unanswered, ask_within};
use super::replace::LARGEST;

pub(super) use self::check::check;

/// A cache in one item of the default collection.
#[derive(Debug)]
pub(super) struct SecretServiceItem {
    name: String,
    place: String,
    shape: Arc<ItemShape>,
    codec: Codec,
    patience: Duration,
}

/// What tells an item from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ItemShape {
    /// What a new one is called.
    pub(super) label: String,
    /// The whole set, the schema among them: libsecret keeps its name as `xdg:schema`.
    pub(super) attributes: BTreeMap<String, String>,
}

/// An item as anybody sees it who does not ask for its secret.
#[derive(Clone, Debug)]
pub(super) struct ItemFacts {
    pub(super) label: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) modified: UnixTime,
    /// How many there are with these very attributes.
    pub(super) count: usize,
}

impl SecretServiceItem {
    pub(super) fn new(name: &str, place: String, shape: ItemShape, encoding: Encoding) -> Self {
        let codec = Codec::lenient(encoding, name);
        Self { name: name.to_owned(), place, shape: Arc::new(shape), codec, patience: PATIENCE }
    }

    /// What there is to see without its secret; `None` if there is no such item.
    pub(super) fn facts(&self) -> Result<Option<ItemFacts>, CacheError> {
        let shape = Arc::clone(&self.shape);
        self.ask(move |keyring| keyring.facts(&shape))
    }

    /// What the item holds, and how that is encoded.
    pub(super) fn look(&self) -> Result<Option<Opened>, CacheError> {
        let shape = Arc::clone(&self.shape);
        let Some(kept) = self.ask(move |keyring| keyring.read(&shape))? else {
            return Ok(None);
        };
        let place = self.describe().to_string();
        if kept.len() as u64 > LARGEST {
            return Err(CacheError::TooLarge { place, limit: LARGEST });
        }
        self.codec.look(kept, &place).map(Some)
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
            Refusal::Cache(error) => return error,
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
        StoreDescription { cache: self.name.clone(), place: self.place.clone(), encrypted: true }
    }

    fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CacheError> {
        Ok(self.look()?.map(|opened| opened.bytes))
    }

    fn write(&self, bytes: &[u8], _held: &CacheLock) -> Result<bool, CacheError> {
        let (shape, codec, place) =
            (Arc::clone(&self.shape), self.codec.clone(), self.describe().to_string());
        let bytes = Zeroizing::new(bytes.to_vec());
        let seal =
            move |replaced: Option<&[u8]>| codec.seal(&bytes, replaced, &place).map_err(Refusal::Cache);
        self.ask(move |keyring| keyring.write(&shape, &seal)).map(|()| true)
    }

    fn remove(&self, _held: &CacheLock) -> Result<(), CacheError> {
        let shape = Arc::clone(&self.shape);
        self.ask(move |keyring| keyring.remove(&shape))
    }

    fn set_aside(&self, now: UnixTime, _held: &CacheLock) -> Result<String, CacheError> {
        let (shape, name) = (Arc::clone(&self.shape), format!("{}.damaged-{now}", self.name));
        let place = format!("the item {name} in the Secret Service");
        // nothing that a tool looks for: .NET does not even compare the schema
        let attributes = [("xdg:schema", name.as_str()), ("tokenkeep", "set aside")];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let aside = ItemShape { label: name, attributes };
        self.ask(move |keyring| {
            if let Some(secret) = keyring.read(&shape)? {
                keyring.write(&aside, &|_| Ok(secret.clone()))?;
            }
            keyring.remove(&shape)
        })?;
        Ok(place)
    }
}

/// What the keyring said, before it is known which cache it was about.
enum Refusal {
    Cache(CacheError),
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

    fn read(&self, shape: &ItemShape) -> Result<Option<Zeroizing<Vec<u8>>>, Refusal> {
        let collection = self.default_collection()?;
        match self.items(shape, &collection)?.exact.first() {
            Some(item) => Ok(Some(Zeroizing::new(item.get_secret()?))),
            None => Ok(None),
        }
    }

    fn facts(&self, shape: &ItemShape) -> Result<Option<ItemFacts>, Refusal> {
        let collection = self.default_collection()?;
        let exact = self.items(shape, &collection)?.exact;
        let Some(item) = exact.first() else { return Ok(None) };
        Ok(Some(ItemFacts {
            label: item.get_label()?,
            attributes: item.get_attributes()?.into_iter().collect(),
            modified: UnixTime::from_seconds(i64::try_from(item.get_modified()?).unwrap_or(i64::MAX)),
            count: exact.len(),
        }))
    }

    fn write(&self, shape: &ItemShape, seal: &Sealing<'_>) -> Result<(), Refusal> {
        let collection = self.default_collection()?;
        let items = self.items(shape, &collection)?;
        if let Some(item) = items.exact.first() {
            let replaced = Zeroizing::new(item.get_secret()?);
            let sealed = seal(Some(&replaced))?;
            self.is_awaited()?;
            return Ok(item.set_secret(&sealed, "text/plain")?);
        }
        // "replace" would replace it: the service takes any item that has at least our attributes
        if let Some(stranger) = items.wider.into_iter().next() {
            return Err(Refusal::Conflict(stranger));
        }
        let sealed = seal(None)?;
        self.is_awaited()?;
        collection.create_item(&shape.label, shape.search(), &sealed, true, "text/plain")?;
        Ok(())
    }

    fn remove(&self, shape: &ItemShape) -> Result<(), Refusal> {
        let collection = self.default_collection()?;
        for item in self.items(shape, &collection)?.exact {
            self.is_awaited()?;
            item.delete()?;
        }
        Ok(())
    }

    /// A search finds every item that has our attributes, among others or not, in any collection.
    fn items(&self, shape: &ItemShape, collection: &Collection<'_>) -> Result<Items<'a>, Refusal> {
        let found = self.service.search_items(shape.search())?;
        let mut items = Items { exact: Vec::new(), wider: Vec::new() };
        for item in found.unlocked {
            let extra = extra_attributes(&item, shape)?;
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
                if extra_attributes(&item, shape)?.is_empty() {
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

/// Makes what is to be kept in the place of that.
type Sealing<'a> = dyn Fn(Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, Refusal> + 'a;

impl ItemShape {
    fn search(&self) -> HashMap<&str, &str> {
        self.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

/// Names only: of a locked item the service shows no values.
fn extra_attributes(item: &Item<'_>, shape: &ItemShape) -> Result<Vec<String>, Refusal> {
    let mut extra: Vec<_> = item.get_attributes()?.into_keys().collect();
    extra.retain(|name| !shape.attributes.contains_key(name) && !name.starts_with(OF_THE_KEYRING));
    extra.sort();
    Ok(extra)
}

/// What gnome-keyring adds for itself.
const OF_THE_KEYRING: &str = "gkr:";

/// The attributes of all items that have these, in the default collection, no secret among them.
/// Asks for so long as a keyring gets for everything.
pub(super) fn attributes_of_items(
    wanted: &'static [(&'static str, &'static str)],
) -> Result<Vec<BTreeMap<String, String>>, CacheError> {
    let shape = ItemShape { label: String::new(), attributes: BTreeMap::new() };
    let any = SecretServiceItem::new("caches", "Secret Service".to_owned(), shape, Encoding::Json);
    any.ask(move |keyring| {
        let collection = keyring.default_collection()?;
        let found = collection.search_items(wanted.iter().copied().collect())?;
        let mut all = Vec::new();
        for item in found.into_iter().take(MOST_ITEMS) {
            let mut attributes: BTreeMap<_, _> = item.get_attributes()?.into_iter().collect();
            attributes.retain(|name, _| !name.starts_with(OF_THE_KEYRING));
            all.push(attributes);
        }
        Ok(all)
    })
}

/// No person has so many caches; whoever made them wants to keep us busy.
const MOST_ITEMS: usize = 256;

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

#[cfg(test)]
mod tests;

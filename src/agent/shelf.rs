//! What is open: the caches, and the lines to providers, one of each for all clients.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::acquire::{Acquirer, Caches, DeadGrant, DeadGrantObserver};
use crate::cloud::Authority;
use crate::entra::{self, ClientOptions};
use crate::error::{RemovedGrant, Result};
use crate::options::{CacheName, Storage, TokenCachePersistenceOptions};
use crate::revocation::Everywhere;
use crate::store::{self, ChosenStorage, Places, Watcher};
use crate::time::Clock;

/// A user has a cache or two; what was not used for the longest goes first.
const MAX_CACHES: usize = 8;

/// Lines to providers: one for each application and authority.
const MAX_LINES: usize = 32;

/// How long retries at the provider may wait in all, as on the command line.
const RETRY_BUDGET: Duration = Duration::from_secs(10);

/// Opens what is asked for, and keeps it open for the next who asks.
#[derive(Debug)]
pub(super) struct Shelf {
    clock: Arc<dyn Clock>,
    places: Places,
    watcher: Option<Arc<Watcher>>,
    open: Mutex<Open>,
}

/// The latest used last.
#[derive(Debug, Default)]
struct Open {
    caches: Vec<(TokenCachePersistenceOptions, Arc<Caches>)>,
    lines: Vec<(Line, Acquirer)>,
}

/// One application at one authority, with one cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub(super) cache: CacheKey,
    pub(super) authority: Authority,
    pub(super) client_id: String,
    pub(super) disable_instance_discovery: bool,
}

/// [`TokenCachePersistenceOptions`] as a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CacheKey {
    pub(super) name: CacheName,
    storage: u8,
    allow_unencrypted_storage: bool,
}

impl Shelf {
    pub(super) fn new(clock: Arc<dyn Clock>, places: Places, watcher: Option<Arc<Watcher>>) -> Self {
        Self { clock, places, watcher, open: Mutex::default() }
    }

    pub(super) fn caches(&self, options: &TokenCachePersistenceOptions) -> Arc<Caches> {
        let mut open = self.open();
        let caches = take(&mut open.caches, options).unwrap_or_else(|| {
            let caches = Caches::persistent(options.clone(), Some(Box::new(self.places.clone())));
            Arc::new(caches.watched_by(self.watcher.clone()))
        });
        // A line holds its caches, and goes first.
        make_room(&mut open.caches, MAX_CACHES, |caches| Arc::strong_count(caches) == 1);
        open.caches.push((options.clone(), Arc::clone(&caches)));
        caches
    }

    pub(super) fn line(&self, line: &Line, caches: &Arc<Caches>) -> Result<Acquirer> {
        let mut open = self.open();
        let acquirer = match take(&mut open.lines, line) {
            Some(acquirer) => acquirer,
            None => {
                let options = ClientOptions {
                    authority: line.authority.clone(),
                    client_id: line.client_id.clone(),
                    disable_instance_discovery: line.disable_instance_discovery,
                    retry_budget: RETRY_BUDGET,
                    root_certificates: None,
                };
                let client = match open.lines.last() {
                    Some((_, other)) => other.client().beside(options)?,
                    None => entra::Client::new(options)?,
                };
                let clearing = Clearing { cache: line.cache.options(), places: self.places.clone() };
                Acquirer::for_an_agent(
                    client,
                    Arc::clone(caches),
                    Arc::clone(&self.clock),
                    Arc::new(clearing),
                )
            }
        };
        make_room(&mut open.lines, MAX_LINES, Acquirer::is_unused);
        open.lines.push((line.clone(), acquirer.clone()));
        Ok(acquirer)
    }

    pub(super) fn all_caches(&self) -> Vec<Arc<Caches>> {
        self.open().caches.iter().map(|(_, caches)| Arc::clone(caches)).collect()
    }

    pub(super) fn all_lines(&self) -> Vec<Acquirer> {
        self.open().lines.iter().map(|(_, line)| line.clone()).collect()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheKey {
    pub(super) fn of(options: &TokenCachePersistenceOptions) -> Self {
        let storage = STORAGES.iter().position(|known| *known == options.storage).unwrap_or(0);
        Self {
            name: options.name.clone(),
            storage: storage as u8,
            allow_unencrypted_storage: options.allow_unencrypted_storage,
        }
    }

    pub(super) fn options(&self) -> TokenCachePersistenceOptions {
        TokenCachePersistenceOptions::default()
            .name(self.name.clone())
            .storage(STORAGES[usize::from(self.storage)])
            .allow_unencrypted_storage(self.allow_unencrypted_storage)
    }
}

const STORAGES: [Storage; 4] = [Storage::Auto, Storage::Platform, Storage::Plaintext, Storage::Vault];

/// Clears every tool's cache of what the provider called dead, as commands do.
#[derive(Debug)]
struct Clearing {
    cache: TokenCachePersistenceOptions,
    places: Places,
}

impl DeadGrantObserver for Clearing {
    fn grants_died(&self, dead: &[DeadGrant]) -> Vec<RemovedGrant> {
        let everywhere = Everywhere::new(self.places.clone());
        // A vault is no other tool's, so it is not among those.
        let stores = match store::choose(&self.cache, &self.places) {
            Ok(ChosenStorage::Vault(_)) => [false, true]
                .into_iter()
                .filter_map(|cae| store::open(&self.cache, cae, &self.places).ok())
                .collect(),
            _ => Vec::new(),
        };
        everywhere.and_stores(stores).grants_died(dead)
    }
}

/// Takes the entry out, to be put back as the latest used.
fn take<K: PartialEq, V>(shelf: &mut Vec<(K, V)>, key: &K) -> Option<V> {
    let at = shelf.iter().position(|(known, _)| known == key)?;
    Some(shelf.remove(at).1)
}

/// Drops what was not used for the longest, but nothing that is in use.
fn make_room<K, V>(shelf: &mut Vec<(K, V)>, most: usize, is_unused: impl Fn(&V) -> bool) {
    while shelf.len() >= most {
        let Some(at) = shelf.iter().position(|(_, value)| is_unused(value)) else { return };
        shelf.remove(at);
    }
}

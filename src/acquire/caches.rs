//! The two caches of a credential, opened when first needed and re-read only when they changed.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::document::{ChangeSet, TokenCacheDocument};
use crate::error::{CacheError, Error, Result};
use crate::options::TokenCachePersistenceOptions;
use crate::store::{self, MemoryStore, Places, Snapshot, Store, StoreDescription};
use crate::time::Deadline;

/// How long a change may wait for other programs to let go of the cache.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// One cache for requests with continuous access evaluation and one for those without: a token of
/// the one kind fails in a program that expects the other (spec S-C 2.1).
#[derive(Debug)]
pub(crate) struct Caches {
    source: Source,
    without_cae: OnceLock<Arc<Cache>>,
    with_cae: OnceLock<Arc<Cache>>,
}

#[derive(Debug)]
enum Source {
    Memory,
    Persistent(TokenCachePersistenceOptions, Option<Places>),
    Given { without_cae: Arc<dyn Store>, with_cae: Arc<dyn Store> },
}

impl Caches {
    pub(crate) const fn in_memory() -> Self {
        Self::of(Source::Memory)
    }

    pub(crate) const fn persistent(options: TokenCachePersistenceOptions, places: Option<Places>) -> Self {
        Self::of(Source::Persistent(options, places))
    }

    pub(crate) const fn of_stores(without_cae: Arc<dyn Store>, with_cae: Arc<dyn Store>) -> Self {
        Self::of(Source::Given { without_cae, with_cae })
    }

    const fn of(source: Source) -> Self {
        Self { source, without_cae: OnceLock::new(), with_cae: OnceLock::new() }
    }

    /// The cache if it is open already: the way of a cached token, which must not wait.
    pub(super) fn opened(&self, cae: bool) -> Option<&Arc<Cache>> {
        self.slot(cae).get()
    }

    /// Opens the cache at the first call. A failure is not remembered: a keyring may come up later.
    pub(super) async fn cache(&self, cae: bool) -> Result<Arc<Cache>> {
        if let Some(cache) = self.opened(cae) {
            return Ok(Arc::clone(cache));
        }
        let store: Arc<dyn Store> = match &self.source {
            Source::Memory => Arc::new(MemoryStore::default()),
            Source::Given { without_cae, .. } if !cae => Arc::clone(without_cae),
            Source::Given { with_cae, .. } => Arc::clone(with_cae),
            Source::Persistent(options, places) => {
                let (options, places) = (options.clone(), places.clone());
                blocking(move || {
                    let places = places.map_or_else(Places::of_current_user, Ok)?;
                    store::open(&options, cae, &places)
                })
                .await?
            }
        };
        let cache = Arc::new(Cache { store, latest: Mutex::new(None) });
        Ok(Arc::clone(self.slot(cae).get_or_init(|| cache)))
    }

    const fn slot(&self, cae: bool) -> &OnceLock<Arc<Cache>> {
        if cae { &self.with_cae } else { &self.without_cae }
    }
}

/// A store and what was last seen of it.
#[derive(Debug)]
pub(super) struct Cache {
    store: Arc<dyn Store>,
    latest: Mutex<Option<Snapshot>>,
}

impl Cache {
    pub(super) fn describe(&self) -> StoreDescription {
        self.store.describe()
    }

    /// The document as last seen, if a `stat` says that nothing was written since.
    pub(super) fn unchanged(&self) -> Option<Arc<TokenCacheDocument>> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let same = self.store.stamp().is_ok_and(|stamp| stamp == latest.stamp);
        same.then_some(latest.document)
    }

    pub(super) async fn document(self: &Arc<Self>) -> Result<Arc<TokenCacheDocument>> {
        if let Some(document) = self.unchanged() {
            return Ok(document);
        }
        let cache = Arc::clone(self);
        let snapshot = blocking(move || cache.store.load()).await?;
        Ok(self.remember(snapshot))
    }

    /// Applies changes to whatever is in the store by then. Once begun it runs to its end, even if
    /// the caller goes away, so no lock is left behind.
    ///
    /// What the store refuses is still known to this process: on a read-only disk a program does
    /// not ask twice.
    pub(super) async fn apply(self: &Arc<Self>, changes: ChangeSet) -> Result<AppliedChanges> {
        let (cache, changes) = (Arc::clone(self), Arc::new(changes));
        let given = Arc::clone(&changes);
        let applied = blocking(move || cache.store.apply(&given, Deadline::within(LOCK_WAIT))).await;
        match applied {
            Ok(applied) => {
                Ok(AppliedChanges { changed: applied.changed, document: self.remember(applied.snapshot) })
            }
            Err(error) => {
                let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(snapshot) = latest.as_mut() {
                    Arc::make_mut(&mut snapshot.document).apply(&changes);
                }
                Err(error)
            }
        }
    }

    fn remember(&self, snapshot: Snapshot) -> Arc<TokenCacheDocument> {
        let document = Arc::clone(&snapshot.document);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
        document
    }
}

/// What applying changes came to.
pub(super) struct AppliedChanges {
    pub(super) document: Arc<TokenCacheDocument>,
    /// Whether they made a difference to what was in the store by then.
    pub(super) changed: bool,
}

/// The one bridge from stores, which block, to async code.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Error::from),
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and nobody will see this.
            Err(_) => Err(CacheError::Io {
                action: "opening",
                path: "cache".into(),
                source: Arc::new(std::io::ErrorKind::Interrupted.into()),
            }
            .into()),
        },
    }
}

//! The two caches of a credential, opened when first needed and re-read only when they changed.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::document::{ChangeSet, TokenCacheDocument};
use crate::error::{CacheError, Error, Result};
use crate::options::TokenCachePersistenceOptions;
use crate::store::{self, Applied, Extent, MemoryStore, Places, Snapshot, Store, StoreDescription, Watcher};
use crate::time::Deadline;

use super::flight::Flights;

/// How long a change may wait for other programs to let go of the cache.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// One cache for requests with continuous access evaluation and one for those without: a token of
/// the one kind fails in a program that expects the other (spec S-C 2.1).
#[derive(Debug)]
pub(crate) struct Caches {
    source: Source,
    without_cae: OnceLock<Arc<Cache>>,
    with_cae: OnceLock<Arc<Cache>>,
    /// Tells when to look at the stamps again, for those who want to know before they are asked.
    watcher: Option<Arc<Watcher>>,
}

#[derive(Debug)]
enum Source {
    Memory,
    Persistent(TokenCachePersistenceOptions, Option<Box<Places>>),
    Given { without_cae: Arc<dyn Store>, with_cae: Arc<dyn Store> },
}

impl Caches {
    pub(crate) const fn in_memory() -> Self {
        Self::of(Source::Memory)
    }

    pub(crate) const fn persistent(
        options: TokenCachePersistenceOptions,
        places: Option<Box<Places>>,
    ) -> Self {
        Self::of(Source::Persistent(options, places))
    }

    pub(crate) const fn of_stores(without_cae: Arc<dyn Store>, with_cae: Arc<dyn Store>) -> Self {
        Self::of(Source::Given { without_cae, with_cae })
    }

    const fn of(source: Source) -> Self {
        Self { source, without_cae: OnceLock::new(), with_cae: OnceLock::new(), watcher: None }
    }

    /// Has what others do to the caches hinted at by this watcher.
    #[cfg(feature = "cli")]
    pub(crate) fn watched_by(mut self, watcher: Option<Arc<Watcher>>) -> Self {
        self.watcher = watcher;
        self
    }

    /// The cache's document: the one in memory if a `stat` says that nothing was written since.
    pub(crate) async fn document(&self, cae: bool) -> Result<Arc<TokenCacheDocument>> {
        match self.opened(cae).and_then(|cache| cache.unchanged()) {
            Some(document) => Ok(document),
            None => self.cache(cae).await?.document().await,
        }
    }

    pub(crate) async fn describe(&self, cae: bool) -> Result<StoreDescription> {
        Ok(self.cache(cae).await?.describe())
    }

    /// Reads again what was read before and has changed since, so that nobody has to wait for it.
    #[cfg(feature = "cli")]
    pub(crate) async fn catch_up(&self) {
        for cache in [&self.without_cae, &self.with_cae].into_iter().filter_map(OnceLock::get) {
            let is_known = cache.latest().whole.is_some();
            if is_known
                && cache.unchanged().is_none()
                && let Err(error) = cache.document().await
            {
                tracing::debug!(%error, "a changed cache was not read ahead");
            }
        }
    }

    /// What is in memory.
    #[cfg(feature = "cli")]
    pub(crate) fn held(&self) -> Vec<(StoreDescription, Arc<TokenCacheDocument>)> {
        let caches = [&self.without_cae, &self.with_cae].into_iter().filter_map(OnceLock::get);
        let whole =
            |cache: &Arc<Cache>| cache.latest().whole.as_ref().map(|known| Arc::clone(&known.document));
        caches.filter_map(|cache| Some((cache.describe(), whole(cache)?))).collect()
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
                    let places = places.map_or_else(Places::of_current_user, |places| Ok(*places))?;
                    store::open(&options, cae, &places)
                })
                .await?
            }
        };
        if let Some(watcher) = self.watcher.clone() {
            let store = Arc::clone(&store);
            // Before the first read, so that no change falls in between.
            if let Err(error) = blocking(move || watcher.add(store.as_ref())).await {
                tracing::debug!(%error, "a cache is not watched; its stamp is looked at all the same");
            }
        }
        let cache = Arc::new(Cache { store, latest: Mutex::default(), loads: Flights::default() });
        Ok(Arc::clone(self.slot(cae).get_or_init(|| cache)))
    }

    const fn slot(&self, cae: bool) -> &OnceLock<Arc<Cache>> {
        if cae { &self.with_cae } else { &self.without_cae }
    }
}

/// Accounts that a program uses at the same time, of whose parts of the document we keep the latest.
const KEPT_ACCOUNTS: usize = 8;

/// A store and what was last seen of it.
#[derive(Debug)]
pub(super) struct Cache {
    store: Arc<dyn Store>,
    latest: Mutex<Latest>,
    loads: Flights<(), Result<Arc<TokenCacheDocument>>>,
}

/// The whole document as last seen, and parts of it, which large stores read faster.
#[derive(Debug, Default)]
struct Latest {
    whole: Option<Snapshot>,
    accounts: Vec<(String, Snapshot)>,
}

impl Cache {
    pub(super) fn describe(&self) -> StoreDescription {
        self.store.describe()
    }

    /// The document as last seen, if a `stat` says that nothing was written since.
    pub(super) fn unchanged(&self) -> Option<Arc<TokenCacheDocument>> {
        let known = self.latest().whole.clone();
        self.still(known)
    }

    /// The same for what a request for one account can need of it.
    pub(super) fn unchanged_for(&self, home_account_id: &str) -> Option<Arc<TokenCacheDocument>> {
        let known = self.latest().for_account(home_account_id).cloned();
        self.still(known)
    }

    fn still(&self, known: Option<Snapshot>) -> Option<Arc<TokenCacheDocument>> {
        let known = known?;
        let same = self.store.stamp().is_ok_and(|stamp| stamp == known.stamp);
        same.then_some(known.document)
    }

    pub(super) async fn document(self: &Arc<Self>) -> Result<Arc<TokenCacheDocument>> {
        if let Some(document) = self.unchanged() {
            return Ok(document);
        }
        let loaded = self.load().await?;
        // A load that others began may have read what was there before the change that we look for.
        match self.unchanged() {
            Some(document) if Arc::ptr_eq(&document, &loaded) => Ok(document),
            _ => self.load().await,
        }
    }

    /// One read of the store at a time, however many wait for it: a keyring is slow to ask.
    async fn load(self: &Arc<Self>) -> Result<Arc<TokenCacheDocument>> {
        let cache = Arc::clone(self);
        let load = || {
            let read = async move {
                let reader = Arc::clone(&cache);
                let snapshot = blocking(move || reader.store.load()).await?;
                Ok(cache.remember(snapshot))
            };
            read.boxed()
        };
        self.loads.join((), load).await
    }

    pub(super) async fn document_for(
        self: &Arc<Self>,
        home_account_id: &str,
    ) -> Result<Arc<TokenCacheDocument>> {
        if let Some(document) = self.unchanged_for(home_account_id) {
            return Ok(document);
        }
        let (cache, account) = (Arc::clone(self), home_account_id.to_owned());
        let snapshot = blocking(move || cache.store.load_account(&account)).await?;
        if snapshot.extent == Extent::Whole {
            return Ok(self.remember(snapshot));
        }
        let document = Arc::clone(&snapshot.document);
        self.latest().keep(home_account_id, snapshot);
        Ok(document)
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
                let Applied { snapshot, changed } = applied;
                // a part of the document is no more than an answer to whoever made the change
                let document = match snapshot.extent {
                    Extent::Whole => self.remember(snapshot),
                    Extent::Account => snapshot.document,
                };
                Ok(AppliedChanges { changed, document })
            }
            Err(error) => {
                self.latest().apply(&changes);
                Err(error)
            }
        }
    }

    fn remember(&self, snapshot: Snapshot) -> Arc<TokenCacheDocument> {
        let document = Arc::clone(&snapshot.document);
        *self.latest() = Latest { whole: Some(snapshot), accounts: Vec::new() };
        document
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    /// The newer of the two: what was read for the account, or else the whole.
    fn for_account(&self, home_account_id: &str) -> Option<&Snapshot> {
        let own = self.accounts.iter().find(|(account, _)| account == home_account_id);
        own.map(|(_, snapshot)| snapshot).or(self.whole.as_ref())
    }

    fn keep(&mut self, home_account_id: &str, snapshot: Snapshot) {
        self.accounts.retain(|(account, _)| account != home_account_id);
        if self.accounts.len() >= KEPT_ACCOUNTS {
            self.accounts.remove(0);
        }
        self.accounts.push((home_account_id.to_owned(), snapshot));
    }

    /// What a store refused: on a read-only disk a program does not ask twice.
    fn apply(&mut self, changes: &ChangeSet) {
        let parts = self.accounts.iter_mut().map(|(_, snapshot)| snapshot);
        for snapshot in parts.chain(&mut self.whole) {
            Arc::make_mut(&mut snapshot.document).apply(changes);
        }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use secrecy::SecretString;

    use super::*;
    use crate::document::Change;
    use crate::store::Stamp;

    /// A store that reads parts, and counts what it reads; each change is refused.
    #[derive(Debug, Default)]
    struct InParts {
        generation: AtomicUsize,
        wholes: AtomicUsize,
        parts: AtomicUsize,
    }

    impl InParts {
        fn snapshot(&self, extent: Extent) -> Snapshot {
            let reads = if extent == Extent::Whole { &self.wholes } else { &self.parts };
            reads.fetch_add(1, Ordering::Relaxed);
            let document = TokenCacheDocument::parse(
                br#"{"RefreshToken": {"k": {"credential_type": "RefreshToken", "secret": "s", "client_id": "c",
                    "home_account_id": "u.t", "environment": "login.windows.net"}}}"#,
            );
            Snapshot { document: Arc::new(document.unwrap()), stamp: self.stamp().unwrap(), extent }
        }

        fn reads(&self) -> (usize, usize) {
            (self.wholes.load(Ordering::Relaxed), self.parts.load(Ordering::Relaxed))
        }

        fn somebody_writes(&self) {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Store for InParts {
        fn describe(&self) -> StoreDescription {
            MemoryStore::new().describe()
        }

        fn stamp(&self) -> Result<Stamp, CacheError> {
            Ok(Stamp::of_generation(self.generation.load(Ordering::Relaxed) as u64))
        }

        fn load(&self) -> Result<Snapshot, CacheError> {
            Ok(self.snapshot(Extent::Whole))
        }

        fn load_account(&self, _home_account_id: &str) -> Result<Snapshot, CacheError> {
            Ok(self.snapshot(Extent::Account))
        }

        fn apply(&self, _changes: &ChangeSet, _deadline: Deadline) -> Result<Applied, CacheError> {
            Err(CacheError::Locked { place: "here".to_owned() })
        }

        fn discard(&self, _deadline: Deadline) -> Result<Option<String>, CacheError> {
            Ok(None)
        }
    }

    fn cache() -> (Arc<InParts>, Arc<Cache>) {
        let store = Arc::new(InParts::default());
        let cache = Cache {
            store: Arc::clone(&store) as Arc<dyn Store>,
            latest: Mutex::default(),
            loads: Flights::default(),
        };
        (store, Arc::new(cache))
    }

    #[tokio::test]
    async fn a_request_for_one_account_never_reads_the_whole() {
        let (store, cache) = cache();
        for _ in 0..3 {
            cache.document_for("u.t").await.unwrap();
        }
        assert_eq!(store.reads(), (0, 1));
        cache.document_for("v.t").await.unwrap();
        cache.document_for("u.t").await.unwrap();
        assert_eq!(store.reads(), (0, 2), "each account's part is kept");
        store.somebody_writes();
        cache.document_for("u.t").await.unwrap();
        assert_eq!(store.reads(), (0, 3));
    }

    #[tokio::test]
    async fn the_whole_does_for_every_account_while_it_is_current() {
        let (store, cache) = cache();
        cache.document().await.unwrap();
        cache.document_for("u.t").await.unwrap();
        assert_eq!(store.reads(), (1, 0));
        store.somebody_writes();
        cache.document_for("u.t").await.unwrap();
        cache.document_for("v.t").await.unwrap();
        assert_eq!(store.reads(), (1, 2));
        assert!(cache.unchanged().is_none(), "a part is not taken for the whole");
        cache.document().await.unwrap();
        cache.document_for("u.t").await.unwrap();
        assert_eq!(store.reads(), (2, 2));
    }

    #[tokio::test]
    async fn many_accounts_do_not_fill_the_memory() {
        let (_store, cache) = cache();
        for user in 0..100 {
            cache.document_for(&format!("{user}.t")).await.unwrap();
        }
        assert_eq!(cache.latest().accounts.len(), KEPT_ACCOUNTS);
    }

    #[tokio::test]
    async fn what_the_store_refuses_is_known_in_the_whole_and_in_parts() {
        let (_store, cache) = cache();
        cache.document().await.unwrap();
        cache.latest().keep("u.t", cache.store.load_account("u.t").unwrap());
        let removal = ChangeSet::of(Change::RemoveRefreshToken {
            home_account_id: "u.t".to_owned(),
            client_id: "c".to_owned(),
            secret: SecretString::from("s"),
        });
        assert!(cache.apply(removal).await.is_err());
        for document in [cache.document().await.unwrap(), cache.document_for("u.t").await.unwrap()] {
            assert!(!String::from_utf8_lossy(&document.to_bytes()).contains("\"secret\""));
        }
    }
}

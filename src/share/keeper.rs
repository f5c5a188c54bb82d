//! The copies of a login, watched, and each change carried over.

use std::sync::Arc;
use std::time::Duration;

use crate::document::TokenCacheDocument;
use crate::error::CacheError;
use crate::revocation::{Known, Memory, dead_entries, removal_of};
use crate::store::{Places, Snapshot, Watcher};
use crate::time::Deadline;

use super::steps::{Step, Steps};
use super::{Copy, SharedCache};

/// How long another program may keep us from its cache.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A change may lead to another one; more than these are found at the next hint.
const ROUNDS: usize = 4;

/// Keeps the copies of an account's logins in step, without asking any keyring before its signal
/// says that something may have changed.
#[derive(Debug)]
pub struct Keeper {
    members: Vec<Member>,
    steps: Steps,
    /// What the provider called dead, as any program of ours noted it.
    memory: Memory,
    /// Hints, for as long as we keep it.
    _watcher: Watcher,
}

#[derive(Debug)]
struct Member {
    cache: SharedCache,
    latest: Option<Snapshot>,
    trouble: Option<String>,
}

/// What happened to a copy.
#[derive(Debug)]
#[non_exhaustive]
pub enum News {
    /// A refresh token was carried over.
    Carried {
        /// From this cache.
        from: SharedCache,
        /// Into this one.
        to: SharedCache,
        /// For this client.
        client_id: String,
    },
    /// A refresh token was removed there because the provider had called it dead before.
    Cleared {
        /// From this cache.
        cache: SharedCache,
        /// Whose.
        client_id: String,
    },
    /// A refresh token was removed there, and is not put back.
    Dropped {
        /// From this cache.
        cache: SharedCache,
        /// Whose.
        client_id: String,
    },
    /// The account is there again, and takes part again.
    SignedIn(SharedCache),
    /// The account was signed out there, and is not put back.
    SignedOut(SharedCache),
    /// The cache cannot be read or written now; tried again when it changes.
    Trouble(SharedCache, CacheError),
}

impl Keeper {
    /// Watches the sources and the targets with the copies that went into them.
    /// `maybe_changed` is called on another thread when [`Self::look`] may find something.
    ///
    /// # Errors
    /// [`CacheError::Io`] if the system has no watches left.
    pub fn new(
        (home_account_id, environment): (&str, &str),
        sources: Vec<SharedCache>,
        targets: Vec<(SharedCache, Vec<Copy>)>,
        places: &Places,
        maybe_changed: impl FnMut() + Send + 'static,
    ) -> Result<Self, CacheError> {
        let from: Vec<_> = sources.iter().map(|source| source.dialect).collect();
        let to: Vec<_> = targets.iter().map(|(target, copies)| (target.dialect, copies.as_slice())).collect();
        let steps = Steps::new((home_account_id, environment), &from, &to);
        let watcher = Watcher::new(maybe_changed)?;
        let mut members = Vec::new();
        for cache in sources.into_iter().chain(targets.into_iter().map(|(target, _)| target)) {
            // before its stamp is read
            watcher.add(cache.store.as_ref())?;
            members.push(Member { cache, latest: None, trouble: None });
        }
        Ok(Self { members, steps, memory: Memory::of(places), _watcher: watcher })
    }

    /// Looks at what changed, and carries it over. Idempotent: without a change nothing is read.
    pub fn look(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        let known = self
            .memory
            .recall()
            .inspect_err(|error| tracing::warn!(%error, "what is dead is not known"))
            .ok();
        for _ in 0..ROUNDS {
            let documents: Vec<Option<Arc<TokenCacheDocument>>> =
                self.members.iter_mut().map(|member| member.read(known.as_ref(), &mut news)).collect();
            let documents: Vec<Option<&TokenCacheDocument>> =
                documents.iter().map(Option::as_deref).collect();
            let mut has_carried = false;
            for step in self.steps.look(&documents) {
                has_carried |= self.take(step, &mut news);
            }
            if !has_carried {
                break;
            }
        }
        news
    }

    /// Does what has to be done; tells whether a cache is different now.
    fn take(&mut self, step: Step, news: &mut Vec<News>) -> bool {
        let cache = |party: usize| self.members[party].cache.clone();
        let (from, to, client_id, changes) = match step {
            Step::Carry { from, to, client_id, changes } => (cache(from), to, client_id, changes),
            Step::Dropped { party, client_id } => {
                news.push(News::Dropped { cache: cache(party), client_id });
                return false;
            }
            Step::SignedIn { party } => {
                news.push(News::SignedIn(cache(party)));
                return false;
            }
            Step::SignedOut { party } => {
                news.push(News::SignedOut(cache(party)));
                return false;
            }
        };
        let member = &mut self.members[to];
        match member.cache.store.apply(&changes, Deadline::within(LOCK_WAIT)) {
            Ok(applied) => {
                member.latest = Some(applied.snapshot);
                if applied.changed {
                    news.push(News::Carried { from, to: member.cache.clone(), client_id });
                }
                applied.changed
            }
            Err(error) => {
                news.extend(member.tell(error));
                false
            }
        }
    }
}

impl Member {
    /// What is there now, read again only if a `stat` says that it changed.
    /// What is known to be dead by then goes first: it is carried nowhere.
    fn read(&mut self, known: Option<&Known>, news: &mut Vec<News>) -> Option<Arc<TokenCacheDocument>> {
        let current = self.cache.store.stamp().and_then(|stamp| match &self.latest {
            Some(latest) if latest.stamp == stamp => Ok(latest.clone()),
            _ => self.cache.store.load(),
        });
        let current = current.and_then(|snapshot| {
            let dead = known.map(|known| dead_entries(&snapshot.document, known)).unwrap_or_default();
            if dead.is_empty() {
                return Ok(snapshot);
            }
            let applied = self.cache.store.apply(&removal_of(&dead), Deadline::within(LOCK_WAIT))?;
            let gone = dead.into_iter().filter(|entry| !entry.is_in(&applied.snapshot.document));
            news.extend(
                gone.map(|entry| News::Cleared { cache: self.cache.clone(), client_id: entry.client_id }),
            );
            Ok(applied.snapshot)
        });
        match current {
            Ok(snapshot) => {
                self.trouble = None;
                let document = Arc::clone(&snapshot.document);
                self.latest = Some(snapshot);
                Some(document)
            }
            Err(error) => {
                news.extend(self.tell(error));
                self.latest = None;
                None
            }
        }
    }

    /// The same trouble is told once.
    fn tell(&mut self, error: CacheError) -> Option<News> {
        let is_new = self.trouble.replace(error.to_string()) != Some(error.to_string());
        is_new.then(|| News::Trouble(self.cache.clone(), error))
    }
}

//! The two caches of a name, and what a change would remove from them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::settings::Settings;
use super::times;
use crate::credential::account::{self, ListedAccount};
use crate::document::{CachedEntry, Change, ChangeSet, TokenCacheDocument};
use crate::error::CacheError;
use crate::revocation::{self, Cause, DeadEntry, Known};
use crate::store::{Applied, Snapshot, Stamp, Store, StoreDescription};
use crate::time::{Deadline, UnixTime};

/// How long other programs may keep us from a cache.
const LOCK_WAIT: Duration = Duration::from_secs(10);

pub(super) fn deadline() -> Deadline {
    Deadline::within(LOCK_WAIT)
}

/// One of the two caches, and what was in it.
#[derive(Debug)]
pub(super) struct OpenCache {
    pub(super) store: Arc<dyn Store>,
    pub(super) name: String,
    pub(super) document: Arc<TokenCacheDocument>,
}

impl OpenCache {
    /// Opens and reads the one for requests with or without continuous access evaluation.
    pub(super) fn open(settings: &Settings, cae: bool) -> Result<Self, CacheError> {
        Self::of(settings.open_store(cae)?)
    }

    /// Reads what a store keeps.
    pub(super) fn of(store: Arc<dyn Store>) -> Result<Self, CacheError> {
        let store: Arc<dyn Store> = Arc::new(ReadOnce::new(store));
        let document = store.load()?.document;
        Ok(Self { name: store.describe().cache, store, document })
    }

    /// Opens and reads both.
    pub(super) fn both(settings: &Settings) -> Result<[Self; 2], CacheError> {
        Ok([Self::open(settings, false)?, Self::open(settings, true)?])
    }

    /// What the changes would remove.
    pub(super) fn plan(&self, changes: &ChangeSet) -> Vec<Removal> {
        let mut after = (*self.document).clone();
        after.apply(changes);
        let kept = keys(&after);
        self.entries().filter(|removal| !kept.contains(&removal.key())).collect()
    }

    /// What of another document these changes would take over: entries that are new, or newer.
    pub(super) fn plan_merge(&self, changes: &ChangeSet) -> Vec<Removal> {
        let mut after = (*self.document).clone();
        after.apply(changes);
        let entries = after.entries().into_iter().filter(|entry| {
            after.entry(&entry.section, &entry.key) != self.document.entry(&entry.section, &entry.key)
        });
        entries.map(|entry| Removal { cache: self.name.clone(), entry, why: None }).collect()
    }

    /// Everything that is there.
    pub(super) fn entries(&self) -> impl Iterator<Item = Removal> {
        let entries = self.document.entries().into_iter();
        entries.map(|entry| Removal { cache: self.name.clone(), entry, why: None })
    }

    /// What [`Change::RemoveStale`] would remove, and why.
    ///
    /// [`Change::RemoveStale`]: crate::document::Change::RemoveStale
    pub(super) fn plan_stale(&self, now: UnixTime) -> (ChangeSet, Vec<Removal>) {
        let changes = ChangeSet::of(Change::RemoveStale { now });
        let reasons = self.document.stale_entries(now).into_iter();
        let reasons: HashMap<(String, String), String> =
            reasons.map(|stale| ((stale.section, stale.key), stale.why)).collect();
        let mut planned = self.plan(&changes);
        for removal in &mut planned {
            removal.why = reasons.get(&removal.key()).cloned();
        }
        (changes, planned)
    }

    /// What is known to be dead here, and why; with `access_tokens` also those that the same
    /// account and client have left.
    pub(super) fn plan_dead(&self, known: &Known, access_tokens: bool) -> (ChangeSet, Vec<Removal>) {
        let dead = revocation::dead_entries(&self.document, known);
        let with_them = dead.iter().filter(|_| access_tokens).map(|entry| Change::RemoveAccessTokens {
            home_account_id: entry.home_account_id.clone(),
            environment: entry.environment.clone(),
            client_id: entry.client_id.clone(),
        });
        let changes: ChangeSet = dead.iter().map(DeadEntry::removal).chain(with_them).collect();
        let mut planned = if dead.is_empty() { Vec::new() } else { self.plan(&changes) };
        for removal in &mut planned {
            let cause = dead
                .iter()
                .find(|entry| removal.entry.section == "RefreshToken" && removal.entry.key == entry.key);
            removal.why = Some(match cause.map(|entry| &entry.cause) {
                Some(Cause::Refused { code, at }) => format!("refused on {}: {code}", times::rfc_3339(*at)),
                Some(Cause::Revoked { code, valid_from }) => {
                    format!("from before {}, when all were revoked: {code}", times::rfc_3339(*valid_from))
                }
                None => "came of a refresh token that is dead".to_owned(),
            });
        }
        (changes, planned)
    }

    /// Applies the changes, and tells which of the planned entries are gone. A cache that nothing
    /// would be removed from is not even locked.
    pub(super) fn carry_out(
        &self,
        changes: &ChangeSet,
        planned: Vec<Removal>,
    ) -> Result<Vec<Removal>, CacheError> {
        if planned.is_empty() {
            return Ok(planned);
        }
        let applied = self.store.apply(changes, deadline())?;
        let kept = keys(&applied.snapshot.document);
        Ok(planned.into_iter().filter(|removal| !kept.contains(&removal.key())).collect())
    }
}

/// An entry that goes, or went.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    pub(super) cache: String,
    pub(super) entry: CachedEntry,
    /// Why it can do nothing any more, if that is why it goes.
    pub(super) why: Option<String>,
}

impl Removal {
    fn key(&self) -> (String, String) {
        (self.entry.section.clone(), self.entry.key.clone())
    }

    pub(super) fn to_json(&self) -> Value {
        let CachedEntry { section, key, username, home_account_id, client_id, realm, target, .. } =
            &self.entry;
        json!({
            "cache": self.cache,
            "section": section,
            "key": key,
            "username": username,
            "home_account_id": home_account_id,
            "client_id": client_id,
            "realm": realm,
            "target": target,
            "why": self.why,
        })
    }

    /// Whether both are one entry.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.cache == other.cache && self.key() == other.key()
    }

    /// What it is, in words.
    pub(super) fn kind(&self) -> &str {
        let section = &self.entry.section;
        SECTIONS.iter().find(|(name, ..)| name == section).map_or(section, |(_, one, _)| one)
    }
}

/// `2 access tokens and 1 account in msal.cache.nocae`, one line for each cache.
pub(super) fn in_words(removals: &[Removal]) -> Vec<String> {
    let mut caches: Vec<&str> = removals.iter().map(|removal| &*removal.cache).collect();
    caches.dedup();
    let line = |cache: &str| {
        let counts: Vec<String> = SECTIONS
            .iter()
            .filter_map(|(section, one, many)| {
                let fits = |removal: &&Removal| removal.cache == cache && removal.entry.section == *section;
                match removals.iter().filter(fits).count() {
                    0 => None,
                    1 => Some(format!("1 {one}")),
                    count => Some(format!("{count} {many}")),
                }
            })
            .collect();
        let counts = match counts.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} and {last}", others.join(", ")),
            None => "entries of unknown kinds".to_owned(),
        };
        format!("{counts} in {cache}")
    };
    caches.into_iter().map(line).collect()
}

const SECTIONS: [(&str, &str, &str); 5] = [
    ("RefreshToken", "refresh token", "refresh tokens"),
    ("AccessToken", "access token", "access tokens"),
    ("IdToken", "ID token", "ID tokens"),
    ("Account", "account entry", "account entries"),
    ("AppMetadata", "client entry", "client entries"),
];

/// The accounts of several caches, each once.
pub(super) fn accounts<'a>(caches: impl IntoIterator<Item = &'a OpenCache>) -> Vec<ListedAccount> {
    account::list(caches.into_iter().map(|cache| (&*cache.name, &*cache.document)))
}

fn keys(document: &TokenCacheDocument) -> HashSet<(String, String)> {
    document.entries().into_iter().map(|entry| (entry.section, entry.key)).collect()
}

/// A store that gives out what it read last while a `stat` says that nothing was written since:
/// a command looks at the accounts and then hands the store on, and a keyring is slow to ask.
#[derive(Debug)]
struct ReadOnce {
    store: Arc<dyn Store>,
    latest: Mutex<Option<Snapshot>>,
}

impl ReadOnce {
    const fn new(store: Arc<dyn Store>) -> Self {
        Self { store, latest: Mutex::new(None) }
    }

    fn remember(&self, snapshot: Snapshot) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }
}

impl Store for ReadOnce {
    fn describe(&self) -> StoreDescription {
        self.store.describe()
    }

    fn stamp(&self) -> Result<Stamp, CacheError> {
        self.store.stamp()
    }

    fn load(&self) -> Result<Snapshot, CacheError> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match latest {
            Some(snapshot) if self.store.stamp()? == snapshot.stamp => Ok(snapshot),
            _ => {
                let snapshot = self.store.load()?;
                self.remember(snapshot.clone());
                Ok(snapshot)
            }
        }
    }

    fn apply(&self, changes: &ChangeSet, deadline: Deadline) -> Result<Applied, CacheError> {
        let applied = self.store.apply(changes, deadline)?;
        self.remember(applied.snapshot.clone());
        Ok(applied)
    }

    fn discard(&self, deadline: Deadline) -> Result<Option<String>, CacheError> {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.store.discard(deadline)
    }
}

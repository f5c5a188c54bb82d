//! A cache in the vault, as a [`Store`]: one changed token is one row.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::document::{ChangeSet, Reach, TokenCacheDocument};
use crate::error::{CacheError, VaultError};
use crate::store::{Applied, Extent, Signal, Snapshot, Stamp, Store, StoreDescription};
use crate::time::Deadline;

use super::audit::{self, AuditEvent};
use super::file;
use super::session::{Session, Shared};
use super::space::{self, Bundle, Item, Put, Space, Stored};

/// Up to so many rows a change reads the whole document, which costs no more than a part.
const SMALL: u64 = 64;

/// One cache of an open vault.
#[derive(Debug)]
pub struct VaultStore {
    shared: Arc<Shared>,
    cache: String,
    space: String,
    actor: String,
}

impl VaultStore {
    pub(super) fn new(shared: Arc<Shared>, cache: &str, actor: &str) -> Self {
        Self { shared, cache: cache.to_owned(), space: space_of(cache), actor: actor.to_owned() }
    }

    /// Makes this the whole content, as a move from another store does. Rows that stay the same
    /// are not written.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub fn replace(&self, document: &TokenCacheDocument, deadline: Deadline) -> Result<(), CacheError> {
        self.shared
            .write(deadline, |session| {
                let mut space = Space::open(session, &self.space)?;
                let rows = space.all()?;
                let Plan { puts, removed } = Plan::new(&rows, document, &mut space);
                let event = audit::by_us(self.shared.clock.as_ref(), &self.actor, "cache_replaced");
                if puts.is_empty() && removed.is_empty() {
                    return Ok(());
                }
                space.write(removed, puts)?;
                audit::append(session, &[event.cache(&self.cache)])
            })
            .map_err(CacheError::from)
    }

    fn try_apply(&self, session: &Session<'_>, changes: &ChangeSet) -> Result<Applied, VaultError> {
        let mut space = Space::open(session, &self.space)?;
        let mut reach = Some(bundles_of(changes)).filter(|_| space.len() > SMALL).flatten();
        loop {
            let rows = match &reach {
                Some(bundles) => space.rows_of(bundles)?,
                None => space.all()?,
            };
            let before = document(session, &rows)?;
            let mut after = before.clone();
            if !after.apply(changes) {
                return Ok(Self::outcome(before, &space, reach.is_none(), false));
            }
            let plan = Plan::new(&rows, &after, &mut space);
            // a key of ours may be taken by a row of another bundle: then that one counts, too
            if let Some(bundles) = &mut reach {
                let taken = plan.taken_by(&mut space)?;
                if !taken.is_empty() {
                    bundles.extend(taken);
                    continue;
                }
            }
            let events = events(&plan, &self.cache, changes, |action| {
                audit::by_us(self.shared.clock.as_ref(), &self.actor, action)
            });
            let Plan { puts, removed } = plan;
            space.write(removed, puts)?;
            audit::append(session, &events)?;
            return Ok(Self::outcome(after, &space, reach.is_none(), true));
        }
    }

    /// A part of a document goes with a stamp that is never current, so that whoever keeps it
    /// reads the whole before trusting it for another account.
    fn outcome(document: TokenCacheDocument, space: &Space<'_>, is_whole: bool, changed: bool) -> Applied {
        let (stamp, extent) =
            if is_whole { (space.stamp(), Extent::Whole) } else { (!space.stamp(), Extent::Account) };
        let stamp = Stamp::of_generation(stamp);
        Applied { snapshot: Snapshot { document: Arc::new(document), stamp, extent }, changed }
    }
}

impl Store for VaultStore {
    fn describe(&self) -> StoreDescription {
        StoreDescription {
            cache: self.cache.clone(),
            place: format!("vault {}", self.shared.path.display()),
            encrypted: true,
        }
    }

    fn stamp(&self) -> Result<Stamp, CacheError> {
        let stamp = self.shared.read(|session| space::stamp(session, &self.space))?;
        Ok(Stamp::of_generation(stamp))
    }

    fn signals(&self) -> Vec<Signal> {
        file::signals(&self.shared.path)
    }

    fn load(&self) -> Result<Snapshot, CacheError> {
        self.shared
            .read(|session| {
                let mut space = Space::open(session, &self.space)?;
                let rows = space.all()?;
                snapshot(session, &rows, space.stamp(), Extent::Whole)
            })
            .map_err(CacheError::from)
    }

    fn load_account(&self, home_account_id: &str) -> Result<Snapshot, CacheError> {
        self.shared
            .read(|session| {
                let mut space = Space::open(session, &self.space)?;
                let own = BTreeSet::from([Bundle::Account(home_account_id.to_owned())]);
                let mut rows = space.rows_of(&own)?;
                let clients = rows
                    .iter()
                    .filter_map(|row| row.item.value.get("client_id")?.as_str())
                    .map(|client| Bundle::Client(client.to_ascii_lowercase()))
                    .collect();
                rows.extend(space.rows_of(&clients)?);
                snapshot(session, &rows, space.stamp(), Extent::Account)
            })
            .map_err(CacheError::from)
    }

    fn apply(&self, changes: &ChangeSet, deadline: Deadline) -> Result<Applied, CacheError> {
        self.shared.write(deadline, |session| self.try_apply(session, changes)).map_err(CacheError::from)
    }

    fn discard(&self, deadline: Deadline) -> Result<Option<String>, CacheError> {
        let aside = match self.load() {
            Ok(_) => None,
            Err(CacheError::Vault(error @ VaultError::Damaged { .. })) => {
                tracing::warn!(%error, "the vault is copied before the cache is removed from it");
                Some(super::backup::set_aside_copy(&self.shared)?)
            }
            Err(error) => return Err(error),
        };
        self.shared.write(deadline, |session| {
            Space::erase(session, &self.space)?;
            let event = audit::by_us(self.shared.clock.as_ref(), &self.actor, "cache_discarded");
            audit::append(session, &[event.cache(&self.cache)])
        })?;
        Ok(aside.map(|path| path.display().to_string()))
    }
}

/// How a cache's rows are named inside the vault.
pub(super) fn space_of(cache: &str) -> String {
    format!("cache {cache}")
}

/// What there is to write, and what to remove, to make rows out of a document.
struct Plan<'r> {
    puts: Vec<Put<'r>>,
    removed: Vec<&'r Stored>,
}

impl<'r> Plan<'r> {
    fn new(rows: &'r [Stored], document: &TokenCacheDocument, space: &mut Space<'_>) -> Self {
        let mut old: HashMap<&[String], &'r Stored> =
            rows.iter().map(|row| (row.item.path.as_slice(), row)).collect();
        let mut puts = Vec::new();
        let mut place = |list: &mut Option<u64>, path: Vec<String>, value: &Value| {
            let replaces = old.remove(path.as_slice());
            let order = replaces
                .map(|row| row.item.order)
                .filter(|order| list.is_none_or(|last| last < *order))
                .unwrap_or_else(|| space.next_order());
            *list = Some(order);
            let is_same = replaces.is_some_and(|row| row.item.order == order && row.item.value == *value);
            if !is_same {
                let item = Item { path, order, value: value.clone() };
                puts.push(Put { bundle: bundle_of(&item), item, replaces });
            }
        };
        let mut top = None;
        let section_mark = Value::Object(Map::new());
        for (name, member) in document.root() {
            let Value::Object(entries) = member else {
                place(&mut top, vec![name.clone()], member);
                continue;
            };
            place(&mut top, vec![name.clone()], &section_mark);
            let mut section = None;
            for (key, entry) in entries {
                place(&mut section, vec![name.clone(), key.clone()], entry);
            }
        }
        Self { puts, removed: old.into_values().collect() }
    }

    /// The bundles of rows that stand where this plan wants to put new ones.
    fn taken_by(&self, space: &mut Space<'_>) -> Result<Vec<Bundle>, VaultError> {
        let mut taken = Vec::new();
        for put in self.puts.iter().filter(|put| put.replaces.is_none()) {
            taken.extend(space.row_at(&put.item.path)?.map(|row| bundle_of(&row.item)));
        }
        Ok(taken)
    }
}

/// Builds the document again; twice the same place means that the rows are not one document's.
fn document(session: &Session<'_>, rows: &[Stored]) -> Result<TokenCacheDocument, VaultError> {
    let twice = || session.damaged("two rows stand for one entry");
    let mut root = Map::new();
    for row in rows {
        if let [name] = row.item.path.as_slice()
            && root.insert(name.clone(), row.item.value.clone()).is_some()
        {
            return Err(twice());
        }
    }
    for row in rows {
        match row.item.path.as_slice() {
            [_] => {}
            [section, key] => {
                let section = root.entry(section.clone()).or_insert_with(|| Value::Object(Map::new()));
                let entries = section.as_object_mut().ok_or_else(twice)?;
                if entries.insert(key.clone(), row.item.value.clone()).is_some() {
                    return Err(twice());
                }
            }
            _ => return Err(session.damaged("a row stands nowhere in a document")),
        }
    }
    Ok(TokenCacheDocument::from_root(root))
}

fn snapshot(
    session: &Session<'_>,
    rows: &[Stored],
    stamp: u64,
    extent: Extent,
) -> Result<Snapshot, VaultError> {
    let document = Arc::new(document(session, rows)?);
    Ok(Snapshot { document, stamp: Stamp::of_generation(stamp), extent })
}

/// Which rows an entry is read with.
pub(super) fn bundle_of(item: &Item) -> Bundle {
    let [section, _] = item.path.as_slice() else { return Bundle::Top };
    let Some(entry) = item.value.as_object() else { return Bundle::Other };
    match section.as_str() {
        "AccessToken" | "Account" | "IdToken" | "RefreshToken" => match entry.get("home_account_id") {
            Some(Value::String(id)) => Bundle::Account(id.clone()),
            // an app's own: Python writes null, .NET nothing (spec S-C 1.3)
            None | Some(Value::Null) => Bundle::Account(String::new()),
            Some(_) => Bundle::Other,
        },
        "AppMetadata" => match entry.get("client_id") {
            Some(Value::String(id)) => Bundle::Client(id.to_ascii_lowercase()),
            _ => Bundle::Other,
        },
        _ => Bundle::Other,
    }
}

/// The rows that the changes can touch; `None` for all of them.
fn bundles_of(changes: &ChangeSet) -> Option<BTreeSet<Bundle>> {
    match changes.reach() {
        Reach::Everything => None,
        Reach::Some { accounts, clients } => Some(
            accounts
                .into_iter()
                .map(|id| Bundle::Account(id.to_owned()))
                .chain(clients.into_iter().map(|id| Bundle::Client(id.to_ascii_lowercase())))
                .chain([Bundle::Top])
                .collect(),
        ),
    }
}

/// What the audit trail says of a plan: accounts and refresh tokens that came or went. Access
/// tokens and rotations are everyday life.
fn events(
    plan: &Plan<'_>,
    cache: &str,
    changes: &ChangeSet,
    by_us: impl Fn(&str) -> AuditEvent,
) -> Vec<AuditEvent> {
    let came = plan.puts.iter().filter(|put| put.replaces.is_none()).map(|put| (&put.item, true));
    let went = plan.removed.iter().map(|row| (&row.item, false));
    let mut net: HashMap<(&str, &str, &str), i32> = HashMap::new();
    let mut order = Vec::new();
    for (item, is_new) in came.chain(went) {
        let [section, _] = item.path.as_slice() else { continue };
        if section != "Account" && section != "RefreshToken" {
            continue;
        }
        let text = |field: &str| item.value.get(field).and_then(Value::as_str).unwrap_or_default();
        let who = (section.as_str(), text("home_account_id"), text("client_id"));
        let count = net.entry(who).or_insert_with(|| {
            order.push(who);
            0
        });
        *count += if is_new { 1 } else { -1 };
    }
    let mut events = Vec::new();
    for who @ (section, account, client) in order {
        let action = match (section, net[&who]) {
            (_, 0) => continue,
            ("Account", 1..) => "account_added",
            ("Account", _) => "account_removed",
            (_, 1..) => "refresh_token_added",
            (_, _) => "refresh_token_removed",
        };
        let event = by_us(action).reason(changes.reason()).cache(cache).account(account);
        events.push(if client.is_empty() { event } else { event.subject(client) });
    }
    events
}

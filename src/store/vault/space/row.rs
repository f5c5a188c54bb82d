//! A row: how it is found without its name in the clear, how it is sealed, and how it is wiped.

use rusqlite::Row;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroize as _;

use super::super::keys::{Blind, EpochKeys};
use super::super::seal::{Context, TAG_LENGTH};

/// Rows that are read together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Bundle {
    /// All entries of one account.
    Account(String),
    /// What the document knows of one client.
    Client(String),
    /// Entries that belong to neither.
    Other,
    /// The document's own members.
    Top,
}

impl Bundle {
    pub(super) fn index(&self, keys: &EpochKeys, space: &str) -> Blind {
        let (kind, name) = match self {
            Self::Account(id) => ("account", id.as_str()),
            Self::Client(id) => ("client", id.as_str()),
            Self::Other => ("other", ""),
            Self::Top => ("top", ""),
        };
        keys.blind(&[b"bundle", space.as_bytes(), kind.as_bytes(), name.as_bytes()])
    }
}

/// What a row says: where in the document it stands, and what stands there. Wiped when dropped.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Item {
    pub(in super::super) path: Vec<String>,
    pub(in super::super) order: u64,
    pub(in super::super) value: Value,
}

impl Drop for Item {
    fn drop(&mut self) {
        wipe(&mut self.value);
    }
}

/// A row as it was read.
pub(in super::super) struct Stored {
    pub(super) part: usize,
    pub(super) found: Found,
    pub(in super::super) item: Item,
}

/// A row to be written: a new one, or in place of one that was read.
pub(in super::super) struct Put<'a> {
    pub(in super::super) bundle: Bundle,
    pub(in super::super) item: Item,
    pub(in super::super) replaces: Option<&'a Stored>,
}

/// An index entry.
#[derive(Clone, Copy)]
pub(in super::super) struct Found {
    pub(super) id: i64,
    pub(super) bundle: Blind,
    pub(super) identity: Blind,
    pub(super) tag: Blind,
}

impl Found {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { id: row.get(0)?, bundle: row.get(1)?, identity: row.get(2)?, tag: row.get(3)? })
    }
}

pub(super) fn identity_of(keys: &EpochKeys, name: &str, path: &[String]) -> Blind {
    let mut parts: Vec<&[u8]> = vec![b"identity", name.as_bytes()];
    parts.extend(path.iter().map(String::as_bytes));
    keys.blind(&parts)
}

pub(super) const fn entry_context<'a>(
    keys: &'a EpochKeys,
    name: &'a str,
    identity: &'a Blind,
) -> Context<'a> {
    Context { vault_id: &keys.vault_id, epoch: keys.epoch, table: "entry", space: name, identity }
}

pub(super) fn tag_of(sealed: &[u8]) -> Blind {
    sealed.last_chunk::<TAG_LENGTH>().copied().unwrap_or_default()
}

/// Overwrites every text in it.
fn wipe(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::String(text) => text.zeroize(),
        Value::Bool(_) | Value::Null | Value::Number(_) => {}
    }
}

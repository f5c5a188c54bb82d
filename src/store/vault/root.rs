//! The sealed root of an epoch: which documents it has, and what must not be exchanged.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::VaultError;

use super::file::sql;
use super::keys::{EpochKeys, SecretKey};
use super::seal::{self, Context, KeyPair};

/// What an epoch's row seals.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    /// The documents that have rows under this epoch's key.
    pub(super) spaces: Vec<String>,
    /// The digest of all protectors, in base64; in the current epoch only.
    protectors: String,
    /// The epoch before, while rows of it are left.
    pub(super) previous: Option<u64>,
    /// The secret key for events that were sealed while the vault was locked, in base64.
    audit_secret: Option<Zeroizing<String>>,
    /// The part of the audit chain that is under this epoch's key.
    pub(super) audit: Segment,
}

/// A run of audit events, and what their links must come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Segment {
    /// The number of its first event.
    pub(super) first: u64,
    /// The number after its last event.
    pub(super) end: u64,
    /// The link before its first event.
    pub(super) start: Link,
    /// The link of its last event.
    pub(super) head: Link,
}

/// A link of the audit chain, in base64 where it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Link(pub(super) [u8; 32]);

impl TryFrom<String> for Link {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        decode(&text).map(Self).ok_or("not 32 bytes in base64")
    }
}

impl From<Link> for String {
    fn from(link: Link) -> Self {
        STANDARD.encode(link.0)
    }
}

impl Default for Segment {
    fn default() -> Self {
        Self { first: 1, end: 1, start: Link([0; 32]), head: Link([0; 32]) }
    }
}

impl Root {
    pub(super) fn new() -> Self {
        Self {
            spaces: Vec::new(),
            protectors: String::new(),
            previous: None,
            audit_secret: None,
            audit: Segment::default(),
        }
    }

    pub(super) fn set_protectors(&mut self, digest: &[u8; 32]) {
        self.protectors = STANDARD.encode(digest);
    }

    pub(super) fn lists_protectors(&self, digest: &[u8; 32]) -> bool {
        self.protectors == STANDARD.encode(digest)
    }

    /// The pair for events of a locked vault.
    pub(super) fn audit_pair(&self) -> Option<KeyPair> {
        let bytes = Zeroizing::new(decode(self.audit_secret.as_ref()?)?);
        KeyPair::of(SecretKey::from_bytes(bytes.as_slice())?)
    }

    pub(super) fn set_audit_secret(&mut self, secret: &SecretKey) {
        self.audit_secret = Some(Zeroizing::new(STANDARD.encode(secret.expose())));
    }

    pub(super) fn audit_secret_of(&mut self, other: &Self) {
        self.audit_secret.clone_from(&other.audit_secret);
    }

    pub(super) fn read(connection: &Connection, path: &Path, keys: &EpochKeys) -> Result<Self, VaultError> {
        let sealed: Option<Vec<u8>> = connection
            .prepare_cached("SELECT root FROM epoch WHERE epoch = ?1")
            .and_then(|mut statement| {
                statement.query_row([keys.epoch.cast_signed()], |row| row.get(0)).optional()
            })
            .map_err(sql(path))?;
        let damaged = |detail: &str| VaultError::Damaged { path: path.to_owned(), detail: detail.to_owned() };
        let sealed = sealed.ok_or_else(|| damaged("the root of an epoch is missing"))?;
        let plain = seal::open(&keys.sealing, context(keys, "root"), &sealed)
            .ok_or_else(|| damaged("the root of an epoch does not open"))?;
        serde_json::from_slice(&plain).map_err(|_| damaged("the root of an epoch cannot be read"))
    }

    /// Writes an epoch's row anew; its sealed key stays.
    pub(super) fn write(&self, connection: &Connection, keys: &EpochKeys) -> rusqlite::Result<()> {
        let sealed = seal::seal(&keys.sealing, context(keys, "root"), &seal::to_json(self));
        connection
            .prepare_cached(
                "INSERT INTO epoch (epoch, root) VALUES (?1, ?2)
                 ON CONFLICT (epoch) DO UPDATE SET root = excluded.root",
            )?
            .execute(params![keys.epoch.cast_signed(), sealed])?;
        Ok(())
    }
}

/// Seals an older epoch's data key under the current one, until no row needs it any more.
pub(super) fn keep_previous(
    connection: &Connection,
    current: &EpochKeys,
    previous: &EpochKeys,
) -> rusqlite::Result<()> {
    let identity = previous.epoch.to_le_bytes();
    let context = Context { identity: &identity, ..context(current, "previous key") };
    let sealed = seal::seal(&current.sealing, context, previous.data.expose());
    connection.execute(
        "UPDATE epoch SET sealed_key = ?2 WHERE epoch = ?1",
        params![previous.epoch.cast_signed(), sealed],
    )?;
    Ok(())
}

/// Opens what [`keep_previous`] sealed.
pub(super) fn open_previous(
    connection: &Connection,
    path: &Path,
    current: &EpochKeys,
    epoch: u64,
) -> Result<EpochKeys, VaultError> {
    let sealed: Option<Vec<u8>> = connection
        .query_row("SELECT sealed_key FROM epoch WHERE epoch = ?1", [epoch.cast_signed()], |row| row.get(0))
        .optional()
        .map_err(sql(path))?
        .flatten();
    let identity = epoch.to_le_bytes();
    let context = Context { identity: &identity, ..context(current, "previous key") };
    sealed
        .and_then(|sealed| seal::open(&current.sealing, context, &sealed))
        .and_then(|key| SecretKey::from_bytes(&key))
        .map(|data| EpochKeys::new(current.vault_id, epoch, data))
        .ok_or_else(|| VaultError::Damaged {
            path: path.to_owned(),
            detail: "the key of an unfinished rekey does not open".to_owned(),
        })
}

/// The epochs that have a row, oldest first.
pub(super) fn epochs(connection: &Connection, path: &Path) -> Result<Vec<u64>, VaultError> {
    connection
        .prepare_cached("SELECT epoch FROM epoch ORDER BY epoch")
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?.collect()
        })
        .map_err(sql(path))
}

const fn context<'a>(keys: &'a EpochKeys, table: &'static str) -> Context<'a> {
    Context { vault_id: &keys.vault_id, epoch: keys.epoch, table, space: "", identity: &[] }
}

fn decode(text: &str) -> Option<[u8; 32]> {
    let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
    bytes.as_slice().try_into().ok()
}

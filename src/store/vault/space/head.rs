//! What a document's rows must add up to, sealed.

use std::collections::BTreeSet;

use rusqlite::OptionalExtension as _;

use crate::error::VaultError;

use super::super::keys::{Blind, EpochKeys};
use super::super::root::Root;
use super::super::seal::{self, Context, NONCE_LENGTH, TAG_LENGTH};
use super::super::session::Session;
use super::row::Found;

const BUCKETS: usize = 256;
const HEAD_LENGTH: usize = 16 + BUCKETS * 16;

/// Tells one sealed head from every other: its nonce and its tag. Of a document without a head, zeros.
pub(in super::super) type HeadMark = [u8; NONCE_LENGTH + TAG_LENGTH];

/// The rows that are under one epoch's key. Two while a rekey is unfinished, the current first.
pub(super) struct Part<'s> {
    pub(super) keys: &'s EpochKeys,
    pub(super) index: Blind,
    pub(super) head: Head,
    pub(super) is_listed: bool,
    pub(super) verified: BTreeSet<u8>,
}

impl<'s> Part<'s> {
    pub(super) fn open(session: &Session<'_>, name: &str, keys: &'s EpochKeys) -> Result<Self, VaultError> {
        let index = space_index(keys, name);
        let sealed: Option<Vec<u8>> = session
            .connection
            .prepare_cached("SELECT head FROM space WHERE space = ?1")
            .and_then(|mut statement| statement.query_row([index], |row| row.get(0)).optional())
            .map_err(session.sql())?;
        let Some(sealed) = sealed else {
            let root = Root::read(session.connection, session.path, keys)?;
            if root.spaces.iter().any(|space| space == name) {
                return Err(session.damaged("the head of a document is missing"));
            }
            return Ok(Self {
                keys,
                index,
                head: Head::default(),
                is_listed: false,
                verified: BTreeSet::new(),
            });
        };
        let head = seal::open(&keys.sealing, head_context(keys, name), &sealed)
            .and_then(|plain| Head::from_bytes(&plain, mark_of(&sealed)))
            .ok_or_else(|| session.damaged("the head of a document does not open"))?;
        Ok(Self { keys, index, head, is_listed: true, verified: BTreeSet::new() })
    }
}

/// What a document's rows must add up to.
pub(super) struct Head {
    pub(super) next_order: u64,
    pub(super) rows: u64,
    pub(super) totals: Box<[Blind; BUCKETS]>,
    pub(super) mark: HeadMark,
}

impl Default for Head {
    fn default() -> Self {
        let mark = [0; NONCE_LENGTH + TAG_LENGTH];
        Self { next_order: 0, rows: 0, totals: Box::new([[0; 16]; BUCKETS]), mark }
    }
}

impl Head {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_LENGTH);
        bytes.extend_from_slice(&self.next_order.to_le_bytes());
        bytes.extend_from_slice(&self.rows.to_le_bytes());
        bytes.extend_from_slice(self.totals.as_flattened());
        bytes
    }

    /// What changes with each write.
    pub(super) fn stamp(&self) -> u64 {
        stamp_of(&self.mark)
    }

    fn from_bytes(bytes: &[u8], mark: HeadMark) -> Option<Self> {
        let (next_order, rest) = bytes.split_first_chunk()?;
        let (rows, rest) = rest.split_first_chunk()?;
        let mut totals = Box::new([[0; 16]; BUCKETS]);
        if rest.len() != totals.as_flattened().len() {
            return None;
        }
        totals.as_flattened_mut().copy_from_slice(rest);
        let (next_order, rows) = (u64::from_le_bytes(*next_order), u64::from_le_bytes(*rows));
        Some(Self { next_order, rows, totals, mark })
    }
}

/// What changes with each write of a document: its heads' nonces. Opens nothing.
pub(in super::super) fn stamp(session: &Session<'_>, name: &str) -> Result<u64, VaultError> {
    session.keys.iter().try_fold(0, |stamp, keys| {
        let nonce: Option<Vec<u8>> = session
            .connection
            .prepare_cached("SELECT substr(head, 1, 12) FROM space WHERE space = ?1")
            .and_then(|mut statement| {
                statement.query_row([space_index(keys, name)], |row| row.get(0)).optional()
            })
            .map_err(session.sql())?;
        Ok(stamp ^ nonce.map_or(0, |nonce| stamp_of(&nonce)))
    })
}

pub(super) fn total(keys: &EpochKeys, name: &str, bucket: u8, rows: &[Found]) -> Blind {
    if rows.is_empty() {
        return [0; 16];
    }
    let mut bytes = Vec::with_capacity(name.len() + 5 + rows.len() * 48);
    bytes.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(bucket);
    for row in rows {
        for column in [row.bundle, row.identity, row.tag] {
            bytes.extend_from_slice(&column);
        }
    }
    keys.total(&bytes)
}

pub(super) fn space_index(keys: &EpochKeys, name: &str) -> Blind {
    keys.blind(&[b"space", name.as_bytes()])
}

pub(super) const fn head_context<'a>(keys: &'a EpochKeys, name: &'a str) -> Context<'a> {
    Context { vault_id: &keys.vault_id, epoch: keys.epoch, table: "space", space: name, identity: &[] }
}

pub(super) fn mark_of(sealed: &[u8]) -> HeadMark {
    let mut mark = [0; NONCE_LENGTH + TAG_LENGTH];
    if let (Some(nonce), Some(tag)) =
        (sealed.first_chunk::<NONCE_LENGTH>(), sealed.last_chunk::<TAG_LENGTH>())
    {
        mark[..NONCE_LENGTH].copy_from_slice(nonce);
        mark[NONCE_LENGTH..].copy_from_slice(tag);
    }
    mark
}

fn stamp_of(sealed: &[u8]) -> u64 {
    sealed.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

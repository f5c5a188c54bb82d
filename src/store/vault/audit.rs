//! Who added or removed what, and why: append-only, under a chain of keyed links whose head is
//! sealed, so that nothing can be taken out of the middle or off the end.
//!
//! While the vault is locked, events are sealed to its public key and wait for the next unlock.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use crate::error::VaultError;
use crate::time::{Clock, Deadline, UnixTime};

use super::file::sql;
use super::header::sha256;
use super::keys::{EpochKeys, SecretKey};
use super::root::{Link, Root, Segment};
use super::seal::{self, Context, KeyPair, open_from, seal_to};
use super::session::Session;
use super::{LockedVault, Vault};

/// Something that happened to a vault. Names people and programs, never a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AuditEvent {
    /// When, in seconds since the epoch.
    pub at: i64,
    /// Who did it: a program's name and process id.
    pub actor: String,
    /// What was done, such as `account_removed`.
    pub action: String,
    /// Why, such as `signed_out` or `grant_dead`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In which cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// To whose entries: a home account id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// To which client's entries, protector, record or cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl AuditEvent {
    /// An event of this moment.
    #[must_use]
    pub fn new(at: UnixTime, actor: impl Into<String>, action: impl Into<String>) -> Self {
        Self {
            at: at.seconds(),
            actor: actor.into(),
            action: action.into(),
            reason: None,
            cache: None,
            account: None,
            subject: None,
        }
    }

    /// Says why.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Says in which cache.
    #[must_use]
    pub fn cache(mut self, cache: impl Into<String>) -> Self {
        self.cache = Some(cache.into());
        self
    }

    /// Says whose entries.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Says which client's entries, protector, record or cloud.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }
}

/// An event and its number, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// Its place in the chain.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: AuditEvent,
}

impl Vault {
    /// Appends an event of the caller's own, such as an export.
    ///
    /// # Errors
    /// What the disk says, and [`VaultError::Damaged`].
    pub fn record_event(&self, event: &AuditEvent, deadline: Deadline) -> Result<(), VaultError> {
        self.record_events(std::slice::from_ref(event), deadline)
    }

    /// Appends several events at once, which costs what one costs.
    ///
    /// # Errors
    /// As [`Self::record_event`]; then none of them was appended.
    pub fn record_events(&self, events: &[AuditEvent], deadline: Deadline) -> Result<(), VaultError> {
        self.shared.write(deadline, |session| append(session, events))
    }

    /// All events, oldest first, after the whole chain was found to be unbroken.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] naming the first event that is not as it was written.
    pub fn audit(&self) -> Result<Vec<AuditEntry>, VaultError> {
        self.shared.read(|session| {
            let mut entries = Vec::new();
            walk(session, |seq, event| entries.push(AuditEntry { seq, event }))?;
            Ok(entries)
        })
    }

    /// Takes in what was noted while the vault was locked, and makes the key for such notes if
    /// the vault is from before there was one.
    pub(super) fn fold_pending(&self, deadline: Deadline) -> Result<(), VaultError> {
        let needs_folding = self.shared.read(|session| {
            let notes = Notes::read(session.connection, session)?;
            let pair = Root::read(session.connection, session.path, session.current())?.audit_pair();
            match (&notes.key, pair) {
                (Some(key), Some(pair)) if pair.public == *key => Ok(notes.pending > 0),
                (None, None) => Ok(true),
                _ => Err(session.damaged("the key for notes of a locked vault was exchanged")),
            }
        })?;
        if needs_folding {
            self.shared.write(deadline, |session| {
                let notes = Notes::read(session.connection, session)?;
                let root = Root::read(session.connection, session.path, session.current())?;
                match root.audit_pair() {
                    Some(pair) => fold(session, &notes, &pair),
                    None => make_key(session, root),
                }
            })?;
        }
        Ok(())
    }
}

impl LockedVault {
    /// Notes an event without opening the vault: sealed, so that only an open vault reads it.
    ///
    /// # Errors
    /// What the disk says. [`VaultError::Locked`] for a vault that was never opened since it got
    /// an audit trail.
    pub fn record_event(&mut self, event: &AuditEvent) -> Result<(), VaultError> {
        self.record_events(std::slice::from_ref(event))
    }

    /// Notes several events at once.
    ///
    /// # Errors
    /// As [`Self::record_event`]; then none of them was noted.
    pub fn record_events(&mut self, events: &[AuditEvent]) -> Result<(), VaultError> {
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(sql(&self.path))?;
        let session = Session { connection: &transaction, path: &self.path, keys: &[], seen: None };
        let mut notes = Notes::read(&transaction, &session)?;
        let key = notes.key.ok_or_else(|| VaultError::Locked { path: self.path.clone() })?;
        let context = note_context(&self.header.vault_id);
        for event in events {
            let sealed = seal_to(&key, context, &seal::to_json(event))
                .ok_or_else(|| session.damaged("its public key is none"))?;
            transaction
                .execute(
                    "INSERT INTO audit_pending (sealed, checksum) VALUES (?1, ?2)",
                    params![sealed, sha256(&[&sealed])],
                )
                .map_err(sql(&self.path))?;
            notes.pending += 1;
        }
        notes.write(&transaction).map_err(sql(&self.path))?;
        transaction.commit().map_err(sql(&self.path))
    }
}

/// Appends events to the chain, in the transaction that the session is in.
pub(super) fn append(session: &Session<'_>, events: &[AuditEvent]) -> Result<(), VaultError> {
    if events.is_empty() {
        return Ok(());
    }
    // what is under an older key is the later part of the chain, until a rekey has moved it
    let keys = session.keys.last().unwrap_or_else(|| session.current());
    let mut root = Root::read(session.connection, session.path, keys)?;
    for event in events {
        push(session, keys, &mut root.audit, event)?;
    }
    root.write(session.connection, keys).map_err(session.sql())
}

fn push(
    session: &Session<'_>,
    keys: &EpochKeys,
    segment: &mut Segment,
    event: &AuditEvent,
) -> Result<(), VaultError> {
    let seq = segment.end;
    let identity = seq.to_le_bytes();
    let sealed = seal::seal(&keys.sealing, context(keys, &identity), &seal::to_json(event));
    let link = keys.link(&segment.head.0, seq, &sealed);
    session
        .connection
        .prepare_cached(
            "INSERT INTO audit (seq, sealed, mac) VALUES (?1, ?2, ?3)
             ON CONFLICT (seq) DO UPDATE SET sealed = excluded.sealed, mac = excluded.mac",
        )
        .and_then(|mut statement| statement.execute(params![seq.cast_signed(), sealed, link]))
        .map_err(session.sql())?;
    segment.head = Link(link);
    segment.end += 1;
    Ok(())
}

/// Goes along the whole chain.
fn walk(session: &Session<'_>, mut see: impl FnMut(u64, AuditEvent)) -> Result<(), VaultError> {
    let mut next = 1;
    for keys in session.keys {
        let segment = Root::read(session.connection, session.path, keys)?.audit;
        if segment.first != next || segment.end < segment.first {
            return Err(session.damaged("the parts of the audit trail do not join"));
        }
        let mut link = segment.start.0;
        for seq in segment.first..segment.end {
            let event;
            (event, link) = read(session, keys, seq, &link)?;
            see(seq, event);
        }
        if link != segment.head.0 {
            return Err(session.damaged("the audit trail does not end where it was sealed"));
        }
        next = segment.end;
    }
    let rows: i64 = session
        .connection
        .query_row("SELECT count(*) FROM audit", [], |row| row.get(0))
        .map_err(session.sql())?;
    if rows.cast_unsigned() != next - 1 {
        return Err(session.damaged("the audit trail has more events than it counts"));
    }
    Ok(())
}

/// One event, if its link follows from the one before.
fn read(
    session: &Session<'_>,
    keys: &EpochKeys,
    seq: u64,
    before: &[u8; 32],
) -> Result<(AuditEvent, [u8; 32]), VaultError> {
    let row: Option<(Vec<u8>, [u8; 32])> = session
        .connection
        .prepare_cached("SELECT sealed, mac FROM audit WHERE seq = ?1")
        .and_then(|mut statement| {
            statement.query_row([seq.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(session.sql())?;
    let damaged = |what: &str| session.damaged(&format!("event {seq} of the audit trail {what}"));
    let (sealed, mac) = row.ok_or_else(|| damaged("is missing"))?;
    let link = keys.link(before, seq, &sealed);
    if link != mac {
        return Err(damaged("is not the one that was written there"));
    }
    let identity = seq.to_le_bytes();
    let plain = seal::open(&keys.sealing, context(keys, &identity), &sealed)
        .ok_or_else(|| damaged("does not open"))?;
    let event = serde_json::from_slice(&plain).map_err(|_| damaged("cannot be read"))?;
    Ok((event, link))
}

/// Moves some events from the older key to the current one; tells how many.
pub(super) fn rekey_some(session: &Session<'_>, most: u64) -> Result<u64, VaultError> {
    let [current, previous] = session.keys else { return Ok(0) };
    let mut from = Root::read(session.connection, session.path, previous)?;
    let mut to = Root::read(session.connection, session.path, current)?;
    let end = from.audit.end.min(from.audit.first.saturating_add(most));
    let moved = end - from.audit.first;
    for seq in from.audit.first..end {
        let (event, link) = read(session, previous, seq, &from.audit.start.0)?;
        from.audit.start = Link(link);
        from.audit.first = seq + 1;
        push(session, current, &mut to.audit, &event)?;
    }
    if moved > 0 {
        from.write(session.connection, previous).map_err(session.sql())?;
        to.write(session.connection, current).map_err(session.sql())?;
    }
    Ok(moved)
}

/// How many events are still under the older key.
pub(super) fn left_to_rekey(session: &Session<'_>) -> Result<u64, VaultError> {
    let [_, previous] = session.keys else { return Ok(0) };
    let segment = Root::read(session.connection, session.path, previous)?.audit;
    Ok(segment.end.saturating_sub(segment.first))
}

/// Makes the key for notes of a locked vault.
pub(super) fn make_key(session: &Session<'_>, mut root: Root) -> Result<(), VaultError> {
    let pair = KeyPair::of(SecretKey::generate()).ok_or_else(|| session.damaged("no key could be made"))?;
    root.set_audit_secret(&pair.secret);
    root.write(session.connection, session.current()).map_err(session.sql())?;
    let notes = Notes { vault_id: session.current().vault_id, key: Some(pair.public), pending: 0 };
    notes.write(session.connection).map_err(session.sql())
}

fn fold(session: &Session<'_>, notes: &Notes, pair: &KeyPair) -> Result<(), VaultError> {
    let context = note_context(&session.current().vault_id);
    let mut statement = session
        .connection
        .prepare("SELECT sealed, checksum FROM audit_pending ORDER BY seq")
        .map_err(session.sql())?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, [u8; 32]>(1)?)))
        .map_err(session.sql())?;
    let mut events = Vec::new();
    for row in rows {
        let (sealed, checksum) = row.map_err(session.sql())?;
        if sha256(&[&sealed]) != checksum {
            return Err(session.damaged("a note of the locked vault is not what was written"));
        }
        // anybody who may write the file can put a note there: it need not be one of ours
        let note = open_from(pair, context, &sealed).and_then(|plain| serde_json::from_slice(&plain).ok());
        events.push(
            note.unwrap_or_else(|| AuditEvent::new(UnixTime::from_seconds(0), "unknown", "unreadable_note")),
        );
    }
    if events.len() as u64 != notes.pending {
        return Err(session.damaged("notes of the locked vault are missing"));
    }
    append(session, &events)?;
    session.connection.execute("DELETE FROM audit_pending", []).map_err(session.sql())?;
    let notes = Notes { pending: 0, ..*notes };
    notes.write(session.connection).map_err(session.sql())
}

/// What the vault's row says of notes that wait.
#[derive(Clone, Copy)]
struct Notes {
    vault_id: [u8; 16],
    key: Option<[u8; 32]>,
    pending: u64,
}

impl Notes {
    fn read(connection: &Connection, session: &Session<'_>) -> Result<Self, VaultError> {
        let read = |row: &rusqlite::Row<'_>| {
            let pending = row.get::<_, i64>(2)?.cast_unsigned();
            let checksum: Option<[u8; 32]> = row.get(3)?;
            Ok((Self { vault_id: row.get(0)?, key: row.get(1)?, pending }, checksum))
        };
        let (notes, checksum) = connection
            .query_row(
                "SELECT vault_id, audit_key, pending, audit_checksum FROM vault WHERE id = 1",
                [],
                read,
            )
            .map_err(session.sql())?;
        let is_from_before = notes.key.is_none() && notes.pending == 0 && checksum.is_none();
        if !is_from_before && checksum != Some(notes.checksum()) {
            return Err(session.damaged("the checksum of its audit key is wrong"));
        }
        Ok(notes)
    }

    fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute(
            "UPDATE vault SET audit_key = ?1, pending = ?2, audit_checksum = ?3 WHERE id = 1",
            params![self.key, self.pending.cast_signed(), self.checksum()],
        )?;
        Ok(())
    }

    fn checksum(&self) -> [u8; 32] {
        let key = self.key.as_ref().map_or(&[][..], |key| key);
        sha256(&[b"tokenkeep vault audit", &self.vault_id, key, &self.pending.to_le_bytes()])
    }
}

const fn context<'a>(keys: &'a EpochKeys, seq: &'a [u8]) -> Context<'a> {
    Context { vault_id: &keys.vault_id, epoch: keys.epoch, table: "audit", space: "", identity: seq }
}

const fn note_context(vault_id: &[u8; 16]) -> Context<'_> {
    Context { vault_id, epoch: 0, table: "audit_pending", space: "", identity: &[] }
}

/// The event of something done by this process.
pub(super) fn by_us(clock: &dyn Clock, actor: &str, action: &str) -> AuditEvent {
    AuditEvent::new(clock.now(), format!("{actor} (process {})", std::process::id()), action)
}

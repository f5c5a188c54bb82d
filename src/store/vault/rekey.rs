//! A new data key: every slot gets it at once, every row soon after.
//!
//! The first transaction makes the new epoch; from then on the old key opens nothing that is
//! written. The rows follow in small transactions, the old key sealed under the new one until
//! the last of them has moved. A kill at any instant leaves a vault that opens and a rekey that
//! goes on where it stopped.

use rusqlite::params;

use crate::error::VaultError;
use crate::time::Deadline;

use super::audit;
use super::file::sql;
use super::header::Header;
use super::keys::{EpochKeys, SecretKey};
use super::root::{self, Root};
use super::session::Session;
use super::slots::check_listed;
use super::space::{Put, Space};
use super::{Vault, rows};

/// Rows of one transaction: no other writer waits longer than these take.
const BATCH: usize = 128;

/// How far a rekey is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RekeyProgress {
    /// Rows that are under the new key.
    pub done: u64,
    /// Rows in all.
    pub total: u64,
}

/// What a rekey left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct RekeyOutcome {
    /// Whether the file was also compacted, so that nothing under an old key is left in its
    /// unused pages. Another program that reads at that moment prevents it; a second run does it.
    pub compacted: bool,
}

impl Vault {
    /// Makes a new data key and moves everything under it.
    ///
    /// # Errors
    /// What the disk says, and [`VaultError::Damaged`]; a part of the rows may have moved then,
    /// and [`Self::finish_rekey`] moves the rest.
    pub fn rekey(
        &self,
        deadline: Deadline,
        progress: impl FnMut(RekeyProgress),
    ) -> Result<RekeyOutcome, VaultError> {
        if self.has_unfinished_rekey() {
            self.move_rows(deadline, &mut |_| {})?;
        }
        self.begin_rekey(deadline, |session, header| {
            check_listed(session, header)?;
            audit::append(session, &[self.event("rekeyed")])
        })?;
        self.finish_rekey(deadline, progress)
    }

    /// Whether rows are still under an older key: a rekey was interrupted.
    #[must_use]
    pub fn has_unfinished_rekey(&self) -> bool {
        self.shared.keys().len() > 1
    }

    /// Goes on with a rekey that was interrupted, and compacts the file.
    ///
    /// # Errors
    /// As [`Self::rekey`].
    pub fn finish_rekey(
        &self,
        deadline: Deadline,
        mut progress: impl FnMut(RekeyProgress),
    ) -> Result<RekeyOutcome, VaultError> {
        self.move_rows(deadline, &mut progress)?;
        Ok(RekeyOutcome { compacted: self.compact(deadline)? })
    }

    /// The one transaction that changes the key, together with what the caller changes about the
    /// protectors. Nobody is asked: the new key is sealed to each slot's public key.
    pub(super) fn begin_rekey(
        &self,
        deadline: Deadline,
        change: impl FnOnce(&Session<'_>, &mut Header) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let made = self.shared.write_and(
            deadline,
            |session| {
                let mut header = Header::read(session.connection, session.path)?;
                change(session, &mut header)?;
                begin(session, &mut header)
            },
            // before any other change of this process looks at the file
            |keys| self.shared.set_keys(keys),
        );
        made.map(drop)
    }

    fn move_rows(
        &self,
        deadline: Deadline,
        progress: &mut dyn FnMut(RekeyProgress),
    ) -> Result<(), VaultError> {
        let (mut total, mut done) = (None, 0);
        loop {
            let (moved, left, keys) = self.shared.write_and(
                deadline,
                |session| {
                    let left = left(session)?;
                    let moved = if left == 0 { 0 } else { move_some(session)? };
                    let keys = if left == moved { Some(end(session)?) } else { None };
                    Ok((moved, left, keys))
                },
                |(_, _, keys)| {
                    if let Some(keys) = keys {
                        self.shared.set_keys(keys);
                    }
                },
            )?;
            done += moved;
            let total = *total.get_or_insert(left);
            progress(RekeyProgress { done, total: total.max(done) });
            if keys.is_some() {
                return Ok(());
            }
        }
    }

    /// Gives unused pages back and empties the log: both may hold rows under an older key.
    fn compact(&self, deadline: Deadline) -> Result<bool, VaultError> {
        self.shared.with_writer(|connection| {
            let path = &self.shared.path;
            connection.busy_timeout(deadline.remaining()).map_err(sql(path))?;
            for statement in ["PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"]
            {
                let done = if statement == "VACUUM" {
                    connection.execute_batch(statement).map(|()| true)
                } else {
                    connection.query_row(statement, [], |row| Ok(row.get::<_, i64>(0)? == 0))
                };
                match done.map_err(sql(path)) {
                    Ok(true) => {}
                    Ok(false) | Err(VaultError::Busy { .. }) => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            Ok(true)
        })
    }
}

fn begin(session: &Session<'_>, header: &mut Header) -> Result<Vec<EpochKeys>, VaultError> {
    let [previous] = session.keys else {
        return Err(session.damaged("a rekey was begun before the last one ended"));
    };
    let old_root = Root::read(session.connection, session.path, previous)?;
    let epoch = previous.epoch + 1;
    let data = SecretKey::generate();
    let current = EpochKeys::new(previous.vault_id, epoch, data.clone());

    header.epoch = epoch;
    for slot in &mut header.slots {
        slot.reseal(&previous.vault_id, epoch, &data)
            .ok_or_else(|| session.damaged("a protector's public key is none"))?;
    }
    header.write(session.connection).map_err(session.sql())?;

    let mut root = Root::new();
    root.previous = Some(previous.epoch);
    root.set_protectors(&header.protectors());
    root.audit_secret_of(&old_root);
    root.write(session.connection, &current).map_err(session.sql())?;
    root::keep_previous(session.connection, &current, previous).map_err(session.sql())?;
    Ok(vec![current, previous.again()])
}

fn left(session: &Session<'_>) -> Result<u64, VaultError> {
    let [_, previous] = session.keys else { return Ok(0) };
    let mut left = audit::left_to_rekey(session)?;
    for name in Root::read(session.connection, session.path, previous)?.spaces {
        left += Space::open(session, &name)?.len_of_previous();
    }
    Ok(left)
}

pub(super) fn move_some(session: &Session<'_>) -> Result<u64, VaultError> {
    let [_, previous] = session.keys else { return Ok(0) };
    let root = Root::read(session.connection, session.path, previous)?;
    if let Some(name) = root.spaces.first() {
        let mut space = Space::open(session, name)?;
        let rows = space.rows_of_previous(BATCH)?;
        if rows.is_empty() {
            return Err(session.damaged("rows of an older key are missing"));
        }
        let puts: Vec<_> = rows
            .iter()
            .map(|row| Put {
                bundle: rows::bundle_of(&row.item),
                item: row.item.clone(),
                replaces: Some(row),
            })
            .collect();
        let moved = puts.len() as u64;
        space.write([], puts)?;
        return Ok(moved);
    }
    audit::rekey_some(session, BATCH as u64)
}

/// Nothing is under the older key any more: it goes.
fn end(session: &Session<'_>) -> Result<Vec<EpochKeys>, VaultError> {
    let current = session.current();
    let mut root = Root::read(session.connection, session.path, current)?;
    if let Some(previous) = root.previous.take() {
        root.write(session.connection, current).map_err(session.sql())?;
        session
            .connection
            .execute("DELETE FROM epoch WHERE epoch = ?1", params![previous.cast_signed()])
            .map_err(session.sql())?;
    }
    Ok(vec![current.again()])
}

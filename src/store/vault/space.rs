//! One document's rows: found by blind indexes, sealed one by one, and counted in a sealed head,
//! so that a row that went missing, came back or moved is noticed.
//!
//! Rows fall into 256 buckets by the first byte of their bundle's index. The head holds a keyed
//! total for each, so checking one bucket takes a look at its index entries only, however large
//! the document is.

mod head;
mod row;

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{CachedStatement, OptionalExtension as _, params};

use crate::error::VaultError;

use super::keys::Blind;
use super::root::Root;
use super::seal;
use super::session::Session;

pub(super) use self::head::{HeadMark, stamp};
pub(super) use self::row::{Bundle, Found, Item, Put, Stored};

use self::head::{Head, Part, head_context, mark_of, space_index, total};
use self::row::{entry_context, identity_of, tag_of};

const UNEQUAL_TOTAL: &str = "rows of a document are missing, old or not its own";

/// A document as the transaction sees it.
pub(super) struct Space<'s> {
    session: &'s Session<'s>,
    name: &'s str,
    parts: Vec<Part<'s>>,
}

impl<'s> Space<'s> {
    /// Reads and opens the heads. A document that was never written has none.
    pub(super) fn open(session: &'s Session<'s>, name: &'s str) -> Result<Self, VaultError> {
        let parts = session.keys.iter().map(|keys| Part::open(session, name, keys));
        Ok(Self { session, name, parts: parts.collect::<Result<_, _>>()? })
    }

    /// What changes with each write.
    pub(super) fn stamp(&self) -> u64 {
        self.parts.iter().fold(0, |stamp, part| stamp ^ part.head.stamp())
    }

    /// How many rows it has.
    pub(super) fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.head.rows).sum()
    }

    /// How many of them are under the older key.
    pub(super) fn len_of_previous(&self) -> u64 {
        self.parts[1..].iter().map(|part| part.head.rows).sum()
    }

    /// An order number greater than all that were given.
    pub(super) fn next_order(&mut self) -> u64 {
        let next = self.parts.iter().map(|part| part.head.next_order).max().unwrap_or(0);
        self.parts[0].head.next_order = next.saturating_add(1);
        next
    }

    /// The rows of some bundles, in the document's order.
    pub(super) fn rows_of(&mut self, bundles: &BTreeSet<Bundle>) -> Result<Vec<Stored>, VaultError> {
        let mut rows = Vec::new();
        for at in 0..self.parts.len() {
            let part = &self.parts[at];
            let wanted: BTreeSet<Blind> =
                bundles.iter().map(|bundle| bundle.index(part.keys, self.name)).collect();
            let buckets: BTreeSet<u8> = wanted.iter().map(|index| index[0]).collect();
            for bucket in buckets {
                for &found in self.seen_bucket(at, bucket)?.iter() {
                    if wanted.contains(&found.bundle) {
                        rows.push(self.fetch(at, found)?);
                    }
                }
            }
        }
        rows.sort_by_key(|row| row.item.order);
        Ok(rows)
    }

    /// All rows, in the document's order.
    pub(super) fn all(&mut self) -> Result<Vec<Stored>, VaultError> {
        let mut rows = Vec::new();
        for at in 0..self.parts.len() {
            let before = rows.len();
            for found in self.whole_part(at)? {
                rows.push(self.fetch(at, found)?);
            }
            if (rows.len() - before) as u64 != self.parts[at].head.rows {
                return Err(self.session.damaged("rows of a document are missing or too many"));
            }
        }
        rows.sort_by_key(|row| row.item.order);
        Ok(rows)
    }

    /// Rows of the epoch before the current one, as many as that or fewer.
    pub(super) fn rows_of_previous(&mut self, most: usize) -> Result<Vec<Stored>, VaultError> {
        let mut rows = Vec::new();
        for at in 1..self.parts.len() {
            for bucket in 0..=u8::MAX {
                if rows.len() >= most {
                    return Ok(rows);
                }
                if self.parts[at].head.totals[usize::from(bucket)] == [0; 16] {
                    continue;
                }
                let found = self.verified_bucket(at, bucket)?;
                for found in found.into_iter().take(most - rows.len()) {
                    rows.push(self.fetch(at, found)?);
                }
            }
        }
        Ok(rows)
    }

    /// The row at this very place of the document, whichever bundle it is in.
    pub(super) fn row_at(&mut self, path: &[String]) -> Result<Option<Stored>, VaultError> {
        for at in 0..self.parts.len() {
            let identity = identity_of(self.parts[at].keys, self.name, path);
            let found = self
                .statement("SELECT id, bundle, identity, tag FROM entry WHERE identity = ?1")?
                .query_row([identity], Found::read)
                .optional()
                .map_err(self.session.sql())?;
            if let Some(found) = found {
                self.verify(at, found.bundle[0])?;
                return self.fetch(at, found).map(Some);
            }
        }
        Ok(None)
    }

    /// The row at this place if it is in this bundle; its absence is certain, too.
    pub(super) fn row_in(&mut self, bundle: &Bundle, path: &[String]) -> Result<Option<Stored>, VaultError> {
        let rows = self.rows_of(&BTreeSet::from([bundle.clone()]))?;
        Ok(rows.into_iter().find(|row| row.item.path == path))
    }

    /// Removes rows and writes others, and the heads that cover them. Writes nothing if there is
    /// nothing to do.
    pub(super) fn write<'r>(
        &mut self,
        removed: impl IntoIterator<Item = &'r Stored>,
        puts: impl IntoIterator<Item = Put<'r>>,
    ) -> Result<(), VaultError> {
        let mut touched = BTreeSet::new();
        for row in removed {
            self.remove(row, &mut touched)?;
        }
        for put in puts {
            self.put(&put, &mut touched)?;
        }
        for (at, bucket) in &touched {
            let rows = self.bucket(*at, *bucket)?;
            let part = &mut self.parts[*at];
            part.head.totals[usize::from(*bucket)] = total(part.keys, self.name, *bucket, &rows);
        }
        let parts: BTreeSet<usize> = touched.into_iter().map(|(at, _)| at).collect();
        parts.into_iter().try_for_each(|at| self.write_head(at))
    }

    /// Removes the document with all that is left of it, readable or not.
    pub(super) fn erase(session: &Session<'_>, name: &str) -> Result<(), VaultError> {
        for keys in session.keys.iter() {
            let index = space_index(keys, name);
            for statement in ["DELETE FROM entry WHERE space = ?1", "DELETE FROM space WHERE space = ?1"] {
                session.connection.execute(statement, [index]).map_err(session.sql())?;
            }
            let mut root = Root::read(session.connection, session.path, keys)?;
            if root.spaces.iter().any(|space| space == name) {
                root.spaces.retain(|space| space != name);
                root.write(session.connection, keys).map_err(session.sql())?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, row: &Stored, touched: &mut BTreeSet<(usize, u8)>) -> Result<(), VaultError> {
        let bucket = row.found.bundle[0];
        self.verify(row.part, bucket)?;
        let gone = self
            .statement("DELETE FROM entry WHERE id = ?1")?
            .execute([row.found.id])
            .map_err(self.session.sql())?;
        if gone != 1 {
            return Err(self.session.damaged("a row disappeared"));
        }
        let head = &mut self.parts[row.part].head;
        head.rows = head.rows.saturating_sub(1);
        touched.insert((row.part, bucket));
        Ok(())
    }

    fn put(&mut self, put: &Put<'_>, touched: &mut BTreeSet<(usize, u8)>) -> Result<(), VaultError> {
        let keys = self.parts[0].keys;
        let bundle = put.bundle.index(keys, self.name);
        let identity = identity_of(keys, self.name, &put.item.path);
        self.verify(0, bundle[0])?;

        let plain = seal::to_json(&put.item);
        let sealed = seal::seal(&keys.sealing, entry_context(keys, self.name, &identity), &plain);
        let tag = tag_of(&sealed);
        match put.replaces {
            Some(old) if old.part == 0 => {
                let bucket = old.found.bundle[0];
                self.verify(0, bucket)?;
                touched.insert((0, bucket));
                self.statement("UPDATE entry SET bundle = ?2, tag = ?3, sealed = ?4 WHERE id = ?1")?
                    .execute(params![old.found.id, bundle, tag, sealed])
                    .map_err(self.session.sql())?;
            }
            old => {
                if let Some(old) = old {
                    self.remove(old, touched)?;
                }
                let index = self.parts[0].index;
                self.statement(
                    "INSERT INTO entry (space, bundle, identity, tag, sealed) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![index, bundle, identity, tag, sealed])
                .map_err(self.session.sql())?;
                self.parts[0].head.rows += 1;
            }
        }
        touched.insert((0, bundle[0]));
        Ok(())
    }

    fn write_head(&mut self, at: usize) -> Result<(), VaultError> {
        let session = self.session;
        let part = &mut self.parts[at];
        if at > 0 && part.head.rows == 0 {
            // the last row of an older epoch is gone, and so is that part of the document
            return Self::forget_part(session, self.name, part);
        }
        let plain = part.head.to_bytes();
        let sealed = seal::seal(&part.keys.sealing, head_context(part.keys, self.name), &plain);
        part.head.mark = mark_of(&sealed);
        session
            .connection
            .prepare_cached(
                "INSERT INTO space (space, head) VALUES (?1, ?2)
                 ON CONFLICT (space) DO UPDATE SET head = excluded.head",
            )
            .and_then(|mut statement| statement.execute(params![part.index, sealed]))
            .map_err(session.sql())?;
        if !part.is_listed {
            let mut root = Root::read(session.connection, session.path, part.keys)?;
            root.spaces.push(self.name.to_owned());
            root.write(session.connection, part.keys).map_err(session.sql())?;
            part.is_listed = true;
        }
        Ok(())
    }

    fn forget_part(session: &Session<'_>, name: &str, part: &mut Part<'_>) -> Result<(), VaultError> {
        session
            .connection
            .execute("DELETE FROM space WHERE space = ?1", [part.index])
            .map_err(session.sql())?;
        let mut root = Root::read(session.connection, session.path, part.keys)?;
        root.spaces.retain(|space| space != name);
        part.is_listed = false;
        part.head = Head::default();
        root.write(session.connection, part.keys).map_err(session.sql())
    }

    /// The same as [`Self::verified_bucket`], but a reader looks only once as long as the head stays.
    fn seen_bucket(&mut self, at: usize, bucket: u8) -> Result<Arc<[Found]>, VaultError> {
        let Some(seen) = self.session.seen else { return Ok(self.verified_bucket(at, bucket)?.into()) };
        let (index, mark) = (self.parts[at].index, self.parts[at].head.mark);
        let known = seen.borrow().bucket(&index, &mark, bucket);
        if let Some(known) = known {
            return Ok(known);
        }
        let found: Arc<[Found]> = self.verified_bucket(at, bucket)?.into();
        seen.borrow_mut().keep(index, mark, bucket, Arc::clone(&found));
        Ok(found)
    }

    /// The index entries of a bucket, after they were found to be those that the head counts.
    fn verified_bucket(&mut self, at: usize, bucket: u8) -> Result<Vec<Found>, VaultError> {
        let rows = self.bucket(at, bucket)?;
        let part = &mut self.parts[at];
        // the transaction sees one state, and what it writes itself is only in the head at its end
        if !part.verified.contains(&bucket) {
            if total(part.keys, self.name, bucket, &rows) != part.head.totals[usize::from(bucket)] {
                return Err(self.session.damaged(UNEQUAL_TOTAL));
            }
            part.verified.insert(bucket);
        }
        Ok(rows)
    }

    /// A bucket is looked at before anything in it changes: a new total must not cover up damage.
    fn verify(&mut self, at: usize, bucket: u8) -> Result<(), VaultError> {
        if self.parts[at].verified.contains(&bucket) {
            return Ok(());
        }
        self.verified_bucket(at, bucket).map(drop)
    }

    fn bucket(&self, at: usize, bucket: u8) -> Result<Vec<Found>, VaultError> {
        let after = bucket.checked_add(1).map_or_else(|| vec![u8::MAX; 17], |next| vec![next]);
        self.statement(
            "SELECT id, bundle, identity, tag FROM entry INDEXED BY entry_by_bundle
             WHERE space = ?1 AND bundle >= ?2 AND bundle < ?3 ORDER BY bundle, identity, tag",
        )?
        .query_map(params![self.parts[at].index, [bucket], after], Found::read)
        .and_then(Iterator::collect)
        .map_err(self.session.sql())
    }

    fn whole_part(&mut self, at: usize) -> Result<Vec<Found>, VaultError> {
        let part = &self.parts[at];
        let rows: Vec<Found> = self
            .statement(
                "SELECT id, bundle, identity, tag FROM entry INDEXED BY entry_by_bundle
                 WHERE space = ?1 ORDER BY bundle, identity, tag",
            )?
            .query_map([part.index], Found::read)
            .and_then(Iterator::collect)
            .map_err(self.session.sql())?;
        let mut rest = rows.as_slice();
        for bucket in 0..=u8::MAX {
            let end = rest.iter().position(|row| row.bundle[0] != bucket).unwrap_or(rest.len());
            let (own, others) = rest.split_at(end);
            rest = others;
            if total(part.keys, self.name, bucket, own) != part.head.totals[usize::from(bucket)] {
                return Err(self.session.damaged(UNEQUAL_TOTAL));
            }
        }
        if !rest.is_empty() {
            return Err(self.session.damaged("the index of a document is not in order"));
        }
        self.parts[at].verified.extend(0..=u8::MAX);
        Ok(rows)
    }

    /// Opens a row and makes sure that it is what its index entry says.
    fn fetch(&self, at: usize, found: Found) -> Result<Stored, VaultError> {
        let part = &self.parts[at];
        let damaged = || self.session.damaged("a row does not open, or is not the one its index names");
        let row: Option<(Blind, Blind, Blind, Blind, Vec<u8>)> = self
            .statement("SELECT space, bundle, identity, tag, sealed FROM entry WHERE id = ?1")?
            .query_row([found.id], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()
            .map_err(self.session.sql())?;
        let (space, bundle, identity, tag, sealed) = row.ok_or_else(damaged)?;
        if (space, bundle, identity, tag) != (part.index, found.bundle, found.identity, found.tag)
            || tag_of(&sealed) != tag
        {
            return Err(damaged());
        }
        let context = entry_context(part.keys, self.name, &identity);
        let plain = seal::open(&part.keys.sealing, context, &sealed).ok_or_else(damaged)?;
        let item: Item = serde_json::from_slice(&plain).map_err(|_| damaged())?;
        if identity_of(part.keys, self.name, &item.path) != identity {
            return Err(damaged());
        }
        Ok(Stored { part: at, found, item })
    }

    fn statement(&self, text: &str) -> Result<CachedStatement<'s>, VaultError> {
        self.session.connection.prepare_cached(text).map_err(self.session.sql())
    }
}

/// For the test vectors: the pieces that another implementation has to get right.
#[cfg(test)]
pub(super) fn vector(
    keys: &super::keys::EpochKeys,
    name: &str,
    path: &[String],
    bundle: &Bundle,
) -> [Blind; 3] {
    [space_index(keys, name), bundle.index(keys, name), identity_of(keys, name, path)]
}

//! What can be read of a vault without opening it: its id, its epoch, its protectors.
//!
//! Plain checksums tell damage from a wrong passphrase; they stop nobody. What must not be
//! exchanged is repeated in the sealed root.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use crate::error::VaultError;
use crate::time::UnixTime;

use super::file::sql;
use super::keys::{SecretKey, length_prefixed};
use super::protector::{ProtectorKind, SlotContext, Wrapped};
use super::seal::{Context, KeyPair, open_from, seal_to};

/// More slots than anybody has ways to open a vault.
const MOST_SLOTS: usize = 64;
const LONGEST_PARAMETERS: usize = 4096;

/// The vault's one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) vault_id: [u8; 16],
    pub(super) epoch: u64,
    pub(super) slots: Vec<Slot>,
}

impl Header {
    /// Reads the row and the slots, and checks all checksums.
    pub(super) fn read(connection: &Connection, path: &Path) -> Result<Self, VaultError> {
        let damaged = |detail: &str| VaultError::Damaged { path: path.to_owned(), detail: detail.to_owned() };
        let row = connection
            .prepare_cached("SELECT vault_id, epoch, protectors, checksum FROM vault WHERE id = 1")
            .and_then(|mut statement| {
                statement
                    .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                    .optional()
            })
            .map_err(sql(path))?;
        let (vault_id, epoch, protectors, checksum): ([u8; 16], i64, [u8; 32], [u8; 32]) =
            row.ok_or_else(|| damaged("its first row is missing"))?;
        let epoch = u64::try_from(epoch).map_err(|_| damaged("its epoch is no number of one"))?;
        if checksum_of(&vault_id, epoch, &protectors) != checksum {
            return Err(damaged("the checksum of its first row is wrong"));
        }
        let slots = Slot::read_all(connection, path, &vault_id)?;
        if digest(&slots, &vault_id) != protectors {
            return Err(damaged("its protectors are not the ones it lists"));
        }
        if slots.is_empty() || slots.iter().any(|slot| slot.epoch != epoch) {
            return Err(damaged("a protector opens another epoch than the current one"));
        }
        Ok(Self { vault_id, epoch, slots })
    }

    /// Of a vault that could not be read again; nothing opens it, and the next look says why.
    pub(super) const fn unknown() -> Self {
        Self { vault_id: [0; 16], epoch: 0, slots: Vec::new() }
    }

    /// Writes the row and the slots, in the transaction that the caller has begun.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let protectors = self.protectors();
        connection.execute(
            "INSERT INTO vault (id, format, vault_id, epoch, protectors, checksum) VALUES (1, ?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, protectors = excluded.protectors,
                 checksum = excluded.checksum",
            params![
                super::schema::FORMAT,
                self.vault_id,
                self.epoch.cast_signed(),
                protectors,
                checksum_of(&self.vault_id, self.epoch, &protectors)
            ],
        )?;
        connection.execute("DELETE FROM protector", [])?;
        for slot in &self.slots {
            slot.write(connection, &self.vault_id)?;
        }
        Ok(())
    }

    /// What all slots add up to: the sealed root repeats it.
    pub(super) fn protectors(&self) -> [u8; 32] {
        digest(&self.slots, &self.vault_id)
    }

    /// The number of the next slot: never one that was used before, as far as we can see.
    pub(super) fn next_slot(&self) -> u32 {
        self.slots.iter().map(|slot| slot.slot).max().map_or(1, |last| last.saturating_add(1))
    }
}

/// One way to open the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) slot: u32,
    pub(super) kind: ProtectorKind,
    pub(super) created: UnixTime,
    pub(super) wrapped: Wrapped,
    pub(super) public: [u8; 32],
    pub(super) epoch: u64,
    pub(super) sealed_key: Vec<u8>,
}

impl Slot {
    /// Seals another data key to this slot; nobody is asked for anything.
    pub(super) fn reseal(&mut self, vault_id: &[u8; 16], epoch: u64, data: &SecretKey) -> Option<()> {
        self.epoch = epoch;
        self.sealed_key = seal_to(&self.public, self.context(vault_id), data.expose())?;
        Some(())
    }

    /// The data key, by the slot's secret key.
    pub(super) fn open(&self, vault_id: &[u8; 16], secret: SecretKey) -> Option<SecretKey> {
        let pair = KeyPair::of(secret).filter(|pair| pair.public == self.public)?;
        SecretKey::from_bytes(&open_from(&pair, self.context(vault_id), &self.sealed_key)?)
    }

    pub(super) const fn protector_context(vault_id: &[u8; 16]) -> SlotContext<'_> {
        SlotContext { vault_id }
    }

    const fn context<'a>(&self, vault_id: &'a [u8; 16]) -> Context<'a> {
        Context { vault_id, epoch: self.epoch, table: "data key", space: "", identity: &[] }
    }

    fn read_all(connection: &Connection, path: &Path, vault_id: &[u8; 16]) -> Result<Vec<Self>, VaultError> {
        let damaged = |detail: String| VaultError::Damaged { path: path.to_owned(), detail };
        let mut statement = connection
            .prepare_cached(
                "SELECT slot, kind, created, parameters, public_key, wrapped, epoch, sealed_key, checksum
                 FROM protector ORDER BY slot",
            )
            .map_err(sql(path))?;
        let mut rows = statement.query([]).map_err(sql(path))?;
        let mut slots = Vec::new();
        while let Some(row) = rows.next().map_err(sql(path))? {
            let read = || -> rusqlite::Result<_> {
                let kind: String = row.get(1)?;
                let created: i64 = row.get(2)?;
                let wrapped = Wrapped { parameters: row.get(3)?, sealed: row.get(5)? };
                let slot = Self {
                    slot: row.get(0)?,
                    kind: ProtectorKind::Recovery,
                    created: UnixTime::from_seconds(created),
                    wrapped,
                    public: row.get(4)?,
                    epoch: row.get::<_, i64>(6)?.cast_unsigned(),
                    sealed_key: row.get(7)?,
                };
                let checksum: [u8; 32] = row.get(8)?;
                Ok((kind, slot, checksum))
            };
            let (kind, mut slot, checksum) = read().map_err(sql(path))?;
            if slots.len() == MOST_SLOTS || slot.wrapped.parameters.len() > LONGEST_PARAMETERS {
                return Err(damaged("it has more or longer protectors than a vault may".to_owned()));
            }
            let number = slot.slot;
            if slot.checksum(vault_id, &kind) != checksum {
                return Err(damaged(format!("the checksum of protector {number} is wrong")));
            }
            slot.kind = ProtectorKind::from_name(&kind)
                .ok_or_else(|| damaged(format!("protector {number} is of an unknown kind")))?;
            slots.push(slot);
        }
        Ok(slots)
    }

    fn write(&self, connection: &Connection, vault_id: &[u8; 16]) -> rusqlite::Result<()> {
        connection.execute(
            "INSERT INTO protector
                 (slot, kind, created, parameters, public_key, wrapped, epoch, sealed_key, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                self.slot,
                self.kind.as_str(),
                self.created.seconds(),
                self.wrapped.parameters,
                self.public,
                self.wrapped.sealed,
                self.epoch.cast_signed(),
                self.sealed_key,
                self.checksum(vault_id, self.kind.as_str())
            ],
        )?;
        Ok(())
    }

    fn checksum(&self, vault_id: &[u8; 16], kind: &str) -> [u8; 32] {
        sha256(&[
            b"tokenkeep vault protector",
            vault_id,
            &self.slot.to_le_bytes(),
            kind.as_bytes(),
            &self.created.seconds().to_le_bytes(),
            self.wrapped.parameters.as_bytes(),
            &self.public,
            &self.wrapped.sealed,
            &self.epoch.to_le_bytes(),
            &self.sealed_key,
        ])
    }
}

/// SHA-256 of parts that cannot run into each other.
pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(length_prefixed(parts).as_slice()).into()
}

fn digest(slots: &[Slot], vault_id: &[u8; 16]) -> [u8; 32] {
    let all: Vec<_> = slots.iter().map(|slot| slot.checksum(vault_id, slot.kind.as_str())).collect();
    sha256(&[b"tokenkeep vault protectors", all.as_flattened()])
}

fn checksum_of(vault_id: &[u8; 16], epoch: u64, protectors: &[u8; 32]) -> [u8; 32] {
    sha256(&[b"tokenkeep vault header", vault_id, &epoch.to_le_bytes(), protectors])
}

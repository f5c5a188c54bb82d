//! The ways to open a vault: listed, added and removed.

use std::path::Path;

use crate::error::VaultError;
use crate::time::{Deadline, UnixTime};

use super::header::{Header, Slot};
use super::protector::{self, Protector, ProtectorKind};
use super::rekey::{RekeyOutcome, RekeyProgress};
use super::root::Root;
use super::seal::KeyPair;
use super::session::Session;
use super::{Vault, audit};

/// One way to open a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtectorSummary {
    /// Its number, by which it is removed.
    pub slot: u32,
    /// What it is.
    pub kind: ProtectorKind,
    /// Since when it is there.
    pub created: UnixTime,
}

impl ProtectorSummary {
    pub(super) const fn of(slot: &Slot) -> Self {
        Self { slot: slot.slot, kind: slot.kind, created: slot.created }
    }
}

/// What becomes of the data key when a protector goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterRemoval {
    /// A new one, because an old copy of the file still opens to who had the protector.
    #[default]
    Rekey,
    /// It stays: what the protector kept is destroyed, as the kernel's key is when it forgets.
    KeepKey,
}

impl Vault {
    /// The ways to open it.
    ///
    /// # Errors
    /// [`VaultError::Damaged`], and what the disk says.
    pub fn protectors(&self) -> Result<Vec<ProtectorSummary>, VaultError> {
        let header = self.shared.read(|session| Header::read(session.connection, session.path))?;
        Ok(header.slots.iter().map(ProtectorSummary::of).collect())
    }

    /// Adds a way to open it; gives its number.
    ///
    /// # Errors
    /// [`VaultError::Protector`], and what the disk says.
    pub fn add_protector(&self, protector: &dyn Protector, deadline: Deadline) -> Result<u32, VaultError> {
        let mut made =
            new_slot(&self.shared.path, &self.shared.vault_id, protector, self.shared.clock.now())?;
        let added = self.shared.write(deadline, |session| {
            let mut header = Header::read(session.connection, session.path)?;
            check_listed(session, &header)?;
            made.slot = header.next_slot();
            made.reseal(&header.vault_id, header.epoch, &session.current().data)
                .ok_or_else(|| session.damaged("a protector's public key is none"))?;
            header.slots.push(made.clone());
            header.write(session.connection).map_err(session.sql())?;
            seal_protectors(session, &header)?;
            let event = self.event("protector_added").subject(format!("{} {}", made.slot, made.kind));
            audit::append(session, &[event])?;
            Ok(made.slot)
        });
        added.inspect_err(|_| {
            if let Err(error) = protector.forget(&made.wrapped) {
                tracing::warn!(%error, "what was made for a protector that was not added is left");
            }
        })
    }

    /// Removes a way to open it, and destroys what it kept in a keyring.
    ///
    /// With [`AfterRemoval::Rekey`] everything else gets a new data key: an interrupted one is
    /// finished by [`Self::finish_rekey`], and the protector is gone from its first instant on.
    ///
    /// # Errors
    /// [`VaultError::LastProtector`], [`VaultError::NoSuchProtector`], and what the disk says.
    pub fn remove_protector(
        &self,
        slot: u32,
        after: AfterRemoval,
        deadline: Deadline,
        progress: impl FnMut(RekeyProgress),
    ) -> Result<Option<RekeyOutcome>, VaultError> {
        let path = &self.shared.path;
        let mut removed = None;
        let mut take_out = |session: &Session<'_>, header: &mut Header| {
            check_listed(session, header)?;
            let at = header.slots.iter().position(|known| known.slot == slot);
            let at = at.ok_or_else(|| VaultError::NoSuchProtector {
                path: path.clone(),
                wanted: slot.to_string(),
            })?;
            if header.slots.len() == 1 {
                return Err(VaultError::LastProtector { path: path.clone(), slot });
            }
            let taken = header.slots.remove(at);
            let event = self.event("protector_removed").subject(format!("{slot} {}", taken.kind));
            removed = Some(taken);
            audit::append(session, &[event])
        };
        let outcome = match after {
            AfterRemoval::Rekey => {
                if self.has_unfinished_rekey() {
                    let _compacted_later = self.finish_rekey(deadline, |_| {})?;
                }
                self.begin_rekey(deadline, take_out)?;
                Some(self.finish_rekey(deadline, progress)?)
            }
            AfterRemoval::KeepKey => {
                self.shared.write(deadline, |session| {
                    let mut header = Header::read(session.connection, session.path)?;
                    take_out(session, &mut header)?;
                    header.write(session.connection).map_err(session.sql())?;
                    seal_protectors(session, &header)
                })?;
                None
            }
        };
        if let Some(removed) = removed {
            protector::forget(removed.kind, &removed.wrapped);
        }
        Ok(outcome)
    }
}

pub(super) fn new_slot(
    path: &Path,
    vault_id: &[u8; 16],
    protector: &dyn Protector,
    now: UnixTime,
) -> Result<Slot, VaultError> {
    let pair = KeyPair::generate().ok_or_else(|| no_key(path))?;
    let wrapped = protector
        .wrap(&pair.secret, &Slot::protector_context(vault_id))
        .map_err(|source| VaultError::Protector { path: path.to_owned(), source })?;
    Ok(Slot {
        slot: 0,
        kind: protector.kind(),
        created: now,
        wrapped,
        public: pair.public,
        epoch: 0,
        sealed_key: Vec::new(),
    })
}

pub(super) fn no_key(path: &Path) -> VaultError {
    VaultError::io("make a key for", path)(std::io::Error::other("the cryptographic library refused"))
}

/// The slots' public keys are in the clear: before anything is sealed to them, they must be the
/// ones that whoever last had the key has sealed.
pub(super) fn check_listed(session: &Session<'_>, header: &Header) -> Result<(), VaultError> {
    let root = Root::read(session.connection, session.path, session.current())?;
    if root.lists_protectors(&header.protectors()) {
        Ok(())
    } else {
        Err(session.damaged("its protectors are not the ones that were sealed"))
    }
}

fn seal_protectors(session: &Session<'_>, header: &Header) -> Result<(), VaultError> {
    let mut root = Root::read(session.connection, session.path, session.current())?;
    root.set_protectors(&header.protectors());
    root.write(session.connection, session.current()).map_err(session.sql())
}

//! Doing what a finding says, under the cache's own lock and only as far as it is still so.

use std::path::{Path, PathBuf};

use super::super::memory::Memory;
use super::{Examination, Finding};
use crate::agent_client::AgentClient;
use crate::document::{Change, ChangeSet, Defect};
use crate::error::CacheError;
use crate::time::{Clock as _, Deadline, SystemClock, UnixTime};

/// What would be done about a finding.
#[derive(Clone, Debug)]
pub struct Repair(pub(super) Work);

#[derive(Clone, Debug)]
pub(super) enum Work {
    /// The socket of an agent that was killed is removed.
    AgentSocket(PathBuf),
    /// Something is done to a cache, by its number among those that were found.
    Cache { place: usize, task: Task },
    /// What was learned of dead refresh tokens, and is damaged, is renamed.
    Revocations(Memory),
}

#[derive(Clone, Debug)]
pub(super) enum Task {
    /// Locks of dead processes are taken over and let go.
    FreeLocks,
    /// Entries are mended.
    Mend { defect: Defect, now: UnixTime },
    /// Refresh tokens that the provider called dead, each only if it is still that one.
    RemoveDead(ChangeSet),
    /// What a killed write left is removed.
    RemoveTemporary,
    /// Content that is no cache is renamed.
    SetContentAside,
    /// Something that can be no cache is renamed.
    SetFileAside,
    /// Something in a lock's place that can be no lock is renamed.
    SetLockAside { lock: PathBuf },
    /// The file's mode.
    TightenFile,
    /// The folder's mode.
    TightenFolder,
}

impl Repair {
    /// What would happen, in one line.
    #[must_use]
    pub const fn describe(&self) -> &'static str {
        use crate::document::DefectKind as Kind;

        let task = match &self.0 {
            Work::AgentSocket(_) => return "remove it, after making sure that nobody listens",
            Work::Cache { task, .. } => task,
            Work::Revocations(_) => return "rename it, so that it is out of the way and kept",
        };
        match task {
            Task::FreeLocks => "remove the lock, after making sure that nobody holds it",
            Task::Mend { defect, .. } => match defect.kind {
                Kind::AccessTokenExpired => "remove the expired access tokens",
                Kind::AccessTokensOverlap => {
                    "keep the access token that lasts longest, remove those it stands for"
                }
                Kind::AccountDuplicate => "make one entry of them",
                Kind::AccountIncomplete => "add the fields, which follow from the others",
                Kind::AppMetadataDuplicate => "make one entry of them",
                Kind::ByteOrderMark => "write the cache without it",
                Kind::CredentialTypeMisspelled => "write the type as all libraries spell it",
                Kind::EntryIncomplete | Kind::EntryMalformed | Kind::ExpiryAbsurd => {
                    "set the entries aside inside the cache, where no library reads them"
                }
                Kind::FamilyMisstated | Kind::FamilyMissing => {
                    "write down the family that the refresh token names"
                }
                Kind::FieldMalformed => {
                    "remove the field, and set a copy of the entry aside inside the cache"
                }
                Kind::FromTheFuture => "date it now",
                Kind::IdTokenDuplicate => "keep the ID token that was issued last",
                Kind::NullValue => "remove the null",
                Kind::NumberValue => "write the number as text",
                Kind::RefreshTokenDuplicate => "keep the newest refresh token, remove the older ones",
                Kind::SectionMalformed => "set it aside inside the cache, and begin an empty section",
                _ => "nothing",
            },
            Task::RemoveDead(_) => "remove the dead refresh tokens",
            Task::RemoveTemporary => "remove it, as the next write would",
            Task::SetContentAside | Task::SetFileAside | Task::SetLockAside { .. } => {
                "rename it, so that it is out of the way and kept"
            }
            Task::TightenFile => "take from others the right to read and write it",
            Task::TightenFolder => "take from others the right to write there",
        }
    }
}

/// What became of a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repaired {
    /// It was done; where something went to, if it was set aside.
    Done(Option<String>),
    /// It was not so any more.
    NotNeeded,
}

impl Examination {
    /// Does what the finding says, if it can be done and is still needed.
    ///
    /// # Errors
    /// [`CacheError::LockTimeout`] if other programs keep us from the cache until the deadline, and
    /// what the store says. Nothing is changed then.
    pub fn repair(&self, finding: &Finding, deadline: Deadline) -> Result<Repaired, CacheError> {
        let done = |changed: bool| if changed { Repaired::Done(None) } else { Repaired::NotNeeded };
        let set_aside = |aside: Option<PathBuf>| {
            aside.map_or(Repaired::NotNeeded, |path| Repaired::Done(Some(path.display().to_string())))
        };
        let (place, task) = match &finding.repair {
            Some(Repair(Work::AgentSocket(path))) => return remove_socket(path).map(done),
            Some(Repair(Work::Cache { place, task })) => (*place, task),
            Some(Repair(Work::Revocations(memory))) => {
                let aside = memory.set_aside(SystemClock.now())?;
                return Ok(aside.map_or(Repaired::NotNeeded, |place| Repaired::Done(Some(place))));
            }
            None => return Ok(Repaired::NotNeeded),
        };
        let Some(cache) = self.caches.get(place) else { return Ok(Repaired::NotNeeded) };
        let silo = &cache.silo;
        match task {
            Task::FreeLocks => silo.free_stale_locks(deadline).map(|()| Repaired::Done(None)),
            Task::Mend { defect, now } => {
                let change = Change::Repair { defect: defect.clone(), now: *now };
                silo.open().apply(&ChangeSet::of(change), deadline).map(|applied| done(applied.changed))
            }
            Task::RemoveDead(changes) => {
                silo.open().apply(changes, deadline).map(|applied| done(applied.changed))
            }
            Task::RemoveTemporary => silo.remove_temporary(deadline).map(done),
            Task::SetContentAside => {
                let store = silo.open();
                // somebody may have signed in anew meanwhile: a sound cache is never discarded
                if !matches!(store.load(), Err(CacheError::Damaged { .. })) {
                    return Ok(Repaired::NotNeeded);
                }
                let aside = store.discard(deadline)?;
                Ok(aside.map_or(Repaired::NotNeeded, |place| Repaired::Done(Some(place))))
            }
            Task::SetFileAside => silo.set_odd_file_aside(SystemClock.now(), deadline).map(set_aside),
            Task::SetLockAside { lock } => silo.set_odd_lock_aside(lock, SystemClock.now()).map(set_aside),
            Task::TightenFile => silo.make_file_private(deadline).map(done),
            Task::TightenFolder => silo.make_folder_private(deadline).map(done),
        }
    }
}

fn remove_socket(socket: &Path) -> Result<bool, CacheError> {
    AgentClient::at(socket)
        .remove_left_over()
        .map_err(|error| CacheError::Unsafe { path: socket.to_owned(), detail: error.detail() })
}

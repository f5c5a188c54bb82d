//! Where what is known is kept between runs.

use std::path::Path;
use std::time::Duration;

use crate::acquire::DeadGrant;
use crate::error::CacheError;
use crate::store::{Places, StateFile};
use crate::time::{Deadline, UnixTime};

use super::known::{Known, NotKnown};

/// How long other programs may keep us from it.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Remembers what the provider called dead, so that it is recognised when a program that was not
/// told writes it back: `$XDG_STATE_HOME/tokenkeep/revocations.json`, without secrets and names.
#[derive(Clone, Debug)]
pub struct Memory(StateFile);

impl Memory {
    /// The one of the user whose folders these are.
    #[must_use]
    pub fn of(places: &Places) -> Self {
        Self(StateFile::new(places.state.join("tokenkeep").join("revocations.json")))
    }

    /// What is known so far.
    ///
    /// # Errors
    /// [`CacheError::Damaged`] and [`CacheError::NewerFormat`] for what cannot be read, which stays
    /// as it is, and what the file system says.
    pub fn recall(&self) -> Result<Known, CacheError> {
        let bytes = self.0.read()?;
        self.parse(bytes.as_ref().map(|bytes| bytes.as_slice()))
    }

    /// Notes what died, and tells all that is known then. A damaged memory is set aside first: what
    /// it knew is lost, but what is learned from now on is not.
    ///
    /// # Errors
    /// [`CacheError::NewerFormat`] and [`CacheError::LockTimeout`], and what the file system says.
    pub fn remember(&self, dead: &[DeadGrant], now: UnixTime) -> Result<Known, CacheError> {
        if let Some(aside) = self.set_aside(now)? {
            tracing::warn!(aside, "what was known of dead refresh tokens is damaged and kept aside");
        }
        self.0.update(Deadline::within(LOCK_WAIT), |before| {
            let mut known = self.parse(before)?;
            dead.iter().for_each(|grant| known.note(grant));
            Ok((known.to_bytes(), known))
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Renames a memory that is damaged; tells where to, or `None` if it is sound or of a newer
    /// version.
    ///
    /// # Errors
    /// [`CacheError::LockTimeout`], and what the file system says.
    pub(super) fn set_aside(&self, now: UnixTime) -> Result<Option<String>, CacheError> {
        match self.recall() {
            Err(CacheError::Damaged { .. }) => self.0.set_aside(now, Deadline::within(LOCK_WAIT)).map(Some),
            _ => Ok(None),
        }
    }

    fn parse(&self, bytes: Option<&[u8]>) -> Result<Known, CacheError> {
        let place = || self.0.path().display().to_string();
        match bytes.map(Known::parse) {
            Some(Ok(known)) => Ok(known),
            Some(Err(error @ NotKnown::Damaged { .. })) => {
                Err(CacheError::Damaged { place: place(), detail: error.to_string() })
            }
            Some(Err(error @ NotKnown::Newer { .. })) => {
                Err(CacheError::NewerFormat { place: place(), detail: error.to_string() })
            }
            None => Known::nothing(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::tests::dead;
    use super::*;

    #[test]
    fn what_one_remembers_the_next_recalls() {
        let home = tempfile::tempdir().unwrap();
        let memory = Memory::of(&Places::below(home.path()));
        assert!(memory.recall().unwrap().is_empty());
        let first = memory.remember(&[dead("a", None)], UnixTime::from_seconds(1)).unwrap();
        let both = memory.remember(&[dead("b", Some(1))], UnixTime::from_seconds(1)).unwrap();
        assert!(first != both);
        assert!(Memory::of(&Places::below(home.path())).recall().unwrap() == both);
    }

    #[test]
    fn many_at_once_lose_nothing() {
        let home = tempfile::tempdir().unwrap();
        let places = Places::below(home.path());
        std::thread::scope(|scope| {
            for number in 0..8 {
                let memory = Memory::of(&places);
                scope.spawn(move || {
                    let grant = dead(&number.to_string(), None);
                    memory.remember(&[grant], UnixTime::from_seconds(1)).unwrap();
                });
            }
        });
        let known = Memory::of(&places).recall().unwrap();
        assert!(format!("{known:?}").contains("grants: 8"), "{known:?}");
    }

    #[test]
    fn damage_is_told_and_set_aside_by_the_next_one_who_writes() {
        let home = tempfile::tempdir().unwrap();
        let memory = Memory::of(&Places::below(home.path()));
        let folder = home.path().join(".local/state/tokenkeep");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("revocations.json"), "{").unwrap();
        assert!(matches!(memory.recall(), Err(CacheError::Damaged { .. })));
        memory.remember(&[dead("a", None)], UnixTime::from_seconds(7)).unwrap();
        assert_eq!(std::fs::read(folder.join("revocations.json.damaged-7")).unwrap(), b"{");
        assert!(!memory.recall().unwrap().is_empty());
    }
}

//! Telling that a cache changed, and telling others that we changed it (spec S-C 4).

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::CacheError;

/// A change detector: two equal stamps mean that nothing was written in between.
///
/// Stamps are compared for inequality, never for order: other programs, and clocks, go backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: u128,
    size: u64,
    inode: u64,
}

impl Stamp {
    /// Of a file that is not there.
    const ABSENT: Self = Self { modified: 0, size: 0, inode: 0 };

    /// Of what is at `path`, links followed.
    pub(super) fn of_file(path: &Path) -> Result<Self, CacheError> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Self::of_metadata(&metadata)),
            Err(error) if is_absence(&error) => Ok(Self::ABSENT),
            Err(error) => Err(CacheError::io("look at", path)(error)),
        }
    }

    /// Of two things that belong together: unequal as soon as one of them changes.
    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            // a multiple of one of them, so that two changes do not make up for each other
            modified: self.modified.wrapping_mul(31).wrapping_add(other.modified),
            size: self.size.wrapping_mul(31).wrapping_add(other.size),
            inode: self.inode.wrapping_mul(31).wrapping_add(other.inode),
        }
    }

    /// Of a document that never leaves memory, after so many changes.
    pub(crate) const fn of_generation(generation: u64) -> Self {
        Self { modified: generation as u128, ..Self::ABSENT }
    }

    fn of_metadata(metadata: &Metadata) -> Self {
        let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
        Self {
            modified: modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()),
            size: metadata.len(),
            inode: inode(metadata),
        }
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_metadata: &Metadata) -> u64 {
    0
}

/// Whether the error says that there is no such file, or not even its folder.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Sets the file's time to now, precisely, or a little after `floor`, whichever is later.
///
/// The kernel's own time is coarse and may lie before the moment at which Python and Node believe
/// to have read the file; they would miss the change.
pub(super) fn set_modified_now(file: &File, floor: Option<SystemTime>) -> io::Result<()> {
    let now = SystemTime::now();
    let after = floor.and_then(|time| time.checked_add(Duration::from_millis(1)));
    file.set_modified(after.map_or(now, |after| now.max(after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_is_a_stamp_of_its_own_and_so_is_every_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("msal.cache");
        let absent = Stamp::of_file(&path).unwrap();
        assert_eq!(absent, Stamp::of_file(&dir.path().join("no/such/folder")).unwrap());

        std::fs::write(&path, "").unwrap();
        let empty = Stamp::of_file(&path).unwrap();
        assert_ne!(empty, absent);
        assert_eq!(empty, Stamp::of_file(&path).unwrap());

        let file = File::options().write(true).open(&path).unwrap();
        let floor = file.metadata().unwrap().modified().unwrap();
        set_modified_now(&file, Some(floor)).unwrap();
        assert_ne!(empty, Stamp::of_file(&path).unwrap());
    }

    #[test]
    fn time_never_moves_backwards_even_after_a_clock_that_was_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("msal.cache")).unwrap();
        let ahead = SystemTime::now() + Duration::from_secs(3600);
        file.set_modified(ahead).unwrap();

        set_modified_now(&file, Some(ahead)).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        assert!(modified > ahead && modified < ahead + Duration::from_secs(1));
    }
}

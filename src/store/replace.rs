//! Replacing a file so that a kill at any instant leaves the old content or the new (spec S-C 3.4).

#[cfg(unix)]
#[path = "replace/unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "replace/windows.rs"]
mod platform;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::error::CacheError;
use crate::time::UnixTime;

use super::lock::CacheLock;
use super::watch::{is_absence, set_modified_now};

/// No cache is larger than this: what is, was never one, and is not read (64 MiB).
pub(super) const LARGEST: u64 = 64 << 20;

/// What to do about modes that let others read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Modes {
    /// They are another tool's folder and file, and stay as they are.
    Leave,
    /// They are made private.
    Tighten,
}

/// The file's content; `None` if there is no such file. Takes no lock.
///
/// # Errors
/// [`CacheError::Unsafe`] if the file is not ours to trust; [`CacheError::TooLarge`] if it cannot
/// be a cache; [`CacheError::Io`] otherwise.
pub(super) fn read(path: &Path, modes: Modes) -> Result<Option<Zeroizing<Vec<u8>>>, CacheError> {
    let Some(mut file) = platform::open_trusted(path, modes)? else {
        return Ok(None);
    };
    let mut read = || -> io::Result<_> {
        let size = file.metadata()?.len();
        if size > LARGEST {
            return Ok(None);
        }
        // room for everything at once: a vector that grows leaves copies behind
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
        // one that grows while it is read has an end, too
        Read::by_ref(&mut file).take(LARGEST + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= LARGEST))
    };
    match read().map_err(CacheError::io("read", path))? {
        None => Err(CacheError::TooLarge { place: path.display().to_string(), limit: LARGEST }),
        bytes => Ok(bytes),
    }
}

/// Replaces the file's content as a whole, and sets its time (spec S-C 4).
///
/// The sibling file that makes this possible has one name, so a kill leaves at most one behind,
/// which the next write uses. `false` if the lock was lost before the new content got the file's
/// name: whoever has it now may have written, and the old content is left alone.
///
/// # Errors
/// [`CacheError::Unsafe`] if the file or its folder is not ours to trust; [`CacheError::Io`]
/// otherwise. The old content is still there then.
pub(super) fn replace(path: &Path, bytes: &[u8], modes: Modes, held: &CacheLock) -> Result<bool, CacheError> {
    let target = platform::trusted_target(path, modes)?;
    let floor = fs::metadata(&target).and_then(|metadata| metadata.modified()).ok();
    let temporary = beside(&target, ".tokenkeep-tmp")?;
    let replaced = write_temporary(&temporary, bytes, floor)
        .map_err(CacheError::io("write", &temporary))
        .and_then(|file| {
            // not before, because a disk takes its time for all that; and the temporary file may
            // be that of the next holder by now, so it stays
            if !held.is_intact() {
                return Ok(None);
            }
            match platform::rename_over(&temporary, &target) {
                Ok(()) => Ok(Some(file)),
                Err(error) if platform::is_not_replaceable(&error) => {
                    let _gone = fs::remove_file(&temporary);
                    write_in_place(&target, bytes).map(Some).map_err(CacheError::io("write", &target))
                }
                Err(error) => Err(CacheError::io("replace", &target)(error)),
            }
        });
    let replaced = replaced.inspect_err(|_| {
        // what it holds is secret, and the error that counts is the first one
        let _gone = fs::remove_file(&temporary);
    })?;
    let Some(file) = replaced else {
        return Ok(false);
    };
    // once more, now that everybody can see the data: readers in between have a later clock
    set_modified_now(&file, floor).map_err(CacheError::io("set the time of", &target))?;
    platform::sync_folder(folder_of(&target)).map_err(CacheError::io("sync", folder_of(&target)))?;
    Ok(true)
}

/// Removes the file, if it is there.
///
/// # Errors
/// As [`replace`].
pub(super) fn remove(path: &Path, _held: &CacheLock) -> Result<(), CacheError> {
    let target = platform::trusted_target(path, Modes::Leave)?;
    // a kill may have left a copy
    let _gone = fs::remove_file(beside(&target, ".tokenkeep-tmp")?);
    match fs::remove_file(&target) {
        Err(error) if !is_absence(&error) => Err(CacheError::io("remove", &target)(error)),
        _ => Ok(()),
    }
}

/// Renames the file so that it is out of the way, and says to what.
///
/// # Errors
/// As [`replace`].
pub(super) fn set_aside(path: &Path, now: UnixTime, _held: &CacheLock) -> Result<String, CacheError> {
    let target = platform::trusted_target(path, Modes::Leave)?;
    let mut name = file_name_of(&target)?.to_owned();
    name.push(format!(".damaged-{now}"));
    let aside = target.with_file_name(name);
    fs::rename(&target, &aside).map_err(CacheError::io("rename", &target))?;
    Ok(aside.display().to_string())
}

/// Tells those who watch the file that something changed. Its content stays; a new one is an
/// empty JSON object, which nobody takes for a damaged cache.
///
/// # Errors
/// As [`replace`].
pub(super) fn touch(path: &Path, _held: &CacheLock) -> Result<(), CacheError> {
    let write = || -> io::Result<()> {
        let Some(file) = platform::open_to_touch(path)? else {
            let mut file = platform::create_private(path)?;
            file.write_all(b"{}")?;
            return set_modified_now(&file, None);
        };
        let floor = file.metadata()?.modified().ok();
        set_modified_now(&file, floor)
    };
    write().map_err(CacheError::io("touch", path))
}

fn write_temporary(path: &Path, bytes: &[u8], floor: Option<SystemTime>) -> io::Result<File> {
    let mut file = platform::create_or_reuse_private(path)?;
    file.write_all(bytes)?;
    // at no moment may the new file look older than the old one
    set_modified_now(&file, floor)?;
    file.sync_all()?;
    Ok(file)
}

/// For a file that is a mount of its own: nothing can be renamed over it.
fn write_in_place(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    Ok(file)
}

/// The file that a write of this one makes first, and leaves behind if it is killed.
pub(super) fn temporary_of(path: &Path) -> Option<PathBuf> {
    beside(path, ".tokenkeep-tmp").ok()
}

fn beside(target: &Path, suffix: &str) -> Result<PathBuf, CacheError> {
    let mut name = OsString::from(".");
    name.push(file_name_of(target)?);
    name.push(suffix);
    Ok(target.with_file_name(name))
}

fn file_name_of(path: &Path) -> Result<&OsStr, CacheError> {
    path.file_name()
        .ok_or_else(|| CacheError::Unsafe { path: path.to_owned(), detail: "it has no file name".to_owned() })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::lock::{LockPaths, Mechanism};
    use super::*;
    use crate::time::Deadline;

    struct Folder {
        dir: tempfile::TempDir,
        held: CacheLock,
    }

    impl Folder {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let own = (Mechanism::Flock, dir.path().join("locks/cache.lockfile"));
            let paths = LockPaths::new(own, []);
            fs::create_dir(dir.path().join("locks")).unwrap();
            let held = CacheLock::acquire(&paths, Deadline::within(Duration::ZERO)).unwrap();
            Self { dir, held }
        }

        fn cache(&self) -> PathBuf {
            self.dir.path().join("msal.cache")
        }

        fn replace(&self, content: &str) -> Result<(), CacheError> {
            replace(&self.cache(), content.as_bytes(), Modes::Tighten, &self.held)
                .map(|written| assert!(written))
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.dir.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.retain(|name| name != "locks");
            names.sort();
            names
        }

        fn content(&self) -> String {
            let bytes = read(&self.cache(), Modes::Tighten).unwrap().unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        }
    }

    fn modified(path: &Path) -> SystemTime {
        path.metadata().unwrap().modified().unwrap()
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_its_time_moves_on() {
        let folder = Folder::new();
        assert!(read(&folder.cache(), Modes::Tighten).unwrap().is_none());
        folder.replace("a longer first content").unwrap();
        let ahead = SystemTime::now() + Duration::from_secs(600);
        File::options().write(true).open(folder.cache()).unwrap().set_modified(ahead).unwrap();

        folder.replace("second").unwrap();
        assert_eq!(folder.content(), "second");
        assert_eq!(folder.names(), ["msal.cache"]);
        assert!(modified(&folder.cache()) > ahead);
    }

    #[test]
    fn what_a_kill_left_behind_is_used_up_by_the_next_write() {
        let folder = Folder::new();
        let left = folder.dir.path().join(".msal.cache.tokenkeep-tmp");
        fs::write(&left, "half of a very, very long secret").unwrap();
        folder.replace("new").unwrap();
        assert_eq!((folder.content().as_str(), folder.names().len()), ("new", 1));

        fs::write(&left, "half").unwrap();
        remove(&folder.cache(), &folder.held).unwrap();
        assert_eq!(folder.names(), [""; 0]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_copy() {
        let folder = Folder::new();
        folder.replace("old").unwrap();
        // a folder in the place of the temporary file: not even root can write into that
        let in_the_way = folder.dir.path().join(".msal.cache.tokenkeep-tmp");
        fs::create_dir(&in_the_way).unwrap();
        folder.replace("new").unwrap_err();
        assert_eq!(folder.content(), "old");
    }

    #[test]
    fn what_is_set_aside_keeps_its_content_under_another_name() {
        let folder = Folder::new();
        folder.replace("not json").unwrap();
        let now = UnixTime::from_seconds(1_700_000_000);
        let aside = set_aside(&folder.cache(), now, &folder.held).unwrap();
        assert!(aside.ends_with("msal.cache.damaged-1700000000"), "{aside}");
        assert_eq!(fs::read_to_string(aside).unwrap(), "not json");
        assert!(read(&folder.cache(), Modes::Tighten).unwrap().is_none());
    }

    #[test]
    fn a_signal_is_a_new_time_and_an_empty_document_only_where_nothing_was() {
        let folder = Folder::new();
        touch(&folder.cache(), &folder.held).unwrap();
        assert_eq!(folder.content(), "{}");

        folder.replace("").unwrap();
        let before = modified(&folder.cache());
        touch(&folder.cache(), &folder.held).unwrap();
        assert_eq!(folder.content(), "");
        assert!(modified(&folder.cache()) > before);
    }

    #[cfg(unix)]
    mod unix {
        use std::os::unix::fs::{PermissionsExt, symlink};

        use super::*;

        fn mode(path: &Path) -> u32 {
            fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
        }

        fn set_mode(path: &Path, mode: u32) {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }

        #[track_caller]
        fn assert_unsafe<T: std::fmt::Debug>(result: &Result<T, CacheError>) {
            assert!(matches!(result, Err(CacheError::Unsafe { .. })), "{result:?}");
        }

        #[test]
        fn looser_modes_are_tightened_by_a_read_and_by_a_write() {
            let folder = Folder::new();
            fs::write(folder.cache(), "{}").unwrap();
            for (of_file, of_folder) in [(0o644, 0o755), (0o664, 0o775)] {
                for action in [
                    |folder: &Folder| assert_eq!(folder.content(), "{}"),
                    |folder: &Folder| folder.replace("{}").unwrap(),
                ] {
                    set_mode(&folder.cache(), of_file);
                    set_mode(folder.dir.path(), of_folder);
                    action(&folder);
                    assert_eq!((mode(&folder.cache()), mode(folder.dir.path())), (0o600, 0o700));
                }
            }
        }

        #[test]
        fn a_temporary_file_of_any_mode_ends_as_a_private_one() {
            let folder = Folder::new();
            let left = folder.dir.path().join(".msal.cache.tokenkeep-tmp");
            fs::write(&left, "x").unwrap();
            set_mode(&left, 0o666);
            folder.replace("new").unwrap();
            assert_eq!(mode(&folder.cache()), 0o600);
        }

        #[test]
        fn a_folder_that_anybody_may_write_to_is_refused_as_it_is() {
            let folder = Folder::new();
            fs::write(folder.cache(), "{}").unwrap();
            set_mode(folder.dir.path(), 0o777);
            assert_unsafe(&read(&folder.cache(), Modes::Tighten));
            assert_unsafe(&folder.replace("new"));
            assert_eq!(mode(folder.dir.path()), 0o777);
        }

        #[test]
        fn a_link_of_ours_is_followed_and_stays() {
            let folder = Folder::new();
            let elsewhere = tempfile::tempdir().unwrap();
            let target = elsewhere.path().join("shared.json");
            symlink(&target, folder.cache()).unwrap();
            for content in ["first, where nothing was", "second"] {
                folder.replace(content).unwrap();
                assert_eq!(fs::read_to_string(&target).unwrap(), content);
                assert_eq!(folder.content(), content);
                assert!(folder.cache().is_symlink());
            }
            assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
        }

        #[test]
        fn a_link_into_a_folder_that_others_may_write_to_is_refused() {
            let folder = Folder::new();
            let elsewhere = tempfile::tempdir().unwrap();
            set_mode(elsewhere.path(), 0o1777);
            symlink(elsewhere.path().join("trap"), folder.cache()).unwrap();
            assert_unsafe(&folder.replace("secret"));
            assert!(!elsewhere.path().join("trap").exists());
        }

        #[test]
        fn a_link_in_the_place_of_the_temporary_file_is_not_followed() {
            let folder = Folder::new();
            let precious = folder.dir.path().join("precious");
            fs::write(&precious, "precious").unwrap();
            symlink(&precious, folder.dir.path().join(".msal.cache.tokenkeep-tmp")).unwrap();
            folder.replace("secret").unwrap_err();
            assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
        }

        #[test]
        fn what_belongs_to_somebody_else_is_refused() {
            if !rustix::process::geteuid().is_root() {
                return; // nobody else can give files away
            }
            let folder = Folder::new();
            let stranger = Some(65534);
            fs::write(folder.cache(), "{}").unwrap();
            std::os::unix::fs::chown(folder.cache(), stranger, None).unwrap();
            assert_unsafe(&read(&folder.cache(), Modes::Tighten));
            assert_unsafe(&folder.replace("secret"));

            fs::rename(folder.cache(), folder.dir.path().join("target")).unwrap();
            symlink(folder.dir.path().join("target"), folder.cache()).unwrap();
            std::os::unix::fs::lchown(folder.cache(), stranger, None).unwrap();
            assert_unsafe(&folder.replace("secret"));

            fs::remove_file(folder.cache()).unwrap();
            std::os::unix::fs::chown(folder.dir.path(), stranger, None).unwrap();
            assert_unsafe(&folder.replace("secret"));
        }

        #[test]
        fn what_is_no_regular_file_is_no_cache() {
            let folder = Folder::new();
            let _socket = std::os::unix::net::UnixListener::bind(folder.cache()).unwrap();
            assert_unsafe(&read(&folder.cache(), Modes::Tighten));
            assert_unsafe(&folder.replace("secret"));
        }
    }
}

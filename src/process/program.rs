//! Which program a process runs, as far as the system tells.
//!
//! What it proves, and what not, is written down in `docs/who-asks.md`.

#[cfg(target_os = "linux")]
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

/// A process, and the program that it ran when it was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) pid: i32,
    /// The file that it was started from; `None` if the system does not tell.
    pub(crate) path: Option<PathBuf>,
    /// The file itself, whatever its name.
    pub(crate) file: Option<FileId>,
    /// Whether the path leads to that file, as this process sees files.
    pub(crate) stands: Stands,
    /// The process that started it, while that one lives.
    pub(crate) parent: Option<i32>,
}

/// A file by its place on a disk and its last changes: another one under the same name differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified: (i64, i64),
    /// Nobody but root can set this one back.
    pub(crate) changed: (i64, i64),
}

/// Whether a program's path leads to the very file that runs.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "other systems do not tell"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stands {
    /// It does.
    Here,
    /// The file was removed, or another one was put in its place.
    Deleted,
    /// Another file is there: the process sees other files than we do, as in a container.
    Elsewhere,
    /// Nobody knows.
    #[default]
    Unknown,
}

impl Program {
    /// Whether its path can be relied on.
    pub(crate) fn is_certain(&self) -> bool {
        self.stands == Stands::Here
    }
}

/// A process whose number nobody else gets in our eyes.
#[derive(Debug)]
pub(crate) struct Handle(
    #[cfg(target_os = "linux")] OwnedFd,
    #[cfg(windows)] crate::windows::process::Process,
);

#[cfg(target_os = "linux")]
impl From<OwnedFd> for Handle {
    fn from(handle: OwnedFd) -> Self {
        Self(handle)
    }
}

/// Whether the process of the handle has not ended yet.
#[cfg(target_os = "linux")]
pub(crate) fn lives(handle: Option<&Handle>) -> bool {
    handle.is_some_and(|Handle(handle)| !linux::has_ended(handle.as_fd()))
}

#[cfg(not(target_os = "linux"))]
pub(crate) const fn lives(_handle: Option<&Handle>) -> bool {
    false
}

/// The file that a process runs.
#[cfg(target_os = "linux")]
pub(crate) fn runs(pid: i32) -> Option<FileId> {
    linux::runs(pid)
}

#[cfg(not(target_os = "linux"))]
pub(crate) const fn runs(_pid: i32) -> Option<FileId> {
    None
}

/// A handle of whoever has this number.
#[cfg(target_os = "linux")]
pub(crate) fn handle_of(pid: i32) -> Option<Handle> {
    linux::handle_of(pid).map(Handle)
}

/// Looks at a process that is known by its number. With `handle`, what is told is of the process that
/// the handle was made for, and of no later one with the same number.
#[cfg(target_os = "linux")]
pub(crate) fn look_at(pid: i32, handle: Option<&Handle>) -> Option<Program> {
    let program = linux::look_at(pid)?;
    // It lives after the look, so the look was at it.
    if handle.is_some_and(|Handle(handle)| linux::has_ended(handle.as_fd())) { None } else { Some(program) }
}

#[cfg(target_os = "macos")]
#[expect(clippy::unnecessary_wraps, reason = "on Linux a process may have ended")]
pub(crate) fn look_at(pid: i32, _handle: Option<&Handle>) -> Option<Program> {
    Some(macos::look_at(pid))
}

/// As long as there is a handle, nobody else gets the number.
#[cfg(windows)]
pub(crate) fn look_at(pid: i32, handle: Option<&Handle>) -> Option<Program> {
    match handle {
        Some(Handle(process)) => Some(windows::look_at(pid, process)),
        None => Some(windows::look_at(pid, &handle_of(pid)?.0)),
    }
}

/// A handle of whoever has the number now.
#[cfg(windows)]
pub(crate) fn handle_of(pid: i32) -> Option<Handle> {
    crate::windows::process::Process::open(pid.try_into().ok()?).ok().map(Handle)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::{CStr, OsStr};
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::{Path, PathBuf};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, openat, readlinkat, statat};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::{FileId, Program, Stands};

    /// What the kernel puts behind the name of a file that is not there any more.
    const DELETED: &[u8] = b" (deleted)";
    const EXE: &CStr = c"exe";

    /// Everything through one handle of `/proc/PID`, which is of this process and no later one.
    pub(super) fn look_at(pid: i32) -> Option<Program> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).ok()?;
        let parent = parent(&folder);
        let (Ok(link), Ok(runs)) =
            (readlinkat(&folder, EXE, Vec::with_capacity(256)), statat(&folder, EXE, AtFlags::empty()))
        else {
            return Some(Program { pid, parent, ..Program::default() });
        };
        let (path, stands) = place(link.as_bytes(), &runs);
        Some(Program { pid, path: Some(path), file: Some(file_id(&runs)), stands, parent })
    }

    fn place(link: &[u8], runs: &Stat) -> (PathBuf, Stands) {
        let is_at = |path: &Path| statat(CWD, path, AtFlags::empty()).is_ok_and(|there| same(&there, runs));
        let path = Path::new(OsStr::from_bytes(link));
        if is_at(path) {
            return (path.to_owned(), Stands::Here);
        }
        match link.strip_suffix(DELETED) {
            Some(before) => (Path::new(OsStr::from_bytes(before)).to_owned(), Stands::Deleted),
            None => (path.to_owned(), Stands::Elsewhere),
        }
    }

    fn same(one: &Stat, other: &Stat) -> bool {
        (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
    }

    #[expect(clippy::unnecessary_cast, reason = "the types differ from one architecture to the other")]
    pub(super) fn file_id(stat: &Stat) -> FileId {
        FileId {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    /// The fourth word of `stat`, counted after the name, which may have any bytes in it.
    fn parent(folder: &OwnedFd) -> Option<i32> {
        let file = openat(folder, c"stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = [0; 256];
        let read = rustix::io::read(&file, &mut bytes).ok()?;
        parent_in(&bytes[..read])
    }

    pub(super) fn parent_in(stat: &[u8]) -> Option<i32> {
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
        let parent: i32 = rest.split_ascii_whitespace().nth(1)?.parse().ok()?;
        (parent > 0).then_some(parent)
    }

    pub(super) fn has_ended(handle: BorrowedFd<'_>) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(handle, PollFlags::IN)];
        !matches!(poll(&mut polled, Some(&Timespec::default())), Ok(0))
    }

    pub(super) fn runs(pid: i32) -> Option<FileId> {
        statat(CWD, format!("/proc/{pid}/exe"), AtFlags::empty()).ok().as_ref().map(file_id)
    }

    pub(super) fn handle_of(pid: i32) -> Option<OwnedFd> {
        pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
    }
}

#[cfg(target_os = "macos")]
mod macos {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use super::{FileId, Program, Stands};

    #[expect(unsafe_code, reason = "the system's own call, which no crate of ours wraps")]
    pub(super) fn look_at(pid: i32) -> Program {
        let mut name = [0_u8; libc::PROC_PIDPATHINFO_MAXSIZE as usize];
        let room = u32::try_from(name.len()).unwrap_or(0);
        // SAFETY: the system writes at most `room` bytes.
        let length = unsafe { libc::proc_pidpath(pid, name.as_mut_ptr().cast(), room) };
        let path = usize::try_from(length)
            .ok()
            .filter(|length| *length > 0)
            .map(|length| Path::new(OsStr::from_bytes(&name[..length])).to_owned());
        // The system knows the file's present name; whether it is the one that runs, it does not say.
        let metadata = path.as_ref().and_then(|path| path.metadata().ok());
        let file = metadata.map(|file| FileId {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        });
        let stands = if file.is_some() { Stands::Here } else { Stands::Unknown };
        Program { pid, path, file, stands, parent: None }
    }
}

#[cfg(windows)]
mod windows {
    use std::os::windows::fs::MetadataExt as _;

    use super::{FileId, Program, Stands};
    use crate::windows::process::{Process, place_of};

    pub(super) fn look_at(pid: i32, process: &Process) -> Program {
        let path = process.file().ok();
        // A program that runs can be renamed, but neither changed nor removed.
        let file = path.as_ref().and_then(|path| {
            let (metadata, (device, inode)) = (path.metadata().ok()?, place_of(path).ok()?);
            let modified = (metadata.last_write_time().cast_signed(), 0);
            Some(FileId { device, inode, size: metadata.file_size(), modified, changed: modified })
        });
        let stands = if file.is_some() { Stands::Here } else { Stands::Unknown };
        Program { pid, path, file, stands, parent: None }
    }
}

#[cfg(all(test, target_os = "linux"))]
pub(crate) mod tests {
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::{fs, io};

    use super::*;

    /// A program of our own that waits until its input ends.
    pub(crate) fn start(path: &Path, arguments: &[&str]) -> Child {
        loop {
            let mut command = Command::new(path);
            match command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn() {
                // another test's child holds the file open for writing until it has begun
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                child => return child.unwrap(),
            }
        }
    }

    fn look(child: &Child) -> Program {
        look_at(i32::try_from(child.id()).unwrap(), None).unwrap()
    }

    #[test]
    fn a_program_is_named_by_its_file_and_who_started_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a cat");
        fs::copy("/bin/cat", &path).unwrap();
        let mut child = start(&path, &[]);
        let seen = look(&child);
        assert_eq!((seen.path.as_deref(), seen.stands), (Some(&*path), Stands::Here));
        assert_eq!(seen.parent, i32::try_from(std::process::id()).ok());

        // another file under the same name is another program
        fs::copy("/bin/cat", folder.path().join("new")).unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        let replaced = look(&child);
        assert_eq!((replaced.path.as_deref(), replaced.stands), (Some(&*path), Stands::Deleted));
        let mut other = start(&path, &[]);
        assert_ne!(look(&other).file, seen.file);
        for child in [&mut child, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_name_that_only_looks_deleted_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cat (deleted)");
        fs::copy("/bin/cat", &path).unwrap();
        let mut child = start(&path, &[]);
        let seen = look(&child);
        assert_eq!((seen.path.as_deref(), seen.stands), (Some(&*path), Stands::Here));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_has_ended_is_not_taken_for_the_next_one_with_its_number() {
        let mut child = start(Path::new("/bin/cat"), &[]);
        let pid = i32::try_from(child.id()).unwrap();
        let handle = Handle(linux::handle_of(pid).unwrap());
        assert!(look_at(pid, Some(&handle)).is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        // what has the number now stands in for whoever may get it
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(look_at(own, None).is_some());
        assert_eq!(look_at(own, Some(&handle)), None);
        assert_eq!(look_at(pid, None), None);
    }

    #[test]
    fn a_name_with_brackets_does_not_hide_the_parent() {
        assert_eq!(linux::parent_in(b"7 (a) b) (x) S 42 1 1"), Some(42));
        for bad in [&b""[..], b"7 (a", b"7 (a) S", b"7 (a) S x", b"1 (init) S 0 1"] {
            assert_eq!(linux::parent_in(bad), None);
        }
    }
}

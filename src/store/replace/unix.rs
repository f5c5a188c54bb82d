//! Owners, modes and links: whose file a path really leads to.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::super::watch::is_absence;
use super::{Modes, folder_of};
use crate::error::CacheError;

/// The file behind `path`, if it is one of ours in a folder of ours; `None` if there is none.
pub(super) fn open_trusted(path: &Path, modes: Modes) -> Result<Option<File>, CacheError> {
    let target = trusted_target(path, modes)?;
    let file = match private().read(true).open(&target) {
        Ok(file) => file,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(CacheError::io("open", target)(error)),
    };
    // of the open file, because the path may lead elsewhere by now
    let metadata = file.metadata().map_err(CacheError::io("look at", &target))?;
    trust_file(&target, &metadata)?;
    if modes == Modes::Tighten {
        tighten(&target, &metadata, 0o600, |mode| file.set_permissions(mode));
    }
    Ok(Some(file))
}

/// Where a write to `path` has to go: links of ours are followed, others refused, and the folder
/// is made private if nobody else could have put anything into it.
pub(super) fn trusted_target(path: &Path, modes: Modes) -> Result<PathBuf, CacheError> {
    let folder = folder_of(path);
    if let Some(metadata) = present(folder, fs::metadata(folder))? {
        trust_folder(folder, &metadata)?;
        if modes == Modes::Tighten {
            tighten(folder, &metadata, 0o700, |mode| fs::set_permissions(folder, mode));
        }
    }
    let Some(there) = present(path, fs::symlink_metadata(path))? else {
        return Ok(path.to_owned());
    };
    if !there.is_symlink() {
        trust_file(path, &there)?;
        return Ok(path.to_owned());
    }
    trust_owner(path, &there)?;
    let target = resolve(path).map_err(CacheError::io("follow", path))?;
    let folder = folder_of(&target);
    if let Some(metadata) = present(folder, fs::metadata(folder))? {
        trust_folder(folder, &metadata)?;
    }
    if let Some(there) = present(&target, fs::symlink_metadata(&target))? {
        trust_file(&target, &there)?;
    }
    Ok(target)
}

pub(super) fn create_or_reuse_private(path: &Path) -> io::Result<File> {
    let file = private().write(true).create(true).truncate(true).open(path)?;
    // one that a kill left behind may have any mode
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

pub(super) fn create_private(path: &Path) -> io::Result<File> {
    private().write(true).create_new(true).open(path)
}

/// Setting a time needs an owner, not a writer, and does no harm behind a link.
pub(super) fn open_to_touch(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn rename_over(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

pub(super) fn is_not_replaceable(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::BUSY | Errno::XDEV))
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // some file systems know no such thing
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(()),
        other => other,
    }
}

fn private() -> OpenOptions {
    let mut options = File::options();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.mode(0o600).custom_flags(flags.bits().cast_signed());
    options
}

/// What the system says of `path`, where it is no error that nothing is there.
fn present(path: &Path, said: io::Result<Metadata>) -> Result<Option<Metadata>, CacheError> {
    match said {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(CacheError::io("look at", path)(error)),
    }
}

/// Where the link leads, even if nothing is there yet.
fn resolve(link: &Path) -> io::Result<PathBuf> {
    match link.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let target = folder_of(link).join(fs::read_link(link)?);
            let name = target.file_name().ok_or(error)?.to_owned();
            Ok(folder_of(&target).canonicalize()?.join(name))
        }
        other => other,
    }
}

fn trust_folder(folder: &Path, metadata: &Metadata) -> Result<(), CacheError> {
    trust_owner(folder, metadata)?;
    // A umask of 002, common where every user has a group of their own, lets Python's library make
    // such a folder; it is tightened, and the files in it have owners of their own to check.
    if metadata.mode() & 0o002 != 0 {
        // tightening would come too late: anybody may have put files there
        return Err(distrust(
            folder,
            format!("others may write to it: mode {:04o}", metadata.mode() & 0o7777),
        ));
    }
    Ok(())
}

fn trust_file(path: &Path, metadata: &Metadata) -> Result<(), CacheError> {
    trust_owner(path, metadata)?;
    if !metadata.is_file() {
        return Err(distrust(path, "it is not a regular file".to_owned()));
    }
    Ok(())
}

fn trust_owner(path: &Path, metadata: &Metadata) -> Result<(), CacheError> {
    let (owner, us) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != us {
        return Err(distrust(path, format!("it belongs to user {owner}, and we are user {us}")));
    }
    Ok(())
}

fn distrust(path: &Path, detail: String) -> CacheError {
    CacheError::Unsafe { path: path.to_owned(), detail }
}

/// A failure is no error: a read-only file system must not fail a read.
fn tighten(path: &Path, metadata: &Metadata, wanted: u32, set: impl FnOnce(Permissions) -> io::Result<()>) {
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return;
    }
    let path = path.display();
    match set(Permissions::from_mode(wanted)) {
        Ok(()) => {
            tracing::warn!("{path} let others read (mode {mode:04o}); it is {wanted:04o} now");
        }
        Err(error) => tracing::warn!("{path} lets others read (mode {mode:04o}): {error}"),
    }
}

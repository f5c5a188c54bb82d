//! The file before SQLite sees it, and SQLite's errors in our words.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::VaultError;
use crate::store::Signal;

/// "TkVt": what `file` and a reader see before anything else.
pub(super) const APPLICATION_ID: i32 = 0x546B_5674;

/// No row is longer; a damaged length must not cost memory.
pub(super) const MAX_ROW: i32 = 16 * 1024 * 1024;

pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const SQLITE_HEADER: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Looks at owner, kind and mode of the file, its companions and its folder, and at its header.
///
/// # Errors
/// [`VaultError::Absent`], [`VaultError::Unsafe`], [`VaultError::Empty`], [`VaultError::Damaged`].
pub(super) fn check(path: &Path) -> Result<(), VaultError> {
    trust(path)?;
    // a checkpoint that ends between two looks may make them disagree; a damage stays
    for _ in 0..3 {
        if check_header(path).is_ok() {
            return Ok(());
        }
    }
    check_header(path)
}

/// Opens the database that [`check`] found good. On a read-only disk it can be read as it is,
/// unless a log is left beside it.
pub(super) fn connect(path: &Path) -> Result<Connection, VaultError> {
    let is_read_only = is_on_read_only_disk(path);
    let connection = if is_read_only {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        if fs::metadata(&companions(path)[0]).is_ok_and(|log| log.len() > 0) {
            return Err(VaultError::ReadOnly { path: path.to_owned() });
        }
        Connection::open_with_flags(immutable_uri(path), flags)
    } else {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(path, flags)
    }
    .map_err(sql(path))?;
    prepare(&connection).map_err(sql(path))?;
    if !is_read_only {
        // a backup is without a log; a vault never is
        connection.pragma_update(None, "journal_mode", "WAL").map_err(sql(path))?;
    }
    Ok(connection)
}

#[cfg(unix)]
fn is_on_read_only_disk(path: &Path) -> bool {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    statvfs(folder_of(path)).is_ok_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(not(unix))]
const fn is_on_read_only_disk(_path: &Path) -> bool {
    false
}

/// A path as SQLite's URIs want it, every odd byte escaped.
fn immutable_uri(path: &Path) -> String {
    use std::fmt::Write as _;
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            let _written = write!(uri, "%{byte:02x}");
        }
    }
    uri + "?immutable=1"
}

/// What every connection is set to.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_ROW)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 1)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "mmap_size", 0)
}

/// Says in our words what SQLite said.
pub(super) fn sql(path: &Path) -> impl Fn(rusqlite::Error) -> VaultError + use<'_> {
    |error| {
        let path = path.to_owned();
        let rusqlite::Error::SqliteFailure(failure, _) = &error else {
            // a column of another type, a missing row: what was written was different
            return VaultError::Damaged { path, detail: error.to_string() };
        };
        match failure.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                VaultError::Busy { path, waited: PATIENCE }
            }
            ErrorCode::DiskFull => VaultError::DiskFull { path },
            ErrorCode::ReadOnly if failure.extended_code == rusqlite::ffi::SQLITE_READONLY_DBMOVED => {
                VaultError::StaleHandle { path }
            }
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => VaultError::ReadOnly { path },
            ErrorCode::CannotOpen
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::NoLargeFileSupport
            | ErrorCode::OperationAborted
            | ErrorCode::OperationInterrupted
            | ErrorCode::OutOfMemory
            | ErrorCode::SystemIoFailure => {
                // a stale handle of a file server answers so to everybody
                match fs::metadata(&path) {
                    Err(source) => VaultError::io("look at", path)(source),
                    Ok(_) => VaultError::io("read or write", path)(io::Error::other(error.to_string())),
                }
            }
            // SQLite takes a file that the disk does not give for a damaged one
            ErrorCode::DatabaseCorrupt => match read_all(&path) {
                Err(source) => VaultError::io("read", path)(source),
                Ok(()) => VaultError::Damaged { path, detail: error.to_string() },
            },
            _ => VaultError::Damaged { path, detail: error.to_string() },
        }
    }
}

fn read_all(path: &Path) -> io::Result<()> {
    let [log, _] = companions(path);
    for file in [path, &log] {
        match File::open(file) {
            Ok(file) => read_to_the_end(&file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// By the call that SQLite reads with.
#[cfg(unix)]
fn read_to_the_end(file: &File) -> io::Result<()> {
    let (mut bytes, mut at) = (vec![0; 64 * 1024], 0);
    loop {
        match std::os::unix::fs::FileExt::read_at(file, &mut bytes, at)? {
            0 => return Ok(()),
            length => at += length as u64,
        }
    }
}

#[cfg(not(unix))]
fn read_to_the_end(mut file: &File) -> io::Result<()> {
    io::copy(&mut file, &mut io::sink()).map(drop)
}

/// Makes the folder (0700) and looks at it.
pub(super) fn prepare_folder(path: &Path) -> Result<(), VaultError> {
    let folder = folder_of(path);
    create_private_folder(folder).map_err(VaultError::io("create", folder))?;
    trust_folder(folder)
}

/// Makes an empty file of mode 0600 that was not there before.
pub(super) fn create_private(path: &Path) -> Result<File, VaultError> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => VaultError::AlreadyExists { path: path.to_owned() },
        _ => VaultError::io("create", path)(error),
    })
}

/// Waits until the folder's entries are on the disk.
pub(super) fn sync_folder(path: &Path) -> Result<(), VaultError> {
    if cfg!(unix) {
        let folder = folder_of(path);
        let sync = || File::open(folder)?.sync_all();
        sync().map_err(VaultError::io("sync", folder))?;
    }
    Ok(())
}

pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// The files that SQLite keeps beside the database.
pub(super) fn companions(path: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

/// What a change of the vault is seen by: its log, then the file itself.
pub(super) fn signals(path: &Path) -> Vec<Signal> {
    let [log, _] = companions(path);
    vec![Signal::file(path), Signal::log(log)]
}

/// Which file is at the path: it must stay the one that was opened.
#[cfg(unix)]
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Windows does not let an open database be replaced.
#[cfg(not(unix))]
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|_| (0, 0))
}

fn check_header(path: &Path) -> Result<(), VaultError> {
    let damaged = |detail: String| VaultError::Damaged { path: path.to_owned(), detail };
    let mut file = File::open(path).map_err(VaultError::io("open", path))?;
    let length = file.metadata().map_err(VaultError::io("look at", path))?.len();
    if length == 0 {
        return Err(VaultError::Empty { path: path.to_owned() });
    }
    if length < SQLITE_HEADER as u64 {
        return Err(damaged(format!("it has {length} bytes, less than its header")));
    }
    let mut header = [0; SQLITE_HEADER];
    file.read_exact(&mut header).map_err(VaultError::io("read", path))?;
    if &header[..16] != MAGIC {
        return Err(damaged("it does not begin as a database does".to_owned()));
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if number(68) != APPLICATION_ID.cast_unsigned() {
        return Err(damaged("it is a database, but not marked as a vault".to_owned()));
    }
    // with a log or, in a backup, without; the rest is the same in every database
    let is_usual = matches!(header[18..20], [1, 1] | [2, 2])
        && header[20..24] == [0, 64, 32, 32]
        && number(56) == 1
        && header[72..92].iter().all(|byte| *byte == 0);
    if !is_usual {
        return Err(damaged("its header has odd settings".to_owned()));
    }
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        other => u64::from(other),
    };
    if !page.is_power_of_two() || page < 512 || length % page != 0 {
        return Err(damaged(format!("its length, {length}, does not fit its page size, {page}")));
    }
    let wal = fs::symlink_metadata(&companions(path)[0]).map_or(0, |metadata| metadata.len());
    // with a log beside it the header may be older than the file, or newer
    if wal == 0 && u64::from(number(28)) * page != length {
        let pages = number(28);
        return Err(damaged(format!("it has {} pages, but its header says {pages}", length / page)));
    }
    Ok(())
}

fn trust(path: &Path) -> Result<(), VaultError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory =>
        {
            return Err(VaultError::Absent { path: path.to_owned() });
        }
        Err(error) => return Err(VaultError::io("look at", path)(error)),
    };
    trust_file(path, &metadata)?;
    for companion in companions(path) {
        if let Ok(metadata) = fs::symlink_metadata(&companion) {
            trust_file(&companion, &metadata)?;
        }
    }
    trust_folder(folder_of(path))
}

fn trust_folder(folder: &Path) -> Result<(), VaultError> {
    let metadata = fs::metadata(folder).map_err(VaultError::io("look at", folder))?;
    if !metadata.is_dir() {
        return Err(unsafe_path(folder, "it is not a folder"));
    }
    trust_owner_and_mode(folder, &metadata)
}

pub(super) fn trust_file(path: &Path, metadata: &fs::Metadata) -> Result<(), VaultError> {
    if !metadata.is_file() {
        return Err(unsafe_path(path, "it is not a plain file"));
    }
    trust_owner_and_mode(path, metadata)
}

#[cfg(unix)]
fn trust_owner_and_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), VaultError> {
    use std::os::unix::fs::MetadataExt as _;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(unsafe_path(path, "it belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        let detail = format!("its mode is {:o}, so others may use it", metadata.mode() & 0o777);
        return Err(unsafe_path(path, &detail));
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature on all platforms")]
fn trust_owner_and_mode(_path: &Path, _metadata: &fs::Metadata) -> Result<(), VaultError> {
    Ok(())
}

fn unsafe_path(path: &Path, detail: &str) -> VaultError {
    VaultError::Unsafe { path: path.to_owned(), detail: detail.to_owned() }
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

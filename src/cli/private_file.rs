//! Small files of the user's own: whole or not at all, and nobody else's to read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::failure::Failure;

/// Whether [`write`] could replace this file, so that nobody is asked to sign in for nothing.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => {
            Err(refuse(path, "it is not a file of its own, but a link or a folder"))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = folder_of(path);
            match fs::metadata(&folder) {
                Ok(found) if found.is_dir() => Ok(()),
                Ok(_) => Err(refuse(path, "its folder is none")),
                Err(error) => Err(Failure::file("writing into", folder)(error)),
            }
        }
        Err(error) => Err(Failure::file("writing", path)(error)),
    }
}

/// Replaces the file (mode 0600) in one step. Links are refused, not followed.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    check(path)?;
    let temporary = folder_of(path).join(format!(".tokenkeep-{}.tmp", Uuid::new_v4().simple()));
    let written = create(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    written.map_err(|error| {
        fs::remove_file(&temporary).ok();
        Failure::file("writing", path)(error)
    })
}

/// Reads at most `limit` bytes; of a longer file, `limit + 1` bytes, so that it can be told.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let source = File::open(path).map_err(Failure::file("reading", path))?;
    read_from(source, path, limit)
}

/// The same of the standard input.
pub(super) fn read_stdin(limit: u64) -> Result<Vec<u8>, Failure> {
    read_from(io::stdin().lock(), Path::new("the standard input"), limit)
}

/// Makes the folder (mode 0700) if there is none.
pub(super) fn make_folder(path: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(Failure::file("making the folder", path))
}

fn read_from(source: impl io::Read, path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes).map_err(Failure::file("reading", path))?;
    Ok(bytes)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn refuse(path: &Path, why: &str) -> Failure {
    Failure::file("writing", path)(io::Error::other(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        for content in ["a long first content", "short"] {
            write(&path, content.as_bytes()).unwrap();
            assert_eq!(read(&path, 100).unwrap(), content.as_bytes());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it_and_a_link_is_refused() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("b"));
        write(&path, b"x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        symlink(&path, &link).unwrap();
        let error = write(&link, b"y").unwrap_err().to_string();
        assert!(error.contains("link"), "{error}");
        assert_eq!(read(&path, 100).unwrap(), b"x");
    }

    #[test]
    fn what_cannot_work_is_told_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        check(&folder.path().join("new")).unwrap();
        for bad in [folder.path().to_owned(), folder.path().join("none").join("new")] {
            check(&bad).unwrap_err();
        }
    }

    #[test]
    fn a_long_file_is_read_no_further_than_it_can_be_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        write(&path, &[b'x'; 100]).unwrap();
        assert_eq!(read(&path, 10).unwrap().len(), 11);
    }
}

//! The list of grants: one file each, without its secret, for as long as its server lives.
//!
//! A server holds a lock on its file, so a file that nobody holds was left by a kill: that is surer
//! than a process id, which another process may have by now, and works between containers, too.
//! Removing the file revokes the grant.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::grant::Uses;

#[cfg(unix)]
#[path = "registry/unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "registry/windows.rs"]
mod platform;

const EXTENSION: &str = "grant";
const VERSION: u32 = 1;
const MAX_LENGTH: u64 = 64 * 1024;
/// A sweep may take a file in the instant before it is held.
const ATTEMPTS: usize = 8;

/// What everybody of this user may know about a grant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Entry {
    pub(crate) version: u32,
    pub(crate) id: String,
    /// The process that serves it.
    pub(crate) pid: u32,
    /// `exec` or `serve`.
    pub(crate) way: String,
    /// The name of the program that it is for, without arguments: those may hold secrets.
    pub(crate) command: Option<String>,
    pub(crate) username: String,
    pub(crate) home_account_id: String,
    pub(crate) tenants: Vec<String>,
    pub(crate) scopes: Vec<String>,
    /// Seconds since 1970.
    pub(crate) started: i64,
    /// Seconds since 1970; `None` while its server lives.
    pub(crate) expires_on: Option<i64>,
    /// Where it is served if not on loopback.
    pub(crate) socket: Option<PathBuf>,
}

impl Entry {
    pub(crate) const VERSION: u32 = VERSION;
}

/// A grant of the list, and how often it was used.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) entry: Entry,
    pub(crate) served: u64,
    pub(crate) denied: u64,
    path: PathBuf,
}

impl Listed {
    /// Revokes the grant; `false` if it was gone already.
    pub(crate) fn revoke(&self) -> io::Result<bool> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The folder of the list.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    folder: PathBuf,
}

impl Registry {
    /// The list in a private folder below `running`; nothing is made yet.
    pub(crate) fn below(running: &Path) -> Self {
        Self { folder: running.join("grants") }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds a grant to the list, and sweeps out what kills left behind.
    ///
    /// # Errors
    /// When the folder cannot be made, or is not this user's alone.
    pub(crate) fn register(&self, entry: &Entry) -> io::Result<Registration> {
        private_folder(&self.folder)?;
        self.list().ok();
        let path = self.folder.join(format!("{}.{EXTENSION}", entry.id));
        // renamed once it is whole and held: a reader sees all of it, and a sweep nothing to take
        let temporary = self.folder.join(format!(".{}", entry.id));
        for _ in 0..ATTEMPTS {
            let mut file = platform::create(&temporary)?;
            let facts = serde_json::to_vec(entry)?;
            file.write_all(&facts)?;
            file.write_all(b"\n")?;
            let counters_at = u64::try_from(facts.len()).unwrap_or(u64::MAX).saturating_add(1);
            platform::write_at(&file, counters(0, 0).as_bytes(), counters_at)?;
            match platform::hold(&file).and_then(|()| fs::rename(&temporary, &path)) {
                Ok(()) => return Ok(Registration { file, path, counters_at }),
                Err(error) => tracing::debug!(%error, "another process swept a new grant away; once more"),
            }
        }
        Err(io::Error::other("other processes keep sweeping it away"))
    }

    /// All grants whose servers live, oldest first; what kills left behind is removed.
    pub(crate) fn list(&self) -> io::Result<Vec<Listed>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut listed = Vec::new();
        for entry in entries {
            let path = entry?.path();
            match read(&path) {
                Ok(Some(found)) => listed.push(found),
                Ok(None) => {}
                Err(error) => tracing::warn!(path = %path.display(), %error, "this is no grant of ours"),
            }
        }
        listed.sort_by(|one, other| {
            (one.entry.started, &one.entry.id).cmp(&(other.entry.started, &other.entry.id))
        });
        Ok(listed)
    }
}

/// Reads one file of the list; one that nobody holds is removed.
fn read(path: &Path) -> io::Result<Option<Listed>> {
    let Some(file) = platform::open(path)? else { return Ok(None) };
    if !platform::is_held(&file, path)? {
        // no matter if another process was quicker
        fs::remove_file(path).ok();
        return Ok(None);
    }
    if path.extension().is_none_or(|extension| extension != EXTENSION) {
        return Ok(None);
    }
    let mut text = String::new();
    file.take(MAX_LENGTH).read_to_string(&mut text)?;
    let (facts, counters) = text.split_once('\n').unwrap_or((&text, ""));
    let entry = serde_json::from_str(facts)?;
    let mut numbers = counters.split_whitespace().map_while(|number| number.parse().ok());
    let (served, denied) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Ok(Some(Listed { entry, served, denied, path: path.to_owned() }))
}

/// Of one width, so that they are replaced in place: a new file would undo a revocation.
fn counters(served: u64, denied: u64) -> String {
    format!("{served:20} {denied:20}\n")
}

/// A place in the list, given up when dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    file: File,
    path: PathBuf,
    counters_at: u64,
}

impl Registration {
    /// Whether the grant is still on the list; a `stat`.
    pub(super) fn stands(&self) -> bool {
        platform::is_at(&self.file, &self.path)
    }

    /// Writes the counters. They are for people, so a failure is no reason to refuse a token.
    pub(super) fn note(&self, uses: &Uses) {
        let (served, denied) = uses.so_far();
        if let Err(error) =
            platform::write_at(&self.file, counters(served, denied).as_bytes(), self.counters_at)
        {
            tracing::debug!(%error, "the counters of a grant could not be written");
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.stands() {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Makes the folder, and the one above it, for this user alone.
fn private_folder(folder: &Path) -> io::Result<()> {
    for folder in folder.parent().into_iter().chain([folder]) {
        platform::make_private(folder)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn entry(id: &str) -> Entry {
        Entry {
            version: VERSION,
            id: id.to_owned(),
            pid: std::process::id(),
            way: "exec".to_owned(),
            command: Some("python".to_owned()),
            username: "user.one@contoso.example".to_owned(),
            home_account_id: "u.t".to_owned(),
            tenants: vec!["t".to_owned()],
            scopes: vec!["*".to_owned()],
            started: 1_767_225_600,
            expires_on: None,
            socket: None,
        }
    }

    fn registry() -> (tempfile::TempDir, Registry) {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::below(&folder.path().join("tokenkeep"));
        (folder, registry)
    }

    #[test]
    fn a_grant_is_listed_with_its_uses_until_its_server_ends() {
        let (_folder, registry) = registry();
        assert!(registry.list().unwrap().is_empty());
        let (first, second) = (entry("b"), Entry { started: 1, ..entry("c") });
        let registration = registry.register(&first).unwrap();
        let _second = registry.register(&second).unwrap();
        let uses = Uses::default();
        for served in [true, true, false] {
            uses.count(served);
            registration.note(&uses);
        }
        let listed = registry.list().unwrap();
        let entries: Vec<_> = listed.iter().map(|listed| listed.entry.clone()).collect();
        assert_eq!(entries, [second.clone(), first]);
        assert_eq!((listed[1].served, listed[1].denied), (2, 1));
        drop(registration);
        let left = registry.list().unwrap();
        assert_eq!(left.iter().map(|listed| &listed.entry).collect::<Vec<_>>(), [&second]);
    }

    #[test]
    fn a_revoked_grant_does_not_come_back_by_being_used() {
        let (_folder, registry) = registry();
        let registration = registry.register(&entry("a")).unwrap();
        let listed = registry.list().unwrap().remove(0);
        assert!(registration.stands());
        assert!(listed.revoke().unwrap());
        assert!(!listed.revoke().unwrap());
        assert!(!registration.stands());
        registration.note(&Uses::default());
        assert!(registry.list().unwrap().is_empty());

        // a file of the same name is not the grant
        let _other = registry.register(&entry("a")).unwrap();
        assert!(!registration.stands());
        drop(registration);
        assert_eq!(registry.list().unwrap().len(), 1);
    }

    #[test]
    fn what_a_kill_left_behind_is_swept_and_what_is_no_grant_stays_unread() {
        let (_folder, registry) = registry();
        let registration = registry.register(&entry("a")).unwrap();
        for name in ["dead.grant", ".half"] {
            fs::copy(registry.folder().join("a.grant"), registry.folder().join(name)).unwrap();
        }
        assert_eq!(registry.list().unwrap().len(), 1);
        let names: Vec<_> =
            fs::read_dir(registry.folder()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["a.grant"]);
        drop(registration);
        assert_eq!(fs::read_dir(registry.folder()).unwrap().count(), 0);
    }

    #[test]
    fn many_at_once_do_not_sweep_each_other_away() {
        let (_folder, registry) = registry();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let registry = &registry;
                scope.spawn(move || {
                    for index in 0..25 {
                        let id = format!("{thread}-{index}");
                        let registration = registry.register(&entry(&id)).unwrap();
                        assert!(registration.stands(), "{id}");
                        let listed = registry.list().unwrap();
                        assert!(listed.iter().any(|listed| listed.entry.id == id), "{id}");
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(registry.folder()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_and_its_files_are_this_users_alone() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let (folder, registry) = registry();
        let _registration = registry.register(&entry("a")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(registry.folder()), 0o700);
        assert_eq!(mode(registry.folder().parent().unwrap()), 0o700);
        assert_eq!(mode(&registry.folder().join("a.grant")), 0o600);

        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o700)).unwrap();
        symlink(folder.path(), elsewhere.join("grants")).unwrap();
        let error = Registry::below(&elsewhere).register(&entry("a")).unwrap_err().to_string();
        assert!(error.contains("link"), "{error}");

        let open = folder.path().join("open").join("grants");
        fs::create_dir_all(&open).unwrap();
        fs::set_permissions(open.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let error =
            Registry::below(&folder.path().join("open")).register(&entry("a")).unwrap_err().to_string();
        assert!(error.contains("0777"), "{error}");
    }
}

//! The lock of a cache: one that every SDK's own lock respects (spec S-C 3.2).
//!
//! Existence of the file stops Python and Node, `flock` on it stops .NET and Go, a record lock on
//! the folder's own lock file stops Java, and a turn taken inside the process stops our threads.

#[cfg(unix)]
#[path = "lock/unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "lock/windows.rs"]
mod platform;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::error::CacheError;
use crate::time::Deadline;

use self::platform::LockFile;

/// The lock files of one cache, in the order in which they are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LockPaths {
    /// The folder that is made if it is not there.
    home: PathBuf,
    /// Sorted, each once: whoever takes several does so in one order (spec S-C 3.2).
    files: Vec<(Mechanism, PathBuf)>,
}

impl LockPaths {
    /// The cache's own lock file, and those of everybody else who writes what it protects.
    pub(super) fn new(
        own: (Mechanism, PathBuf),
        others: impl IntoIterator<Item = (Mechanism, PathBuf)>,
    ) -> Self {
        let home = folder_of(&own.1).to_owned();
        let mut files = vec![own];
        files.extend(others);
        files.sort();
        files.dedup();
        Self { home, files }
    }

    /// Takes those of another tool that writes the same thing, too.
    pub(super) fn add(&mut self, others: Self) {
        self.files.extend(others.files);
        self.files.sort();
        self.files.dedup();
    }

    /// Every file, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(_, path)| path.as_path())
    }

    /// The one to name when all of them are meant.
    pub(super) fn first(&self) -> &Path {
        self.iter().next().unwrap_or(&self.home)
    }

    /// Whether somebody seems to be writing.
    pub(super) fn exist(&self) -> bool {
        self.files.iter().any(|(mechanism, path)| *mechanism != Mechanism::KeptFlock && path.exists())
    }

    /// Without those in folders that are not there: no tool that would take them was ever used.
    fn present(&self) -> Vec<(Mechanism, &Path)> {
        let files = self.files.iter().map(|(mechanism, path)| (*mechanism, path.as_path()));
        files.filter(|(_, path)| folder_of(path) == self.home || folder_of(path).is_dir()).collect()
    }
}

/// Proof that the cache may be written; dropping it lets the others in.
///
/// Held for milliseconds only, and never while a provider is being asked.
#[derive(Debug)]
pub(crate) struct CacheLock {
    // dropped in this order: the files, the last one first, then our turns in the process
    files: Vec<LockFile>,
    _turns: Vec<Turn>,
}

impl CacheLock {
    /// Takes the lock, waiting for others until the deadline; tries once even if that has passed.
    ///
    /// # Errors
    /// [`CacheError::LockTimeout`] naming the holder; [`CacheError::Io`] if the folder cannot be
    /// written; [`CacheError::Unsafe`] if a lock file is a link.
    pub(crate) fn acquire(paths: &LockPaths, deadline: Deadline) -> Result<Self, CacheError> {
        create_folder(&paths.home)?;
        let paths = paths.present();
        let turns = Turn::take_all(&paths, deadline)?;
        let mut told = false;
        loop {
            let busy = match Self::try_files(&paths)? {
                Ok(files) => return Ok(Self { files, _turns: turns }),
                Err(busy) => busy,
            };
            let holder = holder_of(busy);
            if deadline.has_passed() {
                return Err(CacheError::LockTimeout {
                    path: busy.to_owned(),
                    holder,
                    waited: deadline.whole(),
                });
            }
            if !told {
                tracing::info!("waiting for {holder} to release {}", busy.display());
                told = true;
            }
            std::thread::sleep(pause().min(deadline.remaining()));
        }
    }

    /// Whether our files are still at their paths: Node removes lock files that are not its own.
    pub(crate) fn is_intact(&self) -> bool {
        self.files.iter().all(LockFile::is_in_place)
    }

    /// All files or none: waiting for the second with the first in hand would stop other programs
    /// for longer than they are ready to wait.
    fn try_files<'a>(paths: &[(Mechanism, &'a Path)]) -> Result<Result<Vec<LockFile>, &'a Path>, CacheError> {
        let mut files = Vec::with_capacity(paths.len());
        for (mechanism, path) in paths {
            match LockFile::try_acquire(path, *mechanism)? {
                Some(file) => files.insert(0, file),
                None => return Ok(Err(path)),
            }
        }
        Ok(Ok(files))
    }
}

/// What is locked besides the file's existence. Windows has one mechanism for the first two.
///
/// In the order in which locks are taken: the caches' own before a folder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mechanism {
    /// `flock`, and the file goes with the lock.
    Flock,
    /// `flock` alone: the file was always there and stays, because those who wait for it have it
    /// open already.
    KeptFlock,
    /// A record lock, and the file goes with it.
    RecordLock,
}

/// What a lock file's content and age say of the one who made it, once the platform's own lock on
/// it turned out to be free.
fn is_stale(content: &str, age: Duration, lock_is_proof: bool) -> bool {
    let mut words = content.split_ascii_whitespace();
    let pid = words.next().and_then(|word| word.parse().ok());
    match pid {
        // killed between creating the file and writing into it
        None if content.is_empty() => age > Duration::from_secs(5),
        None => age > Duration::from_secs(60),
        // our kind holds the platform's lock for as long as the file has content
        Some(_) if lock_is_proof && words.next() == Some(PROGRAM) => true,
        // nobody but us runs under our number, unless in another container: see below
        Some(pid) if pid == std::process::id() => age > FOREIGN_HOLD,
        Some(pid) => age > FOREIGN_HOLD && !platform::is_alive(pid),
    }
}

/// A number that is dead here may live in another container, so the file must also be older than
/// anybody holds it.
const FOREIGN_HOLD: Duration = Duration::from_secs(1);

const PROGRAM: &str = env!("CARGO_PKG_NAME");

/// What we write into a lock file: as everybody does, number and name.
fn signature() -> String {
    format!("{} {PROGRAM}", std::process::id())
}

fn age_of(file: &File) -> Duration {
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default()
}

/// The beginning of a lock file, which is all that anybody writes.
fn content_of(mut file: impl Read) -> io::Result<String> {
    let mut content = Vec::new();
    file.by_ref().take(1024).read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// What the file says of its holder, fit for one line of text.
fn holder_of(path: &Path) -> String {
    printable(&content_at(path).unwrap_or_default())
}

/// The same of content that was read already.
pub(super) fn printable(content: &str) -> String {
    let printable = content.chars().filter(|c| !c.is_control()).take(80);
    match printable.collect::<String>().trim() {
        "" => "an unknown program".to_owned(),
        content => format!("process {content}"),
    }
}

/// What stands in a lock file; never waits, whatever is in its place.
pub(super) fn content_at(path: &Path) -> io::Result<String> {
    platform::open_to_look(path).and_then(content_of)
}

/// Whether the process is there; another container's never is.
pub(super) fn is_alive(pid: u32) -> bool {
    platform::is_alive(pid)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn create_folder(folder: &Path) -> Result<(), CacheError> {
    match platform::create_private_folder(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(CacheError::io("create", folder)(error))
        }
        _ => Ok(()),
    }
}

/// 20 to 100 ms, so that those who wait do not meet again and again.
fn pause() -> Duration {
    let jitter = getrandom::u32().unwrap_or_default() % 81;
    Duration::from_millis(u64::from(20 + jitter))
}

/// A thread's turn among those of this process. They all share one process number and one set of
/// record locks, so files cannot keep them apart.
#[derive(Debug)]
struct Turn(PathBuf);

static TURNS: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
static TURN_ENDED: Condvar = Condvar::new();

impl Turn {
    /// In one order, as with the files.
    fn take_all(paths: &[(Mechanism, &Path)], deadline: Deadline) -> Result<Vec<Self>, CacheError> {
        let mut folders = Vec::with_capacity(paths.len());
        for (_, path) in paths {
            let folder = folder_of(path);
            // by folder, because Java's lock is; by its one true name, because links are many
            folders.push((folder.canonicalize().map_err(CacheError::io("find", folder))?, *path));
        }
        folders.sort();
        folders.dedup_by(|one, other| one.0 == other.0);
        folders.into_iter().map(|(folder, path)| Self::take(folder, path, deadline)).collect()
    }

    fn take(key: PathBuf, wanted: &Path, deadline: Deadline) -> Result<Self, CacheError> {
        let taken = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let is_taken =
            |turns: &mut Option<HashSet<PathBuf>>| turns.as_ref().is_some_and(|turns| turns.contains(&key));
        let (mut turns, _) = TURN_ENDED
            .wait_timeout_while(taken, deadline.remaining(), is_taken)
            .unwrap_or_else(PoisonError::into_inner);
        if !turns.get_or_insert_default().insert(key.clone()) {
            return Err(CacheError::LockTimeout {
                path: wanted.to_owned(),
                holder: "another thread of this process".to_owned(),
                waited: deadline.whole(),
            });
        }
        Ok(Self(key))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = turns.as_mut() {
            turns.remove(&self.0);
        }
        TURN_ENDED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;

    fn paths(folder: &Path) -> LockPaths {
        let cache = folder.join("msal.cache.nocae.lockfile");
        LockPaths::new((Mechanism::Flock, cache), [(Mechanism::RecordLock, folder.join(".lockfile"))])
    }

    impl LockPaths {
        fn cache(&self) -> &Path {
            self.first()
        }

        fn folder(&self) -> &Path {
            self.iter().nth(1).unwrap()
        }
    }

    fn at_once() -> Deadline {
        Deadline::within(Duration::ZERO)
    }

    /// A lock file as another program leaves it, so old that nobody can still be holding it.
    fn leave_behind(path: &Path, content: &str, age: Duration) {
        std::fs::write(path, content).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    fn dead_pid() -> u32 {
        let holder = Holder::of("nothing", Path::new(""));
        let pid = holder.pid();
        holder.end();
        pid
    }

    /// This test program once more, holding what [`a_holder_in_another_process`] says.
    struct Holder {
        child: Child,
        stdout: BufReader<ChildStdout>,
    }

    impl Holder {
        fn of(what: &str, path: &Path) -> Self {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "store::lock::tests::a_holder_in_another_process"])
                .arg("--nocapture")
                .env("TOKENKEEP_TEST_HOLD", what)
                .env("TOKENKEEP_TEST_HOLD_PATH", path)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdout = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            while !line.contains("holding") {
                line.clear();
                assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it ended");
            }
            Self { child, stdout }
        }

        fn pid(&self) -> u32 {
            self.child.id()
        }

        fn end(mut self) {
            drop(self.child.stdin.take());
            self.stdout.read_to_string(&mut String::new()).unwrap();
            assert!(self.child.wait().unwrap().success());
        }
    }

    /// Not a test of its own: the other process of those below.
    #[test]
    fn a_holder_in_another_process() {
        let Ok(what) = std::env::var("TOKENKEEP_TEST_HOLD") else {
            return;
        };
        let path = PathBuf::from(std::env::var_os("TOKENKEEP_TEST_HOLD_PATH").unwrap());
        let _held: Box<dyn std::any::Any> = match what.as_str() {
            "nothing" => Box::new(()),
            "lock" => Box::new(CacheLock::acquire(&paths(&path), at_once()).unwrap()),
            #[cfg(unix)]
            "fcntl" => Box::new(unix::record_lock(&path).unwrap()),
            #[cfg(unix)]
            "no fcntl" => Box::new(unix::record_lock(&path).unwrap_err()),
            other => panic!("{other}"),
        };
        // not print!, which the harness captures in some of its modes
        writeln!(io::stdout(), "holding").unwrap();
        io::stdin().read_line(&mut String::new()).unwrap();
    }

    #[test]
    fn the_lock_makes_its_folder_and_leaves_no_file() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".IdentityService");
        let paths = paths(&folder);
        let held = CacheLock::acquire(&paths, at_once()).unwrap();
        assert!(held.is_intact() && paths.exist());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&folder), mode(paths.cache())), (0o700, 0o600));
        }

        drop(held);
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    }

    #[test]
    fn another_thread_waits_and_a_deadline_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let held = CacheLock::acquire(&paths, at_once()).unwrap();
        let other = |deadline| CacheLock::acquire(&paths, deadline).map(drop);
        std::thread::scope(|scope| {
            let error = scope.spawn(|| other(at_once()).unwrap_err()).join().unwrap();
            assert!(error.to_string().contains("another thread of this process"), "{error}");

            let waiting = scope.spawn(|| other(Deadline::within(Duration::from_secs(60))));
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn another_process_is_waited_for_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let child = Holder::of("lock", folder.path());
        let pid = child.pid().to_string();

        let error = CacheLock::acquire(&paths, at_once()).unwrap_err();
        let CacheError::LockTimeout { path, holder, .. } = error else { panic!("{error}") };
        assert_eq!(path, paths.cache());
        assert_eq!(holder, format!("process {pid} tokenkeep"));

        child.end();
        CacheLock::acquire(&paths, Deadline::within(Duration::from_secs(60))).unwrap();
    }

    #[test]
    fn a_living_holder_that_only_made_the_file_is_respected() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let child = Holder::of("nothing", Path::new(""));
        leave_behind(paths.cache(), &format!("{} /usr/bin/az", child.pid()), Duration::from_secs(600));
        CacheLock::acquire(&paths, at_once()).unwrap_err();
        assert!(paths.cache().exists() && !paths.folder().exists());
        child.end();
    }

    #[test]
    fn what_a_dead_process_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let dead = dead_pid();
        for path in [paths.cache(), paths.folder()] {
            leave_behind(path, &format!("{dead} python"), Duration::from_secs(2));
            // on Windows the first try removes it and the second creates it
            let deadline = Deadline::within(Duration::from_secs(60));
            let held = CacheLock::acquire(&paths, deadline).unwrap();
            assert!(held.is_intact());
        }
        assert!(!paths.exist());
    }

    #[test]
    fn what_our_own_kind_left_is_taken_over_whoever_has_its_number_now() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        leave_behind(paths.cache(), &signature(), Duration::ZERO);
        CacheLock::acquire(&paths, Deadline::within(Duration::from_secs(60))).unwrap();
    }

    #[test]
    fn content_age_and_number_tell_what_is_stale() {
        let (dead, secs) = (dead_pid(), Duration::from_secs);
        let cases = [
            ("", secs(4), false),
            ("", secs(6), true),
            ("not a number", secs(59), false),
            ("not a number", secs(61), true),
            (&format!("{dead} python"), secs(0), false), // alive in another container, perhaps
            (&format!("{dead} python"), secs(2), true),
            (&dead.to_string(), secs(2), true),
            (&format!("{dead} tokenkeep"), secs(0), true),
        ];
        for (content, age, expected) in cases {
            assert_eq!(is_stale(content, age, true), expected, "{content:?} {age:?}");
        }
        let ours = format!("{dead} tokenkeep");
        assert!(!is_stale(&ours, secs(0), false), "without flock nothing proves its death");
    }

    #[cfg(unix)]
    mod unix {
        use std::os::unix::fs::MetadataExt;

        use fs4::FileExt;

        use super::*;

        #[test]
        fn a_dead_ones_file_is_used_on_and_not_replaced() {
            let folder = tempfile::tempdir().unwrap();
            let paths = paths(folder.path());
            leave_behind(paths.cache(), &format!("{} python", dead_pid()), Duration::from_secs(2));
            let inode = paths.cache().metadata().unwrap().ino();
            let _held = CacheLock::acquire(&paths, at_once()).unwrap();
            assert_eq!(paths.cache().metadata().unwrap().ino(), inode);
            assert_eq!(std::fs::read_to_string(paths.cache()).unwrap(), signature());
        }

        #[test]
        fn a_flock_holder_is_respected_whatever_its_file_says() {
            let folder = tempfile::tempdir().unwrap();
            let paths = paths(folder.path());
            leave_behind(paths.cache(), &format!("{} pwsh", dead_pid()), Duration::from_secs(600));
            let dotnet = File::open(paths.cache()).unwrap();
            FileExt::lock(&dotnet).unwrap();
            CacheLock::acquire(&paths, at_once()).unwrap_err();
            assert!(paths.cache().exists(), "a file that is not ours stays");

            drop(dotnet);
            CacheLock::acquire(&paths, at_once()).unwrap();
        }

        #[test]
        fn while_we_hold_it_nobody_gets_flock_on_it() {
            let folder = tempfile::tempdir().unwrap();
            let paths = paths(folder.path());
            let _held = CacheLock::acquire(&paths, at_once()).unwrap();
            let dotnet = File::open(paths.cache()).unwrap();
            FileExt::try_lock(&dotnet).unwrap_err();
        }

        pub(super) fn record_lock(path: &Path) -> rustix::io::Result<File> {
            let file = File::options().write(true).open(path).unwrap();
            let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
            rustix::fs::fcntl_lock(&file, operation).map(|()| file)
        }

        #[test]
        fn javas_record_lock_is_respected_and_the_first_file_is_let_go() {
            let folder = tempfile::tempdir().unwrap();
            let paths = paths(folder.path());
            let content = format!("{} localhost", dead_pid());
            leave_behind(paths.folder(), &content, Duration::from_secs(600));
            let java = Holder::of("fcntl", paths.folder());
            let error = CacheLock::acquire(&paths, at_once()).unwrap_err();
            assert!(matches!(error, CacheError::LockTimeout { path, .. } if path == paths.folder()));
            assert!(!paths.cache().exists());
            java.end();
            CacheLock::acquire(&paths, at_once()).unwrap();
        }

        #[test]
        fn while_we_hold_it_java_gets_no_record_lock() {
            let folder = tempfile::tempdir().unwrap();
            let paths = paths(folder.path());
            let _held = CacheLock::acquire(&paths, at_once()).unwrap();
            Holder::of("no fcntl", paths.folder()).end();
        }

        #[test]
        fn a_file_that_was_unlinked_during_the_hold_is_noticed_and_its_successor_stays() {
            let folder = tempfile::tempdir().unwrap();
            let paths = paths(folder.path());
            let held = CacheLock::acquire(&paths, at_once()).unwrap();
            std::fs::remove_file(paths.cache()).unwrap();
            assert!(!held.is_intact());
            std::fs::write(paths.cache(), "1 node").unwrap();
            assert!(!held.is_intact());

            drop(held);
            assert_eq!(std::fs::read_to_string(paths.cache()).unwrap(), "1 node");
        }

        #[test]
        fn a_link_is_no_lock_file() {
            let folder = tempfile::tempdir().unwrap();
            let paths = paths(folder.path());
            let target = folder.path().join("precious");
            std::fs::write(&target, "1 x").unwrap();
            std::os::unix::fs::symlink(&target, paths.cache()).unwrap();
            let error = CacheLock::acquire(&paths, at_once()).unwrap_err();
            assert!(matches!(error, CacheError::Unsafe { .. }), "{error}");
            assert_eq!(std::fs::read_to_string(target).unwrap(), "1 x");
        }
    }
}

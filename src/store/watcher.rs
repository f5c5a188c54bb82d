//! Telling a program that runs for long when to look at its caches' stamps again.
//!
//! An event of the system is only a hint: the stamp decides. So events may come too often, late or
//! merged, and after an overflow everything may have changed; nothing is lost by that.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::error::CacheError;

use super::Store;

/// A burst of events is one hint, given once it has been quiet for so long,
const QUIET: Duration = Duration::from_millis(50);
/// or has gone on for so long.
const LONGEST: Duration = Duration::from_millis(500);

/// Watches the files by which stores show that they changed, whoever changed them.
///
/// Add stores *before* reading their stamps: what happens later than that is hinted at. Files on
/// a server that other machines write to may change without a hint.
///
/// ```no_run
/// # fn main() -> Result<(), tokenkeep::error::CacheError> {
/// use std::sync::Arc;
/// use tokenkeep::store::{self, Watcher};
/// # let (options, places) = (Default::default(), store::Places::of_current_user()?);
///
/// let store = store::open(&options, false, &places)?;
/// let hints = Arc::new(tokio::sync::Notify::new());
/// let hint = Arc::clone(&hints);
/// let watcher = Watcher::new(move || hint.notify_one())?;
/// watcher.add(store.as_ref())?;
/// // then, in a loop: hints.notified().await, and load again if store.stamp() is another one
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watcher(Sender<Message>);

impl Watcher {
    /// Watches nothing yet. `maybe_changed` is called on a thread of its own, once for a burst of
    /// events; it must not block for long.
    ///
    /// # Errors
    /// [`CacheError::Io`] if the system has no watches left.
    pub fn new(maybe_changed: impl FnMut() + Send + 'static) -> Result<Self, CacheError> {
        let (sender, messages) = mpsc::channel();
        let events = sender.clone();
        let system = notify::recommended_watcher(move |event| {
            // nobody is left to tell while the thread ends
            let _told = events.send(Message::Event(event));
        })
        .map_err(|error| failed(Path::new("."), error))?;
        let watching = Watching {
            system,
            messages,
            signals: Vec::new(),
            names: Names::default(),
            folders: BTreeSet::new(),
            maybe_changed: Box::new(maybe_changed),
        };
        thread::Builder::new()
            .name("tokenkeep-watcher".to_owned())
            .spawn(move || watching.run())
            .map_err(CacheError::io("start a thread to watch", "."))?;
        Ok(Self(sender))
    }

    /// Watches what others do to this store, too.
    ///
    /// # Errors
    /// [`CacheError::Io`] if the system refuses. The stores that were added before are watched
    /// nevertheless.
    pub fn add(&self, store: &dyn Store) -> Result<(), CacheError> {
        self.watch(store.signals())
    }

    /// The same for a file that is no store's.
    #[cfg(feature = "cli")]
    pub(crate) fn add_file(&self, path: &Path) -> Result<(), CacheError> {
        self.watch(vec![Signal::file(path)])
    }

    fn watch(&self, signals: Vec<Signal>) -> Result<(), CacheError> {
        let (answer, answers) = mpsc::channel();
        let ended = || CacheError::io("watch", ".")(io::Error::other("the watching thread has ended"));
        self.0.send(Message::Add(signals, answer)).map_err(|_| ended())?;
        answers.recv().map_err(|_| ended())?
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _already_ended = self.0.send(Message::Stop);
    }
}

/// A file that changes whenever a cache does; it need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    path: PathBuf,
    is_log: bool,
}

impl Signal {
    /// A file that is written, replaced, touched or removed.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), is_log: false }
    }

    /// A log that comes and goes as a database is opened and closed, even by who only reads: only
    /// what is written into it is a change. Else a program that opens a database to see whether it
    /// changed would tell itself to look again, for ever.
    #[must_use]
    pub fn log(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), is_log: true }
    }

    /// What may change: the file and, if that is a link, what it leads to.
    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let target = self.path.is_symlink().then(|| self.path.canonicalize().ok()).flatten();
        std::iter::once(self.path.clone()).chain(target)
    }
}

enum Message {
    Event(notify::Result<Event>),
    Add(Vec<Signal>, Sender<Result<(), CacheError>>),
    Stop,
}

/// What an event says to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Meaning {
    Nothing,
    MaybeChanged,
    /// Other folders may have to be watched from now on.
    FoldersMoved,
}

/// The thread's side.
struct Watching {
    system: RecommendedWatcher,
    messages: Receiver<Message>,
    signals: Vec<Signal>,
    names: Names,
    /// Those that are watched.
    folders: BTreeSet<PathBuf>,
    maybe_changed: Box<dyn FnMut() + Send>,
}

impl Watching {
    fn run(mut self) {
        while let Ok(message) = self.messages.recv() {
            let Some(first) = self.take(message) else { return };
            if first == Meaning::Nothing {
                continue;
            }
            let Some(meaning) = self.settle(first) else { return };
            let is_elsewhere = meaning == Meaning::FoldersMoved || self.nearest_folders() != self.folders;
            if is_elsewhere && let Err(error) = self.watch_folders() {
                tracing::warn!(%error, "changes of caches may go unnoticed for a while");
            }
            (self.maybe_changed)();
        }
    }

    /// What the message means for the caches; `None` to stop.
    fn take(&mut self, message: Message) -> Option<Meaning> {
        match message {
            Message::Event(event) => Some(self.names.meaning(&event)),
            Message::Add(signals, answer) => {
                self.signals.extend(signals);
                let _nobody_waits = answer.send(self.watch_folders());
                Some(Meaning::Nothing)
            }
            Message::Stop => None,
        }
    }

    /// Waits for the end of a burst; `None` to stop.
    fn settle(&mut self, first: Meaning) -> Option<Meaning> {
        let (began, mut strongest) = (Instant::now(), first);
        while began.elapsed() < LONGEST {
            match self.messages.recv_timeout(QUIET) {
                Ok(message) => strongest = strongest.max(self.take(message)?),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        Some(strongest)
    }

    /// Folders, because files are replaced by rename, and a watch would stay with the old one. Of
    /// a folder that is not there, the nearest one above tells when it comes.
    fn watch_folders(&mut self) -> Result<(), CacheError> {
        loop {
            self.names = Names::of(&self.signals);
            let wanted = self.nearest_folders();
            for folder in std::mem::take(&mut self.folders) {
                // another folder may have its name by now; if it is gone, so is its watch
                let _gone = self.system.unwatch(&folder);
            }
            let mut refused = None;
            for folder in &wanted {
                match self.system.watch(folder, RecursiveMode::NonRecursive) {
                    Ok(()) => _ = self.folders.insert(folder.clone()),
                    Err(error) => refused = Some(failed(folder, error)),
                }
            }
            // what came or went meanwhile was not seen by the new watches
            if self.nearest_folders() == wanted {
                return refused.map_or(Ok(()), Err);
            }
        }
    }

    fn nearest_folders(&self) -> BTreeSet<PathBuf> {
        let nearest = |path: PathBuf| path.ancestors().skip(1).find(|folder| is_folder(folder)).map(named);
        self.signals.iter().flat_map(Signal::paths).filter_map(nearest).collect()
    }
}

fn is_folder(path: &Path) -> bool {
    named(path).is_dir()
}

/// The folder of a bare file name has a name, too.
fn named(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
}

/// What an event has to name to be ours. Names only, because some systems tell another path to the
/// same file.
#[derive(Debug, Default)]
struct Names {
    files: BTreeSet<OsString>,
    logs: BTreeSet<OsString>,
    folders: BTreeSet<OsString>,
}

impl Names {
    fn of(signals: &[Signal]) -> Self {
        let mut names = Self::default();
        for signal in signals {
            for path in signal.paths() {
                let own = if signal.is_log { &mut names.logs } else { &mut names.files };
                own.extend(path.file_name().map(OsString::from));
                let folders = path.parent().into_iter().flat_map(Path::components);
                names.folders.extend(folders.filter_map(|part| match part {
                    Component::Normal(name) => Some(name.to_owned()),
                    _ => None,
                }));
            }
        }
        names
    }

    fn meaning(&self, event: &notify::Result<Event>) -> Meaning {
        let Ok(event) = event else { return Meaning::FoldersMoved };
        if event.need_rescan() {
            return Meaning::FoldersMoved;
        }
        // reading is no change
        if matches!(event.kind, EventKind::Access(_)) {
            return Meaning::Nothing;
        }
        let names = |known: &BTreeSet<OsString>| {
            event.paths.iter().filter_map(|path| path.file_name()).any(|name| known.contains(name))
        };
        if names(&self.folders) {
            Meaning::FoldersMoved
        } else if names(&self.files) || (names(&self.logs) && writes_into(event.kind)) {
            Meaning::MaybeChanged
        } else {
            Meaning::Nothing
        }
    }
}

const fn writes_into(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Any | EventKind::Modify(ModifyKind::Any | ModifyKind::Data(_) | ModifyKind::Other)
    )
}

fn failed(path: &Path, error: notify::Error) -> CacheError {
    let said = match error.kind {
        notify::ErrorKind::Io(error) => error,
        other => io::Error::other(notify::Error::new(other).to_string()),
    };
    CacheError::io("watch", path)(said)
}

#[cfg(test)]
mod tests {
    use notify::event::{
        AccessKind, AccessMode, CreateKind, DataChange, Flag, MetadataKind, RemoveKind, RenameMode,
    };

    use super::*;
    use crate::document::ChangeSet;
    use crate::store::{Applied, Snapshot, Stamp, StoreDescription};
    use crate::time::Deadline;

    /// Longer than any event takes; reached only by a test that fails.
    const NEVER: Duration = Duration::from_secs(60);

    /// A store that is nothing but a file.
    #[derive(Debug)]
    struct FileAlone(PathBuf);

    impl Store for FileAlone {
        fn describe(&self) -> StoreDescription {
            StoreDescription { cache: String::new(), place: String::new(), encrypted: false }
        }

        fn stamp(&self) -> Result<Stamp, CacheError> {
            Stamp::of_file(&self.0)
        }

        fn signals(&self) -> Vec<Signal> {
            vec![Signal::file(&self.0)]
        }

        fn load(&self) -> Result<Snapshot, CacheError> {
            unreachable!("nobody reads it")
        }

        fn apply(&self, _changes: &ChangeSet, _deadline: Deadline) -> Result<Applied, CacheError> {
            unreachable!("nobody writes to it")
        }

        fn discard(&self, _deadline: Deadline) -> Result<Option<String>, CacheError> {
            unreachable!("nobody removes it")
        }
    }

    /// Watches a file, makes changes one by one, and wants to be told of each.
    fn tells_of(file: &Path, changes: &[(&str, &dyn Fn())]) {
        let store = FileAlone(file.to_owned());
        let (sender, hints) = mpsc::channel();
        let watcher = Watcher::new(move || sender.send(()).unwrap_or_default()).unwrap();
        watcher.add(&store).unwrap();
        let mut stamp = store.stamp().unwrap();
        for (name, change) in changes {
            change();
            loop {
                hints.recv_timeout(NEVER).unwrap_or_else(|_| panic!("{name}: nobody told"));
                if store.stamp().unwrap() != stamp {
                    break;
                }
            }
            stamp = store.stamp().unwrap();
        }
    }

    fn replace(file: &Path, content: &str) {
        let next = file.with_extension("next");
        std::fs::write(&next, content).unwrap();
        std::fs::rename(next, file).unwrap();
    }

    #[test]
    fn a_file_is_written_replaced_touched_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("msal.cache");
        let touch = || {
            let later = std::time::SystemTime::now() + Duration::from_secs(9);
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        };
        tells_of(
            &file,
            &[
                ("made", &|| std::fs::write(&file, "1").unwrap()),
                ("written", &|| std::fs::write(&file, "12").unwrap()),
                ("replaced", &|| replace(&file, "123")),
                ("replaced again", &|| replace(&file, "1234")),
                ("touched", &touch),
                ("removed", &|| std::fs::remove_file(&file).unwrap()),
            ],
        );
    }

    #[test]
    fn a_folder_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state").join("tokenkeep");
        let file = folder.join("vault.db");
        let make = || {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, "1").unwrap();
        };
        tells_of(&file, &[("both folders come", &make), ("a change in them", &|| replace(&file, "12"))]);
    }

    /// Windows keeps a folder that is watched until nobody watches it.
    #[cfg(unix)]
    #[test]
    fn a_folder_goes_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state").join("tokenkeep");
        let file = folder.join("vault.db");
        let make = |content: &str| {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, content).unwrap();
        };
        make("1");
        tells_of(
            &file,
            &[
                ("they go", &|| std::fs::remove_dir_all(dir.path().join("state")).unwrap()),
                ("they come back", &|| make("123")),
                ("a change in the new ones", &|| replace(&file, "1234")),
                ("the folder is moved away", &|| {
                    std::fs::rename(&folder, dir.path().join("away")).unwrap();
                    make("12345");
                }),
                ("a change where it was", &|| replace(&file, "123456")),
            ],
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_to_where_the_changes_happen() {
        let dir = tempfile::tempdir().unwrap();
        let (elsewhere, file) = (dir.path().join("elsewhere"), dir.path().join("msal.cache"));
        std::fs::create_dir(&elsewhere).unwrap();
        let target = elsewhere.join("cache");
        std::fs::write(&target, "1").unwrap();
        std::os::unix::fs::symlink(&target, &file).unwrap();
        tells_of(&file, &[("its target", &|| std::fs::write(&target, "12").unwrap())]);
    }

    #[test]
    fn whoever_drops_it_is_told_nothing_more() {
        let (sender, hints) = mpsc::channel::<()>();
        let watcher = Watcher::new(move || sender.send(()).unwrap_or_default()).unwrap();
        drop(watcher);
        // the thread ends, and with it the callback
        hints.recv().unwrap_err();
    }

    #[test]
    fn events_are_hints_unless_they_only_read_or_are_about_something_else() {
        let names = Names::of(&[
            Signal::file("/home/user/.IdentityService/msal.cache.nocae"),
            Signal::log("/home/user/state/vault.db-wal"),
        ]);
        let meaning =
            |kind, path: &str| names.meaning(&Ok(Event::new(kind).add_path(PathBuf::from("/x").join(path))));
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let touched = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        let (made, removed) = (EventKind::Create(CreateKind::Any), EventKind::Remove(RemoveKind::Any));
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        for kind in [written, renamed, touched, made, removed] {
            assert_eq!(meaning(kind, "msal.cache.nocae"), Meaning::MaybeChanged, "{kind:?}");
            assert_eq!(meaning(kind, "msal.cache.nocae.lockfile"), Meaning::Nothing, "{kind:?}");
            assert_eq!(meaning(kind, ".IdentityService"), Meaning::FoldersMoved, "{kind:?}");
            let of_log = if kind == written { Meaning::MaybeChanged } else { Meaning::Nothing };
            assert_eq!(meaning(kind, "vault.db-wal"), of_log, "{kind:?}");
        }
        assert_eq!(meaning(closed, "msal.cache.nocae"), Meaning::Nothing);
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(names.meaning(&Ok(overflow)), Meaning::FoldersMoved);
        assert_eq!(names.meaning(&Err(notify::Error::generic("lost"))), Meaning::FoldersMoved);
    }
}

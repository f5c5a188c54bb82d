//! A change is noticed by everybody who keeps the cache open, and nothing else is taken for one
//! (spec S-C 4).

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokenkeep::credential::{CredentialOptions, SharedTokenCacheCredential, TokenCredential};
use tokenkeep::document::{Change, ChangeSet};
use tokenkeep::error::Unavailable;
use tokenkeep::store::{self, Places, Store};
use tokenkeep::time::Deadline;
use tokenkeep::{Error, Storage, TokenCachePersistenceOptions};

use crate::support::{PythonReader, Stopped, Trace, World, fake_sign_in, proofs, report, request, scope_of};

fn add(store: &dyn Store, user: &str, index: usize) {
    store.apply(&fake_sign_in(user, index), Deadline::within(Duration::from_secs(10))).unwrap();
}

fn modified(path: &Path) -> SystemTime {
    path.metadata().unwrap().modified().unwrap()
}

/// A plaintext cache on a disk that is memory, where a write takes less than a millisecond.
struct Fast {
    _home: tempfile::TempDir,
    file: std::path::PathBuf,
    store: Arc<dyn Store>,
}

impl Fast {
    fn new() -> Self {
        let home = tempfile::tempdir_in("/dev/shm").unwrap();
        let options = TokenCachePersistenceOptions::default().storage(Storage::Plaintext);
        let store = store::open(&options, false, &Places::below(home.path())).unwrap();
        add(&*store, "one", 0);
        Self { file: home.path().join(".IdentityService/msal.cache.nocae"), store, _home: home }
    }
}

/// A large cache takes long to read, which proves nothing: after so many writes there is a new one.
const WRITES_TO_ONE_CACHE: usize = 50;

#[test]
fn python_notices_each_write_even_one_right_after_it_has_looked() {
    let writes = proofs(2_000);
    let mut quick = 0;
    for first in (0..writes).step_by(WRITES_TO_ONE_CACHE) {
        let cache = Fast::new();
        let mut python = PythonReader::of_file(&cache.file);
        for index in first..writes.min(first + WRITES_TO_ONE_CACHE) {
            add(&*cache.store, "before", index);
            assert!(python.scopes().contains(&scope_of("before", index)), "{index}");
            // Python has just taken the time of its look; the kernel's own stamp would be older
            let looked = Instant::now();
            add(&*cache.store, "after", index);
            quick += usize::from(looked.elapsed() < Duration::from_millis(1));
            assert!(python.scopes().contains(&scope_of("after", index)), "{index}");
        }
    }
    report("signals", &format!("writes right after a look: {writes}, within 1 ms: {quick}, missed: 0"));
}

#[test]
fn python_that_looked_while_we_were_writing_notices_the_change() {
    let world = World::plaintext();
    add(&*world.store(), "one", 0);
    let mut python = PythonReader::of_file(&world.cache_file());
    // the new content has been written, and is still to get the cache's name
    let ours = Stopped::at("fsync", &world.cache_writer("two", 1), &[""; 0]);
    let old = File::options().write(true).open(world.cache_file()).unwrap();
    old.set_modified(SystemTime::now()).unwrap();
    assert_eq!(python.scopes().len(), 1);

    ours.resume().ok();
    assert!(python.scopes().contains(&scope_of("two", 0)));
}

#[test]
fn each_of_many_quick_writes_has_a_later_time_than_the_one_before() {
    let cache = Fast::new();
    let mut last = modified(&cache.file);
    for index in 1..=50 {
        add(&*cache.store, "one", index);
        let now = modified(&cache.file);
        assert!(now > last, "{index}: {now:?} after {last:?}");
        last = now;
    }
}

#[test]
fn a_write_never_sets_the_time_back_even_after_a_clock_that_was_ahead() {
    let plaintext = World::plaintext();
    let keyring = World::keyring();
    for world in [&plaintext, &keyring] {
        let store = world.store();
        add(&*store, "one", 0);
        let ahead = SystemTime::now() + Duration::from_secs(3_600);
        File::options().write(true).open(world.cache_file()).unwrap().set_modified(ahead).unwrap();
        add(&*store, "one", 1);
        let after = modified(&world.cache_file());
        assert!(after > ahead && after < ahead + Duration::from_secs(60), "{after:?}");
    }
}

#[test]
fn the_keyrings_item_is_written_before_the_signal_and_python_sees_it() {
    let world = World::keyring();
    add(&*world.store(), "one", 0);
    let mut python = PythonReader::of_keyring(world.home(), &world.cache);
    let calls = ["-s", "400", "-e", "trace=sendmsg,utimensat"];
    let trace = Trace::of(&world.cache_writer("two", 1), &calls);
    assert_eq!(trace.run.code, Some(0), "{:?}", trace.run);
    assert_eq!(trace.find("utimensat(").len(), 1);
    assert!(trace.last("SetSecret") < trace.last("utimensat("), "{:#?}", trace.calls);
    assert!(python.scopes().contains(&scope_of("two", 0)));
}

#[test]
fn the_content_of_the_signal_file_means_nothing() {
    let world = World::keyring();
    let store = world.store();
    add(&*store, "one", 0);
    // as Node writes it, and as a kill may leave it
    for content in ["{}", ""] {
        std::fs::write(world.cache_file(), content).unwrap();
        assert_eq!(world.scopes(), [scope_of("one", 0)], "{content:?}");
    }
    add(&*store, "one", 1);
    assert_eq!(world.scopes().len(), 2);
    let mut python = PythonReader::of_keyring(world.home(), &world.cache);
    assert_eq!(python.scopes().len(), 2);
}

#[tokio::test]
async fn a_change_is_noticed_even_if_its_time_is_older() {
    let world = World::plaintext();
    let store = world.store();
    add(&*store, "one", 0);
    let options =
        CredentialOptions::default().cache_persistence_options_in(world.persistence(), world.places());
    let credential = SharedTokenCacheCredential::new(options).unwrap();
    let request = request(&scope_of("one", 0));
    credential.get_token(&request).await.unwrap();

    let nobody = ChangeSet::of(Change::RemoveEverything);
    store.apply(&nobody, Deadline::within(Duration::ZERO)).unwrap();
    let before = SystemTime::now() - Duration::from_secs(3_600);
    File::options().write(true).open(world.cache_file()).unwrap().set_modified(before).unwrap();
    let error = credential.get_token(&request).await.unwrap_err();
    let Error::Unavailable(unavailable) = &error else { panic!("{error}") };
    assert!(matches!(**unavailable, Unavailable::NoAccounts { .. }), "{error}");
}

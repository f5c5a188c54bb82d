//! A program that runs for long is told when others may have changed a cache, wherever it rests.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tokenkeep::store::{Stamp, Store, Watcher};

use crate::support::{World, python, run, scope_of};

/// Longer than any event takes; reached only by a test that fails.
const NEVER: Duration = Duration::from_secs(60);

/// A program that blocks until it is told, and reads again only then.
struct Follower {
    store: Arc<dyn Store>,
    seen: Stamp,
    hints: Receiver<()>,
    _watcher: Watcher,
}

impl Follower {
    fn of(store: Arc<dyn Store>) -> Self {
        let (sender, hints) = channel();
        let watcher = Watcher::new(move || sender.send(()).unwrap_or_default()).unwrap();
        watcher.add(&*store).unwrap();
        Self { seen: store.load().unwrap().stamp, store, hints, _watcher: watcher }
    }

    /// Waits until the scope is there.
    #[track_caller]
    fn follows_to(&mut self, scope: &str) {
        loop {
            self.hints.recv_timeout(NEVER).unwrap_or_else(|_| panic!("nobody told of {scope}"));
            if self.store.stamp().unwrap() == self.seen {
                continue;
            }
            let snapshot = self.store.load().unwrap();
            self.seen = snapshot.stamp;
            if snapshot.document.to_bytes().windows(scope.len()).any(|window| window == scope.as_bytes()) {
                return;
            }
        }
    }
}

#[test]
fn python_writes_a_file_whose_folder_was_not_there_yet() {
    let world = World::plaintext();
    let mut follower = Follower::of(world.store());
    std::fs::create_dir(world.folder()).unwrap();
    for writer in ["first", "second"] {
        let mut command = python("writer.py");
        run(command.args(["--count", "1", "--writer", writer, "--file"]).arg(world.cache_file())).ok();
        follower.follows_to(&scope_of(writer, 0));
    }
    run(&mut world.cache_writer("ours", 1)).ok();
    follower.follows_to(&scope_of("ours", 0));
}

#[test]
fn python_writes_to_the_keyring_and_its_signal_file_tells() {
    let world = World::keyring();
    let mut follower = Follower::of(world.store());
    for writer in ["first", "second"] {
        let mut command = python("writer.py");
        command.args(["--count", "1", "--writer", writer, "--cache", &world.cache]).env("HOME", world.home());
        run(&mut command).ok();
        follower.follows_to(&scope_of(writer, 0));
    }
}

#[test]
fn another_process_writes_to_the_vault() {
    let world = World::vault();
    world.run(&["vault", "init", "--protector", "key-file", "--no-recovery-key"]).ok();
    let mut follower = Follower::of(world.store());
    for writer in ["first", "second"] {
        run(&mut world.cache_writer(writer, 1)).ok();
        follower.follows_to(&scope_of(writer, 0));
    }
}

#[tokio::test]
async fn async_code_waits_for_a_hint_without_a_thread_of_its_own() {
    let world = World::plaintext();
    run(&mut world.cache_writer("before", 1)).ok();
    let store = world.store();
    let hints = Arc::new(tokio::sync::Notify::new());
    let hint = Arc::clone(&hints);
    let watcher = Watcher::new(move || hint.notify_one()).unwrap();
    watcher.add(&*store).unwrap();
    let before = store.stamp().unwrap();
    run(&mut world.cache_writer("after", 1)).ok();
    tokio::time::timeout(NEVER, hints.notified()).await.expect("nobody told");
    assert_ne!(store.stamp().unwrap(), before);
}

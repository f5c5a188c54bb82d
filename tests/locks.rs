//! Everybody's lock is respected, and ours is respected by everybody (spec S-C 3.2).

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokenkeep::error::CacheError;
use tokenkeep::time::Deadline;

use crate::support::{
    Held, Run, Stopped, World, fake_sign_in, node, python, python_with_portalocker, run, scope_of, touching,
};

/// Real holders, each with its own mechanism; Java's lock is another file.
fn holders(world: &World) -> [(&'static str, Command); 5] {
    let with = |mut command: Command, path| {
        command.arg(path);
        command
    };
    let lock = || world.lock_file();
    [
        ("Python", with(python("lock_holder.py"), lock())),
        ("Python with portalocker", with(python_with_portalocker("lock_holder.py"), lock())),
        ("flock, as .NET and Go", with(python("flock_holder.py"), lock())),
        ("fcntl, as Java", with(python("fcntl_holder.py"), world.folder())),
        ("Node", with(node("lock_holder.mjs"), lock())),
    ]
}

/// A world in which this user has signed in.
fn world_of(user: &str) -> World {
    let world = World::plaintext();
    add(&world, user, 0).unwrap();
    world
}

fn add(world: &World, user: &str, index: usize) -> Result<(), CacheError> {
    add_within(Duration::from_secs(60), world, user, index)
}

fn add_within(wait: Duration, world: &World, user: &str, index: usize) -> Result<(), CacheError> {
    world.store().apply(&fake_sign_in(user, index), Deadline::within(wait)).map(drop)
}

#[test]
fn whoever_holds_the_lock_is_waited_for() {
    let world = World::plaintext();
    for index in 0..holders(&world).len() {
        add(&world, "one", 0).unwrap();
        let before = world.document();
        let (name, mut holder) = holders(&world).into_iter().nth(index).unwrap();
        let held = Held::by(&mut holder);

        let mut logout = world.command(&["-v", "logout", "--all"]);
        let mut logout = logout.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(logout.stderr.take().unwrap()).lines().map(Result::unwrap);
        let waiting = format!("waiting for process {}", held.pid());
        assert!(log.by_ref().any(|line| line.contains(&waiting)), "{name} is not waited for");
        assert_eq!(world.document(), before, "{name}");
        assert!(logout.try_wait().unwrap().is_none(), "{name}");

        held.release();
        log.for_each(drop);
        assert!(logout.wait().unwrap().success(), "{name}");
        assert!(world.scopes().is_empty(), "{name}");
    }
}

#[test]
fn whoever_does_not_let_go_is_named_when_we_give_up() {
    let world = world_of("one");
    let before = world.document();
    for (name, mut holder) in holders(&world) {
        let held = Held::by(&mut holder);
        let wait = Duration::from_millis(300);
        let error = add_within(wait, &world, "two", 0).unwrap_err();
        let CacheError::LockTimeout { path, holder, waited } = &error else { panic!("{name}: {error}") };
        let lock = if name.contains("Java") { world.folder_lock_file() } else { world.lock_file() };
        assert_eq!((path, *waited), (&lock, wait), "{name}");
        assert!(holder.starts_with(&format!("process {}", held.pid())), "{name}: {holder}");
        assert_eq!(world.document(), before, "{name}");
        assert!(lock.exists(), "{name}'s file is not ours to remove");
        held.release();
    }
    add_within(Duration::ZERO, &world, "two", 0).unwrap();
}

#[test]
fn the_command_line_gives_up_with_the_code_for_an_unusable_cache() {
    let world = world_of("one");
    let held = Held::by(python("lock_holder.py").arg(world.lock_file()));
    let logout = world.run(&["logout", "--all"]).exits(7);
    logout.says(&format!("process {}", held.pid())).says(world.lock_file().to_str().unwrap());
    assert_eq!(world.scopes().len(), 1);
}

#[test]
fn what_a_killed_holder_left_behind_stops_nobody() {
    let world = World::plaintext();
    add(&world, "one", 0).unwrap();
    for (index, (name, mut holder)) in holders(&world).into_iter().enumerate() {
        Held::by(&mut holder).kill();
        let lock = if name.contains("Java") { world.folder_lock_file() } else { world.lock_file() };
        assert!(lock.exists(), "{name} left nothing behind");

        add_within(Duration::from_secs(10), &world, "one", index + 1).unwrap();
        assert!(!lock.exists(), "{name}");
    }
    assert_eq!(world.scopes().len(), 6);
    // Python and Node cannot clean up after themselves; after us they can go on
    let mut writer = python("writer.py");
    let written = run(writer.args(["--count", "1", "--file"]).arg(world.cache_file())).ok().json();
    assert_eq!(written["lock_timeouts"], 0);
}

#[test]
fn while_we_hold_it_nobody_else_writes() {
    let world = world_of("one");
    let ours = Stopped::at("fsync", &world.cache_writer("two", 1), &[""; 0]);
    let inode = |path: std::path::PathBuf| path.metadata().unwrap().ino();
    let inodes = (inode(world.lock_file()), inode(world.folder_lock_file()));

    // each of them gives up, after its own time
    std::thread::scope(|scope| {
        let tries = holders(&world).map(|(name, mut holder)| {
            let tried = move || -> (&str, Run) { (name, run(&mut holder)) };
            scope.spawn(tried)
        });
        let store = scope.spawn(|| add_within(Duration::from_millis(200), &world, "three", 0));
        for (name, tried) in tries.map(|tried| tried.join().unwrap()) {
            assert_eq!(tried.json()["held"], false, "{name}");
        }
        let error = store.join().unwrap().unwrap_err();
        assert!(error.to_string().contains(&format!("process {} tokenkeep", ours.pid())), "{error}");
    });
    assert_eq!((inode(world.lock_file()), inode(world.folder_lock_file())), inodes, "they are still ours");

    ours.resume().ok();
    assert_eq!(world.scopes(), [scope_of("one", 0), scope_of("two", 0)]);
    for (name, mut holder) in holders(&world) {
        assert_eq!(run(&mut holder).ok().json()["held"], true, "{name}");
    }
    assert_eq!(world.file_names(), [world.cache_file().file_name().unwrap().to_str().unwrap()]);
}

#[test]
fn a_lock_that_was_unlinked_during_our_hold_costs_nobody_an_entry() {
    // it has read the cache to its end; it has written the new content, which has no name yet
    for place in ["read:when=2", "fsync"] {
        let world = world_of("one");
        let files = touching(&[world.cache_file(), world.temporary_file()]);
        let ours = Stopped::at(place, &world.cache_writer("two", 1), &files);
        // as Node does after any access (spec S-C 3.1)
        std::fs::remove_file(world.lock_file()).unwrap();
        let mut writer = python("writer.py");
        let written = run(writer.args(["--count", "1", "--file"]).arg(world.cache_file())).ok().json();
        assert_eq!(written["lock_timeouts"], 0, "Python took the lock that Node freed");

        ours.resume().ok();
        let expected = [scope_of("one", 0), scope_of("python", 0), scope_of("two", 0)];
        assert_eq!(world.scopes(), expected, "{place}");
        assert_eq!(world.file_names().len(), 1, "{place}");
    }
}

#[test]
fn a_lock_that_somebody_took_over_is_not_removed_at_our_end() {
    let world = world_of("one");
    let ours = Stopped::at("rename", &world.cache_writer("two", 1), &[""; 0]);
    std::fs::remove_file(world.lock_file()).unwrap();
    let held = Held::by(python("lock_holder.py").arg(world.lock_file()));
    ours.resume().ok();
    let content = std::fs::read_to_string(world.lock_file()).unwrap();
    assert!(content.starts_with(&held.pid().to_string()), "{content}");
}

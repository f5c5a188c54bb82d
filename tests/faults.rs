//! Whatever the system refuses, and wherever it ends us, the cache is the old one or the new one,
//! and the error says which file and why.

use std::ffi::OsStr;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use emulator::USER_ONE;
use tokenkeep::time::Deadline;

use crate::support::{Run, SCOPE, Trace, World, fake_sign_in, report, run, scope_of, through, touching};

/// The calls by which a change is made, and errors that each of them may meet.
const CALLS: [(&str, &[&str]); 14] = [
    ("close", &["EIO"]),
    ("fchmod", &["EPERM"]),
    ("fcntl", &["EIO"]),
    ("flock", &["EIO"]),
    ("fsync", &["EIO", "ENOSPC"]),
    ("ftruncate", &["EIO"]),
    ("openat", &["EACCES", "EIO", "EMFILE", "ENOSPC"]),
    ("pwrite64", &["EIO", "ENOSPC"]),
    ("read", &["EIO"]),
    ("rename", &["EACCES", "EIO", "ENOSPC"]),
    ("statx", &["EIO"]),
    ("unlink", &["EIO"]),
    ("utimensat", &["EIO"]),
    ("write", &["EIO", "ENOSPC"]),
];

/// More of one kind than one change makes.
const ENDLESS: usize = 200;

fn reason(error: &str) -> &'static str {
    match error {
        "EACCES" => "Permission denied",
        "EIO" => "Input/output error",
        "EMFILE" => "Too many open files",
        "ENOSPC" => "No space left on device",
        "EPERM" => "Operation not permitted",
        other => panic!("{other}"),
    }
}

/// A cache to which the same change is made again and again, each time with another fault.
struct Scene {
    world: World,
    old: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let world = World::plaintext();
        let later = Deadline::within(Duration::ZERO);
        world.store().apply(&fake_sign_in("old", 0), later).unwrap();
        let old = std::fs::read(world.cache_file()).unwrap();
        Self { world, old }
    }

    /// Makes the change while the `number`th call of that name meets the fault; `None` once there
    /// are not so many.
    fn change(&self, call: &str, fault: &str, number: usize) -> Option<Trace> {
        assert!(number < ENDLESS, "{call} goes on and on");
        let world = &self.world;
        for name in world.file_names() {
            std::fs::remove_file(world.folder().join(name)).unwrap();
        }
        let mut file = private_file(world.cache_file());
        std::io::Write::write_all(&mut file, &self.old).unwrap();
        drop(file);
        let mut options = touching(&self.files());
        options.extend(["-e".to_owned(), format!("trace={call}")]);
        options.extend(["-e".to_owned(), format!("inject={call}:{fault}:when={number}")]);
        let trace = Trace::of(&world.cache_writer("new", 1), &options);
        trace.was_hit().then_some(trace)
    }

    fn files(&self) -> [PathBuf; 5] {
        let world = &self.world;
        let temporary = world.temporary_file();
        [world.cache_file(), temporary, world.lock_file(), world.folder_lock_file(), world.folder()]
    }

    /// Asserts that the cache is whole, and that the next one can write at once; whether the change
    /// was made.
    #[track_caller]
    fn is_changed(&self, context: &str) -> bool {
        let world = &self.world;
        let (old, new) = (scope_of("old", 0), scope_of("new", 0));
        let scopes = world.scopes();
        let is_changed = scopes == [new, old];
        if !is_changed {
            assert_eq!(std::fs::read(world.cache_file()).unwrap(), self.old, "{context}");
        }
        for name in world.file_names() {
            assert!(self.files().iter().any(|path| path.ends_with(&name)), "{context}: {name}");
        }
        for lock in [world.lock_file(), world.folder_lock_file()] {
            age_if_unsigned(lock);
        }
        let at_once = Deadline::within(Duration::ZERO);
        world.store().apply(&fake_sign_in("next", 0), at_once).unwrap_or_else(|e| panic!("{context}: {e}"));
        assert_eq!(world.scopes().len(), scopes.len() + 1, "{context}");
        assert_eq!(world.file_names().len(), 1, "{context}");
        is_changed
    }
}

/// What was killed, or refused, before it could say whose it is, counts as dead after some seconds:
/// here they pass at once.
fn age_if_unsigned(lock: PathBuf) {
    if lock.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        let file = File::options().write(true).open(lock).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(6)).unwrap();
    }
}

fn private_file(path: PathBuf) -> File {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().write(true).create_new(true).mode(0o600).open(path).unwrap()
}

#[test]
fn an_error_at_any_call_leaves_the_old_cache_or_the_new_one_and_is_told() {
    let scene = Scene::new();
    let (mut faults, mut failures) = (0, 0);
    for (call, errors) in CALLS {
        for error in errors {
            let fault = format!("error={error}");
            let mut number = 1;
            while let Some(trace) = scene.change(call, &fault, number) {
                let context = format!("{call} {number} {error}: {:?}", trace.run);
                let temporary_is_left = scene.world.temporary_file().exists();
                let is_changed = scene.is_changed(&context);
                match trace.run.code {
                    Some(0) => assert!(is_changed, "{context}"),
                    Some(1) => {
                        failures += 1;
                        let told = &trace.run.stderr;
                        let folder = scene.world.folder();
                        assert!(told.contains(reason(error)), "{context}");
                        assert!(told.contains(folder.to_str().unwrap()), "{context}");
                        assert!(!told.contains("fake-"), "{context}");
                        assert!(!temporary_is_left, "{context}");
                    }
                    _ => panic!("{context}"),
                }
                faults += 1;
                number += 1;
            }
            assert!(number > 1, "{call} is not made at all");
        }
    }
    report("faults", &format!("errors at a system call: {faults}, told to the caller: {failures}"));
    assert!(failures > 20, "only {failures} of {faults} errors were noticed");
}

#[test]
fn a_kill_at_any_call_leaves_the_old_cache_or_the_new_one() {
    let scene = Scene::new();
    let (mut kills, mut changed) = (0, 0);
    for (call, _) in CALLS {
        let mut number = 1;
        while let Some(trace) = scene.change(call, "signal=KILL", number) {
            assert_eq!(trace.run.code, None, "{call} {number}");
            kills += 1;
            changed += usize::from(scene.is_changed(&format!("{call} {number}")));
            number += 1;
        }
        assert!(number > 1, "{call} is not made at all");
    }
    report("kills-at-calls", &format!("kills at a system call: {kills}, after the change: {changed}"));
    assert!(changed > 0 && changed < kills, "{changed} of {kills}");
}

#[test]
fn the_new_content_is_on_the_disk_before_it_has_the_name_and_then_the_name_is() {
    let world = Scene::new().world;
    let calls = ["-y", "-e", "trace=fsync,rename,write"];
    let trace = Trace::of(&world.cache_writer("new", 1), &calls);
    let of = |path: PathBuf| format!("<{}>", path.display());
    let (temporary, folder) = (of(world.temporary_file()), of(world.folder()));
    let place = |call: &str, path: &str| {
        let found = trace.calls.iter().position(|line| line.contains(call) && line.contains(path));
        found.unwrap_or_else(|| panic!("no {call} {path}: {:#?}", trace.calls))
    };
    let order = [
        place("write(", &temporary),
        place("fsync(", &temporary),
        place("rename(", world.cache_file().to_str().unwrap()),
        place("fsync(", &folder),
        place("write(", "\"0\\n\""),
    ];
    assert!(order.is_sorted(), "{:#?}", trace.calls);
}

#[test]
fn an_error_of_the_disk_is_told_by_the_command_line_and_costs_nothing() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let before = world.document();
    let temporary = touching(&[world.temporary_file()]);
    let write_fails = ["-e".to_owned(), "inject=write:error=EIO".to_owned()];
    let options = [temporary, write_fails.to_vec()].concat();

    let logout = Trace::of(&world.command(&["logout", "--all"]), &options);
    assert!(logout.was_hit());
    let logout = logout.run.exits(1).says("Input/output error");
    logout.says(world.folder().to_str().unwrap());
    assert_eq!(world.document(), before);

    let renewed = Trace::of(&world.command(&["token", "--scope", SCOPE, "--force-refresh"]), &options);
    assert!(renewed.was_hit());
    assert!(!renewed.run.ok().token().is_empty(), "a token that cannot be saved is still a token");
    assert_eq!(world.document(), before);
}

/// Runs a program in a mount namespace of its own, by a shell script in which it is `"$@"`.
fn with_mounts(script: &str, variables: &[(&str, &OsStr)], command: &Command) -> Run {
    let options: &[&str] =
        if rustix::process::geteuid().is_root() { &["--mount"] } else { &["--user", "-r", "--mount"] };
    let mut unshare = Command::new("unshare");
    unshare.args(options).args(["--", "sh", "-euc", script, "sh"]);
    through(&mut unshare, command);
    run(unshare.envs(variables.iter().copied()))
}

/// A disk of 64 KiB that holds the cache and has `free` bytes left. What is on it afterwards is put
/// into `$after`.
fn on_a_full_disk(world: &World, free: &str, command: &Command) -> (Run, Vec<u8>) {
    let after = tempfile::NamedTempFile::new().unwrap();
    let script = r#"
        exec 3<"$cache"
        mount -t tmpfs -o size=64k,mode=700 none "$folder"
        umask 077
        cat <&3 >"$cache"
        cat /dev/zero >"$folder/filler" 2>/dev/null || true
        truncate -s "-$free" "$folder/filler"
        code=0
        "$@" || code=$?
        cat "$cache" >"$after"
        rm "$folder/filler"
        [ "$(ls -A "$folder" | wc -l)" = 1 ] || { ls -lA "$folder" >&2; exit 99; }
        exit "$code"
    "#;
    let (folder, cache) = (world.folder(), world.cache_file());
    let variables: [(&str, &OsStr); 4] = [
        ("folder", folder.as_os_str()),
        ("cache", cache.as_os_str()),
        ("after", after.path().as_os_str()),
        ("free", OsStr::new(free)),
    ];
    let run = with_mounts(script, &variables, command);
    let left = std::fs::read(after.path()).unwrap();
    (run, left)
}

#[test]
fn on_a_full_disk_a_cached_token_is_read_a_new_one_is_given_and_a_change_says_why_it_failed() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    for index in 0..20 {
        let at_once = Deadline::within(Duration::ZERO);
        world.store().apply(&fake_sign_in("filler", index), at_once).unwrap();
    }
    let before = std::fs::read(world.cache_file()).unwrap();
    assert!((18_000..40_000).contains(&before.len()), "{}", before.len());
    let cached = world.command(&["token", "--scope", SCOPE]);
    let renewed = world.command(&["token", "--scope", SCOPE, "--force-refresh"]);
    let logout = world.command(&["logout", "--all"]);
    // none at all; and enough for the locks, but not for the new cache
    for free in ["0", "12k"] {
        for command in [&cached, &renewed] {
            let (run, left) = on_a_full_disk(&world, free, command);
            assert!(!run.ok().token().is_empty());
            assert!(left == before);
        }
    }
    let mut add = world.cache_writer("new", 1);
    let commands = [("0", &logout), ("0", &add), ("12k", &add)];
    for (free, command) in commands {
        let (run, left) = on_a_full_disk(&world, free, command);
        run.exits(1).says("No space left on device").says(world.folder().to_str().unwrap());
        assert!(left == before);
    }
    // all the disk's files together would fit
    run(&mut add).ok();
}

#[test]
fn a_home_that_cannot_be_written_can_be_read_and_still_gets_new_tokens() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let before = std::fs::read(world.cache_file()).unwrap();
    let script = r#"
        mount --bind "$HOME" "$HOME"
        mount -o remount,bind,ro "$HOME"
        exec "$@"
    "#;
    let read_only = |args: &[&str]| with_mounts(script, &[], &world.command(args));

    world.emulator.reset_log();
    let cached = read_only(&["token", "--scope", SCOPE]).ok().token();
    assert_eq!(world.emulator.count("token"), 0);
    assert!(read_only(&["accounts"]).ok().stdout.contains(USER_ONE));

    let renewed = read_only(&["token", "--scope", SCOPE, "--force-refresh"]).ok();
    assert_ne!(renewed.token(), cached);

    let logout = read_only(&["logout", "--all"]).exits(1);
    logout.says("Read-only file system").says(world.folder().to_str().unwrap());
    assert!(std::fs::read(world.cache_file()).unwrap() == before);
    assert_eq!(world.file_names().len(), 1);
}

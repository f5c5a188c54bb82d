//! A cached token costs a look into the cache: no provider, no lock, no disk write, and the keyring
//! once in a process.

use emulator::USER_ONE;
use tokenkeep::time::Deadline;

use crate::support::{SCOPE, Trace, World, built, fake_sign_in, in_home, scope_of};

/// What connects, sends, locks and writes.
const CALLS: [&str; 4] =
    ["-s", "400", "-e", "trace=%network,%file,fcntl,flock,fsync,fdatasync,sendmsg,utimensat,write"];

/// Nothing left the machine, and nothing in the home folder was changed or locked.
#[track_caller]
fn only_looked(trace: &Trace, world: &World) {
    assert_eq!(trace.find("AF_INET"), [""; 0]);
    let changes = ["fsync(", "fdatasync(", "flock(", "F_SETLK", "rename", "unlink", "mkdir", "utimensat("];
    for change in changes {
        assert_eq!(trace.find(change), [""; 0]);
    }
    let home = world.home().to_str().unwrap();
    let opened: Vec<&str> = trace.find("open").into_iter().filter(|call| call.contains(home)).collect();
    for call in opened {
        assert!(
            !call.contains("O_WRONLY") && !call.contains("O_RDWR") && !call.contains("O_CREAT"),
            "{call}"
        );
    }
}

#[test]
fn a_fresh_process_reads_the_plaintext_cache_and_nothing_else() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world.emulator.reset_log();
    let trace = Trace::of(&world.command(&["token", "--scope", SCOPE]), &CALLS);
    assert!(!trace.run.token().is_empty(), "{:?}", trace.run);
    only_looked(&trace, &world);
    assert_eq!(world.emulator.count(""), 0);
    let reads = trace.find(world.cache_file().to_str().unwrap());
    let opens = reads.iter().filter(|call| call.contains("openat(")).count();
    assert_eq!(opens, 1, "{reads:#?}");
}

#[test]
fn a_fresh_process_asks_the_keyring_once() {
    let world = World::keyring();
    world.login(USER_ONE, &[]);
    world.emulator.reset_log();
    let trace = Trace::of(&world.command(&["token", "--scope", SCOPE]), &CALLS);
    assert!(!trace.run.token().is_empty(), "{:?}", trace.run);
    only_looked(&trace, &world);
    assert_eq!(world.emulator.count(""), 0);
    assert_eq!(trace.find("connect(").len(), 1, "{:#?}", trace.find("connect("));
    assert_eq!(trace.find("GetSecret").len(), 1, "{:#?}", trace.find("sendmsg("));
}

#[test]
fn the_second_answer_in_a_process_asks_neither_keyring_nor_provider() {
    let world = World::keyring();
    world.store().apply(&fake_sign_in("one", 0), Deadline::within(std::time::Duration::ZERO)).unwrap();
    let mut twice = in_home(&built("ask-twice"), world.home());
    twice.arg(world.home()).args([&world.cache, &scope_of("one", 0)]);
    let trace = Trace::of(&twice, &CALLS);
    assert_eq!(trace.run.stdout, "answered 1\nanswered 2\n", "{:?}", trace.run);
    only_looked(&trace, &world);

    let (first, second) = (trace.last("answered 1"), trace.last("answered 2"));
    let asked = |calls: &[String]| {
        let talks = |call: &&String| ["connect(", "sendmsg(", "sendto("].iter().any(|t| call.contains(t));
        calls.iter().filter(talks).cloned().collect::<Vec<_>>()
    };
    assert!(!asked(&trace.calls[..first]).is_empty(), "the first answer came from the keyring");
    assert_eq!(asked(&trace.calls[first..second]), [""; 0]);
}

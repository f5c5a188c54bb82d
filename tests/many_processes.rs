//! Many processes at one cache: nothing is lost, nothing is torn, nobody is told that nobody is
//! signed in.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use emulator::USER_ONE;

use crate::support::{Run, SCOPE, World, proofs, python, python_with_portalocker, report, scope_of};

const PROCESSES: usize = 16;
const PYTHONS: usize = 4;

#[test]
fn with_python_writers_among_sixteen_every_addition_arrives() {
    additions_of_sixteen("python", python, 100);
}

// A test of its own, without a crowd: after five seconds Python with portalocker opens whatever lock
// file is there, waits for that one, and takes it even if its owner has removed it meanwhile.
#[test]
fn with_portalocker_writers_among_sixteen_every_addition_arrives() {
    additions_of_sixteen("portalocker", python_with_portalocker, 2_000);
}

/// Our processes pause for so many milliseconds between additions: without a pause one of them would
/// have the lock again before anybody else looks.
fn additions_of_sixteen(name: &str, python: fn(&str) -> Command, pause: usize) {
    let world = World::plaintext();
    let additions = proofs(50);
    let writer = |number: usize| {
        if number < PYTHONS {
            let mut command = python("writer.py");
            let count = additions.to_string();
            command.args(["--count", &count, "--writer", &format!("w{number}"), "--file"]);
            command.arg(world.cache_file());
            command
        } else {
            let mut command = world.cache_writer(&format!("w{number}"), additions);
            command.arg(pause.to_string());
            command
        }
    };
    std::fs::create_dir(world.folder()).unwrap();
    let children: Vec<Child> = (0..PROCESSES).map(|number| start(&mut writer(number))).collect();
    let done = AtomicBool::new(false);
    let (looks, lock_timeouts) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| watch(&world, &done));
        let runs: Vec<Run> = children.into_iter().map(end).collect();
        done.store(true, Ordering::Relaxed);
        let runs: Vec<Run> = runs.into_iter().map(Run::ok).collect();
        let lock_timeouts = runs.iter().take(PYTHONS).map(|run| run.json()["lock_timeouts"].as_u64());
        (reader.join().unwrap(), lock_timeouts.map(Option::unwrap).sum::<u64>())
    });

    let expected: BTreeSet<String> = (0..PROCESSES)
        .flat_map(|number| (0..additions).map(move |index| scope_of(&format!("w{number}"), index)))
        .collect();
    let stored = BTreeSet::from_iter(world.scopes());
    assert_eq!(expected.difference(&stored).collect::<Vec<_>>(), [""; 0], "lost");
    assert_eq!(stored, expected);
    let document = world.document();
    for section in ["Account", "IdToken"] {
        assert_eq!(document[section].as_object().unwrap().len(), PROCESSES, "{section}");
    }
    report(
        &format!("additions-{name}"),
        &format!(
            "additions: {PROCESSES} processes x {additions}, {PYTHONS} of them {name}; \
             lost: 0, whole caches read meanwhile: {looks}, Python's lock timeouts: {lock_timeouts}"
        ),
    );
}

/// Reads as fast as it can; what was there once stays there.
fn watch(world: &World, done: &AtomicBool) -> usize {
    let mut seen = BTreeSet::new();
    let mut looks = 0;
    while !done.load(Ordering::Relaxed) {
        let now = BTreeSet::from_iter(world.scopes());
        assert!(now.is_superset(&seen), "gone: {:?}", seen.difference(&now).collect::<Vec<_>>());
        seen = now;
        looks += 1;
    }
    looks
}

#[test]
fn sixteen_processes_and_one_expired_token_all_get_one() {
    let world = World::plaintext();
    world.emulator.set(|settings| settings.access_token_lifetime = 1);
    world.login(USER_ONE, &[]);
    world.emulator.set(|settings| settings.access_token_lifetime = 3_600);
    world.emulator.reset_log();

    let token = || start(&mut world.command(&["token", "--scope", SCOPE]));
    let children: Vec<Child> = (0..PROCESSES).map(|_| token()).collect();
    for run in children.into_iter().map(end) {
        assert!(!run.ok().token().is_empty());
    }
    let requests = world.emulator.count("token");
    assert!((1..=PROCESSES).contains(&requests), "{requests}");
    let document = world.document();
    for section in ["Account", "RefreshToken", "IdToken", "AccessToken", "AppMetadata"] {
        assert_eq!(document[section].as_object().unwrap().len(), 1, "{section}");
    }
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Run {
    Run::of(child.wait_with_output().unwrap(), "one of many")
}

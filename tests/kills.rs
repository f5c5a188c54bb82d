//! A kill at any instant leaves the old cache or the new one, and nobody waits for the dead.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokenkeep::time::Deadline;

use crate::support::{PythonReader, World, fake_sign_in, proofs, report, scope_of};

/// After so many kills a new cache is begun: writing a large one takes longer, which proves nothing.
const KILLS_OF_ONE_CACHE: usize = 50;

/// About three additions' time: a kill at any instant of one, whatever came before it.
const LONGEST_LIFE: Duration = Duration::from_millis(25);

/// What the kills met.
#[derive(Default)]
struct Counts {
    kills: usize,
    while_locked: usize,
    with_temporary_file: usize,
    before_signing: usize,
}

#[test]
fn killed_writers_leave_the_old_cache_or_the_new_one() {
    let mut counts = Counts::default();
    let wanted = proofs(2_000);
    while counts.kills < wanted {
        one_cache(&World::plaintext(), (wanted - counts.kills).min(KILLS_OF_ONE_CACHE), &mut counts);
    }
    let Counts { kills, while_locked, with_temporary_file, before_signing } = counts;
    report(
        "kills",
        &format!(
            "kills: {kills}, of them with the lock held: {while_locked} \
             (not signed yet: {before_signing}), during a write: {with_temporary_file}"
        ),
    );
    assert!(while_locked * 4 > kills, "only {while_locked} of {kills} kills met a change");
}

fn one_cache(world: &World, kills: usize, counts: &mut Counts) {
    let mut stored = BTreeSet::new();
    add(world, "survivor", 0, Duration::ZERO);
    stored.insert(scope_of("survivor", 0));
    let mut python = PythonReader::of_file(&world.cache_file());
    for kill in 0..kills {
        let writer = format!("victim-{kill}");
        let acknowledged = killed_writer(world, &writer);
        stored.extend((0..acknowledged).map(|index| scope_of(&writer, index)));

        let locks = [world.lock_file(), world.folder_lock_file()];
        let left = locks.iter().filter_map(|lock| std::fs::read_to_string(lock).ok());
        let left: Vec<String> = left.collect();
        let is_unsigned = left.iter().any(String::is_empty);
        counts.kills += 1;
        counts.while_locked += usize::from(!left.is_empty());
        counts.before_signing += usize::from(is_unsigned);
        counts.with_temporary_file += usize::from(world.temporary_file().exists());
        only_known_files(world);

        let bytes = std::fs::read(world.cache_file()).unwrap();
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(json["RefreshToken"].is_object(), "{json}");
        let now = BTreeSet::from_iter(world.scopes());
        assert!(now.is_superset(&stored), "lost: {:?}", stored.difference(&now).collect::<Vec<_>>());
        let unacknowledged: Vec<_> = now.difference(&stored).cloned().collect();
        assert!(unacknowledged.len() <= 1, "{unacknowledged:?}");
        assert_eq!(python.scopes(), now, "Python sees the same");
        stored = now;

        // at once, unless the dead one had no time to say who it was
        let patience = if is_unsigned { Duration::from_secs(10) } else { Duration::ZERO };
        add(world, "next", kill, patience);
        stored.insert(scope_of("next", kill));
        let file = world.cache_file();
        assert_eq!(world.file_names(), [file.file_name().unwrap().to_str().unwrap()]);
    }
    assert_eq!(BTreeSet::from_iter(world.scopes()), stored);
}

fn add(world: &World, user: &str, index: usize, patience: Duration) {
    world.store().apply(&fake_sign_in(user, index), Deadline::within(patience)).unwrap();
}

/// Starts a writer and kills it at some instant after its first addition; the number of additions
/// that it said were stored.
fn killed_writer(world: &World, writer: &str) -> usize {
    let mut command = world.cache_writer(writer, 10_000);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = String::new();
    output.read_line(&mut lines).unwrap();
    let longest = u32::try_from(LONGEST_LIFE.as_micros()).unwrap();
    let life = getrandom::u32().unwrap() % longest;
    // the one thing here that is left to chance
    std::thread::sleep(Duration::from_micros(life.into()));
    child.kill().unwrap();
    child.wait().unwrap();
    output.read_to_string(&mut lines).unwrap();
    lines.matches('\n').count()
}

/// No copy of the secrets lies about under another name.
fn only_known_files(world: &World) {
    let known = [world.cache_file(), world.temporary_file(), world.lock_file(), world.folder_lock_file()];
    for name in world.file_names() {
        assert!(known.iter().any(|path| path.ends_with(&name)), "{name}");
    }
}

//! Whatever the system refuses, and wherever it ends us, the vault opens afterwards, is whole, and
//! has the old state or the new one: while a token is put, while the key changes, and while
//! protectors come and go.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tokenkeep::store::Store as _;
use tokenkeep::store::vault::{KeyFile, LockedVault, Vault};
use tokenkeep::time::Deadline;

use crate::support::{Trace, World, fake_sign_in, proofs, report, scope_of, touching};

/// The calls by which SQLite and we change a vault, and errors that each of them may meet.
const CALLS: [(&str, &[&str]); 10] = [
    ("close", &["EIO"]),
    ("fcntl", &["EIO"]),
    ("fdatasync", &["EIO", "ENOSPC"]),
    ("fsync", &["EIO", "ENOSPC"]),
    ("ftruncate", &["EIO", "ENOSPC"]),
    ("newfstatat", &["EIO"]),
    ("openat", &["EACCES", "EIO", "EMFILE", "ENOSPC"]),
    ("pwrite64", &["EIO", "ENOSPC"]),
    // a sector that cannot be read stays so, however it is read
    ("pread64+", &["EIO"]),
    ("unlink", &["EACCES", "EIO"]),
];

/// More of one kind than one change makes.
const ENDLESS: usize = 1_000;
/// Rows before the change, so that a rekey takes several steps.
const ROWS: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Put,
    Rekey,
    AddProtector,
    RemoveProtector,
}

/// A vault to which the same change is made again and again, each time with another fault.
struct Scene {
    world: World,
    action: Action,
    old: Vec<u8>,
    scopes: Vec<String>,
}

/// What can be seen of a vault from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    rows: usize,
    epoch: u64,
    protectors: usize,
}

impl Scene {
    fn of(action: Action) -> Self {
        let world = World::vault();
        world.run(&["vault", "init", "--protector", "key-file"]).ok();
        let vault = open(&world);
        let store = vault.store(&format!("{}.nocae", world.cache));
        for index in 0..ROWS / 5 {
            store.apply(&fake_sign_in(&format!("user{index}"), index), soon()).unwrap();
        }
        drop((store, vault));
        let old = std::fs::read(path(&world)).unwrap();
        assert!(companions(&world).iter().all(|file| !file.exists()), "the vault is still open");
        let scopes = world.scopes();
        Self { world, action, old, scopes }
    }

    fn command(&self) -> Command {
        match self.action {
            Action::Put => self.world.cache_writer("new", 1),
            Action::Rekey => self.world.command(&["vault", "rekey"]),
            Action::AddProtector => self.world.command(&["vault", "protector", "add", "recovery"]),
            Action::RemoveProtector => self.world.command(&["vault", "protector", "remove", "recovery"]),
        }
    }

    /// Makes the change while the `number`th call of that name meets the fault; `None` once there
    /// are not so many.
    fn change(&self, call: &str, fault: &str, number: usize) -> Option<Trace> {
        assert!(number < ENDLESS, "{call} goes on and on");
        for file in companions(&self.world) {
            drop(std::fs::remove_file(file));
        }
        std::fs::write(path(&self.world), &self.old).unwrap();
        let (call, and_on) = call.strip_suffix('+').map_or((call, ""), |call| (call, "+"));
        let mut options = touching(&self.files());
        options.extend(["-e".to_owned(), format!("trace={call}")]);
        options.extend(["-e".to_owned(), format!("inject={call}:{fault}:when={number}{and_on}")]);
        let trace = Trace::of(&self.command(), &options);
        trace.was_hit().then_some(trace)
    }

    fn files(&self) -> Vec<PathBuf> {
        let vault = path(&self.world);
        let folder = vault.parent().unwrap().to_owned();
        companions(&self.world).into_iter().chain([vault, folder]).collect()
    }

    /// Asserts that the vault opens, is whole, and takes the next change; whether this one was made.
    #[track_caller]
    fn is_changed(&self, context: &str) -> bool {
        let before = Seen { rows: self.scopes.len(), epoch: 1, protectors: 2 };
        let vault = open(&self.world);
        vault.verify().unwrap_or_else(|error| panic!("{context}: {error}"));
        let seen = look(&self.world, &vault);
        let after = match self.action {
            Action::Put => Seen { rows: before.rows + 1, ..before },
            Action::Rekey => Seen { epoch: 2, ..before },
            Action::AddProtector => Seen { protectors: 3, ..before },
            Action::RemoveProtector => Seen { epoch: 2, protectors: 1, ..before },
        };
        assert!(seen == before || seen == after, "{context}: {seen:?}");
        if vault.has_unfinished_rekey() {
            let outcome = vault.finish_rekey(soon(), |_| {});
            assert!(outcome.unwrap_or_else(|error| panic!("{context}: {error}")).compacted, "{context}");
            assert_eq!(look(&self.world, &vault), seen, "{context}");
        }
        let scopes = self.world.scopes();
        let acknowledged = self.scopes.iter().all(|scope| scopes.contains(scope));
        assert!(acknowledged, "{context}: {scopes:?}");
        assert_eq!(scopes.contains(&scope_of("new", 0)), self.action == Action::Put && seen == after);

        let next = fake_sign_in("next", 0);
        vault.store(&format!("{}.nocae", self.world.cache)).apply(&next, soon()).unwrap();
        vault.verify().unwrap_or_else(|error| panic!("{context}: {error}"));
        seen == after
    }
}

fn path(world: &World) -> PathBuf {
    world.places().vault()
}

fn companions(world: &World) -> [PathBuf; 2] {
    ["vault.db-wal", "vault.db-shm"].map(|name| path(world).with_file_name(name))
}

fn open(world: &World) -> Vault {
    let locked = LockedVault::open(&path(world)).unwrap_or_else(|error| panic!("{error}"));
    locked.unlock(&KeyFile::new(world.places().key_file())).unwrap_or_else(|(_, error)| panic!("{error}"))
}

fn look(world: &World, vault: &Vault) -> Seen {
    let epoch = LockedVault::open(&path(world)).unwrap().epoch();
    Seen { rows: world.scopes().len(), epoch, protectors: vault.protectors().unwrap().len() }
}

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(30))
}

/// Which of the calls of one kind meet the fault: each of them in a full run, by default every tenth.
fn stride() -> usize {
    let share = 200 / proofs(200);
    share.div_ceil(2)
}

#[derive(Default)]
struct Count {
    faults: usize,
    wrong: Vec<String>,
    told: usize,
    changed: usize,
}

/// Each call of each kind meets each of its errors, or the kill.
fn sweep(action: Action, faults: impl Fn(&'static [&'static str]) -> Vec<String>) -> Count {
    let scene = Scene::of(action);
    let mut count = Count::default();
    for (at, (call, errors)) in CALLS.into_iter().enumerate() {
        for (which, fault) in faults(errors).into_iter().enumerate() {
            // so that a sparse run does not always meet the same ones
            let mut number = 1 + (at + which) % stride();
            while let Some(trace) = scene.change(call, &fault, number) {
                let context = format!("{action:?}, {call} {number} {fault}: {:?}", trace.run);
                let changed = scene.is_changed(&context);
                let is_right = match trace.run.code {
                    Some(0) => changed,
                    Some(code) => {
                        count.told += 1;
                        let told = &trace.run.stderr;
                        let is_the_disks = told.contains("vault.db") && !told.contains("damaged");
                        (code == 1 || code == 7) && is_the_disks && !told.contains("panicked")
                    }
                    None => fault.contains("KILL"),
                };
                if !is_right {
                    count.wrong.push(context);
                }
                count.faults += 1;
                count.changed += usize::from(changed);
                number += stride();
            }
        }
    }
    count
}

fn errors(errors: &'static [&'static str]) -> Vec<String> {
    errors.iter().map(|error| format!("error={error}")).collect()
}

fn kill(_errors: &'static [&'static str]) -> Vec<String> {
    vec!["signal=KILL".to_owned()]
}

const ACTIONS: [Action; 4] = [Action::Put, Action::Rekey, Action::AddProtector, Action::RemoveProtector];

#[test]
fn an_error_at_any_call_leaves_the_old_vault_or_the_new_one_and_is_told() {
    let (mut lines, mut all_wrong) = (Vec::new(), Vec::new());
    for action in ACTIONS {
        let Count { faults, told, wrong, .. } = sweep(action, errors);
        all_wrong.extend(wrong);
        assert!(told > 0, "{action:?}: none of {faults} errors was noticed");
        lines.push(format!("{action:?} {faults}, told {told}"));
    }
    assert!(all_wrong.is_empty(), "{}", all_wrong.join("\n"));
    report("vault-faults", &format!("errors at a system call of a vault: {}", lines.join("; ")));
}

#[test]
fn a_kill_at_any_call_leaves_the_old_vault_or_the_new_one() {
    let mut lines = Vec::new();
    for action in ACTIONS {
        let Count { faults, changed, wrong, .. } = sweep(action, kill);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(changed < faults, "{action:?}: {changed} of {faults}");
        lines.push(format!("{action:?} {faults}, after the change {changed}"));
    }
    report("vault-kills-at-calls", &format!("kills at a system call of a vault: {}", lines.join("; ")));
}

//! SIGKILL at any instant of writes, rekeys and protector changes: the vault opens, and nothing
//! that was acknowledged is lost.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use crate::store::Store as _;

use super::super::AfterRemoval;
use super::*;

const VAULT: &str = "TOKENKEEP_TEST_VAULT";
const KEY: &str = "TOKENKEEP_TEST_KEY";
const FIRST: &str = "TOKENKEEP_TEST_FIRST";

/// 10 000 divided by what `PROOFS` says, which is 20 where it says nothing.
fn kills() -> usize {
    let proofs: Option<usize> = std::env::var("PROOFS").ok().and_then(|text| text.parse().ok());
    10_000 / proofs.unwrap_or(20).max(1)
}

/// Not a test of its own: what the killed process does. It says aloud what is on the disk.
#[test]
fn the_killed_process() {
    let Some(path) = std::env::var_os(VAULT) else { return };
    let key = KeyFile::new(std::env::var_os(KEY).unwrap());
    let first: usize = std::env::var(FIRST).unwrap().parse().unwrap();
    let say = |what: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{what}").unwrap();
        out.flush().unwrap();
    };
    let vault = open(Path::new(&path), &key);
    say("ready".to_owned());
    for at in first.. {
        match at % 8 {
            3 => {
                let _outcome = vault.rekey(soon(), |_| {}).unwrap();
            }
            5 => {
                let slot = vault.add_protector(&super::super::RecoveryKey::generate(), soon()).unwrap();
                let _outcome = vault.remove_protector(slot, AfterRemoval::Rekey, soon(), |_| {}).unwrap();
            }
            7 => vault.set_default_account(CACHE, Some(&at.to_string()), soon()).unwrap(),
            // few users, so that the vault stays small and entries are replaced, too
            _ => {
                let mut issued = tokens(at % 12, 0, Origin::SignIn { grant_type: "device_code" });
                issued.access_token = SecretString::from(format!("number {at}"));
                let change = ChangeSet::of(Change::Save(Box::new(issued)));
                vault.store(CACHE).apply(&change, soon()).unwrap();
            }
        }
        say(format!("done {at}"));
    }
}

fn spawn(room: &Room, first: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::vault::tests::kills::the_killed_process",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(VAULT, room.path())
        .env(KEY, room.dir.path().join("key"))
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the vault must know after these were acknowledged, and the one after them perhaps.
fn check(room: &Room, acknowledged: &[usize], round: usize) {
    let locked = LockedVault::open(&room.path());
    let locked = locked.unwrap_or_else(|error| panic!("kill {round}: {error}"));
    let vault = locked.unlock(&room.key_file());
    let vault = vault.unwrap_or_else(|(_, error)| panic!("kill {round}: {error}"));
    vault.verify().unwrap_or_else(|error| panic!("kill {round}: {error}"));
    let json: serde_json::Value =
        serde_json::from_slice(&vault.store(CACHE).load().unwrap().document.to_bytes()).unwrap();
    let under_way = acknowledged.last().map_or(0, |last| last + 1);
    for user in 0..12 {
        let is_put = |at: &&usize| *at % 12 == user && !matches!(*at % 8, 3 | 5 | 7);
        let Some(last) = acknowledged.iter().rev().find(is_put) else { continue };
        let home = home_account_id(user);
        let found = json["AccessToken"]
            .as_object()
            .unwrap()
            .values()
            .find(|entry| entry["home_account_id"] == home.as_str())
            .unwrap_or_else(|| panic!("kill {round}: user {user} is gone"));
        let secret = found["secret"].as_str().unwrap();
        let expected = [format!("number {last}"), format!("number {under_way}")];
        assert!(expected.iter().any(|one| one == secret), "kill {round}: {secret}, not {expected:?}");
    }
}

#[test]
fn a_kill_at_any_instant_loses_nothing_that_was_acknowledged() {
    let room = Room::new();
    drop(room.create());
    let (mut acknowledged, mut first, kills) = (Vec::new(), 0, kills());
    for round in 0..kills {
        let mut child = spawn(&room, first);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "ready"), "kill {round}: it did not start");
        // a while that differs each time: some acknowledgements, then some turns of a loop
        let mut random = [0; 4];
        getrandom::fill(&mut random).unwrap();
        let random = u32::from_le_bytes(random);
        let mut take = |line: &str| {
            if let Some(at) = line.strip_prefix("done ") {
                acknowledged.push(at.parse().unwrap());
            }
        };
        for line in lines.by_ref().take(random as usize % 9) {
            take(&line);
        }
        for turn in 0..random >> 12 {
            std::hint::black_box(turn);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // what it had said before it died
        lines.for_each(|line| take(&line));
        check(&room, &acknowledged, round);
        first = acknowledged.last().map_or(0, |last| last + 1);
        let seen = acknowledged.len().saturating_sub(60);
        acknowledged.drain(..seen);
    }
    println!("kills: {kills}");
}

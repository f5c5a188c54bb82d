//! The keyring protector against a real gnome-keyring: there, locked, without a service, without
//! a bus.
#![cfg(target_os = "linux")]

use std::process::Command;

use crate::error::{ProtectorError, VaultError};

use super::super::{AfterRemoval, Keyring};
use super::*;

const STATE: &str = "TOKENKEEP_TEST_KEYRING";
const ROOM: &str = "TOKENKEEP_TEST_ROOM";

/// Not a test of its own: what happens beside each keyring.
#[test]
fn beside_a_keyring() {
    let Some(folder) = std::env::var_os(ROOM).map(PathBuf::from) else { return };
    let state = std::env::var(STATE).unwrap();
    let (path, key) = (folder.join("state/vault.db"), KeyFile::new(folder.join("key")));
    let keyring = Keyring::new(false);
    if !path.exists() {
        assert_eq!(state, "unlocked");
        let vault = Vault::create(&path, &key).unwrap();
        assert_eq!(vault.add_protector(&keyring, soon()).unwrap(), 2);
        put(&vault, 1, 1);
    }
    match (state.as_str(), LockedVault::open(&path).unwrap().unlock(&keyring)) {
        ("unlocked", Ok(vault)) => {
            // what it removes is gone from the keyring, too, and the first one is still there
            let slot = vault.add_protector(&keyring, soon()).unwrap();
            vault.remove_protector(slot, AfterRemoval::KeepKey, soon(), |_| {}).unwrap();
            vault.verify().unwrap();
        }
        ("locked", Err((_, VaultError::Protector { source: ProtectorError::KeyringLocked, .. }))) => {
            let vault = open(&path, &key);
            let error = vault.add_protector(&keyring, soon()).unwrap_err();
            assert!(error.to_string().contains("locked"), "{error}");
        }
        (
            "absent" | "nobus",
            Err((_, VaultError::Protector { source: ProtectorError::Gone { keeper: "keyring", .. }, .. })),
        ) => {}
        (state, outcome) => panic!("{state}: {outcome:?}"),
    }
    println!("seen a keyring that is {state}");
}

#[test]
fn a_keyring_that_is_locked_or_gone_says_so_and_never_prompts() {
    let room = Room::new();
    let home = room.dir.path().join("home");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/with-secret-service");
    for (option, state) in
        [(None, "unlocked"), (Some("-l"), "locked"), (Some("-n"), "absent"), (Some("-b"), "nobus")]
    {
        let output = Command::new(script)
            .arg("-d")
            .arg(&home)
            .args(option)
            .arg("--")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "store::vault::tests::keyring::beside_a_keyring", "--nocapture"])
            .env(ROOM, room.dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let expected = format!("seen a keyring that is {state}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains(&expected), "{said}\n{errors}");
    }
}

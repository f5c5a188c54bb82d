//! A full disk and a read-only one, real ones: a small tmpfs in a mount namespace of its own.
#![cfg(target_os = "linux")]

use std::fs;
use std::process::Command;

use crate::error::{CacheError, VaultError};
use crate::store::Store as _;

use super::*;

const DISK: &str = "TOKENKEEP_TEST_DISK";

/// Not a test of its own: what happens inside the namespace.
#[test]
fn on_the_small_disk() {
    let Some(disk) = std::env::var_os(DISK).map(PathBuf::from) else { return };
    let path = disk.join("state/vault.db");
    let key = KeyFile::new(disk.with_extension("key"));
    let vault = Vault::create(&path, &key).unwrap();
    put(&vault, 0, 0);

    // until it is full
    let mut written = 1;
    let error = loop {
        match vault.store(CACHE).apply(&sign_in(written, 0), soon()) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CacheError::Vault(VaultError::DiskFull { .. })), "{error} {error:?}");
    assert!(error.to_string().contains("no space left"), "{error}");
    let accounts = |vault: &Vault| vault.store(CACHE).load().unwrap().document.accounts().len();
    assert_eq!(accounts(&vault), written);
    let full = vault.rekey(soon(), |_| {});
    assert!(matches!(full, Err(VaultError::DiskFull { .. })), "{full:?}");
    let full = vault.backup(&disk.join("copy.db"));
    assert!(matches!(full, Err(VaultError::DiskFull { .. })), "{full:?}");
    assert!(!disk.join("copy.db").exists());
    assert_eq!(accounts(&vault), written);
    drop(vault);
    let remount = |options: &str| {
        let status = Command::new("mount").arg("-o").arg(options).arg(&disk).status().unwrap();
        assert!(status.success());
    };
    remount("remount,size=16m");
    let vault = open(&path, &key);
    assert_eq!(accounts(&vault), written);
    put(&vault, written, 0);
    let _outcome = vault.finish_rekey(soon(), |_| {}).unwrap();
    vault.verify().unwrap();
    drop(vault);

    remount("remount,ro");
    let vault = open(&path, &key);
    assert_eq!(accounts(&vault), written + 1, "it can be read");
    let error = vault.store(CACHE).apply(&sign_in(99, 0), soon()).unwrap_err();
    assert!(matches!(error, CacheError::Vault(VaultError::ReadOnly { .. })), "{error} {error:?}");
    let refused = vault.add_protector(&passphrase("p"), soon()).unwrap_err();
    assert!(matches!(refused, VaultError::ReadOnly { .. }), "{refused}");
    let refused = Vault::create(&disk.join("state/other.db"), &key).unwrap_err();
    assert!(matches!(refused, VaultError::ReadOnly { .. }), "{refused}");
    println!("the small disk held {written}");
}

#[test]
fn a_full_disk_and_a_read_only_one_are_told_apart_and_lose_nothing() {
    let room = Room::new();
    let disk = room.dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let script = "mount -t tmpfs -o size=400k,mode=700 none \"$TOKENKEEP_TEST_DISK\" && \
        exec \"$0\" --exact store::vault::tests::disk::on_the_small_disk --nocapture";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(DISK, &disk)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("the small disk held"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

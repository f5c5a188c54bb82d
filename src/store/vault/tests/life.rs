//! A vault's life: made, opened, locked, moved to a newer format, copied, restored.

use std::fs;

use crate::document::{Change, ChangeSet};
use crate::error::{ProtectorError, VaultError};
use crate::store::Store as _;

use super::super::header::{Header, Slot};
use super::super::keys::{EpochKeys, SecretKey};
use super::super::root::Root;
use super::super::{AfterRemoval, AuditEvent, ProtectorKind, RecoveryKey, file, schema};
use super::store::set_mode;
use super::*;

fn accounts(vault: &Vault) -> usize {
    vault.store(CACHE).load().unwrap().document.accounts().len()
}

#[test]
fn any_protector_opens_it_and_no_other_secret_does() {
    let room = Room::new();
    let vault = room.create();
    put(&vault, 1, 1);
    let recovery = RecoveryKey::generate();
    assert_eq!(vault.add_protector(&passphrase("correct horse"), soon()).unwrap(), 2);
    assert_eq!(vault.add_protector(&recovery, soon()).unwrap(), 3);
    let kinds: Vec<_> = vault.protectors().unwrap().iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [ProtectorKind::KeyFile, ProtectorKind::Passphrase, ProtectorKind::Recovery]);
    drop(vault);

    let typed = RecoveryKey::parse(&recovery.to_text()).unwrap();
    for protector in [&room.key_file() as &dyn super::super::Protector, &passphrase("correct horse"), &typed]
    {
        assert_eq!(accounts(&open(&room.path(), protector)), 1);
    }
    let wrong: [(&dyn super::super::Protector, &str); 2] = [
        (&passphrase("battery staple"), "wrong passphrase"),
        (&RecoveryKey::generate(), "wrong recovery key"),
    ];
    for (protector, expected) in wrong {
        let (locked, error) = LockedVault::open(&room.path()).unwrap().unlock(protector).unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(!error.is_damage());
        // it comes back, to try another
        locked.unlock(&room.key_file()).unwrap();
    }
    let none = super::super::Keyring::with_store(keyring_core::mock::Store::new().unwrap());
    let (_, error) = LockedVault::open(&room.path()).unwrap().unlock(&none).unwrap_err();
    assert!(matches!(error, VaultError::NoSuchProtector { .. }), "{error}");
}

#[test]
fn the_last_protector_stays() {
    let room = Room::new();
    let vault = room.create();
    let remove = |slot| vault.remove_protector(slot, AfterRemoval::Rekey, soon(), |_| {});
    assert!(matches!(remove(1).unwrap_err(), VaultError::LastProtector { slot: 1, .. }));
    assert!(matches!(remove(7).unwrap_err(), VaultError::NoSuchProtector { .. }));
    vault.add_protector(&passphrase("p"), soon()).unwrap();
    let outcome = remove(1).unwrap().unwrap();
    assert!(outcome.compacted);
    assert!(matches!(remove(2).unwrap_err(), VaultError::LastProtector { slot: 2, .. }));
    open(&room.path(), &passphrase("p"));
}

#[test]
fn a_protector_that_forgets_needs_no_new_key() {
    let room = Room::new();
    let vault = room.create();
    let keyring = super::super::Keyring::with_store(keyring_core::mock::Store::new().unwrap());
    let slot = vault.add_protector(&keyring, soon()).unwrap();
    open(&room.path(), &keyring);
    let outcome = vault.remove_protector(slot, AfterRemoval::KeepKey, soon(), |_| {}).unwrap();
    assert_eq!(outcome, None);
    let (_, error) = LockedVault::open(&room.path()).unwrap().unlock(&keyring).unwrap_err();
    assert!(matches!(error, VaultError::NoSuchProtector { .. }), "{error}");
    room.open().verify().unwrap();
}

#[test]
fn a_vault_is_locked_once_nobody_uses_it() {
    let room = Room::new();
    let vault = room.create();
    let store = vault.store(CACHE);
    let vault = vault.lock().unwrap_err();
    drop(store);
    let locked = vault.lock().unwrap();
    assert_eq!(locked.protectors().len(), 1);
    locked.unlock(&room.key_file()).unwrap();
}

#[test]
fn a_file_that_was_replaced_or_removed_is_not_written_to() {
    let room = Room::new();
    let vault = room.create();
    put(&vault, 1, 1);
    let moved = room.path().with_file_name("moved.db");
    fs::rename(room.path(), &moved).unwrap();
    let error = vault.store(CACHE).apply(&sign_in(2, 1), soon()).unwrap_err();
    assert!(error.to_string().contains("no longer the file that was opened"), "{error}");
    fs::copy(&moved, room.path()).unwrap();
    vault.store(CACHE).load().unwrap_err();
}

#[test]
fn the_first_format_is_brought_up_to_date_with_all_that_is_in_it() {
    let room = Room::new();
    file::prepare_folder(&room.path()).unwrap();
    drop(file::create_private(&room.path()).unwrap());
    let mut connection = rusqlite::Connection::open(room.path()).unwrap();
    schema::create_at(&mut connection, &room.path(), 1);
    let keys = EpochKeys::new([3; 16], 1, SecretKey::generate());
    let mut slot =
        super::super::slots::new_slot(&room.path(), &keys.vault_id, &room.key_file(), NOW).unwrap();
    slot.slot = 1;
    slot.reseal(&keys.vault_id, 1, &keys.data).unwrap();
    let header = Header { vault_id: keys.vault_id, epoch: 1, slots: vec![Slot::clone(&slot)] };
    header.write(&connection).unwrap();
    connection.execute("UPDATE vault SET format = 1", []).unwrap();
    let mut root = Root::new();
    root.set_protectors(&header.protectors());
    root.write(&connection, &keys).unwrap();
    connection.close().unwrap();

    let mut locked = LockedVault::open(&room.path()).unwrap();
    let note = AuditEvent::new(NOW, "test", "note");
    assert!(matches!(locked.record_event(&note).unwrap_err(), VaultError::Locked { .. }));
    let vault = locked.unlock(&room.key_file()).unwrap();
    put(&vault, 1, 1);
    assert_eq!(vault.verify().unwrap().events, 2);
    let version: i64 = vault
        .shared
        .read(|session| {
            Ok(session.connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap())
        })
        .unwrap();
    assert_eq!(version, schema::FORMAT);
}

#[test]
fn two_that_bring_it_up_to_date_at_once_both_open_it() {
    let room = Room::new();
    file::prepare_folder(&room.path()).unwrap();
    for round in 0..5 {
        let path = room.path().with_file_name(format!("{round}.db"));
        drop(file::create_private(&path).unwrap());
        let mut connection = rusqlite::Connection::open(&path).unwrap();
        schema::create_at(&mut connection, &path, 1);
        let keys = EpochKeys::new([3; 16], 1, SecretKey::generate());
        let mut slot = super::super::slots::new_slot(&path, &keys.vault_id, &room.key_file(), NOW).unwrap();
        slot.reseal(&keys.vault_id, 1, &keys.data).unwrap();
        Header { vault_id: keys.vault_id, epoch: 1, slots: vec![slot] }.write(&connection).unwrap();
        connection.execute("UPDATE vault SET format = 1", []).unwrap();
        connection.close().unwrap();
        std::thread::scope(|scope| {
            let openers: Vec<_> = (0..4).map(|_| scope.spawn(|| LockedVault::open(&path))).collect();
            for opener in openers {
                opener.join().unwrap().unwrap();
            }
        });
    }
}

#[test]
fn the_audit_trail_tells_who_came_and_went_and_why() {
    let room = Room::new();
    let vault = room.create().acting_as("tokenkeep test");
    put(&vault, 1, 1);
    put(&vault, 1, 1);
    vault.store(CACHE).apply(&sign_in(1, 2), soon()).unwrap();
    let dead = ChangeSet::of(Change::RemoveRefreshToken {
        home_account_id: home_account_id(1),
        client_id: "canary-client".to_owned(),
        secret: SecretString::from("canary-refresh-1-2"),
    });
    vault.store(CACHE).apply(&dead, soon()).unwrap();
    let events = vault.audit().unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|entry| (entry.seq, entry.event.action.as_str(), entry.event.reason.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (1, "vault_created", None),
            (2, "account_added", Some("signed_in")),
            (3, "refresh_token_added", Some("signed_in")),
            (4, "refresh_token_removed", Some("grant_dead")),
        ]
    );
    assert!(events[3].event.actor.starts_with("tokenkeep test (process "));
    assert_eq!(events[3].event.account.as_deref(), Some(home_account_id(1).as_str()));
    assert!(!format!("{events:?}").contains("canary-refresh"));
}

#[test]
fn an_event_that_is_gone_changed_or_moved_is_noticed() {
    let room = Room::new();
    let vault = room.create();
    for at in 0..4 {
        vault.record_event(&AuditEvent::new(NOW, "test", format!("action {at}")), soon()).unwrap();
    }
    let tampering = [
        "DELETE FROM audit WHERE seq = 5",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
        "UPDATE audit SET sealed = (SELECT sealed FROM audit AS o WHERE o.seq = 2) WHERE seq = 3",
        "INSERT INTO audit SELECT 6, sealed, mac FROM audit WHERE seq = 5",
        "UPDATE audit SET seq = CASE seq WHEN 3 THEN -4 ELSE -3 END WHERE seq IN (3, 4)",
    ];
    for statement in tampering {
        let copy = Room::new();
        fs::create_dir(copy.path().parent().unwrap()).unwrap();
        set_mode(copy.path().parent().unwrap(), 0o700);
        vault.backup(&copy.path()).unwrap();
        let changed = open(&copy.path(), &room.key_file());
        assert_eq!(changed.audit().unwrap().len(), 5);
        let change = |session: &super::super::session::Session<'_>| {
            assert!(session.connection.execute(statement, []).unwrap() > 0);
            Ok(())
        };
        changed.shared.write(soon(), change).unwrap();
        assert!(changed.audit().unwrap_err().is_damage(), "{statement}");
        assert!(changed.verify().unwrap_err().is_damage(), "{statement}");
    }
}

#[test]
fn what_happens_while_it_is_locked_is_told_after_the_next_unlock() {
    let room = Room::new();
    drop(room.create());
    let mut locked = LockedVault::open(&room.path()).unwrap();
    for at in 0..3 {
        locked.record_event(&AuditEvent::new(NOW, "canary-actor", format!("note {at}"))).unwrap();
    }
    let bytes = fs::read(room.path().with_file_name("vault.db-wal")).unwrap();
    assert!(!bytes.windows(12).any(|window| window == b"canary-actor"));
    let vault = locked.unlock(&room.key_file()).unwrap();
    let actions: Vec<_> = vault.audit().unwrap().into_iter().map(|entry| entry.event.action).collect();
    assert_eq!(actions, ["vault_created", "note 0", "note 1", "note 2"]);

    let (_, error) = {
        let mut locked = vault.lock().unwrap();
        locked.record_event(&AuditEvent::new(NOW, "a", "b")).unwrap();
        let connection = rusqlite::Connection::open(room.path()).unwrap();
        connection.execute("DELETE FROM audit_pending", []).unwrap();
        locked.unlock(&room.key_file()).unwrap_err()
    };
    assert!(error.is_damage(), "{error}");
}

#[test]
fn a_backup_opens_by_the_same_protectors_and_comes_back() {
    let room = Room::new();
    let vault = room.create();
    put(&vault, 1, 1);
    let copy = room.dir.path().join("copy.db");
    vault.backup(&copy).unwrap();
    assert!(matches!(vault.backup(&copy).unwrap_err(), VaultError::AlreadyExists { .. }));
    put(&vault, 2, 1);
    let held = vault.store(CACHE);

    let (restored, aside) = LockedVault::restore(&copy, &room.path(), NOW).unwrap();
    let restored = restored.unlock(&room.key_file()).unwrap();
    assert_eq!(accounts(&restored), 1);
    assert_eq!(held.load().unwrap().document.accounts().len(), 1, "who has it open sees the change");
    let aside = aside.unwrap();
    assert_eq!(accounts(&open(&aside, &room.key_file())), 2);
    restored.verify().unwrap();
    drop((vault, held, restored));

    // into nothing, and in place of something damaged
    fs::remove_file(room.path()).unwrap();
    let (restored, none) = LockedVault::restore(&copy, &room.path(), NOW).unwrap();
    assert_eq!(none, None);
    drop(restored);
    fs::write(room.path(), b"damaged").unwrap();
    fs::remove_file(&aside).unwrap();
    let (restored, aside) = LockedVault::restore(&copy, &room.path(), NOW).unwrap();
    assert_eq!(fs::read(aside.unwrap()).unwrap(), b"damaged");
    assert_eq!(accounts(&restored.unlock(&room.key_file()).unwrap()), 1);

    fs::write(&copy, b"damaged").unwrap();
    let error = LockedVault::restore(&copy, &room.path(), NOW).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("copy.db"), "{error}");
    let left = fs::read_dir(room.path().parent().unwrap()).unwrap();
    assert!(left.into_iter().all(|file| !file.unwrap().path().to_string_lossy().contains(".new-")));
}

#[test]
fn another_vault_restored_over_an_open_one_is_not_written_to() {
    let (room, other) = (Room::new(), Room::new());
    let copy = room.dir.path().join("copy.db");
    other.create().backup(&copy).unwrap();
    let vault = room.create();
    drop(LockedVault::restore(&copy, &room.path(), NOW).unwrap());
    let error = vault.store(CACHE).apply(&sign_in(1, 1), soon()).unwrap_err();
    assert!(error.to_string().contains("no longer the file"), "{error}");
}

#[test]
fn an_orphaned_log_is_not_played_into_a_new_vault() {
    let room = Room::new();
    let vault = room.create();
    put(&vault, 1, 1);
    let wal = room.path().with_file_name("vault.db-wal");
    let log = fs::read(&wal).unwrap();
    drop(vault);
    fs::remove_file(room.path()).unwrap();
    fs::write(&wal, log).unwrap();
    let vault = room.create();
    assert_eq!(accounts(&vault), 0);
    vault.verify().unwrap();
}

#[test]
fn a_vault_that_cannot_be_protected_is_not_made() {
    let room = Room::new();
    let nowhere = KeyFile::new(room.dir.path().join("no/such/folder/key"));
    let error = Vault::create(&room.path(), &nowhere).unwrap_err();
    assert!(
        matches!(error, VaultError::Protector { source: ProtectorError::UnsafeKeyFile { .. }, .. }),
        "{error}"
    );
    assert_eq!(fs::read_dir(room.path().parent().unwrap()).unwrap().count(), 0);
}

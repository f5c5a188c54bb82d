//! A new data key: nothing is lost on the way, and the old one opens nothing afterwards.

use crate::error::VaultError;
use crate::store::Store as _;

use super::super::header::Header;
use super::super::{AfterRemoval, AuditEvent};
use super::*;

fn filled(room: &Room) -> Vault {
    let vault = room.create();
    for user in 0..60 {
        put(&vault, user, 1);
    }
    vault.set_default_account(CACHE, Some("u"), soon()).unwrap();
    vault
}

fn check(vault: &Vault, users: usize) {
    assert_eq!(vault.store(CACHE).load().unwrap().document.accounts().len(), users);
    assert_eq!(vault.default_account(CACHE).unwrap().as_deref(), Some("u"));
    vault.verify().unwrap();
}

#[test]
fn everything_is_under_the_new_key_and_progress_is_told() {
    let room = Room::new();
    let vault = filled(&room);
    let before = vault.store(CACHE).load().unwrap().document;
    let mut seen = Vec::new();
    let outcome = vault.rekey(soon(), |progress| seen.push((progress.done, progress.total))).unwrap();
    assert!(outcome.compacted);
    assert!(seen.len() > 2 && seen.is_sorted(), "{seen:?}");
    let (done, total) = seen.last().unwrap();
    assert_eq!(done, total);
    assert!(!vault.has_unfinished_rekey());
    assert_eq!(*vault.store(CACHE).load().unwrap().document, *before);
    check(&vault, 60);
    check(&room.open(), 60);
}

#[test]
fn the_order_of_members_survives_it() {
    let room = Room::new();
    let vault = filled(&room);
    let bytes = |vault: &Vault| vault.store(CACHE).load().unwrap().document.to_bytes();
    let before = bytes(&vault);
    let _outcome = vault.rekey(soon(), |_| {}).unwrap();
    assert_eq!(*bytes(&vault), *before);
}

#[test]
fn an_interrupted_one_goes_on_where_it_stopped_whatever_happens_between() {
    let room = Room::new();
    for steps in 0..6 {
        let vault = if steps == 0 { filled(&room) } else { room.open() };
        vault.begin_rekey(soon(), |_, _| Ok(())).unwrap();
        assert!(vault.has_unfinished_rekey());
        for _ in 0..steps {
            vault.shared.write(soon(), super::super::rekey::move_some).unwrap();
        }
        drop(vault);

        // another process comes, reads and writes before anybody finishes it
        let vault = room.open();
        assert!(vault.has_unfinished_rekey());
        check(&vault, 60 + steps);
        put(&vault, 100 + steps, 1);
        put(&vault, 5, 2 + steps);
        vault.set_default_account(CACHE, Some("v"), soon()).unwrap();
        vault.set_default_account(CACHE, Some("u"), soon()).unwrap();
        vault.record_event(&AuditEvent::new(NOW, "test", "between"), soon()).unwrap();
        check(&vault, 61 + steps);
        let onlooker = room.open();
        let _outcome = vault.finish_rekey(soon(), |_| {}).unwrap();
        check(&vault, 61 + steps);
        // it had both keys, and learns that one is gone
        check(&onlooker, 61 + steps);
        check(&room.open(), 61 + steps);
    }
}

#[test]
fn who_unlocked_it_before_is_told_to_do_it_again() {
    let room = Room::new();
    let (vault, other) = (filled(&room), room.open());
    let _outcome = vault.rekey(soon(), |_| {}).unwrap();
    let error = other.store(CACHE).load().unwrap_err();
    assert!(matches!(error, crate::error::CacheError::Vault(VaultError::Rekeyed { .. })), "{error}");
    other.store(CACHE).apply(&sign_in(1, 9), soon()).unwrap_err();
    other.store(CACHE).stamp().unwrap_err();
}

#[test]
fn readers_of_this_process_never_see_it() {
    let room = Room::new();
    let vault = filled(&room);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let store = vault.store(CACHE);
            for _ in 0..200 {
                assert_eq!(store.load_account(&home_account_id(7)).unwrap().document.accounts().len(), 1);
            }
        });
        for _ in 0..4 {
            let _outcome = vault.rekey(soon(), |_| {}).unwrap();
        }
        reading.join().unwrap();
    });
    check(&vault, 60);
}

#[test]
fn a_removed_protectors_old_wrap_opens_nothing() {
    let room = Room::new();
    let vault = filled(&room);
    vault.add_protector(&passphrase("old"), soon()).unwrap();
    let old_copy = room.dir.path().join("old.db");
    vault.backup(&old_copy).unwrap();
    let old = {
        let connection = rusqlite::Connection::open(&old_copy).unwrap();
        Header::read(&connection, &old_copy).unwrap().slots.remove(1)
    };
    let _outcome = vault.remove_protector(2, AfterRemoval::Rekey, soon(), |_| {}).unwrap();

    // the old wrap gives the old key; put back into the new file it gives nothing
    let connection = rusqlite::Connection::open(room.path()).unwrap();
    let mut header = Header::read(&connection, &room.path()).unwrap();
    let mut put_back = old.clone();
    put_back.epoch = header.epoch;
    header.slots.push(put_back);
    header.write(&connection).unwrap();
    let (_, error) = LockedVault::open(&room.path()).unwrap().unlock(&passphrase("old")).unwrap_err();
    assert!(error.is_damage(), "{error}");

    let context = super::super::header::Slot::protector_context(&vault.shared.vault_id);
    let secret = super::super::Protector::unwrap(&passphrase("old"), &old.wrapped, &context).unwrap();
    let old_key = old.open(&vault.shared.vault_id, secret).unwrap();
    let keys = vault.shared.keys();
    assert_ne!(old_key.expose(), keys[0].data.expose());
    let sealed: Vec<Vec<u8>> = vault
        .shared
        .read(|session| {
            let mut statement = session.connection.prepare("SELECT sealed FROM entry").unwrap();
            let rows = statement.query_map([], |row| row.get(0)).unwrap();
            Ok(rows.map(Result::unwrap).collect())
        })
        .unwrap();
    // and no row of the old key is left anywhere in the file, not even in unused pages
    let old_rows: Vec<Vec<u8>> = {
        let connection = rusqlite::Connection::open(&old_copy).unwrap();
        let mut statement = connection.prepare("SELECT substr(sealed, 1, 12) FROM entry").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let file = std::fs::read(room.path()).unwrap();
    let log = std::fs::read(room.path().with_file_name("vault.db-wal")).unwrap_or_default();
    assert_eq!(sealed.len(), old_rows.len());
    for nonce in old_rows {
        assert!(![&file, &log].iter().any(|bytes| bytes.windows(12).any(|window| window == nonce)));
    }
}

//! Damage at every place: reported, or without effect; never another answer.

use std::fs;

use crate::document::TokenCacheDocument;
use crate::error::{ProtectorError, VaultError};
use crate::store::Store as _;

use super::super::{AfterRemoval, AuditEvent, ProtectorKind};
use super::store::set_mode;
use super::*;

/// Every so manieth place, as `PROOFS` says; all of them where it is 1 (`scripts/soak`).
fn stride() -> usize {
    let proofs = std::env::var("PROOFS").ok().and_then(|text| text.parse().ok());
    proofs.unwrap_or(20).max(1)
}

/// Everything that a vault says: the document, a part of it, the records, the audit trail.
#[derive(Debug, PartialEq)]
struct Answers {
    document: TokenCacheDocument,
    part: TokenCacheDocument,
    record: Option<String>,
    events: usize,
    protectors: usize,
}

fn ask(path: &Path, key: &KeyFile) -> Result<Answers, VaultError> {
    let vault = LockedVault::open(path)?.unlock(key).map_err(|(_, error)| error)?;
    let store = vault.store(CACHE);
    let vault_error = |error| match error {
        crate::error::CacheError::Vault(error) => error,
        other => panic!("{other}"),
    };
    Ok(Answers {
        document: TokenCacheDocument::clone(&store.load().map_err(vault_error)?.document),
        part: TokenCacheDocument::clone(
            &store.load_account(&home_account_id(2)).map_err(vault_error)?.document,
        ),
        record: vault.default_account(CACHE)?,
        events: vault.audit()?.len(),
        protectors: vault.protectors()?.len(),
    })
}

/// A small vault at rest, with something in every table, and a note made while it was locked.
fn small(room: &Room) -> (Vec<u8>, Answers) {
    let vault = room.create_with_pages(512);
    vault.add_protector(&room.key_file(), soon()).unwrap();
    for user in 1..3 {
        put(&vault, user, 1);
    }
    vault.set_default_account(CACHE, Some("canary"), soon()).unwrap();
    drop(vault);
    let mut locked = LockedVault::open(&room.path()).unwrap();
    locked.record_event(&AuditEvent::new(NOW, "test", "note")).unwrap();
    drop(locked);
    let bytes = fs::read(room.path()).unwrap();
    let answers = ask(&room.path(), &room.key_file()).unwrap();
    (bytes, answers)
}

fn lay_down(room: &Room, bytes: &[u8]) {
    for file in ["vault.db-wal", "vault.db-shm"] {
        let _gone = fs::remove_file(room.path().with_file_name(file));
    }
    fs::write(room.path(), bytes).unwrap();
}

fn is_reported(error: &VaultError) -> bool {
    // an undamaged checksum with a key file that does not fit cannot come from one bit
    error.is_damage()
}

#[test]
fn a_flipped_bit_is_reported_or_without_effect() {
    let room = Room::new();
    let (good, answers) = small(&room);
    let stride = stride();
    let (mut tried, mut reported) = (0, 0);
    for at in (0..good.len()).step_by(stride) {
        let mut bad = good.clone();
        // all eight bits get their turn
        bad[at] ^= 1 << ((at / stride + at) % 8);
        lay_down(&room, &bad);
        tried += 1;
        match ask(&room.path(), &room.key_file()) {
            Ok(found) => assert_eq!(found, answers, "byte {at}"),
            Err(error) => {
                assert!(is_reported(&error), "byte {at}: {error} ({error:?})");
                reported += 1;
            }
        }
    }
    println!("flips: {tried} of {} bytes, {reported} reported", good.len());
    assert!(reported > tried / 3, "{reported} of {tried}");
}

#[test]
fn a_shorter_file_is_reported() {
    let room = Room::new();
    let (good, _) = small(&room);
    let lengths = (0..good.len()).step_by(stride()).chain((0..good.len()).step_by(512));
    for length in lengths {
        lay_down(&room, &good[..length]);
        let error = ask(&room.path(), &room.key_file()).unwrap_err();
        assert!(is_reported(&error), "{length}: {error}");
        assert_eq!(matches!(error, VaultError::Empty { .. }), length == 0, "{length}: {error}");
        assert_eq!(fs::read(room.path()).unwrap().len(), length, "it was left as it is");
    }
    for more in [1, 511, 512, 4096] {
        let longer = [good.as_slice(), &vec![0; more]].concat();
        lay_down(&room, &longer);
        assert!(is_reported(&ask(&room.path(), &room.key_file()).unwrap_err()), "{more} more");
    }
}

/// SQLite takes a log up to its last good frame, so damage there is an older state, never a mix.
#[test]
fn damage_in_the_log_gives_a_state_that_was_there() {
    let room = Room::new();
    let vault = room.create_with_pages(512);
    put(&vault, 2, 0);
    drop(vault);
    let mut states = vec![ask(&room.path(), &room.key_file()).unwrap()];
    let vault = room.open();
    let wal = room.path().with_file_name("vault.db-wal");
    for at in 1..4 {
        put(&vault, 2, at);
        states.push(ask_open(&vault));
    }
    let (file, log) = (fs::read(room.path()).unwrap(), fs::read(&wal).unwrap());
    drop(vault);
    for at in (0..log.len()).step_by(stride() * 4) {
        let mut bad = log.clone();
        bad[at] ^= 0x10;
        for log in [&bad[..], &log[..at]] {
            lay_down(&room, &file);
            fs::write(&wal, log).unwrap();
            set_mode(&wal, 0o600);
            match ask(&room.path(), &room.key_file()) {
                Ok(found) => assert!(states.contains(&found), "byte {at}"),
                Err(error) => assert!(is_reported(&error), "byte {at}: {error}"),
            }
        }
    }
}

fn ask_open(vault: &Vault) -> Answers {
    let store = vault.store(CACHE);
    Answers {
        document: TokenCacheDocument::clone(&store.load().unwrap().document),
        part: TokenCacheDocument::clone(&store.load_account(&home_account_id(2)).unwrap().document),
        record: vault.default_account(CACHE).unwrap(),
        events: vault.audit().unwrap().len(),
        protectors: vault.protectors().unwrap().len(),
    }
}

#[test]
fn what_is_no_vault_is_never_made_into_one() {
    let room = Room::new();
    drop(room.create());
    let good = fs::read(room.path()).unwrap();
    let mut other_database = good.clone();
    other_database[68..72].fill(0);
    let mut other_pages = good;
    other_pages[16..18].copy_from_slice(&2048_u16.to_be_bytes());
    let cases: [(&[u8], &str); 5] = [
        (b"", "is empty"),
        (b"{}", "less than its header"),
        (&[b'x'; 8192], "does not begin as a database"),
        (&other_database, "not marked as a vault"),
        (&other_pages, "its header says"),
    ];
    for (bytes, expected) in cases {
        lay_down(&room, bytes);
        let error = LockedVault::open(&room.path()).unwrap_err();
        assert!(error.is_damage() && error.to_string().contains(expected), "{error}");
        assert_eq!(fs::read(room.path()).unwrap(), bytes);
        let error = Vault::create(&room.path(), &room.key_file()).unwrap_err();
        assert!(matches!(error, VaultError::AlreadyExists { .. }), "{error}");
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let room = Room::new();
    drop(room.create());
    let newer = rusqlite::Connection::open(room.path()).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    let error = LockedVault::open(&room.path()).unwrap_err();
    assert!(matches!(error, VaultError::Damaged { .. }), "one mark alone is a flipped bit: {error}");
    newer.execute("UPDATE vault SET format = 99", []).unwrap();
    let error = LockedVault::open(&room.path()).unwrap_err();
    assert!(matches!(error, VaultError::NewerFormat { found: 99, known: 2, .. }), "{error}");
}

#[test]
fn seven_troubles_have_seven_messages_and_two_exit_codes() {
    let path = PathBuf::from("vault.db");
    let protector = |source| VaultError::Protector { path: path.clone(), source };
    let gone = ProtectorError::Gone { keeper: "keyring", detail: "no bus".to_owned() };
    let all = [
        (protector(ProtectorError::WrongSecret { what: "passphrase" }), false),
        (VaultError::Damaged { path: path.clone(), detail: "x".to_owned() }, true),
        (VaultError::Empty { path: path.clone() }, true),
        (VaultError::NewerFormat { path: path.clone(), found: 3, known: 2 }, true),
        (protector(gone), false),
        (protector(ProtectorError::KeyringLocked), false),
        (protector(ProtectorError::PromptRefused), false),
    ];
    let messages: std::collections::BTreeSet<_> = all.iter().map(|(error, _)| error.to_string()).collect();
    let kinds: std::collections::BTreeSet<_> = all.iter().map(|(error, _)| error.kind()).collect();
    assert_eq!((messages.len(), kinds.len()), (7, 7));
    for (error, is_damage) in &all {
        assert_eq!(error.is_damage(), *is_damage, "{error}");
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn a_protector_put_there_by_somebody_else_gets_no_key() {
    let room = Room::new();
    let vault = room.create();
    put(&vault, 1, 1);
    // an attacker with the file makes a slot of his own, all checksums right
    let stranger = Room::new();
    let other = KeyFile::new(stranger.dir.path().join("key"));
    let mut slot = super::super::slots::new_slot(&room.path(), &vault.shared.vault_id, &other, NOW).unwrap();
    let connection = rusqlite::Connection::open(room.path()).unwrap();
    let mut header = super::super::Header::read(&connection, &room.path()).unwrap();
    slot.slot = 9;
    slot.epoch = header.epoch;
    header.slots.push(slot);
    header.write(&connection).unwrap();

    let error = vault.rekey(soon(), |_| {}).unwrap_err();
    assert!(error.to_string().contains("not the ones that were sealed"), "{error}");
    let error = vault.remove_protector(1, AfterRemoval::Rekey, soon(), |_| {}).unwrap_err();
    assert!(error.is_damage(), "{error}");
    let (_, error) = LockedVault::open(&room.path()).unwrap().unlock(&room.key_file()).unwrap_err();
    assert!(error.is_damage(), "{error}");
    assert_eq!(vault.protectors().unwrap()[1].kind, ProtectorKind::KeyFile);
}

#[cfg(unix)]
#[test]
fn a_vault_that_others_may_use_is_refused() {
    let room = Room::new();
    drop(room.create());
    let folder = room.path().parent().unwrap().to_owned();
    let refusal = |path: &Path| LockedVault::open(path).unwrap_err();
    set_mode(&room.path(), 0o640);
    assert!(matches!(refusal(&room.path()), VaultError::Unsafe { .. }));
    set_mode(&room.path(), 0o600);
    set_mode(&folder, 0o755);
    assert!(matches!(refusal(&room.path()), VaultError::Unsafe { .. }));
    set_mode(&folder, 0o700);
    let link = folder.join("link.db");
    std::os::unix::fs::symlink(room.path(), &link).unwrap();
    assert!(matches!(refusal(&link), VaultError::Unsafe { .. }));
    std::os::unix::fs::symlink("/dev/null", room.path().with_file_name("vault.db-wal")).unwrap();
    assert!(matches!(refusal(&room.path()), VaultError::Unsafe { .. }));
    assert!(matches!(refusal(&folder.join("none.db")), VaultError::Absent { .. }));
}

//! The vault as a store: the same document as in memory, whatever is read of it.

use serde_json::{Value, json};

use crate::document::{Change, ChangeSet, Origin, TokenCacheDocument};
use crate::error::CacheError;
use crate::store::{MemoryStore, Store};
use crate::time::UnixTime;

use super::super::rows::space_of;
use super::super::session::Session;
use super::super::space::{Bundle, Space};
use super::*;

fn content(store: &dyn Store) -> TokenCacheDocument {
    TokenCacheDocument::clone(&store.load().unwrap().document)
}

fn remove(user: usize) -> ChangeSet {
    ChangeSet::of(Change::RemoveAccount {
        home_account_id: home_account_id(user),
        environment: "login.windows.net".to_owned(),
        client_id: None,
    })
}

fn dead(user: usize, resource: usize) -> ChangeSet {
    ChangeSet::of(Change::RemoveRefreshToken {
        home_account_id: home_account_id(user),
        client_id: "canary-client".to_owned(),
        secret: SecretString::from(format!("canary-refresh-{user}-{resource}")),
    })
}

fn refresh(user: usize, resource: usize) -> ChangeSet {
    ChangeSet::of(Change::Save(Box::new(tokens(user, resource, Origin::Refresh))))
}

/// Puts a whole document into an empty cache, as an import does.
fn fill(vault: &Vault, cache: &str, document: &TokenCacheDocument) {
    vault.store(cache).replace(document, soon()).unwrap();
}

#[test]
fn the_vault_says_what_memory_says_after_every_change() {
    let room = Room::new();
    let (vault, memory) = (room.create(), MemoryStore::new());
    let store = vault.store(CACHE);
    let mut changes: Vec<ChangeSet> = (0..90).map(|at| sign_in(at % 30, at % 7)).collect();
    changes.extend([
        refresh(3, 3),
        remove(3),
        refresh(3, 4),
        dead(4, 0),
        dead(5, 5),
        remove(29),
        sign_in(3, 1),
        ChangeSet::of(Change::RemoveStale { now: NOW.after(Duration::from_secs(1)) }),
        sign_in(31, 1),
        ChangeSet::of(Change::RemoveEverything),
        sign_in(1, 1),
    ]);
    for (at, change) in changes.iter().enumerate() {
        store.apply(change, soon()).unwrap();
        memory.apply(change, soon()).unwrap();
        assert_eq!(content(&store), content(&memory), "after change {at}");
    }
    assert_eq!(content(&room.open().store(CACHE)), content(&memory));
    vault.verify().unwrap();
}

#[test]
fn an_unchanged_document_is_not_written() {
    let room = Room::new();
    let vault = room.create();
    let store = vault.store(CACHE);
    store.apply(&sign_in(1, 1), soon()).unwrap();
    let stamp = store.stamp().unwrap();
    store.apply(&sign_in(1, 1), soon()).unwrap();
    store.apply(&remove(9), soon()).unwrap();
    assert_eq!(store.stamp().unwrap(), stamp);
    store.apply(&sign_in(2, 1), soon()).unwrap();
    assert_ne!(store.stamp().unwrap(), stamp);
}

#[test]
fn a_stamp_shows_the_writes_of_others_and_of_this_cache_alone() {
    let room = Room::new();
    let (ours, theirs) = (room.create(), room.open());
    let store = ours.store(CACHE);
    let before = store.stamp().unwrap();
    theirs.store("other.cache").apply(&sign_in(1, 1), soon()).unwrap();
    assert_eq!(store.stamp().unwrap(), before);
    put(&theirs, 1, 1);
    let after = store.stamp().unwrap();
    assert_ne!(after, before);
    assert_eq!(store.load().unwrap().stamp, after);
}

#[test]
fn everything_unknown_survives() {
    let room = Room::new();
    let vault = room.create();
    let document = json!({
        "AccessToken": {"odd": 7, "empty": {}, "k": {"home_account_id": 5, "secret": "s"}},
        "Account": [],
        "Future": {"a": {"b": [1, null, "x"]}, "": {}},
        "version": 3, "flags": [true], "note": null, "": "nameless"
    });
    let parse = |value: &Value| TokenCacheDocument::parse(value.to_string().as_bytes()).unwrap();
    fill(&vault, CACHE, &parse(&document));
    assert_eq!(content(&vault.store(CACHE)), parse(&document));

    put(&vault, 1, 1);
    let after = content(&vault.store(CACHE)).to_bytes();
    let mut after: Value = serde_json::from_slice(&after).unwrap();
    for section in ["IdToken", "RefreshToken", "AppMetadata"] {
        after.as_object_mut().unwrap().shift_remove(section).unwrap();
    }
    after["AccessToken"].as_object_mut().unwrap().retain(|key, _| !key.starts_with("canary"));
    assert_eq!(after, document);
}

#[test]
fn the_order_of_members_is_kept_where_other_libraries_look_at_it() {
    let room = Room::new();
    let (vault, memory) = (room.create(), MemoryStore::new());
    for at in [0, 1, 2, 0, 3, 1] {
        put(&vault, 1, at);
        memory.apply(&sign_in(1, at), soon()).unwrap();
    }
    let bytes = |store: &dyn Store| content(store).to_bytes();
    assert_eq!(*bytes(&vault.store(CACHE)), *bytes(&memory));
}

#[test]
fn a_key_that_a_row_elsewhere_has_is_not_written_over() {
    let room = Room::new();
    let vault = room.create();
    // so many accounts that a change reads only a part
    for user in 0..30 {
        put(&vault, user, 1);
    }
    let memory = MemoryStore::new();
    memory.apply(&sign_in(77, 1), soon()).unwrap();
    let whole: Value = serde_json::from_slice(&content(&memory).to_bytes()).unwrap();
    let (key, entry) = whole["RefreshToken"].as_object().unwrap().iter().next().unwrap();
    // somebody keeps another account's entry under the key that this one would get
    let mut document: Value = serde_json::from_slice(&content(&vault.store(CACHE)).to_bytes()).unwrap();
    let mut stranger = entry.clone();
    stranger["home_account_id"] = json!("somebody.else");
    document["RefreshToken"][key] = stranger.clone();
    let document = TokenCacheDocument::parse(document.to_string().as_bytes()).unwrap();
    fill(&vault, CACHE, &document);

    put(&vault, 77, 1);
    let after: Value = serde_json::from_slice(&content(&vault.store(CACHE)).to_bytes()).unwrap();
    assert_eq!(after["RefreshToken"][key], stranger);
    assert_eq!(&after["RefreshToken"][format!("{key}-")], entry);
    vault.verify().unwrap();
}

#[test]
fn one_account_can_be_read_alone() {
    let room = Room::new();
    let vault = room.create();
    for user in 0..20 {
        put(&vault, user, 1);
    }
    let part = vault.store(CACHE).load_account(&home_account_id(7)).unwrap().document;
    let whole = content(&vault.store(CACHE));
    let of = |document: &TokenCacheDocument| {
        document.accounts().into_iter().find(|account| account.home_account_id == home_account_id(7))
    };
    assert_eq!(part.accounts().len(), 1);
    assert_eq!(of(&part), of(&whole));
    let query = crate::document::RefreshTokenQuery {
        home_account_id: &home_account_id(7),
        environment: "login.microsoftonline.com",
        client_id: "canary-client",
    };
    assert_eq!(part.refresh_tokens(&query)[0].secret(), "canary-refresh-7-1");
    let none = vault.store(CACHE).load_account("nobody").unwrap();
    assert!(none.document.is_empty());
}

#[test]
fn a_snapshot_of_a_part_is_never_current() {
    let room = Room::new();
    let vault = room.create();
    let store = vault.store(CACHE);
    for user in 0..30 {
        let snapshot = store.apply(&sign_in(user, 1), soon()).unwrap().snapshot;
        let is_whole = snapshot.document.accounts().len() == user + 1;
        assert_eq!(snapshot.stamp == store.stamp().unwrap(), is_whole, "user {user}");
    }
    assert_eq!(content(&store).accounts().len(), 30);
}

#[test]
fn one_changed_token_is_one_row() {
    let room = Room::new();
    let vault = room.create();
    for user in 0..40 {
        put(&vault, user, 1);
    }
    let sealed = |vault: &Vault| -> std::collections::BTreeSet<Vec<u8>> {
        vault
            .shared
            .read(|session: &Session<'_>| {
                let mut statement = session.connection.prepare("SELECT sealed FROM entry").unwrap();
                let rows = statement.query_map([], |row| row.get(0)).unwrap();
                Ok(rows.map(Result::unwrap).collect())
            })
            .unwrap()
    };
    let before = sealed(&vault);
    let mut renewed = tokens(5, 1, Origin::Refresh);
    renewed.access_token = SecretString::from("renewed");
    renewed.refresh_token = None;
    vault.store(CACHE).apply(&ChangeSet::of(Change::Save(Box::new(renewed))), soon()).unwrap();
    assert_eq!(sealed(&vault).difference(&before).count(), 1);
}

#[test]
fn caches_are_apart_and_a_discarded_one_is_gone() {
    let room = Room::new();
    let vault = room.create();
    put(&vault, 1, 1);
    vault.store("other").apply(&sign_in(2, 2), soon()).unwrap();
    assert_eq!(vault.caches().unwrap(), [CACHE, "other"]);
    assert_eq!(vault.store(CACHE).discard(soon()).unwrap(), None);
    assert_eq!(vault.caches().unwrap(), ["other"]);
    assert!(content(&vault.store(CACHE)).is_empty());
    assert_eq!(content(&vault.store("other")).accounts().len(), 1);
    put(&vault, 3, 3);
    assert_eq!(content(&vault.store(CACHE)).accounts().len(), 1);
    vault.verify().unwrap();
}

#[test]
fn a_damaged_cache_is_copied_before_it_is_discarded() {
    let room = Room::new();
    let vault = room.create();
    put(&vault, 1, 1);
    vault
        .shared
        .write(soon(), |session| {
            session.connection.execute("UPDATE entry SET sealed = zeroblob(50)", []).unwrap();
            Ok(())
        })
        .unwrap();
    let error = vault.store(CACHE).load().unwrap_err();
    assert!(matches!(error, CacheError::Vault(ref error) if error.is_damage()), "{error}");
    let aside = vault.store(CACHE).discard(soon()).unwrap().unwrap();
    assert!(aside.ends_with(&format!(".damaged-{}", NOW.seconds())), "{aside}");
    let copy = open(Path::new(&aside), &room.key_file());
    assert!(copy.store(CACHE).load().is_err(), "the damage is in the copy");
    assert!(content(&vault.store(CACHE)).is_empty());
    vault.verify().unwrap();
}

#[test]
fn two_processes_writing_lose_nothing() {
    let room = Room::new();
    room.create();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let room = &room;
            scope.spawn(move || {
                let vault = room.open();
                for at in 0..10 {
                    put(&vault, writer * 10 + at, 1);
                }
            });
        }
    });
    let vault = room.open();
    assert_eq!(content(&vault.store(CACHE)).accounts().len(), 40);
    vault.verify().unwrap();
}

#[test]
fn records_and_default_accounts_are_kept() {
    let room = Room::new();
    let vault = room.create();
    let text = r#"{"authority": "login.microsoftonline.com", "clientId": "c", "homeAccountId": "u.t", "tenantId": "t", "username": "canary.user@contoso.example", "version": "1.0"}"#;
    let record = crate::AuthenticationRecord::deserialize(text).unwrap();
    vault.set_record("work", Some(&record), soon()).unwrap();
    vault.set_record("home", Some(&record), soon()).unwrap();
    vault.set_default_account(CACHE, Some("u.t"), soon()).unwrap();

    let again = room.open();
    assert_eq!(again.record("work").unwrap(), Some(record));
    assert_eq!(again.record("none").unwrap(), None);
    assert_eq!(again.record_names().unwrap(), ["work", "home"]);
    assert_eq!(again.default_account(CACHE).unwrap().as_deref(), Some("u.t"));
    again.set_record("work", None, soon()).unwrap();
    again.set_default_account(CACHE, None, soon()).unwrap();
    assert_eq!(vault.record_names().unwrap(), ["home"]);
    assert_eq!(vault.default_account(CACHE).unwrap(), None);
    assert_eq!(vault.caches().unwrap(), Vec::<String>::new());
}

#[test]
fn the_audit_trail_tells_of_records_and_default_accounts_but_not_of_what_stays_the_same() {
    let room = Room::new();
    let vault = room.create().acting_as("tester");
    let text = r#"{"authority": "login.microsoftonline.com", "clientId": "c", "homeAccountId": "u.t", "tenantId": "t", "username": "u@contoso.example", "version": "1.0"}"#;
    let record = crate::AuthenticationRecord::deserialize(text).unwrap();
    for _ in 0..2 {
        vault.set_record("work", Some(&record), soon()).unwrap();
        vault.set_default_account("login.windows.net", Some("u.t"), soon()).unwrap();
    }
    vault.set_default_account("login.windows.net", Some("v.t"), soon()).unwrap();
    for _ in 0..2 {
        vault.set_record("work", None, soon()).unwrap();
        vault.set_default_account("login.windows.net", None, soon()).unwrap();
    }
    let events = room.open().audit().unwrap();
    let told: Vec<_> = events
        .iter()
        .skip(1)
        .map(|entry| {
            let event = &entry.event;
            assert!(event.actor.starts_with("tester"), "{event:?}");
            assert_eq!(event.at, NOW.seconds());
            let account = event.account.as_deref().unwrap_or_default();
            (event.action.as_str(), event.subject.as_deref().unwrap(), account)
        })
        .collect();
    let expected = [
        ("record_kept", "work", "u.t"),
        ("default_account_set", "login.windows.net", "u.t"),
        ("default_account_set", "login.windows.net", "v.t"),
        ("record_removed", "work", ""),
        ("default_account_removed", "login.windows.net", ""),
    ];
    assert_eq!(told, expected);
}

#[test]
fn nothing_stands_in_the_file_or_its_log_in_the_clear() {
    let room = Room::new();
    let vault = room.create();
    for user in 0..5 {
        put(&vault, user, user);
    }
    let text = r#"{"authority": "login.microsoftonline.com", "clientId": "canary-client", "homeAccountId": "canary-user", "tenantId": "canary-tenant", "username": "canary.user@contoso.example", "version": "1.0"}"#;
    let record = crate::AuthenticationRecord::deserialize(text).unwrap();
    vault.set_record("canary-profile", Some(&record), soon()).unwrap();
    let folder = room.path().parent().unwrap().to_owned();
    let everything = || -> Vec<u8> {
        let files = std::fs::read_dir(&folder).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    };
    let words = [
        "canary",
        "contoso",
        "RefreshToken",
        "AccessToken",
        "AppMetadata",
        "msal.cache",
        "login.",
        "device_code",
    ];
    let with_log = everything();
    assert!(folder.join("vault.db-wal").metadata().unwrap().len() > 0);
    drop(vault);
    for content in [with_log, everything()] {
        for word in words {
            let found =
                content.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()));
            assert!(!found, "{word}");
        }
    }
}

#[test]
fn a_row_of_another_place_is_noticed() {
    let room = Room::new();
    let vault = room.create();
    for user in 0..3 {
        put(&vault, user, 1);
        vault.store("other").apply(&sign_in(user, 1), soon()).unwrap();
    }
    vault.set_record("r", None, soon()).unwrap();
    let swaps = [
        // within a cache: two rows, all of them, and without their tags
        "UPDATE entry SET sealed = (SELECT sealed FROM entry AS o WHERE o.id = 1) WHERE id = 2",
        "UPDATE entry SET sealed = (SELECT sealed FROM entry AS o WHERE o.id = 1),
             tag = (SELECT tag FROM entry AS o WHERE o.id = 1) WHERE id = 2",
        "UPDATE entry SET bundle = (SELECT bundle FROM entry AS o WHERE o.id = 1) WHERE id = 2",
        // between caches
        "UPDATE entry SET space = (SELECT space FROM space WHERE id = 2) WHERE id = 2",
        "UPDATE space SET head = (SELECT head FROM space AS o WHERE o.id = 2) WHERE id = 1",
        // gone
        "DELETE FROM entry WHERE id = 2",
        "DELETE FROM space WHERE id = 1",
    ];
    for swap in swaps {
        let copy = Room::new();
        std::fs::create_dir(copy.path().parent().unwrap()).unwrap();
        set_mode(copy.path().parent().unwrap(), 0o700);
        vault.backup(&copy.path()).unwrap();
        let swapped = open(&copy.path(), &room.key_file());
        content(&swapped.store(CACHE));
        swapped
            .shared
            .write(soon(), |session| {
                assert_eq!(session.connection.execute(swap, []).unwrap(), 1, "{swap}");
                Ok(())
            })
            .unwrap();
        let is_damage = |error: CacheError| matches!(error, CacheError::Vault(error) if error.is_damage());
        assert!(is_damage(swapped.store(CACHE).load().unwrap_err()), "{swap}");
        let part = (0..3).map(|user| swapped.store(CACHE).load_account(&home_account_id(user)));
        assert!(part.into_iter().any(|part| part.is_err_and(is_damage)), "{swap}: a part");
        assert!(is_damage(swapped.store(CACHE).apply(&remove(0), soon()).unwrap_err()), "{swap}: a change");
    }
}

#[test]
fn an_older_row_in_place_of_its_newer_self_is_noticed() {
    let room = Room::new();
    let vault = room.create();
    put(&vault, 1, 1);
    let store = vault.store(CACHE);
    let row = |vault: &Vault| {
        vault
            .shared
            .read(|session| {
                let name = space_of(CACHE);
                let mut space = Space::open(session, &name)?;
                let bundle = std::collections::BTreeSet::from([Bundle::Account(home_account_id(1))]);
                assert!(!space.rows_of(&bundle)?.is_empty());
                let mut rows = session.connection.prepare("SELECT id, tag, sealed FROM entry").unwrap();
                let rows = rows.query_map([], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Vec<u8>>(2)?))
                });
                Ok(rows.unwrap().map(Result::unwrap).collect::<Vec<_>>())
            })
            .unwrap()
    };
    let before = row(&vault);
    let mut renewed = tokens(1, 1, Origin::Refresh);
    renewed.access_token = SecretString::from("renewed");
    renewed.issued_at = UnixTime::from_seconds(NOW.seconds() + 5);
    store.apply(&ChangeSet::of(Change::Save(Box::new(renewed))), soon()).unwrap();
    vault
        .shared
        .write(soon(), |session| {
            for (id, tag, sealed) in before {
                let put = "UPDATE entry SET tag = ?2, sealed = ?3 WHERE id = ?1";
                session.connection.execute(put, rusqlite::params![id, tag, sealed]).unwrap();
            }
            Ok(())
        })
        .unwrap();
    store.load().unwrap_err();
}

#[cfg(unix)]
pub(super) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Only Unix has modes to set.
#[cfg(not(unix))]
pub(super) fn set_mode(_path: &Path, _mode: u32) {}

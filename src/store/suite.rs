//! What every store promises, tried on one back end after the other.
//!
//! The keyring takes part where there is one: `TOKENKEEP_TEST_KEYRING` says so.

#![expect(clippy::print_stdout, reason = "a failure has to say on which back end it was")]

use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;

use crate::document::{Change, IssuedAccount, IssuedTokens, Origin};
use crate::options::CacheName;
use crate::time::UnixTime;

use super::vault::{KeyFile, Vault};
use super::*;

const PATIENT: Duration = Duration::from_secs(60);
const NOW: UnixTime = UnixTime::from_seconds(1_700_000_000);

/// One back end: how a user comes to have it, and how a process opens it.
struct BackEnd {
    name: &'static str,
    prepare: fn(&Places),
    storage: Storage,
    /// Whether another handle sees the same content.
    is_shared: bool,
}

fn back_ends() -> Vec<BackEnd> {
    let nothing: fn(&Places) = |_| ();
    let mut table = vec![
        BackEnd { name: "plaintext", prepare: nothing, storage: Storage::Plaintext, is_shared: true },
        BackEnd { name: "vault", prepare: make_vault, storage: Storage::Vault, is_shared: true },
        BackEnd { name: "memory", prepare: nothing, storage: Storage::Auto, is_shared: false },
    ];
    if std::env::var("TOKENKEEP_TEST_KEYRING").is_ok_and(|state| state == "unlocked") {
        table.push(BackEnd {
            name: "keyring",
            prepare: nothing,
            storage: Storage::Platform,
            is_shared: true,
        });
    }
    table
}

fn make_vault(places: &Places) {
    std::fs::create_dir_all(places.key_file().parent().unwrap()).unwrap();
    drop(Vault::create(&places.vault(), &KeyFile::new(places.key_file())).unwrap());
}

/// A user with one cache in a back end.
struct User {
    back_end: BackEnd,
    home: tempfile::TempDir,
    cache: String,
    memory: Arc<MemoryStore>,
}

impl User {
    fn open(&self) -> Arc<dyn Store> {
        if !self.back_end.is_shared {
            return Arc::clone(&self.memory) as Arc<dyn Store>;
        }
        let options = TokenCachePersistenceOptions::default()
            .name(CacheName::new(self.cache.clone()).unwrap())
            .storage(self.back_end.storage);
        let places = Places::below(self.home.path());
        let unlocking: Arc<dyn Unlocking> =
            Arc::new(Unattended { key_file: Some(places.key_file()), ..Unattended::default() });
        open_with(&options, false, &places, &unlocking).unwrap()
    }

    fn path(&self) -> &Path {
        self.home.path()
    }
}

/// Tries a promise on each back end.
fn on_each(promise: &str, try_it: impl Fn(&User)) {
    for back_end in back_ends() {
        let home = tempfile::tempdir().unwrap();
        let places = Places::below(home.path());
        (back_end.prepare)(&places);
        let cache = format!("suite-{}-{promise}", std::process::id());
        let user = User { back_end, home, cache, memory: Arc::default() };
        println!("{promise}: {}", user.back_end.name);
        try_it(&user);
        drop(user.open().discard(soon()).unwrap());
    }
}

fn soon() -> Deadline {
    Deadline::within(PATIENT)
}

fn sign_in(user: &str, resource: usize) -> ChangeSet {
    let secret = |what: &str| SecretString::from(format!("{what} of {user} for {resource}"));
    ChangeSet::of(Change::Save(Box::new(IssuedTokens {
        home_account_id: home_account_id(user),
        host: "login.microsoftonline.com".to_owned(),
        client_id: "04b07795-8ddb-461a-bbee-02f9e1bf7b46".to_owned(),
        requested_tenant: "organizations".to_owned(),
        token_tenant: None,
        scopes: vec![format!("https://resource{resource}.example/.default")],
        access_token: secret("access"),
        token_type: "Bearer".to_owned(),
        issued_at: NOW,
        expires_on: NOW.after(Duration::from_secs(3600)),
        extended_expires_on: NOW.after(Duration::from_secs(3600)),
        refresh_on: None,
        refresh_token: Some(secret("refresh")),
        family_id: None,
        id_token: Some(secret("id")),
        account: Some(IssuedAccount {
            local_account_id: user.to_owned(),
            username: Some(format!("{user}@contoso.example")),
            name: None,
            authority_type: "MSSTS",
            client_info: None,
        }),
        origin: Origin::SignIn { grant_type: "authorization_code" },
    })))
}

fn home_account_id(user: &str) -> String {
    format!("{user}.9188040d-6c67-4c5b-b112-36a304b66dad")
}

fn users(store: &dyn Store) -> Vec<String> {
    let accounts = store.load().unwrap().document.accounts();
    let name = |id: &str| id.split('.').next().unwrap_or_default().to_owned();
    let mut users: Vec<_> = accounts.iter().map(|account| name(&account.home_account_id)).collect();
    users.sort();
    users
}

#[test]
fn a_cache_is_empty_until_somebody_writes_and_reading_makes_nothing() {
    on_each("empty", |user| {
        let before = files_below(user.path());
        let store = user.open();
        assert!(store.load().unwrap().document.is_empty());
        assert_eq!(store.load().unwrap().stamp, store.stamp().unwrap());
        drop(store);
        assert_eq!(files_below(user.path()), before);
    });
}

#[test]
fn what_one_writes_the_other_reads_and_the_stamp_tells() {
    on_each("two-handles", |user| {
        let (one, other) = (user.open(), user.open());
        let before = other.stamp().unwrap();
        let applied = one.apply(&sign_in("a", 1), soon()).unwrap();
        assert!(applied.changed);
        assert_ne!(other.stamp().unwrap(), before);
        assert_eq!(applied.snapshot.stamp, other.stamp().unwrap());
        assert_eq!(users(&*other), ["a"]);
        other.apply(&sign_in("b", 1), soon()).unwrap();
        assert_ne!(one.stamp().unwrap(), applied.snapshot.stamp);
        assert_eq!(users(&*one), ["a", "b"]);
        assert_eq!(one.load().unwrap().stamp, one.stamp().unwrap());
    });
}

#[test]
fn what_makes_no_difference_is_not_written() {
    on_each("no-difference", |user| {
        let store = user.open();
        store.apply(&sign_in("a", 1), soon()).unwrap();
        let stamp = store.stamp().unwrap();
        let removal = ChangeSet::of(Change::RemoveRefreshToken {
            home_account_id: home_account_id("a"),
            client_id: "another".to_owned(),
            secret: SecretString::from("never seen"),
        });
        let applied = store.apply(&removal, soon()).unwrap();
        assert!(!applied.changed);
        assert_eq!((applied.snapshot.stamp, store.stamp().unwrap()), (stamp, stamp));
    });
}

#[test]
fn a_refresh_token_goes_only_if_it_is_still_the_one() {
    on_each("compare", |user| {
        let store = user.open();
        store.apply(&sign_in("a", 1), soon()).unwrap();
        let removal = |secret: &str| {
            ChangeSet::of(Change::RemoveRefreshToken {
                home_account_id: home_account_id("a"),
                client_id: "04b07795-8ddb-461a-bbee-02f9e1bf7b46".to_owned(),
                secret: SecretString::from(secret),
            })
        };
        assert!(!store.apply(&removal("refresh of a for 0"), soon()).unwrap().changed);
        assert!(store.apply(&removal("refresh of a for 1"), soon()).unwrap().changed);
        let left = String::from_utf8(store.load().unwrap().document.to_bytes().to_vec()).unwrap();
        assert!(!left.contains("refresh of a") && left.contains("access of a"), "{left}");
    });
}

#[test]
fn an_accounts_part_has_all_that_is_the_accounts_and_its_own_stamp() {
    on_each("part", |user| {
        let store = user.open();
        for at in 0..40 {
            store.apply(&sign_in(&format!("user{at}"), at), soon()).unwrap();
        }
        let part = store.load_account(&home_account_id("user7")).unwrap();
        assert_eq!(part.stamp, store.stamp().unwrap());
        let text = String::from_utf8(part.document.to_bytes().to_vec()).unwrap();
        for what in ["access", "refresh", "id"] {
            assert!(text.contains(&format!("{what} of user7 for 7")), "{what}: {text}");
        }
        assert!(text.contains("AppMetadata"), "{text}");
        assert_eq!(part.extent == Extent::Whole, part.document.accounts().len() == 40);
        assert!(store.load_account("nobody").unwrap().document.accounts().len() % 40 == 0);
    });
}

#[test]
fn order_and_everything_are_the_same_wherever_a_document_rests() {
    let memory = MemoryStore::new();
    let changes: Vec<_> = (0..30).map(|at| sign_in(&format!("user{}", at % 7), at % 4)).collect();
    for change in &changes {
        memory.apply(change, soon()).unwrap();
    }
    let expected = memory.load().unwrap().document.to_bytes();
    on_each("same", |user| {
        let store = user.open();
        for change in &changes {
            store.apply(change, soon()).unwrap();
        }
        assert!(*user.open().load().unwrap().document.to_bytes() == *expected);
    });
}

#[test]
fn eight_threads_lose_nothing() {
    on_each("threads", |user| {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let store = user.open();
                scope.spawn(move || {
                    for number in 0..10 {
                        let change = sign_in(&format!("user-{thread}-{number}"), 1);
                        store.apply(&change, soon()).unwrap();
                    }
                });
            }
        });
        assert_eq!(users(&*user.open()).len(), 80);
    });
}

#[test]
fn a_discarded_cache_is_empty_and_can_be_used_again() {
    on_each("discard", |user| {
        let store = user.open();
        store.apply(&sign_in("a", 1), soon()).unwrap();
        let stamp = store.stamp().unwrap();
        assert_eq!(store.discard(soon()).unwrap(), None, "nothing is set aside of what can be read");
        assert_ne!(store.stamp().unwrap(), stamp);
        assert!(user.open().load().unwrap().document.is_empty());
        store.apply(&sign_in("b", 1), soon()).unwrap();
        assert_eq!(users(&*user.open()), ["b"]);
    });
}

#[test]
fn caches_with_and_without_continuous_access_evaluation_are_apart() {
    on_each("apart", |user| {
        if !user.back_end.is_shared {
            return;
        }
        user.open().apply(&sign_in("a", 1), soon()).unwrap();
        let options = TokenCachePersistenceOptions::default()
            .name(CacheName::new(user.cache.clone()).unwrap())
            .storage(user.back_end.storage);
        let places = Places::below(user.path());
        let unlocking: Arc<dyn Unlocking> =
            Arc::new(Unattended { key_file: Some(places.key_file()), ..Unattended::default() });
        let with_cae = open_with(&options, true, &places, &unlocking).unwrap();
        assert!(with_cae.load().unwrap().document.is_empty());
        assert_ne!(with_cae.describe().cache, user.open().describe().cache);
    });
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

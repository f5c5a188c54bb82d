//! What one token costs in a vault as it grows: put and get, and unlocking by each protector.
//!
//! `cargo bench --bench vault`. With `.deps/pyenv` (scripts/setup) msal-extensions' own
//! FilePersistence is measured in the same run, on the same disk.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokenkeep::document::{Change, ChangeSet, IssuedTokens, Origin, TokenCacheDocument};
use tokenkeep::store::Store as _;
use tokenkeep::store::vault::{KeyFile, LockedVault, Passphrase, Protector, RecoveryKey, Vault};
use tokenkeep::time::{Deadline, UnixTime};

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
const NOW: i64 = 1_767_225_600;
/// Python removes what has expired while it searches.
const FAR: &str = "4102444800";
const CACHE: &str = "msal.cache.nocae";
const PYTHON: &str = r#"
import json, sys, time
from msal_extensions import FilePersistence, PersistedTokenCache
path, user, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
cache = PersistedTokenCache(FilePersistence(path))
def event(at):
    return {"client_id": "client", "scope": ["s"], "token_endpoint": "https://login.microsoftonline.com/t/oauth2/v2.0/token",
            "response": {"access_token": "x" * 1500 + str(at), "expires_in": 3600, "token_type": "Bearer"},
            "data": {}, "grant_type": "refresh_token"}
def median(work):
    times = []
    for at in range(rounds):
        start = time.perf_counter(); work(at); times.append(time.perf_counter() - start)
    return sorted(times)[rounds // 2] * 1e6
print(median(lambda at: cache.add(event(at))))
def get(at):
    # a fresh process, or any after another one wrote
    fresh = PersistedTokenCache(FilePersistence(path))
    assert fresh.find("AccessToken", target=["s"], query={"home_account_id": user})
print(median(get))
"#;

fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let documents = SIZES.map(document_of);
    let users = SIZES.map(|size| home(size / 5 - 1));
    let key = KeyFile::new(folder.path().join("key"));
    let stores: Vec<_> = documents
        .iter()
        .zip(SIZES)
        .map(|(document, size)| {
            let path = folder.path().join(size.to_string()).join("vault.db");
            let store = Vault::create(&path, &key).expect("a vault").store(CACHE);
            store.replace(document, soon()).expect("written");
            store
        })
        .collect();
    // in turns, so that what else the disk does is the same for all
    let in_turns = |work: &dyn Fn(usize, usize)| {
        let mut times = vec![Vec::new(); SIZES.len()];
        for round in 0..301 {
            for (at, times) in times.iter_mut().enumerate() {
                times.push(time(|| work(at, round)));
            }
        }
        times.into_iter().map(middle)
    };
    let puts = in_turns(&|at, round| {
        stores[at].apply(&save(&users[at], round), soon()).expect("written");
    });
    let gets = in_turns(&|at, _| {
        stores[at].load_account(&users[at]).expect("read");
    });
    // what a command pays that finds the token: open, unlock by the key file, read
    let fresh: Vec<f64> = in_turns(&|at, _| {
        let path = folder.path().join(SIZES[at].to_string()).join("vault.db");
        let vault = LockedVault::open(&path).expect("a vault").unlock(&key).expect("it opens");
        vault.store(CACHE).load_account(&users[at]).expect("read");
    })
    .collect();
    println!(
        "{:>8}{:>12}{:>12}{:>12}{:>16}{:>16}",
        "entries", "put µs", "get µs", "fresh get", "msal-ext put", "msal-ext get"
    );
    let mut rows = Vec::new();
    for (at, (put, get)) in puts.zip(gets).enumerate() {
        let rounds = if SIZES[at] > 1_000 { 5 } else { 21 };
        let (their_put, their_get) = theirs(folder.path(), &documents[at], &users[at], rounds);
        println!(
            "{:>8}{put:>12.0}{get:>12.0}{:>12.0}{their_put:>16.0}{their_get:>16.0}",
            SIZES[at], fresh[at]
        );
        rows.push((put, get, their_put));
    }
    let ((put, get, _), (large_put, large_get, their_put)) = (rows[0], rows[rows.len() - 1]);
    println!(
        "10 000 entries cost {:.2} (put), {:.2} (get), {:.2} (fresh get) times what 10 cost; msal-extensions' put costs {:.0} times ours",
        large_put / put,
        large_get / get,
        fresh[SIZES.len() - 1] / fresh[0],
        their_put / large_put
    );
    unlock_times(folder.path());
}

fn unlock_times(folder: &Path) {
    let path = folder.join("unlock").join("vault.db");
    let key = KeyFile::new(folder.join("key"));
    let passphrase = Passphrase::new(SecretString::from("correct horse battery staple"));
    let recovery = RecoveryKey::generate();
    let vault = Vault::create(&path, &key).expect("a vault");
    vault.add_protector(&passphrase, soon()).expect("added");
    vault.add_protector(&recovery, soon()).expect("added");
    let mut ways: Vec<(&str, Box<dyn Protector>)> = vec![
        ("key file", Box::new(key)),
        ("recovery key", Box::new(recovery)),
        ("passphrase", Box::new(passphrase)),
    ];
    #[cfg(target_os = "linux")]
    {
        let kernel = tokenkeep::store::vault::Kernel::new();
        if vault.add_protector(&kernel, soon()).is_ok() {
            ways.push(("kernel keyring", Box::new(kernel)));
        }
    }
    let keyring = tokenkeep::store::vault::Keyring::new(false);
    if vault.add_protector(&keyring, soon()).is_ok() {
        ways.push(("keyring", Box::new(keyring)));
    }
    drop(vault);
    for (name, way) in ways {
        let time =
            median(11, || LockedVault::open(&path).expect("a vault").unlock(way.as_ref()).expect("it opens"));
        println!("open and unlock by {name}: {:.1} ms", time / 1_000.0);
        if matches!(name, "kernel keyring" | "keyring") {
            let vault = LockedVault::open(&path).expect("a vault").unlock(way.as_ref()).expect("it opens");
            let slots = vault.protectors().expect("listed");
            let slot = slots.iter().find(|slot| slot.kind == way.kind()).expect("it is there").slot;
            let keep = tokenkeep::store::vault::AfterRemoval::KeepKey;
            vault.remove_protector(slot, keep, soon(), |_| {}).expect("removed");
        }
    }
}

fn theirs(folder: &Path, document: &TokenCacheDocument, user: &str, rounds: usize) -> (f64, f64) {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/pyenv/bin/python");
    let file = folder.join("theirs.json");
    std::fs::write(&file, document.to_bytes()).expect("written");
    let output =
        Command::new(python).args(["-c", PYTHON]).arg(&file).args([user, &rounds.to_string()]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut numbers = text.lines().filter_map(|line| line.parse().ok());
    (numbers.next().unwrap_or(f64::NAN), numbers.next().unwrap_or(f64::NAN))
}

/// Microseconds of the middle one of so many.
fn median<T>(rounds: usize, mut work: impl FnMut() -> T) -> f64 {
    middle((0..rounds).map(|_| time(&mut work)).collect())
}

fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

fn middle(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(60))
}

fn home(user: usize) -> String {
    format!("{user:08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa.11111111-1111-4111-8111-111111111111")
}

fn save(user: &str, at: usize) -> ChangeSet {
    ChangeSet::of(Change::Save(Box::new(IssuedTokens {
        home_account_id: user.to_owned(),
        host: "login.windows.net".to_owned(),
        client_id: "client".to_owned(),
        requested_tenant: "t".to_owned(),
        token_tenant: Some("t".to_owned()),
        scopes: vec!["s".to_owned()],
        access_token: SecretString::from(format!("{}{at}", "x".repeat(1500))),
        token_type: "Bearer".to_owned(),
        issued_at: UnixTime::from_seconds(NOW),
        expires_on: UnixTime::from_seconds(NOW + 3600),
        extended_expires_on: UnixTime::from_seconds(NOW + 3600),
        refresh_on: None,
        refresh_token: None,
        family_id: None,
        id_token: None,
        account: None,
        origin: Origin::Refresh,
    })))
}

/// Five entries for each account: it, two access tokens, an ID token, a refresh token.
fn document_of(size: usize) -> TokenCacheDocument {
    let mut sections: Map<String, Value> = Map::new();
    let mut add = |section: &str, key: String, entry: Value| {
        sections.entry(section).or_insert_with(|| json!({}))[key] = entry;
    };
    for user in 0..size / 5 {
        let id = home(user);
        let common = json!({"home_account_id": id, "environment": "login.windows.net", "client_id": "client", "realm": "t"});
        let with = |more: Value| {
            let mut entry = common.clone();
            entry.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            entry
        };
        add(
            "Account",
            format!("{id}-a"),
            with(
                json!({"username": format!("user{user}@contoso.example"), "local_account_id": "l", "authority_type": "MSSTS"}),
            ),
        );
        for scope in ["s", "other"] {
            let token = json!({"credential_type": "AccessToken", "secret": "x".repeat(1500), "target": scope,
                "cached_at": NOW.to_string(), "expires_on": FAR, "token_type": "Bearer"});
            add("AccessToken", format!("{id}-{scope}"), with(token));
        }
        add(
            "IdToken",
            format!("{id}-i"),
            with(json!({"credential_type": "IdToken", "secret": "x".repeat(900)})),
        );
        add(
            "RefreshToken",
            format!("{id}-r"),
            with(json!({"credential_type": "RefreshToken", "secret": "x".repeat(1000)})),
        );
    }
    let bytes = Value::Object(sections).to_string();
    TokenCacheDocument::parse(bytes.as_bytes()).expect("a document")
}

//! A real keyring is needed for most of these, in a state that `TOKENKEEP_TEST_KEYRING` names.
//! Where it does not, there is nothing to test; where it does, another state is a failure.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use super::super::profile::AZURE_IDENTITY;
use super::super::{Places, open};
use super::*;
use crate::options::{CacheName, Storage, TokenCachePersistenceOptions};
use crate::time::Deadline;

const OWNER: (&str, &str) = ("MsalClientID", "Microsoft.Developer.IdentityService");

fn keyring_is(state: &str) -> bool {
    std::env::var("TOKENKEEP_TEST_KEYRING").is_ok_and(|said| said == state)
}

/// Runs one test again in a process that has another session bus.
fn with_bus(address: &Path, state: &str, test: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("store::secret_service::tests::{test}")])
        .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", address.display()))
        .env("TOKENKEEP_TEST_KEYRING", state)
        .status();
    assert!(status.unwrap().success());
}

/// A cache of its own for every test, so that they may run side by side.
struct Cache {
    home: tempfile::TempDir,
    name: String,
    item: SecretServiceItem,
}

impl Cache {
    fn new(name: &str) -> Self {
        let (home, name) = (tempfile::tempdir().unwrap(), format!("{name}.nocae"));
        let item = super::super::platform_item(&name, &Places::below(home.path()));
        Self { item, home, name }
    }

    fn lock(&self) -> CacheLock {
        let files = AZURE_IDENTITY.files(self.home.path(), &self.name);
        CacheLock::acquire(&files.lock, Deadline::within(PATIENCE)).unwrap()
    }

    fn attributes<'a>(&'a self, extra: &[(&'a str, &'a str)]) -> HashMap<&'a str, &'a str> {
        let ours = [("xdg:schema", self.name.as_str()), OWNER];
        ours.into_iter().chain(extra.iter().copied()).collect()
    }

    fn open(&self, allow_unencrypted: bool) -> Result<Arc<dyn super::super::Store>, CacheError> {
        let name = CacheName::new(self.name.trim_end_matches(".nocae")).unwrap();
        let options =
            TokenCachePersistenceOptions::default().name(name).allow_unencrypted_storage(allow_unencrypted);
        open(&options, false, &Places::below(self.home.path()))
    }
}

fn service() -> SecretService<'static> {
    SecretService::connect(EncryptionType::Dh).unwrap()
}

fn store_as(service: &SecretService<'_>, attributes: HashMap<&str, &str>, secret: &[u8]) {
    let collection = service.get_default_collection().unwrap();
    collection.create_item("another's", attributes, secret, true, "text/plain").unwrap();
}

fn read(cache: &Cache) -> Option<Vec<u8>> {
    cache.item.read().unwrap().map(|secret| secret.to_vec())
}

#[test]
fn the_item_is_exactly_pythons_and_stays_one() {
    if !keyring_is("unlocked") {
        return;
    }
    let cache = Cache::new("exact.test");
    assert_eq!(read(&cache), None);
    for secret in [b"{}".as_slice(), b"{\"Account\":{}}"] {
        cache.item.write(secret, &cache.lock()).unwrap();
        assert_eq!(read(&cache).unwrap(), secret);
    }

    let service = service();
    let found = service.search_items(cache.attributes(&[])).unwrap();
    let [item] = found.unlocked.as_slice() else { panic!("not one item") };
    let mut attributes = item.get_attributes().unwrap();
    attributes.retain(|name, _| !name.starts_with("gkr:"));
    assert_eq!(attributes.len(), 2);
    assert_eq!(attributes["xdg:schema"], "exact.test.nocae");
    assert_eq!(attributes[OWNER.0], OWNER.1);
    assert_eq!(item.get_label().unwrap(), "MSALCache");
    assert_eq!(item.get_secret_content_type().unwrap(), "text/plain");
    let collection = service.get_default_collection().unwrap();
    assert!(item.item_path.starts_with(collection.collection_path.as_str()));

    cache.item.remove(&cache.lock()).unwrap();
    assert_eq!(read(&cache), None);
}

#[test]
fn an_item_with_more_attributes_is_not_ours_and_not_overwritten() {
    if !keyring_is("unlocked") {
        return;
    }
    let (cache, service) = (Cache::new("superset.test"), service());
    // what .NET adds to the two that everybody has
    let dotnet = cache.attributes(&[("Microsoft.Developer.IdentityService", "1.0.0.0")]);
    store_as(&service, dotnet.clone(), b"theirs");
    assert_eq!(read(&cache), None);
    let error = cache.item.write(b"{}", &cache.lock()).unwrap_err();
    assert!(matches!(error, CacheError::Conflict { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("another's") && said.contains("IdentityService"), "{said}");
    let found = service.search_items(dotnet.clone()).unwrap().unlocked;
    assert_eq!(found[0].get_secret().unwrap(), b"theirs");

    // beside an item of exactly our attributes there is no danger: that one is changed in place
    found[0].delete().unwrap();
    cache.item.write(b"{}", &cache.lock()).unwrap();
    store_as(&service, dotnet.clone(), b"theirs");
    cache.item.write(b"{\"a\":{}}", &cache.lock()).unwrap();
    assert_eq!(read(&cache).unwrap(), b"{\"a\":{}}");
    cache.item.remove(&cache.lock()).unwrap();
    let found = service.search_items(dotnet).unwrap().unlocked;
    assert_eq!(found[0].get_secret().unwrap(), b"theirs");
    found[0].delete().unwrap();
}

#[test]
fn dotnets_own_item_is_neither_read_nor_touched() {
    if !keyring_is("unlocked") {
        return;
    }
    let (cache, service) = (Cache::new("msal.cache"), service());
    let dotnet = HashMap::from([
        ("xdg:schema", "msal.cache"),
        OWNER,
        ("Microsoft.Developer.IdentityService", "1.0.0.0"),
    ]);
    store_as(&service, dotnet.clone(), b"e30=");
    assert_eq!(read(&cache), None);
    cache.item.write(b"{}", &cache.lock()).unwrap();
    cache.item.remove(&cache.lock()).unwrap();
    let found = service.search_items(dotnet).unwrap().unlocked;
    assert_eq!(found[0].get_secret().unwrap(), b"e30=");
    found[0].delete().unwrap();
}

#[test]
fn damaged_content_is_set_aside_in_an_item_of_its_own() {
    if !keyring_is("unlocked") {
        return;
    }
    let (cache, service) = (Cache::new("aside.test"), service());
    store_as(&service, cache.attributes(&[]), b"not json");
    let now = UnixTime::from_seconds(1_700_000_000);
    let aside = cache.item.set_aside(now, &cache.lock()).unwrap();
    assert!(aside.contains("aside.test.nocae.damaged-1700000000"), "{aside}");
    assert_eq!(read(&cache), None);
    let schema = HashMap::from([("xdg:schema", "aside.test.nocae.damaged-1700000000")]);
    let found = service.search_items(schema).unwrap().unlocked;
    assert_eq!(found[0].get_secret().unwrap(), b"not json");
    found[0].delete().unwrap();
}

#[test]
fn a_locked_keyring_is_neither_empty_nor_replaced_by_plaintext() {
    if !keyring_is("locked") {
        return;
    }
    let cache = Cache::new("locked.test");
    let held = cache.lock();
    for result in [
        cache.item.read().map(drop),
        cache.item.write(b"{}", &held).map(drop),
        cache.item.remove(&held),
        cache.open(true).map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, CacheError::Locked { .. }), "{error}");
    }
}

/// Without encryption, plaintext is what the options say it is: allowed, or not.
#[track_caller]
fn assert_unavailable(name: &str, expected: EncryptionLayer) {
    let cache = Cache::new(name);
    let error = cache.open(false).unwrap().load().unwrap_err();
    let CacheError::EncryptionUnavailable { layer, .. } = error else { panic!("{error}") };
    assert_eq!(layer, expected);
    assert!(!cache.open(true).unwrap().describe().encrypted);
    let insists =
        TokenCachePersistenceOptions::default().storage(Storage::Platform).allow_unencrypted_storage(true);
    let insisted = open(&insists, false, &Places::below(cache.home.path()));
    assert!(insisted.unwrap().describe().encrypted);
}

#[test]
fn a_bus_without_a_secret_service_is_told_from_others() {
    if keyring_is("absent") {
        assert_unavailable("absent.test", EncryptionLayer::Service);
    }
}

#[test]
fn a_service_without_a_default_collection_is_told_from_others() {
    if keyring_is("nocollection") {
        assert_unavailable("nocollection.test", EncryptionLayer::Collection);
    }
}

#[test]
fn no_bus_is_told_from_others() {
    if keyring_is("nobus") {
        return assert_unavailable("nobus.test", EncryptionLayer::Bus);
    }
    let dir = tempfile::tempdir().unwrap();
    with_bus(&dir.path().join("bus"), "nobus", "no_bus_is_told_from_others");
}

#[test]
fn a_keyring_that_never_answers_is_waited_for_only_so_long() {
    if keyring_is("hung") {
        let mut cache = Cache::new("hung.test");
        cache.item.patience = Duration::from_millis(100);
        let error = cache.item.read().unwrap_err();
        assert!(matches!(error, CacheError::Timeout { .. }), "{error}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _never_answers = UnixListener::bind(dir.path().join("bus")).unwrap();
    let test = "a_keyring_that_never_answers_is_waited_for_only_so_long";
    with_bus(&dir.path().join("bus"), "hung", test);
}

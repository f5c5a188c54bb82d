//! Files only: what lies in a real keyring is in `tests/profiles.rs`.

use std::fs;
use std::path::Path;
#[cfg(unix)]
use std::time::Duration;

use super::super::Places;
use super::*;
#[cfg(unix)]
use crate::document::{Change, ChangeSet};
#[cfg(target_os = "linux")]
use crate::options::CacheName;
#[cfg(unix)]
use crate::time::Deadline;

#[cfg(unix)]
const ONE_ACCOUNT: &str = r#"{"Account": {"u.t-login.windows.net-t": {
    "home_account_id": "u.t", "environment": "login.windows.net", "realm": "t",
    "local_account_id": "u", "username": "user.one@contoso.example", "authority_type": "MSSTS"}}}"#;

#[cfg(unix)]
fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(10))
}

/// Writes a file of a home, and the private folders above it.
fn put(home: &Path, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = home.join(path);
    let folder = path.parent().unwrap();
    fs::create_dir_all(folder).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::write(&path, content).unwrap();
    path
}

#[cfg(unix)]
fn silo_at(home: &Path, path: &str) -> Silo {
    let place = Place::File(home.join(path));
    let mut silos = silos(&Places::below(home));
    silos.retain(|silo| *silo.place() == place);
    assert_eq!(silos.len(), 1, "{path}");
    silos.remove(0)
}

#[cfg(target_os = "linux")]
fn ids(silo: &Silo) -> Vec<&'static str> {
    silo.profiles().iter().map(|profile| profile.id).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn each_file_is_one_silo_of_all_the_tools_that_share_it() {
    let home = tempfile::tempdir().unwrap();
    for (path, expected, cae) in [
        (".IdentityService/msal.cache.nocae", &["python", "node", "java"][..], Some(false)),
        (".IdentityService/msal.cache.cae", &["python", "node", "java", "go-old"], Some(true)),
        (".IdentityService/msal.cache", &["go-old"], Some(false)),
        (".cache/.IdentityService/msal.cache", &["go"], Some(false)),
        (".cache/.IdentityService/msal.cache.cae", &["go"], Some(true)),
        (".local/share/.IdentityService/msal.cache.nocae", &["dotnet", "az-powershell"], Some(false)),
        (".local/share/.IdentityService/mg.msal.cache.cae", &["graph-powershell"], Some(true)),
        (".local/.IdentityService/msal.cache", &["gcm"], None),
        (".gcm/msal/app.cache", &["gcm-app"], None),
        (".azure/msal_token_cache.json", &["az"], None),
        (".azd/auth/msal/cache.json", &["azd"], None),
    ] {
        let silo = silo_at(home.path(), path);
        assert_eq!((ids(&silo), silo.cae()), (expected.to_vec(), cae), "{path}");
        assert!(!silo.facts().exists, "{path}");
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "looking makes nothing");
}

#[test]
#[cfg(target_os = "linux")]
fn names_of_the_users_own_are_found_and_given_to_whose_they_can_be() {
    let home = tempfile::tempdir().unwrap();
    for (path, expected) in [
        (".IdentityService/contoso.nocae", &["python", "java"][..]),
        (".IdentityService/contoso", &["node"]),
        (".local/share/.IdentityService/contoso.cae", &["dotnet"]),
        (".cache/.IdentityService/contoso", &["go"]),
        (".local/.IdentityService/contoso", &[]),
    ] {
        put(home.path(), path, "{}");
        assert_eq!(ids(&silo_at(home.path(), path)), expected, "{path}");
    }
    let nobodys = silo_at(home.path(), ".local/.IdentityService/contoso");
    assert!(matches!(nobodys.writing(), Writing::ReadOnly { .. }));
}

#[test]
fn locks_temporary_files_and_what_was_set_aside_are_no_caches() {
    let home = tempfile::tempdir().unwrap();
    let before = silos(&Places::below(home.path())).len();
    for name in
        ["own.nocae.lockfile", ".lockfile", ".own.nocae.tokenkeep-tmp", "own.nocae.damaged-1700000000"]
    {
        put(home.path(), &format!(".IdentityService/{name}"), "1 x");
    }
    // Windows has no such names.
    #[cfg(unix)]
    put(home.path(), ".IdentityService/own\u{1b}[31m.nocae", "1 x");
    fs::create_dir(home.path().join(".IdentityService/folder.nocae")).unwrap();
    assert_eq!(silos(&Places::below(home.path())).len(), before);
}

#[test]
#[cfg(target_os = "linux")]
fn folders_that_are_one_are_looked_into_once() {
    let home = tempfile::tempdir().unwrap();
    put(home.path(), ".IdentityService/msal.cache.nocae", ONE_ACCOUNT);
    put(home.path(), ".local/share/x", "");
    std::os::unix::fs::symlink(
        home.path().join(".IdentityService"),
        home.path().join(".local/share/.IdentityService"),
    )
    .unwrap();
    let silo = silo_at(home.path(), ".IdentityService/msal.cache.nocae");
    assert_eq!(ids(&silo), ["python", "node", "dotnet", "java", "az-powershell"]);
}

#[test]
#[cfg(unix)]
fn another_tools_file_is_read_and_written_as_it_keeps_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = tempfile::tempdir().unwrap();
    let path = put(home.path(), ".azure/msal_token_cache.json", ONE_ACCOUNT);
    for (path, mode) in [(path.parent().unwrap(), 0o755), (&path, 0o640)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let silo = silo_at(home.path(), ".azure/msal_token_cache.json");
    let facts = silo.facts();
    let file = facts.file.as_ref().unwrap();
    assert_eq!((file.kind, file.mode, file.folder_mode), (FileKind::Regular, Some(0o640), Some(0o755)));
    let Content::Cache { document, encoding } = &facts.content else { panic!("{facts:?}") };
    assert_eq!((document.accounts().len(), *encoding), (1, Encoding::Json));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640, "looking changes nothing");

    let gone = ChangeSet::of(Change::RemoveAccount {
        home_account_id: "u.t".to_owned(),
        environment: "login.microsoftonline.com".to_owned(),
        client_id: None,
    });
    assert!(silo.open().apply(&gone, soon()).unwrap().changed);
    let written: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(written, serde_json::json!({"Account": {}}));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no lock is left");
}

#[test]
#[cfg(unix)]
fn azds_lock_is_taken_by_flock_and_stays() {
    let home = tempfile::tempdir().unwrap();
    put(home.path(), ".azd/auth/msal/cache.json", ONE_ACCOUNT);
    let lock = put(home.path(), ".azd/auth/msal/cache.json.lock", "");
    let store = silo_at(home.path(), ".azd/auth/msal/cache.json").open();
    let azd = fs::File::open(&lock).unwrap();
    azd.lock().unwrap();
    let everything = ChangeSet::of(Change::RemoveEverything);
    let error = store.apply(&everything, Deadline::within(Duration::ZERO)).unwrap_err();
    assert!(matches!(error, CacheError::LockTimeout { .. }), "{error}");
    assert_eq!(store.load().unwrap().document.accounts().len(), 1);

    drop(azd);
    assert!(store.apply(&everything, soon()).unwrap().changed);
    assert_eq!(fs::read(&lock).unwrap(), b"", "neither written nor removed");
}

#[test]
#[cfg(target_os = "linux")]
fn a_lock_that_was_left_behind_is_seen_with_its_owner() {
    let home = tempfile::tempdir().unwrap();
    put(home.path(), ".IdentityService/msal.cache.nocae", ONE_ACCOUNT);
    put(home.path(), ".IdentityService/msal.cache.nocae.lockfile", "4194304000 python");
    put(home.path(), ".IdentityService/.lockfile", format!("{} localhost", std::process::id()));
    let facts = silo_at(home.path(), ".IdentityService/msal.cache.nocae").facts();
    let seen: Vec<_> = facts.locks.iter().map(|lock| (lock.pid, lock.is_alive)).collect();
    assert_eq!(seen, [(Some(4_194_304_000), Some(false)), (Some(std::process::id()), Some(true))]);
    assert_eq!(facts.locks[0].holder, "process 4194304000 python");
}

#[test]
#[cfg(target_os = "linux")]
fn what_only_its_tool_may_write_says_why() {
    let home = tempfile::tempdir().unwrap();
    put(home.path(), ".gcm/msal/app.cache", ONE_ACCOUNT);
    let store = silo_at(home.path(), ".gcm/msal/app.cache").open();
    for error in [
        store.apply(&ChangeSet::of(Change::RemoveEverything), soon()).map(drop),
        store.discard(soon()).map(drop),
    ] {
        let error = error.unwrap_err();
        assert!(matches!(error, CacheError::ReadOnly { .. }), "{error}");
        assert!(error.to_string().contains("application's own tokens"), "{error}");
    }
    assert_eq!(store.load().unwrap().document.accounts().len(), 1);
}

#[test]
fn a_row_of_one_system_is_never_looked_at_on_another() {
    for silo in silos(&Places::below("home")) {
        let _described = silo.describe();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn one_tools_caches_of_a_name_are_where_it_looks_first() {
    let home = tempfile::tempdir().unwrap();
    let places = Places::below(home.path());
    let own = CacheName::new("own").unwrap();
    let of = |id: &str, name: &CacheName| {
        let profile = super::super::PROFILES.into_iter().find(|profile| profile.id == id).unwrap();
        let silos = silos_of(profile, name, &places);
        silos.iter().map(|silo| (silo.name().to_owned(), silo.cae())).collect::<Vec<_>>()
    };
    let az = vec![("msal_token_cache.json".to_owned(), None)];
    assert_eq!((of("az", &CacheName::default()), of("az", &own)), (az.clone(), az));
    let go = |name: &str| vec![(name.to_owned(), Some(false)), (format!("{name}.cae"), Some(true))];
    assert_eq!((of("go", &CacheName::default()), of("go", &own)), (go("msal.cache"), go("own")));
    let python = of("python", &own);
    assert_eq!(python, [("own.nocae".to_owned(), Some(false)), ("own.cae".to_owned(), Some(true))]);
}

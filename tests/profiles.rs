//! Every tool's cache is found, read and written as its tool keeps it, beside all others.
//!
//! The items of .NET, Java and Node have one name for everybody, so each test runs again as a user
//! of its own, with a keyring of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokenkeep::document::TokenCacheDocument;
use tokenkeep::error::CacheError;
use tokenkeep::store::{Content, Encoding, Place, Places, Silo, Writing, silos};
use tokenkeep::time::Deadline;

use crate::support::{Held, Run, fake_sign_in, keyring_ctl, node, python, repository, run};

const DEVELOPER: &str = "Microsoft.Developer.IdentityService";

/// Whether this is the user of the test's own; if not, runs the test again as that user.
fn is_user_of(test: &str, keyring: &[&str], through: Option<&mut Command>) -> bool {
    if std::env::var("TOKENKEEP_TEST_USER").is_ok_and(|user| user == test) {
        return true;
    }
    let mut command = Command::new(repository().join("tests/support/with-secret-service"));
    command.args(keyring).arg("--");
    if let Some(through) = through {
        command.arg(through.get_program()).args(through.get_args());
    }
    let own_name = format!("profiles::{test}");
    command.arg(std::env::current_exe().unwrap()).args(["--exact", &own_name, "--nocapture"]);
    let again = run(command.env("TOKENKEEP_TEST_USER", test)).ok();
    assert!(again.stdout.contains("1 passed"), "{}", again.stdout);
    false
}

fn home() -> PathBuf {
    std::env::var_os("HOME").unwrap().into()
}

fn all() -> Vec<Silo> {
    silos(&Places::below(home()))
}

/// The one silo of this tool that is in the keyring.
fn item_of(id: &str) -> Silo {
    let mut found = all();
    found.retain(|silo| silo.is_of(id) && matches!(silo.place(), Place::SecretService { .. }));
    assert_eq!(found.len(), if id == "python" { 2 } else { 1 }, "{id}");
    found.remove(0)
}

fn plant(label: &str, attributes: &[String], secret: &str) {
    let mut command = Command::new(repository().join("tests/support/keyring-ctl.py"));
    command.args(["store", label]).args(attributes);
    with_input(&mut command, secret).ok();
}

fn with_input(command: &mut Command, input: &str) -> Run {
    use std::io::Write as _;

    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Run::of(child.wait_with_output().unwrap(), format!("{command:?}"))
}

fn item(attributes: &[String]) -> String {
    let args: Vec<&str> = ["item"].into_iter().chain(attributes.iter().map(String::as_str)).collect();
    keyring_ctl(&args).ok().stdout
}

/// What tells each tool's item from the others (spec S-C 2.4).
fn dotnet() -> Vec<String> {
    vec![
        "xdg:schema=msal.cache".to_owned(),
        format!("MsalClientID={DEVELOPER}"),
        format!("{DEVELOPER}=1.0.0.0"),
    ]
}

fn java() -> Vec<String> {
    vec!["xdg:schema=msal.cache".to_owned(), format!("MsalClientID={DEVELOPER}")]
}

fn of_python(name: &str) -> Vec<String> {
    vec![format!("xdg:schema={name}"), format!("MsalClientID={DEVELOPER}")]
}

fn node_item() -> Vec<String> {
    vec![
        "xdg:schema=org.freedesktop.Secret.Generic".to_owned(),
        format!("service={DEVELOPER}"),
        "account=MSALCache".to_owned(),
    ]
}

/// A cache as a library writes it, with one account.
fn cache_of(user: &str) -> String {
    let mut document = TokenCacheDocument::default();
    document.apply(&fake_sign_in(user, 0));
    let value: Value = serde_json::from_slice(&document.to_bytes()).unwrap();
    value.to_string()
}

fn users(text: &str) -> Vec<String> {
    let document = TokenCacheDocument::parse(text.as_bytes()).unwrap();
    let mut users: Vec<_> = document.accounts().into_iter().map(|account| account.username).collect();
    users.sort();
    users
}

fn users_of(silo: &Silo) -> Vec<String> {
    let document = silo.open().load().unwrap().document;
    let mut users: Vec<_> = document.accounts().into_iter().map(|account| account.username).collect();
    users.sort();
    users
}

fn named(users: &[&str]) -> Vec<String> {
    users.iter().map(|user| format!("{user}@contoso.example")).collect()
}

fn sign_in(silo: &Silo, user: &str) -> Result<(), CacheError> {
    silo.open().apply(&fake_sign_in(user, 0), Deadline::within(Duration::from_secs(60))).map(drop)
}

#[test]
fn each_tools_item_is_found_read_and_written_and_no_neighbour_is_touched() {
    if !is_user_of("each_tools_item_is_found_read_and_written_and_no_neighbour_is_touched", &[], None) {
        return;
    }
    let python_name = "contoso.nocae";
    plant("msal.cache.nocae", &dotnet(), &STANDARD.encode(cache_of("dotnet")));
    plant("MSALCache.nocae", &java(), &STANDARD.encode(cache_of("java")));
    plant("MSALCache", &of_python(python_name), &cache_of("python"));
    with_input(node("node_keyring.mjs").arg("save"), &cache_of("node")).ok();

    let python = all()
        .into_iter()
        .find(|silo| silo.name() == python_name && matches!(silo.place(), Place::SecretService { .. }));
    let python = python.expect("a name of the user's own is found in the keyring");
    let items = [
        ("dotnet", item_of("dotnet")),
        ("java", item_of("java")),
        ("node", item_of("node")),
        ("python", python),
    ];
    let shared: Vec<_> = items[0].1.profiles().iter().map(|profile| profile.id).collect();
    assert_eq!(shared, ["dotnet", "az-powershell", "graph-powershell", "gcm"], "one item, one silo");
    for (user, silo) in &items {
        let facts = silo.facts();
        let Content::Cache { document, encoding } = &facts.content else { panic!("{user}: {facts:?}") };
        assert_eq!(document.accounts().len(), 1, "{user}");
        let is_base64 = matches!(*user, "dotnet" | "java");
        assert_eq!(*encoding == Encoding::Base64, is_base64, "{user}");
        let seen = facts.item.as_ref().unwrap();
        assert_eq!(seen.count, 1);
        assert!(seen.modified.is_some() && !format!("{facts:?}").contains("fake-refresh-token"), "{facts:?}");
    }

    // each in its turn, and after each everything is as it was but for that one
    let mut expected: Vec<Vec<String>> = items.iter().map(|(user, _)| named(&[user])).collect();
    for (place, (user, silo)) in items.iter().enumerate() {
        sign_in(silo, "zoe").unwrap();
        expected[place].push("zoe@contoso.example".to_owned());
        let now: Vec<_> = items.iter().map(|(_, silo)| users_of(silo)).collect();
        assert_eq!(now, expected, "after a write for {user}");
    }

    // as each tool finds it: by exactly its own attributes, in its own encoding
    for (attributes, user) in [(dotnet(), "dotnet"), (java(), "java")] {
        let json = STANDARD.decode(item(&attributes)).expect("base64, as it was");
        assert_eq!(users(&String::from_utf8(json).unwrap()), named(&[user, "zoe"]));
    }
    assert_eq!(users(&item(&of_python(python_name))), named(&["python", "zoe"]));
    assert_eq!(users(&item(&node_item())), named(&["node", "zoe"]));
    let nodes_own = node("node_keyring.mjs").arg("load").stdin(Stdio::null()).output().unwrap();
    assert_eq!(users(&String::from_utf8(nodes_own.stdout).unwrap()), named(&["node", "zoe"]));
    assert_eq!(keyring_ctl(&["count", &format!("MsalClientID={DEVELOPER}")]).ok().stdout.trim(), "3");
}

#[test]
fn javas_item_is_not_made_where_it_would_take_the_place_of_dotnets() {
    if !is_user_of("javas_item_is_not_made_where_it_would_take_the_place_of_dotnets", &[], None) {
        return;
    }
    plant("msal.cache.nocae", &dotnet(), &STANDARD.encode(cache_of("dotnet")));
    let java_silo = item_of("java");
    assert!(matches!(java_silo.writing(), Writing::Guarded(_)));
    assert!(
        matches!(java_silo.facts().content, Content::Absent),
        "what Java itself would read is not its own"
    );
    let error = sign_in(&java_silo, "zoe").unwrap_err();
    assert!(matches!(error, CacheError::Conflict { .. }), "{error}");
    assert_eq!(users_of(&item_of("dotnet")), named(&["dotnet"]));

    let attributes: Vec<&str> = vec!["wipe"];
    keyring_ctl(&attributes).ok();
    sign_in(&java_silo, "zoe").unwrap();
    assert_eq!(users(&String::from_utf8(STANDARD.decode(item(&java())).unwrap()).unwrap()), named(&["zoe"]));
}

#[test]
fn what_real_python_keeps_under_any_name_is_found() {
    if !is_user_of("what_real_python_keeps_under_any_name_is_found", &[], None) {
        return;
    }
    run(python("writer.py").args(["--cache", "their-own", "--count", "1", "--writer", "one"])).ok();
    let found = all();
    let silo = found
        .iter()
        .find(|silo| silo.name() == "their-own.nocae" && matches!(silo.place(), Place::SecretService { .. }));
    let silo = silo.expect("found by its attributes");
    assert_eq!(silo.open().load().unwrap().document.accounts().len(), 1);
    sign_in(silo, "zoe").unwrap();
    let seen = run(python("reader.py").args(["--cache", "their-own"])).ok().json();
    assert_eq!(seen["scopes"].as_array().unwrap().len(), 2, "{seen}");
    // the signal beside it is a file of the same name, and not a second cache
    let signal = found
        .iter()
        .find(|silo| *silo.place() == Place::File(home().join(".IdentityService/their-own.nocae")));
    assert!(matches!(signal.unwrap().facts().content, Content::Blank | Content::Cache { .. }));
}

#[test]
fn every_lock_and_every_signal_of_a_shared_item_is_respected() {
    if !is_user_of("every_lock_and_every_signal_of_a_shared_item_is_respected", &[], None) {
        return;
    }
    let signal = |path: &str| {
        let path = home().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
        path
    };
    let gcm = signal(".local/.IdentityService/msal.cache");
    let graph = signal(".local/share/.IdentityService/mg.msal.cache.cae");
    let silo = item_of("gcm");
    let at_once = || silo.open().apply(&fake_sign_in("zoe", 0), Deadline::within(Duration::ZERO));
    for path in [
        ".local/.IdentityService/msal.cache.lockfile",
        ".local/share/.IdentityService/mg.msal.cache.nocae.lockfile",
        ".local/share/.IdentityService/msal.cache.cae.lockfile",
        ".local/share/.IdentityService/msal.cache.nocae.lockfile",
    ] {
        let path = home().join(path);
        let held = Held::by(python("flock_holder.py").arg(&path));
        let CacheError::LockTimeout { path: held_path, .. } = at_once().unwrap_err() else {
            panic!("{} is not taken", path.display())
        };
        assert_eq!(held_path, path);
        held.release();
    }
    assert!(at_once().unwrap().changed);
    for path in [&gcm, &graph, &home().join(".local/share/.IdentityService/msal.cache.nocae")] {
        let modified = path.metadata().unwrap().modified().unwrap();
        assert!(modified > SystemTime::now() - Duration::from_secs(3600), "{}", path.display());
    }
    let unused = home().join(".local/share/.IdentityService/msal.cache.cae");
    assert!(!unused.exists(), "no signal is made for who never watched one");

    // a change that only another tool signals is seen
    let store = silo.open();
    let stamp = store.stamp().unwrap();
    std::fs::File::options().write(true).open(&gcm).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_ne!(store.stamp().unwrap(), stamp);
}

#[test]
fn a_locked_keyring_is_listed_and_nobody_is_asked_twice() {
    if !is_user_of("a_locked_keyring_is_listed_and_nobody_is_asked_twice", &["-l"], None) {
        return;
    }
    let silo = item_of("node");
    let facts = silo.facts();
    assert!(matches!(facts.content, Content::Unreadable(CacheError::Locked { .. })), "{facts:?}");
    assert!(matches!(sign_in(&silo, "zoe").unwrap_err(), CacheError::Locked { .. }));
}

#[test]
fn without_a_secret_service_there_are_files_only() {
    for keyring in ["-n", "-b"] {
        if is_user_of("without_a_secret_service_there_are_files_only", &[keyring], None) {
            assert!(all().iter().all(|silo| matches!(silo.place(), Place::File(_))));
            return;
        }
    }
}

#[test]
fn a_cache_of_gos_is_read_and_written_with_the_key_that_the_kernel_keeps() {
    let test = "a_cache_of_gos_is_read_and_written_with_the_key_that_the_kernel_keeps";
    let mut session = python("go_cache.py");
    if !is_user_of(test, &["-b"], Some(session.arg("session"))) {
        return;
    }
    // the keyring is the machine's user's, so the name is this process's own
    let name = format!("go-{}", std::process::id());
    let path = home().join(".cache/.IdentityService").join(&name);
    let go = |command: &str, input: &str| {
        let mut client = python("go_cache.py");
        with_input(client.args([command, "--name", &name, "--file", path.to_str().unwrap()]), input)
    };
    go("write", &cache_of("go")).ok();
    let _forgotten = Forgets { name: name.clone() };
    let silo = all().into_iter().find(|silo| silo.name() == name).expect("found in Go's folder");
    assert!(silo.is_of("go") && silo.encoding() == Encoding::Jwe && silo.describe().encrypted);
    let facts = silo.facts();
    assert!(matches!(facts.content, Content::Cache { encoding: Encoding::Jwe, .. }), "{facts:?}");
    assert_eq!(users_of(&silo), named(&["go"]));

    sign_in(&silo, "zoe").unwrap();
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(kept.starts_with("ey") && !kept.contains("home_account_id"), "{kept}");
    assert_eq!(users(&go("read", "").ok().stdout), named(&["go", "zoe"]), "Go's format, by another hand");

    // at a restart the key is gone: Go takes the file for an empty cache, we say so and leave it
    go("forget", "").ok();
    let error = silo.open().load().unwrap_err();
    assert!(matches!(error, CacheError::KeyGone { .. }), "{error}");
    assert!(error.to_string().contains(&name) && error.hint().contains("that tool"), "{error}");
    assert!(matches!(sign_in(&silo, "zoe").unwrap_err(), CacheError::KeyGone { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
    assert!(matches!(silo.facts().content, Content::Unreadable(CacheError::KeyGone { .. })));

    // Go's next sign-in makes a new key, and the old file is one of another key
    go("write", "{}").ok();
    std::fs::write(&path, &kept).unwrap();
    let error = silo.open().load().unwrap_err();
    assert!(
        matches!(error, CacheError::KeyGone { .. }) && error.to_string().contains("not the one"),
        "{error}"
    );
}

/// The kernel's keyring is the machine's, so the key is removed whatever happens.
struct Forgets {
    name: String,
}

impl Drop for Forgets {
    fn drop(&mut self) {
        drop(python("go_cache.py").args(["forget", "--name", &self.name]).status());
    }
}

#[test]
fn where_gos_older_cache_is_in_another_tools_place_it_is_not_taken_for_json() {
    let test = "where_gos_older_cache_is_in_another_tools_place_it_is_not_taken_for_json";
    let mut session = python("go_cache.py");
    if !is_user_of(test, &["-b"], Some(session.arg("session"))) {
        return;
    }
    let path = home().join(".IdentityService/msal.cache.cae");
    let put = |path: &Path, content: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    // any key will do that the kernel does not have: this one is nobody's
    put(
        &path,
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4Q0JDLUhTMjU2Iiwia2lkIjoiMSJ9..MDEyMzQ1Njc4OWFiY2RlZg.MDEyMzQ1Njc4OWFiY2RlZg.MDEyMzQ1Njc4OWFiY2RlZg",
    );
    let silo = all().into_iter().find(|silo| *silo.place() == Place::File(path.clone())).unwrap();
    assert!(silo.is_of("go-old") && silo.is_of("python"));
    let error = silo.open().load().unwrap_err();
    assert!(matches!(error, CacheError::KeyGone { .. }), "{error}");
    put(&path, &json!({}).to_string());
    assert!(matches!(silo.facts().content, Content::Cache { encoding: Encoding::Json, .. }));
}

//! What the provider called dead goes from every tool's cache, and only that: exactly those refresh
//! tokens, whoever wrote them, and never one that was renewed meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Barrier};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use emulator::{
    Answer, CLIENT_APP, CLIENT_AZURE_CLI, CLIENT_VISUAL_STUDIO, ErrorAnswer, Script, USER_ONE, USER_ONE_OID,
    USER_TWO,
};
use serde_json::{Value, json};
use tokenkeep::credential::{SharedTokenCacheCredential, TokenCredential};
use tokenkeep::document::{Change, ChangeSet, TokenCacheDocument};
use tokenkeep::revocation::{Everywhere, Memory, dead_entries, removal_of};
use tokenkeep::store::Store;
use tokenkeep::time::Deadline;

use crate::support::{
    GRAPH, PrivateNetwork, Run, SCOPE, World, azure_cli, node, proofs, python, report, request, run,
};

const DAY: i64 = 86_400;

/// Where five tools keep their caches, none of them ours, and the client each signs in with.
const TOOLS: [(&str, &str); 5] = [
    // Python and Node
    (".IdentityService/msal.cache.nocae", CLIENT_AZURE_CLI),
    // .NET and Azure PowerShell
    (".local/share/.IdentityService/msal.cache.nocae", CLIENT_VISUAL_STUDIO),
    // Graph PowerShell
    (".local/share/.IdentityService/mg.msal.cache.nocae", CLIENT_APP),
    (".azure/msal_token_cache.json", CLIENT_AZURE_CLI),
    (".azd/auth/msal/cache.json", CLIENT_AZURE_CLI),
];

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Both users sign in with a tool that keeps its cache there.
fn both_sign_in(world: &World, place: &Path, client: &str) {
    for user in [USER_ONE, USER_TWO] {
        world.login(user, &["--cache", "planted", "--client-id", client]);
    }
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::rename(world.folder().join("planted.nocae"), place).unwrap();
}

/// Puts the sign-ins of a cache back by so many seconds, as if they had been made then.
fn age(path: &Path, seconds: i64) {
    let mut document = read(path);
    let earlier = |value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.parse::<i64>().unwrap() - seconds
    };
    for section in ["RefreshToken", "AccessToken"] {
        for entry in document[section].as_object_mut().unwrap().values_mut() {
            for field in ["last_modification_time", "cached_at"] {
                if let Some(time) = entry.get_mut(field) {
                    *time = earlier(time).to_string().into();
                }
            }
        }
    }
    for entry in document["IdToken"].as_object_mut().unwrap().values_mut() {
        let token = entry["secret"].as_str().unwrap().to_owned();
        let parts: Vec<&str> = token.split('.').collect();
        let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        claims["iat"] = earlier(&claims["iat"]).into();
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        entry["secret"] = format!("{}.{payload}.{}", parts[0], parts[2]).into();
    }
    fs::write(path, document.to_string()).unwrap();
}

/// The document without the refresh tokens of the first user.
fn without_user_one(document: &Value) -> Value {
    let mut document = document.clone();
    let tokens = document["RefreshToken"].as_object_mut().unwrap();
    tokens.retain(|_, entry| !entry["home_account_id"].as_str().unwrap().starts_with(USER_ONE_OID));
    document
}

/// A person with five tools, each signed in a day ago, and our own cache.
struct Person {
    world: World,
    files: Vec<PathBuf>,
    before: Vec<Value>,
}

impl Person {
    fn signed_in_a_day_ago() -> Self {
        let world = World::plaintext();
        let files: Vec<PathBuf> = TOOLS.iter().map(|(place, _)| world.home().join(place)).collect();
        for (file, (_, client)) in files.iter().zip(TOOLS) {
            both_sign_in(&world, file, client);
        }
        for user in [USER_ONE, USER_TWO] {
            world.login(user, &[]);
        }
        for file in files.iter().chain([&world.cache_file()]) {
            age(file, DAY);
        }
        let before = files.iter().map(|file| read(file)).collect();
        Self { world, files, before }
    }

    #[track_caller]
    fn only_user_ones_refresh_tokens_are_gone(&self) {
        for (file, before) in self.files.iter().zip(&self.before) {
            assert_eq!(read(file), without_user_one(before), "{}", file.display());
            assert_ne!(without_user_one(before), *before, "{}", file.display());
        }
    }

    #[track_caller]
    fn nothing_is_gone(&self) {
        for (file, before) in self.files.iter().zip(&self.before) {
            assert_eq!(read(file), *before, "{}", file.display());
        }
    }

    fn refused(&self) -> Run {
        self.world
            .run(&["token", "--scope", SCOPE, "--account", USER_ONE, "--force-refresh", "--json"])
            .exits(3)
    }
}

#[test]
fn after_a_password_change_the_first_refusal_clears_every_tools_cache_of_that_users_tokens() {
    let person = Person::signed_in_a_day_ago();
    person.world.emulator.change_password(USER_ONE);
    person.world.emulator.reset_log();
    let removed = person.refused().json()["error"]["removed"].clone();
    person.only_user_ones_refresh_tokens_are_gone();
    assert_eq!(person.world.emulator.count("token"), 1, "the provider was not asked for each");
    // Each is told: ours, and one of each tool.
    let removed = removed.as_array().unwrap();
    assert_eq!(removed.len(), 1 + TOOLS.len(), "{removed:?}");
    for file in person.files.iter().chain([&person.world.cache_file()]) {
        let named = |entry: &&Value| entry["cache"].as_str().unwrap().contains(file.to_str().unwrap());
        assert_eq!(removed.iter().filter(named).count(), 1, "{} in {removed:?}", file.display());
    }
    assert!(removed.iter().all(|entry| entry["username"] == USER_ONE && entry["code"] == "AADSTS50173"));
    for (_, client) in TOOLS {
        let other =
            ["token", "--scope", SCOPE, "--account", USER_TWO, "--force-refresh", "--client-id", client];
        let code = person.world.run(&other).code;
        assert!(code == Some(0) || client == CLIENT_APP, "{client}: {code:?}");
    }
}

#[test]
fn a_token_that_cannot_be_dated_as_older_stays_and_so_does_a_newer_sign_in() {
    let person = Person::signed_in_a_day_ago();
    let (undated, recent) = (&person.files[1], &person.files[3]);
    let mut document = read(undated);
    for entry in document["RefreshToken"].as_object_mut().unwrap().values_mut() {
        entry.as_object_mut().unwrap().remove("last_modification_time");
    }
    document["IdToken"] = json!({});
    fs::write(undated, document.to_string()).unwrap();
    age(recent, -DAY);
    let expected = [document, read(recent)];
    person.world.emulator.change_password(USER_ONE);
    let told = person.refused().json()["error"]["removed"].as_array().unwrap().len();
    assert_eq!(told, 1 + TOOLS.len() - 2);
    assert_eq!([read(undated), read(recent)], expected);
}

#[test]
fn a_refusal_without_a_date_takes_the_very_token_from_everywhere_and_no_other() {
    let person = Person::signed_in_a_day_ago();
    let copy = person.world.home().join(".local/share/.IdentityService/other.cache.nocae");
    fs::copy(person.world.cache_file(), &copy).unwrap();
    let before = read(&copy);
    for code in [700_082, 50173] {
        person.world.emulator.script(Script::once(Answer::Error(ErrorAnswer::aadsts(code))).kind("token"));
    }
    person.refused();
    person.nothing_is_gone();
    assert_eq!(read(&copy), without_user_one(&before), "the same secret");
}

#[tokio::test]
async fn a_library_clears_only_its_own_cache_unless_it_is_told_to() {
    let person = Person::signed_in_a_day_ago();
    person.world.emulator.change_password(USER_ONE);
    let options = || person.world.options().login_hint(USER_ONE.to_owned());
    let forced = request(SCOPE).force_refresh(true);
    let own = SharedTokenCacheCredential::new(options()).unwrap();
    own.get_token(&forced).await.unwrap_err();
    person.nothing_is_gone();

    // The next one meets the token that another tool shares with us.
    fs::copy(&person.files[3], person.world.cache_file()).unwrap();
    let observer = Arc::new(Everywhere::new(person.world.places()));
    let told = SharedTokenCacheCredential::new(options().dead_grant_observer(observer)).unwrap();
    told.get_token(&forced).await.unwrap_err();
    person.only_user_ones_refresh_tokens_are_gone();
}

#[test]
fn a_dead_token_that_is_written_back_is_noticed_and_goes_again() {
    let person = Person::signed_in_a_day_ago();
    let stale = |args: &[&str]| person.world.run(&[&["clear", "--stale", "--json"], args].concat());
    person.world.emulator.change_password(USER_ONE);
    person.refused();
    // A program that had the old content in memory writes it back.
    let (file, before) = (&person.files[3], &person.before[3]);
    fs::write(file, before.to_string()).unwrap();
    person.world.emulator.reset_log();

    let planned = stale(&["--dry-run"]).ok().json();
    let entries = planned["removed"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{planned}");
    assert!(entries[0]["cache"].as_str().unwrap().contains(file.to_str().unwrap()), "{planned}");
    assert!(entries[0]["why"].as_str().unwrap().contains("AADSTS50173"), "{planned}");
    assert_eq!(read(file), *before, "a dry run writes nothing");
    let found = person.world.run(&["doctor", "--offline", "--json"]).json()["findings"].clone();
    let dead = found.as_array().unwrap().iter().filter(|finding| finding["id"] == "refresh-token-dead");
    let subjects: Vec<&str> = dead.map(|finding| finding["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects.len(), 1, "{found}");
    assert!(subjects[0].contains(file.to_str().unwrap()), "{found}");
    stale(&[]).exits(2);
    stale(&["--yes"]).ok();
    person.only_user_ones_refresh_tokens_are_gone();
    assert_eq!(stale(&["--dry-run"]).ok().json()["removed"], json!([]));
    assert_eq!(person.world.emulator.count(""), 0, "the provider was not asked");

    // So does the very token whatever date stands beside it.
    let mut back = before.clone();
    for entry in back["RefreshToken"].as_object_mut().unwrap().values_mut() {
        entry["last_modification_time"] = "1900000000".into();
    }
    fs::write(person.world.cache_file(), back.to_string()).unwrap();
    fs::copy(person.world.cache_file(), file).unwrap();
    person.refused();
    assert!(!read(file).to_string().contains(&format!("{USER_ONE_OID}.refresh")));
    assert_eq!(read(file)["RefreshToken"].as_object().unwrap().len(), 1);
}

#[test]
fn what_is_remembered_is_private_and_names_nobody() {
    use std::os::unix::fs::PermissionsExt as _;

    let person = Person::signed_in_a_day_ago();
    person.world.emulator.change_password(USER_ONE);
    person.refused();
    let path = person.world.home().join(".local/state/tokenkeep/revocations.json");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let names = [USER_ONE, USER_ONE_OID, "CANARY", "contoso", "127.0.0.1", CLIENT_AZURE_CLI];
    assert!(names.iter().all(|name| !text.contains(name)), "{text}");

    // Damage costs what was known, and nothing else.
    fs::write(&path, "{").unwrap();
    fs::write(&person.files[0], person.before[0].to_string()).unwrap();
    let run = person.world.run(&["clear", "--stale", "--dry-run", "--json"]).ok().json();
    assert_eq!(run["problems"].as_array().unwrap().len(), 1, "{run}");
    fs::write(person.world.cache_file(), person.before[0].to_string()).unwrap();
    person.refused();
    person.only_user_ones_refresh_tokens_are_gone();
    // What a later version wrote is left as it is.
    let later = fs::read_to_string(&path).unwrap().replace("\"version\":1", "\"version\":9");
    fs::write(&path, &later).unwrap();
    fs::write(person.world.cache_file(), person.before[0].to_string()).unwrap();
    fs::write(&person.files[0], person.before[0].to_string()).unwrap();
    person.refused();
    assert_eq!(fs::read_to_string(&path).unwrap(), later);
    person.only_user_ones_refresh_tokens_are_gone();
}

#[test]
fn asking_the_provider_finds_the_dead_keeps_the_living_and_stores_what_was_rotated() {
    let person = Person::signed_in_a_day_ago();
    let stale =
        |args: &[&str]| person.world.run(&[&["clear", "--stale", "--probe", "--json"], args].concat());
    // The same token in two caches is one question.
    let copy = person.world.home().join(".local/share/.IdentityService/copy.cache.nocae");
    fs::copy(&person.files[4], &copy).unwrap();
    person.world.emulator.change_password(USER_ONE);
    person.world.emulator.reset_log();

    let planned = stale(&["--dry-run"]).ok().json();
    let tokens = 2 * (1 + TOOLS.len());
    assert_eq!(person.world.emulator.count("token.refresh_token"), tokens, "one request for each");
    assert_eq!(planned["problems"], json!([]));
    assert_eq!(planned["probed"], json!({"asked": tokens, "alive": tokens / 2, "dead": tokens / 2}));
    assert_eq!(planned["removed"].as_array().unwrap().len(), tokens / 2 + 1, "{planned}");
    assert_eq!(planned["problems"], json!([]));
    for (file, before) in person.files.iter().zip(&person.before).chain([(&copy, &person.before[4])]) {
        let (after, gone) = (read(file), without_user_one(before));
        let of_user_two = without_user_one(&after)["RefreshToken"].clone();
        assert_ne!(of_user_two, gone["RefreshToken"], "what was rotated is stored");
        assert_eq!(of_user_two.as_object().unwrap().len(), gone["RefreshToken"].as_object().unwrap().len());
        assert_eq!(
            after["RefreshToken"].as_object().unwrap().len(),
            before["RefreshToken"].as_object().unwrap().len()
        );
    }
    assert_eq!(without_user_one(&read(&copy)), without_user_one(&read(&person.files[4])));

    // What is dead is dead without a date, too: nothing is remembered by a dry run, so it asks again.
    stale(&["--yes"]).ok();
    for file in person.files.iter().chain([&copy, &person.world.cache_file()]) {
        assert_eq!(read(file)["RefreshToken"].as_object().unwrap().len(), 1, "{}", file.display());
        assert_eq!(without_user_one(&read(file)), read(file));
    }
}

#[test]
fn a_provider_in_trouble_is_left_alone_and_nothing_goes() {
    let person = Person::signed_in_a_day_ago();
    person.world.emulator.script(Script::sticky(Answer::Error(ErrorAnswer::throttled("60"))).kind("token"));
    person.world.emulator.reset_log();
    let run = person.world.run(&["clear", "--stale", "--probe", "--yes", "--json"]).ok().json();
    assert_eq!(person.world.emulator.count("token"), 1, "no more questions after that");
    assert_eq!(run["probed"]["alive"], 0);
    assert_eq!(run["removed"], json!([]));
    assert_eq!(run["problems"].as_array().unwrap().len(), 2, "{run}");
    person.nothing_is_gone();
}

#[test]
fn access_tokens_stay_until_they_expire_unless_they_are_asked_for() {
    let person = Person::signed_in_a_day_ago();
    person.world.emulator.change_password(USER_ONE);
    person.refused();
    for (file, before) in person.files.iter().zip(&person.before) {
        fs::write(file, before.to_string()).unwrap();
    }
    person.world.run(&["clear", "--stale", "--access-tokens", "--yes"]).ok();
    for (file, before) in person.files.iter().zip(&person.before) {
        let tokens = |document: &Value| {
            let tokens = document["AccessToken"].as_object().unwrap().values();
            tokens.filter(|t| t["home_account_id"].as_str().unwrap().starts_with(USER_ONE_OID)).count()
        };
        assert!(tokens(before) > 0 && tokens(&read(file)) == 0, "{}", file.display());
    }
    person.only_accounts_differ();
}

impl Person {
    /// Whatever else went, the other user has everything.
    #[track_caller]
    fn only_accounts_differ(&self) {
        for (file, before) in self.files.iter().zip(&self.before) {
            let after = read(file);
            for (section, entries) in before.as_object().unwrap() {
                for (key, entry) in entries.as_object().unwrap() {
                    let is_user_ones = entry.to_string().contains(USER_ONE_OID);
                    assert!(
                        is_user_ones || after[section][key] == *entry,
                        "{} {section} {key}",
                        file.display()
                    );
                }
            }
        }
    }
}

#[test]
fn logout_everywhere_asks_and_then_leaves_nothing_of_that_account_in_any_cache() {
    let person = Person::signed_in_a_day_ago();
    person.world.run(&["logout", "--everywhere", "--account", USER_ONE]).exits(2).says("--yes");
    person.nothing_is_gone();
    let run = person.world.run(&["logout", "--everywhere", "--account", USER_ONE, "--yes"]).ok();
    assert!(run.stderr.contains(&format!("Signed out: {USER_ONE}")), "{}", run.stderr);
    for file in person.files.iter().chain([&person.world.cache_file()]) {
        let text = fs::read_to_string(file).unwrap();
        assert!(!text.contains(USER_ONE_OID) && !text.contains(USER_ONE), "{}", file.display());
    }
    person.only_accounts_differ();
    let all = person.world.run(&["logout", "--everywhere", "--all", "--yes", "--json"]).ok().json();
    assert_eq!(all["problems"], json!([]));
    person.world.run(&["logout", "--everywhere", "--yes"]).exits(4).says("this machine has no account");
    for file in &person.files {
        assert!(read(file)["RefreshToken"].as_object().unwrap().is_empty(), "{}", file.display());
    }
}

#[test]
fn what_cannot_be_read_or_written_does_not_keep_the_others_from_it() {
    use std::os::unix::fs::symlink;

    let person = Person::signed_in_a_day_ago();
    let folder = person.world.home().join(".local/share/.IdentityService");
    fs::write(folder.join("damaged.cache.nocae"), "{").unwrap();
    fs::write(folder.join("array.cache.nocae"), "[1]").unwrap();
    fs::create_dir(folder.join("folder.cache.nocae")).unwrap();
    symlink(folder.join("loop.cache.nocae"), folder.join("loop.cache.nocae")).unwrap();
    let fifo = Command::new("mkfifo").arg(folder.join("pipe.cache.nocae")).status().unwrap();
    assert!(fifo.success());
    person.world.emulator.change_password(USER_ONE);
    person.refused();
    person.only_user_ones_refresh_tokens_are_gone();
    assert_eq!(fs::read(folder.join("damaged.cache.nocae")).unwrap(), b"{");
}

#[test]
fn where_we_have_no_store_of_our_own_the_others_are_cleared_all_the_same() {
    let person = Person::signed_in_a_day_ago();
    person.world.emulator.change_password(USER_ONE);
    person.refused();
    fs::write(&person.files[3], person.before[3].to_string()).unwrap();
    let mut command = person.world.command(&["clear", "--stale", "--yes", "--json", "--store", "platform"]);
    let cleared = run(command.env("DBUS_SESSION_BUS_ADDRESS", crate::support::NO_BUS)).ok().json();
    assert_eq!(cleared["problems"].as_array().unwrap().len(), 1, "{cleared}");
    assert_eq!(cleared["problems"][0]["cache"], "our own cache");
    person.only_user_ones_refresh_tokens_are_gone();
}

/// A token that is rotated in while a dead one is being removed is not the one that was judged.
#[test]
fn a_token_that_is_rotated_in_between_survives() {
    let rounds = proofs(1_000);
    let world = World::plaintext();
    both_sign_in(&world, &world.cache_file(), CLIENT_AZURE_CLI);
    age(&world.cache_file(), DAY);
    let before = read(&world.cache_file());
    let store = world.store();
    let dead: Vec<_> = store
        .load()
        .unwrap()
        .document
        .held_refresh_tokens()
        .iter()
        .map(|held| held.token.secret().to_owned())
        .collect();
    assert_eq!(dead.len(), 2);
    world.emulator.change_password(USER_ONE);
    world.run(&["token", "--scope", SCOPE, "--account", USER_ONE, "--force-refresh"]).exits(3);
    let known = Memory::of(&world.places()).recall().unwrap();

    let (mut removed, mut rotated_first) = (0, 0);
    for round in 0..rounds {
        fs::write(world.cache_file(), before.to_string()).unwrap();
        // judged now ...
        let judged = dead_entries(&store.load().unwrap().document, &known);
        assert_eq!(judged.len(), 1);
        let mut after = before.clone();
        let fresh = format!("fresh-{round}");
        for entry in after["RefreshToken"].as_object_mut().unwrap().values_mut() {
            if entry["home_account_id"].as_str().unwrap().starts_with(USER_ONE_OID) {
                entry["secret"] = fresh.clone().into();
                entry["last_modification_time"] = "1900000000".into();
            }
        }
        let after = TokenCacheDocument::parse(after.to_string().as_bytes()).unwrap();
        let start = Barrier::new(2);
        let in_turn = |changes: ChangeSet| {
            start.wait();
            let store: Arc<dyn Store> = world.store();
            store.apply(&changes, Deadline::within(std::time::Duration::from_secs(10))).unwrap().changed
        };
        let (gone, _) = std::thread::scope(|scope| {
            // ... removed and rotated at the same time
            let removing = scope.spawn(|| in_turn(removal_of(&judged)));
            let rotating = scope.spawn(|| in_turn(ChangeSet::of(Change::Merge(Box::new(after.clone())))));
            (removing.join().unwrap(), rotating.join().unwrap())
        });
        removed += usize::from(gone);
        rotated_first += usize::from(!gone);
        let document = fs::read_to_string(world.cache_file()).unwrap();
        assert!(document.contains(&fresh), "round {round}: the renewed token is gone");
        assert_eq!(dead.iter().filter(|secret| document.contains(*secret)).count(), 1, "round {round}");
    }
    report(
        "clean_up_race",
        &format!("clean-up races: {rounds}, removed first in {removed}, rotated first in {rotated_first}"),
    );
}

/// The real clients: they say "sign in" afterwards, and not AADSTS50173.
#[test]
fn python_node_and_az_ask_for_a_sign_in_afterwards_and_not_about_a_dead_grant() {
    let network = PrivateNetwork::with_plaintext("clean-up");
    let record = network.file("record.json").to_str().unwrap().to_owned();
    let theirs = network.home().join(".IdentityService/theirs.nocae");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    let python_args = |scope: &str| {
        ["--record", &record, "--scope", scope, "--cache", "theirs", "--plaintext"].map(str::to_owned)
    };
    let run_python = |script: &str, args: &[&str]| {
        let mut command = python(script);
        command.args(args);
        network.inside(&command)
    };
    let login = ["--user", USER_ONE, "--client-id", CLIENT_APP, "--scope", SCOPE, "--record-out", &record];
    run_python("device_login.py", &[&login[..], &["--cache", "theirs", "--plaintext"]].concat()).ok();
    let nodes = network.home().join(".local/share/.IdentityService/node.nocae");
    fs::create_dir_all(nodes.parent().unwrap()).unwrap();
    let run_node = |args: &[&str]| {
        let mut command = node("msal_node.mjs");
        command.args(args).args(["--client-id", CLIENT_APP]).arg("--file").arg(&nodes);
        network.inside(&command)
    };
    run_node(&["login", "--user", USER_ONE, "--scope", SCOPE]).ok();
    network.approve(USER_ONE);
    let run_az = |command: &str, scope: &str| {
        network.inside(&azure_cli(&[command, "--username", USER_ONE, "--scope", scope]))
    };
    run_az("login", SCOPE).ok();
    let azs = network.home().join(".azure/msal_token_cache.json");
    network.approve(USER_ONE);
    network.tokenkeep(&["login", "--device-code", "--scope", SCOPE]).ok();
    for file in [&theirs, &nodes, &azs, &network.cache_file()] {
        age(file, DAY);
    }
    network.control("change-password", Some(json!({ "user": USER_ONE })));

    // Without us each of them meets the dead grant.
    let [kept_theirs, kept_nodes, kept_azs] = [&theirs, &nodes, &azs].map(|file| fs::read(file).unwrap());
    let args = python_args(GRAPH);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let met = run_python("record_token.py", &args);
    assert!(met.output().contains("AADSTS50173"), "{}", met.output());
    let met = run_node(&["token", "--scope", GRAPH, "--force-refresh"]);
    assert!(met.output().contains("AADSTS50173"), "{}", met.output());
    let met = run_az("token", GRAPH);
    assert!(met.output().contains("AADSTS50173"), "{}", met.output());
    for (file, kept) in [(&theirs, kept_theirs), (&nodes, kept_nodes), (&azs, kept_azs)] {
        fs::write(file, kept).unwrap();
    }

    network.tokenkeep(&["token", "--scope", SCOPE, "--force-refresh"]).exits(3);
    network.forget_requests();
    let asks = run_python("record_token.py", &args).exits(3);
    assert_eq!(asks.json()["error"], "AuthenticationRequiredError");
    assert!(!asks.output().contains("AADSTS"), "{}", asks.output());
    let asks = run_node(&["token", "--scope", GRAPH, "--force-refresh"]).exits(3);
    assert!(!asks.output().contains("AADSTS"), "{}", asks.output());
    let asks = run_az("token", GRAPH).exits(3);
    assert!(asks.output().contains("az login") && !asks.output().contains("AADSTS"), "{}", asks.output());
    assert_eq!(network.requests("token"), 0, "none sent anything dead");
}

/// A keyring of its own: what other tests keep in theirs is not looked at.
struct Desktop {
    world: World,
    folder: tempfile::TempDir,
}

impl Desktop {
    fn new() -> Self {
        Self { world: World::plaintext(), folder: tempfile::tempdir().unwrap() }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn inside(&self, command: &Command, stdin: &str) -> Run {
        let mut inside =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/with-secret-service"));
        inside.arg("-d").arg(self.folder.path()).arg("--");
        inside.arg(command.get_program()).args(command.get_args()).env_clear().env("HOME", self.home());
        inside.env("PATH", std::env::var_os("PATH").unwrap());
        inside.envs(
            command
                .get_envs()
                .filter(|(name, _)| *name != "HOME")
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let input = self.folder.path().join("input");
        fs::write(&input, stdin).unwrap();
        inside.stdin(fs::File::open(&input).unwrap());
        Run::of(inside.output().unwrap(), format!("{:?}", command.get_args()))
    }

    fn tokenkeep(&self, store: &str, args: &[&str]) -> Run {
        let mut command = self.world.command(&[args, &["--store", store]].concat());
        command.env_remove("DBUS_SESSION_BUS_ADDRESS");
        self.inside(&command, "")
    }

    fn login(&self, store: &str, user: &str, args: &[&str]) {
        self.world.emulator.approve(user);
        let login = ["login", "--device-code", "--scope", SCOPE];
        self.tokenkeep(store, &[&login[..], args].concat()).ok();
    }

    fn keyring(&self, args: &[&str], stdin: &str) -> Run {
        let ctl = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/keyring-ctl.py");
        let mut command = Command::new(ctl);
        command.args(args);
        self.inside(&command, stdin).ok()
    }
}

const DOTNET_ITEM: [&str; 3] = [
    "xdg:schema=msal.cache",
    "MsalClientID=Microsoft.Developer.IdentityService",
    "Microsoft.Developer.IdentityService=1.0.0.0",
];
/// All of it stands in .NET's item, too.
const JAVA_ITEM: [&str; 2] = ["xdg:schema=msal.cache", "MsalClientID=Microsoft.Developer.IdentityService"];
const NODE_ITEM: [&str; 3] = [
    "xdg:schema=org.freedesktop.Secret.Generic",
    "service=Microsoft.Developer.IdentityService",
    "account=MSALCache",
];

/// .NET's and Java's items (base64) and Node's, in a real keyring, beside ours.
#[test]
fn items_of_other_tools_in_the_keyring_are_cleared_in_their_own_encoding() {
    let desktop = Desktop::new();
    let planted = desktop.home().join(".IdentityService/planted.nocae");
    let mut documents = Vec::new();
    for (client, label, item) in [
        (CLIENT_VISUAL_STUDIO, "msal.cache.nocae", &DOTNET_ITEM[..]),
        (CLIENT_APP, "Microsoft.Developer.IdentityService/MSALCache", &NODE_ITEM),
        (CLIENT_AZURE_CLI, "MSALCache", &JAVA_ITEM),
    ] {
        for user in [USER_ONE, USER_TWO] {
            desktop.login("plaintext", user, &["--cache", "planted", "--client-id", client]);
        }
        age(&planted, DAY);
        let document = fs::read_to_string(&planted).unwrap();
        fs::remove_file(&planted).unwrap();
        let content = if item == NODE_ITEM { document.clone() } else { STANDARD.encode(&document) };
        desktop.keyring(&[&["store", label], item].concat(), &content);
        documents.push(serde_json::from_str::<Value>(&document).unwrap());
    }
    for user in [USER_ONE, USER_TWO] {
        desktop.login("platform", user, &[]);
    }
    desktop.world.emulator.change_password(USER_ONE);
    let refused = ["token", "--scope", SCOPE, "--account", USER_ONE, "--force-refresh", "--json"];
    let told = desktop.tokenkeep("platform", &refused).exits(3).json();
    assert_eq!(told["error"]["removed"].as_array().unwrap().len(), 4, "{told}");
    let item = |attributes: &[&str]| desktop.keyring(&[&["item"], attributes].concat(), "").stdout;
    for (attributes, before) in [(&DOTNET_ITEM[..], &documents[0]), (&JAVA_ITEM, &documents[2])] {
        let kept = STANDARD.decode(item(attributes).trim()).expect("still base64");
        assert_eq!(serde_json::from_slice::<Value>(&kept).unwrap(), without_user_one(before));
    }
    assert_eq!(serde_json::from_str::<Value>(&item(&NODE_ITEM)).unwrap(), without_user_one(&documents[1]));
}

/// The vault is no other tool's, and is cleared of the other clients' tokens all the same.
#[test]
fn a_vault_is_cleared_of_what_the_same_revocation_killed() {
    let world = World::vault();
    let tokenkeep = |args: &[&str]| {
        let mut command = world.command(args);
        run(command.env("DBUS_SESSION_BUS_ADDRESS", crate::support::NO_BUS))
    };
    tokenkeep(&["vault", "init", "--protector", "key-file", "--no-recovery-key"]).ok();
    for (user, client) in [(USER_ONE, CLIENT_AZURE_CLI), (USER_ONE, CLIENT_APP), (USER_TWO, CLIENT_AZURE_CLI)]
    {
        world.emulator.approve(user);
        let login =
            ["login", "--device-code", "--scope", SCOPE, "--store", "plaintext", "--client-id", client];
        tokenkeep(&login).ok();
    }
    age(&world.cache_file(), DAY);
    tokenkeep(&["import", "--from", "plaintext", "--remove-plaintext", "--yes"]).ok();
    world.emulator.change_password(USER_ONE);
    let refused =
        tokenkeep(&["token", "--scope", SCOPE, "--account", USER_ONE, "--force-refresh", "--json"]).exits(3);
    let mut clients: Vec<_> = refused.json()["error"]["removed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["client_id"].as_str().unwrap().to_owned())
        .collect();
    clients.sort_unstable();
    assert_eq!(clients, [CLIENT_AZURE_CLI, CLIENT_APP], "{}", refused.stdout);
    let accounts = tokenkeep(&["accounts", "--json"]).ok().json();
    for account in accounts["accounts"].as_array().unwrap() {
        let has_tokens = !account["clients"].as_array().unwrap().is_empty();
        assert_eq!(has_tokens, account["username"] == USER_TWO, "{account}");
    }
}

//! The doctor finds what is wrong with the caches of a home, says so, and puts it right without
//! losing a good entry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use emulator::{Answer, Script, USER_ONE};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::{Held, Run, World, on_a_terminal, python, run, tokenkeep_in};

const HOME_ONE: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa.11111111-1111-4111-8111-111111111111";
const TENANT: &str = "11111111-1111-4111-8111-111111111111";
const HOST: &str = "login.microsoftonline.com";
const ALIAS: &str = "login.windows.net";
const OF_FAMILY: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
const ALONE: &str = "33333333-3333-4333-8333-333333333333";

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Whom the doctor looks at: a home without a keyring, whose caches are files.
struct Patient(TempDir);

impl Patient {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> PathBuf {
        let folder = self.0.path().join(".IdentityService");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn cache(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = tokenkeep_in(self.0.path());
        command.env("DBUS_SESSION_BUS_ADDRESS", crate::support::NO_BUS).env("TOKENKEEP_STORE", "plaintext");
        command.arg("doctor").args(args);
        command
    }

    fn examine(&self, args: &[&str]) -> Run {
        run(&mut self.command(&[&["--offline", "--json"], args].concat()))
    }
}

/// A sound cache: one account, a client of the family and one of none.
fn sound(tag: &str) -> Value {
    let claims = json!({"preferred_username": USER_ONE, "iat": now() - 60}).to_string();
    let id_token = format!("e30.{}.CANARY-id-{tag}", URL_SAFE_NO_PAD.encode(claims));
    let entry = |kind: &str, client: &str, secret: String| {
        json!({
            "credential_type": kind, "secret": secret, "home_account_id": HOME_ONE,
            "environment": HOST, "client_id": client,
        })
    };
    let mut document = json!({
        "Account": {format!("{HOME_ONE}-{HOST}-{TENANT}"): {
            "home_account_id": HOME_ONE, "environment": HOST, "realm": TENANT,
            "local_account_id": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "username": USER_ONE,
            "authority_type": "MSSTS", "account_source": "authorization_code",
        }},
    });
    for (client, family) in [(OF_FAMILY, Some("1")), (ALONE, None)] {
        let mut refresh_token = entry("RefreshToken", client, format!("CANARY-refresh-{tag}-{client}"));
        refresh_token["last_modification_time"] = json!((now() - 60).to_string());
        let mut metadata = json!({"client_id": client, "environment": HOST});
        if let Some(family) = family {
            refresh_token["family_id"] = json!(family);
            metadata["family_id"] = json!(family);
        }
        let mut access_token = entry("AccessToken", client, format!("CANARY-access-{tag}-{client}"));
        let scope = "https://graph.microsoft.com/User.Read";
        for (field, text) in [
            ("realm", TENANT.to_owned()),
            ("target", scope.to_owned()),
            ("token_type", "Bearer".to_owned()),
            ("cached_at", (now() - 60).to_string()),
            ("expires_on", (now() + 80_000).to_string()),
            ("extended_expires_on", (now() + 80_000).to_string()),
        ] {
            access_token[field] = json!(text);
        }
        let mut id_entry = entry("IdToken", client, id_token.clone());
        id_entry["realm"] = json!(TENANT);
        document["RefreshToken"][format!("{HOME_ONE}-{HOST}-refreshtoken-{client}--")] = refresh_token;
        document["AccessToken"]
            [format!("{HOME_ONE}-{HOST}-accesstoken-{client}-{TENANT}-{scope}").to_lowercase()] =
            access_token;
        document["IdToken"][format!("{HOME_ONE}-{HOST}-idtoken-{client}-{TENANT}-")] = id_entry;
        document["AppMetadata"][format!("appmetadata-{HOST}-{client}")] = metadata;
    }
    document
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn set_age(path: &Path, age: Duration) {
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

fn first<'a>(value: &'a mut Value, section: &str) -> &'a mut Map<String, Value> {
    value[section].as_object_mut().unwrap().values_mut().next().unwrap().as_object_mut().unwrap()
}

/// The secrets of all entries that libraries would use.
fn secrets(value: &Value) -> BTreeSet<String> {
    let sections = ["AccessToken", "RefreshToken", "IdToken"];
    let entries = sections.iter().filter_map(|section| value[*section].as_object()).flatten();
    entries.filter_map(|(_, entry)| Some(entry["secret"].as_str()?.to_owned())).collect()
}

/// One defect of a cache that is otherwise sound: how it is planted, and which of the sound secrets
/// are not good any more.
struct Row {
    id: &'static str,
    plant: Plant,
    spoiled: &'static [&'static str],
}

enum Plant {
    /// Into the document.
    Entry(fn(&mut Value)),
    /// Into the folder, beside the file or in its place.
    File(fn(&Path, &str)),
}

fn entry(id: &'static str, plant: fn(&mut Value)) -> Row {
    Row { id, plant: Plant::Entry(plant), spoiled: &[] }
}

fn spoiling(id: &'static str, plant: fn(&mut Value), spoiled: &'static [&'static str]) -> Row {
    Row { id, plant: Plant::Entry(plant), spoiled }
}

fn file(id: &'static str, plant: fn(&Path, &str)) -> Row {
    Row { id, plant: Plant::File(plant), spoiled: &[] }
}

fn lost(id: &'static str, plant: fn(&Path, &str)) -> Row {
    // what was in it was lost before the doctor came
    Row { id, plant: Plant::File(plant), spoiled: &["CANARY-"] }
}

fn double(value: &mut Value, section: &str) {
    let mut copy = first(value, section).clone();
    copy.insert("environment".to_owned(), json!(ALIAS));
    if copy.contains_key("secret") {
        copy.insert("secret".to_owned(), json!("CANARY-older"));
    }
    for time in ["last_modification_time", "expires_on"] {
        if copy.contains_key(time) {
            copy.insert(time.to_owned(), json!((now() + 5).min(now() - 1000).to_string()));
        }
    }
    if section == "AccessToken" {
        copy.insert("expires_on".to_owned(), json!((now() + 5000).to_string()));
    }
    value[section]["double"] = Value::Object(copy);
}

fn set(value: &mut Value, section: &str, field: &str, to: Value) {
    first(value, section).insert(field.to_owned(), to);
}

/// What can be repaired.
fn repairable() -> Vec<Row> {
    const OF_FIRST: &[&str] = &["CANARY-access", OF_FAMILY];
    vec![
        spoiling(
            "access-token-expired",
            |value| set(value, "AccessToken", "expires_on", json!((now() - 10).to_string())),
            OF_FIRST,
        ),
        entry("access-tokens-overlap", |value| double(value, "AccessToken")),
        entry("account-duplicate", |value| double(value, "Account")),
        entry("account-incomplete", |value| {
            first(value, "Account").shift_remove("authority_type");
        }),
        entry("client-duplicate", |value| double(value, "AppMetadata")),
        entry("credential-type-misspelled", |value| {
            set(value, "RefreshToken", "credential_type", json!("refreshToken"));
        }),
        entry("entry-incomplete", |value| {
            value["RefreshToken"]["half"] = json!({"secret": "CANARY-half", "home_account_id": HOME_ONE});
        }),
        entry("entry-malformed", |value| value["IdToken"]["odd"] = json!(["CANARY-odd"])),
        spoiling(
            "expiry-absurd",
            |value| set(value, "AccessToken", "expires_on", json!("99999999999")),
            OF_FIRST,
        ),
        entry("family-missing", |value| {
            value["AppMetadata"]
                .as_object_mut()
                .unwrap()
                .shift_remove(&format!("appmetadata-{HOST}-{OF_FAMILY}"));
        }),
        entry("family-misstated", |value| {
            first(value, "AppMetadata").shift_remove("family_id");
        }),
        entry("field-malformed", |value| set(value, "Account", "name", json!({"first": "CANARY"}))),
        entry("from-the-future", |value| {
            set(value, "RefreshToken", "last_modification_time", json!((now() + 90_000).to_string()));
        }),
        entry("id-token-duplicate", |value| double(value, "IdToken")),
        entry("null-value", |value| set(value, "RefreshToken", "realm", Value::Null)),
        entry("number-value", |value| set(value, "AccessToken", "expires_on", json!(now() + 70_000))),
        entry("refresh-token-duplicate", |value| double(value, "RefreshToken")),
        entry("section-malformed", |value| {
            value["AppMetadata"] = json!(["CANARY"]);
            first(value, "RefreshToken").shift_remove("family_id");
        }),
        file("byte-order-mark", |path, sound| write(path, format!("\u{feff}{sound}"))),
        lost("cache-damaged", |path, sound| write(path, &sound[..sound.len() - 40])),
        lost("cache-damaged", |path, _| write(path, "[\"CANARY\"]")),
        lost("cache-damaged", |path, _| write(path, b"CANARY\xff\xfe\x00")),
        lost("cache-not-a-file", |path, _| {
            assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        }),
        lost("cache-not-a-file", |path, _| symlink(path, path).unwrap()),
        lost("cache-not-a-file", |path, _| {
            File::create(path).unwrap().set_len(65 << 20).unwrap();
        }),
        file("file-mode-open", |path, sound| {
            write(path, sound);
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        }),
        file("lock-not-a-file", |path, sound| {
            write(path, sound);
            fs::create_dir(format!("{}.lockfile", path.display())).unwrap();
        }),
        file("lock-stale", |path, sound| {
            write(path, sound);
            let lock = format!("{}.lockfile", path.display());
            write(Path::new(&lock), "4194305 node");
            set_age(Path::new(&lock), Duration::from_secs(30));
        }),
        file("temporary-left-behind", |path, sound| {
            write(path, sound);
            let name = path.file_name().unwrap().to_str().unwrap();
            write(&path.with_file_name(format!(".{name}.tokenkeep-tmp")), "CANARY-half of it");
        }),
    ]
}

/// Plants each row into a cache of its own, and tells the cache's name.
fn plant(patient: &Patient, rows: &[Row]) -> Vec<String> {
    let mut names = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let name = format!("row{number}-{}.nocae", row.id);
        let mut value = sound(&name);
        match row.plant {
            Plant::Entry(plant) => {
                plant(&mut value);
                write(&patient.cache(&name), value.to_string());
            }
            Plant::File(plant) => plant(&patient.cache(&name), &value.to_string()),
        }
        names.push(name);
    }
    names
}

/// Which findings there are, by their cache; what the machine stands on is left out.
fn found(report: &Value) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for finding in report["findings"].as_array().unwrap() {
        let (id, subject) = (finding["id"].as_str().unwrap(), finding["subject"].as_str().unwrap());
        let row = subject.split(['/', ' ', '.']).find(|part| part.starts_with("row")).unwrap_or(subject);
        found.entry(row.to_owned()).or_default().push(id.to_owned());
    }
    found
}

#[track_caller]
fn assert_no_secret(run: &Run) {
    assert!(!run.output().contains("CANARY"), "{}", run.output());
}

#[test]
fn a_home_full_of_defects_is_told_in_full_and_repaired_without_a_loss() {
    let rows = repairable();
    let kinds: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
    let patient = Patient::new();
    let names = plant(&patient, &rows);
    // one more: a folder that everybody may write to, with a sound cache in it
    let open = patient.0.path().join(".azd/auth/msal");
    fs::create_dir_all(&open).unwrap();
    write(&open.join("cache.json"), sound("azd").to_string());
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    assert!(kinds.len() + 1 >= 25, "{}: {kinds:?}", kinds.len());

    let before = patient.examine(&[]).exits(1);
    assert_no_secret(&before);
    let report = before.json();
    let mut seen = found(&report);
    assert_eq!(seen.remove("the keyring"), Some(vec!["keyring-no-bus".to_owned()]));
    assert_eq!(seen.remove(open.to_str().unwrap()), Some(vec!["folder-mode-open".to_owned()]));
    for (row, name) in rows.iter().zip(&names) {
        let ids = seen.remove(name.trim_end_matches(".nocae")).unwrap_or_default();
        assert_eq!(ids, [row.id], "{name}");
    }
    assert_eq!(seen, BTreeMap::new(), "findings that nobody planted");

    let text = run(&mut patient.command(&["--offline"])).exits(1);
    assert!(
        text.stderr.contains(&format!("; tokenkeep doctor --repair mends {}", rows.len() + 1)),
        "{}",
        text.stderr
    );
    let planned = patient.examine(&["--repair", "--dry-run"]).exits(1);
    assert_eq!(found(&planned.json()), found(&report), "a dry run changes nothing");
    patient.examine(&["--repair"]).exits(2);

    let repaired = patient.examine(&["--repair", "--yes"]).ok();
    assert_no_secret(&repaired);
    let repairs = repaired.json()["repairs"].as_array().unwrap().clone();
    for repair in &repairs {
        assert_eq!(repair["outcome"], "repaired", "{repair:#}");
    }
    assert_eq!(repairs.len(), rows.len() + 1);

    let after = patient.examine(&[]).ok().json();
    assert_eq!(after["needs_attention"], false);
    let notes: BTreeSet<_> = found(&after).into_values().flatten().collect();
    assert_eq!(notes, ["damaged-copy-kept", "keyring-no-bus"].map(str::to_owned).into());
    for (row, name) in rows.iter().zip(&names) {
        let good: BTreeSet<String> = secrets(&sound(name))
            .into_iter()
            .filter(|secret| row.spoiled.is_empty() || !row.spoiled.iter().all(|part| secret.contains(part)))
            .collect();
        let left = fs::read(patient.cache(name)).unwrap_or_default();
        let left: Value = serde_json::from_slice(&left).unwrap_or_default();
        // an ID token differs in the moment at which it was made, but not in what tells it apart
        let marks = |secrets: BTreeSet<String>| -> BTreeSet<String> {
            secrets.iter().map(|secret| secret[secret.find("CANARY").unwrap_or(0)..].to_owned()).collect()
        };
        assert_eq!(marks(secrets(&left)), marks(good), "{name}");
        assert!(!left.to_string().contains(":null"), "{name}");
    }
    assert_eq!(fs::metadata(&open).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(
        secrets(&serde_json::from_slice(&fs::read(open.join("cache.json")).unwrap()).unwrap()).len(),
        5
    );
    let kept = fs::read_dir(patient.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let kept: Vec<_> = kept.filter(|name| name.to_str().unwrap().contains(".damaged-")).collect();
    assert_eq!(kept.len(), 7, "bad content is renamed, never deleted: {kept:?}");
    let set_aside: u64 =
        after["caches"].as_array().unwrap().iter().map(|cache| cache["set_aside"].as_u64().unwrap()).sum();
    assert_eq!(set_aside, 5, "and so are entries");

    let nothing = patient.examine(&["--repair", "--yes"]).ok().json();
    assert_eq!(nothing["repairs"], json!([]));
}

#[test]
fn what_only_a_person_can_mend_is_told_with_the_next_step() {
    let rows = [
        entry("account-without-refresh-token", |value| {
            let mut other = first(value, "Account").clone();
            other.insert("home_account_id".to_owned(), json!("b.c"));
            value["Account"]["other"] = Value::Object(other);
        }),
        entry("app-token-among-users", |value| {
            let mut other = first(value, "AccessToken").clone();
            other.insert("home_account_id".to_owned(), json!(""));
            value["AccessToken"]["other"] = Value::Object(other);
        }),
        entry("credential-type-unknown", |value| {
            set(value, "AccessToken", "credential_type", json!("PrimaryToken"));
        }),
        entry("refresh-token-old", |value| {
            let long_ago = (now() - 91 * 86_400).to_string();
            set(value, "RefreshToken", "last_modification_time", json!(long_ago));
        }),
        entry("refresh-token-without-account", |value| {
            let mut other = first(value, "RefreshToken").clone();
            other.insert("home_account_id".to_owned(), json!("b.c"));
            value["RefreshToken"]["other"] = Value::Object(other);
        }),
        file("encoding-foreign", |path, sound| write(path, STANDARD.encode(sound))),
        file("damaged-copy-kept", |path, sound| {
            write(path, sound);
            write(&path.with_extension("nocae.damaged-1"), "CANARY");
        }),
        file("lock-held-long", |path, sound| {
            write(path, sound);
            let lock = format!("{}.lockfile", path.display());
            write(Path::new(&lock), format!("{} node", std::process::id()));
            set_age(Path::new(&lock), Duration::from_secs(120));
        }),
        lost("cache-foreign-owner", |path, sound| {
            write(path, sound);
            chown(path, Some(54321), None).expect("these tests run as root, as scripts/test does");
        }),
        lost("cache-key-gone", |path, _| {
            let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A128CBC-HS256","kid":"7"}"#);
            let [iv, sealed, tag] = [16, 32, 16].map(|length| URL_SAFE_NO_PAD.encode(vec![7; length]));
            write(path, format!("{header}..{iv}.{sealed}.{tag}"));
        }),
    ];
    let patient = Patient::new();
    let names = plant(&patient, &rows);
    let seen = patient.examine(&[]).exits(1);
    assert_no_secret(&seen);
    let report = seen.json();
    let mut by_row = found(&report);
    by_row.remove("the keyring");
    for (row, name) in rows.iter().zip(&names) {
        let ids = by_row.remove(name.trim_end_matches(".nocae")).unwrap_or_default();
        assert_eq!(ids, [row.id], "{name}");
    }
    assert_eq!(by_row, BTreeMap::new());
    for finding in report["findings"].as_array().unwrap() {
        assert_eq!(finding["repairable"], false, "{finding:#}");
        let needs_nobody = ["app-token-among-users", "credential-type-unknown"];
        let id = finding["id"].as_str().unwrap();
        assert_eq!(finding["fix"].is_null(), needs_nobody.contains(&id), "{finding:#}");
    }
    let before: Vec<_> = names.iter().map(|name| fs::read(patient.cache(name)).unwrap()).collect();
    patient.examine(&["--repair", "--yes"]).exits(1);
    let after: Vec<_> = names.iter().map(|name| fs::read(patient.cache(name)).unwrap()).collect();
    assert!(before == after, "nothing was touched");
}

#[test]
fn a_cache_that_may_not_be_read_is_told_and_kept() {
    let patient = Patient::new();
    let (closed, sound) = (patient.cache("closed.nocae"), sound("closed").to_string());
    write(&closed, &sound);
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    // root without what lets it read everything
    let without = "-dac_override,-dac_read_search";
    let mut doctor = Command::new("setpriv");
    doctor.arg(format!("--inh-caps={without}")).arg(format!("--bounding-set={without}"));
    let ours = patient.command(&["--offline", "--json", "--repair", "--yes"]);
    doctor.arg(ours.get_program()).args(ours.get_args()).env_clear();
    doctor.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let report = run(&mut doctor).exits(1).json();
    let unreadable = &report["findings"][0];
    assert_eq!((&unreadable["id"], &unreadable["severity"]), (&json!("cache-unreadable"), &json!("problem")));
    assert!(unreadable["fix"].as_str().unwrap().contains(closed.to_str().unwrap()), "{report:#}");
    assert_eq!(fs::read_to_string(&closed).unwrap(), sound);
}

#[test]
fn a_memory_of_revocations_that_cannot_be_read_is_told_and_set_aside_if_it_is_damaged() {
    let patient = Patient::new();
    let memory = patient.0.path().join(".local/state/tokenkeep/revocations.json");
    fs::create_dir_all(memory.parent().unwrap()).unwrap();
    write(&memory, "{\"CANARY");
    let damaged = patient.examine(&[]).exits(1);
    assert_no_secret(&damaged);
    assert_eq!(found(&damaged.json())[memory.to_str().unwrap()], ["revocations-unreadable"]);
    let repaired = patient.examine(&["--repair", "--yes"]).ok().json();
    let aside = repaired["repairs"][0]["detail"].as_str().unwrap();
    assert_eq!(fs::read_to_string(aside).unwrap(), "{\"CANARY");
    assert!(!memory.exists());

    let later = json!({"version": 9, "salt": vec![0; 32], "accounts": [], "grants": []}).to_string();
    write(&memory, &later);
    let newer = patient.examine(&["--repair", "--yes"]).exits(1).json();
    assert_eq!(newer["findings"].as_array().unwrap().len(), 2, "{newer:#}");
    let told = newer["findings"].as_array().unwrap().iter();
    let told: Vec<_> = told.filter(|finding| finding["id"] == "revocations-unreadable").collect();
    assert_eq!((told.len(), &told[0]["repairable"]), (1, &json!(false)), "{newer:#}");
    assert_eq!(fs::read_to_string(&memory).unwrap(), later);
}

#[test]
fn a_clean_home_is_quiet() {
    let empty = Patient::new();
    let nothing = empty.examine(&[]).ok();
    assert_eq!(nothing.json()["caches"], json!([]));
    let text = run(&mut empty.command(&["--offline"])).ok();
    assert!(text.stdout.starts_with("caches    none\n"), "{}", text.stdout);
    assert_eq!(text.stderr, "Nothing needs attention\n");
    run(&mut empty.command(&["--offline", "--repair"])).ok().says("There is nothing to repair");
    assert!(fs::read_dir(empty.0.path()).unwrap().next().is_none(), "and nothing is made in it");

    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let mut command = world.command(&["doctor"]);
    let text = run(command.env("DBUS_SESSION_BUS_ADDRESS", crate::support::NO_BUS)).ok();
    assert!(text.stdout.contains(USER_ONE) && text.stdout.contains("answers in"), "{}", text.stdout);
    assert!(!text.stdout.contains("problem") && !text.stdout.contains("warning"), "{}", text.stdout);
    assert!(!text.output().contains("CANARY"));
}

#[test]
fn hostile_content_costs_neither_time_nor_memory() {
    let patient = Patient::new();
    type Bomb<'a> = (&'a str, &'a dyn Fn(&Path));
    let bombs: [Bomb<'_>; 9] = [
        ("fifo", &|path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
        ("loop", &|path| symlink(path, path).unwrap()),
        ("zero", &|path| symlink("/dev/zero", path).unwrap()),
        ("sparse", &|path| File::create(path).unwrap().set_len(1 << 40).unwrap()),
        ("deep", &|path| write(path, "{\"a\":".to_owned() + &"[".repeat(1 << 20))),
        ("jwe", &|path| write(path, "e30".to_owned() + &".".repeat(1 << 20))),
        ("base64", &|path| write(path, STANDARD.encode("{".repeat(1 << 20)))),
        ("types", &|path| {
            write(
                path,
                json!({"AccessToken": [1], "Account": {"a": 1, "b": {"home_account_id": {}}}}).to_string(),
            );
        }),
        ("many", &|path| {
            let entries: Vec<String> = (0..200_000).map(|number| format!("\"k{number}\":null")).collect();
            write(path, format!("{{\"RefreshToken\":{{{}}}}}", entries.join(",")));
        }),
    ];
    for (name, make) in &bombs {
        make(&patient.cache(&format!("{name}.nocae")));
    }
    std::os::unix::net::UnixListener::bind(patient.cache("socket.nocae")).map(drop).unwrap();
    let lock = patient.cache("fifo.nocae.lockfile");
    assert!(Command::new("mkfifo").arg(lock).status().unwrap().success());

    // the debug build's own stacks and tables fit into a gigabyte with much to spare
    let mut bounded = Command::new("sh");
    let doctor = patient.command(&["--offline", "--json"]);
    bounded.args(["-c", "ulimit -v 2000000; exec timeout 60 \"$@\"", "sh"]).arg(doctor.get_program());
    bounded.args(doctor.get_args()).env_clear();
    bounded.envs(doctor.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let report = run(&mut bounded).exits(1).json();
    let subjects: BTreeSet<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|finding| finding["subject"].as_str()?.split_once(".nocae").map(|(name, _)| name))
        .collect();
    for name in bombs.iter().map(|(name, _)| *name).chain(["socket"]) {
        assert!(subjects.contains(name), "{name}: {subjects:?}");
    }
    patient.examine(&["--repair", "--yes"]);
    for finding in patient.examine(&[]).json()["findings"].as_array().unwrap() {
        assert_eq!(finding["repairable"], false, "{finding:#}");
    }
}

#[test]
fn each_repair_is_asked_for_and_no_is_the_default() {
    let patient = Patient::new();
    write(&patient.cache("a.nocae"), json!({"IdToken": {"x": null}}).to_string());
    write(&patient.cache("b.nocae"), json!({"IdToken": {"x": null}}).to_string());
    let shown = on_a_terminal(&patient.command(&["--offline", "--repair"]), "\ny\n").exits(1).stdout;
    assert_eq!(shown.matches("remove the null? [y/N]").count(), 2, "{shown}");
    let content = |name: &str| fs::read_to_string(patient.cache(name)).unwrap();
    assert!(content("a.nocae").contains("null") && !content("b.nocae").contains("null"));
}

#[test]
fn a_lock_that_somebody_holds_is_no_finding_and_keeps_repairs_away() {
    let patient = Patient::new();
    let path = patient.cache("a.nocae");
    write(&path, json!({"IdToken": {"x": null}}).to_string());
    let lock = PathBuf::from(format!("{}.lockfile", path.display()));
    let holder = Held::by(python("lock_holder.py").arg(&lock));
    let report = patient.examine(&[]).exits(1).json();
    assert_eq!(found(&report).into_values().flatten().filter(|id| id.starts_with("lock")).count(), 0);
    assert_eq!(report["caches"][0]["locks"][0]["alive"], true, "{report:#}");
    assert_eq!(report["caches"][0]["locks"][0]["pid"], holder.pid());

    let held = patient.examine(&["--repair", "--yes"]).exits(1).json();
    assert_eq!(held["repairs"][0]["outcome"], "failed", "{held:#}");
    assert!(fs::read_to_string(&path).unwrap().contains("null"));
    holder.kill();
    set_age(&lock, Duration::from_secs(30));
    let freed = patient.examine(&["--repair", "--yes"]).ok().json();
    let ids: Vec<_> = freed["repairs"].as_array().unwrap().iter().map(|repair| &repair["id"]).collect();
    assert_eq!(ids, ["lock-stale", "null-value"]);
}

#[test]
fn the_way_to_the_authority_is_looked_at() {
    let world = World::plaintext();
    let doctor = |environment: &[(&str, &str)]| {
        let mut command = world.command(&["doctor", "--json"]);
        command.env("DBUS_SESSION_BUS_ADDRESS", crate::support::NO_BUS).envs(environment.iter().copied());
        run(&mut command)
    };
    let sound = doctor(&[]).ok().json();
    assert_eq!(sound["authority"]["reached"], true, "{sound:#}");
    assert!(sound["authority"]["clock_ahead"].as_i64().unwrap().abs() < 60);

    let date = "Thu, 01 Jan 2026 00:00:00 GMT".to_owned();
    let answer = Answer::Raw { status: 200, headers: [("Date".to_owned(), date)].into(), body: "{}".into() };
    world.emulator.script(Script::once(answer).kind("openid_configuration"));
    assert_eq!(found(&doctor(&[]).exits(1).json())["this machine's clock"], ["clock-skew"]);

    for (environment, id) in [
        (("AZURE_AUTHORITY_HOST", "https://127.0.0.1:1"), "authority-unreachable"),
        (("HTTPS_PROXY", "http://"), "proxy-malformed"),
        (("DOTNET_SYSTEM_IO_DISABLEFILELOCKING", "1"), "dotnet-locking-off"),
    ] {
        let report = doctor(&[environment]).exits(1).json();
        assert!(found(&report).into_values().flatten().any(|found| found == id), "{id}: {report:#}");
    }
    let patient = Patient::new();
    let mut strange = patient.command(&["--json"]);
    let report = run(strange.env("AZURE_AUTHORITY_HOST", "https://127.0.0.1:1")).exits(1).json();
    assert_eq!(found(&report)["https://127.0.0.1:1"], ["authority-unknown"], "nobody is asked");
}

#[test]
fn a_vault_that_only_the_kernel_opens_is_told_until_something_else_does_too() {
    let patient = Patient::new();
    let vault = |args: &[&str]| run(tokenkeep_in(patient.0.path()).arg("vault").args(args)).ok();
    vault(&["init", "--protector", "kernel", "--no-recovery-key"]);
    let report = patient.examine(&["--store", "vault"]).exits(1).json();
    let file = patient.0.path().join(".local/state/tokenkeep/vault.db");
    assert_eq!(found(&report)[file.to_str().unwrap()], ["vault-only-kernel"]);
    vault(&["protector", "add", "key-file"]);
    let report = patient.examine(&["--store", "vault"]).ok().json();
    assert_eq!(report["vault"]["protectors"], json!(["kernel", "key-file"]));
}

#[test]
fn a_vault_is_looked_at_without_being_opened() {
    let patient = Patient::new();
    let vault = patient.0.path().join(".local/state/tokenkeep/vault.db");
    let init = ["vault", "init", "--protector", "key-file", "--no-recovery-key"];
    run(tokenkeep_in(patient.0.path()).args(init)).ok();
    fs::rename(patient.0.path().join(".config/tokenkeep/vault.key"), patient.0.path().join("away")).unwrap();
    let report = patient.examine(&["--store", "auto"]).ok().json();
    assert_eq!(report["vault"]["protectors"], json!(["key-file"]));
    assert_eq!(found(&report)["the keyring"], ["keyring-no-bus"], "a note, for there is the vault");

    fs::write(&vault, "CANARY").unwrap();
    let broken = patient.examine(&[]).exits(1);
    assert_no_secret(&broken);
    assert_eq!(found(&broken.json())[vault.to_str().unwrap()], ["vault-unusable"]);
    assert_eq!(fs::read_to_string(&vault).unwrap(), "CANARY", "and left as it is");
}

/// A user with a keyring of their own, in one of the states that a keyring can be in.
struct WithKeyring(TempDir);

impl WithKeyring {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Runs a line of the shell in the user's next session; `state` is an option of
    /// `with-secret-service`.
    fn session(&self, state: &str, line: &str, input: &str) -> Run {
        let support = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/with-secret-service");
        let mut command = Command::new(support);
        command.args(Some(state).filter(|state| !state.is_empty())).arg("-d").arg(self.0.path());
        command.args(["--", "sh", "-c", line]).env("TOKENKEEP", env!("CARGO_BIN_EXE_tokenkeep"));
        command.env("INPUT", input).env_remove("TOKENKEEP_STORE").env_remove("TOKENKEEP_CACHE");
        run(&mut command)
    }

    fn doctor(&self, state: &str, args: &str) -> Run {
        self.session(state, &format!("exec \"$TOKENKEEP\" doctor --offline --json {args}"), "")
    }

    /// Keeps an item as another program would.
    fn store(&self, attributes: &str, content: &str) {
        let line = format!("printf %s \"$INPUT\" | \"$KEYRING_CTL\" store MSALCache {attributes}");
        self.session("", &line, content).ok();
    }

    fn item(&self, attributes: &str) -> Run {
        self.session("", &format!("exec \"$KEYRING_CTL\" item {attributes}"), "")
    }
}

#[test]
fn a_keyring_is_tried_layer_by_layer_and_left_as_it_was() {
    for (state, reached, id) in [
        ("-b", 0, Some("keyring-no-bus")),
        ("-n", 1, Some("keyring-no-service")),
        ("-c", 2, Some("keyring-no-collection")),
        ("-l", 3, Some("keyring-locked")),
        ("", 5, None),
    ] {
        let user = WithKeyring::new();
        let seen = user.doctor(state, "").exits(i32::from(id.is_some()));
        let report = seen.json();
        let layers = ["bus", "service", "collection", "unlocked", "keeps"];
        let works = layers.map(|layer| report["keyring"][layer].as_bool().unwrap());
        assert_eq!(works, [0, 1, 2, 3, 4].map(|layer| layer < reached), "{state}: {report:#}");
        let ids: Vec<String> = found(&report).into_values().flatten().collect();
        assert_eq!(ids, id.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{state}");
        if id.is_none() {
            let dump = user.session("", "exec \"$KEYRING_CTL\" dump", "").ok();
            assert!(!dump.stdout.contains("probe"), "the probe is gone: {}", dump.stdout);
        }
        // whoever keeps tokens elsewhere does not need it
        user.doctor(state, "--store plaintext").ok();
    }
}

#[test]
fn a_keyring_that_cannot_be_relied_on_is_told_and_how() {
    for (way, id, reached, detail) in [
        ("silent", "keyring-silent", 1, "no answer within 10 s"),
        ("forgets", "keyring-forgets", 4, "cannot be found"),
        ("garbles", "keyring-forgets", 4, "with another secret"),
        ("keeps", "keyring-forgets", 4, "is still there"),
    ] {
        let user = WithKeyring::new();
        let odd = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/odd-keyring.py");
        let line = format!("exec timeout 60 {} {way} \"$TOKENKEEP\" doctor --offline --json", odd.display());
        let report = user.session("-n", &line, "").exits(1).json();
        let findings = report["findings"].as_array().unwrap();
        assert_eq!(findings.len(), 1, "{report:#}");
        assert_eq!(findings[0]["id"], id, "{report:#}");
        assert!(findings[0]["detail"].as_str().unwrap().contains(detail), "{report:#}");
        let layers = ["bus", "service", "collection", "unlocked", "keeps"];
        let works = layers.map(|layer| report["keyring"][layer].as_bool().unwrap());
        assert_eq!(works, [0, 1, 2, 3, 4].map(|layer| layer < reached), "{report:#}");
    }
}

#[test]
fn two_items_for_one_cache_are_told_until_one_is_gone() {
    const ITEM: &str = "xdg:schema=msal.cache.nocae MsalClientID=Microsoft.Developer.IdentityService";
    let user = WithKeyring::new();
    user.store(ITEM, &sound("one").to_string());
    user.doctor("", "").ok();
    user.store(ITEM, &sound("other").to_string());
    let report = user.doctor("", "").exits(1).json();
    assert_eq!(found(&report).into_values().flatten().collect::<Vec<_>>(), ["item-duplicate"]);
    assert!(report["findings"][0]["detail"].as_str().unwrap().starts_with("2 items"), "{report:#}");
    assert_eq!(
        (&report["caches"][0]["item"]["count"], report["caches"].as_array().unwrap().len()),
        (&json!(2), 1)
    );
}

#[test]
fn items_of_a_keyring_are_mended_in_their_own_encoding_and_what_is_no_cache_is_kept_aside() {
    const OWNER: &str = "MsalClientID=Microsoft.Developer.IdentityService";
    let python = format!("xdg:schema=msal.cache.nocae {OWNER}");
    let dotnet = format!("xdg:schema=msal.cache {OWNER} Microsoft.Developer.IdentityService=1.0.0.0");
    let user = WithKeyring::new();
    let good = sound("dotnet");
    let mut damaged = good.clone();
    set(&mut damaged, "Account", "name", Value::Null);
    user.store(&python, "{\"AccessToken\": {\"CANARY");
    user.store(&dotnet, &STANDARD.encode(damaged.to_string()));

    let before = user.doctor("", "").exits(1);
    assert_no_secret(&before);
    let report = before.json();
    let ids: BTreeSet<String> = found(&report).into_values().flatten().collect();
    assert_eq!(ids, ["cache-damaged", "null-value"].map(str::to_owned).into(), "{report:#}");
    assert_eq!(report["caches"].as_array().unwrap().len(), 2);

    let repaired = user.doctor("", "--repair --yes").ok();
    assert_no_secret(&repaired);
    let kept = user.item(&dotnet).ok().stdout;
    let kept: Value = serde_json::from_slice(&STANDARD.decode(kept).unwrap()).unwrap();
    assert_eq!(kept, good, "and nothing else changed");
    user.item(&python).exits(1);
    let dump = user.session("", "exec \"$KEYRING_CTL\" dump", "").ok().stdout;
    assert!(dump.contains("msal.cache.nocae.damaged-") && dump.contains("CANARY"), "{dump}");
}

#[test]
fn plaintext_that_was_left_behind_is_told_with_a_command_that_helps() {
    let user = WithKeyring::new();
    let folder = user.0.path().join("home/.IdentityService");
    fs::create_dir_all(&folder).unwrap();
    write(&folder.join("msal.cache.nocae"), sound("left").to_string());
    let report = user.doctor("", "").exits(1).json();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0]["id"], "plaintext-left-behind");
    let fix = findings[0]["fix"].as_str().unwrap().strip_prefix("tokenkeep").unwrap();
    user.session("", &format!("exec \"$TOKENKEEP\" {fix} --yes"), "").ok();
    let after = user.doctor("", "").ok().json();
    assert_eq!(after["findings"], json!([]), "{after:#}");
    let python = "xdg:schema=msal.cache.nocae MsalClientID=Microsoft.Developer.IdentityService";
    assert_eq!(secrets(&serde_json::from_str(&user.item(python).ok().stdout).unwrap()).len(), 5);
}

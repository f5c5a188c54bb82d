//! The vault as its user meets it: made, opened in every way, locked, moved into and out of.

use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::{CLIENT_AZURE_CLI, USER_ONE};
use serde_json::Value;

use crate::support::{
    Answer, GRAPH, PrivateNetwork, Run, SCOPE, World, converse, node, python, repository, run,
};

const PASSPHRASE: &str = "correct horse battery staple";
const NO_BUS: (&str, &str) = ("DBUS_SESSION_BUS_ADDRESS", crate::support::NO_BUS);

/// A user of the vault, without a desktop.
struct User {
    world: World,
}

impl User {
    fn new() -> Self {
        Self { world: World::vault() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command(args);
        command.env(NO_BUS.0, NO_BUS.1);
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        run(&mut self.command(args))
    }

    /// With this passphrase in the file that `TOKENKEEP_PASSPHRASE_FILE` names.
    fn knowing(&self, passphrase: &str, args: &[&str]) -> Run {
        let file = self.world.home().join("passphrase");
        std::fs::write(&file, format!("{passphrase}\n")).unwrap();
        run(self.command(args).env("TOKENKEEP_PASSPHRASE_FILE", &file))
    }

    fn signs_in(&self) {
        self.world.emulator.approve(USER_ONE);
        self.run(&["login", "--device-code", "--scope", SCOPE]).ok();
    }

    fn vault(&self) -> PathBuf {
        self.world.places().vault()
    }

    /// What the next start of the machine does to the kernel's keyring.
    #[cfg(target_os = "linux")]
    fn kernel_forgets(&self) {
        use linux_keyutils::{KeyRing, KeyRingIdentifier};
        let database = rusqlite::Connection::open(self.vault()).unwrap();
        let mut statement =
            database.prepare("SELECT parameters FROM protector WHERE kind = 'kernel'").unwrap();
        let found: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert!(!found.is_empty(), "the kernel has no key of this vault");
        for parameters in found {
            let parameters: Value = serde_json::from_str(&parameters).unwrap();
            let ring = KeyRing::get_persistent(KeyRingIdentifier::Process).unwrap();
            ring.search(parameters["key"].as_str().unwrap()).unwrap().invalidate().unwrap();
        }
    }
}

/// The kind of a failure, as `--json` tells it.
#[track_caller]
fn kind(run: &Run) -> String {
    run.json()["error"]["kind"].as_str().unwrap().to_owned()
}

#[test]
fn a_login_is_kept_by_a_key_file_and_gone_after_logout() {
    let user = User::new();
    user.run(&["vault", "init", "--protector", "key-file", "--no-recovery-key"]).ok();
    user.signs_in();
    user.world.emulator.reset_log();
    let token = user.run(&["token", "--scope", SCOPE]).ok().token();
    assert!(token.starts_with("eyJ"));
    assert_eq!(user.world.emulator.log().len(), 0, "the provider was asked");

    user.run(&["accounts", "default", USER_ONE]).ok();
    let accounts = user.run(&["accounts", "--json"]).ok().json();
    assert_eq!(accounts["accounts"][0]["default"], true);
    assert!(!user.vault().with_file_name("accounts.json").exists(), "the default account is in the vault");

    user.run(&["logout"]).ok();
    user.run(&["token", "--scope", SCOPE]).exits(4);
    let audit = user.run(&["audit", "--verify", "--json"]).ok().json();
    let events = audit["events"].as_array().unwrap();
    assert!(
        events.iter().any(|event| event["action"] == "account_removed" && event["reason"] == "signed_out")
    );
}

#[test]
#[cfg(target_os = "linux")]
fn after_a_restart_without_a_desktop_the_passphrase_opens_what_the_kernel_forgot() {
    let user = User::new();
    user.knowing(PASSPHRASE, &["vault", "init"]).ok();
    user.signs_in();
    user.run(&["token", "--scope", SCOPE]).ok();

    user.kernel_forgets();
    let refused = user.run(&["token", "--scope", SCOPE, "--json"]).exits(7);
    assert_eq!(kind(&refused), "vault_key_gone");
    assert_eq!(user.run(&["vault", "status", "--json"]).ok().json()["state"], "locked");
    let wrong = user.knowing("a guess", &["token", "--scope", SCOPE, "--json"]).exits(7);
    assert_eq!(kind(&wrong), "vault_wrong_secret");
    user.knowing(PASSPHRASE, &["token", "--scope", SCOPE]).ok();

    user.knowing(PASSPHRASE, &["vault", "unlock"]).ok();
    user.run(&["token", "--scope", SCOPE]).ok();
    user.run(&["vault", "lock"]).ok();
    let locked = user.run(&["token", "--scope", SCOPE, "--json"]).exits(7);
    assert_eq!(kind(&locked), "vault_locked");
}

#[test]
fn the_recovery_key_is_shown_once_and_opens_the_vault() {
    let user = User::new();
    let made = user.run(&["vault", "init", "--protector", "key-file"]).ok();
    let recovery = made.stdout.trim().to_owned();
    assert_eq!(recovery.len(), 44, "{recovery}");
    user.signs_in();
    user.run(&["vault", "protector", "remove", "key-file"]).ok();
    user.run(&["token", "--scope", SCOPE]).exits(7);
    user.knowing(&recovery, &["token", "--scope", SCOPE]).ok();
    let last = user.knowing(&recovery, &["vault", "protector", "remove", "recovery", "--json"]).exits(2);
    assert_eq!(kind(&last), "vault_last_protector");
}

#[test]
fn the_desktops_keyring_opens_the_vault_while_it_is_there() {
    let world = World::keyring();
    let in_vault = |args: &[&str]| run(world.command(args).env("TOKENKEEP_STORE", "vault"));
    in_vault(&["vault", "init", "--protector", "keyring", "--no-recovery-key"]).ok();
    in_vault(&["accounts"]).ok();
    let gone =
        run(world.command(&["accounts", "--json"]).env("TOKENKEEP_STORE", "vault").env(NO_BUS.0, NO_BUS.1));
    assert_eq!(kind(&gone.exits(7)), "vault_key_gone");
    let gone = run(world.command(&["accounts"]).env("TOKENKEEP_STORE", "vault").env(NO_BUS.0, NO_BUS.1));
    gone.exits(7).says("keyring");
}

#[test]
fn damaged_empty_newer_and_missing_are_told_apart() {
    let user = User::new();
    let told = || kind(&user.run(&["accounts", "--json"]));
    assert_eq!(told(), "vault_absent");
    user.run(&["vault", "init", "--protector", "key-file"]).ok();
    user.run(&["vault", "backup", user.world.home().join("backup").to_str().unwrap()]).ok();
    std::fs::write(user.vault(), b"not a vault").unwrap();
    user.run(&["accounts"]).exits(6);
    assert_eq!(told(), "vault_damaged");
    std::fs::write(user.vault(), b"").unwrap();
    user.run(&["accounts"]).exits(6);
    assert_eq!(told(), "vault_empty");
    user.run(&["vault", "init", "--protector", "key-file"]).exits(2);

    let backup = user.world.home().join("backup");
    user.run(&["vault", "restore", backup.to_str().unwrap()]).exits(2);
    user.run(&["vault", "restore", backup.to_str().unwrap(), "--yes"]).ok();
    user.run(&["accounts"]).ok();
}

#[test]
fn without_a_desktop_auto_takes_the_vault_and_never_plaintext() {
    let user = User::new();
    let auto = |args: &[&str]| run(user.command(args).env("TOKENKEEP_STORE", "auto"));
    auto(&["accounts"]).exits(7).says("tokenkeep vault init");
    auto(&["vault", "init", "--protector", "key-file"]).ok();
    user.world.emulator.approve(USER_ONE);
    auto(&["login", "--device-code", "--scope", SCOPE]).ok().says("vault");
    auto(&["token", "--scope", SCOPE]).ok();
    assert!(!user.world.cache_file().exists(), "there is a plaintext cache");
}

#[test]
fn nothing_readable_stands_in_the_vault_or_its_log() {
    let user = User::new();
    user.run(&["vault", "init", "--protector", "key-file"]).ok();
    // who has the file open keeps its log from being folded in and removed
    let reader = rusqlite::Connection::open(user.vault()).unwrap();
    reader.query_row("SELECT epoch FROM vault", [], |row| row.get::<_, i64>(0)).unwrap();
    user.signs_in();
    let tokens = user.run(&["token", "--scope", SCOPE, "--json"]).ok().json();
    user.run(&["record", "export", "vault:work"]).ok();
    assert_eq!(user.run(&["record", "list"]).ok().stdout, "work\n");
    user.run(&["token", "--scope", SCOPE, "--record", "vault:work"]).ok();

    let account = &tokens["account"];
    let mut canaries: Vec<String> = [&account["username"], &account["home_account_id"], &tokens["tenant"]]
        .map(|value| value.as_str().unwrap().to_owned())
        .to_vec();
    canaries.extend(
        [CLIENT_AZURE_CLI, SCOPE, "management.azure.com", "RefreshToken", "work", PASSPHRASE]
            .map(str::to_owned),
    );
    canaries.extend(user.world.emulator.secrets().iter().map(|secret| secret.value.clone()));
    let log = user.vault().with_file_name("vault.db-wal");
    assert!(std::fs::metadata(&log).unwrap().len() > 0, "there is no log to look into");
    for path in [user.vault(), log] {
        for canary in &canaries {
            assert!(!stands_in(canary, &path), "{canary} stands in {}", path.display());
        }
    }
    assert!(stands_in("key-file", &user.vault()), "what is not hidden is found");
}

fn stands_in(text: &str, file: &Path) -> bool {
    let bytes = std::fs::read(file).unwrap();
    bytes.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
}

#[test]
fn a_login_moves_into_the_vault_and_back_to_python() {
    let network = PrivateNetwork::with_plaintext("vault-move");
    let record = network.file("record.json").to_str().unwrap().to_owned();
    let login =
        ["--user", USER_ONE, "--client-id", CLIENT_AZURE_CLI, "--scope", SCOPE, "--record-out", &record];
    network.client(python("device_login.py"), &login).ok();
    network.tokenkeep(&["vault", "init", "--protector", "key-file"]).ok();

    let planned =
        network.tokenkeep(&["import", "--from", "plaintext", "--store", "vault", "--dry-run", "--json"]);
    assert!(planned.ok().json()["taken_over"].as_array().unwrap().len() >= 4);
    network.tokenkeep(&["import", "--from", "plaintext", "--store", "vault"]).exits(2);
    let import = ["import", "--from", "plaintext", "--store", "vault", "--yes", "--remove-plaintext"];
    network.tokenkeep(&import).ok().says("solid-state");
    let plaintext = std::fs::read_to_string(network.cache_file()).unwrap_or_default();
    assert!(!plaintext.contains("\"secret\""), "{plaintext}");

    network.forget_requests();
    network.tokenkeep(&["token", "--store", "vault", "--scope", SCOPE]).ok();
    assert_eq!(network.requests("token"), 0);
    network.tokenkeep(&["token", "--store", "vault", "--scope", SCOPE, "--force-refresh"]).ok();

    network.tokenkeep(&["export", "--to", "plaintext", "--store", "vault", "--yes"]).ok();
    network.forget_requests();
    let args = ["--record", &record, "--scope", SCOPE];
    network.client(python("record_token.py"), &args).ok();
    assert_eq!(network.requests("token"), 0);
}

#[test]
fn a_login_in_the_vault_goes_out_to_python_and_node_and_what_they_renew_comes_back() {
    let network = PrivateNetwork::with_plaintext("vault-round-trip");
    let vault = |args: &[&str]| {
        network.tokenkeep(&[args, &["--store", "vault", "--client-id", CLIENT_AZURE_CLI]].concat())
    };
    let out = || vault(&["export", "--to", "plaintext", "--yes"]).ok();
    let back = || vault(&["import", "--from", "plaintext", "--yes"]).ok();
    vault(&["vault", "init", "--protector", "key-file"]).ok();
    network.approve(USER_ONE);
    vault(&["login", "--device-code", "--scope", SCOPE]).ok();
    let record = network.file("record.json").to_str().unwrap().to_owned();
    vault(&["record", "export", &record]).ok();

    // Python finds our access token, and redeems our refresh token for another scope
    out();
    network.forget_requests();
    let python_gets = |scope| {
        network.client(python("record_token.py"), &["--record", &record, "--scope", scope]).ok();
    };
    python_gets(SCOPE);
    assert_eq!(network.requests("token"), 0);
    python_gets(GRAPH);
    assert_eq!(network.requests("token"), 1);

    // its token and the refresh token that it got come back
    back();
    network.forget_requests();
    vault(&["token", "--scope", GRAPH]).ok();
    assert_eq!(network.requests("token"), 0, "Python's access token came back");
    vault(&["token", "--scope", SCOPE, "--force-refresh"]).ok();
    assert_eq!(network.requests("token"), 1, "so did its refresh token");

    // and the same with Node, which begins with what we have renewed
    out();
    network.forget_requests();
    let node_gets = |args: &[&str]| {
        let mut command = node("msal_node.mjs");
        command.arg("token").args(args).args(["--client-id", CLIENT_AZURE_CLI, "--file"]);
        network.inside(command.arg(network.cache_file())).ok().json()
    };
    assert_eq!(node_gets(&["--scope", SCOPE])["from_cache"], true);
    assert_eq!(network.requests("token"), 0);
    assert_eq!(node_gets(&["--scope", GRAPH, "--force-refresh"])["from_cache"], false);
    back();
    network.forget_requests();
    vault(&["token", "--scope", GRAPH]).ok();
    assert_eq!(network.requests("token"), 0, "Node's access token came back");
    vault(&["token", "--scope", SCOPE, "--force-refresh"]).ok();

    let moved = back().output();
    assert!(!moved.contains("secret"), "{moved}");
    let report = vault(&["audit", "--verify", "--json"]).ok().json();
    assert!(report["verified"]["rows"].as_u64().unwrap() > 0);
    let accounts = vault(&["accounts", "--json"]).ok().json();
    assert_eq!(accounts["accounts"].as_array().unwrap().len(), 1, "nobody stands twice: {accounts}");
}

/// What a failure tells: its kind, its message, its exit code.
type Told = (String, String, i32);

#[track_caller]
fn told(run: &Run) -> Told {
    let error = &run.json()["error"];
    let text = |name: &str| error[name].as_str().unwrap_or_else(|| panic!("{run:?}")).to_owned();
    (text("kind"), text("message"), run.code.unwrap())
}

/// One user's vault that only the desktop's keyring opens, at logins with keyrings of all kinds.
fn beside_keyrings() -> [Told; 2] {
    let folder = tempfile::tempdir().unwrap();
    let at_login = |option: Option<&str>, args: &[&str]| {
        let mut session = Command::new(repository().join("tests/support/with-secret-service"));
        session.arg("-d").arg(folder.path()).args(option).arg("--");
        session.arg(env!("CARGO_BIN_EXE_tokenkeep")).args(args).env("TOKENKEEP_STORE", "vault");
        run(&mut session)
    };
    at_login(None, &["vault", "init", "--protector", "keyring", "--no-recovery-key"]).ok();
    at_login(None, &["accounts"]).ok();
    ["-n", "-l"].map(|option| told(&at_login(Some(option), &["accounts", "--json"])))
}

#[test]
fn seven_troubles_have_seven_kinds_seven_messages_and_their_exit_codes() {
    let user = User::new();
    user.knowing(PASSPHRASE, &["vault", "init", "--protector", "passphrase", "--no-recovery-key"]).ok();
    let accounts = ["accounts", "--json"];
    let wrong = told(&user.knowing("a guess", &accounts));
    let refuses = [Answer { question: "Passphrase of the vault: ", typed: "\n" }];
    let refused = told(&converse(&user.command(&accounts), &refuses));

    let whole = std::fs::read(user.vault()).unwrap();
    let put = |content: &[u8]| std::fs::write(user.vault(), content).unwrap();
    put(&whole[..whole.len() / 2]);
    let damaged = told(&user.knowing(PASSPHRASE, &accounts));
    put(b"");
    let empty = told(&user.knowing(PASSPHRASE, &accounts));
    put(&whole);
    let database = rusqlite::Connection::open(user.vault()).unwrap();
    database.execute_batch("UPDATE vault SET format = 99; PRAGMA user_version = 99").unwrap();
    database.close().unwrap();
    let newer = told(&user.knowing(PASSPHRASE, &accounts));
    put(&whole);
    user.knowing(PASSPHRASE, &accounts).ok();

    let [gone, locked] = beside_keyrings();
    let all = [wrong, refused, damaged, empty, newer, gone, locked];
    let expected = [
        ("vault_wrong_secret", 7),
        ("vault_prompt_refused", 7),
        ("vault_damaged", 6),
        ("vault_empty", 6),
        ("vault_newer_format", 6),
        ("vault_key_gone", 7),
        ("vault_keyring_locked", 7),
    ];
    for (at, ((kind, message, code), expected)) in all.iter().zip(expected).enumerate() {
        assert_eq!((kind.as_str(), *code), expected, "{message}");
        assert!(all[..at].iter().all(|(_, other, _)| other != message), "{message}");
    }
}

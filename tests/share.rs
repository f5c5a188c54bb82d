//! One login in the caches of several tools: the real clients use it, each in its own place, and
//! what happens to it in one place reaches the others.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use emulator::{CLIENT_APP, CLIENT_AZURE_CLI, CLIENT_VISUAL_STUDIO, USER_ONE, USER_TWO};
use serde_json::{Value, json};

use crate::support::{GRAPH, PrivateNetwork, Run, SCOPE, azure_cli, node, on_a_terminal, python};

/// Each is asked for once, so that every request needs the refresh token.
const FRESH: [&str; 8] = [
    "https://vault.azure.net/.default",
    "https://storage.azure.com/.default",
    "https://database.windows.net/.default",
    "https://servicebus.azure.net/.default",
    "https://eventhubs.azure.net/.default",
    "https://graph.microsoft.com/Mail.Read",
    "https://graph.microsoft.com/Files.Read",
    "https://search.azure.com/.default",
];

/// Python's item, which is ours.
fn pythons(network: &PrivateNetwork) -> Value {
    item(network, &["xdg:schema=msal.cache.nocae", "MsalClientID=Microsoft.Developer.IdentityService"])
}

/// Node's one item.
fn nodes(network: &PrivateNetwork) -> Value {
    item(
        network,
        &[
            "xdg:schema=org.freedesktop.Secret.Generic",
            "service=Microsoft.Developer.IdentityService",
            "account=MSALCache",
        ],
    )
}

/// The one item of .NET, PowerShell and Git Credential Manager, base64 taken off.
fn dotnets(network: &PrivateNetwork) -> Value {
    item(
        network,
        &[
            "xdg:schema=msal.cache",
            "MsalClientID=Microsoft.Developer.IdentityService",
            "Microsoft.Developer.IdentityService=1.0.0.0",
        ],
    )
}

fn item(network: &PrivateNetwork, attributes: &[&str]) -> Value {
    let answer = network.keyring().ctl(&[&["item"], attributes].concat()).ok();
    serde_json::from_str(&answer.stdout).unwrap_or_else(|_| {
        let bytes = base64(&answer.stdout);
        serde_json::from_slice(&bytes).unwrap()
    })
}

fn base64(text: &str) -> Vec<u8> {
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for c in text.trim().trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

fn entries<'a>(document: &'a Value, section: &str) -> Vec<&'a Value> {
    document[section].as_object().into_iter().flatten().map(|(_, entry)| entry).collect()
}

/// One refresh token and one metadata per client, one ID token per client and realm, one account
/// per realm, whatever the names of the public cloud and of the home tenant.
fn assert_no_twins(document: &Value) {
    for (section, fields) in [
        ("RefreshToken", &["home_account_id", "client_id"][..]),
        ("AppMetadata", &["client_id"]),
        ("IdToken", &["home_account_id", "client_id", "realm"]),
        ("Account", &["home_account_id", "realm"]),
    ] {
        let mut counted: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for entry in entries(document, section) {
            let home = entry["home_account_id"].as_str().unwrap_or_default();
            let value = |field: &&str| match entry[*field].as_str().unwrap_or_default() {
                "organizations" | "common" => {
                    home.split_once('.').map_or("", |(_, tenant)| tenant).to_owned()
                }
                other => other.to_owned(),
            };
            *counted.entry(fields.iter().map(value).collect()).or_default() += 1;
        }
        let twins: Vec<_> = counted.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twins.is_empty(), "{section}: {twins:?}\n{document:#}");
    }
}

fn our_login(network: &PrivateNetwork, user: &str, client: &str) {
    network.approve(user);
    network.tokenkeep(&["login", "--device-code", "--client-id", client, "--scope", SCOPE]).ok();
}

/// The record by which programs find the account.
fn record(network: &PrivateNetwork) -> String {
    let file = network.file("record.json").to_str().unwrap().to_owned();
    network.tokenkeep(&["record", "export", &file]).ok();
    file
}

fn node_token(network: &PrivateNetwork, record: &str, scope: &str) -> Run {
    let mut command = node("azure_identity.mjs");
    command.args(["token", "--record", record, "--scope", scope]);
    network.inside(&command)
}

fn python_token(network: &PrivateNetwork, record: &str, scope: &str) -> Run {
    network.client(python("record_token.py"), &["--record", record, "--scope", scope])
}

fn refresh_secret(document: &Value) -> String {
    let tokens = entries(document, "RefreshToken");
    assert_eq!(tokens.len(), 1, "{document:#}");
    tokens[0]["secret"].as_str().unwrap().to_owned()
}

#[test]
fn our_login_lets_node_in_and_both_go_on() {
    let network = PrivateNetwork::with_default_names();
    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    let record = record(&network);
    assert_eq!(node_token(&network, &record, SCOPE).exits(3).json()["error"], "AuthenticationRequiredError");

    let shared = network.tokenkeep(&["share", "--to", "node", "--yes", "--json"]).ok().json();
    assert_eq!(shared["targets"][0]["state"], "shared", "{shared:#}");
    assert_eq!(shared["targets"][0]["encrypted"], true);
    assert!(entries(&nodes(&network), "AccessToken").is_empty(), "those stay where they are");
    network.forget_requests();
    node_token(&network, &record, GRAPH).ok();
    assert_eq!((network.requests("token"), network.requests("devicecode")), (1, 0));
    for scopes in FRESH.chunks(2) {
        node_token(&network, &record, scopes[0]).ok();
        network.tokenkeep(&["token", "--force-refresh", "--scope", SCOPE]).ok();
        python_token(&network, &record, scopes[1]).ok();
        assert_no_twins(&nodes(&network));
        assert_no_twins(&pythons(&network));
    }
    assert_eq!(network.requests("devicecode"), 0);

    // once more: nothing to do, nothing changed
    let before = (nodes(&network), pythons(&network));
    let again = network.tokenkeep(&["share", "--to", "node,python", "--yes", "--json"]).ok().json();
    assert_eq!(again["targets"][1]["state"], "same_place");
    let ours = pythons(&network);
    assert_eq!(ours, before.1);
    network.tokenkeep(&["share", "--to", "node", "--yes"]).ok();
    assert_no_twins(&nodes(&network));
}

#[test]
fn nodes_own_login_reaches_python_through_us() {
    let network = PrivateNetwork::with_default_names();
    let record = network.file("node-record.json").to_str().unwrap().to_owned();
    let mut login = node("azure_identity.mjs");
    login.args(["login", "--user", USER_ONE, "--scope", SCOPE, "--record-out", &record]);
    network.inside(&login).ok();
    python_token(&network, &record, SCOPE).exits(3);

    network.tokenkeep(&["share", "--from", "node", "--to", "python", "--yes"]).ok();
    network.forget_requests();
    for scopes in FRESH.chunks(2) {
        python_token(&network, &record, scopes[0]).ok();
        node_token(&network, &record, scopes[1]).ok();
        network.tokenkeep(&["token", "--force-refresh", "--scope", SCOPE]).ok();
        assert_no_twins(&nodes(&network));
        assert_no_twins(&pythons(&network));
    }
    assert_eq!(network.requests("devicecode"), 0);
    let shared = network.client(python("shared_token.py"), &["--username", USER_ONE, "--scope", GRAPH]);
    shared.ok();
}

#[test]
fn a_family_token_serves_another_client_of_the_family() {
    let network = PrivateNetwork::with_default_names();
    our_login(&network, USER_ONE, CLIENT_VISUAL_STUDIO);
    let record = record(&network);
    network.tokenkeep(&["share", "--to", "node,dotnet,az-powershell", "--yes"]).ok();
    for client in [CLIENT_VISUAL_STUDIO, CLIENT_AZURE_CLI] {
        let mut command = node("azure_identity.mjs");
        command.args(["token", "--record", &record, "--client-id", client, "--scope", GRAPH]);
        network.inside(&command).ok();
    }
    let dotnet = dotnets(&network);
    assert_eq!(entries(&dotnet, "RefreshToken").len(), 1, "one for the family");
    assert_eq!(entries(&dotnet, "AppMetadata").len(), 3, "PowerShell's client, too, in the same item");
    for section in ["RefreshToken", "IdToken", "Account", "AppMetadata"] {
        for entry in entries(&dotnet, section) {
            assert!(entry.as_object().unwrap().values().all(Value::is_string), "{entry:#}");
            assert_eq!(entry["environment"], "login.windows.net");
        }
    }
}

#[test]
fn what_cannot_be_shared_is_refused_with_the_reason_and_nothing_is_written() {
    let network = PrivateNetwork::with_default_names();
    let share = |args: &[&str]| network.tokenkeep(&[&["share", "--yes"], args].concat());
    share(&["--to", "node"]).exits(4);
    our_login(&network, USER_ONE, CLIENT_APP);
    let azure = network.home().join(".azure/msal_token_cache.json");
    for (to, reason) in [
        ("az-powershell", "in no family"),
        ("node,gcm", "in no family"),
        ("gcm-app", "no person's sign-in"),
        ("go", "a key that it makes itself"),
    ] {
        let refused = share(&["--to", to]).exits(2);
        assert!(refused.stderr.contains(reason) && refused.stderr.contains("hint: "), "{to}: {refused:?}");
    }
    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    let refused = share(&["--to", "node,graph-powershell"]).exits(2);
    assert!(refused.stderr.contains("not known to be in the family"), "{}", refused.stderr);
    assert!(refused.stderr.contains("Connect-MgGraph"), "{}", refused.stderr);

    let refused = share(&["--to", "node,az", "--json"]).exits(2).json();
    assert_eq!(refused["error"]["kind"], "not_shareable");
    assert!(refused["error"]["hint"].as_str().unwrap().contains("--allow-plaintext"), "{refused:#}");
    assert!(!azure.exists());
    network.tokenkeep(&["share", "--to", "node"]).exits(2);
    let planned = network.tokenkeep(&["share", "--to", "node,az", "--dry-run", "--json"]).ok().json();
    let states: Vec<_> = (0..2).map(|number| planned["targets"][number]["state"].clone()).collect();
    assert_eq!(states, ["would_be_shared", "refused"]);
    assert_eq!(network.keyring().ctl(&["count", "account=MSALCache"]).ok().stdout.trim(), "0");
}

#[test]
fn what_is_known_to_be_dead_is_not_shared_though_somebody_wrote_it_back() {
    let network = PrivateNetwork::with_plaintext("dead-share");
    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    let stale = std::fs::read(network.cache_file()).unwrap();
    network.control("change-password", Some(json!({"user": USER_ONE})));
    network.tokenkeep(&["token", "--force-refresh", "--scope", SCOPE]).exits(3);
    std::fs::write(network.cache_file(), stale).unwrap();
    network.forget_requests();

    let share = ["share", "--to", "az", "--yes", "--json"];
    let refused = network.tokenkeep(&share).exits(3).json();
    assert_eq!(refused["error"]["kind"], "not_shareable");
    assert!(refused["error"]["message"].as_str().unwrap().contains("AADSTS50173"), "{refused:#}");
    assert!(!network.home().join(".azure").exists());
    assert_eq!(network.requests("token"), 0, "the provider was not asked");

    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    network.tokenkeep(&share).ok();
}

#[test]
fn the_azure_cli_has_it_if_plaintext_is_said_to_be_all_right() {
    let network = PrivateNetwork::with_default_names();
    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    our_login(&network, USER_TWO, CLIENT_AZURE_CLI);
    let az = |scope: &str| network.inside(&azure_cli(&["token", "--username", USER_ONE, "--scope", scope]));
    let refused = az(SCOPE).exits(3).json();
    assert!(refused["message"].as_str().unwrap().contains("az login"), "{refused}");
    let share = ["share", "--account", USER_ONE, "--to", "az", "--yes", "--allow-plaintext"];
    let shared = network.tokenkeep(&share).ok();
    assert!(shared.stderr.contains("az login"), "it is told what else az needs: {}", shared.stderr);
    let file = network.home().join(".azure/msal_token_cache.json");
    let document = || -> Value { serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap() };
    assert_eq!(entries(&document(), "RefreshToken").len(), 1, "one person's");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    network.forget_requests();
    for scope in FRESH {
        az(scope).ok();
        az(scope).ok();
        assert_no_twins(&document());
    }
    assert_eq!((network.requests("token"), network.requests("devicecode")), (FRESH.len(), 0));
    network.tokenkeep(&["token", "--account", USER_ONE, "--force-refresh", "--scope", SCOPE]).ok();

    // whichever is the later one by now
    network.tokenkeep(&share).ok();
    assert_no_twins(&document());
    az(GRAPH).ok();
    assert_eq!(network.requests("devicecode"), 0);
}

#[test]
fn the_azure_clis_own_login_reaches_the_others_and_none_of_ours_spoils_it() {
    let network = PrivateNetwork::with_default_names();
    network.approve(USER_ONE);
    network.inside(&azure_cli(&["login", "--username", USER_ONE])).ok();
    network.tokenkeep(&["share", "--from", "az", "--to", "tokenkeep,node", "--yes"]).ok();
    let record = record(&network);
    network.forget_requests();
    for scopes in FRESH.chunks(2) {
        network.inside(&azure_cli(&["token", "--username", USER_ONE, "--scope", scopes[0]])).ok();
        node_token(&network, &record, scopes[1]).ok();
        network.tokenkeep(&["token", "--force-refresh", "--scope", SCOPE]).ok();
    }
    assert_eq!(network.requests("devicecode"), 0);
    assert_no_twins(&nodes(&network));
    assert_no_twins(&pythons(&network));
}

#[test]
fn on_a_terminal_it_asks_once_and_says_what_is_not_encrypted() {
    let network = PrivateNetwork::with_default_names();
    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    let share =
        |to: &str, answer: &str| on_a_terminal(&network.tokenkeep_command(&["share", "--to", to]), answer);
    let file = network.home().join(".azure/msal_token_cache.json");
    for answer in ["\n", "n\n"] {
        let asked = share("node,az", answer).exits(1);
        assert!(asked.stdout.contains("NOT encrypted") && asked.stdout.contains("[y/N]"), "{}", asked.stdout);
        assert!(!file.exists());
    }
    share("node,az", "y\n").ok();
    assert!(file.exists());
    let asked = share("dotnet", "\n").ok();
    assert!(asked.stdout.contains("[Y/n]") && !asked.stdout.contains("NOT"), "{}", asked.stdout);
    assert_eq!(entries(&dotnets(&network), "RefreshToken").len(), 1);
}

/// `tokenkeep share --follow`, as long as it is kept.
struct Follower {
    child: Child,
    events: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(network: &PrivateNetwork, args: &[&str]) -> Self {
        let args = [&["share", "--follow", "--yes", "--json"], args].concat();
        let mut command = network.tokenkeep_command(&args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut follower = Self { child, events };
        follower.wait_for("following");
        follower
    }

    /// The next event, which must be of this kind.
    fn wait_for(&mut self, event: &str) -> Value {
        let line = self.events.next().unwrap_or_else(|| panic!("it ended, waiting for {event}")).unwrap();
        let found: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(found["event"], event, "{found:#}");
        found
    }

    /// The next event but for this kind, which may come or not.
    fn wait_past(&mut self, ignored: &str, event: &str) {
        loop {
            let line = self.events.next().unwrap_or_else(|| panic!("it ended, waiting for {event}")).unwrap();
            let found: Value = serde_json::from_str(&line).unwrap();
            if found["event"] != ignored {
                assert_eq!(found["event"], event, "{found:#}");
                return;
            }
        }
    }

    fn end(mut self) {
        let pid = self.child.id().to_string();
        std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let rest: Vec<String> = self.events.by_ref().map(Result::unwrap).collect();
        assert_eq!(rest, [""; 0], "nothing more was said");
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_rotated_token_is_carried_over_even_where_the_old_one_is_worth_nothing_more() {
    let network = PrivateNetwork::with_default_names();
    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    let record = record(&network);
    network.control("settings", Some(json!({"invalidate_rotated_refresh_tokens": true})));
    let mut follower = Follower::start(&network, &["--to", "node"]);
    for scopes in FRESH.chunks(2) {
        node_token(&network, &record, scopes[0]).ok();
        follower.wait_for("carried");
        assert_eq!(refresh_secret(&nodes(&network)), refresh_secret(&pythons(&network)));
        network.tokenkeep(&["token", "--force-refresh", "--scope", SCOPE]).ok();
        follower.wait_for("carried");
        assert_eq!(refresh_secret(&nodes(&network)), refresh_secret(&pythons(&network)));
        python_token(&network, &record, scopes[1]).ok();
        follower.wait_for("carried");
        assert_no_twins(&nodes(&network));
        assert_no_twins(&pythons(&network));
    }
    follower.end();
}

#[test]
fn who_signs_out_in_one_place_stays_out_there_and_in_elsewhere() {
    let network = PrivateNetwork::with_default_names();
    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    let record = record(&network);
    let mut follower = Follower::start(&network, &["--to", "node"]);
    let mut remove = node("msal_node.mjs");
    remove.args(["remove", "--cache", "msal.cache.nocae"]);
    network.inside(&remove).ok();
    let out = follower.wait_for("signed_out");
    assert!(out["cache"].as_str().unwrap().contains("JavaScript"), "{out:#}");
    // a new refresh token here is no reason
    network.tokenkeep(&["token", "--force-refresh", "--scope", SCOPE]).ok();
    follower.end();
    assert!(entries(&nodes(&network), "Account").is_empty());
    node_token(&network, &record, GRAPH).exits(3);

    // nor is a new start
    let follower = Follower::start(&network, &["--to", "node"]);
    follower.end();
    node_token(&network, &record, GRAPH).exits(3);
    python_token(&network, &record, GRAPH).ok();

    // but the person's word is
    network.tokenkeep(&["share", "--to", "node", "--yes"]).ok();
    node_token(&network, &record, GRAPH).ok();
}

#[test]
fn a_new_sign_in_reaches_every_place_where_the_person_still_is() {
    let network = PrivateNetwork::with_default_names();
    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    let record = record(&network);
    let mut follower = Follower::start(&network, &["--to", "node,dotnet"]);
    network.control("change-password", Some(json!({"user": USER_ONE})));
    let failed = node_token(&network, &record, GRAPH);
    assert_ne!(failed.code, Some(0), "the old grant is dead");
    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    follower.wait_for("carried");
    follower.wait_for("carried");
    node_token(&network, &record, GRAPH).ok();
    follower.wait_for("carried");
    follower.wait_for("carried");
    follower.end();
    assert_no_twins(&nodes(&network));
    assert_no_twins(&dotnets(&network));
}

#[test]
fn a_dead_grant_leaves_every_place_and_one_sign_in_mends_them_all() {
    let network = PrivateNetwork::with_default_names();
    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    our_login(&network, USER_TWO, CLIENT_AZURE_CLI);
    let mut follower = Follower::start(&network, &["--account", USER_ONE, "--to", "node,dotnet"]);
    network.control("change-password", Some(json!({"user": USER_ONE})));
    let refresh = ["token", "--account", USER_ONE, "--force-refresh", "--scope", SCOPE];
    network.tokenkeep(&refresh).exits(3);
    for _ in 0..3 {
        follower.wait_past("cleared", "removed");
    }
    let left = |document: &Value| -> Vec<String> {
        let tokens = entries(document, "RefreshToken").into_iter();
        tokens.map(|token| token["home_account_id"].as_str().unwrap()[..8].to_owned()).collect()
    };
    assert_eq!(left(&pythons(&network)), ["bbbbbbbb"], "the other person's stays");
    assert_eq!((left(&nodes(&network)).len(), left(&dotnets(&network)).len()), (0, 0));

    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    follower.wait_past("cleared", "carried");
    follower.wait_past("cleared", "carried");
    follower.end();
    assert_eq!((left(&nodes(&network)).len(), left(&dotnets(&network)).len()), (1, 1));
    let record = network.file("one.json").to_str().unwrap().to_owned();
    network.tokenkeep(&["record", "export", &record, "--account", USER_ONE]).ok();
    node_token(&network, &record, GRAPH).ok();
    assert_no_twins(&nodes(&network));
}

#[test]
fn who_is_killed_goes_on_where_it_was() {
    let network = PrivateNetwork::with_default_names();
    our_login(&network, USER_ONE, CLIENT_AZURE_CLI);
    let record = record(&network);
    drop(Follower::start(&network, &["--to", "node"]));
    let seconds = |value: &Value| value.as_str().unwrap_or_default().parse::<u64>().unwrap_or_default();
    let ours = seconds(&entries(&pythons(&network), "RefreshToken")[0]["last_modification_time"]);
    // until it is later by the second that caches count in
    for scope in FRESH {
        node_token(&network, &record, scope).ok();
        let nodes = nodes(&network);
        if entries(&nodes, "AccessToken").iter().any(|token| seconds(&token["cached_at"]) > ours) {
            break;
        }
    }
    let mut follower = Follower::start(&network, &["--to", "node"]);
    follower.wait_for("carried");
    assert_eq!(refresh_secret(&nodes(&network)), refresh_secret(&pythons(&network)));
    follower.end();
}

//! One login for tokenkeep and the real azure-identity for Python, in both directions.

use std::collections::BTreeMap;

use emulator::{CLIENT_APP, CLIENT_AZURE_CLI, USER_ONE};
use serde_json::Value;

use crate::support::{GRAPH, PrivateNetwork, SCOPE, python};

/// The cache as it rests: the keyring's item, or the file.
fn document(network: &PrivateNetwork, keyring: bool) -> Value {
    if !keyring {
        return serde_json::from_slice(&std::fs::read(network.cache_file()).unwrap()).unwrap();
    }
    let schema = format!("xdg:schema={}.nocae", network.cache);
    let item = network.keyring().ctl(&["item", &schema, "MsalClientID=Microsoft.Developer.IdentityService"]);
    item.ok().json()
}

/// No entry stands twice under two names: one refresh token and one app metadata per client, one
/// ID token and one account per realm, where all names of the public cloud are one environment and
/// `organizations` is the home tenant (spec S-C 1.5). Twins that Python makes of its own entries, of
/// clients that we have not touched since, are its own affair.
fn assert_no_twins(document: &Value, client: &str) {
    let per_client = ["client_id"];
    let per_realm = ["home_account_id", "client_id", "realm"];
    for (section, fields) in [
        ("RefreshToken", &per_client[..]),
        ("AppMetadata", &per_client[..]),
        ("IdToken", &per_realm[..]),
        ("Account", &per_realm[..]),
    ] {
        let mut counted: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for entry in document[section].as_object().unwrap().values() {
            if entry.get("client_id").is_some_and(|id| id != client) {
                continue;
            }
            let home = entry["home_account_id"].as_str().unwrap_or_default();
            let home_tenant = home.split_once('.').map_or("", |(_, tenant)| tenant);
            let value = |field: &&str| match entry[*field].as_str().unwrap_or_default() {
                "organizations" | "common" => home_tenant.to_owned(),
                other => other.to_owned(),
            };
            *counted.entry(fields.iter().map(value).collect()).or_default() += 1;
        }
        assert!(!counted.is_empty(), "{section} is empty");
        let twins: Vec<_> = counted.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twins.is_empty(), "{section}: {twins:?}");
    }
}

fn tokenkeep_logs_in(network: &PrivateNetwork, client: &str) -> String {
    let record = network.file("record.json").to_str().unwrap().to_owned();
    network.approve(USER_ONE);
    network
        .tokenkeep(&[
            "login",
            "--device-code",
            "--client-id",
            client,
            "--scope",
            SCOPE,
            "--record-out",
            &record,
        ])
        .ok();
    record
}

fn python_logs_in(network: &PrivateNetwork, client: &str) -> String {
    let record = network.file("python-record.json").to_str().unwrap().to_owned();
    let args = ["--user", USER_ONE, "--client-id", client, "--scope", SCOPE, "--record-out", &record];
    network.client(python("device_login.py"), &args).ok();
    record
}

/// Our login serves Python: by the exported record, and through the shared cache; both keep working
/// after each side has refreshed, and nothing stands twice.
fn our_login_serves_python(network: &PrivateNetwork, keyring: bool) {
    let record = tokenkeep_logs_in(network, CLIENT_AZURE_CLI);
    network.forget_requests();
    let by_record = ["--record", &record, "--scope", SCOPE];
    network.client(python("record_token.py"), &by_record).ok();
    assert_eq!(network.requests("token"), 0, "Python found our access token");
    network.client(python("shared_token.py"), &["--username", USER_ONE, "--scope", SCOPE]).ok();
    assert_no_twins(&document(network, keyring), CLIENT_AZURE_CLI);

    for _ in 0..2 {
        // A new scope each time, so that each side has to redeem the other's refresh token.
        network.client(python("record_token.py"), &["--record", &record, "--scope", GRAPH]).ok();
        network.tokenkeep(&["token", "--force-refresh", "--scope", SCOPE]).ok();
        assert_no_twins(&document(network, keyring), CLIENT_AZURE_CLI);
        network.tokenkeep(&["token", "--record", &record, "--force-refresh", "--scope", GRAPH]).ok();
    }
    let vault = "https://vault.azure.net/.default";
    network.client(python("record_token.py"), &["--record", &record, "--scope", vault]).ok();
    network.client(python("shared_token.py"), &["--scope", GRAPH]).ok();
    network.tokenkeep(&["token", "--scope", vault]).ok();
    network.tokenkeep(&["token", "--force-refresh", "--scope", SCOPE]).ok();
    assert_no_twins(&document(network, keyring), CLIENT_AZURE_CLI);
}

/// Python's login serves us, by its record and without one.
fn pythons_login_serves_us(network: &PrivateNetwork, keyring: bool) {
    for client in [CLIENT_AZURE_CLI, CLIENT_APP] {
        let record = python_logs_in(network, client);
        network.forget_requests();
        let ours = network.tokenkeep(&["token", "--record", &record, "--scope", SCOPE, "--json"]).ok().json();
        assert_eq!(ours["source"], "cache");
        assert_eq!(ours["account"]["username"], USER_ONE);
        let plain = ["token", "--client-id", client, "--scope", SCOPE, "--json"];
        assert_eq!(network.tokenkeep(&plain).ok().json()["source"], "cache");
        assert_eq!(network.requests(""), 0);

        network.tokenkeep(&["token", "--client-id", client, "--scope", SCOPE, "--force-refresh"]).ok();
        assert_no_twins(&document(network, keyring), client);
        network.forget_requests();
        network.client(python("record_token.py"), &["--record", &record, "--scope", GRAPH]).ok();
        assert_eq!(network.requests("token"), 1, "by the refresh token that we rotated in");
    }
}

/// After our logout Python finds nobody, whoever signed in.
fn our_logout_is_pythons_too(network: &PrivateNetwork, keyring: bool) {
    let ours = tokenkeep_logs_in(network, CLIENT_AZURE_CLI);
    let pythons = python_logs_in(network, CLIENT_APP);
    network.tokenkeep(&["logout", "--account", USER_ONE]).ok();
    for record in [ours, pythons] {
        let answer = network.client(python("record_token.py"), &["--record", &record, "--scope", SCOPE]);
        assert_eq!(answer.exits(3).json()["error"], "AuthenticationRequiredError");
    }
    network.client(python("shared_token.py"), &["--scope", SCOPE]).exits(4);
    let text = document(network, keyring).to_string();
    assert!(!text.contains(USER_ONE) && !text.contains("CANARY"), "{text}");
}

#[test]
fn our_login_in_the_keyring_serves_python() {
    our_login_serves_python(&PrivateNetwork::with_keyring("ours"), true);
}

#[test]
fn our_login_in_a_file_serves_python() {
    our_login_serves_python(&PrivateNetwork::with_plaintext("ours-plain"), false);
}

#[test]
fn pythons_login_in_the_keyring_serves_us() {
    pythons_login_serves_us(&PrivateNetwork::with_keyring("pythons"), true);
}

#[test]
fn pythons_login_in_a_file_serves_us() {
    pythons_login_serves_us(&PrivateNetwork::with_plaintext("pythons-plain"), false);
}

#[test]
fn our_logout_from_the_keyring_is_pythons_too() {
    our_logout_is_pythons_too(&PrivateNetwork::with_keyring("logout"), true);
}

#[test]
fn our_logout_from_a_file_is_pythons_too() {
    our_logout_is_pythons_too(&PrivateNetwork::with_plaintext("logout-plain"), false);
}

#[test]
fn python_asks_again_after_a_password_change_and_we_leave_it_a_clean_cache() {
    let network = PrivateNetwork::with_keyring("password");
    let record = python_logs_in(&network, CLIENT_AZURE_CLI);
    network.control("change-password", Some(serde_json::json!({ "user": USER_ONE })));
    let ours = network.tokenkeep(&["token", "--force-refresh", "--scope", SCOPE, "--json"]).exits(3).json();
    assert_eq!(ours["error"]["code"], "AADSTS50173");
    assert_eq!(ours["error"]["removed"].as_array().unwrap().len(), 1);
    let document = document(&network, true);
    assert!(document["RefreshToken"].as_object().unwrap().is_empty());
    assert_eq!(document["AccessToken"].as_object().unwrap().len(), 1, "good until it expires");

    // Python says "sign in" without sending the dead token once more.
    network.forget_requests();
    let args = ["--record", &record, "--scope", GRAPH];
    network.client(python("record_token.py"), &args).exits(3);
    assert_eq!(network.requests("token"), 0);
    python_logs_in(&network, CLIENT_AZURE_CLI);
    network.tokenkeep(&["token", "--scope", GRAPH]).ok();
}

#[test]
fn the_two_libraries_keep_continuous_access_evaluation_apart_in_the_same_way() {
    let network = PrivateNetwork::with_keyring("cae");
    network.approve(USER_ONE);
    network.tokenkeep(&["login", "--device-code", "--enable-cae", "--scope", SCOPE]).ok();
    network.tokenkeep(&["token", "--scope", SCOPE]).exits(4);
    network.client(python("shared_token.py"), &["--scope", SCOPE]).exits(4);
    network.tokenkeep(&["token", "--enable-cae", "--scope", SCOPE]).ok();
    network.client(python("shared_token.py"), &["--scope", SCOPE, "--cae"]).ok();
}

#[test]
fn the_keyring_holds_exactly_pythons_item() {
    let network = PrivateNetwork::with_keyring("item");
    tokenkeep_logs_in(&network, CLIENT_AZURE_CLI);
    let schema = format!("xdg:schema={}.nocae", network.cache);
    let ctl = |args: &[&str]| network.keyring().ctl(args).ok();
    let count = |attributes: &[&str]| ctl(&[&["count"], attributes].concat()).stdout.trim().to_owned();
    assert_eq!(count(&[&schema]), "1");
    python_logs_in(&network, CLIENT_AZURE_CLI);
    assert_eq!(count(&[&schema]), "1", "Python replaced our item instead of adding one");
    tokenkeep_logs_in(&network, CLIENT_AZURE_CLI);
    assert_eq!(count(&[&schema]), "1");
    let dump: Value = ctl(&["dump"]).json();
    assert!(dump.to_string().contains("\"MSALCache\""));
}

//! One login for tokenkeep and the real @azure/msal-node, which share the plaintext file.

use emulator::{CLIENT_APP, USER_ONE};
use serde_json::Value;

use crate::support::{GRAPH, PrivateNetwork, Run, SCOPE, node};

fn msal_node(network: &PrivateNetwork, args: &[&str]) -> Run {
    let mut command = node("msal_node.mjs");
    command.args(args).args(["--client-id", CLIENT_APP]).arg("--file").arg(network.cache_file());
    network.inside(&command)
}

fn tokenkeep(network: &PrivateNetwork, args: &[&str]) -> Run {
    network.tokenkeep(&[args, &["--client-id", CLIENT_APP, "--scope", SCOPE]].concat())
}

fn entries(network: &PrivateNetwork, section: &str) -> usize {
    let document: Value = serde_json::from_slice(&std::fs::read(network.cache_file()).unwrap()).unwrap();
    document[section].as_object().map_or(0, serde_json::Map::len)
}

#[test]
fn our_login_serves_node_and_each_side_refreshes_after_the_other() {
    let network = PrivateNetwork::with_plaintext("node-ours");
    network.approve(USER_ONE);
    tokenkeep(&network, &["login", "--device-code"]).ok();
    network.forget_requests();

    let accounts = msal_node(&network, &["accounts"]).ok().json();
    assert_eq!(accounts["accounts"][0]["username"], USER_ONE);
    let token = msal_node(&network, &["token", "--scope", SCOPE]).ok().json();
    assert_eq!(token["from_cache"], true, "Node found our access token");
    assert_eq!(network.requests("token"), 0);

    for _ in 0..2 {
        let token = msal_node(&network, &["token", "--scope", GRAPH, "--force-refresh"]).ok().json();
        assert_eq!(token["from_cache"], false);
        tokenkeep(&network, &["token", "--force-refresh"]).ok();
        for section in ["RefreshToken", "IdToken", "Account", "AppMetadata"] {
            assert_eq!(entries(&network, section), 1, "{section}: ours leaves no twin");
        }
    }
}

#[test]
fn nodes_login_serves_us() {
    let network = PrivateNetwork::with_plaintext("node-theirs");
    std::fs::create_dir(network.cache_file().parent().unwrap()).unwrap();
    msal_node(&network, &["login", "--user", USER_ONE, "--scope", SCOPE]).ok();
    network.forget_requests();
    let ours = tokenkeep(&network, &["token", "--json"]).ok().json();
    assert_eq!((&ours["source"], &ours["account"]["username"]), (&"cache".into(), &USER_ONE.into()));
    assert_eq!(network.requests(""), 0);

    tokenkeep(&network, &["token", "--force-refresh"]).ok();
    msal_node(&network, &["token", "--scope", GRAPH, "--force-refresh"]).ok();
    tokenkeep(&network, &["token", "--force-refresh"]).ok();
    msal_node(&network, &["token", "--scope", SCOPE]).ok();
}

#[test]
fn our_logout_is_nodes_too() {
    let network = PrivateNetwork::with_plaintext("node-logout");
    std::fs::create_dir(network.cache_file().parent().unwrap()).unwrap();
    msal_node(&network, &["login", "--user", USER_ONE, "--scope", SCOPE]).ok();
    tokenkeep(&network, &["token", "--force-refresh"]).ok();
    network.tokenkeep(&["logout", "--account", USER_ONE]).ok();
    assert_eq!(msal_node(&network, &["accounts"]).ok().json()["accounts"], serde_json::json!([]));
    for section in ["RefreshToken", "AccessToken", "IdToken", "Account"] {
        assert_eq!(entries(&network, section), 0, "{section}");
    }
}

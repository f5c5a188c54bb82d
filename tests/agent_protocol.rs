//! What `docs/agent-protocol.md` tells people to type works as it stands there.

use std::process::Command;
use std::time::Duration;

use emulator::USER_ONE;
use secrecy::SecretString;
use serde_json::Value;
use tokenkeep::TokenCachePersistenceOptions;
use tokenkeep::document::{Change, ChangeSet, IssuedAccount, IssuedTokens, Origin};
use tokenkeep::store;
use tokenkeep::time::{Clock as _, Deadline, SystemClock};

use crate::support::{Agent, SCOPE, World, run, tokenkeep_in};

const DOCUMENT: &str = include_str!("../docs/agent-protocol.md");
const CLIENT: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
const TENANT: &str = "11111111-1111-4111-8111-111111111111";

/// The commands of the document, in order.
fn commands() -> Vec<&'static str> {
    let blocks = DOCUMENT.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect()
}

/// A login of the document's user at the public cloud, in the default cache of the default store.
fn signed_in() -> ChangeSet {
    let now = SystemClock.now();
    let expires_on = now.after(Duration::from_secs(4_899));
    ChangeSet::of(Change::Save(Box::new(IssuedTokens {
        home_account_id: format!("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa.{TENANT}"),
        host: "login.microsoftonline.com".to_owned(),
        client_id: CLIENT.to_owned(),
        requested_tenant: TENANT.to_owned(),
        token_tenant: Some(TENANT.to_owned()),
        access_token: SecretString::from("a-token-of-the-document"),
        scopes: vec![SCOPE.to_owned()],
        token_type: "Bearer".to_owned(),
        issued_at: now,
        expires_on,
        extended_expires_on: expires_on,
        refresh_on: None,
        refresh_token: Some(SecretString::from("a-refresh-token")),
        family_id: Some("1".to_owned()),
        id_token: None,
        account: Some(IssuedAccount {
            local_account_id: "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa".to_owned(),
            username: Some(USER_ONE.to_owned()),
            name: None,
            authority_type: "MSSTS",
            client_info: None,
        }),
        origin: Origin::SignIn { grant_type: "authorization_code" },
    })))
}

#[test]
fn the_commands_of_the_document_work_as_they_stand_there() {
    let world = World::vault();
    let without_desktop = |mut command: Command| {
        command.env("DBUS_SESSION_BUS_ADDRESS", crate::support::NO_BUS);
        command
    };
    let mut init = without_desktop(tokenkeep_in(world.home()));
    run(init.args(["vault", "init", "--protector", "key-file", "--no-recovery-key"])).ok();
    let vault = TokenCachePersistenceOptions::default().storage(tokenkeep::Storage::Vault);
    let store = store::open(&vault, false, &world.places()).unwrap();
    store.apply(&signed_in(), Deadline::within(Duration::from_secs(10))).unwrap();

    let mut command = without_desktop(tokenkeep_in(world.home()));
    let agent = Agent::start(command.arg("agent"), &world.agent_socket());
    let answers: Vec<Value> = commands()
        .into_iter()
        .map(|command| {
            let mut shell = Command::new("sh");
            run(shell.args(["-e", "-c", command]).env("SOCKET", &agent.socket)).ok().json()
        })
        .collect();
    let [hello, token, accounts, status] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((&hello["protocol"], &hello["state"]), (&1.into(), &"unlocked".into()));
    assert_eq!((&token["token"], &token["source"]), (&"a-token-of-the-document".into(), &"agent".into()));
    assert_eq!(accounts["accounts"][0]["username"], USER_ONE);
    assert_eq!(status["counters"]["token_requests"], 1);
    assert_eq!(status["caches"][0]["encrypted"], true);

    // Every member that is answered is written down.
    for (name, answer) in [("hello", hello), ("token", token), ("status", status)] {
        for member in answer.as_object().unwrap().keys() {
            let written =
                DOCUMENT.contains(&format!("\"{member}\"")) || DOCUMENT.contains(&format!("`{member}`"));
            let of_contract = include_str!("../docs/cli.md").contains(&format!("\"{member}\""));
            assert!(written || (name == "token" && of_contract), "{name}: {member}");
        }
    }
}

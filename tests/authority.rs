//! A refresh token never travels to a host outside its alias group, whoever names that host.

use std::process::Command;
use std::sync::Arc;

use emulator::{Answer, Config, Emulator, Script, USER_ONE};
use serde_json::{Value, json};
use tokenkeep::credential::{
    CredentialOptions, DeviceCodeCredential, SharedTokenCacheCredential, TokenCredential,
};
use tokenkeep::{Authority, Error};

use crate::support::{PrivateNetwork, Quiet, SCOPE, World, request, run, tokenkeep_in};

/// A signed-in world, and a host that would like to have its tokens: one that it trusts for TLS,
/// under a name of its own.
struct Hostile {
    world: World,
    emulator: Emulator,
}

impl Hostile {
    fn new() -> Self {
        let world = World::plaintext();
        world.login(USER_ONE, &[]);
        let emulator = Emulator::bind(Config::default()).unwrap();
        let both = world.emulator.ca_pem().to_owned() + emulator.ca_pem();
        std::fs::write(world.home().join("ca.pem"), both).unwrap();
        world.emulator.reset_log();
        Self { world, emulator }
    }

    /// `localhost`, where the world's own provider is `127.0.0.1`.
    fn authority(&self) -> String {
        format!("https://localhost:{}", self.emulator.port())
    }

    /// The command, with the hostile host named in the environment.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command(args);
        command
            .env("AZURE_AUTHORITY_HOST", self.authority())
            .env("SSL_CERT_FILE", self.world.home().join("ca.pem"));
        command
    }

    fn options(&self) -> CredentialOptions {
        let roots = std::fs::read(self.world.home().join("ca.pem")).unwrap();
        self.world.options().authority(Authority::parse(&self.authority()).unwrap()).root_certificates(&roots)
    }

    #[track_caller]
    fn assert_got_nothing(&self) {
        let grants = self.emulator.log();
        let grants: Vec<_> = grants.iter().filter(|entry| entry.is_kind("token")).collect();
        assert!(grants.is_empty(), "{grants:?}");
        let ours = self.world.emulator.secrets();
        for secret in self.emulator.secrets() {
            assert!(!ours.contains(&secret), "it was sent a {}", secret.kind);
        }
    }
}

#[test]
fn a_hostile_host_in_the_environment_finds_no_account() {
    let hostile = Hostile::new();
    let before = hostile.world.document();
    for more in
        [&[][..], &["--force-refresh"], &["--account", USER_ONE], &["--account", USER_ONE, "--force-refresh"]]
    {
        let args = [&["token", "--scope", SCOPE, "--json"], more].concat();
        let error = run(&mut hostile.command(&args)).exits(4).json()["error"].clone();
        assert_eq!(error["kind"], "no_accounts", "{error}");
    }
    hostile.assert_got_nothing();
    assert_eq!(hostile.world.document(), before);
    assert_eq!(hostile.world.emulator.count(""), 0);
}

#[test]
fn a_record_brings_its_own_host_and_a_forged_one_gets_nothing() {
    let hostile = Hostile::new();
    let file = hostile.world.home().join("record.json");
    let path = file.to_str().unwrap();
    hostile.world.run(&["record", "export", path]).ok();
    let forced = ["token", "--scope", SCOPE, "--force-refresh", "--json", "--record", path];

    // The variable does not win over the record.
    let run_with_record = run(&mut hostile.command(&forced)).ok().json();
    assert_eq!(run_with_record["source"], "refresh");
    hostile.assert_got_nothing();
    assert_eq!(hostile.world.emulator.count("token.refresh_token"), 1);

    // Nor does the option: it contradicts the record.
    let authority = hostile.authority();
    let error = run(&mut hostile.command(&[&forced[..], &["--authority", &authority]].concat())).exits(2);
    assert_eq!(error.json()["error"]["kind"], "invalid_argument");

    let mut record: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    record["authority"] = hostile.authority().trim_start_matches("https://").into();
    std::fs::write(&file, record.to_string()).unwrap();
    let error = run(&mut hostile.command(&forced)).exits(3).json()["error"].clone();
    assert!(error["message"].as_str().unwrap().contains("no refresh token"), "{error}");
    hostile.assert_got_nothing();
}

#[tokio::test]
async fn credentials_of_the_library_keep_to_the_tokens_host_as_well() {
    let hostile = Hostile::new();
    let forced = request(SCOPE).force_refresh(true);
    for options in [hostile.options(), hostile.options().login_hint(USER_ONE.to_owned())] {
        let shared = SharedTokenCacheCredential::new(options).unwrap();
        let error = shared.get_token(&forced).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    }
    let options = hostile.options().disable_automatic_authentication(true);
    let by_code = DeviceCodeCredential::new(options, Arc::new(Quiet)).unwrap();
    assert!(matches!(by_code.get_token(&forced).await, Err(Error::InteractionRequired(_))));
    hostile.assert_got_nothing();
}

#[test]
fn a_redirect_is_not_followed() {
    let hostile = Hostile::new();
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/common/oauth2/v2.0/token", hostile.authority());
        let headers = [("Location".to_owned(), location)].into();
        hostile
            .world
            .emulator
            .script(Script::once(Answer::Raw { status, headers, body: String::new() }).kind("token"));
        let mut command = hostile.world.command(&["token", "--scope", SCOPE, "--force-refresh", "--json"]);
        let run = run(command.env("SSL_CERT_FILE", hostile.world.home().join("ca.pem")));
        assert_ne!(run.code, Some(0), "{status}");
        assert_eq!(hostile.emulator.count(""), 0, "{status}");
    }
}

#[test]
fn a_host_that_is_no_cloud_of_microsofts_has_to_be_trusted_by_name() {
    let hostile = Hostile::new();
    let (ours, theirs) = (hostile.world.emulator.authority(), hostile.authority());
    for (subcommand, authority) in [("token", &ours), ("login", &ours), ("login", &theirs)] {
        let mut command = tokenkeep_in(hostile.world.home());
        command
            .args([subcommand, "--scope", SCOPE, "--json"])
            .env("AZURE_AUTHORITY_HOST", authority)
            .env("SSL_CERT_FILE", hostile.world.home().join("ca.pem"))
            .env("TOKENKEEP_CACHE", &hostile.world.cache)
            .env("TOKENKEEP_STORE", "plaintext");
        let error = run(&mut command).exits(2).json()["error"].clone();
        assert_eq!(error["kind"], "invalid_argument", "{error}");
        assert!(error["message"].as_str().unwrap().contains("not one of Microsoft's clouds"), "{error}");
        assert!(error["hint"].as_str().unwrap().contains("--disable-instance-discovery"), "{error}");
    }
    assert_eq!(hostile.emulator.count(""), 0);
    assert_eq!(hostile.world.emulator.count(""), 0);
}

#[test]
fn the_names_of_one_cloud_share_and_those_of_another_do_not() {
    let network = PrivateNetwork::with_plaintext("aliases");
    network.approve(USER_ONE);
    network.tokenkeep(&["login", "--device-code"]).ok();
    network.forget_requests();
    for alias in
        ["login.windows.net", "login.microsoft.com", "https://sts.windows.net/", "login.microsoftonline.com"]
    {
        let from_cache = network.tokenkeep(&["token", "--authority", alias, "--json"]).ok().json();
        assert_eq!(from_cache["source"], "cache", "{alias}");
        let forced = ["token", "--authority", alias, "--force-refresh", "--json"];
        assert_eq!(network.tokenkeep(&forced).ok().json()["source"], "refresh", "{alias}");
    }
    let hosts = |network: &PrivateNetwork| -> Vec<Value> {
        let log = network.control("log?kind=token", None);
        log["log"].as_array().unwrap().iter().map(|entry| entry["host"].clone()).collect()
    };
    assert_eq!(hosts(&network), vec![json!("login.microsoftonline.com"); 4]);

    network.forget_requests();
    for elsewhere in
        ["login.microsoftonline.us", "login.chinacloudapi.cn", "login.partner.microsoftonline.cn"]
    {
        let run =
            network.tokenkeep(&["token", "--authority", elsewhere, "--force-refresh", "--json"]).exits(4);
        assert_eq!(run.json()["error"]["kind"], "no_accounts", "{elsewhere}");
    }
    assert_eq!(hosts(&network), Vec::<Value>::new());
}

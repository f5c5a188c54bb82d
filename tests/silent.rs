//! A cached token costs nothing, a refresh happens once, and trouble at the provider costs no valid
//! token.

use std::sync::Arc;
use std::time::Duration;

use emulator::{Answer, ErrorAnswer, Script, USER_ONE};
use secrecy::ExposeSecret as _;
use tokenkeep::credential::{CredentialOptions, DeviceCodeCredential, TokenCredential};
use tokenkeep::time::{Clock, ManualClock, SystemClock};
use tokenkeep::{AuthenticationRecord, Error, TokenSource};

use crate::support::{GRAPH, Quiet, SCOPE, World, request};

/// A world in which user one has signed in, and a credential of a later process.
struct SignedIn {
    world: World,
    clock: Arc<ManualClock>,
    record: AuthenticationRecord,
}

impl SignedIn {
    async fn new() -> Self {
        let world = World::plaintext();
        world.emulator.approve(USER_ONE);
        let credential = DeviceCodeCredential::new(world.options(), Arc::new(Quiet)).unwrap();
        let record = credential.authenticate(&request(SCOPE)).await.unwrap();
        world.emulator.reset_log();
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        Self { world, clock, record }
    }

    fn options(&self) -> CredentialOptions {
        let clock: Arc<dyn Clock> = self.clock.clone();
        self.world
            .options()
            .authentication_record(self.record.clone())
            .disable_automatic_authentication(true)
            .clock(clock)
    }

    fn credential(&self) -> DeviceCodeCredential {
        DeviceCodeCredential::new(self.options(), Arc::new(Quiet)).unwrap()
    }
}

#[tokio::test]
async fn a_cached_token_needs_no_provider_in_a_fresh_credential_and_after_it() {
    let signed_in = SignedIn::new().await;
    let credential = signed_in.credential();
    for _ in 0..3 {
        let token = credential.get_token(&request(SCOPE)).await.unwrap();
        assert_eq!(token.source, TokenSource::Cache);
        assert_eq!(token.details.account.as_ref().unwrap().username, USER_ONE);
    }
    assert_eq!(signed_in.world.emulator.count(""), 0);
}

#[tokio::test]
async fn calls_at_the_same_time_make_one_request() {
    let signed_in = SignedIn::new().await;
    signed_in.clock.advance(Duration::from_secs(86_400));
    let credential = signed_in.credential();
    let request = request(SCOPE);
    let calls = (0..20).map(|_| credential.get_token(&request));
    let tokens = futures_util::future::join_all(calls).await;
    let secrets: Vec<_> = tokens.iter().map(|t| t.as_ref().unwrap().token.expose_secret()).collect();
    assert!(secrets.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(signed_in.world.emulator.count("token"), 1);
}

#[tokio::test]
async fn a_refresh_leaves_one_refresh_token_and_one_of_everything_else() {
    let signed_in = SignedIn::new().await;
    let credential = signed_in.credential();
    for scope in [SCOPE, GRAPH] {
        credential.get_token(&request(scope).force_refresh(true)).await.unwrap();
    }
    let document = signed_in.world.document();
    for section in ["RefreshToken", "AppMetadata", "IdToken", "Account"] {
        assert_eq!(document[section].as_object().unwrap().len(), 1, "{section}: {document}");
    }
    assert_eq!(document["AccessToken"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn a_dropped_call_loses_neither_the_rotated_token_nor_the_lock() {
    let signed_in = SignedIn::new().await;
    signed_in.world.emulator.script(Script::once(Answer::Normal).kind("token").held());
    let before = signed_in.world.document();
    let credential = signed_in.credential();
    let forced = request(SCOPE).force_refresh(true);
    let mut call = credential.get_token(&forced);
    tokio::select! {
        _ = &mut call => panic!("the answer is held back"),
        () = signed_in.world.emulator.wait_for("token", 1) => {}
    }
    drop(call);
    signed_in.world.emulator.release();

    // Joins the flight that is still under way, and finds the lock free afterwards.
    credential.get_token(&forced).await.unwrap();
    assert_eq!(signed_in.world.emulator.count("token"), 1);
    assert_ne!(signed_in.world.document()["RefreshToken"], before["RefreshToken"]);
    let leftovers = std::fs::read_dir(signed_in.world.cache_file().parent().unwrap()).unwrap();
    let names: Vec<_> = leftovers.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[tokio::test]
async fn renewing_early_never_costs_a_valid_token() {
    let signed_in = SignedIn::new().await;
    let emulator = &signed_in.world.emulator;
    emulator.set(|settings| settings.refresh_in = Some(600));
    signed_in.credential().get_token(&request(SCOPE).force_refresh(true)).await.unwrap();
    signed_in.clock.advance(Duration::from_secs(601));
    let credential = signed_in.credential();
    let troubles = [
        Answer::Error(ErrorAnswer { status: Some(503), ..ErrorAnswer::bare("server_error") }),
        Answer::Error(ErrorAnswer::throttled("5")),
        Answer::Error(ErrorAnswer::aadsts(50076)),
        Answer::BadGateway,
        Answer::Dropped,
        Answer::Empty,
    ];
    for trouble in troubles {
        emulator.reset_log();
        emulator.clear_scripts();
        emulator.script(Script::sticky(trouble.clone()));
        for _ in 0..3 {
            let token = credential.get_token(&request(SCOPE)).await.unwrap();
            assert_eq!(token.source, TokenSource::Cache, "{trouble:?}");
        }
        assert_eq!(emulator.count("token"), 1, "one attempt in 30 seconds: {trouble:?}");
        signed_in.clock.advance(Duration::from_secs(61));
    }
    emulator.clear_scripts();
    let renewed = credential.get_token(&request(SCOPE)).await.unwrap();
    assert_eq!(renewed.source, TokenSource::Refresh);
}

#[tokio::test]
async fn a_wait_that_the_provider_asks_for_is_named_and_kept() {
    let signed_in = SignedIn::new().await;
    let emulator = &signed_in.world.emulator;
    emulator.script(Script::sticky(Answer::Error(ErrorAnswer::throttled("120"))));
    let credential = signed_in.credential();
    let forced = request(SCOPE).force_refresh(true);
    for _ in 0..2 {
        let error = credential.get_token(&forced).await.unwrap_err();
        let Error::Network(network) = &error else { panic!("{error}") };
        assert_eq!(network.retry_after, Some(Duration::from_secs(120)));
        assert!(error.hint().unwrap().contains("120 s"));
    }
    assert_eq!(emulator.count("token"), 1, "the second call was answered from memory");

    emulator.clear_scripts();
    signed_in.clock.advance(Duration::from_secs(121));
    credential.get_token(&forced).await.unwrap();
}

#[tokio::test]
async fn an_account_that_signed_out_meanwhile_is_not_brought_back() {
    let signed_in = SignedIn::new().await;
    let emulator = &signed_in.world.emulator;
    emulator.script(Script::once(Answer::Normal).kind("token").held());
    let credential = signed_in.credential();
    let forced = request(SCOPE).force_refresh(true);
    let sign_out = async {
        emulator.wait_for("token", 1).await;
        let home = signed_in.record.home_account_id();
        signed_in.world.run(&["logout", "--account", home]).ok();
        emulator.release();
    };
    let (token, ()) = tokio::join!(credential.get_token(&forced), sign_out);
    assert_eq!(token.unwrap().source, TokenSource::Refresh, "the caller has its token");
    let text = signed_in.world.document().to_string();
    assert!(!text.contains(USER_ONE), "{text}");
}

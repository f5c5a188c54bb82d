//! Exactly the dead grant goes: when the answer says that it is dead, and only if it is still there.

use std::sync::Arc;

use emulator::{Answer, CLIENT_AZURE_CLI, CLIENT_VISUAL_STUDIO, ErrorAnswer, Script, USER_ONE, USER_TWO};
use serde_json::Value;
use tokenkeep::credential::{
    ChainedTokenCredential, DeviceCodeCredential, SharedTokenCacheCredential, TokenCredential,
};
use tokenkeep::error::{InteractionReason, InteractionRequired};
use tokenkeep::{Claims, Error, TokenSource};

use crate::support::{GRAPH, Quiet, SCOPE, World, request};

/// Signs a user in to one client of the family.
async fn sign_in(world: &World, user: &str, client: &str) {
    world.emulator.approve(user);
    let options = world.options().client_id(client);
    let credential = DeviceCodeCredential::new(options, Arc::new(Quiet)).unwrap();
    credential.authenticate(&request(SCOPE)).await.unwrap();
}

fn shared(world: &World, user: &str) -> SharedTokenCacheCredential {
    SharedTokenCacheCredential::new(world.options().login_hint(user.to_owned())).unwrap()
}

/// Entries of a section as (username's oid, client).
fn refresh_tokens(document: &Value) -> Vec<(String, String)> {
    let entries = document["RefreshToken"].as_object().unwrap().values();
    let field = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    entries.map(|entry| (field(entry, "home_account_id"), field(entry, "client_id"))).collect()
}

async fn interaction(credential: &dyn TokenCredential, scope: &str) -> Box<InteractionRequired> {
    match credential.get_token(&request(scope).force_refresh(true)).await {
        Err(Error::InteractionRequired(required)) => required,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn after_a_password_change_exactly_that_users_tokens_go_and_the_answer_says_so() {
    let world = World::plaintext();
    sign_in(&world, USER_TWO, CLIENT_AZURE_CLI).await;
    sign_in(&world, USER_ONE, CLIENT_AZURE_CLI).await;
    sign_in(&world, USER_ONE, CLIENT_VISUAL_STUDIO).await;
    let before = world.document();
    world.emulator.change_password(USER_ONE);

    let required = interaction(&shared(&world, USER_ONE), SCOPE).await;
    assert_eq!(required.reason, InteractionReason::GrantDead);
    assert_eq!(required.provider.as_ref().unwrap().codes, [50173]);
    let removed: Vec<_> = required.removed.iter().map(|r| (r.client_id.as_str(), r.code.as_str())).collect();
    assert_eq!(removed, [(CLIENT_AZURE_CLI, "AADSTS50173"), (CLIENT_VISUAL_STUDIO, "AADSTS50173")]);
    let error = Error::from(*required);
    assert!(error.moves_chain_on());
    assert!(error.hint().unwrap().contains("tokenkeep login"), "{:?}", error.hint());

    let after = world.document();
    assert_eq!(refresh_tokens(&after).len(), 1);
    for section in ["AccessToken", "IdToken", "Account", "AppMetadata"] {
        assert_eq!(after[section], before[section], "{section} stays as it was");
    }
    let other = shared(&world, USER_TWO).get_token(&request(SCOPE).force_refresh(true)).await;
    assert_eq!(other.unwrap().source, TokenSource::Refresh);
}

#[tokio::test]
async fn the_next_candidate_is_tried_and_the_caller_notices_nothing() {
    let world = World::plaintext();
    sign_in(&world, USER_ONE, CLIENT_VISUAL_STUDIO).await;
    world.emulator.change_password(USER_ONE);
    sign_in(&world, USER_ONE, CLIENT_AZURE_CLI).await;
    world.emulator.reset_log();

    // The Visual Studio client meets its own dead token first, then the family's live one.
    let options = world.options().client_id(CLIENT_VISUAL_STUDIO).login_hint(USER_ONE.to_owned());
    let credential = SharedTokenCacheCredential::new(options).unwrap();
    let token = credential.get_token(&request(SCOPE).force_refresh(true)).await.unwrap();
    assert_eq!(token.source, TokenSource::Refresh);
    assert_eq!(world.emulator.count("token"), 2);
    let mut clients: Vec<_> = refresh_tokens(&world.document()).into_iter().map(|(_, c)| c).collect();
    clients.sort_unstable();
    assert_eq!(clients, [CLIENT_AZURE_CLI, CLIENT_VISUAL_STUDIO]);
}

#[tokio::test]
async fn a_dead_grant_is_removed_only_if_it_is_still_the_one_we_tried() {
    let world = World::plaintext();
    sign_in(&world, USER_ONE, CLIENT_AZURE_CLI).await;
    let dead = Answer::Error(ErrorAnswer::aadsts(50173));
    world.emulator.reset_log();
    world.emulator.script(Script::once(dead).kind("token").held());

    let credential = shared(&world, USER_ONE);
    let forced = request(SCOPE).force_refresh(true);
    let rotate = async {
        world.emulator.wait_for("token", 1).await;
        // Another process renews meanwhile, and stores what it got.
        let other = shared(&world, USER_ONE);
        other.get_token(&request(GRAPH)).await.unwrap();
        world.emulator.release();
    };
    let (token, ()) = tokio::join!(credential.get_token(&forced), rotate);
    assert_eq!(token.unwrap().source, TokenSource::Refresh, "by the token that was rotated in");
    assert_eq!(refresh_tokens(&world.document()).len(), 1);
}

#[tokio::test]
async fn an_answer_that_a_person_can_satisfy_removes_nothing_and_carries_both_claims() {
    let world = World::plaintext();
    sign_in(&world, USER_ONE, CLIENT_AZURE_CLI).await;
    let before = world.document();
    let wanted = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    for code in [50076, 50079, 50158, 53000, 65001] {
        let answer = ErrorAnswer { claims: Some(wanted.to_owned()), ..ErrorAnswer::aadsts(code) };
        world.emulator.script(Script::once(Answer::Error(answer)).kind("token"));
        let asked = Claims::parse(r#"{"access_token":{"nbf":{"essential":true}}}"#).unwrap();
        let request = request(SCOPE).claims(asked.clone()).enable_cae(false);
        let error = shared(&world, USER_ONE).get_token(&request).await.unwrap_err();
        let Error::InteractionRequired(required) = error else { panic!("{error}") };
        assert_eq!(required.reason, InteractionReason::ProviderAsks, "{code}");
        assert_eq!(required.claims.as_ref(), Some(&asked));
        assert_eq!(required.provider_claims.as_ref().unwrap().as_str(), wanted);
        assert_eq!(required.next_claims(), required.provider_claims.as_ref());
        assert_eq!(required.scopes, request.scopes);
        assert!(required.removed.is_empty());
    }
    assert_eq!(world.document(), before);
}

#[tokio::test]
async fn trouble_and_configuration_remove_nothing() {
    let world = World::plaintext();
    sign_in(&world, USER_ONE, CLIENT_AZURE_CLI).await;
    let before = world.document();
    let answers = [
        Answer::Error(ErrorAnswer::throttled("60")),
        Answer::Error(ErrorAnswer::aadsts(90033)),
        Answer::Error(ErrorAnswer::aadsts(700016)),
        Answer::Error(ErrorAnswer::aadsts(70011)),
        Answer::Error(ErrorAnswer::bare("invalid_client")),
        Answer::Error(ErrorAnswer::bare("invalid_grant")),
        Answer::Error(ErrorAnswer {
            suberror: Some("client_mismatch".into()),
            ..ErrorAnswer::bare("invalid_grant")
        }),
        Answer::Error(ErrorAnswer::aadsts(70043)),
        Answer::BadGateway,
        Answer::Dropped,
        Answer::Empty,
        Answer::Malformed,
    ];
    for answer in answers {
        world.emulator.clear_scripts();
        world.emulator.script(Script::sticky(answer.clone()).kind("token"));
        let options = world.options().retry_budget(std::time::Duration::ZERO);
        let credential = SharedTokenCacheCredential::new(options).unwrap();
        let error = credential.get_token(&request(SCOPE).force_refresh(true)).await.unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        assert!(error.removed().is_empty(), "{answer:?}");
        assert_eq!(world.document(), before, "{answer:?}");
    }
}

#[tokio::test]
async fn a_sign_in_that_is_too_old_for_one_resource_is_removed_when_a_second_says_so() {
    let world = World::plaintext();
    sign_in(&world, USER_ONE, CLIENT_AZURE_CLI).await;
    world.emulator.script(Script::sticky(Answer::Error(ErrorAnswer::aadsts(70043))).kind("token"));
    let credential = shared(&world, USER_ONE);
    assert!(interaction(&credential, SCOPE).await.removed.is_empty());
    assert!(interaction(&credential, SCOPE).await.removed.is_empty());
    assert_eq!(interaction(&credential, GRAPH).await.removed.len(), 1);
    assert!(world.document()["RefreshToken"].as_object().unwrap().is_empty());
}

#[tokio::test]
async fn a_dead_grant_in_the_shared_cache_never_stops_a_chain() {
    let world = World::plaintext();
    sign_in(&world, USER_ONE, CLIENT_AZURE_CLI).await;
    let fallback = DeviceCodeCredential::new(world.options(), Arc::new(Quiet)).unwrap();
    world.emulator.change_password(USER_ONE);
    world.emulator.approve(USER_TWO);

    let chain = ChainedTokenCredential::new([
        Arc::new(shared(&world, USER_ONE)) as Arc<dyn TokenCredential>,
        Arc::new(fallback),
    ])
    .unwrap();
    world.emulator.reset_log();
    let token = chain.get_token(&request(SCOPE).force_refresh(true)).await.unwrap();
    assert_eq!(token.details.account.as_ref().unwrap().username, USER_TWO);
    assert_eq!(world.emulator.count("token.refresh_token"), 1, "the dead grant was tried, once");
    // The one that works is asked first from now on: no refused refresh any more.
    chain.get_token(&request(GRAPH)).await.unwrap();
    let refused = world.emulator.log().iter().filter(|entry| entry.code == Some(50173)).count();
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn a_chain_that_ends_without_a_token_tells_every_attempt_and_what_was_removed() {
    let world = World::plaintext();
    sign_in(&world, USER_ONE, CLIENT_AZURE_CLI).await;
    world.emulator.change_password(USER_ONE);
    let silent = world.options().disable_automatic_authentication(true);
    let chain = ChainedTokenCredential::new([
        Arc::new(shared(&world, USER_TWO)) as Arc<dyn TokenCredential>,
        Arc::new(shared(&world, USER_ONE)),
        Arc::new(DeviceCodeCredential::new(silent, Arc::new(Quiet)).unwrap()),
    ])
    .unwrap();
    let error = chain.get_token(&request(SCOPE).force_refresh(true)).await.unwrap_err();
    let Error::Chain(failed) = &error else { panic!("{error:?}") };
    let attempts: Vec<&str> = failed.attempts.iter().map(|attempt| attempt.credential.as_str()).collect();
    assert_eq!(
        attempts,
        ["SharedTokenCacheCredential", "SharedTokenCacheCredential", "DeviceCodeCredential"]
    );
    for attempt in &failed.attempts {
        let why = attempt.error.to_string();
        assert!(error.to_string().contains(why.lines().next().unwrap()), "{error}");
    }
    assert_eq!(error.removed().len(), 1);
    assert_eq!(error.provider().unwrap().codes, [50173]);
    assert!(error.provider().unwrap().valid_from.is_some(), "the answer says since when");
    assert!(error.hint().unwrap().contains("tokenkeep login"), "{:?}", error.hint());
}

#[tokio::test]
async fn trouble_with_the_network_stops_a_chain_because_it_is_no_sign_out() {
    let world = World::plaintext();
    sign_in(&world, USER_ONE, CLIENT_AZURE_CLI).await;
    world.emulator.script(Script::sticky(Answer::BadGateway).kind("token.refresh_token"));
    world.emulator.approve(USER_TWO);
    let options = || world.options().retry_budget(std::time::Duration::ZERO);
    let chain = ChainedTokenCredential::new([
        Arc::new(SharedTokenCacheCredential::new(options()).unwrap()) as Arc<dyn TokenCredential>,
        Arc::new(DeviceCodeCredential::new(options(), Arc::new(Quiet)).unwrap()),
    ])
    .unwrap();
    let error = chain.get_token(&request(SCOPE).force_refresh(true)).await.unwrap_err();
    assert!(!error.moves_chain_on(), "{error}");
    assert_eq!(world.emulator.count("devicecode"), 1, "only the sign-in before");
}

#[tokio::test]
async fn a_shared_cache_that_is_damaged_does_not_stop_a_chain_and_stays_as_it_is() {
    let (broken, sound) = (World::plaintext(), World::plaintext());
    sign_in(&sound, USER_ONE, CLIENT_AZURE_CLI).await;
    std::fs::create_dir(broken.folder()).unwrap();
    std::fs::write(broken.cache_file(), "{\"AccessToken\": {").unwrap();
    let chain = |last: SharedTokenCacheCredential| {
        let first = Arc::new(shared(&broken, USER_ONE)) as Arc<dyn TokenCredential>;
        ChainedTokenCredential::new([first, Arc::new(last)]).unwrap()
    };
    let token = chain(shared(&sound, USER_ONE)).get_token(&request(SCOPE)).await.unwrap();
    assert_eq!(token.source, TokenSource::Cache);
    // and if the others have nothing, the damage is what is told
    let error = chain(shared(&sound, USER_TWO)).get_token(&request(SCOPE)).await.unwrap_err();
    assert_eq!(error.kind(), "cache_damaged", "{error}");
    assert!(error.to_string().contains("no account"), "each attempt: {error}");
    assert_eq!(std::fs::read(broken.cache_file()).unwrap(), b"{\"AccessToken\": {");
}

use emulator::{Answer, CLIENT_AZURE_CLI, ErrorAnswer, LogEntry, Script};
use serde_json::json;

use crate::support::{ARM, Bench, text};

const REFRESH: &str = "token.refresh_token";

async fn refresh(bench: &Bench, secret: &str) -> reqwest::Result<reqwest::Response> {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", CLIENT_AZURE_CLI),
        ("refresh_token", secret),
        ("scope", ARM),
    ];
    let url = bench.url("/organizations/oauth2/v2.0/token");
    bench.http.post(url).form(&form).send().await
}

#[tokio::test]
async fn refusals_come_in_their_order_and_then_the_truth() {
    let bench = Bench::new().await;
    let secret = bench.log_in().await;
    for answer in [
        ErrorAnswer::mfa(r#"{"access_token":{"x":null}}"#),
        ErrorAnswer::aadsts(65001),
        ErrorAnswer::throttled("7"),
        ErrorAnswer::bare("invalid_grant"),
    ] {
        bench.entra.script(Script::once(Answer::Error(answer)).kind(REFRESH));
    }
    let (_, mfa) = bench.refresh(CLIENT_AZURE_CLI, &secret).await;
    assert_eq!((&mfa["error_codes"][0], &mfa["suberror"]), (&50076.into(), &"basic_action".into()));
    assert_eq!(mfa["claims"], r#"{"access_token":{"x":null}}"#);
    let (_, consent) = bench.refresh(CLIENT_AZURE_CLI, &secret).await;
    assert_eq!(consent["suberror"], "consent_required");
    let throttled = refresh(&bench, &secret).await.unwrap();
    assert_eq!(
        (throttled.status().as_u16(), throttled.headers()["retry-after"].as_bytes()),
        (429, &b"7"[..])
    );
    let (status, bare) = bench.refresh(CLIENT_AZURE_CLI, &secret).await;
    assert_eq!((status, bare), (400, json!({ "error": "invalid_grant" })));
    assert_eq!(bench.refresh(CLIENT_AZURE_CLI, &secret).await.0, 200);
    let scripted: Vec<_> = bench.entra.log().iter().map(|entry| entry.scripted).collect();
    assert_eq!(scripted, [false, false, true, true, true, true, false]);
}

#[tokio::test]
async fn broken_answers_are_broken_in_the_way_asked_for() {
    let bench = Bench::new().await;
    let secret = bench.log_in().await;
    bench.entra.script(Script::once(Answer::Malformed));
    let half = refresh(&bench, &secret).await.unwrap();
    assert_eq!(half.status(), 200);
    let half = half.text().await.unwrap();
    assert!(half.starts_with('{') && serde_json::from_str::<serde_json::Value>(&half).is_err());

    bench.entra.script(Script::once(Answer::BadGateway));
    let gateway = refresh(&bench, &secret).await.unwrap();
    assert_eq!(gateway.status(), 502);
    assert!(gateway.text().await.unwrap().starts_with("<html>"));

    bench.entra.script(Script::once(Answer::Empty));
    assert_eq!(refresh(&bench, &secret).await.unwrap().text().await.unwrap(), "");

    bench.entra.script(Script::once(Answer::Dropped));
    let dropped = match refresh(&bench, &secret).await {
        Ok(reply) => reply.bytes().await.is_err(),
        Err(_) => true,
    };
    assert!(dropped);
    assert_eq!(bench.entra.log().last().unwrap().status, Some(0));
}

#[tokio::test]
async fn members_can_be_left_out_of_a_true_answer() {
    let bench = Bench::new().await;
    let secret = bench.log_in().await;
    bench.entra.script(Script::once(Answer::Edited {
        without: vec!["refresh_token".into(), "id_token".into()],
        with: json!({ "scope": "other" }).as_object().unwrap().clone(),
    }));
    let (status, tokens) = bench.refresh(CLIENT_AZURE_CLI, &secret).await;
    assert_eq!(status, 200);
    assert!(tokens.get("refresh_token").is_none() && tokens.get("id_token").is_none());
    assert_eq!(tokens["scope"], "other");
    assert!(!text(&tokens["access_token"]).is_empty());
}

#[tokio::test]
async fn a_held_answer_waits_for_release_and_is_seen_in_the_log_before() {
    let bench = Bench::new().await;
    let secret = bench.log_in().await;
    bench.entra.script(Script::once(Answer::Normal).kind(REFRESH).held());
    let mut waiting = Box::pin(refresh(&bench, &secret));
    tokio::select! {
        _ = &mut waiting => panic!("it was not held"),
        () = bench.entra.wait_for(REFRESH, 1) => {}
    }
    // A whole exchange later it must still be waiting.
    bench.start_device_login(CLIENT_AZURE_CLI, ARM).await;
    let held = |entry: &&LogEntry| entry.is_kind(REFRESH);
    assert_eq!(bench.entra.log().iter().find(held).unwrap().status, None);
    bench.entra.release();
    assert_eq!(waiting.await.unwrap().status(), 200);
    assert_eq!(bench.entra.log().iter().find(held).unwrap().status, Some(200));
}

#[tokio::test]
async fn one_refresh_token_can_be_refused_for_good() {
    let bench = Bench::new().await;
    let (first, second) = (bench.log_in().await, bench.log_in().await);
    let mut script = Script::sticky(Answer::Error(ErrorAnswer::aadsts(70043)));
    script.matching.refresh_token = Some(1);
    bench.entra.script(script);
    for _ in 0..2 {
        let (_, refused) = bench.refresh(CLIENT_AZURE_CLI, &first).await;
        assert_eq!(refused["suberror"], "token_expired");
    }
    assert_eq!(bench.refresh(CLIENT_AZURE_CLI, &second).await.0, 200);
    bench.entra.clear_scripts();
    assert_eq!(bench.refresh(CLIENT_AZURE_CLI, &first).await.0, 200);
}

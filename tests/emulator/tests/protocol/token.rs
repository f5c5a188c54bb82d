use emulator::{
    CLIENT_APP, CLIENT_AZURE_CLI, CLIENT_SERVICE, CLIENT_SERVICE_SECRET, CLIENT_VISUAL_STUDIO,
    RequiredClaims, TENANT_ONE, TENANT_TWO, USER_ONE, USER_ONE_GUEST_OID, USER_ONE_OID, USER_TWO,
};

use crate::support::{ARM, Bench, SIGN_IN, decoded, text};

const CP1: &str = r#"{"access_token":{"xms_cc":{"values":["CP1"]}}}"#;

#[tokio::test]
async fn a_refresh_rotates_and_the_old_one_stays_good_as_with_entra() {
    let bench = Bench::new().await;
    let first = bench.log_in().await;
    let (_, tokens) = bench.refresh(CLIENT_AZURE_CLI, &first).await;
    let second = text(&tokens["refresh_token"]);
    assert!(!second.is_empty() && second != first);
    assert_eq!(bench.refresh(CLIENT_AZURE_CLI, &first).await.0, 200);

    bench.entra.set(|settings| settings.invalidate_rotated_refresh_tokens = true);
    let (status, refused) = bench.refresh(CLIENT_AZURE_CLI, &first).await;
    assert_eq!((status, &refused["error_codes"][0]), (400, &70000.into()));
    assert_eq!(bench.refresh(CLIENT_AZURE_CLI, &second).await.0, 200);

    bench.entra.set(|settings| {
        *settings = emulator::Settings { rotate_refresh_tokens: false, ..Default::default() }
    });
    let (_, tokens) = bench.refresh(CLIENT_AZURE_CLI, &second).await;
    assert_eq!(tokens["refresh_token"], second);
}

#[tokio::test]
async fn a_family_token_is_good_for_the_family_only() {
    let bench = Bench::new().await;
    let family = bench.log_in().await;
    let (status, tokens) = bench.refresh(CLIENT_VISUAL_STUDIO, &family).await;
    assert_eq!((status, &tokens["foci"]), (200, &"1".into()));
    let (status, refused) = bench.refresh(CLIENT_APP, &family).await;
    assert_eq!(status, 400);
    assert_eq!(
        (&refused["error"], &refused["suberror"]),
        (&"invalid_grant".into(), &"client_mismatch".into())
    );

    let tokens = bench.log_in_as(USER_ONE, CLIENT_APP).await;
    assert!(tokens.get("foci").is_none());
    let (_, refused) = bench.refresh(CLIENT_AZURE_CLI, &text(&tokens["refresh_token"])).await;
    assert_eq!(refused["suberror"], "client_mismatch");
}

#[tokio::test]
async fn a_password_change_kills_what_was_issued_before_with_entras_words() {
    let bench = Bench::new().await;
    let dead = bench.log_in().await;
    let others = bench.log_in_as(USER_TWO, CLIENT_AZURE_CLI).await;
    bench.entra.change_password(USER_ONE);
    let reply = bench
        .http
        .post(bench.url("/organizations/oauth2/v2.0/token"))
        .header("client-request-id", "my-correlation-id")
        .form(&[
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_AZURE_CLI),
            ("refresh_token", &dead),
            ("scope", ARM),
        ])
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 400);
    assert_eq!(reply.headers()["client-request-id"], "my-correlation-id");
    let body: serde_json::Value = reply.json().await.unwrap();
    let names: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "error",
            "error_description",
            "error_codes",
            "timestamp",
            "trace_id",
            "correlation_id",
            "error_uri",
            "suberror"
        ]
    );
    assert_eq!((&body["error"], &body["suberror"]), (&"invalid_grant".into(), &"bad_token".into()));
    assert_eq!(body["correlation_id"], "my-correlation-id");
    let description = text(&body["error_description"]);
    assert!(description.starts_with("AADSTS50173: The provided grant has expired due to it being revoked"));
    assert!(
        description.contains("TokensValidFrom date")
            && description.contains("Correlation ID: my-correlation-id")
    );

    let tokens = bench.entra.refresh_tokens();
    assert_eq!(tokens.iter().map(|row| row.dead).collect::<Vec<_>>(), [true, false]);
    assert_eq!(bench.refresh(CLIENT_AZURE_CLI, &text(&others["refresh_token"])).await.0, 200);
    let fresh = bench.log_in().await;
    assert_eq!(bench.refresh(CLIENT_AZURE_CLI, &fresh).await.0, 200);
}

#[tokio::test]
async fn a_guest_has_another_object_id_but_the_same_home() {
    let bench = Bench::new().await;
    let secret = bench.log_in().await;
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", CLIENT_AZURE_CLI),
        ("refresh_token", secret.as_str()),
        ("scope", SIGN_IN),
        ("client_info", "1"),
    ];
    let (_, tokens) = bench.token_in("fabrikam.example", &form).await;
    let id = decoded(&tokens["id_token"]);
    assert_eq!((&id["tid"], &id["oid"]), (&TENANT_TWO.into(), &USER_ONE_GUEST_OID.into()));
    let info = decoded(&tokens["client_info"]);
    assert_eq!((&info["uid"], &info["utid"]), (&USER_ONE_OID.into(), &TENANT_ONE.into()));

    let two = bench.log_in_as(USER_TWO, CLIENT_AZURE_CLI).await;
    let mut form = form;
    let secret = text(&two["refresh_token"]);
    form[2].1 = &secret;
    let (status, refused) = bench.token_in(TENANT_ONE, &form).await;
    assert_eq!((status, &refused["error_codes"][0]), (400, &50020.into()));
}

#[tokio::test]
async fn cp1_brings_a_long_token_that_the_resource_can_revoke() {
    let bench = Bench::new().await;
    let secret = bench.log_in().await;
    let (_, tokens) = bench
        .token(&[
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_AZURE_CLI),
            ("refresh_token", &secret),
            ("scope", ARM),
            ("claims", CP1),
        ])
        .await;
    assert_eq!((&tokens["expires_in"], &tokens["refresh_in"]), (&86399.into(), &43199.into()));
    assert_eq!(decoded(&tokens["access_token"])["xms_cc"][0], "CP1");
    assert!(tokens.get("id_token").is_none() && tokens.get("client_info").is_none());
    assert!(bench.entra.log().last().unwrap().cp1);

    let ask = async || {
        let request = bench.http.get(bench.url("/resource/me"));
        let bearer = request.bearer_auth(text(&tokens["access_token"]));
        bearer.send().await.unwrap()
    };
    assert_eq!(ask().await.status(), 200);
    bench.entra.change_password(USER_ONE);
    let challenged = ask().await;
    assert_eq!(challenged.status(), 401);
    let challenge = challenged.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains(r#"error="insufficient_claims", claims="ey"#));
}

#[tokio::test]
async fn a_resource_may_want_a_sign_in_with_claims() {
    const WANTED: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let bench = Bench::new().await;
    let secret = bench.log_in().await;
    bench.entra.set(|settings| {
        settings.required_claims = vec![RequiredClaims { scope: "management".into(), claims: WANTED.into() }];
    });
    let (status, refused) = bench.refresh(CLIENT_AZURE_CLI, &secret).await;
    assert_eq!((status, &refused["claims"]), (400, &WANTED.into()));
    assert_eq!(refused["suberror"], "basic_action");

    bench.entra.approve(USER_ONE);
    let form = [("client_id", CLIENT_AZURE_CLI), ("scope", SIGN_IN), ("claims", WANTED)];
    let start = bench.post("/organizations/oauth2/v2.0/devicecode", &form).await.json().await.unwrap();
    let (status, tokens) = bench.poll(CLIENT_AZURE_CLI, &start).await;
    assert_eq!(status, 200);
    assert_eq!(bench.refresh(CLIENT_AZURE_CLI, &text(&tokens["refresh_token"])).await.0, 200);
}

#[tokio::test]
async fn refresh_tokens_end_after_ninety_days_without_use() {
    let bench = Bench::new().await;
    let secret = bench.log_in().await;
    bench.entra.advance_clock(89 * 86_400);
    assert_eq!(bench.refresh(CLIENT_AZURE_CLI, &secret).await.0, 200);
    bench.entra.advance_clock(91 * 86_400);
    let (_, refused) = bench.refresh(CLIENT_AZURE_CLI, &secret).await;
    assert_eq!(refused["error_codes"][0], 700082);
}

#[tokio::test]
async fn wrong_requests_are_refused_by_number() {
    let bench = Bench::new().await;
    let code = async |tenant: &str, form: &[(&str, &str)]| {
        let (status, body) = bench.token_in(tenant, form).await;
        (status, body["error_codes"][0].as_u64().unwrap_or_default())
    };
    let refresh = ("grant_type", "refresh_token");
    let client = ("client_id", CLIENT_AZURE_CLI);
    assert_eq!(code("organizations", &[client]).await, (400, 900144));
    assert_eq!(code("organizations", &[refresh, ("client_id", "unknown")]).await, (400, 700016));
    assert_eq!(code("organizations", &[client, ("grant_type", "x")]).await, (400, 70003));
    assert_eq!(code("organizations", &[client, refresh, ("refresh_token", "junk")]).await, (400, 9002313));
    assert_eq!(code("organizations", &[client, refresh, ("refresh_token", "1.AX-gone")]).await, (400, 70000));
    let secret = bench.log_in().await;
    let known = ("refresh_token", secret.as_str());
    assert_eq!(code("nowhere.example", &[client, refresh, known]).await, (400, 90002));
    let two = ("scope", "https://a.example/.default https://b.example/.default");
    assert_eq!(code("organizations", &[client, refresh, known, two]).await, (400, 28000));
}

#[tokio::test]
async fn a_service_needs_its_secret() {
    let bench = Bench::new().await;
    let ask = async |secret: &str| {
        bench
            .token_in(
                TENANT_ONE,
                &[
                    ("grant_type", "client_credentials"),
                    ("client_id", CLIENT_SERVICE),
                    ("client_secret", secret),
                    ("scope", ARM),
                ],
            )
            .await
    };
    let (status, refused) = ask("wrong").await;
    assert_eq!((status, &refused["error"]), (401, &"invalid_client".into()));
    let (status, tokens) = ask(CLIENT_SERVICE_SECRET).await;
    assert_eq!(status, 200);
    assert!(tokens.get("refresh_token").is_none() && tokens.get("scope").is_none());
}

use emulator::{CLIENT_APP, CLIENT_AZURE_CLI, PASSWORD, USER_ONE};

use crate::support::{ARM, Bench, SIGN_IN, decoded};

#[tokio::test]
async fn a_login_is_pending_until_it_is_approved_and_is_redeemed_once() {
    let bench = Bench::new().await;
    let start = bench.start_device_login(CLIENT_AZURE_CLI, SIGN_IN).await;
    assert_eq!(start["verification_uri"], bench.url("/devicelogin"));
    assert_eq!((&start["interval"], &start["expires_in"]), (&5.into(), &900.into()));

    let (status, pending) = bench.poll(CLIENT_AZURE_CLI, &start).await;
    assert_eq!((status, &pending["error"]), (400, &"authorization_pending".into()));
    assert_eq!(pending["error_codes"][0], 70016);

    bench.entra.approve(USER_ONE);
    let (status, tokens) = bench.poll(CLIENT_AZURE_CLI, &start).await;
    assert_eq!(status, 200);
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(tokens["scope"], format!("https://management.core.windows.net//user_impersonation {ARM}"));
    assert_eq!((&tokens["expires_in"], &tokens["foci"]), (&4899.into(), &"1".into()));
    assert!(tokens.get("refresh_in").is_none());
    assert!(tokens["access_token"].as_str().unwrap().contains(".CANARYAT"));
    assert!(tokens["refresh_token"].as_str().unwrap().contains("-CANARYRT"));
    let id = decoded(&tokens["id_token"]);
    let host = bench.entra.authority();
    assert_eq!(id["iss"], format!("{host}/{}/v2.0", emulator::TENANT_ONE));
    assert_eq!((&id["aud"], &id["preferred_username"]), (&CLIENT_AZURE_CLI.into(), &USER_ONE.into()));
    assert_eq!(decoded(&tokens["client_info"])["utid"], emulator::TENANT_ONE);

    let (_, again) = bench.poll(CLIENT_AZURE_CLI, &start).await;
    assert_eq!(again["error_codes"][0], 90120);
}

#[tokio::test]
async fn the_page_asks_for_code_name_and_password() {
    let bench = Bench::new().await;
    let start = bench.start_device_login(CLIENT_APP, SIGN_IN).await;
    let code = start["user_code"].as_str().unwrap().to_lowercase();
    let page = bench.get("/devicelogin").await.text().await.unwrap();
    assert!(page.contains("Enter code to allow access"));
    let wrong = bench.post("/devicelogin", &[("otc", "WRONGCODE")]).await;
    assert!(wrong.text().await.unwrap().contains("That code didn&#39;t work"));
    let page = bench.post("/devicelogin", &[("otc", &code)]).await.text().await.unwrap();
    assert!(page.contains("Contoso Sample App") && page.contains(r#"id="password""#));

    let sign_in = async |password: &str| {
        let form =
            [("otc", code.as_str()), ("loginfmt", USER_ONE), ("passwd", password), ("action", "signin")];
        bench.post("/devicelogin", &form).await.text().await.unwrap()
    };
    assert!(sign_in("wrong").await.contains("Your account or password is incorrect"));
    assert_eq!(bench.poll(CLIENT_APP, &start).await.1["error"], "authorization_pending");
    assert!(sign_in(PASSWORD).await.contains("You have signed in to the Contoso Sample App"));
    assert_eq!(bench.poll(CLIENT_APP, &start).await.0, 200);
}

#[tokio::test]
async fn declined_expired_foreign_and_unknown_codes_end_the_flow() {
    let bench = Bench::new().await;
    let start = bench.start_device_login(CLIENT_AZURE_CLI, SIGN_IN).await;
    let (_, foreign) = bench.poll(CLIENT_APP, &start).await;
    assert_eq!(foreign["error_codes"][0], 70018);
    assert!(bench.entra.decline());
    assert!(!bench.entra.decline());
    let (status, declined) = bench.poll(CLIENT_AZURE_CLI, &start).await;
    assert_eq!((status, &declined["error"]), (400, &"authorization_declined".into()));

    let start = bench.start_device_login(CLIENT_AZURE_CLI, SIGN_IN).await;
    bench.entra.advance_clock(901);
    let (_, expired) = bench.poll(CLIENT_AZURE_CLI, &start).await;
    assert_eq!((&expired["error"], &expired["error_codes"][0]), (&"expired_token".into(), &70019.into()));
}

#[tokio::test]
async fn an_approval_may_be_given_before_the_login_begins() {
    let bench = Bench::new().await;
    bench.entra.approve(USER_ONE);
    let first = bench.start_device_login(CLIENT_AZURE_CLI, SIGN_IN).await;
    let second = bench.start_device_login(CLIENT_AZURE_CLI, SIGN_IN).await;
    assert_eq!(bench.poll(CLIENT_AZURE_CLI, &first).await.0, 200);
    assert_eq!(bench.poll(CLIENT_AZURE_CLI, &second).await.0, 400);
}

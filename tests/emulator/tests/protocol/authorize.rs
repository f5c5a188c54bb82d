use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use emulator::{CLIENT_APP, PASSWORD, USER_ONE, USER_TWO};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::support::{Bench, SIGN_IN, decoded, hidden_field, text};

const REDIRECT: &str = "http://localhost:8400";
const VERIFIER: &str = "a-verifier-of-forty-three-characters-0123456";

fn authorize_path(extra: &[(&str, &str)]) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("client_id", CLIENT_APP)
        .append_pair("response_type", "code")
        .append_pair("redirect_uri", REDIRECT)
        .append_pair("scope", SIGN_IN)
        .append_pair("state", "state-1")
        .append_pair("nonce", "nonce-1")
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256")
        .extend_pairs(extra);
    format!("/organizations/oauth2/v2.0/authorize?{}", query.finish())
}

async fn redeem(bench: &Bench, code: &str, verifier: &str, redirect: &str) -> (u16, Value) {
    bench
        .token(&[
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT_APP),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
            ("scope", SIGN_IN),
            ("client_info", "1"),
        ])
        .await
}

/// The parameters in the redirect address.
fn redirected(reply: &reqwest::Response) -> Vec<(String, String)> {
    assert_eq!(reply.status(), 302);
    let location = reply.headers()["location"].to_str().unwrap();
    assert!(location.starts_with(REDIRECT));
    Url::parse(location).unwrap().query_pairs().into_owned().collect()
}

fn value(pairs: &[(String, String)], name: &str) -> String {
    let found = pairs.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

async fn code(bench: &Bench) -> String {
    bench.entra.set(|settings| settings.auto_sign_in = Some(USER_ONE.into()));
    value(&redirected(&bench.get(&authorize_path(&[])).await), "code")
}

#[tokio::test]
async fn a_code_is_redeemed_once_with_its_verifier() {
    let bench = Bench::new().await;
    let code = code(&bench).await;
    let (status, tokens) = redeem(&bench, &code, VERIFIER, REDIRECT).await;
    assert_eq!(status, 200);
    assert_eq!(decoded(&tokens["id_token"])["nonce"], "nonce-1");
    let (status, reused) = redeem(&bench, &code, VERIFIER, REDIRECT).await;
    assert_eq!((status, &reused["error_codes"][0]), (400, &54005.into()));
}

#[tokio::test]
async fn a_wrong_verifier_or_redirect_address_is_refused() {
    let bench = Bench::new().await;
    let code = code(&bench).await;
    let (_, wrong) = redeem(&bench, &code, "another-verifier", REDIRECT).await;
    assert_eq!(wrong["error_codes"][0], 501481);
    let (_, missing) = redeem(&bench, &code, "", REDIRECT).await;
    assert_eq!(missing["error_codes"][0], 50148);
    let (status, elsewhere) = redeem(&bench, &code, VERIFIER, "http://localhost:1").await;
    assert_eq!((status, &elsewhere["error_codes"][0]), (401, &500112.into()));
    assert_eq!(redeem(&bench, &code, VERIFIER, REDIRECT).await.0, 200);
}

#[tokio::test]
async fn the_page_takes_a_second_try_and_posts_the_form() {
    let bench = Bench::new().await;
    let path =
        authorize_path(&[("response_mode", "form_post"), ("login_hint", USER_TWO), ("client_info", "1")]);
    let page = bench.get(&path).await.text().await.unwrap();
    assert!(page.contains(&format!(r#"value="{USER_TWO}""#)));
    let context = hidden_field(&page, "ctx");
    let sign_in = async |user: &str, password: &str| {
        let form =
            [("ctx", context.as_str()), ("loginfmt", user), ("passwd", password), ("action", "signin")];
        bench.post("/organizations/login", &form).await.text().await.unwrap()
    };
    assert!(sign_in("nobody@contoso.example", "x").await.contains("This username may be incorrect"));
    assert!(sign_in(USER_TWO, "wrong").await.contains("Your account or password is incorrect"));
    let page = sign_in(USER_TWO, PASSWORD).await;
    assert!(page.contains(&format!(r#"action="{REDIRECT}""#)) && page.contains("<noscript>"));
    assert_eq!(hidden_field(&page, "state"), "state-1");
    let (status, tokens) = redeem(&bench, &hidden_field(&page, "code"), VERIFIER, REDIRECT).await;
    assert_eq!(status, 200);
    assert_eq!(decoded(&tokens["id_token"])["preferred_username"], USER_TWO);
}

#[tokio::test]
async fn cancel_is_access_denied() {
    let bench = Bench::new().await;
    let page = bench.get(&authorize_path(&[])).await.text().await.unwrap();
    let form = [("ctx", hidden_field(&page, "ctx")), ("action", "cancel".into())];
    let reply = bench.http.post(bench.url("/organizations/login")).form(&form).send().await.unwrap();
    let pairs = redirected(&reply);
    assert_eq!(value(&pairs, "error"), "access_denied");
    assert_eq!(value(&pairs, "state"), "state-1");
    assert!(value(&pairs, "error_description").starts_with("AADSTS65004: "));
}

#[tokio::test]
async fn prompt_decides_what_a_session_is_good_for() {
    let bench = Bench::new().await;
    let silent = authorize_path(&[("prompt", "none")]);
    let pairs = redirected(&bench.get(&silent).await);
    assert_eq!(value(&pairs, "error"), "login_required");

    let page = bench.get(&authorize_path(&[])).await.text().await.unwrap();
    let context = hidden_field(&page, "ctx");
    let form =
        [("ctx", context.as_str()), ("loginfmt", USER_ONE), ("passwd", PASSWORD), ("action", "signin")];
    let reply = bench.post("/organizations/login", &form).await;
    let cookie = reply.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let with_cookie = async |path: &str| {
        let request = bench.http.get(bench.url(path)).header("cookie", &cookie);
        request.send().await.unwrap()
    };
    assert!(!value(&redirected(&with_cookie(&silent).await), "code").is_empty());
    let pick = with_cookie(&authorize_path(&[("prompt", "select_account")])).await;
    assert!(pick.text().await.unwrap().contains("Pick an account"));
    let login = with_cookie(&authorize_path(&[("prompt", "login")])).await;
    assert!(login.text().await.unwrap().contains(r#"id="password""#));

    bench.entra.change_password(USER_ONE);
    assert_eq!(value(&redirected(&with_cookie(&silent).await), "error"), "login_required");
}

#[tokio::test]
async fn an_unregistered_redirect_address_gets_a_page_and_never_a_redirect() {
    let bench = Bench::new().await;
    let path = authorize_path(&[]).replace("localhost", "127.0.0.1");
    let reply = bench.get(&path).await;
    assert_eq!(reply.status(), 400);
    assert!(reply.text().await.unwrap().contains("AADSTS50011"));
}

#[tokio::test]
async fn a_code_from_before_a_password_change_is_dead() {
    let bench = Bench::new().await;
    let code = code(&bench).await;
    bench.entra.change_password(USER_ONE);
    let (_, refused) = redeem(&bench, &code, VERIFIER, REDIRECT).await;
    assert!(text(&refused["error_description"]).starts_with("AADSTS50173: "));
}

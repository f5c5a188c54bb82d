//! An emulator and a client that trusts it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use emulator::{CLIENT_AZURE_CLI, Config, Emulator, USER_ONE};
use reqwest::{Certificate, Client, Response, redirect};
use serde_json::Value;

pub(crate) const ARM: &str = "https://management.core.windows.net//.default";
pub(crate) const SIGN_IN: &str =
    "https://management.core.windows.net//.default offline_access openid profile";
pub(crate) const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

pub(crate) struct Bench {
    pub(crate) entra: Emulator,
    pub(crate) http: Client,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let entra = Emulator::start(Config::default()).await;
        let ca = Certificate::from_pem(entra.ca_pem().as_bytes()).unwrap();
        let http = Client::builder()
            .tls_certs_only([ca])
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self { entra, http }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.entra.authority())
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Response {
        let request = self.http.post(self.url(path)).form(form);
        request.send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.http.get(self.url(path)).send().await.unwrap()
    }

    pub(crate) async fn token_in(&self, tenant: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let reply = self.post(&format!("/{tenant}/oauth2/v2.0/token"), form).await;
        (reply.status().as_u16(), reply.json().await.unwrap())
    }

    pub(crate) async fn token(&self, form: &[(&str, &str)]) -> (u16, Value) {
        self.token_in("organizations", form).await
    }

    pub(crate) async fn refresh(&self, client: &str, secret: &str) -> (u16, Value) {
        self.token(&[
            ("grant_type", "refresh_token"),
            ("client_id", client),
            ("refresh_token", secret),
            ("scope", SIGN_IN),
            ("client_info", "1"),
        ])
        .await
    }

    pub(crate) async fn start_device_login(&self, client: &str, scope: &str) -> Value {
        let form = [("client_id", client), ("scope", scope)];
        let reply = self.post("/organizations/oauth2/v2.0/devicecode", &form).await;
        assert_eq!(reply.status(), 200);
        reply.json().await.unwrap()
    }

    pub(crate) async fn poll(&self, client: &str, start: &Value) -> (u16, Value) {
        self.token(&[
            ("grant_type", DEVICE_GRANT),
            ("client_id", client),
            ("device_code", start["device_code"].as_str().unwrap()),
            ("client_info", "1"),
        ])
        .await
    }

    pub(crate) async fn log_in_as(&self, user: &str, client: &str) -> Value {
        self.entra.approve(user);
        let start = self.start_device_login(client, SIGN_IN).await;
        let (status, tokens) = self.poll(client, &start).await;
        assert_eq!(status, 200, "{tokens}");
        tokens
    }

    /// User one's refresh token for Azure CLI.
    pub(crate) async fn log_in(&self) -> String {
        let tokens = self.log_in_as(USER_ONE, CLIENT_AZURE_CLI).await;
        text(&tokens["refresh_token"])
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The payload of a token, or the whole of client_info.
pub(crate) fn decoded(token: &Value) -> Value {
    let token = token.as_str().unwrap();
    let part = token.split('.').nth(1).unwrap_or(token);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The hidden fields of a page's form.
pub(crate) fn hidden_field(page: &str, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    let rest = page.split(&start).nth(1).unwrap_or_default();
    rest.split('"').next().unwrap_or_default().to_owned()
}

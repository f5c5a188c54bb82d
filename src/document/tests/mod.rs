//! The room as its neighbours use it, against the files that the real libraries wrote.

mod access_token;
mod accounts;
mod broken;
mod defects;
mod golden;
mod login;
mod merge;
mod oracle;
mod properties;
mod refresh_token;
mod removal;
mod stale;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::*;
use crate::time::UnixTime;
use crate::token::Scopes;

const NOW: i64 = 1_767_225_600;
const T1: &str = "11111111-1111-4111-8111-111111111111";
const T2: &str = "22222222-2222-4222-8222-222222222222";
const HOME_ONE: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa.11111111-1111-4111-8111-111111111111";
const HOME_TWO: &str = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb.22222222-2222-4222-8222-222222222222";
const APP: &str = "33333333-3333-4333-8333-333333333333";
const APP2: &str = "44444444-4444-4444-8444-444444444444";
const AZCLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
const VS: &str = "872cd9fa-d31f-45e0-9eab-6e460a02d1f1";
const MICROSOFTONLINE: &str = "login.microsoftonline.com";
const WINDOWS: &str = "login.windows.net";
const ARM: &str = "https://management.core.windows.net//.default";
const USER_READ: &str = "https://graph.microsoft.com/User.Read";
const GRAPH: [&str; 5] = ["openid", "profile", "email", USER_READ, "https://graph.microsoft.com/Mail.Read"];

fn at(seconds: i64) -> UnixTime {
    UnixTime::from_seconds(NOW + seconds)
}

fn document(value: &Value) -> TokenCacheDocument {
    TokenCacheDocument::parse(value.to_string().as_bytes()).unwrap()
}

fn fixture(name: &str) -> TokenCacheDocument {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    TokenCacheDocument::parse(&fs::read(path).unwrap()).unwrap()
}

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut found: Vec<PathBuf> = ["msal-python", "msal-node", "msal-dotnet"]
        .iter()
        .flat_map(|library| fs::read_dir(root.join(library)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    found.sort();
    found
}

fn as_json(document: &TokenCacheDocument) -> Value {
    serde_json::from_slice(&document.to_bytes()).unwrap()
}

/// A section's entries, in order.
fn entries(document: &TokenCacheDocument, section: &str) -> Vec<Value> {
    let value = as_json(document);
    let section = value.get(section).and_then(Value::as_object);
    section.map(|entries| entries.values().cloned().collect()).unwrap_or_default()
}

fn entry_at<'a>(value: &'a mut Value, section: &str, place: usize) -> &'a mut Map<String, Value> {
    let entries = value[section].as_object_mut().unwrap();
    entries.values_mut().nth(place).unwrap().as_object_mut().unwrap()
}

/// Writes a field into all entries of a section.
fn with_field(document: &TokenCacheDocument, section: &str, field: &str, to: &Value) -> TokenCacheDocument {
    let mut value = as_json(document);
    for entry in value[section].as_object_mut().unwrap().values_mut() {
        entry[field] = to.clone();
    }
    self::document(&value)
}

fn id_token(username: &str) -> String {
    let claims = json!({"preferred_username": username, "oid": "o"}).to_string();
    format!("e30.{}.fake-signature", URL_SAFE_NO_PAD.encode(claims))
}

/// User one's login to APP in T1 for Graph, as a device login brings it.
fn login() -> IssuedTokens {
    IssuedTokens {
        home_account_id: HOME_ONE.to_owned(),
        host: MICROSOFTONLINE.to_owned(),
        client_id: APP.to_owned(),
        requested_tenant: "organizations".to_owned(),
        token_tenant: Some(T1.to_owned()),
        scopes: GRAPH.map(str::to_owned).to_vec(),
        access_token: SecretString::from("new-access-token"),
        token_type: "Bearer".to_owned(),
        issued_at: at(10),
        expires_on: at(4909),
        extended_expires_on: at(4909),
        refresh_on: None,
        refresh_token: Some(SecretString::from("new-refresh-token")),
        family_id: None,
        id_token: Some(SecretString::from(id_token("user.one@contoso.example"))),
        account: Some(IssuedAccount {
            local_account_id: HOME_ONE.split('.').next().unwrap().to_owned(),
            username: Some("user.one@contoso.example".to_owned()),
            name: Some("Fake User 1".to_owned()),
            authority_type: "MSSTS",
            client_info: Some("fake-client-info".to_owned()),
        }),
        origin: Origin::SignIn { grant_type: "urn:ietf:params:oauth:grant-type:device_code" },
    }
}

fn refresh() -> IssuedTokens {
    IssuedTokens { origin: Origin::Refresh, ..login() }
}

fn save(tokens: IssuedTokens) -> ChangeSet {
    ChangeSet::of(Change::Save(Box::new(tokens)))
}

fn scopes(scopes: &[&str]) -> Scopes {
    Scopes::new(scopes.iter().copied()).unwrap()
}

/// User one, APP, T1, five minutes to go.
fn query(scopes: &Scopes) -> AccessTokenQuery<'_> {
    AccessTokenQuery {
        home_account_id: HOME_ONE,
        environment: MICROSOFTONLINE,
        client_id: APP,
        any_family_client: false,
        realm: T1,
        scopes,
        min_validity: Duration::from_secs(300),
    }
}

fn refresh_secrets<'a>(document: &'a TokenCacheDocument, client_id: &str) -> Vec<&'a str> {
    let query = RefreshTokenQuery { home_account_id: HOME_ONE, environment: MICROSOFTONLINE, client_id };
    document.refresh_tokens(&query).iter().map(RefreshTokenView::secret).collect()
}

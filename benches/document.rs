//! What the cache document costs as it grows: reading, writing, look-up and one saved token.
//!
//! Prints nanoseconds per operation and how many times that is the ten-entry case. A ratio below
//! the ratio of the sizes means that an operation costs less than linearly. Run it with
//! `cargo bench --bench document`.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokenkeep::Scopes;
use tokenkeep::document::{
    AccessTokenQuery, Change, ChangeSet, IssuedAccount, IssuedTokens, Origin, RefreshTokenQuery,
    TokenCacheDocument,
};
use tokenkeep::time::UnixTime;

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
const NOW: i64 = 1_767_225_600;
const CLIENT: &str = "33333333-3333-4333-8333-333333333333";
const TENANT: &str = "11111111-1111-4111-8111-111111111111";
const HOST: &str = "login.microsoftonline.com";

fn main() {
    let rows = SIZES.map(measure);
    println!("{:<22}{:>10}{:>16}{:>12}", "operation", "entries", "ns/op", "ratio");
    for (place, (operation, _)) in rows[0].iter().enumerate() {
        let base = rows[0][place].1;
        for (size, row) in SIZES.iter().zip(&rows) {
            let cost = row[place].1;
            println!("{operation:<22}{size:>10}{cost:>16.0}{:>12.1}", cost / base);
        }
    }
}

fn measure(size: usize) -> [(&'static str, f64); 7] {
    let document = document_of(size);
    let bytes = document.to_bytes();
    let (first, last) = (home(0), home(size / 5 - 1));
    let scopes = Scopes::new(["https://graph.microsoft.com/User.Read"]).expect("a scope");
    let query = |home_account_id| AccessTokenQuery {
        home_account_id,
        environment: HOST,
        client_id: CLIENT,
        any_family_client: false,
        realm: TENANT,
        scopes: &scopes,
        min_validity: Duration::from_secs(300),
    };
    let refresh_query = RefreshTokenQuery { home_account_id: &last, environment: HOST, client_id: CLIENT };
    let now = UnixTime::from_seconds(NOW);
    let (one, other) = (save(&last, "one"), save(&last, "other"));
    let mut changing = document.clone();
    let mut is_one = false;

    assert!(document.access_token(&query(&last), now).is_some(), "the bench looks for nothing");
    [
        ("parse and drop", time(|| TokenCacheDocument::parse(&bytes).map(drop))),
        ("write", time(|| document.to_bytes())),
        ("find first token", time(|| document.access_token(&query(&first), now).is_some())),
        ("find last token", time(|| document.access_token(&query(&last), now).is_some())),
        ("find refresh tokens", time(|| document.refresh_tokens(&refresh_query).len())),
        ("list accounts", time(|| document.accounts().len())),
        (
            "save one reply",
            time(|| {
                is_one = !is_one;
                changing.apply(if is_one { &one } else { &other })
            }),
        ),
    ]
}

/// The best of several rounds, each long enough for the clock.
fn time<T>(mut operation: impl FnMut() -> T) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let (start, mut count) = (Instant::now(), 0_u32);
        while start.elapsed() < Duration::from_millis(40) {
            black_box(operation());
            count += 1;
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(count));
    }
    best
}

fn home(number: usize) -> String {
    format!("aaaaaaaa-aaaa-4aaa-8aaa-{number:012}.{TENANT}")
}

/// Signed-in accounts with three access tokens, a refresh token and an account entry each.
fn document_of(entries: usize) -> TokenCacheDocument {
    let (mut access, mut refresh, mut accounts) = (Map::new(), Map::new(), Map::new());
    for number in 0..entries / 5 {
        let home = home(number);
        for resource in
            ["https://graph.microsoft.com", "https://management.azure.com", "https://vault.azure.net"]
        {
            let target = format!("openid profile {resource}/.default {resource}/User.Read");
            access.insert(
                format!("{home}-{HOST}-accesstoken-{CLIENT}-{TENANT}-{target}"),
                json!({
                    "credential_type": "AccessToken", "secret": "s".repeat(1500), "home_account_id": home,
                    "environment": HOST, "client_id": CLIENT, "target": target, "realm": TENANT,
                    "token_type": "Bearer", "cached_at": NOW.to_string(),
                    "expires_on": (NOW + 3600).to_string(), "extended_expires_on": (NOW + 3600).to_string(),
                }),
            );
        }
        refresh.insert(
            format!("{home}-{HOST}-refreshtoken-{CLIENT}--"),
            json!({
                "credential_type": "RefreshToken", "secret": "s".repeat(1000), "home_account_id": home,
                "environment": HOST, "client_id": CLIENT, "last_modification_time": NOW.to_string(),
            }),
        );
        accounts.insert(
            format!("{home}-{HOST}-{TENANT}"),
            json!({
                "home_account_id": home, "environment": HOST, "realm": TENANT, "local_account_id": "o",
                "username": format!("user{number}@contoso.example"), "authority_type": "MSSTS",
            }),
        );
    }
    let root = json!({
        "AccessToken": Value::Object(access), "Account": Value::Object(accounts), "IdToken": {},
        "RefreshToken": Value::Object(refresh),
        "AppMetadata": {format!("appmetadata-{HOST}-{CLIENT}"): {"client_id": CLIENT, "environment": HOST}},
    });
    TokenCacheDocument::parse(root.to_string().as_bytes()).expect("a document")
}

fn save(home_account_id: &str, secret: &str) -> ChangeSet {
    ChangeSet::of(Change::Save(Box::new(IssuedTokens {
        home_account_id: home_account_id.to_owned(),
        host: HOST.to_owned(),
        client_id: CLIENT.to_owned(),
        requested_tenant: TENANT.to_owned(),
        token_tenant: Some(TENANT.to_owned()),
        scopes: vec!["https://graph.microsoft.com/User.Read".to_owned()],
        access_token: SecretString::from(secret.repeat(500)),
        token_type: "Bearer".to_owned(),
        issued_at: UnixTime::from_seconds(NOW),
        expires_on: UnixTime::from_seconds(NOW + 3600),
        extended_expires_on: UnixTime::from_seconds(NOW + 3600),
        refresh_on: None,
        refresh_token: Some(SecretString::from(secret.repeat(300))),
        family_id: None,
        id_token: Some(SecretString::from(secret.repeat(300))),
        account: Some(IssuedAccount {
            local_account_id: "o".to_owned(),
            username: Some("user@contoso.example".to_owned()),
            name: None,
            authority_type: "MSSTS",
            client_info: None,
        }),
        origin: Origin::Refresh,
    })))
}

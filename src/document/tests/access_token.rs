use super::*;

const PYTHON: &str = "msal-python/01-one-user-one-client.json";

fn found(document: &TokenCacheDocument, query: &AccessTokenQuery<'_>, now: i64) -> Option<String> {
    document.access_token(query, at(now)).map(|view| view.secret().to_owned())
}

fn is_found(document: &TokenCacheDocument, wanted: &[&str]) -> bool {
    found(document, &query(&scopes(wanted)), 0).is_some()
}

#[test]
fn a_token_does_for_a_subset_of_its_scopes_whatever_their_case() {
    let document = fixture(PYTHON);
    let mail = "https://graph.microsoft.com/mail.READ";
    assert!(is_found(&document, &[USER_READ]));
    assert!(is_found(&document, &[mail, USER_READ]));
    assert!(is_found(&document, &[mail, USER_READ, "email"]));
    assert!(!is_found(&document, &[USER_READ, "https://graph.microsoft.com/Files.Read"]));
    assert!(!is_found(&document, &[ARM]));
}

#[test]
fn sign_in_scopes_do_not_count_unless_nothing_else_is_asked_for() {
    let bare = with_field(&fixture(PYTHON), "AccessToken", "target", &json!(USER_READ));
    assert!(is_found(&bare, &[USER_READ, "email"]));
    assert!(!is_found(&bare, &["email"]));
    assert!(is_found(&fixture(PYTHON), &["email"]));
}

#[test]
fn any_alias_finds_the_token_and_another_cloud_does_not() {
    let wanted = scopes(&[USER_READ]);
    let query = query(&wanted);
    for name in [PYTHON, "msal-node/01-one-user-one-client.json", "msal-dotnet/01-one-user-one-client.json"] {
        let document = fixture(name);
        for (environment, hits) in [
            (MICROSOFTONLINE, true),
            (WINDOWS, true),
            ("STS.Windows.net", true),
            ("login.microsoftonline.us", false),
            ("login.example", false),
        ] {
            let query = AccessTokenQuery { environment, ..query };
            assert_eq!(found(&document, &query, 10).is_some(), hits, "{name} {environment}");
        }
    }
}

#[test]
fn organizations_common_and_the_home_tenant_are_one_realm() {
    let document = fixture("msal-python/11a-app-device-flow-organizations.json");
    let wanted = scopes(&[ARM]);
    for (realm, hits) in [(T1, true), ("organizations", true), ("Common", true), (T2, false)] {
        let query = AccessTokenQuery { realm, ..query(&wanted) };
        assert_eq!(found(&document, &query, 0).is_some(), hits, "{realm}");
    }
}

#[test]
fn a_guests_token_is_found_in_its_own_tenant_only() {
    for library in ["msal-python", "msal-node", "msal-dotnet"] {
        let document = fixture(&format!("{library}/05-guest-second-tenant.json"));
        let wanted = scopes(&[USER_READ]);
        let guest = AccessTokenQuery { realm: T2, ..query(&wanted) };
        let home = AccessTokenQuery { realm: "organizations", ..query(&wanted) };
        assert_eq!(found(&document, &guest, 10).unwrap(), "fake-access-token-u1-guest-in-t2");
        assert_eq!(found(&document, &home, 10).unwrap(), "fake-access-token-u1-app-graph");
    }
}

#[test]
fn the_account_and_the_client_have_to_be_the_ones_asked_for() {
    let document = fixture(PYTHON);
    let wanted = scopes(&[USER_READ]);
    let other_account = AccessTokenQuery { home_account_id: HOME_TWO, ..query(&wanted) };
    let other_client = AccessTokenQuery { client_id: APP2, ..query(&wanted) };
    let other_case = APP.to_uppercase();
    let same_client = AccessTokenQuery { client_id: &other_case, ..query(&wanted) };
    assert_eq!(found(&document, &other_account, 0), None);
    assert_eq!(found(&document, &other_client, 0), None);
    assert!(found(&document, &same_client, 0).is_some());
}

#[test]
fn a_token_with_less_time_left_than_asked_for_is_a_miss() {
    let document = fixture(PYTHON);
    let wanted = scopes(&[USER_READ]);
    let strict = query(&wanted);
    let lax = AccessTokenQuery { min_validity: Duration::ZERO, ..strict };
    assert!(found(&document, &strict, 4899 - 300).is_some());
    assert!(found(&document, &strict, 4899 - 299).is_none());
    assert!(found(&document, &lax, 4898).is_some());
    assert!(found(&document, &lax, 4899).is_none());
}

#[test]
fn a_token_from_the_future_is_a_miss() {
    assert!(found(&fixture(PYTHON), &query(&scopes(&[USER_READ])), -6).is_none());
    assert!(found(&fixture(PYTHON), &query(&scopes(&[USER_READ])), -5).is_some(), "Node rounds up");
}

#[test]
fn a_token_good_for_more_than_ten_years_is_a_miss() {
    let ten_years = 3650 * 86_400;
    for (expires_on, hits) in [(NOW + ten_years, true), (NOW + ten_years + 1, false), (i64::MAX, false)] {
        let document =
            with_field(&fixture(PYTHON), "AccessToken", "expires_on", &json!(expires_on.to_string()));
        assert_eq!(is_found(&document, &[USER_READ]), hits, "{expires_on}");
    }
}

#[test]
fn a_token_due_for_refresh_is_still_a_hit_and_says_so() {
    let document = fixture("msal-python/06-refresh-on.json");
    let wanted = scopes(&[ARM]);
    let view = document.access_token(&query(&wanted), at(43_200)).unwrap();
    assert_eq!(view.refresh_on(), Some(at(43_199)));
    assert_eq!(view.expires_on(), at(86_399));
}

#[test]
fn tokens_bound_to_something_are_skipped() {
    let fmi = fixture("msal-python/08-ext-cache-key-fmi-path.json");
    let wanted = scopes(&["https://vault.azure.net/.default"]);
    let app = AccessTokenQuery { home_account_id: "", client_id: APP2, ..query(&wanted) };
    assert_eq!(found(&fmi, &app, 10).unwrap(), "fake-access-token-client-credentials");

    let ssh = fixture("msal-python/10-ssh-cert-key-id.json");
    let wanted = scopes(&["https://pas.windows.net/CheckMyAccess/Linux/.default"]);
    assert_eq!(found(&ssh, &AccessTokenQuery { client_id: AZCLI, ..query(&wanted) }, 0), None);

    let obo = fixture("msal-python/22-azure-identity-aio-obo-nocae.json");
    let composite = entries(&obo, "AccessToken")[0]["client_id"].as_str().unwrap().to_owned();
    let wanted = scopes(&[USER_READ]);
    assert_eq!(found(&obo, &AccessTokenQuery { client_id: &composite, ..query(&wanted) }, 0), None);

    for (field, value) in [
        ("credential_type", "AccessToken_With_AuthScheme"),
        ("credential_type", "ATExt"),
        ("token_type", "pop"),
        ("key_id", "k"),
        ("kid", "k"),
        ("keyid", "k"),
        ("ext_cache_key", "k"),
        ("user_assertion_hash", "h"),
        ("userAssertionHash", "h"),
    ] {
        let document = with_field(&fixture(PYTHON), "AccessToken", field, &json!(value));
        assert!(!is_found(&document, &[USER_READ]), "{field} {value}");
    }
    for field in ["key_id", "ext_cache_key", "user_assertion_hash"] {
        for nothing in [json!(null), json!("")] {
            let document = with_field(&fixture(PYTHON), "AccessToken", field, &nothing);
            assert!(is_found(&document, &[USER_READ]), "{field}");
        }
    }
}

#[test]
fn numbers_and_a_missing_token_type_are_read() {
    let mut value = as_json(&fixture(PYTHON));
    let entry = entry_at(&mut value, "AccessToken", 0);
    entry.insert("cached_at".to_owned(), json!(NOW));
    entry.insert("expires_on".to_owned(), json!(NOW + 4899));
    entry.shift_remove("token_type");
    let document = document(&value);
    let wanted = scopes(&[USER_READ]);
    let view = document.access_token(&query(&wanted), at(0)).unwrap();
    assert_eq!((view.token_type(), view.expires_on()), ("Bearer", at(4899)));
}

#[test]
fn of_two_matches_the_exact_environment_wins_then_the_later_expiry() {
    let document = document(&json!({"AccessToken": {
        "a": token(MICROSOFTONLINE, "short", 1000),
        "b": token(MICROSOFTONLINE, "long", 2000),
        "c": token(WINDOWS, "longest", 3000),
    }}));
    let wanted = scopes(&[USER_READ]);
    for (environment, secret) in
        [(MICROSOFTONLINE, "long"), (WINDOWS, "longest"), ("sts.windows.net", "longest")]
    {
        let query = AccessTokenQuery { environment, ..query(&wanted) };
        assert_eq!(found(&document, &query, 0).unwrap(), secret);
    }
}

#[test]
fn a_familys_token_does_if_allowed_and_known_to_be_one() {
    let document = fixture("msal-python/03-foci-family.json");
    let wanted = scopes(&[ARM]);
    let family = AccessTokenQuery { any_family_client: true, ..query(&wanted) };
    assert_eq!(found(&document, &query(&wanted), 10), None);
    assert_eq!(found(&document, &family, 10).unwrap(), "fake-access-token-u1-vs-family");
    let own_first = AccessTokenQuery { client_id: AZCLI, ..family };
    assert_eq!(found(&document, &own_first, 10).unwrap(), "fake-access-token-u1-azcli-family");

    let mut value = as_json(&document);
    value["AppMetadata"] = json!({});
    assert!(found(&self::document(&value), &family, 10).is_some(), "refresh tokens tell, too");
    value["RefreshToken"] = json!({});
    assert_eq!(found(&self::document(&value), &family, 10), None);
}

fn token(environment: &str, secret: &str, expires_in: i64) -> Value {
    json!({
        "credential_type": "AccessToken", "secret": secret, "home_account_id": HOME_ONE,
        "environment": environment, "client_id": APP, "realm": T1, "target": USER_READ,
        "cached_at": NOW.to_string(), "expires_on": (NOW + expires_in).to_string(),
    })
}

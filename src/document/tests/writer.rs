use super::oracle::assert_all_readers_agree;
use super::*;

const PYTHON: &str = "msal-python/01-one-user-one-client.json";
const RELOGINS: [&str; 6] = [
    PYTHON,
    "msal-node/01-one-user-one-client.json",
    "msal-dotnet/01-one-user-one-client.json",
    "msal-node/16-python-01-then-node-relogin.json",
    "msal-dotnet/16-python-01-then-dotnet-relogin.json",
    "msal-dotnet/17-node-01-then-dotnet-relogin.json",
];

#[test]
fn a_login_to_an_empty_cache_writes_what_python_and_dotnet_would() {
    let mut document = TokenCacheDocument::default();
    assert!(document.apply(&save(login())));
    let target =
        "email https://graph.microsoft.com/Mail.Read https://graph.microsoft.com/User.Read openid profile";
    let base = format!("{HOME_ONE}-{WINDOWS}");
    let expected = json!({
        "AccessToken": {format!("{base}-accesstoken-{APP}-{T1}-{}", target.to_lowercase()): {
            "credential_type": "AccessToken", "secret": "new-access-token", "home_account_id": HOME_ONE,
            "environment": WINDOWS, "client_id": APP, "target": target, "realm": T1, "token_type": "Bearer",
            "cached_at": (NOW + 10).to_string(), "expires_on": (NOW + 4909).to_string(),
            "extended_expires_on": (NOW + 4909).to_string(),
        }},
        "Account": {format!("{base}-{T1}"): {
            "home_account_id": HOME_ONE, "environment": WINDOWS, "realm": T1,
            "local_account_id": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "username": "user.one@contoso.example",
            "authority_type": "MSSTS", "account_source": "urn:ietf:params:oauth:grant-type:device_code",
            "name": "Fake User 1",
        }},
        "IdToken": {format!("{base}-idtoken-{APP}-{T1}-"): {
            "credential_type": "IdToken", "secret": id_token("user.one@contoso.example"),
            "home_account_id": HOME_ONE, "environment": WINDOWS, "realm": T1, "client_id": APP,
        }},
        "RefreshToken": {format!("{base}-refreshtoken-{APP}--"): {
            "credential_type": "RefreshToken", "secret": "new-refresh-token", "home_account_id": HOME_ONE,
            "environment": WINDOWS, "client_id": APP, "last_modification_time": (NOW + 10).to_string(),
        }},
        "AppMetadata": {format!("appmetadata-{WINDOWS}-{APP}"): {"client_id": APP, "environment": WINDOWS}},
    });
    assert_eq!(as_json(&document), expected);
    assert_all_readers_agree(&document);
}

#[test]
fn a_relogin_leaves_one_entry_of_each_kind() {
    for name in RELOGINS {
        for tenant in ["organizations", T1] {
            let mut document = fixture(name);
            let tokens = IssuedTokens { requested_tenant: tenant.to_owned(), ..login() };
            assert!(document.apply(&save(tokens.clone())));
            for section in ["AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata"] {
                assert_eq!(entries(&document, section).len(), 1, "{name} {tenant} {section}");
            }
            assert_eq!(refresh_secrets(&document, APP), ["new-refresh-token"]);
            let wanted = scopes(&[USER_READ]);
            let view = document.access_token(&query(&wanted), at(10)).unwrap();
            assert_eq!(view.secret(), "new-access-token");
            assert_all_readers_agree(&document);
            assert!(!document.apply(&save(tokens)), "{name}: a second time changes nothing");
        }
    }
}

#[test]
fn the_environment_is_the_existing_accounts() {
    for (name, environment) in RELOGINS.iter().zip([MICROSOFTONLINE, WINDOWS, WINDOWS, MICROSOFTONLINE]) {
        let mut document = fixture(name);
        document.apply(&save(login()));
        for section in ["AccessToken", "RefreshToken", "Account"] {
            assert_eq!(entries(&document, section)[0]["environment"], environment, "{name} {section}");
        }
    }
}

#[test]
fn python_finds_our_rotated_token_under_the_key_it_computes() {
    let mut document = fixture("msal-python/03-foci-family.json");
    let tokens = IssuedTokens { client_id: AZCLI.to_owned(), family_id: Some("1".to_owned()), ..refresh() };
    assert!(document.apply(&save(tokens)));
    let value = as_json(&document);
    let key = format!("{HOME_ONE}-{MICROSOFTONLINE}-refreshtoken-{AZCLI}--");
    let entry = &value["RefreshToken"][&key];
    assert_eq!(
        (entry["secret"].as_str(), entry["family_id"].as_str()),
        (Some("new-refresh-token"), Some("1"))
    );
    assert_eq!(entry.get("target"), None);
    assert_eq!(value["RefreshToken"].as_object().unwrap().keys().next_back(), Some(&key), "last in the file");
    assert_eq!(refresh_secrets(&document, AZCLI), ["new-refresh-token", "fake-refresh-token-u1-vs-family"]);
}

#[test]
fn an_existing_spelling_of_the_realm_is_kept() {
    let mut document = fixture("msal-python/11a-app-device-flow-organizations.json");
    assert!(document.apply(&save(IssuedTokens { scopes: vec![ARM.to_owned()], ..login() })));
    for section in ["IdToken", "Account"] {
        let found = entries(&document, section);
        assert_eq!(found.len(), 1, "{section}");
        assert_eq!(found[0]["realm"], "organizations", "{section}");
    }
    let tokens = entries(&document, "AccessToken");
    assert_eq!((tokens.len(), &tokens[0]["realm"]), (1, &json!(T1)), "the overlapping one is replaced");
}

#[test]
fn an_access_token_is_kept_for_the_domain_it_was_asked_for() {
    let mut document = fixture(PYTHON);
    let tokens = IssuedTokens { requested_tenant: "contoso.example".to_owned(), ..refresh() };
    assert!(document.apply(&save(tokens)));
    let wanted = scopes(&[USER_READ]);
    let domain = AccessTokenQuery { realm: "Contoso.example", ..query(&wanted) };
    assert_eq!(document.access_token(&domain, at(10)).unwrap().secret(), "new-access-token");
    assert_eq!(
        document.access_token(&query(&wanted), at(10)).unwrap().secret(),
        "fake-access-token-u1-app-graph"
    );
    assert_eq!(entries(&document, "IdToken").len(), 1);
    assert_eq!(entries(&document, "Account").len(), 1);
}

#[test]
fn scopes_are_written_as_granted_in_dotnets_order() {
    let scopes = ["b", "openid", "B", "a", "C", "a"].map(str::to_owned).to_vec();
    let mut document = TokenCacheDocument::default();
    document.apply(&save(IssuedTokens { scopes, ..login() }));
    assert_eq!(entries(&document, "AccessToken")[0]["target"], "a a B b C openid");
}

#[test]
fn only_overlapping_access_tokens_are_replaced() {
    let mut document = fixture(PYTHON);
    let arm =
        IssuedTokens { scopes: vec!["openid".to_owned(), "profile".to_owned(), ARM.to_owned()], ..refresh() };
    assert!(document.apply(&save(arm)));
    assert_eq!(entries(&document, "AccessToken").len(), 2, "openid and profile are no overlap");
    let more = IssuedTokens { scopes: vec![USER_READ.to_uppercase(), "https://x/y".to_owned()], ..refresh() };
    assert!(document.apply(&save(more)));
    let targets: Vec<Value> =
        entries(&document, "AccessToken").iter().map(|entry| entry["target"].clone()).collect();
    assert_eq!(
        targets,
        [json!(format!("{ARM} openid profile")), json!(format!("{} https://x/y", USER_READ.to_uppercase()))]
    );
    assert_all_readers_agree(&document);
}

#[test]
fn an_apps_own_token_has_an_empty_home_and_no_account() {
    let tokens = IssuedTokens {
        home_account_id: String::new(),
        client_id: APP2.to_owned(),
        requested_tenant: T1.to_owned(),
        token_tenant: None,
        scopes: vec!["https://vault.azure.net/.default".to_owned()],
        refresh_token: None,
        id_token: None,
        account: None,
        origin: Origin::SignIn { grant_type: "client_credentials" },
        ..login()
    };
    for name in ["msal-python/00-empty.json", "msal-python/07-client-credentials.json"] {
        let mut document = fixture(name);
        assert!(document.apply(&save(tokens.clone())));
        let found = entries(&document, "AccessToken");
        assert_eq!(found.len(), 1, "{name}: the one with null is replaced");
        assert_eq!((&found[0]["home_account_id"], &found[0]["realm"]), (&json!(""), &json!(T1)));
        assert!(entries(&document, "Account").is_empty());
    }
}

#[test]
fn an_ad_fs_keeps_its_realm() {
    let tokens = IssuedTokens {
        home_account_id: "fake-adfs-sub".to_owned(),
        host: "adfs.contoso.example".to_owned(),
        requested_tenant: "adfs".to_owned(),
        token_tenant: None,
        scopes: vec!["https://adfs.contoso.example/api/.default".to_owned(), "openid".to_owned()],
        account: Some(IssuedAccount { authority_type: "ADFS", ..login().account.unwrap() }),
        ..login()
    };
    let mut document = fixture("msal-python/09-adfs.json");
    assert!(document.apply(&save(tokens)));
    for section in ["AccessToken", "IdToken", "Account", "RefreshToken", "AppMetadata"] {
        let found = entries(&document, section);
        assert_eq!(found.len(), 1, "{section}");
        assert_eq!(found[0]["environment"], "adfs.contoso.example");
        assert!(found[0].get("realm").is_none_or(|realm| realm == "adfs"), "{section}");
    }
}

use super::*;

fn remove(home_account_id: &str, client_id: Option<&str>) -> ChangeSet {
    ChangeSet::of(Change::RemoveAccount {
        home_account_id: home_account_id.to_owned(),
        environment: "login.microsoft.com".to_owned(),
        client_id: client_id.map(str::to_owned),
    })
}

fn remove_token(secret: &str, client_id: &str) -> ChangeSet {
    ChangeSet::of(Change::RemoveRefreshToken {
        home_account_id: HOME_ONE.to_owned(),
        client_id: client_id.to_owned(),
        secret: SecretString::from(secret),
    })
}

#[test]
fn nothing_of_a_removed_account_remains_under_any_alias() {
    for name in [
        "msal-python/12a-before-remove-account.json",
        "msal-python/05-guest-second-tenant.json",
        "msal-node/05-guest-second-tenant.json",
        "msal-dotnet/05-guest-second-tenant.json",
        "msal-node/16-python-01-then-node-relogin.json",
        "msal-dotnet/16-python-01-then-dotnet-relogin.json",
        "msal-dotnet/17-node-01-then-dotnet-relogin.json",
        "msal-python/22-azure-identity-aio-obo-nocae.json",
    ] {
        let mut document = fixture(name);
        let before = as_json(&document);
        assert!(document.apply(&remove(HOME_ONE, None)), "{name}");
        let after = as_json(&document);
        let text = after.to_string();
        assert!(!text.contains(HOME_ONE) && !text.contains("user.one"), "{name}: {text}");
        assert_eq!(after["AppMetadata"], before["AppMetadata"], "{name}");
        assert_eq!(text.matches(HOME_TWO).count(), before.to_string().matches(HOME_TWO).count(), "{name}");
        assert!(!document.apply(&remove(HOME_ONE, None)), "{name}");
    }
}

#[test]
fn another_clouds_entries_of_the_same_id_stay() {
    let document = with_field(
        &fixture("msal-python/01-one-user-one-client.json"),
        "RefreshToken",
        "environment",
        &json!("login.microsoftonline.us"),
    );
    let mut removed = document.clone();
    assert!(removed.apply(&remove(HOME_ONE, None)));
    assert_eq!(entries(&removed, "RefreshToken"), entries(&document, "RefreshToken"));
    assert!(entries(&removed, "Account").is_empty());
}

#[test]
fn one_clients_removal_leaves_the_account_to_the_others() {
    let mut document = fixture("msal-python/12a-before-remove-account.json");
    assert!(document.apply(&remove(HOME_ONE, Some(APP))));
    assert_eq!(document.accounts().len(), 2);
    assert_eq!(refresh_secrets(&document, AZCLI), ["fake-refresh-token-u1-azcli-family"]);
    let text = as_json(&document).to_string();
    assert!(
        !text.contains("fake-access-token-u1-app-graph") && !text.contains("fake-refresh-token-u1-app-graph")
    );

    assert!(document.apply(&remove(HOME_ONE, Some(AZCLI))));
    assert_eq!(document.accounts().len(), 1);
    assert!(!as_json(&document).to_string().contains(HOME_ONE));
}

#[test]
fn a_damaged_entry_of_the_account_goes_with_it() {
    let mut document = document(&json!({
        "RefreshToken": {"x": {"home_account_id": HOME_ONE, "secret": "s"}, "y": "text"},
    }));
    assert!(document.apply(&remove(HOME_ONE, None)));
    assert_eq!(as_json(&document), json!({"RefreshToken": {"y": "text"}}));
}

#[test]
fn a_refresh_token_goes_only_if_it_is_still_the_one_that_was_tried() {
    let mut document = fixture("msal-python/03-foci-family.json");
    let before = document.clone();
    let (azcli, vs) = ("fake-refresh-token-u1-azcli-family", "fake-refresh-token-u1-vs-family");
    for (secret, client) in [("rotated meanwhile", AZCLI), (azcli, VS), (vs, AZCLI)] {
        assert!(!document.apply(&remove_token(secret, client)));
    }
    let other_home = ChangeSet::of(Change::RemoveRefreshToken {
        home_account_id: HOME_TWO.to_owned(),
        client_id: AZCLI.to_owned(),
        secret: SecretString::from(azcli),
    });
    assert!(!document.apply(&other_home));
    assert_eq!(document, before);

    assert!(document.apply(&remove_token(azcli, AZCLI)));
    assert_eq!(refresh_secrets(&document, AZCLI), [vs]);
    let mut expected = as_json(&before);
    expected["RefreshToken"].as_object_mut().unwrap().retain(|_, entry| entry["secret"] != azcli);
    assert_eq!(as_json(&document), expected);
    assert!(!document.apply(&remove_token(azcli, AZCLI)));
}

#[test]
fn removing_everything_leaves_what_we_do_not_know() {
    let mut document = fixture("msal-python/13a-unknown-fields-input.json");
    let everything = ChangeSet::of(Change::RemoveEverything);
    assert!(document.apply(&everything));
    assert_eq!(
        as_json(&document),
        json!({"AccessToken": {}, "Account": {}, "IdToken": {}, "RefreshToken": {}, "AppMetadata": {}, "FutureSection": {"k": {"v": 1}}})
    );
    assert!(!document.apply(&everything));
    assert!(!TokenCacheDocument::default().apply(&everything));
}

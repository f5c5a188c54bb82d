//! What stays of what others wrote when tokens are saved.

use super::oracle::assert_all_readers_agree;
use super::*;

const PYTHON: &str = "msal-python/01-one-user-one-client.json";

#[test]
fn a_guests_tokens_stand_beside_those_at_home() {
    for library in ["msal-python", "msal-node", "msal-dotnet"] {
        let mut document = fixture(&format!("{library}/01-one-user-one-client.json"));
        let tokens = IssuedTokens {
            requested_tenant: T2.to_owned(),
            token_tenant: Some(T2.to_owned()),
            account: Some(IssuedAccount { local_account_id: "guest".to_owned(), ..login().account.unwrap() }),
            ..refresh()
        };
        assert!(document.apply(&save(tokens)));
        let accounts = entries(&document, "Account");
        assert_eq!(accounts.len(), 2, "{library}");
        assert_eq!(accounts[1]["local_account_id"], "guest");
        assert_ne!(accounts[0]["local_account_id"], "guest");
        assert_eq!(entries(&document, "IdToken").len(), 2);
        assert_eq!(entries(&document, "AccessToken").len(), 2);
        assert_eq!(entries(&document, "RefreshToken").len(), 1);
        assert_all_readers_agree(&document);
    }
}

#[test]
fn what_others_wrote_into_an_account_stays() {
    let mut value = as_json(&fixture("msal-node/01-one-user-one-client.json"));
    let entry = entry_at(&mut value, "Account", 0);
    entry.insert("wam_account_ids".to_owned(), json!({"a": "b"}));
    entry.insert("nothing".to_owned(), json!(null));
    let profiles = entry["tenantProfiles"].clone();
    let mut document = document(&value);
    let renamed =
        IssuedAccount { username: Some("new.name@contoso.example".to_owned()), ..login().account.unwrap() };
    assert!(document.apply(&save(IssuedTokens { account: Some(renamed), ..refresh() })));

    let account = &entries(&document, "Account")[0];
    assert_eq!(account["tenantProfiles"], profiles);
    assert_eq!(account["wam_account_ids"], json!({"a": "b"}));
    assert_eq!(account["nothing"], json!(null));
    assert_eq!(account["username"], "new.name@contoso.example");
    assert_eq!(account["client_info"], "fake-client-info", "kept up to date where it is");
    assert_eq!(account.get("account_source"), None, "a refresh is no sign-in");
}

#[test]
fn a_name_that_is_not_told_stays_as_it_was() {
    let mut document = fixture(PYTHON);
    let nameless = IssuedAccount { username: None, name: None, ..login().account.unwrap() };
    assert!(document.apply(&save(IssuedTokens { account: Some(nameless), ..refresh() })));
    let account = &entries(&document, "Account")[0];
    assert_eq!(account["username"], "user.one@contoso.example");
    assert_eq!(account["account_source"], "authorization_code");
}

#[test]
fn a_refresh_does_not_bring_back_an_account_that_was_signed_out() {
    let mut document = fixture(PYTHON);
    let signed_out = ChangeSet::of(Change::RemoveAccount {
        home_account_id: HOME_ONE.to_owned(),
        environment: WINDOWS.to_owned(),
        client_id: None,
    });
    assert!(document.apply(&signed_out));
    let before = document.clone();
    assert!(!document.apply(&save(refresh())));
    assert_eq!(document, before);
    assert!(document.apply(&save(login())), "a sign-in does");
    assert_eq!(document.accounts().len(), 1);
}

#[test]
fn a_reply_without_a_refresh_token_keeps_the_old_one() {
    let mut document = fixture("msal-python/03-foci-family.json");
    let tokens = IssuedTokens { client_id: AZCLI.to_owned(), refresh_token: None, ..refresh() };
    assert!(document.apply(&save(tokens)));
    assert_eq!(refresh_secrets(&document, AZCLI)[0], "fake-refresh-token-u1-azcli-family");
    assert_eq!(entries(&document, "AppMetadata")[0]["family_id"], "1", "membership is not in doubt");
}

#[test]
fn metadata_says_member_if_and_only_if_the_reply_did() {
    let mut value = as_json(&fixture("msal-python/03-foci-family.json"));
    let copy = json!({"client_id": AZCLI.to_uppercase(), "environment": WINDOWS, "family_id": "1"});
    value["AppMetadata"]["copy"] = copy;
    let mut document = document(&value);
    assert!(document.apply(&save(IssuedTokens { client_id: AZCLI.to_owned(), ..refresh() })));
    let of_azcli = |document: &TokenCacheDocument| {
        let mut found = entries(document, "AppMetadata");
        found.retain(|entry| entry["client_id"].as_str().unwrap().eq_ignore_ascii_case(AZCLI));
        found
    };
    assert_eq!(of_azcli(&document), [json!({"client_id": AZCLI, "environment": MICROSOFTONLINE})]);

    let member = IssuedTokens { client_id: AZCLI.to_owned(), family_id: Some("1".to_owned()), ..refresh() };
    assert!(document.apply(&save(member)));
    assert_eq!(of_azcli(&document)[0]["family_id"], "1");
    assert_eq!(entries(&document, "AppMetadata").len(), 2, "the other client's stays");
}

#[test]
fn of_two_metadata_copies_the_one_beside_the_account_stays() {
    for name in
        ["msal-node/16-python-01-then-node-relogin.json", "msal-dotnet/16-python-01-then-dotnet-relogin.json"]
    {
        let mut document = fixture(name);
        document.apply(&save(login()));
        let metadata = entries(&document, "AppMetadata");
        assert_eq!(metadata.len(), 1, "{name}");
        assert_eq!(metadata[0]["environment"], MICROSOFTONLINE, "{name}");
    }
}

#[test]
fn of_two_account_copies_one_stays_with_what_either_knows() {
    let mut value = as_json(&fixture("msal-node/01-one-user-one-client.json"));
    let mut copy = entry_at(&mut value, "Account", 0).clone();
    let profiles = copy.shift_remove("tenantProfiles").unwrap();
    copy.insert("environment".to_owned(), json!(MICROSOFTONLINE));
    copy.insert("realm".to_owned(), json!("organizations"));
    copy.insert("wam_account_ids".to_owned(), json!({"a": "b"}));
    value["Account"]["copy"] = Value::Object(copy);

    let mut document = document(&value);
    assert!(document.apply(&save(refresh())));
    let accounts = entries(&document, "Account");
    assert_eq!(accounts.len(), 1);
    assert_eq!(accounts[0]["environment"], MICROSOFTONLINE);
    assert_eq!(accounts[0]["tenantProfiles"], profiles);
    assert_eq!(accounts[0]["wam_account_ids"], json!({"a": "b"}));
}

#[test]
fn entries_on_behalf_of_somebody_are_nobodys_to_replace() {
    let plain = fixture(PYTHON);
    for section in ["AccessToken", "RefreshToken"] {
        let marked = with_field(&plain, section, "user_assertion_hash", &json!("h"));
        let mut document = marked.clone();
        assert!(document.apply(&save(login())));
        let found = entries(&document, section);
        assert_eq!(found.len(), 2, "{section}");
        assert_eq!(found[0], entries(&marked, section)[0], "{section}");
    }
}

#[test]
fn changes_that_undo_each_other_are_no_change() {
    let mut document = TokenCacheDocument::default();
    document.apply(&save(login()));
    let both = [Change::RemoveEverything, Change::Save(Box::new(login()))].into_iter().collect();
    assert!(!document.apply(&both));
    assert_eq!(document.accounts().len(), 1);
}

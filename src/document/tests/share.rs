//! One account's sign-in on its way from one tool's document to another's.

use super::oracle::{assert_all_readers_agree, assert_dotnet_accepts};
use super::*;

fn extracted(name: &str, clients: &[&str]) -> TokenCacheDocument {
    fixture(name).extract(HOME_ONE, MICROSOFTONLINE, clients)
}

fn share(into: &mut TokenCacheDocument, sign_in: &TokenCacheDocument) -> bool {
    let change = ChangeSet::of(Change::Share(Box::new(sign_in.clone())));
    let changed = into.apply(&change);
    assert!(!into.apply(&change), "a second time changes nothing");
    changed
}

#[test]
fn what_is_extracted_is_one_account_of_some_clients_and_no_access_token() {
    for library in ["msal-python", "msal-node", "msal-dotnet"] {
        let sign_in = extracted(&format!("{library}/02-two-users.json"), &[]);
        assert_eq!(sign_in.accounts().len(), 1, "{library}");
        assert_eq!(sign_in.accounts()[0].username, "user.one@contoso.example");
        for (section, count) in
            [("RefreshToken", 1), ("IdToken", 1), ("Account", 1), ("AppMetadata", 1), ("AccessToken", 0)]
        {
            assert_eq!(entries(&sign_in, section).len(), count, "{library} {section}");
        }
    }
    let family = extracted("msal-python/03-foci-family.json", &[VS]);
    let clients: Vec<_> =
        entries(&family, "RefreshToken").iter().map(|entry| entry["client_id"].clone()).collect();
    assert_eq!(clients, [json!(VS)]);
    assert_eq!(entries(&family, "AppMetadata")[0]["family_id"], "1");
}

#[test]
fn of_somebody_who_is_not_there_or_has_no_refresh_token_nothing_is_left() {
    let python = fixture("msal-python/01-one-user-one-client.json");
    assert!(python.extract(HOME_TWO, MICROSOFTONLINE, &[]).is_empty());
    assert!(python.extract(HOME_ONE, "login.microsoftonline.us", &[]).is_empty());
    assert!(python.extract(HOME_ONE, MICROSOFTONLINE, &[VS]).is_empty());
}

#[test]
fn an_empty_cache_gets_the_preferred_spelling_and_nothing_else() {
    let mut document = TokenCacheDocument::default();
    assert!(share(&mut document, &extracted("msal-python/01-one-user-one-client.json", &[])));
    let secret = refresh_secrets(&fixture("msal-python/01-one-user-one-client.json"), APP)[0].to_owned();
    assert_eq!(refresh_secrets(&document, APP), [secret]);
    for section in ["RefreshToken", "IdToken", "Account", "AppMetadata"] {
        let found = entries(&document, section);
        assert_eq!((found.len(), &found[0]["environment"]), (1, &json!(WINDOWS)), "{section}");
    }
    let key = format!("{HOME_ONE}-{WINDOWS}-refreshtoken-{APP}--");
    assert!(as_json(&document)["RefreshToken"][&key].get("target").is_none());
    assert_dotnet_accepts(&document);
    assert_all_readers_agree(&document);
}

#[test]
fn every_library_can_be_given_to_every_other() {
    for from in ["msal-python", "msal-node", "msal-dotnet"] {
        for into in ["msal-python", "msal-node", "msal-dotnet"] {
            for name in ["01-one-user-one-client", "02-two-users", "03-foci-family", "05-guest-second-tenant"]
            {
                let source = fixture(&format!("{from}/{name}.json"));
                let mut document = fixture(&format!("{into}/02-two-users.json"));
                let before = document.clone();
                share(&mut document, &source.extract(HOME_ONE, MICROSOFTONLINE, &[]));
                let case = format!("{from} {name} into {into}");
                assert_all_readers_agree(&document);
                assert_dotnet_accepts(&document);
                let secrets = |document: &TokenCacheDocument| {
                    let query =
                        RefreshTokenQuery { home_account_id: HOME_TWO, environment: WINDOWS, client_id: APP };
                    let views = document.refresh_tokens(&query);
                    views.iter().map(|view| view.secret().to_owned()).collect::<Vec<_>>()
                };
                assert_eq!(secrets(&document), secrets(&before), "{case}: the other user's stays");
                assert_eq!(document.accounts().len(), 2, "{case}");
            }
        }
    }
}

#[test]
fn a_rotated_token_is_carried_over_and_one_that_is_known_to_be_newer_stays() {
    let mut source = fixture("msal-python/01-one-user-one-client.json");
    source.apply(&save(refresh()));
    let sign_in = source.extract(HOME_ONE, MICROSOFTONLINE, &[]);
    // neither library says when a refresh token came
    for name in ["msal-node/01-one-user-one-client.json", "msal-dotnet/01-one-user-one-client.json"] {
        let mut document = fixture(name);
        assert!(share(&mut document, &sign_in), "{name}");
        assert_eq!(refresh_secrets(&document, APP), ["new-refresh-token"], "{name}");
        assert_eq!(entries(&document, "RefreshToken")[0]["environment"], WINDOWS, "{name}");

        let later = IssuedTokens {
            refresh_token: Some(SecretString::from("newest")),
            issued_at: at(500),
            ..refresh()
        };
        document.apply(&save(later));
        share(&mut document, &sign_in);
        assert_eq!(refresh_secrets(&document, APP), ["newest"], "{name}");
    }
}

#[test]
fn twins_in_the_target_become_one() {
    for name in
        ["msal-node/16-python-01-then-node-relogin.json", "msal-dotnet/16-python-01-then-dotnet-relogin.json"]
    {
        let mut source = fixture("msal-python/01-one-user-one-client.json");
        source.apply(&save(login()));
        let mut document = fixture(name);
        assert!(share(&mut document, &source.extract(HOME_ONE, WINDOWS, &[])));
        for section in ["RefreshToken", "IdToken", "Account", "AppMetadata"] {
            assert_eq!(entries(&document, section).len(), 1, "{name} {section}");
        }
        assert_eq!(refresh_secrets(&document, APP), ["new-refresh-token"], "{name}");
    }
}

#[test]
fn membership_of_the_family_comes_along() {
    let source = fixture("msal-python/03-foci-family.json");
    let mut document = fixture("msal-node/01-one-user-one-client.json");
    assert!(share(&mut document, &source.extract(HOME_ONE, WINDOWS, &[AZCLI])));
    let metadata = entries(&document, "AppMetadata");
    let of_azcli: Vec<_> = metadata.iter().filter(|entry| entry["client_id"] == AZCLI).collect();
    assert_eq!((of_azcli.len(), &of_azcli[0]["family_id"]), (1, &json!("1")));
    let token = &entries(&document, "RefreshToken")[1];
    assert_eq!((&token["family_id"], &token["client_id"]), (&json!("1"), &json!(AZCLI)));
    assert_eq!(entries(&document, "RefreshToken").len(), 2, "the other client's stays");
}

#[test]
fn nulls_and_numbers_stay_behind() {
    let mut value = as_json(&fixture("msal-python/01-one-user-one-client.json"));
    for section in ["RefreshToken", "Account", "IdToken"] {
        let entry = entry_at(&mut value, section, 0);
        entry.insert("nothing".to_owned(), json!(null));
        entry.insert("number".to_owned(), json!(7));
        entry.insert("list".to_owned(), json!([1]));
        entry.insert("texts".to_owned(), json!(["a"]));
    }
    let mut document = TokenCacheDocument::default();
    share(&mut document, &self::document(&value).extract(HOME_ONE, WINDOWS, &[]));
    for section in ["RefreshToken", "Account", "IdToken"] {
        let entry = &entries(&document, section)[0];
        assert_eq!((entry.get("nothing"), entry.get("list")), (None, None), "{section}");
        assert_eq!((&entry["number"], &entry["texts"]), (&json!("7"), &json!(["a"])), "{section}");
    }
    assert_dotnet_accepts(&document);
}

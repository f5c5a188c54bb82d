use super::*;

fn token(client_id: &str, secret: &str, extra: &Value) -> Value {
    let mut entry = json!({
        "credential_type": "RefreshToken", "secret": secret, "home_account_id": HOME_ONE,
        "environment": MICROSOFTONLINE, "client_id": client_id,
    });
    entry.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    entry
}

fn metadata(client_id: &str, family_id: Option<&str>) -> Value {
    let mut entry = json!({"client_id": client_id, "environment": WINDOWS});
    if let Some(family_id) = family_id {
        entry["family_id"] = json!(family_id);
    }
    entry
}

/// The client's own plain and family tokens, and two of its family.
fn crowded(app_metadata: &Value) -> TokenCacheDocument {
    document(&json!({
        "RefreshToken": {
            "a": token(APP, "own-plain", &json!({"last_modification_time": "9"})),
            "b": token(VS, "family-new", &json!({"last_modification_time": "8", "family_id": "1"})),
            "c": token(APP, "own-family", &json!({"last_modification_time": "7", "family_id": "1"})),
            "d": token(AZCLI, "family-old", &json!({"last_modification_time": "6", "family_id": "1"})),
            "e": token(APP2, "stranger", &json!({"last_modification_time": "5"})),
        },
        "AppMetadata": app_metadata,
    }))
}

#[test]
fn a_member_tries_its_family_before_its_plain_token() {
    let document = crowded(&json!({"m": metadata(APP, Some("1"))}));
    assert_eq!(refresh_secrets(&document, APP), ["own-family", "family-new", "family-old", "own-plain"]);
}

#[test]
fn an_unknown_client_tries_its_own_tokens_first() {
    let document = crowded(&json!({}));
    assert_eq!(refresh_secrets(&document, APP), ["own-plain", "own-family", "family-new", "family-old"]);
}

#[test]
fn a_known_non_member_tries_only_its_own() {
    let document = crowded(&json!({"m": metadata(APP, None)}));
    assert_eq!(refresh_secrets(&document, APP), ["own-plain", "own-family"]);
    let contradiction = crowded(&json!({"m": metadata(APP, None), "n": metadata(APP, Some("1"))}));
    assert_eq!(refresh_secrets(&contradiction, APP).len(), 4, "one entry that says member is enough");
}

#[test]
fn the_family_file_of_each_library_serves_both_members() {
    for library in ["msal-python", "msal-node", "msal-dotnet"] {
        let document = fixture(&format!("{library}/03-foci-family.json"));
        let of_vs = refresh_secrets(&document, VS);
        assert_eq!(of_vs[0], "fake-refresh-token-u1-vs-family", "{library}");
        let of_azcli = refresh_secrets(&document, AZCLI);
        let expected: &[&str] = if library == "msal-python" {
            &["fake-refresh-token-u1-azcli-family", "fake-refresh-token-u1-vs-family"]
        } else {
            &["fake-refresh-token-u1-vs-family"]
        };
        assert_eq!(of_azcli, expected, "{library}");
        assert_eq!(refresh_secrets(&document, APP).len(), expected.len(), "{library}: unknown client");

        let without = with_field(&document, "AppMetadata", "client_id", &json!("other"));
        assert_eq!(refresh_secrets(&without, AZCLI), expected, "{library}: no metadata");
    }
}

#[test]
fn of_two_aliases_copies_the_newer_is_tried_first() {
    let document = fixture("msal-node/16-python-01-then-node-relogin.json");
    assert_eq!(
        refresh_secrets(&document, APP),
        ["fake-refresh-token-u1-app-graph-relogin-by-node", "fake-refresh-token-u1-app-graph"]
    );
}

#[test]
fn newest_is_by_modification_time_then_by_place_in_the_file() {
    let document = document(&json!({"RefreshToken": {
        "a": token(APP, "dated-2", &json!({"last_modification_time": "2"})),
        "b": token(APP, "undated", &json!({})),
        "c": token(APP, "dated-1", &json!({"last_modification_time": 1})),
        "d": token(APP, "dated-2-later", &json!({"last_modification_time": "2"})),
    }}));
    assert_eq!(refresh_secrets(&document, APP), ["dated-2-later", "undated", "dated-2", "dated-1"]);
}

#[test]
fn what_is_not_an_ordinary_token_of_the_account_is_never_offered() {
    let document = document(&json!({"RefreshToken": {
        "a": token(APP, "obo", &json!({"user_assertion_hash": "h"})),
        "b": token(APP, "obo", &json!({"userAssertionHash": "h"})),
        "c": token(&format!("{APP}:obo:hash:authority:tenant"), "obo", &json!({"family_id": "1"})),
        "d": token(APP, "other account", &json!({"home_account_id": HOME_TWO})),
        "e": token(APP, "other cloud", &json!({"environment": "login.microsoftonline.us"})),
        "f": token(APP, "", &json!({})),
        "g": token(APP, "number", &json!({"client_id": 7})),
        "h": "not an object",
        "i": token(APP, "twin", &json!({})),
        "j": token(APP, "twin", &json!({"environment": WINDOWS})),
    }}));
    assert_eq!(refresh_secrets(&document, APP), ["twin"]);
}

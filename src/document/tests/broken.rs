use base64::engine::general_purpose::STANDARD;

use super::*;

fn refused(bytes: &[u8]) -> DocumentError {
    TokenCacheDocument::parse(bytes).unwrap_err()
}

#[test]
fn blank_content_is_an_empty_document() {
    for blank in ["", " \r\n\t", "{}", "\u{feff}", "\u{feff}{}"] {
        let document = TokenCacheDocument::parse(blank.as_bytes()).unwrap();
        assert!(document.is_empty());
        assert_eq!(document.to_bytes().as_slice(), b"{}");
    }
    assert!(fixture("msal-node/00-empty.json").is_empty());
    assert!(!fixture("msal-python/07-client-credentials.json").is_empty());
    assert!(!document(&json!({"AccessToken": {}, "Future": {"a": 1}})).is_empty());
}

#[test]
fn a_byte_order_mark_is_read_and_never_written() {
    let plain = fixture("msal-python/01-one-user-one-client.json");
    let mut marked = b"\xef\xbb\xbf".to_vec();
    marked.extend_from_slice(&plain.to_bytes());
    let document = TokenCacheDocument::parse(&marked).unwrap();
    assert_eq!(document, plain);
    assert!(document.to_bytes().starts_with(b"{"));
}

#[test]
fn json_that_is_no_object_is_named() {
    for (text, kind) in [
        ("null", "null"),
        ("[]", "an array"),
        ("\"x\"", "a string"),
        ("7", "a number"),
        ("true", "true or false"),
    ] {
        let found = refused(text.as_bytes());
        assert_eq!(found, DocumentError::NotAnObject { found: kind });
    }
}

#[test]
fn a_file_cut_short_is_told_from_one_that_is_no_json() {
    let whole = fixture("msal-python/01-one-user-one-client.json").to_bytes();
    for length in 1..whole.len() {
        let found = refused(&whole[..length]);
        assert!(matches!(found, DocumentError::Truncated { .. }), "{length}: {found}");
    }
    assert_eq!(refused(b"{\n  x"), DocumentError::NotJson { line: 2, column: 3 });
    assert!(matches!(refused(b"{} {}"), DocumentError::NotJson { .. }));
    assert!(matches!(refused(&[0; 64]), DocumentError::NotJson { .. }));
}

#[test]
fn other_encodings_are_named() {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A128CBC-HS256"}"#);
    assert_eq!(refused(format!("{header}..aXY.Y2lwaGVy.dGFn\n").as_bytes()), DocumentError::Jwe);
    assert!(matches!(refused(b"a.b.c.d.e"), DocumentError::NotJson { .. }));

    let json = fixture("msal-python/01-one-user-one-client.json").to_bytes();
    assert_eq!(refused(STANDARD.encode(&json).as_bytes()), DocumentError::Base64);
    assert!(matches!(refused(STANDARD.encode("secret").as_bytes()), DocumentError::NotJson { .. }));
    assert_eq!(refused(b"{\"a\": \"\xff\"}"), DocumentError::NotUtf8 { offset: 7 });
}

#[test]
fn no_error_quotes_what_it_found() {
    let canary = "canary-secret";
    for text in [
        format!("{{\"secret\": {canary}"),
        format!("{{\"secret\": \"{canary}"),
        format!("\"{canary}\""),
        format!("[\"{canary}\"]"),
        canary.to_owned(),
        STANDARD.encode(format!("{{\"secret\": \"{canary}\"}}")),
    ] {
        let error = refused(text.as_bytes());
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let deep = |depth: usize| format!("{{\"a\":{}", "[".repeat(depth));
    assert!(matches!(refused(deep(900_000).as_bytes()), DocumentError::NotJson { .. }));
    assert!(matches!(refused(deep(1_000_001).as_bytes()), DocumentError::TooManyValues { .. }));
}

#[test]
fn more_values_than_any_cache_has_are_not_taken_apart() {
    let many = format!("{{\"AccessToken\":{{{}\"z\":0}}}}", "\"a\":{},".repeat(400_000));
    assert!(TokenCacheDocument::parse(many.as_bytes()).is_ok());
    let many = format!("{{\"AccessToken\":{{{}\"z\":0}}}}", "\"a\":{},".repeat(600_000));
    assert!(matches!(refused(many.as_bytes()), DocumentError::TooManyValues { .. }));
}

#[test]
fn damaged_sections_and_entries_are_skipped_and_kept() {
    let junk = json!({
        "AccessToken": {"a": null, "b": [], "c": {"home_account_id": HOME_ONE}, "d": "x"},
        "RefreshToken": [1, 2],
        "IdToken": null,
        "Account": {"e": {"home_account_id": 7}},
        "AppMetadata": "x",
        "Future": {"f": null},
    });
    let mut document = document(&junk);
    assert_eq!(document.accounts(), []);
    assert_eq!(document.stale_entries(at(0)), []);
    assert!(refresh_secrets(&document, APP).is_empty());
    assert!(document.access_token(&query(&scopes(&[ARM])), at(0)).is_none());

    assert!(document.apply(&save(login())));
    let after = as_json(&document);
    for section in ["RefreshToken", "AppMetadata", "Future"] {
        assert_eq!(after[section], junk[section], "{section}");
    }
    for (section, key) in [
        ("AccessToken", "a"),
        ("AccessToken", "b"),
        ("AccessToken", "c"),
        ("AccessToken", "d"),
        ("Account", "e"),
    ] {
        assert_eq!(after[section][key], junk[section][key], "{section} {key}");
    }
    assert_eq!(document.accounts().len(), 1);
    assert!(!document.apply(&save(login())), "a second time changes nothing");
}

#[test]
fn debug_shows_counts_and_no_content() {
    let document = fixture("msal-python/03-foci-family.json");
    let shown = format!("{document:?} {:?}", save(login()));
    assert!(shown.contains("RefreshToken: 2"), "{shown}");
    for secret in ["fake-", "new-access-token", "new-refresh-token", "fake-client-info", "e30."] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    let views = format!(
        "{:?} {:?}",
        document.refresh_tokens(&RefreshTokenQuery {
            home_account_id: HOME_ONE,
            environment: WINDOWS,
            client_id: VS
        }),
        document.access_token(&AccessTokenQuery { client_id: VS, ..query(&scopes(&[ARM])) }, at(10)).unwrap(),
    );
    assert!(!views.contains("fake-"), "{views}");
}

use std::path::Path;

use super::oracle::{assert_dotnet_accepts, assert_dotnet_keeps_the_newest_of_a_family, dotnet_fixtures};
use super::*;

#[test]
fn every_fixture_comes_back_with_equal_json() {
    let fixtures = fixtures();
    assert!(fixtures.len() > 50, "only {} fixtures found", fixtures.len());
    for path in fixtures {
        let bytes = fs::read(&path).unwrap();
        let document = TokenCacheDocument::parse(&bytes).unwrap();
        let written = document.to_bytes();
        let (before, after): (Value, Value) =
            (serde_json::from_slice(&bytes).unwrap(), serde_json::from_slice(&written).unwrap());
        assert_eq!(before, after, "{}", path.display());
        assert_eq!(order_of(&before), order_of(&after), "{}", path.display());
    }
}

/// Python's files are its own output byte for byte (14 was kept by its extension library), so
/// ours has to be, too.
#[test]
fn what_python_wrote_comes_back_byte_for_byte() {
    for path in
        fixtures().iter().filter(|path| path.components().any(|part| part.as_os_str() == "msal-python"))
    {
        let bytes = fs::read(path).unwrap();
        let written = TokenCacheDocument::parse(&bytes).unwrap().to_bytes();
        assert_eq!(written.as_slice(), bytes.trim_ascii_end(), "{}", path.display());
    }
}

/// Loaded, given a login of ours, and still as .NET accepts it: nothing null, no key twice after
/// it built them anew, one access token for a request.
#[test]
fn every_file_of_dotnets_gains_a_login_and_keeps_the_shape_that_dotnet_accepts() {
    let family = Some("1".to_owned());
    let logins = [
        login(),
        refresh(),
        IssuedTokens { requested_tenant: T1.to_owned(), scopes: vec![ARM.to_owned()], ..login() },
        IssuedTokens { client_id: AZCLI.to_owned(), family_id: family.clone(), ..login() },
        IssuedTokens { client_id: VS.to_owned(), family_id: family, issued_at: at(20), ..login() },
        IssuedTokens { requested_tenant: T2.to_owned(), token_tenant: Some(T2.to_owned()), ..login() },
        IssuedTokens { home_account_id: HOME_TWO.to_owned(), token_tenant: Some(T2.to_owned()), ..login() },
    ];
    let fixtures = dotnet_fixtures();
    assert!(fixtures.len() >= 12, "only {} fixtures found", fixtures.len());
    for path in fixtures {
        let golden = TokenCacheDocument::parse(&fs::read(&path).unwrap()).unwrap();
        assert_dotnet_accepts(&golden);
        let mut all = golden.clone();
        for tokens in &logins {
            let mut one = golden.clone();
            one.apply(&save(tokens.clone()));
            all.apply(&save(tokens.clone()));
            for document in [&one, &all] {
                assert_dotnet_accepts(document);
                assert_dotnet_keeps_the_newest_of_a_family(document);
            }
        }
        assert!(golden != all, "{}", path.display());
    }
}

#[test]
fn unknown_sections_and_fields_survive_a_write() {
    for name in [
        "msal-python/13a-unknown-fields-input.json",
        "msal-node/13b-python-unknown-fields-input-then-node-add.json",
    ] {
        let mut document = fixture(name);
        let before = as_json(&document);
        let arm = IssuedTokens { scopes: vec![ARM.to_owned()], ..login() };
        assert!(document.apply(&save(arm)));

        let after = as_json(&document);
        assert_eq!(before["FutureSection"], after["FutureSection"], "{name}");
        for section in ["Account", "IdToken", "AppMetadata", "RefreshToken"] {
            let marks = |value: &Value| {
                let entries = value[section].as_object().unwrap().values();
                entries.filter_map(|entry| entry.get("x_future_field").cloned()).collect::<Vec<_>>()
            };
            assert_eq!(marks(&before).first(), marks(&after).first(), "{name} {section}");
        }
    }
}

#[test]
fn every_fixture_lists_its_accounts() {
    for path in fixtures() {
        let document = TokenCacheDocument::parse(&fs::read(&path).unwrap()).unwrap();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap();
        let mut found: Vec<String> =
            document.accounts().into_iter().map(|account| account.username.to_lowercase()).collect();
        found.sort();
        assert_eq!(found, expected_accounts(&path, name), "{}", path.display());
    }
}

fn expected_accounts(path: &Path, name: &str) -> Vec<&'static str> {
    let (one, two) = ("user.one@contoso.example", "user.two@fabrikam.example");
    match name {
        _ if name.starts_with("00") || name.starts_with("07") => vec![],
        _ if name.contains("08-ext") => vec![],
        _ if name.contains("09-adfs") => vec!["adfs.user@contoso.example"],
        _ if name.starts_with("02") || name.starts_with("12a") => vec![one, two],
        _ if name.starts_with("12") => vec![two],
        _ if path.ends_with("22-azure-identity-aio-obo-nocae.json") => vec![one],
        _ => vec![one],
    }
}

/// All member names, in order, through all levels.
fn order_of(value: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for (name, member) in value.as_object().into_iter().flatten() {
        names.push(name.clone());
        names.extend(order_of(member));
    }
    names
}

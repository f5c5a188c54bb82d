//! A login of one tool's in another tool's cache.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;

use super::oracle::{assert_all_readers_agree, assert_dotnet_accepts};
use super::*;

const DIALECTS: [Dialect; 5] = [Dialect::DotNet, Dialect::Go, Dialect::Node, Dialect::Own, Dialect::Python];

fn login_in(document: &TokenCacheDocument, client_id: &str) -> Login {
    document.login(HOME_ONE, MICROSOFTONLINE, client_id, Dialect::Own).unwrap()
}

fn adopt(login: &Login, dialect: Dialect) -> ChangeSet {
    ChangeSet::of(Change::Adopt { login: Box::new(login.clone()), dialect, if_signed_in: false })
}

fn adopted(login: &Login, dialect: Dialect, document: &TokenCacheDocument) -> TokenCacheDocument {
    let mut document = document.clone();
    document.apply(&adopt(login, dialect));
    document
}

/// One refresh token of a client, rotated at some time; at what time the client got its last access
/// token stands beside it.
fn cache(client_id: &str, secret: &str, dated: Option<i64>, used: Option<i64>) -> TokenCacheDocument {
    let mut document = adopted(&login_in(&python(), AZCLI), Dialect::Own, &TokenCacheDocument::default());
    let mut value = as_json(&document);
    let token = entry_at(&mut value, "RefreshToken", 0);
    token.insert("client_id".to_owned(), client_id.into());
    token.insert("secret".to_owned(), secret.into());
    match dated {
        Some(dated) => drop(token.insert("last_modification_time".to_owned(), at(dated).to_string().into())),
        None => drop(token.shift_remove("last_modification_time")),
    }
    value["IdToken"] = json!({});
    value["AccessToken"] = match used {
        Some(used) => json!({"a": {
            "credential_type": "AccessToken", "home_account_id": HOME_ONE, "environment": WINDOWS,
            "client_id": client_id, "realm": T1, "target": ARM, "secret": "access",
            "cached_at": at(used).to_string(), "expires_on": at(used + 3600).to_string(),
        }}),
        None => json!({}),
    };
    document = super::document(&value);
    document
}

fn python() -> TokenCacheDocument {
    fixture("msal-python/03-foci-family.json")
}

fn keys(document: &TokenCacheDocument, section: &str) -> BTreeSet<String> {
    let value = as_json(document);
    value[section].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

#[test]
fn each_tool_finds_it_under_the_keys_that_it_would_write_itself() {
    let source = python();
    for (dialect, name) in [
        (Dialect::Node, "msal-node/03-foci-family.json"),
        (Dialect::DotNet, "msal-dotnet/03-foci-family.json"),
    ] {
        let (theirs, mut ours) = (fixture(name), TokenCacheDocument::default());
        for client_id in [AZCLI, VS] {
            ours.apply(&adopt(&login_in(&source, client_id), dialect));
        }
        for section in ["Account", "AppMetadata", "IdToken"] {
            assert_eq!(keys(&ours, section), keys(&theirs, section), "{dialect:?} {section}");
        }
        let shared = keys(&ours, "RefreshToken");
        assert!(shared.is_superset(&keys(&theirs, "RefreshToken")), "{dialect:?} {shared:?}");
        // .NET has one for the whole family
        assert_eq!(shared.len(), if dialect == Dialect::DotNet { 1 } else { 2 }, "{dialect:?}");
        assert_all_readers_agree(&ours);
    }
    for dialect in [Dialect::Own, Dialect::Python] {
        let ours = adopted(&login_in(&source, AZCLI), dialect, &TokenCacheDocument::default());
        let host = if dialect == Dialect::Own { WINDOWS } else { MICROSOFTONLINE };
        let expected = format!("{HOME_ONE}-{host}-refreshtoken-{AZCLI}--");
        assert_eq!(keys(&ours, "RefreshToken"), BTreeSet::from([expected]));
    }
    let ours = adopted(&login_in(&source, AZCLI), Dialect::Go, &TokenCacheDocument::default());
    let expected = format!("{HOME_ONE}-{MICROSOFTONLINE}-refreshtoken-1");
    assert_eq!(keys(&ours, "RefreshToken"), BTreeSet::from([expected]));
    assert_eq!(
        keys(&ours, "IdToken"),
        BTreeSet::from([format!("{HOME_ONE}-{MICROSOFTONLINE}-idtoken-{AZCLI}-{T1}")])
    );
}

#[test]
fn an_older_refresh_token_never_replaces_a_newer_one_and_an_equal_one_stays() {
    for (ours, theirs, taken) in [
        ((Some(1), None), (Some(2), None), true),
        ((Some(2), None), (Some(1), None), false),
        ((Some(1), None), (Some(1), None), false),
        ((None, None), (None, None), false),
        ((None, None), (Some(1), None), true),
        // Node keeps our date on a token of its own: what it was used for tells
        ((Some(1), Some(5)), (Some(3), None), false),
        ((Some(1), Some(5)), (Some(3), Some(9)), true),
    ] {
        let own = cache(AZCLI, "ours", ours.0, ours.1);
        let login = login_in(&cache(AZCLI, "theirs", theirs.0, theirs.1), AZCLI);
        for dialect in DIALECTS {
            let after = adopted(&login, dialect, &own);
            let expected = if taken { "theirs" } else { "ours" };
            assert_eq!(refresh_secrets(&after, AZCLI), [expected], "{ours:?} {theirs:?} {dialect:?}");
            assert_eq!(taken, after != own);
        }
    }
}

#[test]
fn what_is_known_to_come_later_replaces_what_it_came_after_and_nothing_else() {
    let (old, other) = (cache(AZCLI, "old", Some(5), None), cache(AZCLI, "other", Some(5), None));
    let new = login_in(&cache(AZCLI, "new", Some(5), None), AZCLI).superseding(&login_in(&old, AZCLI));
    assert_eq!(refresh_secrets(&adopted(&new, Dialect::Own, &old), AZCLI), ["new"]);
    assert_eq!(refresh_secrets(&adopted(&new, Dialect::Own, &other), AZCLI), ["other"]);
}

#[test]
fn another_client_of_the_family_gets_the_token_but_no_id_token_of_somebody_else() {
    let login = login_in(&python(), AZCLI).for_family_client("1950a258-227b-4e31-a9cf-717495945fc2");
    let after = adopted(&login, Dialect::Node, &TokenCacheDocument::default());
    assert_eq!(keys(&after, "IdToken").len(), 0);
    assert_eq!(keys(&after, "Account").len(), 1);
    let metadata = &entries(&after, "AppMetadata")[0];
    assert_eq!((&metadata["client_id"], &metadata["family_id"]), (&login.client_id().into(), &"1".into()));
    let token = &entries(&after, "RefreshToken")[0];
    assert_eq!((&token["client_id"], &token["family_id"]), (&login.client_id().into(), &"1".into()));
}

#[test]
fn an_account_that_was_signed_out_meanwhile_stays_out() {
    let login = login_in(&python(), AZCLI);
    let carried = Change::Adopt { login: Box::new(login), dialect: Dialect::Own, if_signed_in: true };
    let mut document = TokenCacheDocument::default();
    assert!(!document.apply(&ChangeSet::of(carried)));
    assert!(document.is_empty());
}

#[test]
fn node_has_one_account_for_a_guest_under_the_home_tenant() {
    let source = fixture("msal-python/05-guest-second-tenant.json");
    let login = &source.logins(HOME_ONE, MICROSOFTONLINE)[0];
    let after = adopted(login, Dialect::Node, &TokenCacheDocument::default());
    let accounts = entries(&after, "Account");
    assert_eq!(accounts.len(), 1);
    assert_eq!(
        (&accounts[0]["realm"], &accounts[0]["username"]),
        (&T1.into(), &"user.one@contoso.example".into())
    );

    // only the guest's entry is known
    let mut value = as_json(&source);
    value["Account"].as_object_mut().unwrap().retain(|_, account| account["realm"] == T2);
    let login = &document(&value).logins(HOME_ONE, MICROSOFTONLINE)[0];
    let after = adopted(login, Dialect::Node, &TokenCacheDocument::default());
    let account = &entries(&after, "Account")[0];
    assert_eq!(
        (&account["realm"], &account["local_account_id"]),
        (&T1.into(), &HOME_ONE.split('.').next().unwrap().into())
    );
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", adopt(&login_in(&python(), AZCLI), Dialect::Own));
    assert!(shown.contains(AZCLI) && !shown.to_lowercase().contains("secret-"), "{shown}");
    for secret in refresh_secrets(&python(), AZCLI) {
        assert!(!shown.contains(secret));
    }
}

/// Golden files of three libraries in which user one is signed in, or somebody else.
fn any_cache() -> impl Strategy<Value = TokenCacheDocument> {
    let names: Vec<PathBuf> = fixtures();
    select(names).prop_map(|path| TokenCacheDocument::parse(&fs::read(path).unwrap()).unwrap())
}

/// Whose entry, in which cloud, of which client.
fn identity(entry: &Value) -> (Value, String, Value) {
    let host = entry["environment"].as_str().unwrap_or_default();
    (entry["home_account_id"].clone(), crate::cloud::preferred_cache(host), entry["client_id"].clone())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_share_done_twice_is_done_once_and_nobody_elses_entries_move(
        source in any_cache(),
        target in any_cache(),
        dialect in select(&DIALECTS[..]),
        derived in any::<bool>(),
    ) {
        for home in [HOME_ONE, HOME_TWO] {
            for login in source.logins(home, MICROSOFTONLINE) {
                let login = if derived { login.for_family_client(VS) } else { login };
                let mut after = target.clone();
                let changed = after.apply(&adopt(&login, dialect));
                prop_assert_eq!(changed, after != target);
                let once = after.clone();
                prop_assert!(!after.apply(&adopt(&login, dialect)));
                prop_assert_eq!(&after, &once);

                let (before, after) = (as_json(&target), as_json(&once));
                for section in ["AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata"] {
                    let ours = |entry: &Value| {
                        let (owner, cloud, client) = identity(entry);
                        let is_client = client.is_null() || client.as_str() == Some(login.client_id())
                            || dialect.has_one_per_family() && entry["family_id"].is_string();
                        (owner.is_null() || owner == home) && cloud == WINDOWS && is_client
                    };
                    for (key, entry) in before[section].as_object().into_iter().flatten() {
                        if section == "AccessToken" || !ours(entry) {
                            prop_assert_eq!(&after[section][key], entry, "{} {}", section, key);
                        }
                    }
                    for (key, entry) in after[section].as_object().into_iter().flatten() {
                        if before[section][key] == *entry {
                            continue;
                        }
                        prop_assert!(ours(entry), "{} {}", section, key);
                        for (field, value) in entry.as_object().unwrap() {
                            prop_assert!(!value.is_null() && !value.is_number(), "{}", field);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_shared_all_readers_can_read(
        source in any_cache(),
        name in select(vec![
            "msal-python/02-two-users.json", "msal-node/02-two-users.json", "msal-dotnet/02-two-users.json",
            "msal-python/03-foci-family.json", "msal-node/03-foci-family.json", "msal-dotnet/03-foci-family.json",
        ]),
    ) {
        let dialect = match name.split('/').next() {
            Some("msal-node") => Dialect::Node,
            Some("msal-dotnet") => Dialect::DotNet,
            _ => Dialect::Python,
        };
        let mut target = fixture(name);
        for login in source.logins(HOME_ONE, MICROSOFTONLINE) {
            target.apply(&adopt(&login, dialect));
        }
        assert_all_readers_agree(&target);
        assert_dotnet_accepts(&target);
    }
}

//! What other libraries would make of a document: their rules, written down a second time
//! (spec S-C 1.4, 1.6 and 1.7).

use std::collections::HashMap;

use super::*;
use crate::cloud::preferred_cache;

/// Fails if MSAL.NET would let two entries collapse into one, or if Node would find two where it
/// wants one and delete both.
#[track_caller]
pub(super) fn assert_all_readers_agree(document: &TokenCacheDocument) {
    let value = as_json(document);
    for section in SECTIONS {
        let mut keys: HashMap<String, &str> = HashMap::new();
        for (found, entry) in value[section].as_object().into_iter().flatten() {
            if section == "RefreshToken" && entry["family_id"].as_str().is_some_and(|id| !id.is_empty()) {
                // one key for all clients of a family, by design
                continue;
            }
            if let Some(twin) = keys.insert(dotnet_rekeyed(section, entry), found) {
                panic!("{section}: MSAL.NET lets {twin} and {found} collapse");
            }
        }
    }
    for (section, what) in [("IdToken", "realm"), ("AppMetadata", "client_id")] {
        let mut seen: HashMap<[String; 4], usize> = HashMap::new();
        for entry in entries(document, section) {
            let part = |name: &str| entry[name].as_str().unwrap_or_default().to_lowercase();
            let identity = [part("home_account_id"), cloud_of(&entry), part("client_id"), part(what)];
            *seen.entry(identity).or_default() += 1;
        }
        assert!(seen.values().all(|count| *count == 1), "{section}: Node finds two: {seen:?}");
    }
    assert_one_access_token_for_a_request(document);
}

/// Fails if MSAL.NET would throw over the document, or lose an entry of it by building the keys
/// anew (spec S-C 1.2, 1.4 and 1.6).
#[track_caller]
pub(super) fn assert_dotnet_accepts(document: &TokenCacheDocument) {
    let value = as_json(document);
    for section in SECTIONS {
        let Some(entries) = value.get(section) else { continue };
        let entries = entries.as_object().unwrap_or_else(|| panic!("{section} is no object"));
        let mut keys: HashMap<String, &Value> = HashMap::new();
        for (found, entry) in entries {
            assert_no_null_or_number(section, found, entry);
            let Some(earlier) = keys.insert(dotnet_rekeyed(section, entry), entry) else { continue };
            // one key for all clients of a family, by design: any of them will do
            let of_family = |entry: &Value| entry["family_id"].as_str().is_some_and(|id| !id.is_empty());
            assert!(
                section == "RefreshToken" && of_family(earlier) && of_family(entry),
                "{section}: MSAL.NET lets {found} take another's place"
            );
        }
    }
    assert_one_access_token_for_a_request(document);
}

/// Of a family's tokens, for which MSAL.NET has one key, the last in the file wins.
#[track_caller]
pub(super) fn assert_dotnet_keeps_the_newest_of_a_family(document: &TokenCacheDocument) {
    let mut latest: HashMap<String, i64> = HashMap::new();
    for entry in entries(document, "RefreshToken") {
        let text = entry["last_modification_time"].as_str().unwrap_or("0");
        let time = text.parse().unwrap();
        let before = latest.insert(dotnet_rekeyed("RefreshToken", &entry), time);
        assert!(before.is_none_or(|before| before <= time), "MSAL.NET keeps the older of a family's tokens");
    }
}

const SECTIONS: [&str; 5] = ["AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata"];

fn assert_no_null_or_number(section: &str, key: &str, value: &Value) {
    match value {
        Value::Object(members) => {
            members.values().for_each(|value| assert_no_null_or_number(section, key, value));
        }
        Value::Array(items) => items.iter().for_each(|item| assert_no_null_or_number(section, key, item)),
        Value::String(_) | Value::Bool(_) => {}
        Value::Null | Value::Number(_) => panic!("{section} {key}: {value} makes MSAL.NET throw"),
    }
}

/// The key that MSAL.NET builds out of an entry's fields when it loads it.
fn dotnet_rekeyed(section: &str, entry: &Value) -> String {
    let part = |name: &str| entry[name].as_str().unwrap_or_default();
    let (home, environment) = (part("home_account_id"), part("environment"));
    let (client, realm, target) = (part("client_id"), part("realm"), part("target"));
    let key = match (section, part("credential_type")) {
        // not lowercased, unlike all others
        ("Account", _) => return format!("{home}-{environment}-{realm}"),
        ("AccessToken", "ATExt") => {
            format!("{home}-{environment}-atext-{client}-{realm}-{target}-{}", part("ext_cache_key"))
        }
        ("AccessToken", "AccessToken_With_AuthScheme") => format!(
            "{home}-{environment}-accesstoken_with_authscheme-{client}-{realm}-{target}-{}",
            part("token_type")
        ),
        ("AccessToken", _) => format!("{home}-{environment}-accesstoken-{client}-{realm}-{target}"),
        ("RefreshToken", _) => {
            let issued_to = Some(part("family_id")).filter(|family| !family.is_empty()).unwrap_or(client);
            format!("{home}-{environment}-refreshtoken-{issued_to}--")
        }
        ("IdToken", _) => format!("{home}-{environment}-idtoken-{client}-{realm}-"),
        _ => format!("appmetadata-{environment}-{client}"),
    };
    key.to_lowercase()
}

#[track_caller]
fn assert_one_access_token_for_a_request(document: &TokenCacheDocument) {
    let tokens = entries(document, "AccessToken");
    for (place, one) in tokens.iter().enumerate() {
        for other in &tokens[place + 1..] {
            assert!(!both_match(one, other), "two access tokens match one request:\n{one:#}\n{other:#}");
        }
    }
}

fn both_match(one: &Value, other: &Value) -> bool {
    let same = ["home_account_id", "client_id", "realm", "credential_type"].iter().all(|name| {
        one[*name].as_str().map(str::to_lowercase) == other[*name].as_str().map(str::to_lowercase)
    });
    let oidc = ["openid", "profile", "email", "offline_access"];
    let scopes = |entry: &Value| -> Vec<String> {
        let target = entry["target"].as_str().unwrap_or_default().to_lowercase();
        target.split(' ').filter(|scope| !oidc.contains(scope)).map(str::to_owned).collect()
    };
    let theirs = scopes(other);
    same && cloud_of(one) == cloud_of(other) && scopes(one).iter().any(|scope| theirs.contains(scope))
}

fn cloud_of(entry: &Value) -> String {
    preferred_cache(entry["environment"].as_str().unwrap_or_default())
}

#[test]
fn the_oracle_sees_what_node_left_behind() {
    let twins = fixture("msal-node/16-python-01-then-node-relogin.json");
    let verdict = std::panic::catch_unwind(|| assert_all_readers_agree(&twins));
    assert!(verdict.is_err(), "two ID tokens for one realm");
    for name in [
        "msal-python/03-foci-family.json",
        "msal-node/05-guest-second-tenant.json",
        "msal-dotnet/02-two-users.json",
    ] {
        assert_all_readers_agree(&fixture(name));
    }
}

#[test]
fn the_oracle_builds_dotnets_own_keys_anew() {
    let mut count = 0;
    for path in dotnet_fixtures() {
        let document = TokenCacheDocument::parse(&fs::read(&path).unwrap()).unwrap();
        let value = as_json(&document);
        for section in SECTIONS {
            for (key, entry) in value[section].as_object().into_iter().flatten() {
                assert_eq!(&dotnet_rekeyed(section, entry), key, "{} {section}", path.display());
                count += 1;
            }
        }
    }
    assert!(count > 50, "only {count} entries");
}

#[test]
fn the_oracle_sees_what_makes_dotnet_throw_or_lose() {
    let own = fixture("msal-dotnet/02-two-users.json");
    let null = with_field(&own, "AccessToken", "home_account_id", &json!(null));
    let number = with_field(&own, "RefreshToken", "last_modification_time", &json!(7));
    let twin = with_field(&own, "Account", "home_account_id", &json!("u.t"));
    let twin = with_field(&twin, "Account", "realm", &json!("t"));
    let overlap = with_field(&own, "AccessToken", "home_account_id", &json!("u.t"));
    let overlap = with_field(&overlap, "AccessToken", "realm", &json!("t"));
    for (what, document) in [("null", null), ("number", number), ("twin", twin), ("overlap", overlap)] {
        let verdict = std::panic::catch_unwind(|| assert_dotnet_accepts(&document));
        assert!(verdict.is_err(), "{what}");
    }
}

pub(super) fn dotnet_fixtures() -> Vec<PathBuf> {
    fixtures().into_iter().filter(|path| path.to_string_lossy().contains("msal-dotnet")).collect()
}

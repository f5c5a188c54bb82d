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
    for section in ["AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata"] {
        let mut keys: HashMap<String, &str> = HashMap::new();
        for (found, entry) in value[section].as_object().into_iter().flatten() {
            let Some(key) = dotnet_key(section, entry) else {
                continue;
            };
            if let Some(twin) = keys.insert(key, found) {
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
    let tokens = entries(document, "AccessToken");
    for (place, one) in tokens.iter().enumerate() {
        for other in &tokens[place + 1..] {
            assert!(!both_match(one, other), "two access tokens match one request:\n{one:#}\n{other:#}");
        }
    }
}

/// A family's tokens have one key in .NET, by design: its last one in the file is the one used.
fn dotnet_key(section: &str, entry: &Value) -> Option<String> {
    let part = |name: &str| entry[name].as_str().unwrap_or_default();
    let (home, environment) = (part("home_account_id"), part("environment"));
    let (client, realm) = (part("client_id"), part("realm"));
    let key = match section {
        "AccessToken" => format!("{home}-{environment}-accesstoken-{client}-{realm}-{}", part("target")),
        "RefreshToken" if !part("family_id").is_empty() => return None,
        "RefreshToken" => format!("{home}-{environment}-refreshtoken-{client}--"),
        "IdToken" => format!("{home}-{environment}-idtoken-{client}-{realm}-"),
        "Account" => format!("{home}-{environment}-{realm}"),
        _ => format!("appmetadata-{environment}-{client}"),
    };
    Some(key.to_lowercase())
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

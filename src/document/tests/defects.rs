use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::oracle::assert_all_readers_agree;
use super::*;
use DefectKind as Kind;

/// Kinds that nobody needs to do anything about in a cache that its own library just wrote.
const QUIET: [Kind; 3] =
    [Kind::AccessTokenExpired, Kind::AccountWithoutRefreshToken, Kind::RefreshTokenWithoutAccount];

fn kinds(document: &TokenCacheDocument, now: i64) -> Vec<Kind> {
    document.defects(at(now)).into_iter().map(|defect| defect.kind).collect()
}

/// Mends everything that can be, as often as there is something.
fn repair_all(document: &mut TokenCacheDocument, now: i64) {
    for _ in 0..8 {
        let repairable: Vec<_> =
            document.defects(at(now)).into_iter().filter(|defect| defect.repairable).collect();
        if repairable.is_empty() {
            return;
        }
        for defect in repairable {
            document.apply(&ChangeSet::of(Change::Repair { defect, now: at(now) }));
        }
    }
    panic!("it never ends: {:?}", document.defects(at(now)));
}

fn python() -> Value {
    as_json(&fixture("msal-python/03-foci-family.json"))
}

type Plant = Box<dyn Fn(&mut Value)>;

/// A copy of a section's first entry under another key, with other texts.
fn copied(section: &'static str, texts: &'static [(&'static str, &'static str)]) -> Plant {
    Box::new(move |value| {
        let mut entry = entry_at(value, section, 0).clone();
        entry.extend(texts.iter().map(|(field, text)| ((*field).to_owned(), json!(text))));
        value[section]["x"] = Value::Object(entry);
    })
}

/// A field of a section's first entry.
fn set(section: &'static str, field: &'static str, to: Value) -> Plant {
    Box::new(move |value| {
        entry_at(value, section, 0).insert(field.to_owned(), to.clone());
    })
}

fn without(section: &'static str, field: &'static str) -> Plant {
    Box::new(move |value| {
        entry_at(value, section, 0).shift_remove(field);
    })
}

fn added(section: &'static str, entry: Value) -> Plant {
    Box::new(move |value| value[section]["x"] = entry.clone())
}

#[test]
fn what_the_libraries_write_is_sound_but_for_what_is_known_of_them() {
    for path in fixtures() {
        let document = TokenCacheDocument::parse(&fs::read(&path).unwrap()).unwrap();
        let name = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")).unwrap();
        let name = name.to_str().unwrap();
        let mut found = kinds(&document, 10_000);
        found.retain(|kind| !QUIET.contains(kind));
        let known: &[Kind] = match name {
            // Python writes null where an app's own token belongs to nobody
            "msal-python/07-client-credentials.json"
            | "msal-python/08-ext-cache-key-fmi-path.json"
            | "msal-node/15-08-ext-cache-key-fmi-path-python-loaded-and-reserialized.json" => {
                &[Kind::NullValue]
            }
            // Python keeps a refresh token for each set of scopes
            "msal-python/06-refresh-on.json" | "msal-python/13b-unknown-fields-after-add.json" => {
                &[Kind::RefreshTokenDuplicate]
            }
            // what two libraries make of one login: neither replaces the other's entries
            "msal-node/13b-python-unknown-fields-input-then-node-add.json"
            | "msal-node/16-python-01-then-node-relogin.json" => {
                &[Kind::IdTokenDuplicate, Kind::RefreshTokenDuplicate]
            }
            "msal-dotnet/13b-python-unknown-fields-input-then-dotnet-add.json"
            | "msal-dotnet/16-python-01-then-dotnet-relogin.json" => &[
                Kind::AccountDuplicate,
                Kind::AppMetadataDuplicate,
                Kind::IdTokenDuplicate,
                Kind::RefreshTokenDuplicate,
            ],
            _ => &[],
        };
        let mut found_sorted = found.clone();
        found_sorted.sort();
        let mut known = known.to_vec();
        known.sort();
        assert_eq!(found_sorted, known, "{name}");
    }
}

#[test]
fn each_defect_is_found_by_its_name_and_only_it() {
    const IN_WINDOWS: &[(&str, &str)] = &[("environment", WINDOWS)];
    const OF_TWO: &[(&str, &str)] = &[("home_account_id", HOME_TWO)];
    let half = json!({"secret": "s", "credential_type": "RefreshToken"});
    let rows: Vec<(Kind, Plant)> = vec![
        (Kind::AccessTokenExpired, set("AccessToken", "expires_on", json!(at(-1).to_string()))),
        (Kind::AccessTokensOverlap, copied("AccessToken", IN_WINDOWS)),
        (Kind::AccountDuplicate, copied("Account", IN_WINDOWS)),
        (Kind::AccountIncomplete, without("Account", "authority_type")),
        (Kind::AccountIncomplete, without("Account", "realm")),
        (Kind::AccountIncomplete, without("Account", "username")),
        (Kind::AccountWithoutRefreshToken, copied("Account", OF_TWO)),
        (Kind::AppMetadataDuplicate, copied("AppMetadata", IN_WINDOWS)),
        (Kind::AppTokenAmongUsers, copied("AccessToken", &[("home_account_id", "")])),
        (Kind::CredentialTypeMisspelled, without("IdToken", "credential_type")),
        (Kind::CredentialTypeMisspelled, set("IdToken", "credential_type", json!("IDTOKEN"))),
        (Kind::CredentialTypeUnknown, copied("AccessToken", &[("credential_type", "PrimaryToken")])),
        (Kind::EntryIncomplete, added("RefreshToken", half)),
        (Kind::EntryMalformed, added("IdToken", json!(["secret"]))),
        (Kind::ExpiryAbsurd, set("AccessToken", "expires_on", json!("99999999999"))),
        (Kind::FamilyMisstated, without("AppMetadata", "family_id")),
        (Kind::FamilyMissing, Box::new(|value| value["AppMetadata"] = json!({}))),
        (Kind::FieldMalformed, set("Account", "name", json!({"first": "a"}))),
        (Kind::FieldMalformed, set("Account", "tenantProfiles", json!([{}]))),
        (Kind::FromTheFuture, set("AccessToken", "cached_at", json!(at(3600).to_string()))),
        (Kind::FromTheFuture, set("RefreshToken", "last_modification_time", json!("9999999999"))),
        (Kind::IdTokenDuplicate, copied("IdToken", IN_WINDOWS)),
        (Kind::NullValue, set("Account", "name", Value::Null)),
        (Kind::NullValue, added("IdToken", Value::Null)),
        (Kind::NullValue, Box::new(|value| value["IdToken"] = Value::Null)),
        (Kind::NumberValue, set("AccessToken", "expires_on", json!(NOW + 4000))),
        (Kind::RefreshTokenDuplicate, copied("RefreshToken", IN_WINDOWS)),
        (Kind::RefreshTokenOld, set("RefreshToken", "last_modification_time", json!("1750000000"))),
        (Kind::RefreshTokenWithoutAccount, copied("RefreshToken", OF_TWO)),
        (Kind::SectionMalformed, Box::new(|value| value["IdToken"] = json!("secret"))),
    ];
    let sound = document(&python());
    assert_eq!(kinds(&sound, 20), []);
    for (kind, plant) in rows {
        let mut value = python();
        plant(&mut value);
        let mut planted = document(&value);
        let found = kinds(&planted, 20);
        assert_eq!(found, [kind]);

        repair_all(&mut planted, 20);
        let left: Vec<Kind> = kinds(&planted, 20);
        let helpless = [
            Kind::AccountWithoutRefreshToken,
            Kind::AppTokenAmongUsers,
            Kind::CredentialTypeUnknown,
            Kind::RefreshTokenOld,
            Kind::RefreshTokenWithoutAccount,
        ];
        assert!(left.iter().all(|kind| helpless.contains(kind)), "{kind:?}: {left:?}");
        if kind != Kind::CredentialTypeUnknown && kind != Kind::AppTokenAmongUsers {
            assert_all_readers_agree(&planted);
        }
        let secrets = |document: &TokenCacheDocument| -> BTreeSet<String> {
            let sections = ["AccessToken", "RefreshToken", "IdToken"];
            let entries = sections.iter().flat_map(|section| entries(document, section));
            entries.filter_map(|entry| Some(entry["secret"].as_str()?.to_owned())).collect()
        };
        let gone: Vec<_> = secrets(&sound).difference(&secrets(&planted)).cloned().collect();
        let may_go = match kind {
            Kind::AccessTokenExpired | Kind::ExpiryAbsurd => 1,
            // it was planted over good ones, which are kept aside or were overwritten
            Kind::NullValue | Kind::SectionMalformed => 2,
            _ => 0,
        };
        assert!(gone.len() <= may_go, "{kind:?} cost {gone:?}");
    }
}

#[test]
fn an_account_without_a_name_gets_that_of_its_id_token_or_an_empty_one() {
    for (id_tokens, name) in [(true, "user.one@contoso.example"), (false, "")] {
        let mut value = python();
        without("Account", "username")(&mut value);
        if !id_tokens {
            value["IdToken"] = json!({});
        }
        let mut document = document(&value);
        repair_all(&mut document, 20);
        assert_eq!(entries(&document, "Account")[0]["username"], name);
    }
}

#[test]
fn a_byte_order_mark_is_a_defect_of_the_whole() {
    let plain = fixture("msal-python/03-foci-family.json").to_bytes();
    let mut document = TokenCacheDocument::parse(&[b"\xef\xbb\xbf", &**plain].concat()).unwrap();
    let [defect] = &document.defects(at(20))[..] else { panic!("{:?}", document.defects(at(20))) };
    assert_eq!((defect.kind, defect.entries.len(), defect.repairable), (Kind::ByteOrderMark, 0, true));
    let repair = ChangeSet::of(Change::Repair { defect: defect.clone(), now: at(20) });
    assert!(document.apply(&repair), "it is worth a write");
    assert!(!document.apply(&repair));
    assert_eq!(document.defects(at(20)), []);
}

#[test]
fn the_refresh_token_that_is_newest_stays_and_so_does_its_family() {
    let mut document = fixture("msal-node/16-python-01-then-node-relogin.json");
    let newest = refresh_secrets(&document, APP)[0].to_owned();
    repair_all(&mut document, 20);
    assert_eq!(refresh_secrets(&document, APP), [newest.as_str()]);
    assert_eq!(entries(&document, "IdToken").len(), 1);
    assert_eq!(document.accounts().len(), 1);
    assert_all_readers_agree(&document);
}

#[test]
fn a_client_keeps_its_family_whichever_of_two_entries_names_it() {
    for (first, second) in [(Some("1"), None), (None, Some("1"))] {
        let metadata = |environment: &str, family: Option<&str>| {
            let mut entry = json!({"client_id": APP, "environment": environment});
            if let Some(family) = family {
                entry["family_id"] = json!(family);
            }
            entry
        };
        let mut document = document(&json!({"AppMetadata": {
            "a": metadata(MICROSOFTONLINE, first), "b": metadata(WINDOWS, second),
        }}));
        repair_all(&mut document, 0);
        let [entry] = &entries(&document, "AppMetadata")[..] else { panic!("two") };
        assert_eq!(entry["family_id"], "1");
    }
}

#[test]
fn only_what_was_listed_is_mended() {
    let mut value = python();
    value["Account"]["x"] = Value::Null;
    let listed = document(&value).defects(at(20)).remove(0);
    value["Account"]["y"] = Value::Null;
    let mut now = document(&value);
    assert!(now.apply(&ChangeSet::of(Change::Repair { defect: listed, now: at(20) })));
    let after = as_json(&now);
    assert!(after["Account"].get("x").is_none() && after["Account"].get("y").is_some());
}

#[test]
fn what_nobody_can_read_is_kept_aside_until_somebody_signs_out() {
    let mut value = python();
    let broken = json!({"home_account_id": HOME_ONE, "secret": "s", "environment": MICROSOFTONLINE});
    value["RefreshToken"]["x"] = broken.clone();
    value["AccessToken"]["y"] = json!("text");
    let mut mended = document(&value);
    repair_all(&mut mended, 20);
    let after = as_json(&mended);
    assert_eq!(after["Damaged"], json!({"AccessToken": {"y": "text"}, "RefreshToken": {"x": broken}}));
    assert_eq!(mended.set_aside_count(), 2);
    assert_eq!(kinds(&mended, 20), []);

    let sign_out = Change::RemoveAccount {
        home_account_id: HOME_ONE.to_owned(),
        environment: WINDOWS.to_owned(),
        client_id: None,
    };
    mended.apply(&ChangeSet::of(sign_out));
    assert_eq!(as_json(&mended)["Damaged"], json!({"AccessToken": {"y": "text"}}));
    mended.apply(&ChangeSet::of(Change::RemoveEverything));
    assert_eq!(mended.set_aside_count(), 0);
}

/// Damage as it happens: fields of other types or gone, entries doubled under other keys and aliases.
fn damage(value: &mut Value, section: &str, place: usize, how: usize) {
    let Some(entries) = value[section].as_object_mut() else { return };
    let Some((key, entry)) = entries.iter().nth(place % entries.len().max(1)) else { return };
    let (key, mut entry) = (key.clone(), entry.clone());
    let Some(members) = entry.as_object_mut() else { return };
    let alias = if how.is_multiple_of(2) { WINDOWS } else { "STS.windows.net" };
    let name = members.keys().nth(how % members.len().max(1)).cloned().unwrap_or_default();
    let new_key = match how % 11 {
        0 => {
            members.insert(name, Value::Null);
            key
        }
        1 => {
            members.insert(name, json!(1_767_230_000));
            key
        }
        2 => {
            members.insert(name, json!([{"x": null}]));
            key
        }
        3 => {
            members.shift_remove(&name);
            key
        }
        4 | 5 => {
            members.insert("environment".to_owned(), json!(alias));
            format!("{key}-{how}")
        }
        6 => format!("{key}-again"),
        7 => {
            members.insert("target".to_owned(), json!(format!("openid {USER_READ} {ARM}")));
            format!("{key}-{how}")
        }
        8 => {
            entry = json!(how);
            key
        }
        9 => {
            members.insert("last_modification_time".to_owned(), json!((NOW + how as i64 - 5000).to_string()));
            format!("{key}-{how}")
        }
        _ => {
            members.insert("cached_at".to_owned(), json!((NOW + 90_000).to_string()));
            key
        }
    };
    value[section][&new_key] = entry;
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn whatever_was_done_to_a_cache_all_readers_can_read_it_after_repair(
        name in select(vec![
            "msal-python/03-foci-family.json", "msal-python/12a-before-remove-account.json",
            "msal-node/05-guest-second-tenant.json", "msal-dotnet/02-two-users.json",
            "msal-node/16-python-01-then-node-relogin.json",
        ]),
        damages in vec((select(vec!["AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata"]), 0..9_usize, 0..999_usize), 0..12),
    ) {
        let mut value = as_json(&fixture(name));
        for (section, place, how) in damages {
            damage(&mut value, section, place, how);
        }
        let mut mended = document(&value);
        repair_all(&mut mended, 20);
        for defect in mended.defects(at(20)) {
            prop_assert!(!defect.repairable, "{defect:?}");
        }
        let mut live = as_json(&mended);
        live.as_object_mut().unwrap().shift_remove("Damaged");
        for (section, entries) in live.as_object().unwrap() {
            for (key, entry) in entries.as_object().unwrap() {
                for (field, member) in entry.as_object().unwrap() {
                    prop_assert!(!member.is_null() && !member.is_number(), "{section} {key} {field}");
                }
            }
        }
        let unknown = mended.defects(at(20)).iter().any(|defect| defect.kind == Kind::CredentialTypeUnknown);
        if !unknown {
            assert_all_readers_agree(&document(&live));
        }
        // nobody is signed out, and no tool has to ask
        for account in document(&value).accounts() {
            let kept = mended.accounts().into_iter().find(|kept| {
                kept.home_account_id == account.home_account_id
                    && crate::cloud::same_cloud(&kept.environment, &account.environment)
            });
            prop_assert!(kept.is_some(), "{account:?}");
            let kept = kept.unwrap().clients;
            for client in account.clients {
                prop_assert!(kept.iter().any(|kept| kept.client_id == client.client_id), "{client:?}");
            }
        }
    }

    #[test]
    fn no_content_is_too_odd_to_be_looked_at_and_mended(value in properties::any_object()) {
        let mut odd = document(&value);
        repair_all(&mut odd, 0);
        prop_assert_eq!(&TokenCacheDocument::parse(&odd.to_bytes()).unwrap(), &odd);
    }
}

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::oracle::{assert_all_readers_agree, assert_dotnet_accepts};
use super::*;

const HOSTS: [&str; 5] =
    [MICROSOFTONLINE, WINDOWS, "sts.windows.net", "login.microsoftonline.us", "login.example"];
const CLIENTS: [&str; 4] = [APP, APP2, AZCLI, VS];
const HOMES: [&str; 3] = [HOME_ONE, HOME_TWO, "adfs-subject"];
const TENANTS: [&str; 6] = [T1, T2, "organizations", "common", "adfs", "contoso.example"];
const SCOPES: [&str; 6] = ["openid", "profile", "email", USER_READ, ARM, "https://x/Ü"];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_object_comes_back_equal(value in any_object()) {
        let document = document(&value);
        prop_assert_eq!(as_json(&document), value);
        prop_assert!(document.to_bytes().is_ascii());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _document = TokenCacheDocument::parse(&bytes);
    }

    #[test]
    fn no_look_up_and_no_change_trips_over_any_content(value in any_object(), changes in any_changes()) {
        let mut document = document(&value);
        prop_assert!(document.accounts().len() <= 6);
        prop_assert!(document.stale_entries(at(0)).len() <= 12);
        let wanted = scopes(&[USER_READ]);
        prop_assert!(document.access_token(&query(&wanted), at(0)).is_none());
        document.apply(&changes);
        prop_assert_eq!(&TokenCacheDocument::parse(&document.to_bytes()).unwrap(), &document);
    }

    #[test]
    fn applying_twice_is_applying_once(first in any_changes(), changes in any_changes()) {
        let mut document = TokenCacheDocument::default();
        document.apply(&first);
        let before = document.clone();
        let changed = document.apply(&changes);
        prop_assert_eq!(changed, document != before);
        let once = document.clone();
        let changed_again = document.apply(&changes);
        prop_assert_eq!(changed_again, document != once);
        if changes.0.len() == 1 {
            prop_assert!(!changed_again);
        }
    }

    #[test]
    fn what_we_write_from_nothing_all_readers_can_read(changes in vec(any_changes(), 1..4)) {
        let mut document = TokenCacheDocument::default();
        for changes in &changes {
            document.apply(changes);
        }
        assert_all_readers_agree(&document);
        assert_only_text(&as_json(&document));
        prop_assert!(!document.to_bytes().starts_with(b"\xef\xbb\xbf"));
    }

    #[test]
    fn a_login_over_any_library_leaves_what_all_readers_can_read(
        name in select(vec!["msal-python/02-two-users.json", "msal-node/02-two-users.json", "msal-dotnet/02-two-users.json"]),
        tokens in vec(any_tokens(), 1..6),
    ) {
        let mut document = fixture(name);
        for tokens in tokens {
            document.apply(&save(tokens));
        }
        assert_all_readers_agree(&document);
    }

    #[test]
    fn adopting_is_idempotent_and_leaves_what_all_readers_can_read(
        from in vec(any_tokens(), 1..6),
        into in vec(any_tokens(), 0..6),
        library in select(vec!["msal-python/02-two-users.json", "msal-node/02-two-users.json", "msal-dotnet/02-two-users.json"]),
        dialect in select(vec![Dialect::DotNet, Dialect::Go, Dialect::Node, Dialect::Own, Dialect::Python]),
        from_nothing in any::<bool>(),
    ) {
        let saved = |mut document: TokenCacheDocument, all: Vec<IssuedTokens>| {
            for tokens in all {
                document.apply(&save(tokens));
            }
            document
        };
        let source = saved(fixture(library), from);
        let mut target = saved(if from_nothing { TokenCacheDocument::default() } else { fixture(library) }, into);
        for account in source.accounts() {
            let others = |document: &TokenCacheDocument| {
                let mut rest = document.clone();
                rest.apply(&ChangeSet::of(Change::RemoveAccount {
                    home_account_id: account.home_account_id.clone(),
                    environment: account.environment.clone(),
                    client_id: None,
                }));
                ["RefreshToken", "IdToken", "Account", "AccessToken"].map(|section| entries(&rest, section))
            };
            for login in source.logins(&account.home_account_id, &account.environment) {
                let before = target.clone();
                let change = ChangeSet::of(Change::Adopt { login: Box::new(login), dialect, if_signed_in: false });
                let changed = target.apply(&change);
                prop_assert_eq!(changed, target != before);
                prop_assert!(!target.apply(&change), "a second time changes nothing");
                prop_assert_eq!(others(&target), others(&before), "nobody else's entries change");
                prop_assert_eq!(entries(&target, "AccessToken"), entries(&before, "AccessToken"));
                assert_all_readers_agree(&target);
                assert_dotnet_accepts(&target);
            }
        }
    }

    #[test]
    fn changes_of_two_accounts_commute(
        one in vec(any_tokens(), 1..4),
        other in vec(any_tokens(), 1..4),
        one_goes in any::<bool>(),
    ) {
        let of = |tokens: Vec<IssuedTokens>, home_account_id: &str, client_id: &str| {
            let saves = tokens.into_iter().map(|tokens| Change::Save(Box::new(IssuedTokens {
                home_account_id: home_account_id.to_owned(),
                client_id: client_id.to_owned(),
                ..tokens
            })));
            let goes = Change::RemoveAccount {
                home_account_id: home_account_id.to_owned(), environment: WINDOWS.to_owned(), client_id: None,
            };
            saves.chain(one_goes.then_some(goes)).collect::<ChangeSet>()
        };
        let (one, other) = (of(one, HOME_ONE, APP), of(other, HOME_TWO, VS));
        let apply = |first: &ChangeSet, second: &ChangeSet| {
            let mut document = fixture("msal-python/02-two-users.json");
            document.apply(first);
            document.apply(second);
            document
        };
        prop_assert_eq!(apply(&one, &other), apply(&other, &one));
    }
}

/// Neither a null nor a number at any depth (spec S-C 1.2).
fn assert_only_text(value: &Value) {
    match value {
        Value::Object(members) => members.values().for_each(assert_only_text),
        Value::String(_) => {}
        other => panic!("{other} was written"),
    }
}

fn any_tokens() -> impl Strategy<Value = IssuedTokens> {
    let who = (select(&HOMES[..]), select(&HOSTS[..]), select(&CLIENTS[..]));
    let place = (select(&TENANTS[..]), select(&[None, Some(T1), Some(T2)][..]));
    let what = (subsequence(SCOPES.to_vec(), 1..4), 0..1000_i64, "[a-z]{1,3}", any::<[bool; 6]>());
    (who, place, what).prop_map(|((home, host, client), (asked, tenant), (scopes, time, secret, flags))| {
        let [has_refresh_token, is_family, has_id_token, is_sign_in, has_name, has_refresh_on] = flags;
        IssuedTokens {
            home_account_id: home.to_owned(),
            host: host.to_owned(),
            client_id: client.to_owned(),
            requested_tenant: asked.to_owned(),
            token_tenant: tenant.map(str::to_owned),
            scopes: scopes.into_iter().map(str::to_owned).collect(),
            access_token: SecretString::from(secret.as_str()),
            issued_at: at(time),
            expires_on: at(time + 3600),
            refresh_on: has_refresh_on.then(|| at(time + 1800)),
            refresh_token: has_refresh_token.then(|| SecretString::from(secret)),
            family_id: is_family.then(|| "1".to_owned()),
            id_token: has_id_token.then(|| SecretString::from(id_token("somebody"))),
            account: has_id_token.then(|| IssuedAccount {
                username: has_name.then(|| "somebody".to_owned()),
                ..login().account.unwrap()
            }),
            origin: if is_sign_in { login().origin } else { Origin::Refresh },
            ..login()
        }
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    let account = (select(&HOMES[..]), select(&HOSTS[..]), select(&CLIENTS[..]), any::<bool>());
    prop_oneof![
        6 => any_tokens().prop_map(|tokens| Change::Save(Box::new(tokens))),
        1 => account.prop_map(|(home, host, client, narrowed)| Change::RemoveAccount {
            home_account_id: home.to_owned(),
            environment: host.to_owned(),
            client_id: narrowed.then(|| client.to_owned()),
        }),
        1 => (select(&HOMES[..]), select(&CLIENTS[..]), "[a-z]{1,3}").prop_map(|(home, client, secret)| {
            Change::RemoveRefreshToken {
                home_account_id: home.to_owned(),
                client_id: client.to_owned(),
                secret: SecretString::from(secret),
            }
        }),
        1 => (0..5000_i64).prop_map(|time| Change::RemoveStale { now: at(time) }),
        1 => Just(Change::RemoveEverything),
    ]
}

fn any_changes() -> impl Strategy<Value = ChangeSet> {
    vec(any_change(), 1..5).prop_map(|changes| changes.into_iter().collect())
}

/// Objects of any shape, with our own names among theirs so that some of it looks like a cache.
pub(super) fn any_object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        select(vec![HOME_ONE, APP, WINDOWS, T1, "AccessToken", "RefreshToken", "1", USER_READ])
            .prop_map(Value::from),
    ];
    let name = prop_oneof![
        any::<String>(),
        select(vec![
            "AccessToken",
            "RefreshToken",
            "IdToken",
            "Account",
            "AppMetadata",
            "home_account_id",
            "environment",
            "client_id",
            "realm",
            "target",
            "secret",
            "credential_type",
            "expires_on",
            "family_id",
            "username",
        ])
        .prop_map(str::to_owned),
    ];
    let object = move |inner: BoxedStrategy<Value>| {
        btree_map(name.clone(), inner, 0..6).prop_map(|members| Value::Object(members.into_iter().collect()))
    };
    let value = leaf.prop_recursive(4, 64, 6, {
        let object = object.clone();
        move |inner| prop_oneof![vec(inner.clone(), 0..4).prop_map(Value::Array), object(inner)]
    });
    object(value.boxed())
}

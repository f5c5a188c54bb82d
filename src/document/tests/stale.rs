use super::*;

#[test]
fn expired_tokens_and_superseded_refresh_tokens_are_stale() {
    let document = fixture("msal-node/16-python-01-then-node-relogin.json");
    let stale = document.stale_entries(at(20));
    assert_eq!(stale.len(), 1, "{stale:?}");
    assert_eq!(stale[0].section, "RefreshToken");
    assert!(stale[0].key.contains(MICROSOFTONLINE), "Python's is the older one");
    assert_eq!((stale[0].username.as_str(), stale[0].client_id.as_str()), ("user.one@contoso.example", APP));

    assert_eq!(document.stale_entries(at(4908)).len(), 1);
    assert_eq!(document.stale_entries(at(4909)).len(), 2, "good until, not through, its expiry");
    let later = document.stale_entries(at(4909 + 7200));
    assert_eq!(later.len(), 2);
    assert_eq!(later[0].why, "expired 2 hours ago");
}

#[test]
fn other_clients_and_other_clouds_supersede_nothing() {
    for name in ["msal-python/03-foci-family.json", "msal-python/12a-before-remove-account.json"] {
        assert_eq!(fixture(name).stale_entries(at(0)), [], "{name}");
    }
}

#[test]
fn exactly_what_is_listed_goes() {
    for path in fixtures() {
        let mut document = TokenCacheDocument::parse(&fs::read(&path).unwrap()).unwrap();
        let mut expected = as_json(&document);
        let stale = document.stale_entries(at(1_000_000));
        for entry in &stale {
            expected[&entry.section].as_object_mut().unwrap().shift_remove(&entry.key).unwrap();
        }
        let remove = ChangeSet::of(Change::RemoveStale { now: at(1_000_000) });
        assert_eq!(document.apply(&remove), !stale.is_empty());
        assert_eq!(as_json(&document), expected, "{}", path.display());
        assert_eq!(document.stale_entries(at(1_000_000)), []);
        assert!(!document.apply(&remove));
    }
}

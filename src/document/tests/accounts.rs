use super::*;

#[test]
fn one_account_for_all_aliases_and_realms() {
    let document = fixture("msal-dotnet/16-python-01-then-dotnet-relogin.json");
    let accounts = document.accounts();
    assert_eq!(accounts.len(), 1, "{accounts:?}");

    let guest = fixture("msal-python/05-guest-second-tenant.json").accounts();
    assert_eq!(guest.len(), 1);
    assert_eq!(guest[0].home_account_id, HOME_ONE);
    assert_eq!(guest[0].home_tenant.as_deref(), Some(T1));
    assert_eq!(guest[0].realms, [T1, T2]);
    let node = fixture("msal-node/05-guest-second-tenant.json").accounts();
    assert_eq!(node[0].realms, [T1, T2], "only tokens know the second tenant");
}

#[test]
fn the_clients_and_their_families_are_told() {
    let accounts = fixture("msal-python/12a-before-remove-account.json").accounts();
    let one = accounts.iter().find(|account| account.home_account_id == HOME_ONE).unwrap();
    let clients: Vec<_> =
        one.clients.iter().map(|client| (client.client_id.as_str(), client.family_id.as_deref())).collect();
    assert_eq!(clients, [(APP, None), (AZCLI, Some("1"))]);
    assert!(one.has_family_token());
    let two = accounts.iter().find(|account| account.home_account_id == HOME_TWO).unwrap();
    assert!(!two.has_family_token());
}

#[test]
fn a_name_nobody_sent_comes_from_the_id_token() {
    let plain = fixture("msal-python/01-one-user-one-client.json");
    for unknown in [json!("Missing from the token response"), json!(""), json!(null)] {
        let document = with_field(&plain, "Account", "username", &unknown);
        assert_eq!(document.accounts()[0].username, "user.one@contoso.example");
        let without = with_field(&document, "IdToken", "secret", &json!("not a token"));
        assert_eq!(without.accounts()[0].username, "");
    }
}

#[test]
fn the_name_at_home_is_the_accounts_name() {
    let mut value = as_json(&fixture("msal-python/05-guest-second-tenant.json"));
    entry_at(&mut value, "Account", 0)["realm"] = json!(T2);
    entry_at(&mut value, "Account", 0)["username"] = json!("user.one_contoso#EXT#");
    entry_at(&mut value, "Account", 1)["realm"] = json!("organizations");
    assert_eq!(document(&value).accounts()[0].username, "user.one@contoso.example");
}

#[test]
fn tokens_alone_make_no_account_and_a_rare_authority_type_does() {
    let mut value = as_json(&fixture("msal-python/01-one-user-one-client.json"));
    entry_at(&mut value, "Account", 0)["authority_type"] = json!("Generic");
    assert_eq!(document(&value).accounts().len(), 1);
    value["Account"] = json!({"x": {"username": "nobody"}, "y": 7});
    assert_eq!(document(&value).accounts(), []);
}

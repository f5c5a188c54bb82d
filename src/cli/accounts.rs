//! `tokenkeep accounts`: who is signed in, and who is meant when nobody is named.

use serde_json::{Value, json};

use super::account;
use super::arguments::{Accounts, AccountsCommand};
use super::caches::{self, ListedAccount, OpenCache};
use super::failure::Failure;
use super::output::{Output, printable, table};
use super::settings::Settings;
use super::state::DefaultAccounts;

pub(super) fn run(arguments: &Accounts, settings: &Settings, output: Output) -> Result<(), Failure> {
    match &arguments.command {
        None => list(settings, output),
        Some(AccountsCommand::Default { hint: Some(hint), .. }) => set(hint, settings, output),
        Some(AccountsCommand::Default { hint: None, .. }) => unset(settings, output),
    }
}

fn list(settings: &Settings, output: Output) -> Result<(), Failure> {
    let caches = OpenCache::both(settings)?;
    let listed = caches::accounts(&caches);
    let defaults = DefaultAccounts::of(settings)?;
    let mut default = Vec::new();
    for ListedAccount { account, .. } in &listed {
        if defaults.get(&account.environment)?.as_ref() == Some(&account.home_account_id) {
            default.push((account.environment.as_str(), account.home_account_id.as_str()));
        }
    }
    let is_default = |listed: &ListedAccount| {
        let account = &listed.account;
        default.contains(&(account.environment.as_str(), account.home_account_id.as_str()))
    };
    if output.is_json() {
        let accounts = listed.iter().map(|listed| to_json(listed, is_default(listed)));
        return output.json(&json!({ "version": 1, "accounts": accounts.collect::<Vec<_>>() }));
    }
    if listed.is_empty() {
        return output.remark(&format!(
            "Nobody is signed in: {} has no account. Sign in with: tokenkeep login",
            settings.cache.name
        ));
    }
    let several_clouds = listed
        .iter()
        .any(|one| !crate::cloud::same_cloud(&one.account.environment, &listed[0].account.environment));
    let mut headings = vec!["", "ACCOUNT", "TENANT", "CLIENTS", "CACHES"];
    if several_clouds {
        headings.push("CLOUD");
    }
    let row = |listed: &ListedAccount| {
        let mut row = row(listed, is_default(listed));
        if several_clouds {
            row.push(listed.account.environment.clone());
        }
        row.iter().map(|cell| printable(cell).into_owned()).collect()
    };
    let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
    output.text(&table(&headings, &rows))
}

fn set(hint: &str, settings: &Settings, output: Output) -> Result<(), Failure> {
    let caches = OpenCache::both(settings)?;
    let listed = caches::accounts(&caches).into_iter().map(|listed| listed.account).collect();
    let host = settings.authority.host();
    let accounts = account::of_cloud(listed, host);
    let account =
        account::choose(&accounts, Some(hint), None, settings.client_id(), settings.cache.name.as_str())?;
    DefaultAccounts::of(settings)?.set(host, Some(&account.home_account_id))?;
    if output.is_json() {
        return output.json(&json!({ "default": {
            "username": account.username,
            "home_account_id": account.home_account_id,
        }}));
    }
    output.remark(&format!("{} is the default account now", printable(account::display_name(account))))
}

fn unset(settings: &Settings, output: Output) -> Result<(), Failure> {
    DefaultAccounts::of(settings)?.set(settings.authority.host(), None)?;
    if output.is_json() {
        return output.json(&json!({ "default": null }));
    }
    output.remark("There is no default account any more")
}

fn to_json(listed: &ListedAccount, is_default: bool) -> Value {
    let account = &listed.account;
    let clients = account
        .clients
        .iter()
        .map(|client| json!({ "client_id": client.client_id, "family_id": client.family_id }));
    json!({
        "username": account.username,
        "home_account_id": account.home_account_id,
        "home_tenant": account.home_tenant,
        "environment": account.environment,
        "tenants": account.realms,
        "clients": clients.collect::<Vec<_>>(),
        "caches": listed.caches,
        "default": is_default,
    })
}

/// The cells of one account, the marker of the default one first.
fn row(listed: &ListedAccount, is_default: bool) -> Vec<String> {
    let account = &listed.account;
    let of_family = account.clients.iter().filter(|client| client.family_id.is_some()).count();
    let clients = match (account.clients.len(), of_family) {
        (0, _) => "none: sign in again".to_owned(),
        (all, 0) => format!("{all}"),
        (all, family) if all == family => format!("{all} (family)"),
        (all, family) => format!("{all} ({family} of the family)"),
    };
    let caches = listed.caches.iter().map(|cache| cache.rsplit('.').next().unwrap_or(cache));
    vec![
        if is_default { "*" } else { "" }.to_owned(),
        account::display_name(account).to_owned(),
        account.home_tenant.clone().unwrap_or_default(),
        clients,
        caches.collect::<Vec<_>>().join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::CachedClient;

    fn listed() -> ListedAccount {
        let mut account = account::tests::account("user.one@contoso.example", "u.t");
        account.realms = vec!["t".to_owned()];
        account.clients = vec![
            CachedClient { client_id: "a".to_owned(), family_id: Some("1".to_owned()) },
            CachedClient { client_id: "b".to_owned(), family_id: None },
        ];
        ListedAccount { account, caches: vec!["msal.cache.nocae".into(), "msal.cache.cae".into()] }
    }

    #[test]
    fn an_account_as_json() {
        assert_eq!(
            to_json(&listed(), true),
            json!({
                "username": "user.one@contoso.example",
                "home_account_id": "u.t",
                "home_tenant": "t",
                "environment": "login.windows.net",
                "tenants": ["t"],
                "clients": [{"client_id": "a", "family_id": "1"}, {"client_id": "b", "family_id": null}],
                "caches": ["msal.cache.nocae", "msal.cache.cae"],
                "default": true,
            })
        );
    }

    #[test]
    fn an_account_as_a_row() {
        let mut listed = listed();
        assert_eq!(
            row(&listed, true),
            ["*", "user.one@contoso.example", "t", "2 (1 of the family)", "nocae, cae"]
        );
        listed.account.clients.clear();
        assert_eq!(row(&listed, false)[3], "none: sign in again");
    }
}

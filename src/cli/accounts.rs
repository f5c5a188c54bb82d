//! `tokenkeep accounts`: who is signed in, and who is meant when nobody is named.

use serde_json::json;

use super::account;
use super::arguments::{Accounts, AccountsCommand};
use super::caches::{self, OpenCache};
use super::failure::Failure;
use super::output::{Output, printable, table};
use super::settings::Settings;
use super::state::DefaultAccounts;
use super::via_agent;
use crate::agent_client::protocol::Account;
use crate::credential::account::ListedAccount;

pub(super) fn run(arguments: &Accounts, settings: &Settings, output: Output) -> Result<(), Failure> {
    match &arguments.command {
        None => list(settings, output),
        Some(AccountsCommand::Default { hint: Some(hint), .. }) => set(hint, settings, output),
        Some(AccountsCommand::Default { hint: None, .. }) => unset(settings, output),
    }
}

fn list(settings: &Settings, output: Output) -> Result<(), Failure> {
    let agent = via_agent::client(settings);
    let told = match &agent {
        Some(agent) => via_agent::ask(agent, agent.ask_accounts(), output)?,
        None => None,
    };
    let accounts = match told {
        Some(accounts) => accounts,
        None => of_caches(settings)?,
    };
    if output.is_json() {
        return output.json(&json!({ "version": 1, "accounts": accounts }));
    }
    let Some(first) = accounts.first() else {
        return output.remark(&format!(
            "Nobody is signed in: {} has no account. Sign in with: tokenkeep login",
            settings.cache.name
        ));
    };
    let several_clouds =
        accounts.iter().any(|account| !crate::cloud::same_cloud(&account.environment, &first.environment));
    let mut headings = vec!["", "ACCOUNT", "TENANT", "CLIENTS", "CACHES"];
    if several_clouds {
        headings.push("CLOUD");
    }
    let row = |account: &Account| {
        let mut row = row(account);
        if several_clouds {
            row.push(account.environment.clone());
        }
        row.iter().map(|cell| printable(cell).into_owned()).collect()
    };
    let rows: Vec<Vec<String>> = accounts.iter().map(row).collect();
    output.text(&table(&headings, &rows))
}

fn of_caches(settings: &Settings) -> Result<Vec<Account>, Failure> {
    let caches = OpenCache::both(settings)?;
    let defaults = DefaultAccounts::of(settings)?;
    let account = |listed: ListedAccount| {
        let ListedAccount { account, caches } = listed;
        let default = defaults.get(&account.environment)?;
        let is_default = default.as_deref() == Some(&*account.home_account_id);
        Ok(Account::new(account, caches, is_default))
    };
    caches::accounts(&caches).into_iter().map(account).collect()
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

/// The cells of one account, the marker of the default one first.
fn row(account: &Account) -> Vec<String> {
    let of_family = account.clients.iter().filter(|client| client.family_id.is_some()).count();
    let clients = match (account.clients.len(), of_family) {
        (0, _) => "none: sign in again".to_owned(),
        (all, 0) => format!("{all}"),
        (all, family) if all == family => format!("{all} (family)"),
        (all, family) => format!("{all} ({family} of the family)"),
    };
    let name = if account.username.is_empty() { &account.home_account_id } else { &account.username };
    let caches = account.caches.iter().map(|cache| cache.rsplit('.').next().unwrap_or(cache));
    vec![
        if account.default { "*" } else { "" }.to_owned(),
        name.clone(),
        account.home_tenant.clone().unwrap_or_default(),
        clients,
        caches.collect::<Vec<_>>().join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::CachedClient;

    fn listed(default: bool) -> Account {
        let mut account = account::tests::account("user.one@contoso.example", "u.t");
        account.realms = vec!["t".to_owned()];
        account.clients = vec![
            CachedClient { client_id: "a".to_owned(), family_id: Some("1".to_owned()) },
            CachedClient { client_id: "b".to_owned(), family_id: None },
        ];
        Account::new(account, vec!["msal.cache.nocae".into(), "msal.cache.cae".into()], default)
    }

    #[test]
    fn an_account_as_json() {
        assert_eq!(
            json!(listed(true)),
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
        let mut listed = listed(true);
        assert_eq!(row(&listed), ["*", "user.one@contoso.example", "t", "2 (1 of the family)", "nocae, cae"]);
        listed.clients.clear();
        assert_eq!(row(&listed)[3], "none: sign in again");
    }
}

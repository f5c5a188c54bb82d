//! `tokenkeep logout`: an account and all its tokens leave both caches.

use serde_json::{Value, json};

use super::account;
use super::arguments::Logout;
use super::caches::{self, OpenCache, Removal};
use super::failure::Failure;
use super::output::{Output, printable};
use super::settings::Settings;
use super::state::DefaultAccounts;
use super::tools::{self, Problem};
use crate::cloud;
use crate::credential::account::ListedAccount;
use crate::document::{CachedAccount, Change, ChangeSet};

pub(super) fn run(arguments: &Logout, settings: &Settings, output: Output) -> Result<(), Failure> {
    if arguments.everywhere {
        return everywhere(arguments, settings, output);
    }
    let caches = OpenCache::both(settings)?;
    let accounts = accounts(arguments, (&caches, settings.cache.name.as_str()), settings)?;
    let changes = removal_of(&accounts, arguments.client.as_deref());
    let mut removed = Vec::new();
    for cache in &caches {
        removed.extend(cache.carry_out(&changes, cache.plan(&changes))?);
    }
    forget_default_accounts(settings, &accounts)?;
    report(&accounts, &removed, &[], output)
}

/// From the caches of every tool. One that cannot be changed does not keep the others from it.
fn everywhere(arguments: &Logout, settings: &Settings, output: Output) -> Result<(), Failure> {
    let (tools, mut problems) = tools::all(settings)?;
    let caches: Vec<&OpenCache> = tools.iter().map(|tool| &tool.cache).collect();
    let accounts = accounts(arguments, (caches.iter().copied(), "this machine"), settings)?;
    let changes = removal_of(&accounts, arguments.client.as_deref());
    let mut plans = Vec::new();
    for tool in &tools {
        let planned = tool.cache.plan(&changes);
        match &tool.read_only {
            Some(why) if !planned.is_empty() => {
                let problem = format!("{} entries stay: {why}", planned.len());
                problems.push(Problem::new(tool.cache.name.clone(), problem));
            }
            _ => plans.push((tool, planned)),
        }
    }
    let planned: Vec<Removal> = plans.iter().flat_map(|(_, planned)| planned.clone()).collect();
    if !planned.is_empty() && !arguments.yes {
        if !output.has_person() {
            return Err(Failure::usage(
                "nobody is here to ask whether this may be removed from every tool's cache",
                "look at who is signed in where with tokenkeep doctor, then say --yes",
            ));
        }
        let question = format!("Remove {}?", caches::in_words(&planned).join(", and "));
        if !output.ask(&printable(&question), false)? {
            return Err(Failure::Cancelled);
        }
    }
    let mut removed = Vec::new();
    for (tool, planned) in plans {
        match tool.cache.carry_out(&changes, planned) {
            Ok(gone) => removed.extend(gone),
            Err(error) => problems.push(tool.problem(error)),
        }
    }
    forget_default_accounts(settings, &accounts)?;
    report(&accounts, &removed, &problems, output)
}

/// Who is meant, out of these caches.
fn accounts<'a>(
    arguments: &Logout,
    (caches, name): (impl IntoIterator<Item = &'a OpenCache>, &str),
    settings: &Settings,
) -> Result<Vec<CachedAccount>, Failure> {
    if arguments.all {
        return Ok(caches::accounts(caches).into_iter().map(|listed| listed.account).collect());
    }
    Ok(vec![choose(arguments.account.as_deref(), (caches, name), settings)?])
}

fn report(
    accounts: &[CachedAccount],
    removed: &[Removal],
    problems: &[Problem],
    output: Output,
) -> Result<(), Failure> {
    if output.is_json() {
        let removed: Vec<Value> = removed.iter().map(Removal::to_json).collect();
        let problems: Vec<Value> = problems.iter().map(Problem::to_json).collect();
        return output.json(&json!({ "version": 1, "removed": removed, "problems": problems }));
    }
    for problem in problems {
        output.remark(&format!("Left as it is: {}", printable(&problem.in_words())))?;
    }
    let names: Vec<String> =
        accounts.iter().map(|account| printable(account::display_name(account)).into_owned()).collect();
    match (&*names, removed) {
        ([], _) => output.remark("Nobody was signed in"),
        (names, []) => output.remark(&format!("Nothing of {} was there to remove", names.join(", "))),
        (names, removed) => {
            output.remark(&format!("Signed out: {}", names.join(", ")))?;
            output.remark(&printable(&format!("Removed {}", caches::in_words(removed).join(", and "))))
        }
    }
}

/// The account that is meant, out of these caches, which are called so together.
pub(super) fn choose<'a>(
    hint: Option<&str>,
    (caches, name): (impl IntoIterator<Item = &'a OpenCache>, &str),
    settings: &Settings,
) -> Result<CachedAccount, Failure> {
    let host = settings.authority.host();
    let listed = caches::accounts(caches).into_iter().map(|listed| listed.account).collect();
    let accounts = account::of_cloud(listed, host);
    let default = DefaultAccounts::of(settings)?.get(host)?;
    let chosen = account::choose(&accounts, hint, default.as_deref(), settings.client_id(), name)?;
    Ok(chosen.clone())
}

/// Everything of these accounts goes, or only what one client has of them.
pub(super) fn removal_of(accounts: &[CachedAccount], client_id: Option<&str>) -> ChangeSet {
    let change = |account: &CachedAccount| Change::RemoveAccount {
        home_account_id: account.home_account_id.clone(),
        environment: account.environment.clone(),
        client_id: client_id.map(ToOwned::to_owned),
    };
    accounts.iter().map(change).collect()
}

/// Nobody is the default account who is not in a cache any more.
pub(super) fn forget_default_accounts(
    settings: &Settings,
    signed_out: &[CachedAccount],
) -> Result<(), Failure> {
    let mut defaults = DefaultAccounts::of(settings)?;
    let mut affected: Vec<&CachedAccount> = Vec::new();
    for account in signed_out {
        if defaults.get(&account.environment)?.as_ref() == Some(&account.home_account_id) {
            affected.push(account);
        }
    }
    if affected.is_empty() {
        return Ok(());
    }
    let left = caches::accounts(&OpenCache::both(settings)?);
    for account in affected {
        let is_left = |listed: &ListedAccount| {
            listed.account.home_account_id == account.home_account_id
                && cloud::same_cloud(&listed.account.environment, &account.environment)
        };
        if !left.iter().any(is_left) {
            defaults.set(&account.environment, None)?;
        }
    }
    Ok(())
}

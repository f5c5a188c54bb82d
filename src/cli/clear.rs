//! `tokenkeep clear`: removing from the cache what nobody needs, after asking.

use serde_json::{Value, json};

use super::arguments::Clear;
use super::caches::{self, OpenCache, Removal, deadline};
use super::failure::Failure;
use super::logout;
use super::output::{Output, printable, table};
use super::settings::Settings;
use crate::document::CachedAccount;
use crate::error::CacheError;
use crate::time::{Clock as _, SystemClock};

pub(super) fn run(arguments: &Clear, settings: &Settings, output: Output) -> Result<(), Failure> {
    if arguments.all {
        return everything(arguments, settings, output);
    }
    let caches = OpenCache::both(settings)?;
    let mut accounts: Vec<CachedAccount> = Vec::new();
    let plans = match &arguments.account {
        Some(hint) => {
            accounts.push(logout::choose(Some(hint), &caches, settings)?);
            let changes = logout::removal_of(&accounts, None);
            caches.each_ref().map(|cache| (changes.clone(), cache.plan(&changes)))
        }
        None => {
            let now = SystemClock.now();
            caches.each_ref().map(|cache| cache.plan_stale(now))
        }
    };
    let planned: Vec<Removal> = plans.iter().flat_map(|(_, planned)| planned.clone()).collect();
    if !agreed(arguments, &planned, &[], output)? {
        return Ok(());
    }
    let mut removed = Vec::new();
    for (cache, (changes, planned)) in caches.iter().zip(plans) {
        removed.extend(cache.carry_out(&changes, planned)?);
    }
    logout::forget_default_accounts(settings, &accounts)?;
    report(&removed, &[], false, output)
}

/// Both caches go, whatever is in them. What is no cache is set aside by the store, not deleted.
fn everything(arguments: &Clear, settings: &Settings, output: Output) -> Result<(), Failure> {
    let mut entries = Vec::new();
    let mut accounts = Vec::new();
    let mut damaged = Vec::new();
    let mut stores = Vec::new();
    for cae in [false, true] {
        match OpenCache::open(settings, cae) {
            Ok(cache) => {
                entries.extend(cache.entries());
                accounts.extend(cache.document.accounts());
                stores.push(cache.store);
            }
            Err(CacheError::Damaged { place, .. } | CacheError::KeyUnavailable { place, .. }) => {
                damaged.push(place);
                stores.push(settings.open_store(cae)?);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !agreed(arguments, &entries, &damaged, output)? {
        return Ok(());
    }
    let mut set_aside = Vec::new();
    for store in stores {
        set_aside.extend(store.discard(deadline())?);
    }
    logout::forget_default_accounts(settings, &accounts)?;
    report(&entries, &set_aside, false, output)
}

/// Shows what would go, and asks once. `false` means that there is nothing more to do.
fn agreed(
    arguments: &Clear,
    planned: &[Removal],
    damaged: &[String],
    output: Output,
) -> Result<bool, Failure> {
    if arguments.dry_run {
        report(planned, damaged, true, output)?;
        return Ok(false);
    }
    if arguments.yes {
        return Ok(true);
    }
    if planned.is_empty() && damaged.is_empty() {
        report(&[], &[], false, output)?;
        return Ok(false);
    }
    if !output.has_person() {
        return Err(Failure::usage(
            "nobody is here to ask whether this may be removed",
            "look at what would go with --dry-run, then say --yes",
        ));
    }
    let mut what = caches::in_words(planned);
    what.extend(damaged.iter().map(|place| format!("{place}, which is damaged and will be kept aside")));
    let question = format!("Remove {}?", what.join(", and "));
    if output.ask(&printable(&question), false)? { Ok(true) } else { Err(Failure::Cancelled) }
}

fn report(removals: &[Removal], set_aside: &[String], dry_run: bool, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        let removed: Vec<Value> = removals.iter().map(Removal::to_json).collect();
        return output.json(&json!({
            "version": 1,
            "dry_run": dry_run,
            "removed": removed,
            "set_aside": set_aside,
        }));
    }
    if removals.is_empty() && set_aside.is_empty() {
        return output.remark("There is nothing to remove");
    }
    if dry_run {
        let with_reasons = removals.iter().any(|removal| removal.why.is_some());
        let mut headings = vec!["WOULD GO", "ACCOUNT", "CLIENT", "FOR", "FROM"];
        headings.extend(with_reasons.then_some("BECAUSE"));
        let rows: Vec<Vec<String>> = removals.iter().map(row).collect();
        if !rows.is_empty() {
            output.text(&table(&headings, &rows))?;
        }
        for place in set_aside {
            output.text(&format!("{} is damaged and would be set aside", printable(place)))?;
        }
        return Ok(());
    }
    for line in caches::in_words(removals) {
        output.remark(&format!("Removed {line}"))?;
    }
    for place in set_aside {
        output.remark(&format!("Damaged content was kept: {}", printable(place)))?;
    }
    Ok(())
}

fn row(removal: &Removal) -> Vec<String> {
    let entry = &removal.entry;
    let owner = if entry.username.is_empty() { &entry.home_account_id } else { &entry.username };
    let purpose = if entry.target.is_empty() { entry.realm.clone() } else { shortened(&entry.target) };
    let cells = [removal.kind(), owner, &entry.client_id, &purpose, &removal.cache];
    let cells = cells.into_iter().chain(removal.why.as_deref());
    cells.map(|cell| printable(cell).into_owned()).collect()
}

/// The first scope that says something, and how many there are besides.
fn shortened(scopes: &str) -> String {
    const SAID_BY_ALL: [&str; 4] = ["email", "offline_access", "openid", "profile"];
    let scopes: Vec<&str> = scopes.split_ascii_whitespace().collect();
    let telling = scopes.iter().find(|scope| !SAID_BY_ALL.contains(scope));
    match (telling.or(scopes.first()), scopes.len()) {
        (None, _) => String::new(),
        (Some(only), 1) => (*only).to_owned(),
        (Some(first), all) => format!("{first} and {} more", all - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_told_by_the_one_that_says_something() {
        assert_eq!(shortened(""), "");
        assert_eq!(shortened("openid"), "openid");
        assert_eq!(
            shortened("email https://graph.microsoft.com/User.Read openid"),
            "https://graph.microsoft.com/User.Read and 2 more"
        );
    }
}

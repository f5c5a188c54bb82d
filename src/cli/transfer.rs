//! `tokenkeep import` and `tokenkeep export`: logins from one store into another.

use serde_json::{Value, json};

use super::arguments::{Export, Import, TransferOptions, TransferStore};
use super::caches::{self, OpenCache, Removal, deadline};
use super::failure::Failure;
use super::output::{Output, printable, table};
use super::settings::Settings;
use crate::document::{Change, ChangeSet};
use crate::options::Storage;

pub(super) fn import(arguments: &Import, settings: &Settings, output: Output) -> Result<(), Failure> {
    let from = settings.with_storage(storage(arguments.from));
    transfer(&from, settings, &arguments.how, output)
}

pub(super) fn export(arguments: &Export, settings: &Settings, output: Output) -> Result<(), Failure> {
    let to = settings.with_storage(storage(arguments.to));
    transfer(settings, &to, &arguments.how, output)
}

const fn storage(store: TransferStore) -> Storage {
    match store {
        TransferStore::Platform => Storage::Platform,
        TransferStore::Plaintext => Storage::Plaintext,
        TransferStore::Vault => Storage::Vault,
    }
}

/// Both caches of the name: with and without continuous access evaluation.
fn transfer(from: &Settings, to: &Settings, how: &TransferOptions, output: Output) -> Result<(), Failure> {
    let (sources, targets) = (OpenCache::both(from)?, OpenCache::both(to)?);
    let place = |caches: &[OpenCache; 2]| caches[0].store.describe();
    let (source, target) = (place(&sources), place(&targets));
    if source.place == target.place {
        return Err(Failure::usage(
            format!("the logins are in that store already: {}", source.place),
            "name the other one by --store, --from or --to",
        ));
    }
    let changes =
        sources.each_ref().map(|source| ChangeSet::of(Change::Merge(Box::new((*source.document).clone()))));
    let mut planned: Vec<Removal> = Vec::new();
    for (target, changes) in targets.iter().zip(&changes) {
        planned.extend(target.plan_merge(changes));
    }
    if how.dry_run {
        return report(&planned, None, true, output);
    }
    let removable = !source.encrypted && sources.iter().any(|source| !source.document.is_empty());
    if !planned.is_empty() {
        let question = format!(
            "Take over {} into {}{}?",
            caches::in_words(&planned).join(", and "),
            target.place,
            if target.encrypted { "" } else { ", which is NOT encrypted" }
        );
        agreed(how.yes, &question, "look at it with --dry-run, then say --yes", output)?;
        for (target, changes) in targets.iter().zip(&changes) {
            target.store.apply(changes, deadline())?;
        }
    }
    let mut removed = None;
    if removable && target.encrypted {
        let question = format!("Remove these logins from the plaintext cache {}?", source.place);
        let wanted =
            how.remove_plaintext || output.has_person() && output.ask(&printable(&question), false)?;
        if wanted {
            for source in &sources {
                // only what was taken over: another program may have signed somebody in meanwhile
                let moved = Change::RemoveMoved(Box::new((*source.document).clone()));
                source.store.apply(&ChangeSet::of(moved), deadline())?;
            }
            removed = Some(source.place.as_str());
        }
    }
    report(&planned, removed, false, output)?;
    if output.is_json() || !removable || !target.encrypted {
        return Ok(());
    }
    match removed {
        Some(_) => output.remark(REMOVED),
        None => output.remark(&format!(
            "The plaintext cache still has them: {}\nRemove it by: tokenkeep clear --all --store plaintext",
            printable(&source.place)
        )),
    }
}

const REMOVED: &str = "\
The plaintext cache has these logins no more. That is all a program can promise: backups, snapshots, journals and
the spare blocks of a solid-state disk may keep what stood in it. If that matters, have the sessions revoked
(by the administrator, or at https://mysignins.microsoft.com) and sign in again: what is kept there is dead then.";

fn agreed(yes: bool, question: &str, instead: &str, output: Output) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !output.has_person() {
        return Err(Failure::usage("nobody is here to ask whether this may be done", instead));
    }
    if output.ask(&printable(question), true)? { Ok(()) } else { Err(Failure::Cancelled) }
}

fn report(
    taken_over: &[Removal],
    removed: Option<&str>,
    dry_run: bool,
    output: Output,
) -> Result<(), Failure> {
    if output.is_json() {
        let taken_over: Vec<Value> = taken_over.iter().map(Removal::to_json).collect();
        return output.json(&json!({
            "version": 1,
            "dry_run": dry_run,
            "taken_over": taken_over,
            "removed_plaintext": removed,
        }));
    }
    if taken_over.is_empty() {
        return output.remark("There is nothing that is not there already");
    }
    if dry_run {
        let row = |taken: &Removal| {
            let entry = &taken.entry;
            let owner = if entry.username.is_empty() { &entry.home_account_id } else { &entry.username };
            [taken.kind(), owner, &entry.client_id, &taken.cache]
                .map(|cell| printable(cell).into_owned())
                .to_vec()
        };
        let rows: Vec<Vec<String>> = taken_over.iter().map(row).collect();
        return output.text(&table(&["WOULD BE TAKEN OVER", "ACCOUNT", "CLIENT", "INTO"], &rows));
    }
    for line in caches::in_words(taken_over) {
        output.remark(&format!("Took over {line}"))?;
    }
    Ok(())
}

//! `tokenkeep vault protector`: the ways to open the vault.

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::super::arguments::{ProtectorChoice, ProtectorCommand};
use super::super::caches::deadline;
use super::super::failure::Failure;
use super::super::output::{Output, table};
use super::super::settings::Settings;
use super::super::times;
use super::super::unlocking::new_protector;
use super::{progress_bar, say_if_not_compacted, show};
use crate::error::{CacheError, VaultError};
use crate::store::vault::{
    AfterRemoval, LockedVault, Protector, ProtectorKind, ProtectorSummary, RecoveryKey,
};

pub(super) fn run(command: &ProtectorCommand, settings: &Settings, output: Output) -> Result<(), Failure> {
    match command {
        ProtectorCommand::Add { protector } => add(*protector, settings, output),
        ProtectorCommand::List => list(settings, output),
        ProtectorCommand::Remove { protector, no_rekey } => remove(protector, *no_rekey, settings, output),
    }
}

fn add(choice: ProtectorChoice, settings: &Settings, output: Output) -> Result<(), Failure> {
    let vault = settings.vault()?;
    let recovery = (choice.kind() == ProtectorKind::Recovery).then(RecoveryKey::generate);
    let protector: Box<dyn Protector> = match &recovery {
        Some(key) => Box::new(key.clone()),
        None => new_protector(choice.kind(), &settings.places, output)?,
    };
    let slot = vault.add_protector(protector.as_ref(), deadline()).map_err(CacheError::from)?;
    let recovery = recovery.as_ref().map(RecoveryKey::to_text);
    if output.is_json() {
        return output.json(&json!({
            "version": 1,
            "added": { "number": slot, "kind": choice.kind().as_str() },
            "recovery_key": recovery.as_ref().map(ExposeSecret::expose_secret),
        }));
    }
    output.remark(&format!("Added protector {slot}: {}", choice.kind()))?;
    match recovery {
        Some(key) => output.raw(Zeroizing::new(format!("{}\n", key.expose_secret())).as_bytes()),
        None => Ok(()),
    }
}

fn list(settings: &Settings, output: Output) -> Result<(), Failure> {
    let protectors = LockedVault::open(&settings.places.vault()).map_err(CacheError::from)?.protectors();
    if output.is_json() {
        let protectors: Vec<Value> = protectors.iter().map(to_json).collect();
        return output.json(&json!({ "version": 1, "protectors": protectors }));
    }
    output.text(&in_a_table(&protectors))
}

fn remove(wanted: &str, no_rekey: bool, settings: &Settings, output: Output) -> Result<(), Failure> {
    let vault = settings.vault()?;
    let protectors = vault.protectors().map_err(CacheError::from)?;
    let found = find(&protectors, wanted)?.ok_or_else(|| {
        let (path, wanted) = (vault.path().to_owned(), wanted.to_owned());
        CacheError::from(VaultError::NoSuchProtector { path, wanted })
    })?;
    let after = if no_rekey { AfterRemoval::KeepKey } else { AfterRemoval::Rekey };
    let bar = progress_bar(output);
    let outcome = vault.remove_protector(found.slot, after, deadline(), |progress| show(&bar, progress));
    bar.finish_and_clear();
    let outcome = outcome.map_err(CacheError::from)?;
    if output.is_json() {
        return output
            .json(&json!({ "version": 1, "removed": to_json(found), "rekeyed": outcome.is_some() }));
    }
    output.remark(&format!("Removed protector {}: {}", found.slot, found.kind))?;
    match outcome {
        Some(outcome) => say_if_not_compacted(outcome, output),
        None => {
            output.remark("The data key stays: who has this protector still opens an older copy of the file")
        }
    }
}

/// By number, or by kind if that is clear.
fn find<'a>(
    protectors: &'a [ProtectorSummary],
    wanted: &str,
) -> Result<Option<&'a ProtectorSummary>, Failure> {
    let fits = |slot: &&ProtectorSummary| slot.slot.to_string() == wanted || slot.kind.as_str() == wanted;
    let mut found = protectors.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(Failure::usage(
            format!("the vault has several protectors {wanted}"),
            "name one by its number: tokenkeep vault protector list",
        )),
        (found, _) => Ok(found),
    }
}

pub(super) fn to_json(protector: &ProtectorSummary) -> Value {
    json!({
        "number": protector.slot,
        "kind": protector.kind.as_str(),
        "created": protector.created.seconds(),
    })
}

pub(super) fn in_a_table(protectors: &[ProtectorSummary]) -> String {
    let row = |protector: &ProtectorSummary| {
        vec![protector.slot.to_string(), protector.kind.to_string(), times::rfc_3339(protector.created)]
    };
    table(&["NUMBER", "PROTECTOR", "SINCE"], &protectors.iter().map(row).collect::<Vec<_>>())
}
